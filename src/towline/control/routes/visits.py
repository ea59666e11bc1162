"""Signing in to published routes with the platform's users, without ever showing them the dashboard's cookie.

    published host                      dashboard                         published host
    GET /x, no visit cookie  ──302──▶   GET /visit?route&host&state&to ──303──▶  GET PATH/.towline/visit?ticket&state&to
    sets a state cookie                 who is signed in, may they?        ticket + state cookie, once
                                                                           sets the visit cookie ──303──▶ /x

A ticket is a row, holds for 30 s, is used up by one statement, and counts only with the state cookie of the browser
that began, on the host and route that it was made for. Each beginning has a state cookie of its own, named by it: tabs
that sign in at once do not disturb each other. The visit cookie is sealed, names a session, and is looked at
again every few seconds: signing out, or losing the role, ends the visit.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
import secrets as random
from collections import OrderedDict
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated
from urllib.parse import parse_qs, quote, urlencode

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import RedirectResponse

from towline.control.access import repository as access_rows
from towline.control.access import secrets
from towline.control.access.actor import Access, Actor
from towline.control.access.dependencies import Permission, needs
from towline.control.access.models import Ticket
from towline.control.errors import ApiError, ErrorCode
from towline.control.forms import local_path
from towline.control.sealing.service import CannotOpen
from towline.gateway.error_pages import wants_html
from towline.gateway.interfaces import Answer, Peer, ToTarget, Visitor
from towline.gateway.route_policy import cookie_names, cookie_of, visit_cookie
from towline.wire.http1 import RequestHead

if TYPE_CHECKING:
    from towline.control.app import ControlPlane

router = APIRouter(include_in_schema=False)
Self = Annotated[Access, needs(Permission.SELF)]

TICKET_PATH = b"/.towline/visit"
"""Ends the path that redeems tickets; the route's own path stands before it: no other route's target sees a ticket."""
STATE_COOKIE = b"__Host-towline-state-"
"""Begins the names of these cookies; the beginning of the state's hash follows."""
STATE_DIGITS = 16
"""Of the hash, in the name: tell a browser's states apart. What counts is the whole value."""
MAX_STATES = 8
"""Sign-ins that one browser may have begun on one host: more tabs than anybody restores at once, and 600 bytes."""
PURPOSE = "route-visit"
TICKET_SECONDS = 30
STATE_SECONDS = 600
"""How long somebody may take to sign in."""
VISIT_SECONDS = 12 * 3600
"""A visit ends at the latest; the next request begins another one without a word while the session holds."""
RECHECK_SECONDS = 5.0
"""How long a look-up holds: signing out ends a visit within this."""
MAX_KNOWN = 10_000
MAX_TO_BYTES = 2_048

_STATE_NAME = re.compile(rb"__Host-towline-state-[0-9a-f]{16}")
_FIRST_LABEL = re.compile(r"[a-z0-9_-]{1,63}")

_NEEDS_HTTPS = Answer(403, "https_wanted", "signing in needs HTTPS")
_UNAUTHENTICATED = Answer(401, "sign_in_wanted", "open this address in a browser and sign in first")
_BAD_TICKET = Answer(403, "bad_ticket", "this way in is used up or was not begun in this browser; open the page again")
_NOT_ALLOWED = Answer(403, "not_allowed", "your role does not cover this service")


