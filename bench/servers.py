"""The servers that are measured: ours, the floor in C, and the peers; how each starts and ends."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

BENCH = Path(__file__).parent
ROOT = BENCH.parent
BUILD = BENCH / "build"
SERVER_CORE, GENERATOR_CORE = 0, 1
START = 20.0  # seconds that a server may take until its port accepts


@dataclass(frozen=True)
class Server:
    """One server: what starts it, and what it can be asked."""

    name: str
    title: str
    run: list[str]
    folder: Path = ROOT
    environ: dict[str, str] = field(default_factory=dict)
    socketio: bool = False  # speaks socket.io's packets
    rest: bool = False  # takes POST /publish
    missing: str = ""  # why it can't be measured, or empty


def ours(root: Path = ROOT, name: str = "ours") -> Server:
    """The server of a source tree, run by this Python."""
    environ = {"HOST": "127.0.0.1", "LOG_LEVEL": "warning"}
    return Server(name, "this server", [sys.executable, "server.py"], root, environ, rest=True)


def floors() -> list[Server]:
    """What can't be undercut: a loop of send(), and the same with the frames of a read joined."""
    floor = str(BUILD / "floor")
    return [
        Server("floor", "C floor", [floor]),
        Server("floor-joined", "C floor, joined", [floor, "--join"]),
    ]


def build() -> None:
    """Compile the load generator and the floor."""
    BUILD.mkdir(exist_ok=True)
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        sys.exit("a C compiler is needed: install gcc (on Debian and Ubuntu: apt-get install gcc)")
    for name in ("loadgen", "floor"):
        source = BENCH / "load" / f"{name}.c"
        command = [compiler, "-O2", "-Wall", "-std=gnu11", "-o", str(BUILD / name), str(source)]
        subprocess.run(command, check=True)


def peers(names: list[str] | None = None) -> list[Server]:
    """The peers of bench/peers, installed; one that can't be is there with the reason."""
    found = []
    for path in sorted(BENCH.glob("peers/*/peer.json")):
        described = json.loads(path.read_text())
        if names is None or described["name"] in names:
            found.append(_peer(path.parent, described))
    return found


def _peer(folder: Path, described: dict[str, object]) -> Server:
    print(f"installing {described['title']}", flush=True)
    return Server(
        name=str(described["name"]),
        title=str(described["title"]),
        run=list(described["run"]),  # type: ignore[call-overload]
        folder=folder,
        socketio=described["protocol"] == "socketio",
        rest=bool(described["rest"]),
        missing=_install(folder, described),
    )


def _install(folder: Path, described: dict[str, object]) -> str:
    """Run the peer's own install commands; the reason where it can't be had."""
    for tool in described["needs"]:  # type: ignore[attr-defined]
        if shutil.which(tool) is None:
            return f"{tool} is not installed"
    for command in described["install"]:  # type: ignore[attr-defined]
        done = subprocess.run(command, shell=True, cwd=folder, capture_output=True, text=True)
        if done.returncode:
            last = (done.stderr or done.stdout).strip().splitlines()[-1:]
            return f"`{command}` failed: {''.join(last)[:200]}"
    return ""


@contextmanager
def running(server: Server, pinned: bool = True) -> Iterator[tuple[int, int]]:
    """Start a server on a free port; its port and process id. It is ended in the end."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    command = (["taskset", "-c", str(SERVER_CORE)] if pinned else []) + server.run
    process = subprocess.Popen(
        command,
        cwd=server.folder,
        env={**os.environ, **server.environ, "PORT": str(port)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    )
    try:
        _wait_for(port, process)
        yield port, process.pid
    finally:
        process.kill()
        process.wait()
        if process.stderr:
            process.stderr.close()


def _wait_for(port: int, process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + START
    while time.monotonic() < end and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except ConnectionRefusedError:
            time.sleep(0.02)
        else:
            return
    process.kill()
    said = process.stderr.read() if process.stderr else ""
    raise RuntimeError(f"the server did not start: {said.strip()[-300:]}")
