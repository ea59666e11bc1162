"""Authentication of requests and the watch over long streams. Changes to users, tokens and grants: `accounts.py`.

A request proves who it is by a bearer token, a browser's cookie or, on a WebSocket, a ticket. What was found is kept
for two seconds, and forgotten at once when anything about access changes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from starlette.requests import HTTPConnection, Request

from towline.control.access import origins, repository, secrets
from towline.control.access.actor import Access, AccessLost, Actor
from towline.control.access.models import ApiToken, Session
from towline.control.access.permissions import Permission, Resource, Right, Rights, Role
from towline.control.access.throttle import Throttle, per_minute, source_key, throttled
from towline.control.answers import SAFE_METHODS
from towline.control.bus import RESYNC
from towline.control.db import Transaction
from towline.control.errors import ApiError, ErrorCode

if TYPE_CHECKING:
    from towline.control.app import ControlPlane

CACHE_SECONDS = 2.0
"""Seconds that a look-up of who somebody is holds: the longest that another process's revocation goes unseen."""
CACHE_ENTRIES = 5000
RECHECK_SECONDS = 10.0
"""Seconds between two looks at the right to a long stream when no hint comes. Source: design.md, "Streams"."""
COOKIE = "__Host-towline"
"""The prefix makes browsers refuse it without Secure, with a Domain, or for a path. Source: RFC 6265bis, 4.1.3.2."""
PLAIN_COOKIE = "towline"
"""On plain HTTP over loopback, where browsers keep no Secure cookie."""


@dataclass(frozen=True, slots=True)
class Principal:
    """Somebody who proved who they are."""

    actor: Actor
    rights: Rights
    org_name: str


