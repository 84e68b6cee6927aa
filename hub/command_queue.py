"""What one client asks for, carried out and answered in the order it was asked.

State: none of its own; each client carries its count of commands that await the broker and the
backlog behind them. Publishes may await the broker together, since it completes them in order;
whatever else a client asks for waits until nothing of it is under way.
"""

from collections import deque
from functools import partial
from typing import Final

from hub.brokers.base import ACCEPTED, DEGRADED, Accepted
from hub.delivery.client import Client
from hub.drain import Drain
from hub.errors import INVALID_UTF8, ErrorCode, Refusal
from hub.hub import Hub
from hub.protocol import replies as outbound
from hub.protocol.commands import Command, Ping, Publish, Subscribe, Unsubscribe, decode
from hub.protocol.websocket_frames import text_frame
from hub.settings import Settings

MAX_AWAITING: Final = 64  # commands of one connection under way; those behind them wait
# At so many under way or waiting, its reading pauses until there are none, and what has come by
# then is one read: at 10,000 publishes a second, waking up for each cost more than all else
# (docs/design.md).
FEW: Final = 2

_BINARY: Final = Refusal(
    ErrorCode.INVALID_MESSAGE, "Binary frames are not understood: send JSON in text frames"
)


class Commands:
    """The way in: bytes of a client's message to an effect in the hub, and its answer."""

    def __init__(self, hub: Hub, drain: Drain, settings: Settings) -> None:
        self._hub = hub
        self._drain = drain
        self._max_topic_bytes = settings.max_topic_bytes
        self._require_client_id = settings.require_client_id

    def handle(self, client: Client, data: bytes | bytearray) -> None:
        """Take one text message of an open client."""
        try:
            command = decode(data, self._max_topic_bytes)
        except UnicodeDecodeError:
            self._hub.fail(client, INVALID_UTF8)
            return
        self._take(client, command)

    def handle_binary(self, client: Client) -> None:
        """Take one binary message, which says nothing here whatever is in it."""
        self._take(client, _BINARY)

    def _take(self, client: Client, command: Command | Refusal) -> None:
        if self._drain.begun:
            return
        if client.backlog is None and self._may_run(client, command):
            self._run(client, command)
        else:
            if client.backlog is None:
                client.backlog = deque()
            client.backlog.append(command)
        if (
            client.awaiting  # never on a single server
            and client.awaiting + len(client.backlog or ()) >= FEW
        ):
            client.hold()

    def _may_run(self, client: Client, command: Command | Refusal) -> bool:
        """Whether a command may start beside what the client already has under way."""
        if not client.awaiting:
            return True
        together = isinstance(command, Publish) and not client.exclusive
        return together and client.awaiting < MAX_AWAITING

    def _run(self, client: Client, command: Command | Refusal) -> None:
        if isinstance(command, Publish):
            client.awaiting += 1
            done = partial(self._complete, client, command)
            self._hub.publish(command.topic, command.id, command.payload, done, command.key)
        elif isinstance(command, Ping):
            self._say(client, outbound.encode_pong(command.request_id, self._hub.stamps.ts()))
        elif isinstance(command, Refusal):
            self._refuse(client, command)
        elif command.client_id is None and self._require_client_id and not client.name:
            text = "Client ID is required"
            self._refuse(client, Refusal(ErrorCode.INVALID_CLIENT_ID, text, command.request_id))
        elif isinstance(command, Subscribe):
            client.awaiting += 1
            client.exclusive = True
            done = partial(self._complete, client, command)
            self._hub.subscribe(client, command.topic, done, command.since)
        else:
            self._hub.unsubscribe(client, command.topic)
            outcome = DEGRADED if self._hub.broker.degraded else ACCEPTED
            self._acknowledge(client, command, outcome)

    def _complete(
        self, client: Client, command: Publish | Subscribe, outcome: Accepted | Refusal
    ) -> None:
        """The broker has completed a command; `outcome` says how."""
        client.awaiting -= 1
        client.exclusive = False
        if isinstance(outcome, Refusal):
            self._refuse(client, outcome._replace(request_id=command.request_id))
        else:
            self._acknowledge(client, command, outcome)
        if self._drain.begun:
            if not client.awaiting:
                self._drain.completed(client)
        elif client.backlog is not None or client.held:
            self._advance(client, client.backlog or deque())

    def _advance(self, client: Client, backlog: deque[Command | Refusal]) -> None:
        """Run what the backlog allows; what completes meanwhile does not come back in here."""
        client.backlog = None
        while backlog and client.open and self._may_run(client, backlog[0]):
            self._run(client, backlog.popleft())
        if backlog:
            client.backlog = backlog
        if not client.awaiting and not backlog:
            client.release()

    def _acknowledge(
        self, client: Client, command: Publish | Subscribe | Unsubscribe, outcome: Accepted
    ) -> None:
        ts = self._hub.stamps.ts()
        ack = outbound.encode_ack(
            command.request_id,
            command.topic,
            ts,
            outcome.degraded,
            outcome.first is not None,
            outcome.position,
            outcome.recovered,
        )
        self._say(client, ack)

    def _refuse(self, client: Client, refusal: Refusal) -> None:
        self._say(client, outbound.encode_error(refusal, self._hub.stamps.ts()))

    def _say(self, client: Client, answer: bytes) -> None:
        self._hub.fanout.send(client, text_frame(answer))
