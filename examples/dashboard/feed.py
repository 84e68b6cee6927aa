"""Feed a live dashboard: publish the figures of a (made-up) shop every second.

Shows: a Python program that publishes with `broadcast_client`, and that survives restarts of the
server without a line of its own. Each message has the whole state, so the newest one is enough.
"""

import asyncio
import random
import sys

from broadcast_client import RefusedError, connect


async def main(pause: float = 1.0) -> None:
    """Publish until Ctrl-C, every `pause` seconds."""
    usual = {"visitors": 420, "orders": 36, "latency": 85}
    figures = dict[str, float](usual)
    async with connect("ws://localhost:8080/ws") as client:
        client.subscribe("shop", lambda _: None)  # a topic exists while it has a subscriber
        while True:
            for name, value in usual.items():
                figures[name] += (value - figures[name]) / 20 + random.gauss(0, value / 25)
            try:
                await client.publish("shop", {name: round(it) for name, it in figures.items()})
            except RefusedError as error:
                print("not published:", error, file=sys.stderr)
            await asyncio.sleep(pause)


if __name__ == "__main__":
    asyncio.run(main(*map(float, sys.argv[1:])))
