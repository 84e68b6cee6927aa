"""Outages of Redis of every kind: behaviour during the outage, and recovery.

Beats are quick here to save time; tests/faults uses the real times.
"""

import asyncio
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import redis

from hub.brokers.base import OutageReason, PublishResult, SubscribeResult
from hub.brokers.idempotency import FirstPublish
from hub.errors import ErrorCode, Refusal
from hub.logs import events
from hub.observer import Observer
from hub.redis.batching import SHARE, TURN
from hub.redis.broker import Bus
from hub.redis.session import Session, open_session
from hub.values import Rule
from tests.support.bus import BusNode, bus_node, hub_node
from tests.support.certificate import make_certificate
from tests.support.eventually import eventually
from tests.support.logs import said
from tests.support.redis import RedisServer, redis_server, taken_and_cut

QUICK = 0.1  # seconds between beats, and until an outage is declared
DEGRADED = PublishResult(degraded=True)
SUBSCRIBED_HERE = SubscribeResult(degraded=True)
HISTORY = {"": Rule(5, 60.0, 1_000_000)}


async def out(node: BusNode) -> None:
    await eventually(lambda: node.bus.bus is Bus.OUT)


async def up(node: BusNode) -> None:
    await eventually(lambda: node.bus.bus is Bus.UP)


def text(outcome: object) -> str:
    assert isinstance(outcome, Refusal), outcome
    assert outcome.code == ErrorCode.UNAVAILABLE
    return outcome.text


async def test_lost_subscription_is_reported_and_own_events_are_delivered(
    own_redis: RedisServer,
) -> None:
    async with bus_node(f"127.0.0.1:{own_redis.port}", "p", patience=10.0) as node:
        await node.subscribe("t")
        await node.subscribe("quiet")
        with own_redis.client() as client:
            client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
        outcomes = [await node.publish("t", b'{"n":%d}' % n) for n in range(100)]
        assert all(
            it == PublishResult(nodes=it.nodes) for it in outcomes if isinstance(it, PublishResult)
        )
        await node.until(lambda: ("missed", "quiet", b"") in node.heard)
        await node.until(lambda: len(node.heard) == 102)
        events = [event for what, _, event in node.heard if what == "event"]
        assert events == [b'{"n":%d}' % n for n in range(100)]


async def test_outage_in_local_mode(own_redis: RedisServer) -> None:
    async with bus_node(f"127.0.0.1:{own_redis.port}", "p", beat=QUICK) as node:
        await node.subscribe("before")
        await node.create("made")
        own_redis.shut_down()
        waited = await node.publish("before", b'{"n":1}')  # answered when the outage is declared
        assert waited == DEGRADED
        assert await node.subscribe("during") == SUBSCRIBED_HERE
        assert await node.publish("during", b'{"n":2}') == DEGRADED
        assert await node.hear(2) == [
            ("event", "before", b'{"n":1}'),
            ("event", "during", b'{"n":2}'),
        ]
        assert "try again" in text(await node.create("x"))
        assert "try again" in text(await node.delete("made"))
        cluster = await node.bus.cluster_stats()
        assert (cluster.degraded, cluster.nodes) == (True, 0)
        node.broker.unsubscribe("before")
        own_redis.start()
        await up(node)
        assert await node.hear(1) == [("missed", "during", b"")]
        assert await node.publish("during", b'{"n":3}') == PublishResult(nodes=1)
        assert await node.hear(1) == [("event", "during", b'{"n":3}')]
        with own_redis.client() as client:
            assert client.pubsub_channels("p:topic:*") == ["p:topic:during"]
            assert set(client.hkeys(f"p:leases:{node.bus.node_id}")) == {"", "during"}


def shut_down(own_redis: RedisServer) -> None:
    own_redis.shut_down()


def become_a_replica(own_redis: RedisServer) -> None:
    with own_redis.client() as client:
        client.execute_command("REPLICAOF", "127.0.0.1", "1")


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (shut_down, OutageReason.CLOSED),
        (RedisServer.freeze, OutageReason.TIMEOUT),
        (become_a_replica, OutageReason.UNUSABLE),
    ],
)
async def test_outage_is_reported_once_with_its_first_cause(
    own_redis: RedisServer, fault: Callable[[RedisServer], None], reason: OutageReason
) -> None:
    async with bus_node(f"127.0.0.1:{own_redis.port}", "p", beat=QUICK) as node:
        fault(own_redis)
        await out(node)
        assert node.outages == [reason]
        own_redis.end()
        own_redis.start()
        await up(node)
        assert node.outages == [reason, "back"]


