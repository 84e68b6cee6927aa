"""A stream of Server-Sent Events: subscribed to its topics until the last of them is deleted.

Theory of operation. The stream is opened before its subscribes complete, and a refused subscribe is
sent as an event that ends the stream. The reason is that `EventSource` reconnects after the end of
a stream, but not after a status other than 200, and a refusal may be temporary (UNAVAILABLE).

State: none of its own; the client counts the subscribes that await the broker.
"""

import random
from functools import partial
from typing import Final

from hub.access import Principal
from hub.brokers.base import SubscribeResult
from hub.delivery.client import Client, Transport
from hub.delivery.framing import SseFraming
from hub.drain import Drain
from hub.errors import REFUSED, Refusal
from hub.protocol import sse
from hub.protocol.connect_requests import StreamQuery
from hub.protocol.replies import encode_ack, encode_error
from hub.service import Service

# Bounds of the time (ms) after which a client reconnects. It is random for each client, so that
# they do not all reconnect at once.
RETRY: Final = (1_000, 5_000)


def preamble() -> bytes:
    """Return the first bytes of a stream: the time after which to reconnect."""
    return sse.retry(random.randint(*RETRY)) + b"\n"


class Stream:
    """Subscribes one client to the topics of its query, and sends the answers as events."""

    def __init__(
        self,
        service: Service,
        drain: Drain,
        caller: Principal,
        address: str,
        query: StreamQuery,
    ) -> None:
        self.hub = service.hub
        self._service = service
        self._caller = caller
        self._address = address
        self._drain = drain
        self._query = query

    def open(self, transport: Transport) -> Client:
        """Add the connection to the hub as a client, and subscribe it."""
        query = self._query
        framing = SseFraming(query.topics, query.positions)
        client = self._service.sessions.open(
            self._caller, transport, framing=framing, address=self._address
        )
        client.commands.awaiting = len(query.topics)
        for number, topic in enumerate(query.topics):
            if client.open:  # a refusal may have ended it: create no topic for it
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
            self.hub.observer.refused(result.code)
            error = client.encoding.message(encode_error(result, ts))
            self.hub.close(client, error, client.framing.ending, REFUSED)
            return
        ack = encode_ack(
            "",
            name,
            ts,
            degraded=result.degraded,
            position=result.position,
            recovered=result.recovered,
        )
        (topic,) = (it for it in client.topics if it.name == name)
        self.hub.fanout.tell(client, topic, client.encoding.message_at(ack, result.start))
        if self._drain.begun and not client.commands.awaiting:
            self._drain.completed(client)
