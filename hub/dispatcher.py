"""The dispatcher: carries out the commands of each client and answers them in order.

Theory of operation. A command completes at once or, over a network, later. Several publishes of one
client may await the broker at a time, since the broker completes them in order. Any other command
starts when no command of its client is under way, and the commands after it are queued. At PAUSE_AT
commands the connection stops reading until all are answered.
"""

from collections import deque
from collections.abc import Iterable
from functools import partial
from typing import Final

from hub.access import Principal
from hub.brokers.base import PublishResult, SubscribeResult
from hub.delivery.client import Client
from hub.drain import Drain
from hub.errors import ACCESS_CODES, INVALID_UTF8, ErrorCode, Refusal
from hub.event_log import client_fields
from hub.logs import events
from hub.protocol import replies
from hub.protocol.commands import Auth, Command, Ping, Publish, Subscribe, Unsubscribe, decode
from hub.protocol.validation import TOO_MANY_ELEMENTS
from hub.reports import CommandType, Limit
from hub.service import Service
from hub.sessions import rfc3339
from hub.settings import Settings

MAX_AWAITING: Final = 64  # commands of one client that await the broker at once
# Number of commands under way or queued at which reading pauses. All bytes that arrive in the pause
# become one read. At 10,000 publishes a second, one read for each publish would cost more than all
# other work (docs/decisions, 0025).
PAUSE_AT: Final = 2

_TYPES: Final = {
    Subscribe: CommandType.SUBSCRIBE,
    Unsubscribe: CommandType.UNSUBSCRIBE,
    Auth: CommandType.AUTH,
}
_BINARY: Final = Refusal(
    ErrorCode.INVALID_MESSAGE, "Binary frames are not understood: send JSON in text frames"
)


