"""Callers without any right of a verb are refused before their body is read."""

import json
from dataclasses import replace

import pytest
from aiohttp import ClientSession

from handlers.keys import BODY_BUDGET
from hub.access import compile_patterns
from hub.body_budget import SHARE
from hub.protocol.http_requests import MAX_BATCH_BYTES
from tests.support.raw import RawClient, until
from tests.support.server import running
from tests.support.tokens import BACK_END, settings, sign

NO_RIGHT = {"/publish": "publish", "/publish/batch": "publish", "/topics": "manage"}
MANAGE_ALL = {
    401: "An API key is needed, or a token that allows manage of '#'",
    403: "The token does not allow manage of '#'",
}


@pytest.mark.parametrize("token", ["", sign(subscribe=["#"])], ids=["stranger", "subscriber"])
@pytest.mark.parametrize("path", [*NO_RIGHT, "/disconnect"])
async def test_a_caller_without_the_right_is_refused_before_its_body(path: str, token: str) -> None:
    status, text = (403, "The token does not allow") if token else (401, "A token is needed for")
    error = f"{text} {NO_RIGHT[path]}" if path in NO_RIGHT else MANAGE_ALL[status]
    credential = f"Authorization: Bearer {token}\r\n" if token else ""
    async with running(settings()) as server:
        client = await RawClient.dial(server.port)
        await client.send(
            f"POST {path} HTTP/1.1\r\nHost: test\r\n{credential}Content-Length: 60000\r\n"
            "Expect: 100-continue\r\n\r\n".encode()
        )
        head = await client.read_head()
        assert int(head.split()[1]) == status
        answer = {"error": error}
        size = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        assert json.loads(await client.read_exactly(size)) == answer
        client.close()


async def test_unfinished_batches_of_others_do_not_refuse_those_of_a_back_end() -> None:
    free = replace(settings(), anonymous_publish=compile_patterns(["free/#"]))
    length = f"Content-Length: {MAX_BATCH_BYTES}"
    head = f"POST /publish/batch HTTP/1.1\r\nHost: test\r\n{length}\r\n\r\n"
    async with running(free) as server:
        budget = server.runner.app[BODY_BUDGET]
        strangers = [await RawClient.dial(server.port) for _ in range(16)]
        for client in strangers:
            await client.send(head.encode())
        await until(lambda: budget.reserved == SHARE)
        server.hub.broker.create("t", lambda _: None)
        large = {"items": [{"topic": "t", "payload": "x" * 50_000}] * 2}
        async with (
            ClientSession(server.url, headers=BACK_END) as back_end,
            back_end.post("/publish/batch", json=large) as answer,
        ):
            assert answer.status == 200
        for client in strangers:
            client.close()
