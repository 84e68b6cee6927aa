"""`GET /`, `/console/NAME` and `/client.js`: the console, its files, and the client."""

import hashlib
import html
import json
from pathlib import Path
from typing import Final, NamedTuple, Self

from aiohttp import web

from handlers.answers import Answer, answer_file
from handlers.keys import SETTINGS
from hub.settings import Settings

_ROOT: Final = Path(__file__).parents[1]
_TYPES: Final = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8"}
_SLOT: Final = b'data-access=""'  # in the page; replaced by what it must know if access is on


class _File(NamedTuple):
    """A file as it is served."""

    body: bytes
    content_type: str
    etag: str

    @classmethod
    def read(cls, path: Path) -> Self:
        body = path.read_bytes()
        return cls(body, _TYPES[path.suffix], hashlib.sha256(body).hexdigest()[:16])


_PAGE: Final = (_ROOT / "console/index.html").read_bytes()
_CLIENT: Final = _File.read(_ROOT / "clients/js/client.js")
_FILES: Final = {
    path.name: _File.read(path) for path in (_ROOT / "console").iterdir() if path.suffix in _TYPES
}

_NO_SNIFF: Final = {"X-Content-Type-Options": "nosniff"}
_HEADERS: Final = {
    **_NO_SNIFF,
    "Cache-Control": "no-cache",
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self' ws: wss:;"
        " img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
}


async def page(request: web.Request) -> web.Response:
    """Serve the page of the console."""
    settings = request.app[SETTINGS]
    body = _PAGE.replace(_SLOT, _access(settings), 1) if settings.access_on else _PAGE
    return Answer(body=body, content_type="text/html", charset="utf-8", headers=_HEADERS)


def _access(settings: Settings) -> bytes:
    """Return the page's slot, filled with settings that every client may know."""
    claims = {"iss": settings.jwt_issuer, "aud": settings.jwt_audience}  # of the page's tokens
    known = {
        "separator": settings.topic_separator,
        "subscribe": settings.anonymous_subscribe.texts(),
        "publish": settings.anonymous_publish.texts(),
        "signs": bool(settings.jwt_secret),  # whether tokens of the page can be valid
        "claims": {name: value for name, value in claims.items() if value},
    }
    return f'data-access="{html.escape(json.dumps(known))}"'.encode()


async def console_file(request: web.Request) -> web.Response:
    """Serve a script or the style of the console."""
    file = _FILES.get(request.match_info["name"])
    if file is None:
        raise web.HTTPNotFound
    return _serve(request, file)


async def client_module(request: web.Request) -> web.Response:
    """Serve the client for browsers as a module; pages of other origins may import it too."""
    return _serve(request, _CLIENT)


def _serve(request: web.Request, file: _File) -> web.Response:
    response = answer_file(request, file.body, file.content_type, file.etag)
    response.headers.update(_NO_SNIFF)
    return response
