"""Pages of topics, in the order of their names.

A server may have hundreds of thousands of topics, and examining all of them takes too long for one
tick. So they are examined in slices, for at most two requests at a time: one of a caller that may
manage every topic, and one of another caller, for which each name is compared with patterns.

State: the two locks that let requests wait for each other.
"""

import asyncio
from typing import Final, NamedTuple

from hub.access import Principal, Verb
from hub.brokers.base import ClusterStats
from hub.hub import Hub
from hub.protocol.list_requests import TopicQuery
from hub.slices import slices

# Topics examined in one tick, divided by the cost of the caller's patterns: 2 to 8 ms.
SLICE: Final = 10_000
_MANAGE: Final = Verb.MANAGE


class TopicPage(NamedTuple):
    """A page of topics, and the number of all topics."""

    total: int  # number of all topics, on this page or not
    topics: dict[str, int]  # number of subscribers by topic
    next: str  # the page's last topic if more topics follow, else empty


class TopicList:
    """Lists the topics of this node and of the other nodes."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        # Without these locks each request would take a slice in every tick.
        self._for_all = asyncio.Lock()
        self._for_limited = asyncio.Lock()

    async def page(
        self, caller: Principal, query: TopicQuery, cluster: ClusterStats | None
    ) -> TopicPage:
        """Return the requested page of the topics that the caller may manage; the total counts all.

        Args:
            caller: whose rights select the topics.
            query: the page.
            cluster: the stats of the other nodes; None for the topics of this node alone.
        """
        hub, patterns = self._hub, caller.rights.manage
        others = {} if cluster is None else cluster.topics
        kept: list[str] = []
        async with self._for_all if caller.manages_all else self._for_limited:
            names = hub.topic_names() if patterns else []
            total = len(names) if patterns else hub.topic_count
            size = max(1, SLICE // patterns.cost)
            async for part in slices(names, size):
                kept = _first(kept, part, query, caller)
            async for part in slices(others, size):
                theirs = [name for name in part if not hub.has_topic(name)]
                total += len(theirs)
                if patterns:
                    kept = _first(kept, theirs, query, caller)
        page = kept[: query.limit]
        return TopicPage(
            total,
            {name: hub.subscriber_count(name) + others.get(name, 0) for name in page},
            page[-1] if len(kept) > query.limit else "",
        )


def _first(kept: list[str], found: list[str], query: TopicQuery, caller: Principal) -> list[str]:
    """Return the first names of both lists that match and that the caller may manage, sorted.

    The result has one name more than the limit if further names match.
    """
    if len(kept) > query.limit:
        last = kept[-1]
        found = [name for name in found if name < last]
    fitting = [it for it in found if it > query.after and it.startswith(query.prefix)]
    if not caller.manages_all:
        fitting = [it for it in fitting if caller.may(_MANAGE, it)]
    return sorted(kept + fitting)[: query.limit + 1]
