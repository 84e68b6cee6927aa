"""The image that buildah makes of the Dockerfile, run read-only and without rights."""

import json
import re
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hub.version import VERSION
from tests.support.frames import CLOSE, client_frame
from tests.support.http import get
from tests.support.image import Image, built
from tests.support.patience import PATIENCE
from tests.support.raw import RawClient
from tests.support.redis import free_port

MAX_SIZE = 150_000_000  # bytes that the image adds to its base


@pytest.fixture(scope="module")
def image(workshop: Path, debian: Path) -> Iterator[Image]:
    with built(workshop / "buildah", debian) as it:
        yield it


@contextmanager
def serving(image: Image) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Run the entry point on a free port until the end of the block."""
    port = free_port()
    with image.run(*image.config["Entrypoint"], HOST="127.0.0.1", PORT=str(port)) as process:
        guard = threading.Timer(PATIENCE, process.kill)
        guard.start()
        try:
            assert process.stderr is not None
            log = []
            for line in process.stderr:
                log.append(line)
                if f"listening on http://127.0.0.1:{port}" in line:
                    break
            else:
                pytest.fail("the server ended before it listened:\n" + "".join(log))
            yield process, port
        finally:
            process.kill()
            guard.cancel()


def status_of(process: subprocess.Popen[str]) -> dict[str, str]:
    text = Path(f"/proc/{process.pid}/status").read_text()
    return dict(re.findall(r"(?m)^(\w+):\t(.*)$", text))


def healthy(image: Image, port: int) -> bool:
    """Run the health check as an engine does."""
    kind, *command = image.config["Healthcheck"]["Test"]
    assert kind == "CMD"
    with image.run(*command, PORT=str(port)) as process:
        process.communicate(timeout=PATIENCE)
    return process.returncode == 0


def test_the_server_answers_and_is_healthy(image: Image) -> None:
    with serving(image) as (_, port):
        status, body = get(port, "/health")
        assert (status, json.loads(body)["status"]) == (200, "ok")
        for path in ("/", "/console/app.js", "/client.js", "/openapi.json"):
            assert get(port, path)[0] == 200
        assert healthy(image, port)
    assert not healthy(image, port)


def test_the_server_has_no_rights(image: Image) -> None:
    with serving(image) as (process, _):
        status = status_of(process)
    assert status["Uid"].split() == ["1001"] * 4
    assert status["Gid"].split() == ["1001"] * 4
    assert status["Groups"].strip() == ""
    assert {int(status[f"Cap{kind}"], 16) for kind in ("Inh", "Prm", "Eff", "Bnd", "Amb")} == {0}
    assert status["NoNewPrivs"] == "1"


def test_the_root_of_these_tests_cannot_be_written(image: Image) -> None:
    with image.run("python", "-c", "open('/tmp/x', 'w')") as process:
        _, error = process.communicate(timeout=PATIENCE)
    assert "Read-only file system" in error


async def test_sigterm_drains_the_clients(image: Image) -> None:
    with serving(image) as (process, port):
        client = await RawClient.connect(port)
        await client.say({"type": "subscribe", "topic": "t"})
        assert (await client.hear())["type"] == "ack"
        process.send_signal(getattr(signal, image.config["StopSignal"]))
        assert (await client.hear())["reason"] == "SHUTDOWN"
        assert await client.hear() == ("close", 1001, "going_away")
        await client.send(client_frame(CLOSE, b"\x03\xe9"))
        assert await client.hear() is None
        client.close()
        _, log = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, log


def test_the_image_keeps_what_the_dockerfile_says(image: Image) -> None:
    config = image.config
    assert config["Labels"]["org.opencontainers.image.version"] == VERSION
    assert config["User"] == "1001:1001"
    assert list(config["ExposedPorts"]) == ["8080/tcp"]
    assert config["Healthcheck"]["Interval"] == 30_000_000_000  # nanoseconds


def test_the_image_adds_little_and_no_tools(image: Image) -> None:
    programs = {path.name for path in (image.root / "venv/bin").iterdir()}
    assert not {it for it in programs if it.startswith(("pip", "uv"))}
    assert not (image.root / "build").exists()
    files = [path for top in ("app", "venv") for path in (image.root / top).rglob("*")]
    size = sum(path.lstat().st_size for path in files)
    assert size < MAX_SIZE, f"{size:,} bytes"
