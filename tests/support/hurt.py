"""Random network faults."""

import asyncio
import random

from tests.support.proxy import Proxy


async def hurt(way: Proxy, seed: int, wounds: list[str], pause: float) -> None:
    """Cut, stall and delay a proxy's connections until cancelled, and record each fault.

    Pause for a random time of up to `pause` seconds before each fault.
    """
    chance = random.Random(seed)
    try:
        while True:
            await asyncio.sleep(chance.uniform(0.0, pause))
            wounds.append(chance.choice(["cut", "cut", "stall", "delay"]))
            if wounds[-1] == "cut":
                way.cut()
            elif wounds[-1] == "stall":
                way.hold()
                await asyncio.sleep(chance.uniform(0.0, 0.03))
                chance.choice([way.resume, way.cut])()
                way.resume()
            else:
                way.delay = chance.choice([0.0, 0.002])
    finally:
        way.delay = 0.0
        way.resume()
