"""What people do with certificates: look, upload, renew, revoke, remove. Audited; no FastAPI.

The rows that nobody touches by hand are moved by `issuing`; this only makes them due sooner.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping
from datetime import datetime
from typing import TYPE_CHECKING

from towline.control.access.actor import Access
from towline.control.access.permissions import Permission, Resource
from towline.control.audit.service import AuditLog
from towline.control.certificates import budget, keys, repository, schedule, uploads
from towline.control.certificates.errors import CertificateError
from towline.control.certificates.keeping import NAMES_CHANGED, TOPIC, Keeper
from towline.control.certificates.models import Certificate
from towline.control.certificates.schemas import CertificateOut, RevocationReason
from towline.control.certificates.states import Source, State
from towline.control.db import Transaction
from towline.control.domains.names import registrable
from towline.control.errors import ApiError, ErrorCode, not_found
from towline.control.ids import new_id
from towline.gateway.certificates import covers

if TYPE_CHECKING:
    from towline.control.certificates.accounts import Accounts

REASONS: dict[RevocationReason, int] = {
    "unspecified": 0, "key_compromise": 1, "superseded": 4, "cessation": 5,
}  # fmt: skip
"""Numbers of RFC 5280 section 5.3.1; authorities take no others from their customers."""
MAX_CERTIFICATES = 50_000
"""In the installation: as many as routes."""


MayHave = Callable[[str, str], Awaitable[str]]
"""Organisation and host or wildcard; returns why the organisation may not have it, or nothing."""


async def _anybody(org_id: str, name: str) -> str:
    return ""


class CertificateService:
    """The rules. `may_have` tells whether an organisation owns a name, so that uploads claim no others'."""

    def __init__(self, keeper: Keeper, audit: AuditLog, accounts: Accounts | None) -> None:
        self._keeper = keeper
        self._audit = audit
        self._accounts = accounts
        self.may_have: MayHave = _anybody
        self.limits = budget.Limits()
        self.local_owners: Callable[[], Mapping[str, str]] = dict
        """Names that our own authority signs when asked, each with its organisation."""

    async def visible(self, access: Access, search: str = "") -> list[CertificateOut]:
        """Return the organisation's certificates by name; none to those who may see some of its routes alone."""
        if not _may_see(access):
            return []
        async with self._keeper.db.read() as tx:
            moment = await tx.now()
            rows = await repository.of_org(tx, access.org_id, search)
        stored = [shown(row, moment) for row in rows if row.wanted or row.names]
        known = {each.name for each in stored}
        local = [name for name in self._local_names(access) if name not in known and search.lower() in name]
        return sorted([*stored, *(local_one(name) for name in local)], key=lambda each: each.name)

    async def get(self, access: Access, name: str) -> CertificateOut:
        """Raises: ApiError: certificate_not_found."""
        async with self._keeper.db.read() as tx:
            row = await repository.by_name(tx, name.lower())
            if row is None and name.lower() in self._local_names(access):
                return local_one(name.lower())
            row = await self._own(tx, access, name)
            found = shown(row, await tx.now())
            if self._accounts is not None and row.source == Source.ACME:
                domain = registrable(row.name.removeprefix("*."))
                spent = await repository.spent(tx, self._accounts.directory, row.name, domain)
                found.budget = budget.left(spent, self.limits)
            return found

    async def of_host(self, host: str) -> CertificateOut | None:
        """Return what a host is served, or what there is about it; for the page of a route."""
        async with self._keeper.db.read() as tx:
            moment, rows = await tx.now(), await repository.may_serve(tx, host)
        serving = [row for row in rows if covers(row.names, host)]
        waiting = [row for row in rows if covers([row.name], host)]
        found = sorted(serving, key=lambda row: row.source == Source.UPLOAD)[-1:] or waiting[:1]
        if found:
            return shown(found[0], moment)
        return local_one(host) if covers(self.local_owners(), host) else None

    async def upload(self, access: Access, chain: str, key: str) -> tuple[CertificateOut, tuple[str, ...]]:
        """Serve a certificate of one's own. Returns: it, and what was noticed. Raises: ApiError: invalid, conflict."""
        access.require_org(Permission.DOMAIN_MANAGE)
        async with self._keeper.db.read() as tx:
            moment = await tx.now()
        try:
            found = uploads.checked(chain, key, moment)
        except uploads.UploadRefused as error:
            raise ApiError(ErrorCode.INVALID, str(error)) from error
        for name in found.facts.names:
            problem = await self.may_have(access.org_id, name)
            if problem:
                raise ApiError(ErrorCode.HOST_REFUSED, problem)
        async with self._keeper.db.begin() as tx:
            row = await self._row_for_upload(tx, access, found.facts.names[0])
            values = self._keeper.material(row, found.chain, found.key)
            for column, value in values.items():
                setattr(row, column, value)
            row.source, row.state, row.reason, row.wanted = Source.UPLOAD, State.ISSUED, "", True
            row.order_url, row.sealed_order_key, row.attempts, row.directory = "", b"", 0, ""
            row.renew_at, row.updated_at = None, moment
            row.epoch += 1  # whoever was ordering for this name writes nothing more
            row.owner = ""
            await self._record(tx, access, "certificate.upload", row, names=list(row.names), issuer=row.issuer)
            return shown(row, moment), found.notes

    async def renew(self, access: Access, name: str, *, force: bool = False) -> CertificateOut:
        """Look and ask again now; with `force` even if the look says no. Raises: ApiError: conflict for an upload."""
        access.require_org(Permission.DOMAIN_MANAGE)
        async with self._keeper.db.begin() as tx:
            row = await self._own(tx, access, name)
            if row.source == Source.UPLOAD:
                raise ApiError(ErrorCode.CONFLICT, "an uploaded certificate is renewed by uploading the next one")
            if not row.wanted:
                raise ApiError(ErrorCode.CONFLICT, f"no route needs a certificate for {row.name}")
            row.renew_at = row.next_at = await tx.now()
            row.attempts, row.force = 0, force
            await self._record(tx, access, "certificate.renew", row, force=force)
            return shown(row, row.next_at)

    async def revoke(self, access: Access, name: str, reason: RevocationReason) -> CertificateOut:
        """Have the authority withdraw a certificate, and stop serving it; a route that needs one gets a new one.

        Raises: ApiError: conflict: it is none of an authority's; unavailable: the authority does not do it.
        """
        access.require_org(Permission.DOMAIN_MANAGE)
        async with self._keeper.db.read() as tx:
            row = await self._own(tx, access, name)
        if row.source != Source.ACME or not row.chain or self._accounts is None:
            raise ApiError(ErrorCode.CONFLICT, f"{row.name} has no certificate of an authority that could withdraw it")
        try:
            authority = await self._accounts.authority()
            await authority.revoke(keys.first_of(row.chain), REASONS[reason])
        except CertificateError as error:
            if getattr(error, "code", "") != "alreadyRevoked":
                raise ApiError(ErrorCode.UNAVAILABLE, f"the authority did not withdraw it: {error}") from error
        async with self._keeper.db.begin() as tx:
            row = await self._own(tx, access, name)
            row.epoch += 1
            row.owner, row.order_url = "", ""
            row.state, row.reason = State.REVOKED, f"withdrawn by {access.actor.username or 'somebody'}: {reason}"
            row.chain, row.sealed_key, row.names = "", b"", []
            row.revoked_at = row.next_at = await tx.now()
            row.renew_at = None
            await self._record(tx, access, "certificate.revoke", row, reason=reason)
            return shown(row, row.next_at)

    async def remove(self, access: Access, name: str) -> None:
        """Forget a certificate. Of a name that is needed an authority is asked for a new one, unless it was asked for.

        Raises: ApiError: conflict: it is in use and not uploaded.
        """
        access.require_org(Permission.DOMAIN_MANAGE)
        async with self._keeper.db.begin() as tx:
            row = await self._own(tx, access, name)
            if row.wanted and row.source != Source.UPLOAD:
                raise ApiError(
                    ErrorCode.CONFLICT,
                    f"{row.name} is needed by a route",
                    hint="take the route away first, upload a certificate of your own, or revoke this one",
                )
            await tx.delete(row)
            await self._record(tx, access, "certificate.remove", row)

    async def _row_for_upload(self, tx: Transaction, access: Access, name: str) -> Certificate:
        row = await repository.by_name(tx, name)
        if row is not None:
            if row.org_id != access.org_id:
                raise ApiError(ErrorCode.CONFLICT, f"{name} belongs to another organisation")
            return row
        if await repository.count(tx) >= MAX_CERTIFICATES:
            raise ApiError(ErrorCode.CONFLICT, f"an installation may have {MAX_CERTIFICATES} certificates")
        moment = await tx.now()
        row = Certificate(
            id=new_id("crt"), org_id=access.org_id, name=name, source=Source.UPLOAD, state=State.ISSUED, serial=0,
            epoch=0, order_serial=0, next_at=moment, created_at=moment, updated_at=moment,
        )  # fmt: skip
        tx.add(row)
        await tx.flush()
        return row

    def _local_names(self, access: Access) -> Collection[str]:
        if not _may_see(access):
            return []
        return [name for name, org_id in self.local_owners().items() if org_id == access.org_id]

    async def _own(self, tx: Transaction, access: Access, name: str) -> Certificate:
        row = await repository.by_name(tx, name.lower())
        if row is None or row.org_id != access.org_id or not _may_see(access):
            raise not_found("certificate", name)
        return row

    async def _record(self, tx: Transaction, access: Access, action: str, row: Certificate, **detail: object) -> None:
        await self._audit.record(
            tx, access.actor, action=action, target_kind="certificate", target_id=row.id, target_name=row.name,
            detail=detail,
        )  # fmt: skip
        tx.publish(TOPIC, id=row.id, **NAMES_CHANGED)


