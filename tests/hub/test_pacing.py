"""Bursts of publishes wait for their subscribers until a deadline."""

import asyncio

from hub.delivery.pacing import PART_BYTES, Pacing
from hub.delivery.topic import Topic
from tests.support.patience import PATIENCE


async def test_a_topic_with_constant_publishes_delays_a_burst_to_its_deadline() -> None:
    topic = Topic("t")
    topic.batch = [b"x" * PART_BYTES]  # in every turn
    async with asyncio.timeout(PATIENCE):
        await Pacing().drain([topic], asyncio.get_running_loop().time())
