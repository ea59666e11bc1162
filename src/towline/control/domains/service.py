"""Domains of organisations: adding them, and proving by a TXT record that they are theirs. Audited; no FastAPI."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy.exc import IntegrityError

from towline.control.access.actor import Access, system_actor
from towline.control.access.permissions import Permission
from towline.control.audit.service import AuditLog
from towline.control.db import Database, Transaction
from towline.control.domains import repository
from towline.control.domains.models import Domain
from towline.control.domains.names import NameRefused, Ownership, host_name, is_public_suffix, is_under
from towline.control.domains.repository import LAPSED, PENDING, VERIFIED
from towline.control.domains.resolver import NameUnknown, Resolver, ResolverAway
from towline.control.errors import ApiError, ErrorCode, not_found
from towline.control.ids import new_id
from towline.control.listing import Listed, ListQuery, fetch
from towline.control.logging import get_logger

_log = get_logger("domains")

CHALLENGE = "_towline-challenge"
"""Label below which the proof stands."""
TOKEN_PREFIX = "towline-domain="  # noqa: S105 - says what the record is for; nothing of it is secret
TOKEN_BYTES = 20
LOOK_AGAIN = timedelta(days=1)
"""How long a look at a verified domain holds: domains change hands in days, and each look is one question to DNS."""
PROOF_GRACE = timedelta(days=7)
"""How long the proof of a verified domain may be missing: a move to other name servers, done wrong and mended."""
AT_ONCE = 100
"""Domains of one round; the rest come in the next, an hour later at most."""
MAX_DOMAINS = 500
"""In an organisation: each is a DNS record that somebody set by hand."""
SORTS: Mapping[str, Any] = {"name": Domain.name, "created_at": Domain.created_at, "state": Domain.state}

Changed = Callable[[Transaction, str], Awaitable[None]]
"""Told in the transaction that an organisation's verified domains changed."""


@dataclass(frozen=True, slots=True)
class Proof:
    """The record to set."""

    name: str
    value: str


def proof_of(row: Domain) -> Proof:
    return Proof(f"{CHALLENGE}.{row.name}", TOKEN_PREFIX + row.token)


