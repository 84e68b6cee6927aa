"""Load balancers with the files of deploy/, in front of the servers of a test.

Only ports, paths, names and the list of servers are replaced, and the timeouts if a test says so.
"""

import asyncio
import getpass
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO

import aiohttp

from tests.support.certificate import make_certificate
from tests.support.eventually import eventually
from tests.support.patience import PATIENCE
from tests.support.process import ROOT
from tests.support.programs import find
from tests.support.redis import free_port

DEPLOY = ROOT / "deploy"
NAME = "localhost"  # of the certificate
TIMEOUT = 90  # seconds that a connection may be silent, in the files of nginx and HAProxy
# nginx's own paths for bodies are root's.
_TEMPORARY = "".join(
    f"{kind}_temp_path {{folder}}/{kind};\n"
    for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
)


@dataclass
class Balancer:
    """A running load balancer.

    Attributes:
        folder: that of its files.
        port: the port for clients.
        redirect: the port whose requests are redirected to HTTPS.
        certificate: the file of the certificate to trust; None without TLS.
        logs: the file of its access log.
        process: its master process.
        line: a pattern of what it logs for a server that has answered 200; PORT is the server's.
        list_servers: replaces the servers in its files, given by their ports.
        reload: makes it read its files again.
    """

    folder: Path
    port: int
    redirect: int
    certificate: Path | None
    logs: Path
    process: subprocess.Popen[bytes]
    line: str
    list_servers: Callable[[Sequence[int]], None]
    reload: Callable[[], None]

    @property
    def url(self) -> str:
        return f"http{'s' if self.certificate else ''}://{NAME}:{self.port}"

    @cached_property
    def tls(self) -> ssl.SSLContext | None:
        """What trusts the certificate; None without TLS."""
        return self.certificate and ssl.create_default_context(cafile=self.certificate)

    def session(self, source: str = "127.0.0.1") -> aiohttp.ClientSession:
        """Return a session whose connections come from an address of the loopback network."""
        connector = aiohttp.TCPConnector(
            ssl=self.tls or False, local_addr=(source, 0), family=socket.AF_INET, limit=0
        )
        return aiohttp.ClientSession(self.url, connector=connector)

    def log(self) -> str:
        """Return all that it has logged."""
        return self.logs.read_text()

    def served(self, port: int, start: int) -> bool:
        """Return whether a server has answered 200, in the log from the character `start` on."""
        return re.search(self.line.replace("PORT", str(port)), self.log()[start:]) is not None


# Starts a balancer with its files in a folder, in front of servers given by their ports.
Start = Callable[..., AbstractAsyncContextManager[Balancer]]


@asynccontextmanager
async def nginx(
    folder: Path, servers: Sequence[int], *, timeout: int = TIMEOUT, plain: bool = False
) -> AsyncIterator[Balancer]:
    """Run nginx with `deploy/nginx`.

    Args:
        folder: for its files and logs.
        servers: the ports of the servers.
        timeout: the time in seconds that a connection may be silent.
        plain: whether plain.conf takes the place of sites/tls.conf.
    """
    port, redirect = free_port(), free_port()
    tree = folder / "nginx"
    shutil.copytree(DEPLOY / "nginx", tree)
    (tree / "tls").mkdir()
    shown, _ = make_certificate(tree / "tls", NAME)
    if plain:
        (tree / "plain.conf").replace(tree / "sites/tls.conf")
    for file in tree.glob("**/*.conf"):
        _replace(
            file,
            {
                "listen 80;": f"listen 127.0.0.1:{redirect};",
                "listen 443 ": f"listen 127.0.0.1:{port} ",
                "listen 80 ": f"listen 127.0.0.1:{port} ",
                "/var/log/nginx": str(folder),
                "/run/nginx.pid": str(folder / "nginx.pid"),
                f"{TIMEOUT}s;": f"{timeout}s;",
            },
        )
    (tree / "sites/paths.conf").write_text(_TEMPORARY.format(folder=folder))

    def list_servers(servers: Sequence[int]) -> None:
        shipped = (DEPLOY / "nginx/servers.conf").read_text()
        (tree / "servers.conf").write_text(_each(r"(?m)(^server .*\n)+", shipped, servers))

    list_servers(servers)
    arguments = ["-p", folder, "-c", tree / "nginx.conf", "-e", folder / "error.log"]
    arguments += ["-g", f"daemon off; user {getpass.getuser()};"]
    async with _running("nginx", arguments, folder / "nginx.out", port) as process:
        yield Balancer(
            folder=tree,
            port=port,
            redirect=redirect,
            certificate=None if plain else shown,
            logs=folder / "access.log",
            process=process,
            line=r"(?m) 127\.0\.0\.1:PORT 200$",
            list_servers=list_servers,
            reload=lambda: process.send_signal(signal.SIGHUP),
        )


