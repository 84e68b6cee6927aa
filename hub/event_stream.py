"""A stream of Server-Sent Events: subscribed to its topics from its beginning, and over with them.

State: none of its own; the client counts the subscribes that the broker has yet to complete. It is
open before they are: a browser that gets any other status than 200 never comes back by itself, so
what may pass (UNAVAILABLE) is said in the stream, and ends it.
"""

import random
from functools import partial
from typing import Final

from hub.access import Principal
from hub.brokers.base import SubscribeResult
from hub.delivery.client import Client, Transport
from hub.delivery.framing import EventStream
from hub.drain import Drain
from hub.errors import REFUSED, Refusal
from hub.protocol import sse
from hub.protocol.http_requests import StreamQuery
from hub.protocol.replies import encode_ack, encode_error
from hub.service import Service

# Milliseconds, from and to: when a client comes back that has lost its stream. Each is told another
# time in between, so that a thousand do not come back at once.
RETRY: Final = (1_000, 5_000)


def preamble() -> bytes:
    """What every stream begins with."""
    return sse.retry(random.randint(*RETRY)) + b"\n"


class Stream:
    """Subscribes one client to what it has asked for, and answers as /ws does."""

    def __init__(
        self, service: Service, drain: Drain, caller: Principal, query: StreamQuery
    ) -> None:
        self.hub = service.hub
        self._service = service
        self._caller = caller
        self._drain = drain
        self._query = query

    def open(self, transport: Transport) -> Client:
        """Take in the connection; what comes of its subscribes is said to it."""
        query = self._query
        framing = EventStream(query.topics, query.positions)
        client = self.hub.join(transport, framing=framing, principal=self._caller)
        client.commands.awaiting = len(query.topics)
        for number, topic in enumerate(query.topics):
            if client.open:  # no topic is made for a stream that is over
                done = partial(self._complete, client, topic)
                self._service.subscribe(
                    self._caller, client, topic, done, recover_from=query.recover_from(number)
                )
        return client

    def _complete(self, client: Client, name: str, result: SubscribeResult | Refusal) -> None:
        client.commands.awaiting -= 1
        if not client.open:
            return
        ts = self.hub.ids.now()
        if isinstance(result, Refusal):
            self.hub.observer.refused(result)
            error = client.encoding.message(encode_error(result, ts))
            self.hub.close(client, error, client.framing.ending, REFUSED)
            return
        ack = encode_ack(
            "",
            name,
            ts,
            result.degraded,
            position=result.position,
            recovered=result.recovered,
        )
        (topic,) = (it for it in client.topics if it.name == name)
        self.hub.fanout.tell(client, topic, client.encoding.message_at(ack, result.start))
        if self._drain.begun and not client.commands.awaiting:
            self._drain.completed(client)