class Domains:
    """The domains of every organisation."""

    def __init__(self, db: Database, audit: AuditLog, resolver: Resolver, ownership: Callable[[], Ownership]) -> None:
        self._db = db
        self._audit = audit
        self._resolver = resolver
        self._ownership = ownership
        self.also_when_changed: list[Changed] = []

    async def page(self, access: Access, asked: ListQuery) -> Listed[Domain]:
        """Return a page of the organisation's domains."""
        async with self._db.read() as tx:
            query = repository.matching(access.org_id, asked.search)
            return await fetch(tx, query, asked, sorts=SORTS, default="name", key=Domain.id)

    async def get(self, access: Access, name: str) -> Domain:
        """Raises: ApiError: domain_not_found."""
        async with self._db.read() as tx:
            return await self._require(tx, access, name)

    async def add(self, access: Access, text: str) -> Domain:
        """Say that a domain is the organisation's. Raises: ApiError: forbidden, invalid, host_refused, name_taken."""
        access.require_org(Permission.DOMAIN_MANAGE)
        name = self._checked(text)
        try:
            async with self._db.begin() as tx:
                if await repository.count(tx, access.org_id) >= MAX_DOMAINS:
                    raise ApiError(ErrorCode.CONFLICT, f"an organisation may have {MAX_DOMAINS} domains")
                row = Domain(
                    id=new_id("dom"), org_id=access.org_id, name=name, state=PENDING,
                    token=secrets.token_hex(TOKEN_BYTES), created_at=await tx.now(), created_by=access.actor.username,
                    reason="not proved yet",
                )  # fmt: skip
                tx.add(row)
                await tx.flush()
                await self._record(tx, access, "domain.add", row)
                return row
        except IntegrityError as error:
            raise ApiError(ErrorCode.NAME_TAKEN, f"{name} is one of the organisation's domains already") from error

    async def verify(self, access: Access, name: str) -> Domain:
        """Look for the proof in DNS. Raises: ApiError: domain_not_found, domain_unverified, conflict."""
        access.require_org(Permission.DOMAIN_MANAGE)
        async with self._db.read() as tx:
            known = await self._require(tx, access, name)
        problem = await self._look(known)
        async with self._db.begin() as tx:
            row = await self._require(tx, access, known.id)
            row.checked_at, row.reason = await tx.now(), problem[:500]
            if not problem:
                row.missing_since = None
                await self._prove(tx, access, row)
        if problem and row.state != VERIFIED:
            proof = proof_of(row)
            raise ApiError(
                ErrorCode.DOMAIN_UNVERIFIED,
                problem,
                hint=f"set this record and try again: {proof.name} TXT {proof.value}",
                detail={"name": proof.name, "type": "TXT", "value": proof.value},
            )
        return row

    async def remove(self, access: Access, name: str) -> None:
        """Give a domain up: its routes are refused from then on. Raises: ApiError: domain_not_found."""
        access.require_org(Permission.DOMAIN_MANAGE)
        async with self._db.begin() as tx:
            row = await self._require(tx, access, name)
            await tx.delete(row)
            await tx.flush()
            await self._record(tx, access, "domain.remove", row)
            await self._tell(tx, access.org_id)

    async def _prove(self, tx: Transaction, access: Access, row: Domain) -> None:
        if row.state == VERIFIED:
            return
        if await repository.verified_elsewhere(tx, access.org_id, row.name):
            raise ApiError(ErrorCode.CONFLICT, f"{row.name} was proved by another organisation of this installation")
        row.state, row.verified_at = VERIFIED, row.checked_at
        lost = await repository.lapsed_elsewhere(tx, access.org_id, row.name)
        for other in lost:
            other.state, other.reason = PENDING, "another organisation has proved it since"
        await tx.flush()
        for other in lost:
            await self._tell(tx, other.org_id)
        await self._record(tx, access, "domain.verify", row)
        await self._tell(tx, access.org_id)

    async def _tell(self, tx: Transaction, org_id: str) -> None:
        tx.publish("domain", org_id=org_id)
        for step in self.also_when_changed:
            await step(tx, org_id)

    # -- looking again ---------------------------------------------------------------------------

    async def look_again(self) -> int:
        """Look for the proofs of verified domains that nobody looked for today. Returns: how many were looked for."""
        async with self._db.read() as tx:
            rows = await repository.due(tx, await tx.now() - LOOK_AGAIN, AT_ONCE)
        for row in rows:
            try:
                problem = await self._seek(row)
            except ResolverAway as error:  # says nothing about the domain
                _log.info("domain not looked at", domain=row.name, why=str(error))
                continue
            await self._note(row.id, problem)
        return len(rows)

    async def _note(self, domain_id: str, problem: str) -> None:
        """Write what a look at a verified domain found."""
        async with self._db.begin() as tx:
            row = await tx.get(Domain, domain_id)
            if row is None or row.state != VERIFIED:
                return
            moment = await tx.now()
            row.checked_at, row.reason = moment, problem[:500]
            row.missing_since = (row.missing_since or moment) if problem else None
            if row.missing_since is not None and moment - row.missing_since >= PROOF_GRACE:
                await self._lapse(tx, row)

    async def _lapse(self, tx: Transaction, row: Domain) -> None:
        row.state = LAPSED
        _log.warning("domain is not proved any more", domain=row.name, why=row.reason)
        await self._audit.record(
            tx, system_actor("domains", row.org_id), action="domain.lapse", target_kind="domain", target_id=row.id,
            target_name=row.name, reason=row.reason,
        )  # fmt: skip
        tx.publish("domain", org_id=row.org_id)

    async def _look(self, row: Domain) -> str:
        """Return why the proof was not found; empty when it was."""
        try:
            return await self._seek(row)
        except ResolverAway as error:
            return str(error)

    async def _seek(self, row: Domain) -> str:
        """Return why the proof is not there; empty when it is. Raises: ResolverAway: nobody knows."""
        proof = proof_of(row)
        try:
            found = await self._resolver.texts(proof.name)
        except NameUnknown as error:
            return f"{error}; a new record may take minutes until every name server has it"
        if proof.value in (text.strip() for text in found):
            return ""
        seen = ", ".join(repr(text[:80]) for text in found[:5])
        return f"{proof.name} says {seen}, but not {proof.value}"

    def _checked(self, text: str) -> str:
        try:
            name = host_name(text)
        except NameRefused as error:
            raise ApiError(ErrorCode.INVALID, str(error)) from error
        ownership = self._ownership()
        if is_public_suffix(name):
            raise ApiError(ErrorCode.HOST_REFUSED, f"everybody registers names below {name}: nobody owns it")
        if ownership.covers(name) or (ownership.cluster_hosts and is_under(name, ownership.cluster_hosts)):
            raise ApiError(ErrorCode.HOST_REFUSED, f"names below {name} are given out by this server itself")
        return name

    async def _require(self, tx: Transaction, access: Access, name: str) -> Domain:
        row = await repository.find(tx, access.org_id, name.strip().rstrip(".").lower())
        if row is None:
            raise not_found("domain", name[:253])
        return row

    async def _record(self, tx: Transaction, access: Access, action: str, row: Domain) -> None:
        await self._audit.record(
            tx, access.actor, action=action, target_kind="domain", target_id=row.id, target_name=row.name
        )
