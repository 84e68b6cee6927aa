"""docs/security.md: its recipes are followed, and its code issues tokens that a server accepts."""

import asyncio
import json
import os
import re
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

import jwt
import pytest
from aiohttp import ClientSession, WSServerHandshakeError, web
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

from tests.support.balancers import nginx
from tests.support.markdown import blocks, code, prose, section, table
from tests.support.pasted import followed, paste
from tests.support.process import ROOT, ServerProcess, server_process
from tests.support.programs import find
from tests.support.server import running
from tests.support.tokens import SECRET, settings, sign

DOCUMENT = (ROOT / "docs/security.md").read_text()
TUTORIAL = (ROOT / "docs/tutorial.md").read_text()
KEYS = blocks(section(TUTORIAL, "Secure it"))[0].lines[:-1]
PATIENCE = 100  # seconds: Go compiles parts of its standard library once, for 25 s of a core


# --- Threats --------------------------------------------------------------------------------------


@pytest.mark.parametrize("row", table(DOCUMENT, "Threats"), ids=lambda row: row[0])
def test_a_threat_has_a_defence_and_its_tests(row: list[str]) -> None:
    assert all(row)
    files = code(row[3])
    assert files
    assert [file for file in files if not re.fullmatch(r"tests/(\w+/)?test_\w+\.py", file)] == []
    assert [file for file in files if not (ROOT / file).is_file()] == []


async def test_a_token_in_a_url_is_not_logged() -> None:
    valid, invalid = sign(), sign(secret=SECRET[::-1])
    async with (
        server_process(JWT_SECRET=SECRET, LOG_LEVEL="debug") as server,
        ClientSession(f"http://127.0.0.1:{server.port}") as session,
    ):
        for token in (valid, invalid):
            async with session.ws_connect(f"/ws?access_token={token}") as client:
                await client.send_json({"type": "auth", "token": invalid})
            async with session.get(f"/events?topic=t&access_token={token}"):
                pass
        await server.wait_for_log("refused: .*path=/events")
        server.terminate()
        await server.exit_code()
    log = "".join(server.log)
    for secret in (valid, invalid, SECRET):
        assert secret not in log
        assert secret.rpartition(".")[2] not in log


# --- Recipes --------------------------------------------------------------------------------------


def test_every_recipe_is_followed() -> None:
    headings = re.findall(r"(?m)^### (.*)$", section(DOCUMENT, "Recipes"))
    assert headings == [*PASTED, "Behind an identity provider", "Behind nginx with TLS"]


PASTED = ["A back end publishes, everybody reads", "Users with private topics"]


@asynccontextmanager
async def recipe(heading: str, folder: Path, **changed: str) -> AsyncIterator[ServerProcess]:
    """Follow a recipe, after the keys of the tutorial were made."""
    for command in KEYS:
        assert await paste(re.sub(r"\bsecrets(?=/|$)", str(folder), command), 0) == []
    async with followed(DOCUMENT, heading, folder, **changed) as server:
        yield server


@pytest.mark.parametrize("heading", PASTED)
async def test_a_recipe_works_as_pasted(heading: str, tmp_path: Path) -> None:
    async with recipe(heading, tmp_path / "secrets"):
        pass


async def test_tokens_of_an_identity_provider_are_accepted(tmp_path: Path) -> None:
    private = ec.generate_private_key(ec.SECP256R1())
    jwk = ECAlgorithm.to_jwk(private.public_key(), as_dict=True) | {"kid": "k1", "use": "sig"}
    async with serving({"keys": [jwk]}) as url:
        heading = "Behind an identity provider"
        async with (
            recipe(heading, tmp_path / "secrets", JWT_JWKS_URL=url) as server,
            ClientSession(f"http://127.0.0.1:{server.port}") as session,
        ):
            rights = {"subscribe": ["user/{sub}/#"]}
            claims = {"sub": "ann", "exp": time.time() + 600, **rights}
            for aud, status in (("broadcast", 200), ("another", 401)):
                named = claims | {"iss": "https://id.example.com/", "aud": aud}
                token = jwt.encode(named, private, "ES256", {"kid": "k1"})
                headers = {"Authorization": f"Bearer {token}"}
                async with session.get("/events?topic=user/ann/inbox", headers=headers) as answer:
                    assert answer.status == status


@asynccontextmanager
async def serving(document: Any) -> AsyncIterator[str]:
    """Serve a JSON document, and yield its URL."""

    async def answer(_: web.Request) -> web.Response:
        return web.json_response(document)

    app = web.Application()
    app.add_routes([web.get("/jwks.json", answer)])
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/jwks.json"
    finally:
        await runner.cleanup()


