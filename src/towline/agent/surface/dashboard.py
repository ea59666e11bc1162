"""`GET /`: the dashboard, one file of markup, style and script, with a policy that lets a browser run nothing else.

The page is open; whatever it shows it asks for with the token of the person who signed in.
"""

from __future__ import annotations

import base64
import hashlib
import re
from functools import cache
from pathlib import Path

from aiohttp import web

from towline.agent.surface.endpoints import Endpoint, Right

FILE = Path(__file__).with_name("dashboard.html")

LARGEST_BYTES = 120_000
"""Of the file: it comes through port-forwards and over slow lines, whole, each time."""

_BLOCKS = re.compile(rb"<(script|style)>(.*?)</\1>", re.DOTALL)


@cache
def page() -> tuple[bytes, str]:
    """Return the file and its Content-Security-Policy. Source: W3C, Content Security Policy Level 3."""
    body = FILE.read_bytes()
    return body, policy(body)


def policy(body: bytes) -> str:
    """Allow the blocks of script and style that are in the file, by their hashes, and requests to this agent alone."""
    found: dict[bytes, list[str]] = {b"script": [], b"style": []}
    for kind, text in _BLOCKS.findall(body):
        digest = base64.b64encode(hashlib.sha256(text).digest()).decode()
        found[kind].append(f"'sha256-{digest}'")
    return "; ".join(
        (
            "default-src 'none'",
            f"script-src {' '.join(found[b'script'])}",
            f"style-src {' '.join(found[b'style'])}",
            "connect-src 'self'",
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        )
    )


async def show(request: web.Request) -> web.StreamResponse:
    """Answer with the page."""
    body, allowed = page()
    headers = {
        "Content-Security-Policy": allowed,
        "Cache-Control": "no-store",
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
    }
    return web.Response(body=body, content_type="text/html", charset="utf-8", headers=headers)


ENDPOINTS = (
    Endpoint(
        "GET", "/", show, Right.OPEN, "The dashboard: one page, which signs in with a local token for what it shows.",
        "$URL/", answer="text/html",
    ),
)  # fmt: skip
