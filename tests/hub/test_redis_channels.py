"""The order of the commands that `Channels` sends; the test gives the replies."""

from collections.abc import Callable
from typing import Any

from hub.brokers.base import SubscribeResult
from hub.errors import Refusal
from hub.redis.batching import CHUNK, SHARE
from hub.redis.channels import COUNTS, Channels
from hub.redis.keys import Keys
from hub.redis.scripts import Scripts

KEYS = Keys("p")


class ScriptedConnection:
    """A connection that records commands."""

    def __init__(self) -> None:
        self.said: list[tuple[Any, ...]] = []
        self.awaiting: list[Callable[[Any], object]] = []

    def say(self, *words: Any) -> None:
        self.said.append(words)

    def send(self, answered: Callable[[Any], object], *words: Any) -> None:
        self.said.append(words)
        self.awaiting.append(answered)

    def answer(self, reply: Any = 1) -> None:
        self.awaiting.pop(0)(reply)


class ScriptedSession:
    """A session with two such connections."""

    shas = Scripts(
        "publish", "create", "delete", "lease", "beat", "append", "read", "extend", "ban"
    )

    def __init__(self) -> None:
        self.commands, self.pushes = ScriptedConnection(), ScriptedConnection()

    @staticmethod
    def check(reply: Any) -> bool:
        return not isinstance(reply, Exception)


class Bench:
    """Channels attached to a session that has answered the first commands."""

    def __init__(self) -> None:
        self.lost: list[None] = []
        self.channels = Channels(KEYS, "n", lambda: self.lost.append(None))
        self.outcomes: list[SubscribeResult | Refusal] = []
        self.session = self.attach()

    def attach(self) -> ScriptedSession:
        session = ScriptedSession()
        self.channels.attach(session)  # type: ignore[arg-type]
        self.channels.flush()
        session.commands.answer()  # the lease without a topic
        session.commands.answer([b"0", []])  # a page of the old leases
        session.commands.said.clear()
        return session

    def want(self, topic: str) -> None:
        self.channels.want(topic, self.outcomes.append)
        self.channels.flush()

    def confirm(self, topic: str) -> str | None:
        held_before = self.channels.confirmed(KEYS.channel(topic))
        self.channels.flush()
        return held_before


async def test_lease_follows_confirmation_and_answer_follows_lease() -> None:
    bench = Bench()
    bench.want("t")
    assert bench.session.pushes.said == [("SUBSCRIBE", b"p:topic:t")]
    assert bench.session.commands.said == []
    bench.confirm("t")
    assert bench.session.commands.said == [("EVALSHA", "lease", 0, "n", 0, "t", 0)]
    assert bench.outcomes == []
    bench.session.commands.answer()
    assert bench.outcomes == [SubscribeResult()]


async def test_deletion_after_a_sent_lease_creates_the_topic_again() -> None:
    bench = Bench()
    bench.want("t")
    bench.confirm("t")
    assert not bench.channels.deleted("t")  # no report to subscribers is needed
    bench.channels.flush()
    bench.session.commands.answer()
    assert bench.outcomes == []  # the deletion may have removed that lease
    bench.session.commands.answer()
    assert bench.outcomes == [SubscribeResult()]
    assert [words[1] for words in bench.session.commands.said] == ["lease", "lease"]


async def test_reply_counts_only_for_its_own_subscribe() -> None:
    bench = Bench()
    bench.want("t")
    bench.confirm("t")
    bench.channels.deleted("t")
    bench.session.commands.answer()  # before the second lease was sent
    assert bench.outcomes == []
    bench.channels.flush()
    bench.session.commands.answer()
    assert bench.outcomes == [SubscribeResult()]
    assert bench.channels.deleted("t")
    bench.want("t")  # still subscribed: only its lease is missing
    bench.session.commands.answer()  # to the HDEL
    assert len(bench.outcomes) == 1
    bench.session.commands.answer()
    assert len(bench.outcomes) == 2


