"""Topics in the order of their names, a page at a time.

State: whose turn it is. A server may have hundreds of thousands of topics, and to look at them
all takes longer than the other clients may wait: it is done in slices, for one request at a time.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable
from itertools import islice
from typing import Final, NamedTuple

from hub.brokers.base import ClusterFigures
from hub.hub import Hub
from hub.protocol.http_requests import Listed

SLICE: Final = 10_000  # topics that one turn of the loop looks at: 2 to 8 ms


class TopicPage(NamedTuple):
    """Some topics, and how many there are."""

    total: int  # of all topics, whatever was asked for
    topics: dict[str, int]  # the page: subscribers by topic
    next: str  # the page's last topic, where there are more behind it; else empty


class TopicList:
    """Lists the topics of a node, and of the others beside it."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._one_at_a_time = asyncio.Lock()  # or each of them would have its slice in every turn

    async def page(self, listed: Listed, cluster: ClusterFigures | None) -> TopicPage:
        """The page that is asked for; with the cluster's figures, their topics are among them."""
        hub = self._hub
        others = {} if cluster is None else cluster.topics
        kept: list[str] = []
        async with self._one_at_a_time:
            names = hub.topic_names()
            total = len(names)
            async for part in _slices(names):
                kept = _first(kept, part, listed)
            async for part in _slices(others):
                theirs = [name for name in part if not hub.has_topic(name)]
                total += len(theirs)
                kept = _first(kept, theirs, listed)
        page = kept[: listed.limit]
        return TopicPage(
            total,
            {name: hub.subscribers(name) + others.get(name, 0) for name in page},
            page[-1] if len(kept) > listed.limit else "",
        )


async def _slices(names: Iterable[str]) -> AsyncIterator[list[str]]:
    """All names, some in each turn of the loop."""
    rest = iter(names)
    while part := list(islice(rest, SLICE)):
        yield part
        if len(part) == SLICE:
            await asyncio.sleep(0)


def _first(kept: list[str], found: Iterable[str], listed: Listed) -> list[str]:
    """The first of both that are asked for, and one more, which tells that there are more."""
    if len(kept) > listed.limit:
        last = kept[-1]
        found = [name for name in found if name < last]
    fitting = [it for it in found if it > listed.after and it.startswith(listed.prefix)]
    return sorted(kept + fitting)[: listed.limit + 1]
