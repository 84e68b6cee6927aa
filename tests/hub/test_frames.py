"""WebSocket frames (RFC 6455), without a socket."""

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.protocol import websocket_frames as frames
from hub.protocol.websocket_frames import FrameReader
from tests.support.frame_vectors import FRAMES, reads, wire
from tests.support.frames import client_frame, take_frames, unmask

LIMIT = 65_536


def read(chunks: list[bytes], limit: int = LIMIT) -> tuple[list[tuple[int, bytes]], FrameReader]:
    reader = FrameReader(limit, unmask)
    messages = [message for chunk in chunks for message in reader.feed(chunk)]
    return [(opcode, bytes(payload)) for opcode, payload in messages], reader


def expected_break(vector: dict[str, Any]) -> int | None:
    """Return the code of the violation that the reader finds, if any."""
    _, _, close = vector["reaction"].partition("close ")
    if close.endswith(("protocol_error", "too_big")) and not any(
        opcode == frames.CLOSE for opcode, _ in reads(vector)
    ):
        return int(close.split()[0])
    return None


@pytest.mark.parametrize("vector", FRAMES, ids=lambda vector: vector["name"])
def test_the_reader_returns_the_same_messages_for_any_chunks(vector: dict[str, Any]) -> None:
    data = wire(vector)
    by_byte = [data[at : at + 1] for at in range(len(data))]
    for chunks in ([data], [data[:1], data[1:]], [data[:7], data[7:]], by_byte):
        messages, reader = read(chunks)
        assert messages == reads(vector)
        assert (reader.broken and reader.broken.code) == expected_break(vector)


def test_nothing_is_read_after_a_violation() -> None:
    messages, reader = read([client_frame(3), client_frame(1, b"late")])
    assert messages == []
    assert reader.broken is not None


@given(
    payloads=st.lists(
        st.tuples(st.sampled_from([1, 2, 9, 10]), st.binary(max_size=125)), max_size=8
    ),
    cuts=st.lists(st.integers(0, 1100), max_size=12),
)
def test_any_messages_are_read_from_any_chunks(
    payloads: list[tuple[int, bytes]], cuts: list[int]
) -> None:
    data = b"".join(client_frame(opcode, payload) for opcode, payload in payloads)
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    chunks = [data[start:end] for start, end in pairwise(edges)]
    messages, reader = read(chunks)
    assert messages == payloads
    assert reader.broken is None


@given(st.lists(st.binary(max_size=40)))
def test_garbage_raises_no_exception(chunks: list[bytes]) -> None:
    _, whole = read([b"".join(chunks)])
    messages, cut = read(chunks)
    assert cut.broken == whole.broken
    assert all(opcode in (1, 2, 8, 9, 10) for opcode, _ in messages)


def test_the_time_to_read_small_chunks_is_linear_in_their_bytes() -> None:
    """A slow client must not make the server copy its buffer for every chunk."""
    looks = []

    class Counting(FrameReader):
        def _header(self, data: bytes, start: int) -> tuple[int, int]:
            looks.append(start)
            return super()._header(data, start)

    reader = Counting(LIMIT, unmask)
    data = client_frame(1, b"x" * LIMIT)
    for at in range(len(data) - 1):
        assert reader.feed(data[at : at + 1]) == []
    assert len(reader.feed(data[-1:])) == 1
    assert len(looks) < 10


@pytest.mark.parametrize("size", [0, 125, 126, 65_535, 65_536])
def test_text_frames_have_the_shortest_header(size: int) -> None:
    frame = frames.text_frame(b"x" * size)
    header = 2 if size < 126 else 4 if size < 65_536 else 10
    assert len(frame) == header + size
    assert take_frames(bytearray(frame)) == [(frames.TEXT, b"x" * size)]


def test_control_frames() -> None:
    assert take_frames(bytearray(frames.PING_FRAME)) == [(frames.PING, b"")]
    assert take_frames(bytearray(frames.pong_frame(b"abc"))) == [(frames.PONG, b"abc")]
    assert take_frames(bytearray(frames.close_frame(1001, "bye"))) == [
        (frames.CLOSE, b"\x03\xe9bye")
    ]
    assert take_frames(bytearray(frames.close_frame(None))) == [(frames.CLOSE, b"")]
