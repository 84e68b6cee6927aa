"""A small chat with oneself: what a program does with each kind of item.

Run it beside a server: python clients/python/example.py [URL]
"""

import asyncio
import sys

from broadcast_client import Deleted, Event, Lost, connect


async def main(url: str) -> None:
    """Subscribe, publish three messages, and show what comes up to the third."""
    async with connect(url, client_id="example") as client:
        chat = client.subscribe("example/python", last_n=10)
        await chat.ready()  # from here on nothing is missed, or it is told
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
                    print("lost:", why, "(a real program loads its state anew)")
                case Deleted(topic=topic):
                    print("deleted:", topic)
        # With a history on the server, another process could go on from here: recover=POSITION.
        print("position:", chat.position)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:2] or ["ws://localhost:8080/ws"]))
