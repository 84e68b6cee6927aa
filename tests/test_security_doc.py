"""docs/security.md: its recipes are followed, and its code issues tokens that a server accepts."""

import asyncio
import json
import os
import re
import shutil
import ssl
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import jwt
import pytest
from aiohttp import ClientSession, TCPConnector, WSServerHandshakeError, web
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from jwt.algorithms import ECAlgorithm

from tests.support.markdown import blocks, code, prose, section, table
from tests.support.nginx import nginx
from tests.support.pasted import followed, paste
from tests.support.process import ROOT, ServerProcess, server_process
from tests.support.raw import until
from tests.support.redis import free_port
from tests.support.server import running
from tests.support.tokens import SECRET, settings, sign

DOCUMENT = (ROOT / "docs/security.md").read_text()
README = (ROOT / "README.md").read_text()
KEYS = blocks(section(README, "Secure it"))[0].lines[:-1]
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
    (placed,) = (block for block in blocks(DOCUMENT) if block.tag == "nginx")
    assert placed.lines == rules()


PASTED = ["A back end publishes, everybody reads", "Users with private topics"]


def rules() -> list[str]:
    (block,) = (
        block
        for block in blocks(section(DOCUMENT, "Behind nginx with TLS"))
        if block.tag == "nginx"
    )
    return block.lines


@asynccontextmanager
async def recipe(heading: str, folder: Path, **changed: str) -> AsyncIterator[ServerProcess]:
    """Follow a recipe, after the keys of the README were made."""
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


def certificate(name: str, folder: Path) -> tuple[Path, Path]:
    """Make a certificate that signs itself; return its file and that of its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    files = folder / f"{name}.pem", folder / f"{name}.key"
    files[0].write_bytes(made.public_bytes(Encoding.PEM))
    files[1].write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return files


async def test_nginx_gives_the_address_and_logs_no_token(tmp_path: Path) -> None:
    name, token = "push.example.com", "in.the.url"
    shown, key = certificate(name, tmp_path)
    port = free_port()
    log = tmp_path / "push.log"
    changed = {"MAX_CONNECTIONS_PER_IP": "1"}
    async with recipe("Behind nginx with TLS", tmp_path / "secrets", **changed) as server:
        placed = (
            "\n".join(rules())
            .replace("listen 443", f"listen {port}")
            .replace("127.0.0.1:8080", f"127.0.0.1:{server.port}")
            .replace(f"/etc/ssl/{name}.pem", str(shown))
            .replace(f"/etc/ssl/{name}.key", str(key))
            .replace("/var/log/nginx/push.log", str(log))
        )
        tls = {"ssl": ssl.create_default_context(cafile=str(shown)), "server_hostname": name}
        async with nginx(tmp_path, f"{placed}\n", port):
            url = f"https://127.0.0.1:{port}"
            host = {"Host": name}
            claimed = host | {"X-Forwarded-For": "203.0.113.7"}
            async with (
                from_address("127.0.0.2", url) as ann,
                from_address("127.0.0.3", url) as bob,
                ann.ws_connect("/ws", headers=host, **tls),
                bob.ws_connect("/ws", headers=host | {"X-Forwarded-For": "203.0.113.8"}, **tls),
            ):
                with pytest.raises(WSServerHandshakeError) as refused:
                    await ann.ws_connect("/ws", headers=claimed, **tls)
                assert refused.value.status == 429
                path = f"/events?topic=t&access_token={token}"
                for headers, status in (
                    (host, 401),
                    ({"Host": "another.example.com"}, 421),
                    (host | {"Origin": "https://another.example.com"}, 403),
                ):
                    async with ann.get(path, headers=headers, **tls) as answer:
                        assert answer.status == status
            await until(lambda: log.read_text().count("GET /events") == 3)
    assert token not in log.read_text()
    assert re.search(r"(?m)^127\.0\.0\.2 \[[^]]+\] GET /events 401$", log.read_text())


def from_address(address: str, url: str) -> ClientSession:
    """Return a session whose connections come from an address of the loopback network."""
    return ClientSession(url, connector=TCPConnector(local_addr=(address, 0)))


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
    path = f"{os.environ['PATH']}:/usr/local/go/bin"
    found = shutil.which(program, path=path)
    if found is None:
        pytest.skip(f"there is no {program}")
    environ = os.environ | {"CGO_ENABLED": "0", "GO111MODULE": "off", "GOFLAGS": ""}
    result = subprocess.run(
        [found, *arguments],
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
