"""Bursts of publishes wait for their subscribers, and for no longer than they may."""

import asyncio

from hub.delivery.pacing import PART_BYTES, Pacing
from hub.delivery.topic import Topic


async def test_a_topic_that_others_publish_to_without_pause_holds_a_burst_to_its_deadline() -> None:
    topic = Topic("t")
    topic.batch = [b"x" * PART_BYTES]  # there is as much in every turn
    async with asyncio.timeout(5):
        await Pacing().drain([topic], asyncio.get_running_loop().time())
