"""A stream of Server-Sent Events: subscribed to its topics from its beginning, and over with them.

State: none of its own; the client counts the subscribes that the broker has yet to complete. It is
open before they are: a browser that gets any other status than 200 never comes back by itself, so
what may pass (UNAVAILABLE) is said in the stream, and ends it.
"""

import random
from functools import partial
from typing import Final

from hub.brokers.base import Accepted
from hub.delivery.client import Client, Transport
from hub.delivery.framing import EventStream
from hub.drain import Drain
from hub.errors import REFUSED, Refusal
from hub.hub import Hub
from hub.protocol import sse
from hub.protocol.http_requests import Followed
from hub.protocol.replies import encode_ack, encode_error

# Milliseconds, from and to: when a client comes back that has lost its stream. Each is told another
# time in between, so that a thousand do not come back at once.
RETRY: Final = (1_000, 5_000)


def preamble() -> bytes:
    """What every stream begins with."""
    return sse.retry(random.randint(*RETRY)) + b"\n"


class Stream:
    """Subscribes one client to what it has asked for, and answers as /ws does."""

    def __init__(self, hub: Hub, drain: Drain, followed: Followed) -> None:
        self.hub = hub
        self._drain = drain
        self._followed = followed

    def open(self, transport: Transport) -> Client:
        """Take in the connection; what comes of its subscribes is said to it."""
        followed = self._followed
        client = self.hub.join(transport, wire=EventStream(followed.topics, followed.places))
        client.awaiting = len(followed.topics)
        for number, topic in enumerate(followed.topics):
            if client.open:  # no topic is made for a stream that is over
                done = partial(self._complete, client, topic)
                self.hub.subscribe(client, topic, done, followed.since(number))
        return client

    def _complete(self, client: Client, name: str, outcome: Accepted | Refusal) -> None:
        client.awaiting -= 1
        if not client.open:
            return
        ts = self.hub.stamps.ts()
        if isinstance(outcome, Refusal):
            error = client.wire.say(encode_error(outcome, ts))
            self.hub.close(client, error, client.wire.ending, REFUSED)
            return
        ack = encode_ack(
            "",
            name,
            ts,
            outcome.degraded,
            position=outcome.position,
            recovered=outcome.recovered,
        )
        (topic,) = (it for it in client.topics if it.name == name)
        self.hub.fanout.tell(client, topic, client.wire.say(ack, outcome.start))
        if self._drain.begun and not client.awaiting:
            self._drain.completed(client)
