"""The gate: every command on a topic, request and stream passes it on its way to the hub.

Each method checks the rights of the caller, and only then carries the call out. The rules for
rights are in hub/access.py.
"""

from collections.abc import Callable, Iterable
from hashlib import sha256
from typing import Final, NamedTuple

from hub.access import ANONYMOUS, Access, Principal, Verb
from hub.bans import MAX_BANS
from hub.brokers.base import ClusterStats, PublishDone, SubscribeDone, TopicDone
from hub.brokers.history import History
from hub.delivery.client import Client
from hub.directory import ConnectionPage, Directory, NodePage
from hub.drain import Drain
from hub.errors import ErrorCode, Refusal
from hub.hub import Hub
from hub.logs import events
from hub.long_poll import LongPolls
from hub.protocol.http_requests import Disconnect
from hub.protocol.list_requests import ConnectionQuery, TopicQuery
from hub.reports import Limit
from hub.sessions import BANNED, Sessions
from hub.topic_list import TopicList, TopicPage
from hub.values import Json, Position, RecoverFrom

_PUBLISH: Final = Verb.PUBLISH  # a look-up of an enum's member takes 40 ns


class Disconnected(NamedTuple):
    """The result of a disconnect that was carried out."""

    clients: int  # connections that were found on this node
    until: float | None  # the end of the subject's ban, in seconds since the epoch; None: no ban
    degraded: bool  # True if the other nodes were not notified, because of an outage


DisconnectDone = Callable[[Disconnected | Refusal], None]


