"""Read events on a small computer, such as a Raspberry Pi: Server-Sent Events without any package.

Shows: it holds one message at a time. When the connection is lost it connects again and sends the
id of its last message, so that the server sends what it has missed.

Run it while a server runs: python3 examples/reader.py TOPIC [TOPIC ...]
"""

import http.client
import json
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import urlencode

SERVER = "localhost:8080"
SILENCE = 90  # seconds: the server sends something at least every 54 s (PING_INTERVAL)

Message = dict[str, Any]


def show(event: Message) -> None:
    """Print an event. Blink an LED here, with gpiozero: LED(17).blink(n=1)."""
    print(event["topic"], json.dumps(event["message"]["payload"]), flush=True)


def listen(topics: Sequence[str], act: Callable[[Message], None]) -> None:
    """Call `act` with each event of up to 16 topics, for ever."""
    path = "/events?" + urlencode([("topic", topic) for topic in topics])
    last_id, pause = "", 2.0
    while True:
        connection = http.client.HTTPConnection(SERVER, timeout=SILENCE)
        headers = {"Accept": "text/event-stream"}
        if last_id:
            headers["Last-Event-ID"] = last_id
        try:
            connection.request("GET", path, headers=headers)
            stream = connection.getresponse()
            if stream.status not in (200, 429, 503):
                sys.exit(f"{stream.status}: {stream.read(1000).decode()}")
            new_id, data = last_id, ""
            for line in stream:
                field, _, value = line.decode().rstrip("\n").partition(": ")
                if field == "retry":
                    pause = int(value) / 1000
                elif field == "id":
                    new_id = value
                elif field == "data":
                    data = value
                elif line == b"\n" and data:  # the message is complete
                    handle(json.loads(data), act)
                    last_id, data = new_id, ""
        except (OSError, http.client.HTTPException) as error:
            print(f"no connection: {error}", file=sys.stderr)
        finally:
            connection.close()
        print(f"connecting again in {pause:.1f} s", file=sys.stderr, flush=True)
        time.sleep(pause)


def handle(message: Message, act: Callable[[Message], None]) -> None:
    """Act on an event, and tell of a hole."""
    if message["type"] == "event":
        act(message)
    elif message.get("recovered") is False or message.get("reason") == "GAP":
        print(message["topic"], "events are missing here", flush=True)
    elif message["type"] != "ack":
        print("the server says:", json.dumps(message), file=sys.stderr)


if __name__ == "__main__":
    listen(sys.argv[1:], show)
