"""Publish and subscribe to one topic, and handle each kind of item.

Run it while a server runs: python clients/python/example.py [URL]
"""

import asyncio
import sys

from broadcast_client import Deleted, Event, Lost, connect


async def main(url: str) -> None:
    """Subscribe, publish three messages, and print the items up to the third."""
    async with connect(url, client_id="example") as client:
        await client.ready()  # raises RefusedError if there is no connection after 10 seconds
        chat = client.subscribe("example/python", last_n=10)
        await chat.ready()  # from here on every event arrives, or a Lost item does
        words = ("hello", "from", "Python")
        for word in words:
            await client.publish("example/python", word)
        async for item in chat:
            match item:
                case Event(payload=payload):
                    print("event:", payload)
                    if payload == words[-1]:
                        break
                case Lost(why=why):
                    print("lost:", why, "(a real program loads its state again)")
                case Deleted(topic=topic):
                    print("deleted:", topic)
        # If the topic has a history, another process can continue from here: recover=POSITION.
        print("position:", chat.position)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:2] or ["ws://localhost:8080/ws"]))
