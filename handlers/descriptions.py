"""`GET /openapi.json` and `/asyncapi.json`: the descriptions in api/, which tools read."""

import asyncio
import hashlib
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

from aiohttp import web

from handlers.answers import answer_file
from hub.protocol.replies import encode_answer

_FOLDER: Final = Path(__file__).parents[1] / "api"


class _Description(NamedTuple):
    """A description as it is served."""

    body: bytes  # JSON
    etag: str


async def openapi(request: web.Request) -> web.Response:
    """Serve the description of HTTP."""
    return await _serve(request, "openapi.yaml")


async def asyncapi(request: web.Request) -> web.Response:
    """Serve the description of the messages of WebSockets and streams."""
    return await _serve(request, "asyncapi.yaml")


async def _serve(request: web.Request, name: str) -> web.Response:
    """Answer with a description."""
    body, etag = await asyncio.to_thread(_convert, name)
    return answer_file(request, body, "application/json", etag)


@cache
def _convert(name: str) -> _Description:
    """Return a file as JSON, converted when it is asked for the first time."""
    # Imported here, because it takes 3 MB and most servers are never asked.
    import yaml

    fields = yaml.load((_FOLDER / name).read_bytes(), Loader=yaml.CSafeLoader)
    body = encode_answer(fields)
    return _Description(body, hashlib.sha256(body).hexdigest()[:16])