def _may_see(access: Access) -> bool:
    """Names tell what an organisation runs: they are for those who may see all of its routes."""
    return access.may(Permission.ROUTE_READ, Resource(access.org_id))


def local_one(name: str) -> CertificateOut:
    """Return a name that our own authority signs, as people see it."""
    return CertificateOut(
        name=name, source=Source.LOCAL, state=State.ISSUED, wanted=True, served=True, names=[name],
        reason="the server's own authority signs it when it is asked for; browsers have to trust that first",
    )  # fmt: skip


def shown(row: Certificate, moment: datetime) -> CertificateOut:
    """Return a row as people see it."""
    left = None if row.ends_at is None or not row.names else (row.ends_at - moment).days
    ending = row.names and row.begins_at and row.ends_at and moment >= schedule.warn_at(row.begins_at, row.ends_at)
    state = row.state
    if row.names and row.ends_at is not None and row.ends_at <= moment:
        state = State.EXPIRED
    waits = row.wanted and row.source != Source.UPLOAD
    return CertificateOut(
        id=row.id, name=row.name, source=row.source, state=state, reason=row.reason, wanted=row.wanted,
        served=bool(row.names), names=list(row.names), issuer=row.issuer, fingerprint=row.fingerprint,
        begins_at=row.begins_at, ends_at=row.ends_at, days_left=left, renew_at=row.renew_at,
        next_try_at=row.next_at if waits else None, attempts=row.attempts, challenge=row.challenge,
        is_ending=bool(ending), revoked_at=row.revoked_at, created_at=row.created_at, updated_at=row.updated_at,
    )  # fmt: skip
