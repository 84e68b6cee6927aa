"""nginx with the `http` rules of a document."""

import asyncio
import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

SBIN = os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin"
CONFIGURATION = """daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 1000; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
{rules}}}
"""


@asynccontextmanager
async def nginx(folder: Path, rules: str, port: int) -> AsyncIterator[None]:
    """Run nginx with these rules until the end of the block; it accepts connections on `port`."""
    program = shutil.which("nginx", path=SBIN)
    if program is None:
        assert "CI" not in os.environ, "install nginx"
        pytest.skip("there is no nginx")
    config = folder / "nginx.conf"
    config.write_text(CONFIGURATION.format(folder=folder, rules=rules))
    errors = folder / "error.log"
    process = await asyncio.create_subprocess_exec(
        program, "-c", str(config), "-e", str(errors), stderr=subprocess.DEVNULL
    )
    try:
        async with asyncio.timeout(10):
            while not await _accepts(port):
                assert process.returncode is None, errors.read_text()
                await asyncio.sleep(0.01)
        yield
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def _accepts(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except ConnectionRefusedError:
        return False
    writer.close()
    return True