async def test_node_that_starts_without_redis_reports_an_outage(own_redis: RedisServer) -> None:
    own_redis.shut_down()
    async with bus_node(f"127.0.0.1:{own_redis.port}", "p", beat=QUICK) as node:
        assert node.outages == [OutageReason.UNREACHABLE]


async def test_short_loss_is_not_reported(own_redis: RedisServer) -> None:
    async with bus_node(f"127.0.0.1:{own_redis.port}", "p", patience=30.0) as node:
        own_redis.shut_down()
        await eventually(lambda: node.bus.bus is Bus.JOINING)
        own_redis.start()
        await up(node)
        assert node.outages == []


async def test_observer_hears_of_an_outage(own_redis: RedisServer) -> None:
    heard: list[str] = []

    class Outages(Observer):
        def broker_lost(self, reason: OutageReason) -> None:
            heard.append(reason)

        def broker_back(self) -> None:
            heard.append("back")

    async with hub_node(f"127.0.0.1:{own_redis.port}", "p", beat=QUICK) as node:
        node.hub.observer = Outages()
        own_redis.shut_down()
        await eventually(lambda: node.bus.bus is Bus.OUT)
        own_redis.start()
        await eventually(lambda: node.bus.bus is Bus.UP)
    assert heard == [OutageReason.CLOSED, "back"]


async def test_key_used_without_redis_is_known_after_the_outage(
    own_redis: RedisServer,
) -> None:
    async with bus_node(f"127.0.0.1:{own_redis.port}", "p", beat=QUICK) as node:
        await node.subscribe("t")
        own_redis.shut_down()
        first = FirstPublish("m1", 1)
        assert await node.publish_once("t", b'{"n":1}', "k", first) == DEGRADED
        assert await node.publish_once("t", b'{"n":2}', "k", first) == PublishResult(first=first)
        own_redis.start()
        await up(node)
        assert await node.publish_once("t", b'{"n":3}', "k", first) == PublishResult(first=first)
        await node.publish("t", b'{"n":4}')
        await node.until(lambda: ("event", "t", b'{"n":4}') in node.heard)
        events = [event for what, _, event in node.heard if what == "event"]
        assert events == [b'{"n":1}', b'{"n":4}']


async def test_key_used_with_redis_is_known_during_an_outage(own_redis: RedisServer) -> None:
    async with bus_node(f"127.0.0.1:{own_redis.port}", "p", beat=QUICK) as node:
        await node.subscribe("t")
        first = FirstPublish("m1", 1)
        assert await node.publish_once("t", b'{"n":1}', "k", first) == PublishResult(nodes=1)
        await node.hear(1)
        own_redis.shut_down()
        await out(node)
        assert await node.publish_once("t", b'{"n":2}', "k", first) == PublishResult(first=first)
        assert node.heard == []


