"""A server that makes one mistake, named by its argument: what the load generator must notice."""

import asyncio
import json
import os
import sys

from websockets.asyncio.server import ServerConnection, serve

FAULT = sys.argv[1]
MEMBERS: dict[str, list[ServerConnection]] = {}
HELD: dict[ServerConnection, str] = {}  # for "swap": an event that waits for the next one
published = 0


async def deliver(member: ServerConnection, event: str, members: list[ServerConnection]) -> None:
    """Pass an event on, but for the third publish to the first subscriber."""
    if member in HELD:
        await member.send(event)
        await member.send(HELD.pop(member))
        return
    if FAULT == "none" or published != 3 or member is not members[0]:
        await member.send(event)
    elif FAULT == "repeat":
        await member.send(event)
        await member.send(event)
    elif FAULT == "swap":
        HELD[member] = event
    elif FAULT == "misroute":
        await member.send(event)
        everybody = [one for some in MEMBERS.values() for one in some]
        await next(one for one in everybody if one not in members).send(event)
    elif FAULT == "close":
        await member.close(1011)


async def handler(connection: ServerConnection) -> None:
    global published
    async for text in connection:
        command = json.loads(text)
        members = MEMBERS.setdefault(command["topic"], [])
        if command["type"] == "subscribe":
            members.append(connection)
        else:
            published += 1
            event = json.dumps({"topic": command["topic"], "message": command["message"]})
            for member in members:
                await deliver(member, event, members)
        await connection.send('{"type":"ack"}')


async def main() -> None:
    async with serve(handler, "127.0.0.1", int(os.environ["PORT"]), compression=None):
        await asyncio.Future()


asyncio.run(main())