class Visits:
    """Implements `gateway.interfaces.SignIn`."""

    def __init__(self, control: ControlPlane) -> None:
        self._control = control
        self._known: OrderedDict[tuple[str, str, bytes], tuple[float, Visitor]] = OrderedDict()

    def __repr__(self) -> str:
        return f"<Visits {len(self._known)} known>"

    # what the edge asks

    def recall(self, head: RequestHead, route: ToTarget) -> Visitor | None:
        if head.path.endswith(TICKET_PATH):
            return None
        cookie = cookie_of(head, visit_cookie(route.id))
        if cookie is None:
            return None
        until, visitor = self._known.get((route.id, head.host, cookie), (0.0, None))
        return visitor if until > self._control.clock.monotonic() else None

    async def admit(self, head: RequestHead, peer: Peer, route: ToTarget) -> Visitor | Answer:
        if not peer.is_secure:
            return _NEEDS_HTTPS
        if head.path.endswith(TICKET_PATH):
            return await self._redeem(head, route)
        cookie = cookie_of(head, visit_cookie(route.id))
        session_id = self._open(cookie, head.host, route.id) if cookie is not None else ""
        if cookie is not None and session_id:
            found = await self._visitor(session_id, route.id)
            if isinstance(found, Visitor):
                self._remember((route.id, head.host, cookie), found)
                return found
            if found is _NOT_ALLOWED:
                return found
        return self._send_away(head, route)

    def _remember(self, key: tuple[str, str, bytes], visitor: Visitor) -> None:
        self._known[key] = (self._control.clock.monotonic() + RECHECK_SECONDS, visitor)
        if len(self._known) > MAX_KNOWN:
            self._known.popitem(last=False)

    def _send_away(self, head: RequestHead, route: ToTarget) -> Answer:
        """Send a browser to where one signs in; tell a program what is missing."""
        if head.method not in (b"GET", b"HEAD") or not wants_html(head) or head.upgrade is not None:
            return _UNAUTHENTICATED
        state = random.token_urlsafe(32).encode()
        to = head.target.decode("ascii") if len(head.target) <= MAX_TO_BYTES else "/"
        query = urlencode({"route": route.id, "host": head.host, "state": _hash(state), "to": to})
        location = f"{self._control.addresses().origin}/visit?{query}".encode()
        begun = [name for name in cookie_names(head) if _STATE_NAME.fullmatch(name)]
        oldest = begun[: max(0, len(begun) + 1 - MAX_STATES)]  # browsers send the oldest first (RFC 6265 section 5.4)
        dropped = [_cookie(name, b"", 0) for name in oldest]
        return _redirect(302, location, *dropped, _cookie(state_cookie(_hash(state)), state, STATE_SECONDS))

    async def _redeem(self, head: RequestHead, route: ToTarget) -> Answer:
        ticket, hashed, to = _asked(head)
        name = state_cookie(hashed)
        state = cookie_of(head, name)
        if state is None or _hash(state) != hashed or not secrets.is_well_formed(ticket, ("twt",)):
            return _BAD_TICKET
        async with self._control.db.begin() as tx:
            row = await access_rows.redeem_ticket(tx, _bound(ticket, route.id, head.host, hashed))
        if row is None:
            return _BAD_TICKET
        found = await self._visitor(row[0], route.id)
        if isinstance(found, Answer):
            return found
        value = self._seal(row[0], head.host, route.id)
        cookies = _cookie(visit_cookie(route.id), value, VISIT_SECONDS), _cookie(name, b"", 0)
        return _redirect(303, quote(_back(to), safe="/?&=%:;,@!$'()*+~-._").encode(), *cookies)

    # who it is

    async def _visitor(self, session_id: str, route_id: str) -> Visitor | Answer:
        """Return the user of a live session whose role covers the route."""
        async with self._control.db.read() as tx:
            principal = await self._control.access.now(tx, Actor("session", "", session_id=session_id))
        if principal is None:
            return _UNAUTHENTICATED
        try:
            await self._control.routes.get(Access(principal.actor, principal.rights), route_id)
        except ApiError:
            return _NOT_ALLOWED
        return Visitor(principal.actor.username)

    def _seal(self, session_id: str, host: str, route_id: str) -> bytes:
        until = int(self._control.clock.now().timestamp()) + VISIT_SECONDS
        text = json.dumps({"s": session_id, "h": host, "e": until}).encode()
        return base64.urlsafe_b64encode(self._control.sealer.seal("", route_id, 1, PURPOSE, text)).rstrip(b"=")

    def _open(self, cookie: bytes, host: str, route_id: str) -> str:
        """Return the session of a visit; empty for a cookie that is not one of ours, for this host and route."""
        try:
            sealed = base64.urlsafe_b64decode(cookie + b"=" * (-len(cookie) % 4))
            found = json.loads(self._control.sealer.open("", route_id, 1, PURPOSE, sealed))
        except (CannotOpen, binascii.Error, ValueError):
            return ""
        if found["h"] != host or found["e"] < self._control.clock.now().timestamp():
            return ""
        return str(found["s"])

    # what the dashboard does

    async def ticket(self, access: Access, route_id: str, host: str, state: str) -> tuple[str, str]:
        """Return a ticket for a route that the actor may see, and the path that redeems it.

        Raises: ApiError: route_not_found, invalid.
        """
        view = await self._control.routes.get(access, route_id)
        row = view.row
        if not access.actor.session_id or not answers_for(row.host, host) or not row.options.get("sign_in"):
            raise ApiError(ErrorCode.INVALID, "nobody signs in to this address here")
        ticket = secrets.mint("twt")
        async with self._control.db.begin() as tx:
            tx.add(
                Ticket(
                    secret_hash=_bound(ticket, row.id, host, state),
                    org_id=access.org_id,
                    session_id=access.actor.session_id,
                    token_id="",
                    expires_at=await tx.now() + timedelta(seconds=TICKET_SECONDS),
                )
            )
            await self._control.audit.record(
                tx, access.actor, action="route.visit", target_kind="route", target_id=row.id, target_name=row.name,
                detail={"host": host},
            )  # fmt: skip
        return ticket, f"{row.path.rstrip('/')}{TICKET_PATH.decode()}"


