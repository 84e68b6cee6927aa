"""A publisher of numbered events, and a check that every loss is reported."""

import asyncio
from collections import Counter
from typing import Any

from tests.support.cluster import Body, Subscriber

GAP = {"reason": "GAP"}


class Stream:
    """Publishes 0, 1, 2, … to a topic until stopped; each follows the answer to the last."""

    def __init__(self, publisher: Subscriber, topic: str, pause: float = 0.005) -> None:
        self.answers: list[Body] = []
        self._publisher = publisher
        self._topic = topic
        self._pause = pause
        self._stopping = False
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        while not self._stopping:
            number = len(self.answers)
            self.answers.append(
                await self._publisher.ask("publish", topic=self._topic, payload=number)
            )
            await asyncio.sleep(self._pause)

    async def stop(self) -> None:
        """Stop after the answer to the last publish."""
        self._stopping = True
        await self._task

    def count(self, sort: str) -> int:
        """Return the number of answers of a kind: ok, degraded, or an error's code."""
        return Counter(map(sort_of, self.answers))[sort]

    async def more(self, count: int) -> None:
        """Wait for `count` more answers."""
        end = len(self.answers) + count
        await self._publisher.until(lambda: len(self.answers) >= end or self._task.done())


def sort_of(answer: Body) -> str:
    if answer["type"] == "error":
        return str(answer["error"]["code"])
    return "degraded" if answer.get("degraded") else "ok"


def gaps_told(payloads: list[Any]) -> int:
    """Return the number of reported gaps; fail on repetitions, disorder and unreported holes."""
    last, told, gaps = -1, False, 0
    for payload in payloads:
        if payload == GAP:
            assert not told, "a gap was told twice"
            told = True
            gaps += 1
        elif isinstance(payload, int):
            assert payload > last, f"{payload} after {last}"
            assert payload == last + 1 or told, (
                f"{last + 1} to {payload - 1} were lost without a report"
            )
            last, told = payload, False
    return gaps
