"""Long work of the hub is divided over turns of the loop, which does not change messages."""

import json
from typing import Any

from hub.delivery.deletions import NOTIFIED
from hub.delivery.departures import REMOVALS
from hub.delivery.fanout import WRITES
from hub.settings import Settings
from tests.support.node import Node, Peer


def subscribed_to_many(node: Node, count: int) -> Peer:
    peer = node.connect("collector")
    for number in range(count):
        peer.say({"type": "subscribe", "topic": f"t{number}"})
    assert len(peer.hear()) == count
    return peer


def test_a_client_is_removed_from_a_thousand_topics_a_turn() -> None:
    node = Node(Settings(max_subscriptions=3 * REMOVALS))
    peer = subscribed_to_many(node, 3 * REMOVALS)
    node.hub.leave(peer.client)
    left = [len(node.topics())]
    while left[-1]:
        node.turn()
        left.append(len(node.topics()))
    assert left == [2 * REMOVALS, REMOVALS, 0]


def test_clients_that_leave_together_share_a_turn() -> None:
    node = Node()
    peers = [node.connect(f"c{number}") for number in range(6)]
    for number in range(REMOVALS // 2 * 6):
        peers[number % 6].say({"type": "subscribe", "topic": f"t{number}"})
    node.tick()
    for peer in peers:
        node.hub.leave(peer.client)
    left = [len(node.topics())]
    while left[-1]:
        node.turn()
        left.append(len(node.topics()))
    assert left == [2 * REMOVALS, REMOVALS, 0]
    peers[0] = node.subscribed("t")
    node.hub.leave(peers[0].client)
    assert node.topics() == {}


def test_a_client_that_left_gets_nothing_while_it_is_removed_from_its_topics() -> None:
    node = Node(Settings(max_subscriptions=3 * REMOVALS))
    peer = subscribed_to_many(node, 2 * REMOVALS)
    stays = node.subscribed(f"t{2 * REMOVALS - 1}")
    node.hub.leave(peer.client)
    written = peer.transport.writes
    assert node.publish(f"t{2 * REMOVALS - 1}", 1) is not None
    assert [message["type"] for message in stays.hear()] == ["event"]
    assert peer.transport.writes == written
    assert node.topics() == {f"t{2 * REMOVALS - 1}": 1}


def test_a_closing_client_gets_a_report_of_dropped_events_before_its_close() -> None:
    node = Node()
    peer = subscribed_to_many(node, 3)
    peer.transport.room = 0
    for number in range(3):
        node.publish(f"t{number}", number)
    node.tick()
    node.drain.begin()
    node.tick()
    peer.transport.drain()
    kinds = [message["type"] for message in peer.hear()[:-1]]
    assert kinds == ["event"] * 3 + ["info"]


def deleted_with(node: Node, count: int) -> list[Peer]:
    peers = [node.subscribed("t") for _ in range(count)]
    outcomes: list[Any] = []
    node.broker.delete("t", outcomes.append)
    assert len(outcomes) == 1
    return peers


def is_told(peer: Peer) -> bool:
    return b"Topic has been deleted" in peer.transport.written


def test_a_deletion_is_reported_to_some_clients_a_turn() -> None:
    node = Node()
    peers = deleted_with(node, 2 * NOTIFIED + 1)
    told = []
    for _ in range(3):
        node.turn()
        told.append(sum(map(is_told, peers)))
    assert told[0] <= 2 * NOTIFIED
    assert told[-1] == 2 * NOTIFIED + 1
    assert node.topics() == {}


def test_a_client_that_subscribes_meanwhile_gets_the_deletion_first() -> None:
    node = Node()
    last = deleted_with(node, 2 * NOTIFIED)[-1]
    assert not is_told(last)
    last.say({"type": "subscribe", "topic": "t"})
    node.publish("t", "of the new one")
    assert [message["type"] for message in last.hear()] == ["info", "ack", "event"]
    node.tick()
    node.publish("t", "again")
    assert [message["type"] for message in last.hear()] == ["event"]


def test_a_client_that_unsubscribes_meanwhile_gets_the_deletion_first() -> None:
    node = Node()
    last = deleted_with(node, 2 * NOTIFIED)[-1]
    last.say({"type": "unsubscribe", "topic": "t"})
    assert [message["type"] for message in last.hear()] == ["info", "ack"]


def test_a_client_that_leaves_meanwhile_changes_nothing() -> None:
    node = Node()
    last = deleted_with(node, 2 * NOTIFIED)[-1]
    again = node.subscribed("t")
    node.hub.leave(last.client)
    node.tick()
    assert node.topics() == {"t": 1}
    node.publish("t", 1)
    assert [message["type"] for message in again.hear()] == ["event"]


def test_the_fan_out_writes_the_batches_of_some_topics_a_turn() -> None:
    node = Node()
    names = ["a", "b", "c"]
    peers = [node.subscribed(name) for name in names for _ in range(WRITES)]
    for peer in peers:
        peer.transport.writes = 0
    for name in names:
        node.publish(name, 1)
        node.publish(name, 2)
    turns = []
    for _ in names:
        node.turn()
        turns.append(sum(peer.transport.writes for peer in peers))
    assert turns == [WRITES, 2 * WRITES, 3 * WRITES]


def test_a_topic_need_not_wait_for_the_many_writes_of_others() -> None:
    node = Node()
    crowds = [f"crowd {number}" for number in range(5)]
    for name in crowds:
        for _ in range(WRITES):
            node.subscribed(name)
    quiet = node.subscribed("quiet")
    for name in crowds:
        node.publish(name, 1)
    node.turn()
    for name in [*crowds, "quiet"]:
        node.publish(name, 2)
    node.turn()
    assert b'"quiet"' in quiet.transport.written


def test_a_batch_that_is_delayed_follows_though_nothing_else_is_published() -> None:
    node = Node()
    crowds = [[node.subscribed(name) for _ in range(WRITES)] for name in ("a", "b")]
    quiet = node.subscribed("quiet")
    for name in ("a", "b"):
        node.publish(name, 1)
    node.turn()
    node.publish("quiet", 2)  # the only topic of its turn
    node.tick()
    for peer in [*crowds[0], *crowds[1], quiet]:
        assert len(peer.hear()) == 1


def test_events_keep_their_order_if_a_batch_is_delayed_to_another_turn() -> None:
    node = Node()
    for _ in range(WRITES):
        node.subscribed("crowd")
        node.subscribed("late")
    peer = node.subscribed("late")
    node.publish("crowd", 0)
    node.publish("late", 1)
    node.turn()
    assert peer.transport.written == b""
    node.publish("late", 2)
    peer.say({"type": "unsubscribe", "topic": "late"})
    heard = peer.hear()
    assert [message["type"] for message in heard] == ["event", "event", "ack"]
    assert [json.dumps(message["message"]["payload"]) for message in heard[:2]] == ["1", "2"]
