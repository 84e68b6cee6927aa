"""`GET /` and `GET /client.js`: the test page, and the JavaScript client that it uses."""

import base64
import hashlib
import html
import json
import re
from pathlib import Path
from typing import Final

from aiohttp import web

from handlers.answers import Answer
from handlers.keys import SETTINGS
from hub.settings import Settings

_HERE: Final = Path(__file__).parent
_PAGE: Final = (_HERE / "index.html").read_bytes()
_SLOT: Final = b'data-access=""'  # in the page, for what it must know where access is on
_CLIENT: Final = (_HERE.parent / "clients/js/client.js").read_bytes()


def _hashes(page: bytes) -> str:
    """Return the hashes of the page's inline scripts as CSP sources (level 3, section 2.3.1)."""
    scripts = re.findall(rb"(?s)<script[^>]*>(.+?)</script>", page)
    digests = (base64.b64encode(hashlib.sha256(script).digest()) for script in scripts)
    return " ".join(f"'sha256-{digest.decode()}'" for digest in digests)


_HEADERS: Final = {"Cache-Control": "no-cache", "X-Content-Type-Options": "nosniff"}
_POLICY: Final = {
    "Content-Security-Policy": (
        f"default-src 'none'; style-src 'unsafe-inline'; script-src 'self' {_hashes(_PAGE)};"
        " connect-src 'self' ws: wss:; img-src data:; base-uri 'none'; form-action 'none';"
        " frame-ancestors 'none'"
    ),
}


async def page(request: web.Request) -> web.Response:
    """Serve the page on which people connect, subscribe, publish and watch."""
    settings = request.app[SETTINGS]
    body = _PAGE.replace(_SLOT, _access(settings), 1) if settings.access_on else _PAGE
    headers = _HEADERS | _POLICY
    return Answer(body=body, content_type="text/html", charset="utf-8", headers=headers)


def _access(settings: Settings) -> bytes:
    """Return the page's slot, with settings that every client may know."""
    claims = {"iss": settings.jwt_issuer, "aud": settings.jwt_audience}  # of the page's tokens
    known = {
        "separator": settings.topic_separator,
        "subscribe": settings.anonymous_subscribe.texts(),
        "publish": settings.anonymous_publish.texts(),
        "signs": bool(settings.jwt_secret),  # whether tokens of the page can be valid
        "claims": {name: value for name, value in claims.items() if value},
    }
    return f'data-access="{html.escape(json.dumps(known))}"'.encode()


async def client_module(_request: web.Request) -> web.Response:
    """Serve the client for browsers as a module; pages of other origins may import it too."""
    return Answer(body=_CLIENT, content_type="text/javascript", charset="utf-8", headers=_HEADERS)
