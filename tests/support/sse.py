"""Server-Sent Events from the other side, read as a browser does (HTML Living Standard, 9.2.6)."""

import json
from typing import Any, NamedTuple


class Said(NamedTuple):
    """One message of a stream."""

    id: str  # the stream's last one, when it was said
    message: Any


class Listener:
    """Takes a stream apart. State: the last id, which a browser sends when it comes back."""

    def __init__(self, last_id: str = "") -> None:
        self.last_id = last_id
        self.retry = 0  # milliseconds; 0 before the server has said it
        self.comments = 0

    def take(self, stream: bytearray, count: int | None = None) -> list[Said]:
        """The whole messages off the front of a stream; with a count, at most so many."""
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