async def test_key_used_again_does_not_revive_expired_keys(
    own_redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with bus_node(f"127.0.0.1:{own_redis.port}", "p", beat=QUICK) as node:
        await node.subscribe("t")
        first = FirstPublish("m1", 1)
        with monkeypatch.context() as patch:
            patch.setattr("hub.brokers.idempotency.REMEMBERED", 0.0)  # they expire at once
            for key in "abc":
                assert await node.publish_once("t", b"{}", key, first) == PublishResult(nodes=1)
        with own_redis.client() as client:
            client.delete(*client.keys("p:once:*"))  # in Redis too
        assert await node.publish_once("t", b"{}", "a", first) == PublishResult(nodes=1)
        await node.hear(4)
        own_redis.shut_down()
        await out(node)
        assert await node.publish_once("t", b"{}", "b", first) == DEGRADED
        assert await node.hear(1) == [("event", "t", b"{}")]
        assert await node.publish_once("t", b"{}", "a", first) == PublishResult(first=first)


async def test_sweep_forgets_expired_keys(
    own_redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with bus_node(f"127.0.0.1:{own_redis.port}", "p", beat=QUICK) as node:
        await node.subscribe("t")
        kept = (node.bus._pipeline._taken, node.bus._pipeline._served)
        for key in "abc":
            await node.publish_once("t", b"{}", key, FirstPublish("m", 1))
        node.broker.sweep()
        assert [len(it) for it in kept] == [3, 0]
        with monkeypatch.context() as patch:
            patch.setattr("hub.brokers.idempotency.REMEMBERED", 0.0)
            for key in "abc":
                await node.publish_once("u", b"{}", key, FirstPublish("m", 1))
        own_redis.shut_down()
        await out(node)
        with monkeypatch.context() as patch:
            patch.setattr("hub.brokers.idempotency.REMEMBERED", 0.0)
            await node.publish_once("t", b"{}", "d", FirstPublish("m", 1))
        assert [len(it) for it in kept] == [3, 1]
        node.broker.sweep()
        assert [len(it) for it in kept] == [3, 0]


@pytest.mark.parametrize("strict", [False, True])
async def test_session_lost_before_use_does_not_block_commands(
    own_redis: RedisServer, strict: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempts = 0

    async def lost(*arguments: Any) -> Session:
        nonlocal attempts
        attempts += 1
        session = await open_session(*arguments)
        if attempts > 1:
            session.pushes.abort("cut")
        return session

    monkeypatch.setattr("hub.redis.supervisor.open_session", lost)
    async with bus_node(f"127.0.0.1:{own_redis.port}", "p", strict=strict, beat=QUICK) as node:
        own_redis.shut_down()
        await out(node)
        own_redis.start()
        await eventually(lambda: attempts > 3)
        outcome = await node.subscribe("t")
        assert outcome == SUBSCRIBED_HERE or "try again" in text(outcome)
        assert node.bus.bus is Bus.OUT


async def test_many_gaps_are_reported_over_several_ticks(address: str, prefix: str) -> None:
    async with bus_node(address, prefix) as node:
        for number in range(SHARE + 1):
            node.bus.subscriptions.mark_missed(str(number))
        node.bus.up()
        assert len(node.heard) == SHARE
        await node.until(lambda: len(node.heard) == SHARE + 1)


async def test_many_queued_commands_run_over_several_ticks(
    own_redis: RedisServer,
) -> None:
    async with bus_node(f"127.0.0.1:{own_redis.port}", "p", patience=30.0) as node:
        own_redis.shut_down()
        await eventually(lambda: node.bus.bus is Bus.JOINING)
        calls = [asyncio.create_task(node.publish("t", b"%d" % n)) for n in range(TURN + 1)]
        await asyncio.sleep(0)
        node.bus.out(OutageReason.CLOSED)
        assert len(node.heard) == TURN
        await node.publish("t", b"last")  # does not overtake
        assert await asyncio.gather(*calls) == [DEGRADED] * (TURN + 1)
        events = [event for _, _, event in node.heard]
        assert events == [*(b"%d" % n for n in range(TURN + 1)), b"last"]


async def test_commands_run_after_a_queued_command_that_raised(
    own_redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_: object) -> None:
        raise LookupError("ours")

    async with bus_node(f"127.0.0.1:{own_redis.port}", "p", patience=30.0) as node:
        node.bus.detach()
        node.broker.join("t", fail)
        queued = asyncio.create_task(node.publish("t", b"queued"))
        await asyncio.sleep(0)
        asyncio.get_running_loop().call_soon(node.bus.out, OutageReason.CLOSED)
        assert await queued == DEGRADED
        assert await node.publish("t", b"later") == DEGRADED
    assert [str(it.exc_info[1]) for it in caplog.records if it.exc_info] == ["ours"]


async def test_many_subscribes_are_answered_over_several_ticks(own_redis: RedisServer) -> None:
    async with bus_node(f"127.0.0.1:{own_redis.port}", "p", patience=30.0) as node:
        own_redis.freeze()
        outcomes: list[SubscribeResult | Refusal] = []
        for number in range(TURN + 1):
            node.broker.subscribe(f"t{number}", outcomes.append)
        node.bus.detach()
        node.bus.out(OutageReason.CLOSED)
        assert len(outcomes) == TURN
        await eventually(lambda: outcomes == [SUBSCRIBED_HERE] * (TURN + 1))
        own_redis.thaw()


async def test_outage_in_strict_mode(own_redis: RedisServer) -> None:
    async with bus_node(f"127.0.0.1:{own_redis.port}", "p", strict=True, beat=QUICK) as node:
        await node.subscribe("t")
        own_redis.freeze()
        calls = [node.publish("t"), node.subscribe("u"), node.create("v"), node.delete("t")]
        published, subscribed, created, deleted = await asyncio.gather(*calls)
        assert "may have been delivered" in text(published)
        assert "try again" in text(subscribed)
        assert "may have been carried out" in text(created)
        assert "may have been carried out" in text(deleted)
        assert "try again" in text(await node.publish("t"))
        assert "try again" in text(await node.ask(node.broker.join, "t"))
        own_redis.thaw()
        await up(node)
        assert isinstance(await node.subscribe("u"), SubscribeResult)
        assert await node.publish("u", b'{"n":1}') == PublishResult(nodes=1)
        await node.until(lambda: ("event", "u", b'{"n":1}') in node.heard)


async def test_frozen_redis_repeats_nothing(own_redis: RedisServer) -> None:
    async with bus_node(f"127.0.0.1:{own_redis.port}", "p", beat=QUICK) as node:
        await node.subscribe("t")
        with redis.Redis(port=own_redis.port) as client, client.pubsub() as listener:
            listener.subscribe("p:topic:t")
            own_redis.freeze()
            calls = [node.publish("t", b'{"n":%d}' % n) for n in range(20)]
            assert await asyncio.gather(*calls) == [DEGRADED] * 20
            own_redis.thaw()
            await up(node)
            # Redis carries out the old publishes now; send them again, so that they surely arrive.
            for message in messages(listener, 20):
                assert client.publish("p:topic:t", message["data"]) == 2
        await node.publish("t", b'{"n":20}')
        await node.until(lambda: ("event", "t", b'{"n":20}') in node.heard)
        events = [event for what, _, event in node.heard if what == "event"]
        assert events == [b'{"n":%d}' % n for n in range(21)]


def messages(listener: "redis.client.PubSub", count: int) -> list[dict[str, bytes]]:
    found: list[dict[str, bytes]] = []
    while len(found) < count:
        message = listener.get_message(ignore_subscribe_messages=True, timeout=5)
        if message is not None:
            found.append(message)
    return found


async def test_accepted_event_that_cannot_come_back_is_delivered(own_redis: RedisServer) -> None:
    async with bus_node(f"127.0.0.1:{own_redis.port}", "p") as node:
        await node.subscribe("t")
        with own_redis.client() as client:
            for number in range(10):
                event = b'{"n":%d}' % number
                (outcome,) = await taken_and_cut(own_redis, client, node.publish("t", event))
                assert isinstance(outcome, PublishResult)
                assert not outcome.degraded
                await node.until(lambda event=event: ("event", "t", event) in node.heard)  # type: ignore[misc]
                await up(node)
        events = [event for what, _, event in node.heard if what == "event"]
        assert events == [b'{"n":%d}' % number for number in range(10)]


async def test_unsubscribe_during_an_outage_deletes_the_lease(own_redis: RedisServer) -> None:
    async with bus_node(f"127.0.0.1:{own_redis.port}", "p", beat=QUICK) as node:
        await node.subscribe("left")
        await node.subscribe("kept")
        own_redis.freeze()  # keeps its registry
        await out(node)
        node.broker.unsubscribe("left")
        own_redis.thaw()
        await up(node)
        await node.publish("warm-up")  # the grace ends in the next turn of the loop
        outcome = await node.publish("left")
        assert isinstance(outcome, Refusal)
        with own_redis.client() as client:
            assert set(client.hkeys(f"p:leases:{node.bus.node_id}")) == {"", "kept"}


async def test_writable_replica_is_not_a_master(own_redis: RedisServer) -> None:
    with redis_server() as other, own_redis.client() as client:
        client.config_set("replica-read-only", "no")
        client.replicaof("127.0.0.1", other.port)
        async with bus_node(f"127.0.0.1:{own_redis.port}", "p", beat=QUICK) as node:
            assert node.bus.bus is Bus.OUT
            client.replicaof("NO", "ONE")
            await up(node)


async def test_commands_queued_before_an_outage_keep_their_order(own_redis: RedisServer) -> None:
    """A command sent by a callback queues after the queued commands."""
    async with bus_node(f"127.0.0.1:{own_redis.port}", "p", patience=1.0) as node:
        await node.subscribe("t")
        own_redis.shut_down()
        await eventually(lambda: node.bus.bus is Bus.JOINING)
        whole = asyncio.Event()

        def third(_: object) -> None:
            node.broker.publish("t", b'{"n":3}', lambda _: whole.set())

        node.broker.publish("t", b'{"n":1}', third)
        node.broker.publish("t", b'{"n":2}', lambda _: None)
        await whole.wait()
        events = [event for _, _, event in node.heard]
        assert events == [b'{"n":1}', b'{"n":2}', b'{"n":3}']


async def test_master_that_becomes_a_replica_is_left_until_promoted(
    own_redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with bus_node(f"127.0.0.1:{own_redis.port}", "p", beat=QUICK) as node:
        await node.subscribe("t")
        with redis_server() as other, own_redis.client() as client:
            client.replicaof("127.0.0.1", other.port)
            await out(node)
            client.replicaof("NO", "ONE")
            await up(node)
        assert await node.publish("t", b'{"n":1}') == PublishResult(nodes=1)
    (lost,) = said(caplog, events.REDIS_LOST)
    assert "READONLY" in lost
    assert len([it for it in said(caplog) if "it is no master" in it]) == 1


async def test_flushed_scripts_are_loaded_again(own_redis: RedisServer) -> None:
    async with bus_node(f"127.0.0.1:{own_redis.port}", "p") as node:
        await node.subscribe("t")
        with own_redis.client() as client:
            client.script_flush()
        assert await node.publish("t", b'{"n":1}') == DEGRADED  # not carried out by Redis
        await up(node)
        assert await node.publish("t", b'{"n":2}') == PublishResult(nodes=1)
        await node.until(lambda: len(node.heard) == 3)
        assert [event for _, _, event in node.heard if event] == [b'{"n":1}', b'{"n":2}']


async def test_flushed_register_is_written_again(own_redis: RedisServer) -> None:
    async with bus_node(f"127.0.0.1:{own_redis.port}", "p", beat=QUICK) as node:
        await node.subscribe("t")
        node.broker.set_subscriber_count("t", 3)
        with own_redis.client() as client:
            client.flushall()
            assert isinstance(await node.publish("anything"), PublishResult)  # in doubt
            key = f"p:leases:{node.bus.node_id}"
            await eventually(lambda: client.hgetall(key) == {"": "0", "t": "3"})
        assert await node.publish("t") == PublishResult(nodes=1)


@pytest.mark.parametrize(
    ("form", "joins"),
    [
        ("redis://:secret@127.0.0.1:{port}/3", True),
        ("redis://default:secret@127.0.0.1:{port}", True),
        ("unix://:secret@{socket}?db=1", True),
        ("redis://:wrong@127.0.0.1:{port}", False),
        ("redis://127.0.0.1:{port}", False),
        ("redis://:secret@127.0.0.1:{port}/99", False),
        ("unix://{socket}.none", False),
    ],
)
async def test_every_form_of_address_connects(tmp_path: Path, form: str, joins: bool) -> None:
    socket = tmp_path / "redis.sock"
    with redis_server("--unixsocket", str(socket)) as server:
        with server.client() as client:
            client.config_set("requirepass", "secret")
        address = form.format(port=server.port, socket=socket)
        async with bus_node(address, "p", beat=QUICK) as node:
            assert (node.bus.bus is Bus.UP) == joins
            if joins:
                await node.subscribe("t")
                assert await node.publish("t", b'{"n":1}') == PublishResult(nodes=1)
                assert await node.hear(1) == [("event", "t", b'{"n":1}')]


async def test_changed_password_is_logged(
    own_redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    with own_redis.client() as client:
        client.config_set("requirepass", "before-it")
        address = f"redis://:before-it@127.0.0.1:{own_redis.port}"
        async with bus_node(address, "p", beat=QUICK, rules=HISTORY) as node:
            client.config_set("requirepass", "behind-it")
            client.execute_command("CLIENT KILL TYPE pubsub")
            await out(node)
            await eventually(lambda: any("WRONGPASS" in it for it in said(caplog)))
            before = client.info("stats")["total_connections_received"]
            await eventually(
                lambda: client.info("stats")["total_connections_received"] > before + 3
            )
            client.config_set("requirepass", "before-it")
            await up(node)
    (lost,) = said(caplog, events.REDIS_LOST)
    assert "topics with history refuse" in lost
    assert len([it for it in said(caplog) if "WRONGPASS" in it]) == 1
    assert not any("before-it" in it for it in said(caplog))


@pytest.mark.parametrize("word", ["sesame", "it's", "x" * 200, "password", 'quo"ted'])
async def test_error_that_quotes_the_password_is_not_logged(
    word: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Redis quotes the arguments if AUTH is disabled or renamed."""
    with redis_server("--rename-command", "AUTH", "") as server:
        address = f"redis://:{quote(word)}@127.0.0.1:{server.port}"
        async with bus_node(address, "p", beat=QUICK) as node:
            assert node.bus.bus is Bus.OUT
    (lost,) = said(caplog)
    assert "Redis refused the login: ERR'" in lost
    assert word[:4] not in lost


async def test_password_without_requirepass_is_logged(
    own_redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    address = f"redis://:sesame@127.0.0.1:{own_redis.port}"
    async with bus_node(address, "p", beat=QUICK) as node:
        assert node.bus.bus is Bus.OUT
    (lost,) = said(caplog)
    assert "without any password configured" in lost
    assert "sesame" not in lost


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """A self-signed certificate for localhost, and its key."""
    return make_certificate(tmp_path, "localhost")


async def test_connects_over_tls(
    shared_redis: RedisServer, certificate: tuple[Path, Path], prefix: str
) -> None:
    ca, key = certificate
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(ca, key)

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there = await asyncio.open_connection("127.0.0.1", shared_redis.port)
        await asyncio.gather(pump(reader, there[1]), pump(there[0], writer))

    async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(65_536):
                sink.write(data)
        except (ConnectionError, ssl.SSLError):
            pass  # the test ends
        finally:
            sink.close()

    server = await asyncio.start_server(accept, "localhost", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    try:
        async with bus_node(f"rediss://localhost:{port}?ca={ca}", prefix) as node:
            await node.subscribe("t")
            assert await node.publish("t", b'{"n":1}') == PublishResult(nodes=1)
        async with bus_node(f"rediss://localhost:{port}", prefix, beat=QUICK) as distrustful:
            assert distrustful.bus.bus is Bus.OUT
    finally:
        server.close()


async def test_server_that_is_not_redis_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with bus_node(f"127.0.0.1:{port}", "p", beat=QUICK) as node:
        assert node.bus.bus is Bus.OUT
    server.close()
    assert "no Redis on the other side" in said(caplog)[0]


async def test_unreachable_sentinels_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    async with bus_node("redis+sentinel://127.0.0.1:1/main", "p", beat=QUICK) as node:
        assert node.bus.bus is Bus.OUT
        await eventually(lambda: any("No master found for" in it for it in said(caplog)))


async def test_no_key_connection_or_task_remains(own_redis: RedisServer) -> None:
    with own_redis.client() as client:
        connections = client.info("clients")["connected_clients"]
        for _ in range(3):
            async with bus_node(f"127.0.0.1:{own_redis.port}", "p", beat=QUICK) as node:
                await node.subscribe("t")
                client.execute_command("CLIENT KILL TYPE pubsub")
                await node.until(lambda node=node: ("missed", "t", b"") in node.heard)  # type: ignore[misc]
                own_redis.freeze()
                await out(node)
                own_redis.thaw()
                await up(node)
        await eventually(lambda: client.info("clients")["connected_clients"] == connections)
        assert client.keys("p:*") == []
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_stop_while_a_session_ends_leaves_no_connection(
    own_redis: RedisServer,
) -> None:
    with own_redis.client() as client:
        connections = client.info("clients")["connected_clients"]
        async with bus_node(f"127.0.0.1:{own_redis.port}", "p", beat=QUICK) as node:
            own_redis.freeze()  # commands are not answered, so the end of the session waits
            session = node.supervisor._session
            assert session is not None
            session.pushes.abort("cut by the test")
            await asyncio.sleep(0.02)
        own_redis.thaw()
        await eventually(lambda: client.info("clients")["connected_clients"] == connections)
