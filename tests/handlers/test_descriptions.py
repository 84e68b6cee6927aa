"""`GET /openapi.json` and `/asyncapi.json`: what is served, caching, and who may read them."""

import json
import subprocess
import sys

import aiohttp
import pytest
from aiohttp import ClientSession

from hub.origins import parse_origins
from hub.settings import Settings
from tests.support.access import serving
from tests.support.description import ASYNCAPI, OPENAPI
from tests.support.process import ROOT
from tests.support.server import Running, running

DESCRIPTIONS = {"/openapi.json": OPENAPI, "/asyncapi.json": ASYNCAPI}


@pytest.mark.parametrize("path", DESCRIPTIONS)
async def test_a_description_is_the_file_as_json(server: Running, path: str) -> None:
    async with ClientSession(server.url) as session, session.get(path) as answer:
        assert answer.status == 200
        assert answer.headers["Content-Type"] == "application/json"
        assert json.loads(await answer.read()) == DESCRIPTIONS[path]


@pytest.mark.parametrize("path", DESCRIPTIONS)
async def test_a_description_is_sent_again_only_if_it_has_changed(
    server: Running, path: str
) -> None:
    async with ClientSession(server.url) as session:
        async with session.get(path) as answer:
            etag = answer.headers["ETag"]
            assert answer.headers["Cache-Control"] == "no-cache"
        for known in (etag, f"W/{etag}", f'"other", {etag}', "*"):
            async with session.get(path, headers={"If-None-Match": known}) as answer:
                assert answer.status == 304
                assert (answer.headers["ETag"], await answer.read()) == (etag, b"")
        for unknown in ('"other"', "malformed", ""):
            async with session.get(path, headers={"If-None-Match": unknown}) as answer:
                assert answer.status == 200


@pytest.mark.parametrize("path", DESCRIPTIONS)
async def test_head_has_the_headers_alone(server: Running, path: str) -> None:
    async with ClientSession(server.url) as session:
        async with session.get(path) as answer:
            size = len(await answer.read())
        async with session.head(path) as answer:
            assert answer.status == 200
            assert answer.headers["Content-Length"] == str(size)


@pytest.mark.parametrize("path", DESCRIPTIONS)
async def test_a_description_needs_no_credential(path: str) -> None:
    async with serving() as caller:
        assert await caller.get(path, {}) == 200


@pytest.mark.parametrize("path", DESCRIPTIONS)
async def test_pages_of_allowed_origins_may_read_a_description(path: str) -> None:
    origin = "https://tools.example"
    settings = Settings(allowed_origins=parse_origins(origin))
    async with running(settings) as server, aiohttp.ClientSession(server.url) as session:
        async with session.get(path, headers={"Origin": origin}) as answer:
            assert answer.status == 200
            assert answer.headers["Access-Control-Allow-Origin"] == origin
        async with session.get(path, headers={"Origin": "https://other.example"}) as answer:
            assert answer.status == 403


def test_a_server_that_is_not_asked_does_not_load_what_reads_yaml() -> None:
    """It takes 3 MB of memory, and 10 ms of the start."""
    source = "import server, sys; print('yaml' in sys.modules)"
    ran = subprocess.run(
        [sys.executable, "-c", source], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert ran.stdout == "False\n"
