"""A topic's history by REST and WebSocket, also on a server that is not subscribed to it."""

import asyncio
from typing import Any

from aiohttp import ClientSession

from tests.support.server import two_that_remember


async def test_history_is_the_same_on_every_server(address: str, prefix: str) -> None:
    async with two_that_remember(address, prefix) as (here, there):
        holder = await here.ws_connect("/ws?client_id=holder")
        await holder.send_json({"type": "subscribe", "topic": "a/b"})
        epoch = (await holder.receive_json())["epoch"]
        for number in range(7):
            await there.post("/publish", json={"topic": "a/b", "payload": number})

        async def history(session: ClientSession, **query: Any) -> tuple[int, Any]:
            async with session.get("/topics/a%2Fb/history", params=query) as answer:
                body = await answer.json()
                events = body.get("events", ())
                return answer.status, [it["message"]["payload"] for it in events] or body

        since = {"since_epoch": epoch}
        for session in (here, there):
            assert await history(session) == (200, [2, 3, 4, 5, 6])
            assert await history(session, **since, since_offset=4, limit=2) == (200, [4, 5])
            assert await history(session, **since, since_offset=5, reverse="true") == (200, [3, 2])
            status, body = await history(session, since_epoch="other", since_offset=4)
            assert (status, body["epoch"], body["offset"]) == (410, epoch, 7)
            status, body = await history(session, **since, since_offset=1)
            assert (status, body["epoch"], body["offset"]) == (410, epoch, 7)
        waiting = [
            asyncio.create_task(history(session, wait=30, **more))
            for session in (here, there)
            for more in ({}, {**since, "since_offset": 7})
        ]
        while not all(task.done() for task in waiting):
            await there.post("/publish", json={"topic": "a/b", "payload": "new"})
            await asyncio.wait(waiting, timeout=0.1)
        for status, said in [await task for task in waiting]:  # one event, or several
            assert (status, set(said)) == (200, {"new"})


async def test_client_recovers_on_another_server(address: str, prefix: str) -> None:
    async with two_that_remember(address, prefix) as (here, there):
        async with here.ws_connect("/ws?client_id=me") as socket:
            await socket.send_json({"type": "subscribe", "topic": "t"})
            ack = await socket.receive_json()
            await here.post("/publish", json={"topic": "t", "payload": 0})
            heard = await socket.receive_json()
        for number in (1, 2):
            async with there.post("/publish", json={"topic": "t", "payload": number}) as answer:
                assert (await answer.json())["offset"] == number + 1
        socket = await there.ws_connect("/ws?client_id=me")
        position = {"epoch": ack["epoch"], "offset": heard["offset"]}
        await socket.send_json({"type": "subscribe", "topic": "t", "recover": position})
        ack = await socket.receive_json()
        assert (ack["recovered"], ack["offset"]) == (True, 3)
        events = [await socket.receive_json() for _ in range(2)]
        assert [(it["offset"], it["message"]["payload"]) for it in events] == [(2, 1), (3, 2)]