async def test_deletion_gives_up_a_held_topic() -> None:
    bench = Bench()
    bench.want("t")
    bench.confirm("t")
    bench.session.commands.answer()
    assert bench.channels.deleted("t")
    assert not bench.channels.deleted("t")
    bench.channels.flush()
    assert bench.session.commands.said[-1] == ("HDEL", "p:leases:n", "t")
    assert bench.session.pushes.said[-1] == ("UNSUBSCRIBE", b"p:topic:t")


async def test_hold_and_drop_within_a_tick_sends_nothing() -> None:
    bench = Bench()
    bench.channels.hold("t")
    bench.channels.drop("t")
    bench.channels.flush()
    assert bench.session.pushes.said == []


async def test_new_connection_subscribes_to_everything() -> None:
    bench = Bench()
    bench.want("held")
    bench.confirm("held")
    bench.session.commands.answer()
    bench.channels.count("held", 7)
    bench.want("coming")
    bench.confirm("coming")
    bench.channels.detach()
    session = bench.attach()
    assert session.pushes.said == [("SUBSCRIBE", b"p:topic:held", b"p:topic:coming")]
    assert bench.confirm("held") == "held"
    assert bench.confirm("coming") is None
    assert [words[5:] for words in session.commands.said] == [("held", 7), ("coming", 0)]
    session.commands.answer()
    assert len(bench.outcomes) == 1
    session.commands.answer()
    assert len(bench.outcomes) == 2


async def test_lost_leases_are_written_again_once() -> None:
    bench = Bench()
    bench.want("held")
    bench.confirm("held")
    bench.session.commands.answer()
    bench.channels.count("held", 3)
    for topic in ("new", "newer"):
        bench.want(topic)
        bench.confirm(topic)
    bench.session.commands.said.clear()
    bench.session.commands.answer(0)
    bench.session.commands.answer(0)
    bench.channels.flush()
    assert bench.session.commands.said == [
        ("EVALSHA", "lease", 0, "n", 1),
        ("EVALSHA", "lease", 0, "n", 0, "new", 0, "held", 3),
        ("EVALSHA", "lease", 0, "n", 0, "newer", 0),
    ]
    assert len(bench.outcomes) == len(bench.lost) == 1
    for _ in range(3):
        bench.session.commands.answer()
    assert len(bench.outcomes) == 3
    bench.channels.leases_lost()  # called after a beat
    assert len(bench.lost) == 2


async def test_counts_are_sent_in_parts() -> None:
    bench = Bench()
    for number in range(COUNTS + 1):
        bench.channels.hold(f"t{number}")
        bench.channels.count(f"t{number}", number)
    assert len(bench.channels.take_counts()) == COUNTS
    assert bench.channels.take_counts() == {f"t{COUNTS}": COUNTS}
    assert bench.channels.take_counts() == {}


async def test_very_many_topics_are_sent_over_several_ticks() -> None:
    bench = Bench()
    bench.channels.detach()
    for number in range(SHARE + 1):
        bench.channels.hold(f"t{number}")
    session = bench.attach()
    assert sum(len(words) - 1 for words in session.pushes.said) == SHARE
    await bench.channels.flushed()
    assert sum(len(words) - 1 for words in session.pushes.said) == SHARE + 1


async def test_many_topics_are_sent_in_parts() -> None:
    bench = Bench()
    for number in range(2 * CHUNK + 1):
        bench.channels.want(f"t{number}", bench.outcomes.append)
    bench.channels.flush()
    assert [len(words) - 1 for words in bench.session.pushes.said] == [CHUNK, CHUNK, 1]


async def test_old_leases_are_read_in_pages() -> None:
    """200,000 leases at once blocked this server, and Redis, for 0.2 s."""
    bench = Bench()
    bench.want("kept")
    bench.confirm("kept")
    session = ScriptedSession()
    bench.channels.attach(session)  # type: ignore[arg-type]
    session.commands.answer()  # the lease without a topic
    session.commands.said.clear()
    session.commands.answer([b"17", [b"", b"2", b"kept", b"1", b"left", b"1"]])
    assert session.commands.said == [
        ("HDEL", "p:leases:n", "left"),
        ("HSCAN", "p:leases:n", b"17", "COUNT", CHUNK),
    ]
    session.commands.answer()
    session.commands.answer([b"0", [b"kept", b"1"]])
    assert len(session.commands.said) == 2
