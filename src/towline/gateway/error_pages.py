"""The errors of published names, as browsers and programs read them. No name of a target, no address, no cluster."""

import html

from towline.gateway.errors import error_body
from towline.gateway.interfaces import Answer, Peer
from towline.wire.http1 import RequestHead
from towline.wire.http1_build import REASONS

HTML = b"text/html; charset=utf-8"

_TITLES = {
    "route_unknown": "Nothing is published here",
    "upstream_away": "This service is away",
    "upstream_unreachable": "This service does not answer",
    "upstream_refused": "This service cannot be reached",
    "upstream_timeout": "This service did not answer in time",
    "maintenance": "This service is being worked on",
}
_WORDS = {
    "route_unknown": "The name points at this gateway, but no service is published under it.",
    "upstream_away": "The place where it runs is not connected at the moment. It comes back by itself.",
    "upstream_unreachable": "The gateway is fine, but nothing answers behind this name.",
    "maintenance": "Please come back in a while.",
}
_PAGE = """\
<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>body{{font:16px/1.5 system-ui,sans-serif;max-width:34rem;margin:15vh auto;padding:0 1rem;color:#1c2430;\
background:#fff}}h1{{font-size:1.4rem}}p{{margin:.5rem 0}}small{{color:#5b6675}}\
@media(prefers-color-scheme:dark){{body{{color:#e6e9ee;background:#14181f}}small{{color:#9aa5b4}}}}</style></head>
<body><h1>{title}</h1><p>{words}</p><p><small>{status} {code}{request}</small></p></body>
</html>
"""


def wants_html(head: RequestHead) -> bool:
    """True for browsers: they name HTML first among what they accept."""
    accept = head.get(b"accept")
    return accept is not None and b"text/html" in accept.lower()


def page_of(answer: Answer, head: RequestHead, request_id: str, custom: str = "") -> tuple[bytes, bytes]:
    """Return body and content type of an error: the route's own page, a plain one, or JSON for programs."""
    if answer.body is not None:
        return answer.body, answer.content_type
    if answer.status < 400 or not wants_html(head):
        return error_body(answer.code, answer.message, request_id), b"application/json"
    if custom:
        return _filled(custom, answer, request_id).encode("utf-8", "replace"), HTML
    title = _TITLES.get(answer.code, REASONS.get(answer.status, b"Error").decode())
    words = _WORDS.get(answer.code, answer.message[:1].upper() + answer.message[1:] + ".")
    return (
        _PAGE.format(
            title=html.escape(title),
            words=html.escape(words),
            status=answer.status,
            code=html.escape(answer.code),
            request=f" · {html.escape(request_id)}" if request_id else "",
        ).encode(),
        HTML,
    )


def _filled(page: str, answer: Answer, request_id: str) -> str:
    """Fill the few words in. Not `str.format`: a page is full of braces, and they must not reach into objects."""
    for name, value in (
        ("{status}", str(answer.status)),
        ("{code}", answer.code),
        ("{message}", answer.message),
        ("{request_id}", request_id),
    ):
        page = page.replace(name, html.escape(value))
    return page


def https_location(head: RequestHead) -> bytes:
    """Return the same address by HTTPS; the edge speaks both on one port."""
    return b"https://" + head.authority + head.target


def to_https(head: RequestHead, peer: Peer) -> Answer | None:
    """Return the redirect of a request that came by plain HTTP. The method stays but for what is only read."""
    if peer.is_secure:
        return None
    status = 301 if head.method in (b"GET", b"HEAD") else 308
    return Answer(status, "https_redirect", "", b"", b"text/plain", ((b"location", https_location(head)),))
