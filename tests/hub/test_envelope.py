"""Messages between nodes: their format, and their delivery exactly once."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.redis.envelope import DELETED, EVENT, PLACED, Envelope, Sender, unseal

RUN, OTHER = b"8 bytes!", b"another!"


def opened(data: bytes) -> Envelope:
    envelope = unseal(data)
    assert envelope is not None
    return envelope


def test_sealed_messages_can_be_parsed() -> None:
    sender = Sender(RUN)
    assert opened(sender.seal(EVENT, b'{"n":1}')[1]) == Envelope(EVENT, RUN, 1, b'{"n":1}')
    assert opened(sender.seal(DELETED)[1]) == Envelope(DELETED, RUN, 2, b"")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"hello",
        EVENT + RUN + bytes(7),
        EVENT + RUN + bytes(8),
        EVENT + RUN + bytes(8) + b"text",
        DELETED + RUN + bytes(8) + b"{}",
        b"wsX1" + RUN + bytes(8) + b"{}",
        EVENT + RUN + bytes(8) + b'{"n":1}\n\ndata: {"n":2}',
        EVENT + RUN + bytes(8) + b'{"n":"\xc3\xa4"\r}',
        PLACED + RUN + bytes(8) + b'epoch 1 {"n":1\n}',
        PLACED + RUN + bytes(8) + b'ep\noch 1 {"n":1}',
    ],
)
def test_foreign_messages_are_refused(data: bytes) -> None:
    assert unseal(data) is None


@given(st.binary(max_size=64))
def test_unseal_never_raises(data: bytes) -> None:
    unseal(data)


def test_messages_of_another_run_are_always_delivered() -> None:
    sender = Sender(RUN)
    sender.seal(EVENT, b"{}")
    sender.mark_delivered(1)
    assert sender.is_news(opened(Sender(OTHER).seal(EVENT, b"{}")[1]))


def test_accepted_message_is_owed_until_it_comes_back() -> None:
    sender = Sender(RUN)
    sent = [sender.seal(EVENT, b"{}") for _ in range(4)]
    for seq, _ in sent[:3]:
        sender.owe(seq, "t", b'{"n":%d}' % seq)
    assert sender.is_news(opened(sent[0][1]))
    sender.owe(sent[0][0], "t", b"it has come back before its answer")
    assert sender.take_owed() == [("t", b'{"n":2}'), ("t", b'{"n":3}')]
    assert sender.take_owed() == []
    assert [sender.is_news(opened(data)) for _, data in sent[1:]] == [False, False, True]


def test_own_message_is_delivered_once() -> None:
    sender = Sender(RUN)
    came_back, frozen, later = (sender.seal(EVENT, b"{}") for _ in range(3))
    assert sender.is_news(opened(came_back[1]))
    assert not sender.mark_delivered(came_back[0])  # Redis was lost before its reply
    assert sender.mark_delivered(frozen[0])
    assert not sender.is_news(opened(frozen[1]))  # Redis thaws
    assert sender.is_news(opened(later[1]))
