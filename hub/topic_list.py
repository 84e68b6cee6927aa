"""Pages of topics, in the order of their names.

State: a lock. A server may have hundreds of thousands of topics, and examining all of them takes
too long for one tick. It is done in slices, for one request at a time.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from itertools import islice
from typing import Final, NamedTuple

from hub.brokers.base import ClusterStats
from hub.hub import Hub
from hub.protocol.http_requests import TopicQuery

SLICE: Final = 10_000  # topics examined in one tick: 2 to 8 ms


class TopicPage(NamedTuple):
    """A page of topics, and the number of all topics."""

    total: int  # number of all topics, on this page or not
    topics: dict[str, int]  # number of subscribers by topic
    next: str  # the page's last topic if more topics follow, else empty


class TopicList:
    """Lists the topics of this node and of the other nodes."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._one_at_a_time = asyncio.Lock()  # else each request would take a slice in every tick

    async def page(
        self, query: TopicQuery, cluster: ClusterStats | None, may_see: Callable[[str], bool]
    ) -> TopicPage:
        """Return the requested page, with the topics of the other nodes if `cluster` is given.

        Topics are on a page if `may_see` returns True for them; the total has all.
        """
        hub = self._hub
        others = {} if cluster is None else cluster.topics
        kept: list[str] = []
        async with self._one_at_a_time:
            names = hub.topic_names()
            total = len(names)
            async for part in _slices(names):
                kept = _first(kept, part, query, may_see)
            async for part in _slices(others):
                theirs = [name for name in part if not hub.has_topic(name)]
                total += len(theirs)
                kept = _first(kept, theirs, query, may_see)
        page = kept[: query.limit]
        return TopicPage(
            total,
            {name: hub.subscriber_count(name) + others.get(name, 0) for name in page},
            page[-1] if len(kept) > query.limit else "",
        )


async def _slices(names: Iterable[str]) -> AsyncIterator[list[str]]:
    """Yield all names in slices, and end the tick after each full slice."""
    rest = iter(names)
    while part := list(islice(rest, SLICE)):
        yield part
        if len(part) == SLICE:
            await asyncio.sleep(0)


def _first(
    kept: list[str], found: Iterable[str], query: TopicQuery, may_see: Callable[[str], bool]
) -> list[str]:
    """Return the first matching names of both lists that the caller may see, sorted.

    The result has one name more than the limit if further names match.
    """
    if len(kept) > query.limit:
        last = kept[-1]
        found = [name for name in found if name < last]
    fitting = [it for it in found if it > query.after and it.startswith(query.prefix)]
    return list(islice(filter(may_see, sorted(kept + fitting)), query.limit + 1))
