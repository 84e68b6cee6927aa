"""The order of one client's commands, with a broker that completes calls later."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from hub.dispatcher import MAX_AWAITING, PAUSE_AT
from hub.errors import ErrorCode, Refusal
from hub.settings import Settings
from tests.support.brokers import DeferredBroker, RefusingBroker
from tests.support.node import Node, Peer


def deferred() -> tuple[Node, DeferredBroker]:
    broker = DeferredBroker()
    return Node(broker=broker), broker


def subscribe(topic: str, request_id: str = "") -> dict[str, Any]:
    return {"type": "subscribe", "topic": topic, "request_id": request_id}


def publish(topic: str, request_id: str = "") -> dict[str, Any]:
    return {"type": "publish", "topic": topic, "request_id": request_id, "payload": request_id}


def ping(request_id: str) -> dict[str, Any]:
    return {"type": "ping", "request_id": request_id}


def answers(peer: Peer) -> list[str]:
    """Return the request ids of the answers, in order; without events and infos."""
    return [message["request_id"] for message in peer.hear() if message["type"] not in ("event",)]


def test_commands_after_a_subscribe_are_queued() -> None:
    node, broker = deferred()
    peer = node.connect("me")
    for message in (subscribe("t", "1"), publish("t", "2"), ping("3"), {"request_id": "4"}):
        peer.say(message)
    assert answers(peer) == []
    assert len(broker) == 1  # the publish is not under way
    broker.complete()
    assert answers(peer) == ["1"]
    broker.complete()
    kinds = [message["type"] for message in peer.hear()]
    assert sorted(kinds) == ["ack", "error", "event", "pong"]  # its own event too


def test_publishes_await_the_broker_together() -> None:
    node, broker = deferred()
    peer = node.connect("me")
    for number in range(MAX_AWAITING + 5):
        peer.say(publish("t", str(number)))
    assert len(broker) == MAX_AWAITING
    broker.complete_all()
    assert answers(peer) == [str(number) for number in range(MAX_AWAITING + 5)]


def test_reading_pauses_at_a_few_commands_and_resumes_when_all_are_answered() -> None:
    node, broker = deferred()
    peer = node.connect("me")
    for number in range(PAUSE_AT - 1):
        peer.say(publish("t", str(number)))
    assert peer.transport.reading
    peer.say(publish("t", "last"))
    assert not peer.transport.reading
    peer.say(ping("next"))  # in the same segment: it is queued
    broker.complete(PAUSE_AT - 1)
    assert not peer.transport.reading
    broker.complete()
    assert peer.transport.reading
    assert answers(peer)[-2:] == ["last", "next"]
    assert len(node.hub.clients) == 1


def test_reading_resumes_when_the_backlog_has_completed() -> None:
    node, broker = deferred()
    peer = node.connect("me")
    for number in range(MAX_AWAITING + 2):
        peer.say(publish("t", str(number)))
    broker.complete(MAX_AWAITING + 1)
    assert not peer.transport.reading
    broker.complete()
    assert peer.transport.reading


def test_reading_pauses_after_a_subscribe() -> None:
    node, broker = deferred()
    peer = node.connect("me")
    peer.say(subscribe("t"))
    for _ in range(PAUSE_AT - 2):
        peer.say(ping(""))
    assert peer.transport.reading
    peer.say(ping("last"))
    assert not peer.transport.reading
    broker.complete()
    assert peer.transport.reading


def test_a_single_server_never_pauses() -> None:
    node = Node()
    peer = node.subscribed("t")
    for number in range(10 * PAUSE_AT):
        peer.say(publish("t", str(number)))
        assert peer.transport.reading


def test_a_held_client_gets_the_shutdown_notice_and_may_close() -> None:
    node, broker = deferred()
    peer = node.connect("me")
    for number in range(MAX_AWAITING + 1):
        peer.say(publish("t", str(number)))
    assert not peer.transport.reading
    node.drain.begin()
    assert peer.transport.reading
    broker.complete_all()
    assert kind(peer.hear()[-1]) == 1001
    node.hub.client_closed(peer.client, b"")
    assert peer.transport.ended == "close"


def test_the_backlog_of_a_client_that_exceeds_its_bounds_is_dropped() -> None:
    broker = DeferredBroker()
    node = Node(Settings(max_queue_size=2), broker)
    peer = node.connect("me", room=0)
    peer.say(ping(""))
    node.tick()  # the transport holds the first answer
    peer.say(subscribe("t"))
    for _ in range(MAX_AWAITING):
        peer.say(ping(""))
    assert not peer.transport.reading
    peer.say(subscribe("u"))
    broker.complete()  # the answers exceed the bounds
    assert not peer.client.open
    assert peer.transport.reading
    assert broker.subscribed == ["t"]
    assert node.topics() == {}


def test_an_unsubscribe_after_a_shared_subscribe_keeps_the_topic() -> None:
    node, broker = deferred()
    first, second = node.connect("a"), node.connect("b")
    first.say(subscribe("t", "1"))
    first.say({"type": "unsubscribe", "topic": "t", "request_id": "2"})
    second.say(subscribe("t", "3"))
    broker.complete()
    assert (answers(first), answers(second)) == (["1", "2"], ["3"])
    assert node.topics() == {"t": 1}
    first.say(publish("t", "4"))
    broker.complete()
    assert [message["type"] for message in second.hear()] == ["event"]


def test_a_repeated_subscribe_after_a_refused_one_is_refused_too() -> None:
    broker = DeferredBroker()
    node = Node(broker=broker)
    peer = node.connect("a")
    broker.refusal = Refusal(ErrorCode.TOPIC_NOT_FOUND, "out of order")
    peer.say(subscribe("t", "1"))
    peer.say(subscribe("t", "2"))
    broker.complete()
    broker.refusal = None
    broker.complete_all()
    heard = [(message["type"], message["request_id"]) for message in peer.hear()]
    assert heard == [("error", "1"), ("error", "2")]
    assert node.topics() == {}
    assert broker.unsubscribed == []


def test_a_refusal_of_the_broker_carries_the_commands_request_id() -> None:
    node = Node(broker=RefusingBroker())
    peer = node.connect("me")
    peer.say(subscribe("t", "1"))
    peer.say(publish("t", "2"))
    assert answers(peer) == ["1", "2"]
    assert node.topics() == {}
    assert peer.client.topics == []


def test_clients_that_subscribe_meanwhile_share_one_call_of_the_broker() -> None:
    node, broker = deferred()
    first, second = node.connect("a"), node.connect("b")
    first.say(subscribe("t", "1"))
    second.say(subscribe("t", "2"))
    assert broker.subscribed == ["t"]
    assert node.topics() == {}
    broker.complete()
    assert (answers(first), answers(second)) == (["1"], ["2"])
    assert node.topics() == {"t": 2}


def test_a_client_that_leaves_before_the_confirmation_is_no_subscriber() -> None:
    node, broker = deferred()
    gone, peer = node.connect("a"), node.connect("b")
    gone.say(subscribe("t"))
    gone.say(ping("never"))
    node.hub.leave(gone.client)
    broker.complete()
    assert node.topics() == {}
    assert broker.unsubscribed == ["t"]
    peer.say(subscribe("t", "1"))
    broker.complete()
    assert answers(peer) == ["1"]
    assert node.topics() == {"t": 1}


def test_a_publish_that_was_sent_outlives_its_client() -> None:
    node, broker = deferred()
    listener, gone = node.connect("a"), node.connect("b")
    listener.say(subscribe("t"))
    broker.complete()
    listener.hear()
    gone.say(publish("t", "1"))
    node.hub.leave(gone.client)
    broker.complete()
    assert [message["type"] for message in listener.hear()] == ["event"]


def test_a_subscribe_pending_during_a_deletion_creates_the_topic_again() -> None:
    node, broker = deferred()
    peer = node.connect("a")
    node.broker.create("t", lambda outcome: None)
    node.broker.delete("t", lambda outcome: None)
    peer.say(subscribe("t", "1"))
    broker.complete_all()
    assert [message["type"] for message in peer.hear()] == ["ack"]
    assert node.topics() == {"t": 1}


def test_a_subscribe_to_an_existing_topic_awaits_the_broker() -> None:
    node, broker = deferred()
    first, second, third = (node.connect(name) for name in "abc")
    first.say(subscribe("t"))
    broker.complete()
    broker.undecided = True
    second.say(subscribe("t", "1"))
    second.say(ping("2"))
    third.say(subscribe("t", "3"))
    assert second.hear() == third.hear() == []
    broker.complete()
    assert [it["type"] for it in second.hear()] == ["ack", "pong"]
    broker.refusal = Refusal(ErrorCode.UNAVAILABLE, "away")
    broker.complete()
    assert [it["error"]["code"] for it in third.hear()] == ["UNAVAILABLE"]
    assert node.topics() == {"t": 2}


def test_a_queued_subscribe_creates_a_deleted_topic_again() -> None:
    node, broker = deferred()
    first, second = node.connect("a"), node.connect("b")
    first.say(subscribe("t"))
    broker.complete()
    broker.undecided = True
    second.say(subscribe("t", "1"))
    first.say({**subscribe("t"), "type": "unsubscribe"})
    broker.complete()
    assert second.hear() == []
    broker.complete()
    assert [it["type"] for it in second.hear()] == ["ack"]
    assert (broker.subscribed, broker.unsubscribed) == (["t", "t"], ["t"])
    assert node.topics() == {"t": 1}


def test_the_shutdown_waits_for_publishes_under_way() -> None:
    node, broker = deferred()
    peer, idle = node.connect("a"), node.connect("b")
    peer.say(subscribe("t"))
    broker.complete()
    peer.say(publish("t", "1"))
    peer.say(publish("t", "2"))
    peer.say(ping("not heard any more"))
    peer.hear()
    node.drain.begin()
    peer.say(publish("t", "3"))
    assert [kind(message) for message in idle.hear()] == ["info", 1001]
    assert [kind(message) for message in peer.hear()] == ["info"]
    broker.complete()
    assert [kind(message) for message in peer.hear()] == ["ack", "event"]
    broker.complete()
    assert [kind(message) for message in peer.hear()] == ["ack", "event", 1001]


def kind(message: Any) -> Any:
    return message[1] if isinstance(message, tuple) else message["type"]


COMMANDS = st.one_of(
    st.builds(subscribe, st.sampled_from("ab")),
    st.builds(publish, st.sampled_from("abc")),
    st.builds(lambda topic: {"type": "unsubscribe", "topic": topic}, st.sampled_from("ab")),
    st.just({"type": "ping"}),
    st.just({"type": "nonsense"}),
)


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("say"), st.integers(0, 1), COMMANDS),
            st.tuples(st.just("complete"), st.integers(0, 3), st.none()),
        ),
        max_size=60,
    )
)
def test_each_clients_answers_are_in_the_order_of_its_commands(
    steps: list[tuple[str, int, Any]],
) -> None:
    node, broker = deferred()
    peers = [node.connect("0"), node.connect("1")]
    asked: list[list[str]] = [[], []]
    answered: list[list[str]] = [[], []]
    for number, (verb, which, command) in enumerate(steps):
        if verb == "say":
            asked[which].append(str(number))
            peers[which].say(json.dumps({**command, "request_id": str(number)}))
        else:
            broker.complete(min(which, len(broker)))
        for peer, ids in zip(peers, answered, strict=True):
            ids += answers(peer)
    broker.complete_all()
    for peer, ids in zip(peers, answered, strict=True):
        ids += answers(peer)
    assert answered == asked
