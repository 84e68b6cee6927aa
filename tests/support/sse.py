"""A parser for Server-Sent Events, as in a browser (HTML Living Standard, 9.2.6)."""

import json
from typing import Any, NamedTuple


class Said(NamedTuple):
    """One message of a stream."""

    id: str  # the stream's last id at this message
    message: Any


class Listener:
    """Parses a stream. State: the last id, which a browser sends when it reconnects."""

    def __init__(self, last_id: str = "") -> None:
        self.last_id = last_id
        self.retry = 0  # milliseconds; 0 before the server has sent a `retry`
        self.comments = 0

    def take(self, stream: bytearray, count: int | None = None) -> list[Said]:
        """Remove the complete messages from a stream, at most `count`, and return them."""
        heard: list[Said] = []
        while (end := stream.find(b"\n\n")) >= 0 and (count is None or len(heard) < count):
            data = ""
            for line in bytes(stream[:end]).decode().split("\n"):
                field, _, value = line.partition(":")
                value = value.removeprefix(" ")
                if field == "":
                    self.comments += 1
                elif field == "id":
                    self.last_id = value
                elif field == "retry":
                    self.retry = int(value)
                else:
                    assert (field, data) == ("data", ""), line
                    data = value
            del stream[: end + 2]
            if data:
                heard.append(Said(self.last_id, json.loads(data)))
        return heard
