"""`GET /openapi.json` and `/asyncapi.json`: the descriptions in api/, which tools read."""

import asyncio
import hashlib
from functools import cache
from http import HTTPStatus
from pathlib import Path
from typing import Final, NamedTuple

from aiohttp import ETag, hdrs, web

from handlers.answers import Answer
from hub.protocol.replies import encode_answer

_FOLDER: Final = Path(__file__).parents[1] / "api"
_ANY: Final = "*"  # in If-None-Match


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
    """Answer with a description, or with 304 if the client has it already."""
    body, etag = await asyncio.to_thread(_convert, name)
    known = {it.value for it in request.if_none_match or ()}
    if etag in known or _ANY in known:
        response = web.Response(status=HTTPStatus.NOT_MODIFIED)
    else:
        response = Answer(body=body, content_type="application/json")
    response.etag = ETag(etag)
    response.headers[hdrs.CACHE_CONTROL] = "no-cache"
    return response


@cache
def _convert(name: str) -> _Description:
    """Return a file as JSON, converted when it is asked for the first time."""
    # Only here: it takes 3 MB, and most servers are never asked.
    import yaml

    fields = yaml.load((_FOLDER / name).read_bytes(), Loader=yaml.CSafeLoader)
    body = encode_answer(fields)
    return _Description(body, hashlib.sha256(body).hexdigest()[:16])