class Dispatcher:
    """State: the counts of answers; the state of each client's commands is in its `CommandQueue`.

    The counts only grow; the metrics read them. A publish that is carried out is counted in
    `Hub.published`.
    """

    def __init__(self, service: Service, drain: Drain, settings: Settings) -> None:
        self.sessions = service.sessions
        self.carried_out = dict.fromkeys(CommandType, 0)  # commands by type, without publishes
        self.refused = dict.fromkeys(CommandType, 0)
        self._published_here = service.hub.published
        self._service = service
        self._hub = service.hub
        self._drain = drain
        self._send = service.hub.fanout.send
        self._max_topic_bytes = settings.max_topic_bytes
        self._require_client_id = settings.require_client_id

    def begin(self, client: Client, subscribes: Iterable[Subscribe]) -> None:
        """Carry out the subscribes of a new client's URL, before its commands."""
        for command in subscribes:
            self._take(client, command)

    def handle(self, client: Client, data: bytes | bytearray) -> None:
        """Handle one text message of an open client."""
        try:
            command = decode(data, self._max_topic_bytes)
        except UnicodeDecodeError:
            self._hub.fail(client, INVALID_UTF8)
            return
        self._take(client, command)

    def handle_binary(self, client: Client) -> None:
        """Refuse one binary message."""
        self._take(client, _BINARY)

    def handle_excess(
        self, client: Client, data: bytes | bytearray | None, refusal: Refusal
    ) -> bool:
        """Refuse a message over MESSAGE_RATE, unless it is an unsubscribe, which is carried out.

        Args:
            client: the sender.
            data: the message; None for a binary one.
            refusal: the answer; it gets the message's request_id.

        Returns:
            True if the message was refused.
        """
        if data is not None:
            try:
                command = decode(data, self._max_topic_bytes)
            except UnicodeDecodeError:
                self._hub.fail(client, INVALID_UTF8)
                return True
            if isinstance(command, Unsubscribe):
                self._take(client, command)
                return False
            refusal = refusal._replace(request_id=command.request_id)
        self._take(client, refusal)
        return True

    def _take(self, client: Client, command: Command | Refusal) -> None:
        if self._drain.begun:
            return
        queue = client.commands
        if queue.backlog is None and self._may_run(client, command):
            self._run(client, command)
        else:
            if queue.backlog is None:
                queue.backlog = deque()
            queue.backlog.append(command)
        # On a single server every command but `auth` completes at once, so reading does not pause.
        if queue.awaiting and queue.awaiting + len(queue.backlog or ()) >= PAUSE_AT:
            client.hold()

    def _may_run(self, client: Client, command: Command | Refusal) -> bool:
        """Return whether a command may start before those under way have completed."""
        queue = client.commands
        if not queue.awaiting:
            return True
        together = isinstance(command, Publish) and not queue.exclusive
        return together and queue.awaiting < MAX_AWAITING

    def _run(self, client: Client, command: Command | Refusal) -> None:
        if isinstance(command, Publish):
            client.commands.awaiting += 1
            done = partial(self._published, client, command)
            self._service.publish(
                client.principal, command.topic, command.id, command.payload, done, key=command.key
            )
        elif isinstance(command, Ping):
            self.carried_out[CommandType.PING] += 1
            pong = replies.encode_pong(command.request_id, self._hub.ids.now())
            self._send(client, client.encoding.message(pong))
        elif isinstance(command, Refusal):
            self._refuse(client, CommandType.INVALID, command)
        elif isinstance(command, Auth):
            client.commands.awaiting += 1
            client.commands.exclusive = True
            done = partial(self._authenticated, client, command)
            self.sessions.authenticate(client, command.token, done)
        elif self._lacks_client_id(client, command):
            text = "Client ID is required"
            refusal = Refusal(ErrorCode.INVALID_CLIENT_ID, text, command.request_id)
            self._refuse(client, _TYPES[type(command)], refusal)
        elif isinstance(command, Subscribe):
            client.client_id = command.client_id or client.client_id
            client.commands.awaiting += 1
            client.commands.exclusive = True
            done = partial(self._subscribed, client, command)
            self._service.subscribe(
                client.principal, client, command.topic, done, recover_from=command.recover_from
            )
        else:
            self.carried_out[CommandType.UNSUBSCRIBE] += 1
            self._service.unsubscribe(client, command.topic)
            ts, degraded = self._hub.ids.now(), self._hub.broker.degraded
            ack = replies.encode_ack(command.request_id, command.topic, ts, degraded=degraded)
            self._send(client, client.encoding.message(ack))

    def _lacks_client_id(self, client: Client, command: Subscribe | Unsubscribe) -> bool:
        if command.client_id is not None or client.name or client.principal.subject:
            return False
        return self._require_client_id

    def _published(self, client: Client, command: Publish, result: PublishResult | Refusal) -> None:
        """Answer a publish that the broker has completed, and go on with the queued commands."""
        queue = client.commands
        queue.awaiting -= 1
        if isinstance(result, Refusal):
            refusal = result._replace(request_id=command.request_id)
            self._refuse(client, CommandType.PUBLISH, refusal)
        else:
            self._published_here.websocket += 1
            ack = replies.encode_ack(
                command.request_id,
                command.topic,
                self._hub.ids.now(),
                result.degraded,
                result.first is not None,
                result.position,
            )
            self._send(client, client.encoding.message(ack))
        if queue.backlog is not None or queue.held or self._drain.begun:
            self._go_on(client)

    def _subscribed(
        self, client: Client, command: Subscribe, result: SubscribeResult | Refusal
    ) -> None:
        """Answer a subscribe that the broker has completed."""
        if not isinstance(result, Refusal):
            ack = replies.encode_ack(
                command.request_id,
                command.topic,
                self._hub.ids.now(),
                degraded=result.degraded,
                position=result.position,
                recovered=result.recovered,
            )
            self._complete(client, command, ack)
        else:
            self._complete(client, command, result)

    def _authenticated(self, client: Client, command: Auth, result: Principal | Refusal) -> None:
        """Answer an `auth`."""
        if not isinstance(result, Refusal):
            expires_at = "" if result.expires_at is None else rfc3339(result.expires_at)
            ack = replies.encode_auth_ack(
                command.request_id, self._hub.ids.now(), result.subject, expires_at
            )
            self._complete(client, command, ack)
        else:
            self._complete(client, command, result)

    def _complete(self, client: Client, command: Subscribe | Auth, answer: bytes | Refusal) -> None:
        """Answer a command that ran alone, and go on with the queued commands."""
        queue = client.commands
        queue.awaiting -= 1
        queue.exclusive = False
        kind = _TYPES[type(command)]
        if isinstance(answer, Refusal):
            self._refuse(client, kind, answer._replace(request_id=command.request_id))
        else:
            self.carried_out[kind] += 1
            self._send(client, client.encoding.message(answer))
        if queue.backlog is not None or queue.held or self._drain.begun:
            self._go_on(client)

    def _go_on(self, client: Client) -> None:
        """Run the commands after a completed one; in a drain, report the last one."""
        queue = client.commands
        if not self._drain.begun:
            self._advance(client, queue.backlog or deque())
        elif not queue.awaiting:
            self._drain.completed(client)

    def _advance(self, client: Client, backlog: deque[Command | Refusal]) -> None:
        """Run the queued commands that may run.

        They are not in the client's queue meanwhile, so that one that completes at once does not
        run the others within its own call.
        """
        client.commands.backlog = None
        while backlog and client.open and self._may_run(client, backlog[0]):
            self._run(client, backlog.popleft())
        if backlog:
            client.commands.backlog = backlog
        if not client.commands.awaiting and not backlog:
            client.release()

    def _refuse(self, client: Client, kind: CommandType, refusal: Refusal) -> None:
        self.refused[kind] += 1
        self._hub.observer.refused(refusal.code)
        if refusal.text is TOO_MANY_ELEMENTS:
            self._hub.observer.limited(Limit.ELEMENTS)
        if refusal.code in ACCESS_CODES:
            reason, detail = refusal.code, refusal.text
            events.COMMAND_REFUSED.log(**client_fields(client), reason=reason, detail=detail)
        error = replies.encode_error(refusal, self._hub.ids.now())
        self._send(client, client.encoding.message(error))
