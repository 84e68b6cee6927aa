"""RFC 6455 frames on the client's side."""

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10

_MASK = b"\x37\xfa\x21\x3d"  # of the RFC's own example, section 5.7


def client_frame(
    opcode: int, payload: bytes = b"", *, fin: bool = True, masked: bool = True, rsv: int = 0
) -> bytes:
    """Return a client's frame; it is valid unless the arguments say otherwise."""
    first = (0x80 if fin else 0) | rsv << 4 | opcode
    size = len(payload)
    if size < 126:
        head = bytes([first, size])
    elif size < 65_536:
        head = bytes([first, 126]) + size.to_bytes(2, "big")
    else:
        head = bytes([first, 127]) + size.to_bytes(8, "big")
    if not masked:
        return head + payload
    head = head[:1] + bytes([head[1] | 0x80]) + head[2:]
    return head + _MASK + mask(payload)


def mask(payload: bytes) -> bytes:
    """Return a payload masked, or unmasked, by the RFC's definition."""
    return bytes(byte ^ _MASK[place % 4] for place, byte in enumerate(payload))


def unmask(key: bytes, data: bytearray) -> None:
    """Unmask `data` in place by the RFC's definition, for a `FrameReader`."""
    for place in range(len(data)):
        data[place] ^= key[place % 4]


def take_frames(stream: bytearray) -> list[tuple[int, bytes]]:
    """Remove the complete frames from a server's stream, and return them as (opcode, payload).

    Fail if a frame is masked, not final, or has reserved bits set.
    """
    frames = []
    while len(stream) >= 2:
        first, size = stream[0], stream[1]
        assert first & 0xF0 == 0x80, f"unexpected first byte {first:#x}"
        start = 2
        if size in (126, 127):
            start = 4 if size == 126 else 10
            if len(stream) < start:
                break
            size = int.from_bytes(stream[2:start], "big")
        if len(stream) < start + size:
            break
        frames.append((first & 0x0F, bytes(stream[start : start + size])))
        del stream[: start + size]
    return frames