async def test_nginx_gives_the_address(tmp_path: Path) -> None:
    name = "push.example.com"
    heading = "Behind nginx with TLS"
    async with (
        recipe(heading, tmp_path / "secrets", MAX_CONNECTIONS_PER_IP="1") as server,
        nginx(tmp_path, [server.port]) as balancer,
        balancer.session("127.0.0.2") as ann,
        balancer.session("127.0.0.3") as bob,
    ):
        host = {"Host": name}
        claimed = host | {"X-Forwarded-For": "203.0.113.7"}
        async with (
            ann.ws_connect("/ws", headers=host),
            bob.ws_connect("/ws", headers=host | {"X-Forwarded-For": "203.0.113.8"}),
        ):
            with pytest.raises(WSServerHandshakeError) as refused:
                await ann.ws_connect("/ws", headers=claimed)
            assert refused.value.status == 429
            for headers, status in (
                (host, 401),
                ({"Host": "another.example.com"}, 421),
                (host | {"Origin": "https://another.example.com"}, 403),
            ):
                path = "/events?topic=t&access_token=in.the.url"
                async with ann.get(path, headers=headers) as answer:
                    assert answer.status == status


# --- Issue tokens ---------------------------------------------------------------------------------

EXAMPLES = {
    heading: "\n".join(block.lines)
    for heading, block in zip(
        re.findall(r"(?m)^(\w+)[^\n]*:$", prose(section(DOCUMENT, "Issue tokens"))),
        blocks(section(DOCUMENT, "Issue tokens")),
        strict=True,
    )
}


class Answer:
    """A stand-in for the response of Django and FastAPI."""

    def __init__(self, text: str = "", content_type: str = "") -> None:
        self.text = text
        self.content_type = content_type
        self.headers: dict[str, str] = {}


class Routes:
    """A stand-in for the application of FastAPI."""

    def get(self, path: str, response_class: object) -> Any:
        assert (path, response_class) == ("/token", "PlainTextResponse")
        return lambda handler: handler


def by_django() -> str:
    class Visitor:
        pk = "ann"

    class Visit:
        user = Visitor

    names = {"HttpResponse": Answer, "login_required": lambda it: it, "never_cache": lambda it: it}
    answer = defined(EXAMPLES["Django"], **names)(Visit)
    assert answer.content_type == "text/plain"
    return str(answer.text)


def by_fastapi() -> str:
    names = {"Annotated": Annotated, "Depends": lambda it: it, "Response": Answer}
    names |= {"app": Routes(), "PlainTextResponse": "PlainTextResponse", "current_user": ""}
    answer = Answer()
    token = defined(EXAMPLES["FastAPI"], **names)("ann", answer)
    assert answer.headers == {"Cache-Control": "no-store"}
    return str(token)


def defined(source: str, **names: Any) -> Any:
    """Run a Python example, and return its function `token`."""
    scope = {"jwt": jwt, "os": os, "time": time, **names}
    exec(source, scope)
    return scope["token"]


NODE = """
import { createHmac } from "node:crypto";
let handler;
const app = { get: (path, given) => { handler = given; } };
%s
const headers = {};
const res = {
  set(name, value) { headers[name] = value; return res; },
  type() { return res; },
  send(text) { console.log(JSON.stringify([headers["Cache-Control"], text])); },
};
handler({ user: { id: "ann" } }, res);
"""

GO = """package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"os"
	"time"
)

%s

func main() { os.Stdout.WriteString(token("ann")) }
"""


def by_express(folder: Path) -> str:
    (folder / "token.mjs").write_text(NODE % EXAMPLES["Express"])
    caching, token = json.loads(printed(folder, "node", "token.mjs"))
    assert caching == "no-store"
    return str(token)


def by_go(folder: Path) -> str:
    (folder / "token.go").write_text(GO % EXAMPLES["Go"])
    return printed(folder, "go", "run", "token.go")


def printed(folder: Path, program: str, *arguments: str) -> str:
    """Return the output of a program."""
    environ = os.environ | {"CGO_ENABLED": "0", "GO111MODULE": "off", "GOFLAGS": ""}
    result = subprocess.run(
        [find(program), *arguments],
        cwd=folder,
        env=environ,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_every_example_is_run() -> None:
    assert list(EXAMPLES) == ["Django", "FastAPI", "Express", "Go"]


@pytest.mark.parametrize("framework", EXAMPLES)
async def test_the_token_of_an_example_is_accepted(
    framework: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JWT_SECRET", SECRET)
    if framework in ("Django", "FastAPI"):
        token = by_django() if framework == "Django" else by_fastapi()
    else:
        issue = by_express if framework == "Express" else by_go
        token = await asyncio.to_thread(issue, tmp_path)
    claims = jwt.decode(token, SECRET, ["HS256"])
    assert 590 < claims["exp"] - time.time() <= 600
    headers = {"Authorization": f"Bearer {token}"}
    async with (
        running(settings()) as server,
        ClientSession(server.url, headers=headers) as session,
    ):
        for topic, status in (
            ("user/ann/inbox", 200),
            ("room/7", 200),
            ("user/bob/inbox", 403),
        ):
            async with session.get(f"/events?topic={topic}") as answer:
                assert answer.status == status, topic
        for topic, status in (("room/7/ann", 404), ("room/7/bob", 403), ("user/ann/inbox", 403)):
            body = {"topic": topic, "payload": 1}
            async with session.post("/publish", json=body) as answer:
                assert answer.status == status, topic
