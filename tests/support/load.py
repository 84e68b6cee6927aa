"""A steady load of events, published in another thread."""

import json
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.client import HTTPConnection
from itertools import count, cycle, islice

BATCHES = 10  # a second


@contextmanager
def flood(port: int, topics: Sequence[str], rate: int) -> Iterator[None]:
    """Publish `rate` events a second to the topics in turn, until the block ends."""
    stop = threading.Event()

    def publish() -> None:
        connection = HTTPConnection("127.0.0.1", port, timeout=30)
        names, numbers = cycle(topics), count()
        due = time.monotonic()
        while not stop.wait(max(0.0, due - time.monotonic())):
            due = max(due + 1 / BATCHES, time.monotonic() - 1)  # a late start is not made up for
            items = [
                {"topic": name, "payload": {"n": number, "text": "some words of an event"}}
                for name, number in zip(islice(names, rate // BATCHES), numbers, strict=False)
            ]
            connection.request("POST", "/publish/batch", json.dumps({"items": items}))
            answer = connection.getresponse()
            answer.read()
            assert answer.status == 200
        connection.close()

    thread = threading.Thread(target=publish)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