class AccessService:
    """Answers who a request comes from and what it may do."""

    def __init__(self, control: ControlPlane) -> None:
        self._control = control
        self._known: dict[str, tuple[float, Principal]] = {}
        self._finders = {"session": self._session, "token": self._token, "kubernetes": self._kubernetes}
        self._streams: dict[str, int] = {}
        settings, clock = control.settings, control.clock
        self._requests = Throttle(clock, rate=settings.api_rate, burst=settings.api_burst)
        self.enrolments = per_minute(clock, settings.enrol_per_address)
        self.login_accounts = per_minute(clock, settings.login_per_account)
        self.login_addresses = per_minute(clock, settings.login_per_address)
        self.guesses = per_minute(clock, settings.login_per_address * 3)

    def __repr__(self) -> str:
        return f"<AccessService {len(self._known)} known, {sum(self._streams.values())} streams>"

    async def authenticate(self, connection: HTTPConnection, *, throttled: bool = True) -> Access:
        """Find out who a request comes from.

        Raises: ApiError: unauthenticated, cross_site or throttled.
        """
        principal = await self._principal(connection)
        actor = replace(
            principal.actor, address=connection.state.peer, request_id=getattr(connection.state, "request_id", "")
        )
        if throttled:
            self._requests.check(actor.token_id or actor.session_id, "requests")
        secret = session_cookie(connection) if actor.session_id else ""
        form_token = secrets.form_token(secret) if secret else ""
        return Access(actor, principal.rights, self.watch, form_token, principal.org_name)

    async def _principal(self, connection: HTTPConnection) -> Principal:
        headers = connection.headers.getlist("authorization")
        if headers:
            return await self._by_header(headers, connection.state.peer)
        if connection.scope["type"] == "websocket" and "ticket" in connection.query_params:
            return await self._by_ticket(connection.query_params["ticket"])
        return await self._by_cookie(connection)

    async def _by_header(self, headers: list[str], peer: str) -> Principal:
        scheme, _, token = headers[0].partition(" ")
        if len(headers) > 1 or scheme.lower() != "bearer" or not secrets.is_well_formed(token.strip(), ("twl", "tws")):
            raise unauthenticated("this is no token of Towline", "send `Authorization: Bearer twl_…`")
        return await self.by_token(token.strip(), peer)

    async def by_token(self, token: str, peer: str) -> Principal:
        """Find out who a well-formed token speaks for. Raises: ApiError: unauthenticated, throttled, unavailable."""
        found = await self._look_up(_key(token))
        if found is None:
            self.guesses.check(source_key(peer), "unknown tokens from your address")
            raise unauthenticated("the token is unknown, expired or revoked", "make a new one")
        return found

    def known_token(self, token: str) -> Principal | None:
        """Return who a token speaks for, if that was looked up just now."""
        known = self._known.get(_key(token))
        return known[1] if known is not None and known[0] > self._control.clock.monotonic() else None

    async def now(self, tx: Transaction, actor: Actor) -> Principal | None:
        """Return what an actor is now; None when token, session or user may no longer be used."""
        return await self._reload(tx, actor.session_id, actor.token_id)

    async def _by_ticket(self, ticket: str) -> Principal:
        if not secrets.is_well_formed(ticket, ("twt",)):
            raise unauthenticated("this is no ticket of Towline", "get one from /api/v1/tickets")
        async with self._control.db.begin() as tx:
            row = await repository.redeem_ticket(tx, secrets.hashed(ticket))
            found = None if row is None else await self._reload(tx, *row)
        if found is None:
            raise unauthenticated("the ticket is used up or expired", "a ticket holds for 30 s and opens one stream")
        return found

    async def _by_cookie(self, connection: HTTPConnection) -> Principal:
        secret = session_cookie(connection)
        if not secret:
            raise unauthenticated("nobody is signed in", "sign in, or send `Authorization: Bearer twl_…`")
        changes = connection.scope["type"] == "websocket" or connection.scope["method"] not in SAFE_METHODS
        if changes:
            origins.check(connection, self._control.settings)
            await _check_form(connection, secret)
        found = await self._look_up(f"session {secrets.hashed(secret)}")
        if found is None:
            raise unauthenticated("the session has ended", "sign in again")
        return found

    async def _look_up(self, key: str) -> Principal | None:
        moment = self._control.clock.monotonic()
        known = self._known.get(key)
        if known is not None and known[0] > moment:
            return known[1]
        kind, _, secret_hash = key.partition(" ")
        async with self._control.db.read() as tx:
            found = await self._finders[kind](tx, secret_hash)
        if found is not None:
            if len(self._known) >= CACHE_ENTRIES:
                self._known.clear()
            self._known[key] = (moment + CACHE_SECONDS, found)
            self._control.tasks.spawn("note use", self._note_used(found.actor))
        return found

    async def _session(self, tx: Transaction, secret_hash: str) -> Principal | None:
        row = await repository.session_by_hash(tx, secret_hash, self._control.settings.session_idle)
        return None if row is None else await session_principal(tx, row)

    async def _token(self, tx: Transaction, secret_hash: str) -> Principal | None:
        row = await repository.token_by_hash(tx, secret_hash)
        return None if row is None else await token_principal(tx, row)

    async def _kubernetes(self, tx: Transaction, secret_hash: str) -> Principal | None:
        parent = await repository.kubernetes_parent(tx, secret_hash)
        return None if parent is None else await self._reload(tx, *parent)

    async def _reload(self, tx: Transaction, session_id: str, token_id: str) -> Principal | None:
        if token_id:
            token = await repository.token_by_id(tx, token_id)
            return None if token is None else await token_principal(tx, token)
        row = await repository.session_by_id(tx, session_id, self._control.settings.session_idle)
        return None if row is None else await session_principal(tx, row)

    async def _note_used(self, actor: Actor) -> None:
        async with self._control.db.begin() as tx:
            if actor.token_id:
                await repository.note_used(tx, ApiToken, actor.token_id)
            else:
                await repository.note_used(tx, Session, actor.session_id)

    def forget(self) -> None:
        """Forget every look-up: something about access changed."""
        self._known.clear()

    def changed(self, tx: Transaction, **ids: str) -> None:
        """Say that access changed, once the transaction is committed: caches are emptied, streams look again."""
        tx.after_commit.append(self.forget)
        tx.publish("access", **ids)

    # -- long streams

    async def still(self, access: Access, permission: Permission, resource: Resource) -> bool:
        """Tell whether the actor of a long stream could open it now."""
        if access.actor.kind == "system":
            return True
        async with self._control.db.read() as tx:
            found = await self._reload(tx, access.actor.session_id, access.actor.token_id)
        return found is not None and Access(found.actor, found.rights).may(permission, resource)

    async def renewed(self, tx: Transaction, access: Access) -> Access:
        """Return what somebody may do now. Raises: AccessLost: token, session or user may no longer be used."""
        if access.actor.kind == "system":
            return access
        found = await self._reload(tx, access.actor.session_id, access.actor.token_id)
        if found is None:
            raise AccessLost
        return replace(access, rights=found.rights)

    @asynccontextmanager
    async def watch(self, access: Access, permission: Permission, resource: Resource) -> AsyncIterator[None]:
        """See `Access.watch`. Also counts the open streams of each user."""
        owner = access.actor.user_id or access.actor.token_id
        if self._streams.get(owner, 0) >= self._control.settings.streams_per_user:
            raise throttled("open streams", 10)
        task = asyncio.current_task()
        assert task is not None
        lost = False

        async def guard() -> None:
            nonlocal lost
            await self._until_lost(access, permission, resource)
            lost = True
            task.cancel()

        self._streams[owner] = self._streams.get(owner, 0) + 1
        self._control.metrics.streams_open.inc()
        watching = self._control.tasks.spawn("watch access", guard())
        try:
            yield
        except asyncio.CancelledError:
            if lost and task.uncancel() <= 0:
                raise AccessLost from None
            raise
        finally:
            watching.cancel()
            self._control.metrics.streams_open.dec()
            self._streams[owner] -= 1
            if not self._streams[owner]:
                del self._streams[owner]

    async def _until_lost(self, access: Access, permission: Permission, resource: Resource) -> None:
        async with self._control.bus.subscribe("access", RESYNC) as events:
            while True:
                try:
                    async with asyncio.timeout(RECHECK_SECONDS):
                        await anext(events)
                except TimeoutError:
                    pass
                except StopAsyncIteration:
                    return
                try:
                    if not await self.still(access, permission, resource):
                        return
                except ApiError:
                    continue  # the database is away: established streams go on until it answers