@asynccontextmanager
async def haproxy(
    folder: Path, servers: Sequence[int], *, timeout: int = TIMEOUT
) -> AsyncIterator[Balancer]:
    """Run HAProxy with `deploy/haproxy/haproxy.cfg`."""
    port, redirect = free_port(), free_port()
    tree = folder / "haproxy"
    (tree / "tls").mkdir(parents=True)
    shown, key = make_certificate(tree / "tls", NAME)
    (tree / "tls/server.pem").write_bytes(shown.read_bytes() + key.read_bytes())
    file = tree / "haproxy.cfg"

    def list_servers(servers: Sequence[int]) -> None:
        shipped = (DEPLOY / "haproxy/haproxy.cfg").read_text()
        file.write_text(_each(r"(?m)(^    server .*\n)+", shipped, servers))
        _replace(
            file,
            {
                "bind :80\n": f"bind 127.0.0.1:{redirect}\n",
                "bind :443 ": f"bind 127.0.0.1:{port} ",
                "/etc/haproxy": str(tree),
                f"{TIMEOUT}s\n": f"{timeout}s\n",
            },
        )
        if os.getuid() != 0:  # then it cannot become another user
            _replace(file, {"    user haproxy\n    group haproxy\n": ""})

    list_servers(servers)
    logs = folder / "haproxy.log"
    async with _running("haproxy", ["-W", "-db", "-f", file], logs, port) as process:
        yield Balancer(
            folder=tree,
            port=port,
            redirect=redirect,
            certificate=shown,
            logs=logs,
            process=process,
            line=r" 200 .* 127\.0\.0\.1:PORT,",
            list_servers=list_servers,
            reload=lambda: process.send_signal(signal.SIGUSR2),
        )


@asynccontextmanager
async def caddy(
    folder: Path, servers: Sequence[int], *, aside: str = "2s"
) -> AsyncIterator[Balancer]:
    """Run Caddy with `deploy/caddy/Caddyfile`; it makes the certificate.

    `aside`: the time for which a server that failed gets no requests.
    """
    port, redirect = free_port(), free_port()
    tree = folder / "caddy"
    tree.mkdir()
    file = tree / "Caddyfile"
    admin = f"unix/{tree}/admin"
    options = f"admin {admin}", f"storage file_system {tree}", "skip_install_trust"
    options += "persist_config off", f"http_port {redirect}", f"https_port {port}"
    here = "".join(f"\t{option}\n" for option in options)

    def list_servers(servers: Sequence[int]) -> None:
        text = (DEPLOY / "caddy/Caddyfile").read_text()
        addresses = " ".join(f"127.0.0.1:{it}" for it in servers)
        text = text.replace("127.0.0.1:8080 127.0.0.1:8081", addresses)
        text = text.replace("fail_duration 2s", f"fail_duration {aside}")
        file.write_text(text.replace("push.example.com", NAME).replace("\n{\n", "\n{\n" + here, 1))

    list_servers(servers)
    logs = folder / "caddy.log"
    command = ["--config", file]
    async with _running("caddy", ["run", *command], logs, port) as process:
        program = str(process.args[0])  # type: ignore[index]
        root = tree / "pki/authorities/local/root.crt"
        await eventually(lambda: "certificate obtained successfully" in logs.read_text())
        # It is in use a moment later.
        async with asyncio.timeout(PATIENCE):
            while not await _ends_tls(port, ssl.create_default_context(cafile=root)):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        yield Balancer(
            folder=tree,
            port=port,
            redirect=redirect,
            certificate=root,
            logs=logs,
            process=process,
            line="",
            list_servers=list_servers,
            reload=lambda: subprocess.run(
                [program, "reload", *map(str, command), "--address", admin],
                check=True,
                capture_output=True,
            ),
        )


def _replace(file: Path, changes: dict[str, str]) -> None:
    text = file.read_text()
    for there, here in changes.items():
        text = text.replace(there, here)
    file.write_text(text)


def _each(lines: str, text: str, servers: Sequence[int]) -> str:
    """Return a text with a line for each server, like the first of the lines that match."""
    found = re.search(lines, text)
    assert found is not None
    first = found[0].splitlines(keepends=True)[0]
    made = (
        re.sub(r"127\.0\.0\.1:\d+", f"127.0.0.1:{port}", first).replace(" one ", f" s{port} ")
        for port in servers
    )
    return text.replace(found[0], "".join(made))


@asynccontextmanager
async def _running(
    name: str, arguments: Sequence[object], log: Path, port: int
) -> AsyncIterator[subprocess.Popen[bytes]]:
    """Run a program until the end of the block; it accepts connections on `port`."""
    with log.open("wb") as out:
        process = _spawn([find(name), *map(str, arguments)], out)
    try:
        async with asyncio.timeout(PATIENCE):
            while not await _accepts(port):
                assert process.poll() is None, _read(log)
                await asyncio.sleep(0.01)
        yield process
    finally:
        process.terminate()
        await asyncio.to_thread(process.wait, 20)


def _read(log: Path) -> str:
    return log.read_text()


def _spawn(command: list[str], out: IO[bytes]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command, stdout=out, stderr=out)


async def _ends_tls(port: int, trusted: ssl.SSLContext) -> bool:
    try:
        _, writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=trusted, server_hostname=NAME
        )
    except ssl.SSLError:
        return False
    writer.close()
    return True


async def _accepts(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except ConnectionRefusedError:
        return False
    writer.close()
    return True