class Service:
    """State: none of its own."""

    def __init__(
        self, hub: Hub, drain: Drain, access: Access, sessions: Sessions, directory: Directory
    ) -> None:
        self.hub = hub
        self._directory = directory
        self.sessions = sessions
        self._polls = LongPolls(hub, drain)
        self.anonymous = access.anonymous
        self._check = access.check
        # Handlers call these two before they read a body.
        self.check_any = access.check_any
        self.check_all = access.check_all
        self._topics = TopicList(hub)

    def publish(
        self,
        caller: Principal,
        topic: str,
        message_id: Json,
        payload: Json,
        done: PublishDone,
        *,
        key: str = "",
    ) -> int:
        """Publish a message; the arguments are those of `Hub.publish`.

        Returns:
            The size of the encoded event in bytes; 0 if the publish was refused.
        """
        # One of the first two conditions allows nearly every publish, without a call. If a rule in
        # `Principal.may` can change while a principal lives, it must clear both.
        refusal = (
            None
            if caller.unlimited or topic in caller.can_publish
            else self._check(caller, _PUBLISH, topic)
        )
        if refusal is None:
            if key and caller is not ANONYMOUS:
                key = _scoped(caller, key)
            return self.hub.publish(topic, message_id, payload, done, key=key)
        done(refusal)
        return 0

    def subscribe(
        self,
        caller: Principal,
        client: Client,
        topic: str,
        done: SubscribeDone,
        *,
        recover_from: RecoverFrom | None = None,
    ) -> None:
        """Make a client a subscriber of a topic; see `Hub.subscribe`."""
        refusal = self._check(caller, Verb.SUBSCRIBE, topic)
        if refusal is None:
            self.hub.subscribe(client, topic, done, recover_from=recover_from)
        else:
            done(refusal)

    def check_stream(self, caller: Principal, topics: Iterable[str]) -> Refusal | None:
        """Return why a caller may not have a stream of these topics; None if it may."""
        refusals = (self._check(caller, Verb.SUBSCRIBE, topic) for topic in topics)
        return next((it for it in refusals if it is not None), None)

    def unsubscribe(self, client: Client, topic: str) -> None:
        """End a subscription, for which no right is needed."""
        self.hub.unsubscribe(client, topic)

    def create(self, caller: Principal, topic: str, done: TopicDone) -> None:
        """Create a topic that stays until it is deleted."""
        refusal = self._check(caller, Verb.MANAGE, topic)
        if refusal is None:
            self.hub.create(topic, done)
        else:
            done(refusal)

    def delete(self, caller: Principal, topic: str, done: TopicDone) -> None:
        """Delete a topic; its subscribers are notified."""
        refusal = self._check(caller, Verb.MANAGE, topic)
        if refusal is None:
            self.hub.broker.delete(topic, done)
        else:
            done(refusal)

    async def history(
        self, caller: Principal, topic: str, position: Position | None
    ) -> History | Refusal:
        """Return the history of a topic, with at least the events after a position."""
        refusal = self._check(caller, Verb.SUBSCRIBE, topic)
        return refusal or await self.hub.broker.fetch_history(topic, position)

    async def next_history(
        self,
        caller: Principal,
        topic: str,
        position: Position,
        *,
        seconds: float,
        connected: Callable[[], bool],
    ) -> History | Refusal:
        """Wait for an event after a position, and return the topic's history.

        The wait also ends with the caller's token. A caller that is banned meanwhile is refused.

        Args:
            caller: who asks.
            topic: the topic's name.
            position: the position after which an event is awaited.
            seconds: maximum time to wait.
            connected: returns whether the caller is still connected.
        """
        refusal = self._check(caller, Verb.SUBSCRIBE, topic)
        if refusal is not None:
            return refusal
        seconds = min(seconds, self.sessions.seconds_left(caller))
        history = await self._polls.wait(topic, position, seconds=seconds, connected=connected)
        if self.sessions.is_banned(caller):
            return BANNED
        return history

    def disconnect(self, caller: Principal, target: Disconnect, done: DisconnectDone) -> None:
        """Close the connections of a subject or client id on all nodes, and ban the subject."""
        refusal = self.check_all(caller)
        if refusal is None and target.ban and not self.sessions.has_room_for_ban(target.subject):
            self.hub.observer.limited(Limit.BANS)
            text = f"At most {MAX_BANS} subjects can be banned at a time"
            refusal = Refusal(ErrorCode.LIMIT_EXCEEDED, text)
        if refusal is not None:
            done(refusal)
            return
        subject, client_id, ban = target
        by = caller.key_name or caller.subject
        events.DISCONNECT.log(caller=by, subject=subject, client_id=client_id, ban_seconds=ban)
        until = self.sessions.ban_for(subject, ban) if ban else None
        banned_until = self.sessions.ban_end(subject) if until is None else until

        def found(clients: int) -> None:
            """Tell the other nodes, after this one has found its connections."""

            def told(reached: bool) -> None:
                done(Disconnected(clients, banned_until, not reached))

            if until is None:
                self.hub.broker.disconnect(subject, client_id, told)
            else:
                self.hub.broker.ban(subject, until, told)

        self.sessions.disconnect(subject, client_id, found)

    async def nodes(self, caller: Principal) -> NodePage | Refusal:
        """Return the nodes of the deployment."""
        refusal = self.check_all(caller)
        if refusal is not None:
            return refusal
        page = await self._directory.nodes()
        return self.sessions.refusal(caller) or page

    async def connections(
        self, caller: Principal, query: ConnectionQuery
    ) -> ConnectionPage | Refusal:
        """Return a page of the connections of all nodes."""
        refusal = self.check_all(caller)
        if refusal is not None:
            return refusal
        page = await self._directory.connections(query)
        return self.sessions.refusal(caller) or page

    async def topics(
        self, caller: Principal, query: TopicQuery
    ) -> tuple[TopicPage, ClusterStats | None]:
        """Return a page of all topics, and the stats of the other nodes if there are any.

        The page has the topics that the caller may manage, its total counts all.
        """
        cluster = await self.hub.broker.cluster_stats()
        return await self._topics.page(caller, query, cluster), cluster

    async def own_topics(self, caller: Principal, query: TopicQuery) -> TopicPage:
        """Return a page of this node's topics that the caller may manage; its total counts all."""
        return await self._topics.page(caller, query, None)


def _scoped(caller: Principal, key: str) -> str:
    """Return the idempotency key for the broker, which differs from those of all other callers.

    It is the same for all nodes, tokens and connections of a subject. All callers without a token
    or API key count as one caller.
    """
    return sha256(ascii((caller.key_name, caller.subject, key)).encode()).hexdigest()
