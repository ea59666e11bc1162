"""Rendering of dashboard pages: templates, static files, security headers, notices. No page lives here.

A page is a handler in a feature's `pages.py` that returns `control.web.page(...)`. Fragments are the same pages: a
live part fetches its page again and takes itself out of it, so an ETag makes an unchanged one cheap.
"""

import gzip
import hashlib
import json
import mimetypes
import posixpath
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote, unquote

import jinja2
from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from towline.control.access.dependencies import Access, Permission, public
from towline.control.bus import PAGE_TOPICS, RESYNC
from towline.control.errors import ApiError, ErrorCode

ROOT = Path(__file__).resolve().parent.parent / "web"
COMPRESS_OVER_BYTES = 1024
"""Smaller bodies gain less than the headers of a compressed answer cost."""
EVENTS_AFTER = b"@events-after@"
"""Stands in a rendered page for where its events begin."""
NOTICE_COOKIE = "towline_notice"
NOTICE_SECONDS = 30
CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "font-src 'self'; worker-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
CSP_TERMINAL = CSP.replace("style-src 'self'", "style-src 'self' 'unsafe-inline'")
"""xterm.js sets styles on its own elements; only terminal pages allow that."""
SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-cache, private",
}
NAVIGATION = (
    ("fleet", "/fleet", "Fleet", Permission.CLUSTER_READ),
    ("deployments", "/deployments", "Deployments", Permission.DEPLOYMENT_READ),
    ("routes", "/routes", "Routes", Permission.ROUTE_READ),
    ("jobs", "/jobs", "Jobs", Permission.JOB_READ),
    ("alerts", "/alerts", "Alerts", Permission.ALERT_READ),
    ("access", "/access", "Access", Permission.SELF),
    ("audit", "/audit", "Audit", Permission.AUDIT_READ),
    ("settings", "/settings", "Settings", Permission.SELF),
)

HOPS_BROKEN = {
    ErrorCode.UNAVAILABLE: "control plane",
    ErrorCode.STORAGE_FULL: "control plane",
    ErrorCode.INTERNAL: "control plane",
    ErrorCode.AGENT_AWAY: "link",
    ErrorCode.AGENT_TIMEOUT: "agent",
    ErrorCode.AGENT_REFUSED: "target",
}

NoticeKind = Literal["done", "warning", "error", "working"]


@dataclass(frozen=True, slots=True)
class Notice:
    """One line at the top of the next page."""

    kind: NoticeKind
    text: str
    hint: str = ""


@dataclass(frozen=True, slots=True)
class StaticFile:
    content: bytes
    compressed: bytes
    media_type: str
    digest: str


