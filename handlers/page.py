"""`GET /`: one page for people, a static file."""

from pathlib import Path
from typing import Final

from aiohttp import web

_PAGE: Final = Path(__file__).with_name("index.html").read_bytes()

_HEADERS: Final = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline';"
        " connect-src 'self' ws: wss:; img-src data:; base-uri 'none'; form-action 'none';"
        " frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
}


async def page(_request: web.Request) -> web.Response:
    """The page to connect, subscribe, publish and watch."""
    return web.Response(body=_PAGE, content_type="text/html", charset="utf-8", headers=_HEADERS)