def _key(token: str) -> str:
    """Return the name of a look-up. A token for Kubernetes is looked for among those alone."""
    return f"{'kubernetes' if token.startswith('twk_') else 'token'} {secrets.hashed(token)}"


def unauthenticated(message: str, hint: str) -> ApiError:
    return ApiError(ErrorCode.UNAUTHENTICATED, message, hint=hint)


def session_cookie(connection: HTTPConnection) -> str:
    """Return the session's secret; empty when there is none, or more than one, which no browser of ours sends."""
    pairs = [
        pair.strip().partition("=") for header in connection.headers.getlist("cookie") for pair in header.split(";")
    ]
    found = [value for name, _, value in pairs if name == COOKIE] or [
        value for name, _, value in pairs if name == PLAIN_COOKIE
    ]
    return found[0] if len(found) == 1 else ""


async def _check_form(connection: HTTPConnection, secret: str) -> None:
    """A form post carries its session's token: an Origin check alone trusts the browser."""
    if not isinstance(connection, Request):
        return
    kind = connection.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in ("application/x-www-form-urlencoded", "multipart/form-data", "text/plain"):
        return
    given = connection.headers.get("x-towline-csrf", "")
    if not given and kind != "text/plain":
        given = str((await connection.form()).get("_csrf", ""))
    if given != secrets.form_token(secret):
        raise ApiError(ErrorCode.CROSS_SITE, "the form was not made by this session", hint="load the page again")


async def session_principal(tx: Transaction, row: repository.KnownSession) -> Principal:
    """Return who a session speaks for."""
    actor = Actor("session", row.user.org_id, row.user.id, row.user.username, session_id=row.session.id)
    rights = Rights(await repository.rights_of(tx, row.user.org_id, "user", row.user.id))
    return Principal(actor, rights, await repository.org_name(tx, row.user.org_id))


async def token_principal(tx: Transaction, token: ApiToken) -> Principal:
    """Return who a token speaks for: never more than its user, nor than its own limit."""
    if not token.user_id:
        granted = await repository.rights_of(tx, token.org_id, "token", token.id)
        actor = Actor("token", token.org_id, "", token.name, token_id=token.id)
        return Principal(actor, Rights(granted), await repository.org_name(tx, token.org_id))
    granted = await repository.rights_of(tx, token.org_id, "user", token.user_id)
    user = await repository.user_by_id(tx, token.user_id)
    limit = (Right(Role(token.limit_role), repository.reach_from(token.limit_reach)),) if token.limit_role else None
    actor = Actor("token", token.org_id, token.user_id, user.username if user else "", token_id=token.id)
    return Principal(actor, Rights(granted, limit), await repository.org_name(tx, token.org_id))