class Web:
    """Templates and static files of one process."""

    def __init__(self) -> None:
        self._environment = jinja2.Environment(
            loader=jinja2.FileSystemLoader(ROOT / "templates"),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._environment.filters.update(ago=ago, iso=iso, size=size, rate=rate, seconds=seconds)
        self._environment.globals.update(static=self.static_url)
        self.firing: Callable[[Access], int] = lambda access: 0
        """How many alerts fire that somebody may see; alerts set it."""

    @cached_property
    def static_files(self) -> dict[str, StaticFile]:
        """Every static file by its path below the static folder, read once."""
        folder = ROOT / "static"
        return {str(p.relative_to(folder)): _read(p) for p in sorted(folder.rglob("*")) if p.is_file()}

    def static_url(self, name: str) -> str:
        """Return the address of a static file; it changes with the content, so browsers may keep it for ever."""
        return f"/static/{name}?v={self.static_files[name].digest}"

    def page(
        self,
        request: Request,
        template: str,
        *,
        access: Access | None = None,
        section: str = "",
        status: int = 200,
        csp: str = CSP,
        notices: Sequence[Notice] = (),
        **context: Any,
    ) -> Response:
        """Render a page, or answer 304 when the browser already has it."""
        held = _notices(request)
        theme = request.cookies.get("theme", "")
        body = self._environment.get_template(template).render(
            request=request,
            access=access,
            section=section,
            theme=theme if theme in {"light", "dark"} else "",
            navigation=navigation(access),
            firing=self.firing(access) if access else 0,
            notices=[*notices, *held],
            username=access.actor.username if access else "",
            org_name=access.org_name if access else "",
            csrf_token=access.csrf_token if access else "",
            events_url="/api/v1/events" if access else "",
            events_after=EVENTS_AFTER.decode(),
            events_topics=" ".join((*PAGE_TOPICS, RESYNC)),
            query=request.query_params.get("q", ""),
            **context,
        )
        response = _answer(request, body.encode(), status)
        response.headers.update(SECURITY_HEADERS | {"Content-Security-Policy": csp})
        if held:
            response.delete_cookie(NOTICE_COOKIE, path="/")
        return response


def redirect(request: Request, url: str, notice: Notice | None = None) -> Response:
    """Send the browser to a page after a form post, with a notice for it."""
    response = RedirectResponse(url, status_code=303)
    if notice:
        text = json.dumps({"kind": notice.kind, "text": notice.text[:500], "hint": notice.hint[:500]})
        secure = request.headers.get("x-forwarded-proto", "https") == "https"
        response.set_cookie(
            NOTICE_COOKIE, quote(text), max_age=NOTICE_SECONDS, httponly=True, secure=secure, samesite="lax"
        )
    return response


def wants_page(request: Request) -> bool:
    """Tell whether a person looks at the answer: a browser that asks for a page, not for the API."""
    accepts = "text/html" in request.headers.get("accept", "")
    return accepts and not request.scope["path"].startswith(("/api/", "/healthz", "/readyz", "/metrics", "/install"))


def error_page(request: Request, error: ApiError) -> Response:
    """Answer an error as a page: who is not signed in goes to sign in; else what failed, and what to try."""
    if error.code is ErrorCode.UNAUTHENTICATED and request.method == "GET":
        query_string = request.scope["query_string"].decode("latin-1")
        wanted = request.scope["path"] + (f"?{query_string}" if query_string else "")
        return RedirectResponse(f"/signin?next={quote(wanted)}", status_code=303)
    access: Access | None = getattr(request.state, "access", None)
    page: Response = request.app.state.control.web.page(
        request,
        "layout/error.html",
        access=access,
        status=error.status,
        title=error.code.value.replace("_", " ").capitalize(),
        message=error.message,
        hint=error.hint,
        link=(error.detail.get("page", ""), error.detail.get("page_title", "")),
        hops=hops_of(error),
        request_id=request.state.request_id,
    )
    return page


def navigation(access: Access | None) -> list[tuple[str, str, str]]:
    """Return the places that somebody can go to at all; nothing before they signed in."""
    if access is None:
        return []
    return [(key, path, word) for key, path, word, needed in NAVIGATION if access.rights.gives(needed)]


def hops_of(error: ApiError) -> list[dict[str, str]]:
    """Name the hop that failed, for errors on the way to a host."""
    broken = HOPS_BROKEN.get(error.code)
    if broken is None:
        return []
    names = ("browser", "control plane", "link", "agent", "target")
    place = names.index(broken)
    states = ["healthy"] * place + ["down"] + ["unknown"] * (len(names) - place - 1)
    words = {"healthy": "works", "down": error.message, "unknown": "not reached"}
    return [{"name": name, "state": state, "text": words[state]} for name, state in zip(names, states, strict=True)]


router = APIRouter(include_in_schema=False)


@router.get("/static/{name:path}", dependencies=[public("static files hold nothing of anybody")])
async def static_file(request: Request, name: str) -> Response:
    """Serve one static file, compressed when the browser takes that."""
    file = request.app.state.control.web.static_files.get(posixpath.normpath(name))
    if file is None:
        return Response("no such file\n", status_code=404, media_type="text/plain")
    compressed = "gzip" in request.headers.get("accept-encoding", "") and bool(file.compressed)
    headers = {
        "Cache-Control": "public, max-age=31536000, immutable",
        "X-Content-Type-Options": "nosniff",
        "Vary": "Accept-Encoding",
    } | ({"Content-Encoding": "gzip"} if compressed else {})
    return Response(file.compressed if compressed else file.content, media_type=file.media_type, headers=headers)


def _read(path: Path) -> StaticFile:
    content = path.read_bytes()
    media_type = "text/javascript" if path.suffix == ".js" else mimetypes.guess_type(path.name)[0]
    compressed = gzip.compress(content, 9, mtime=0) if len(content) > COMPRESS_OVER_BYTES else b""
    return StaticFile(
        content, compressed, media_type or "application/octet-stream", hashlib.sha256(content).hexdigest()[:12]
    )


def _answer(request: Request, body: bytes, status: int) -> Response:
    """Send a page. Where its events begin differs each time, and does not make it another page."""
    tag = f'"{hashlib.sha256(body).hexdigest()[:24]}"'
    if status == 200 and request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers={"ETag": tag})
    headers = {"ETag": tag, "Vary": "Accept-Encoding, Cookie"}
    body = body.replace(EVENTS_AFTER, request.state.position.encode(), 1)
    if len(body) > COMPRESS_OVER_BYTES and "gzip" in request.headers.get("accept-encoding", ""):
        body = gzip.compress(body, 3, mtime=0)
        headers["Content-Encoding"] = "gzip"
    return HTMLResponse(body, status_code=status, headers=headers)