@router.get("/visit")
async def visit(
    request: Request,
    access: Self,
    route: Annotated[str, Query(max_length=64)],
    host: Annotated[str, Query(max_length=253)],
    state: Annotated[str, Query(pattern="^[0-9a-f]{64}$")],
    to: Annotated[str, Query(max_length=MAX_TO_BYTES)] = "/",
) -> Response:
    """Send whoever is signed in back to a published service, with a ticket for it."""
    control: ControlPlane = request.app.state.control
    ticket, path = await control.visits.ticket(access, route, host, state)
    query = urlencode({"ticket": ticket, "state": state, "to": to})
    url = f"https://{host}{control.gateway.port_suffix()}{path}?{query}"
    return RedirectResponse(
        url, status_code=303, headers={"cache-control": "no-store", "referrer-policy": "no-referrer"}
    )


def answers_for(pattern: str, host: str) -> bool:
    """Tell whether a route's name covers a host; what is no host name would lead its browser anywhere."""
    if pattern.startswith("*."):
        first, _, rest = host.partition(".")
        return rest == pattern[2:] and _FIRST_LABEL.fullmatch(first) is not None
    return bool(pattern) and pattern == host


def state_cookie(hashed: str) -> bytes:
    """Return the name of the cookie that holds the state with a hash."""
    return STATE_COOKIE + hashed[:STATE_DIGITS].encode("ascii", "replace")


def _asked(head: RequestHead) -> tuple[str, str, str]:
    """Return ticket and hash of the state that a request brings, and where its visit goes on; empty: nobody sent it."""
    try:
        asked = parse_qs(head.target.partition(b"?")[2].decode("ascii"), max_num_fields=4)
    except ValueError:
        return "", "", ""
    return asked.get("ticket", [""])[0], asked.get("state", [""])[0], asked.get("to", ["/"])[0]


def _back(to: str) -> str:
    """Return where a visit goes on: an address on the same host, and not the one that redeems tickets."""
    return "/" if to.partition("?")[0].endswith(TICKET_PATH.decode()) or local_path(to) != to else to


def _hash(state: bytes) -> str:
    return hashlib.sha256(state).hexdigest()


def _bound(ticket: str, route_id: str, host: str, state: str) -> str:
    """Return what is stored: useless without all of these, and never the hash of a ticket for a WebSocket."""
    return secrets.hashed("\n".join(("visit", ticket, route_id, host, state)))


def _cookie(name: bytes, value: bytes, seconds: int) -> tuple[bytes, bytes]:
    return b"set-cookie", b"%s=%s; Path=/; Max-Age=%d; Secure; HttpOnly; SameSite=Lax" % (name, value, seconds)


def _redirect(status: int, location: bytes, *lines: tuple[bytes, bytes]) -> Answer:
    return Answer(
        status,
        "sign_in",
        "",
        b"",
        b"text/plain",
        ((b"location", location), (b"referrer-policy", b"no-referrer"), *lines),
    )