def _notices(request: Request) -> list[Notice]:
    try:
        held = json.loads(unquote(request.cookies.get(NOTICE_COOKIE, "")))
        return [Notice(held["kind"], str(held["text"]), str(held["hint"]))]
    except (ValueError, KeyError, TypeError):
        return []


# -- filters -----------------------------------------------------------------------------------


def moment(value: datetime | str | float | None) -> datetime | None:
    """Return an aware time from what the API carries: a datetime, RFC 3339 text or seconds since the epoch."""
    if value is None or value == "" or value == 0:
        return None
    if isinstance(value, datetime):
        return value
    if isinstance(value, str):
        return datetime.fromisoformat(value)
    return datetime.fromtimestamp(value, UTC)


def iso(value: datetime | str | float | None) -> str:
    """Return RFC 3339 in UTC."""
    at = moment(value)
    return at.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z") if at else ""


def ago(value: datetime | str | float | None, now: datetime | None = None) -> str:
    """Return a minute-grained relative time: the browser refines it, and an ETag stays the same within a minute."""
    at = moment(value)
    if at is None:
        return "never"
    passed = ((now or datetime.now(UTC)) - at).total_seconds()
    if passed < 0:
        return "soon"
    for limit, unit, word in ((60, 0, "now"), (3600, 60, "min"), (86400, 3600, "h")):
        if passed < limit:
            return f"{int(passed // unit)} {word} ago" if unit else "just now"
    return f"{int(passed // 86400)} d ago"


def size(value: float | None) -> str:
    """Return bytes with a binary unit."""
    amount = float(value or 0)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}" if unit == "B" or amount >= 10 else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} TiB"


def rate(value: float | None) -> str:
    """Return bytes per second with a decimal unit."""
    return f"{(value or 0) / 1e6:.1f} MB/s"


def seconds(value: float | None) -> str:
    """Return a duration as people say it."""
    amount = float(value or 0)
    if amount < 1:
        return f"{amount * 1000:.0f} ms"
    if amount < 120:
        return f"{amount:.1f} s" if amount < 10 else f"{amount:.0f} s"
    return f"{amount / 60:.0f} min" if amount < 7200 else f"{amount / 3600:.0f} h"


def query(base: str, parameters: Mapping[str, str | None]) -> str:
    """Return an address with the parameters that have a value, ready for one more to be added."""
    pairs = "&".join(f"{quote(key)}={quote(value)}" for key, value in parameters.items() if value)
    return f"{base}?{pairs}&" if pairs else f"{base}?"
