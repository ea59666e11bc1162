"""One name, from the wish to the certificate: look, ask, show, fetch, keep. Goes on where a killed replica ended.

Nothing is asked for before it is written down, and the key of a certificate is kept before the certificate is made, so
that whoever takes the lease over finishes the same order and asks for no second one.
Source: RFC 8555 section 7.1.6 (states of orders and authorisations).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from towline.aio.clock import Clock
from towline.control.certificates import budget, keys, repository, schedule
from towline.control.certificates.accounts import Accounts
from towline.control.certificates.acme_objects import Authorization, Challenge, Directory, Order, renewal_id
from towline.control.certificates.acme_port import Authority
from towline.control.certificates.answers import ChallengeAnswers
from towline.control.certificates.checks import Seen
from towline.control.certificates.errors import AuthorityRefused, AuthorityUnreachable, Blocked, CertificateError
from towline.control.certificates.keeping import TOPIC, Keeper, cut
from towline.control.certificates.models import AcmeOrder, Certificate
from towline.control.certificates.states import ChallengeKind, State
from towline.control.ids import new_id
from towline.control.logging import get_logger

_log = get_logger("certificates")

POLL_FIRST, POLL_MOST, POLL_GROWTH = 0.2, 5.0, 1.6
"""Seconds between two looks at an order: authorities take from a tenth of a second to some."""
ORDER_DEADLINE = 90.0
"""Seconds that an authority gets to look and to sign; the order is kept, and looked at again later."""
CHALLENGE_LIFE = 600.0
"""Seconds that a challenge is answered; its order is over long before."""
REPLICA_GRACE = 1.0
"""Seconds that other replicas get to hear of a TLS-ALPN challenge: a handshake waits for no database."""
DEAD = frozenset({"invalid", "expired", "deactivated", "revoked"})
GONE = frozenset({"malformed", "orderNotFound", "unauthorized", "notFound", "unknown"})
"""What authorities say of orders that they forgot; there is no word for it in RFC 8555."""


class Looker(Protocol):
    async def look(self, name: str, identities: tuple[str, ...], *, force: bool = False) -> Seen: ...


class Solver(Protocol):
    """Shows TXT records for DNS-01."""

    async def present(self, name: str, value: str) -> None:
        """Have a record at `_acme-challenge.NAME` and wait until it can be seen. Raises: Blocked."""

    async def remove(self, name: str, value: str) -> None:
        """Take it away again; never raises for one that is gone."""


@dataclass(frozen=True, slots=True)
class Tools:
    """What an order needs."""

    keeper: Keeper
    accounts: Accounts
    looker: Looker
    solver: Solver | None
    clock: Clock
    registrable: Callable[[str], str]
    answers: ChallengeAnswers
    limits: budget.Limits
    has_replicas: bool = False


class Ordering:
    """Brings names forward. `work` is called by who holds the lease of the row."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        self._keeper = tools.keeper

    async def issue(self, row: Certificate, *, force: bool = False) -> None:
        """Have a certificate, the first or the next. Raises: CertificateError: why there is none."""
        try:
            await self._issue(row, force=force)
        except AuthorityRefused as error:
            if error.code != "accountDoesNotExist":
                raise
            _log.warning("the authority does not know our account any more; registering again", name=row.name)
            await self._tools.accounts.forget()
            await self._issue(row, force=force)

    async def _issue(self, row: Certificate, *, force: bool) -> None:
        authority = await self._tools.accounts.authority()
        self._check_clock(await authority.directory(fresh=True))
        order = await self._standing_order(authority, row)
        refused = row.challenge if row.state == State.FAILED else ""
        seen = Seen(())
        if order is None or order.status == "pending":
            directory = await authority.directory()
            seen = await self._tools.looker.look(row.name, directory.identities, force=force)
            seen = _with_last(seen, refused)
        if order is None:
            order = await self._ask(authority, row)
        try:
            order = await self._show(authority, row, order, seen)
            await self._finish(authority, row, order)
        except AuthorityRefused as error:
            raise _with_doubts(error, seen) from error
        finally:
            for challenge in self._tools.answers.own_of(row.id):
                self._tools.answers.drop(challenge)
            async with self._keeper.db.begin() as tx:
                await repository.end_challenges(tx, row.id)
                tx.publish(TOPIC, id=row.id)

    async def plan_renewal(self, row: Certificate) -> None:
        """Ask the authority when to renew, and note that moment and that of the next question."""
        window = None
        try:
            window = await (await self._tools.accounts.authority()).renewal(keys.first_of(row.chain))
        except CertificateError as error:
            _log.info("no advice on renewal", name=row.name, why=str(error))
        async with self._keeper.db.begin() as tx:
            moment = await tx.now()
            planned = row.renew_at or moment
            if window is not None and not window.begins_at <= planned <= window.ends_at:
                planned = schedule.moment_in(window.begins_at, window.ends_at)
            ask = moment + timedelta(seconds=schedule.ask_again(window.ask_after if window else 0.0))
            reason = "the authority wants it renewed now" if planned <= moment else ""
            values = {"renew_at": planned, "asked_ari_at": moment, "next_at": max(moment, min(planned, ask))}
            await self._keeper.write(tx, row, state=State.ISSUED, reason=reason, **values)

    # asking

    def _check_clock(self, directory: Directory) -> None:
        told = directory.told_at
        if told is None:
            return
        off = self._tools.clock.now() - told
        if abs(off) > schedule.CLOCK_TOLERANCE:
            hours = abs(off).total_seconds() / 3600
            side = "ahead of" if off > timedelta(0) else "behind"
            raise Blocked(f"this server's clock is {hours:.0f} hours {side} the authority's: set it right, e.g. by NTP")

    async def _standing_order(self, authority: Authority, row: Certificate) -> Order | None:
        """Return the order that somebody began and did not finish; None when there is none that can be used."""
        if not row.order_url or row.directory != authority.url or not row.sealed_order_key:
            return None
        try:
            order = await authority.order(row.order_url)
        except AuthorityRefused as error:
            if error.code not in GONE:
                raise
            order = None
        if order is None or order.status in DEAD:
            await self._end_order(row, "failed", "the authority forgot it, or gave it up")
            return None
        _log.info("going on with an order", name=row.name, status=order.status)
        return order

    async def _ask(self, authority: Authority, row: Certificate) -> Order:
        replaces = renewal_id(keys.first_of(row.chain)) if row.chain and row.directory == authority.url else ""
        domain = self._tools.registrable(row.name.removeprefix("*."))
        await self._check_budget(authority.url, row.name, domain, renewal=bool(replaces))
        entry = AcmeOrder(
            id=new_id("ord"), directory=authority.url, name=row.name, domain=domain, state="open",
            renewal=bool(replaces),
        )  # fmt: skip
        await self._keeper.begin_order(row, entry)
        _log.info("asking for a certificate", name=row.name, renewal=bool(replaces))
        try:
            order = await self._new_order(authority, row, replaces)
        except AuthorityRefused as error:
            await self._end_order(row, "failed", str(error))
            raise
        await self._keeper.save(row, order_url=order.url, directory=authority.url)
        return order

    async def _new_order(self, authority: Authority, row: Certificate, replaces: str) -> Order:
        try:
            return await authority.new_order((row.name,), replaces=replaces)
        except AuthorityRefused as error:
            if not replaces or error.code in ("rateLimited", "rejectedIdentifier", "accountDoesNotExist"):
                raise
            return await authority.new_order((row.name,))  # it does not know what is replaced, or had it replaced

    async def _check_budget(self, directory: str, name: str, domain: str, *, renewal: bool) -> None:
        async with self._keeper.db.read() as tx:
            spent = await repository.spent(tx, directory, name, domain)
        if renewal:
            spent = budget.Spent(failures=spent.failures, renewals=spent.renewals)
        verdict = budget.judge(spent, name, domain, self._tools.limits)
        if verdict.problem:
            raise Blocked(verdict.problem, wait=verdict.wait)

    # showing

    async def _show(self, authority: Authority, row: Certificate, order: Order, seen: Seen) -> Order:
        """Answer the challenges of every authorisation that is open, and wait until the order can be finished."""
        shown: list[tuple[str, str]] = []
        try:
            for url in order.authorizations if order.status == "pending" else ():
                found = await authority.authorization(url)
                if found.status == "pending":
                    shown += await self._show_one(authority, row, found, seen)
                    await self._wait_for(authority, row, url)
                elif found.status in DEAD:
                    await self._fail_order(row, _problem_of(found))
            return await self._poll(authority, row, order.url, {"ready", "processing", "valid"}, order)
        finally:
            for name, value in shown:
                if self._tools.solver is not None:
                    await self._tools.solver.remove(name, value)

    async def _show_one(
        self, authority: Authority, row: Certificate, found: Authorization, seen: Seen
    ) -> list[tuple[str, str]]:
        """Make one challenge ready and say so. Returns: TXT records to take away."""
        challenge = _choose(found, seen)
        await self._keeper.save(row, challenge=challenge.kind)
        proof = authority.key_authorization(challenge.token)
        records = []
        if challenge.kind == ChallengeKind.DNS:
            assert self._tools.solver is not None
            value = keys.dns_value(proof)
            records.append((found.name, value))
            await self._tools.solver.present(found.name, value)
        else:
            shown = challenge.kind, found.name, challenge.token, proof
            self._tools.answers.add(await self._keeper.add_challenge(row.id, *shown, CHALLENGE_LIFE))
            if challenge.kind == ChallengeKind.TLS_ALPN and self._tools.has_replicas:
                await self._tools.clock.sleep(REPLICA_GRACE)
        if challenge.status == "pending":
            await authority.answer(challenge)
        return records

    async def _wait_for(self, authority: Authority, row: Certificate, url: str) -> None:
        deadline, wait = self._tools.clock.monotonic() + ORDER_DEADLINE, POLL_FIRST
        while True:
            await self._tools.clock.sleep(wait)
            found = await authority.authorization(url)
            if found.status == "valid":
                return
            if found.status != "pending":
                await self._fail_order(row, _problem_of(found))
            self._give_up_after(deadline)
            wait = min(wait * POLL_GROWTH, POLL_MOST)

    async def _poll(self, authority: Authority, row: Certificate, url: str, until: set[str], order: Order) -> Order:
        deadline, wait = self._tools.clock.monotonic() + ORDER_DEADLINE, POLL_FIRST
        while order.status not in until:
            if order.status in DEAD:
                why = order.error or AuthorityRefused("invalid", "the authority gave the order up without a reason")
                await self._fail_order(row, why)
            self._give_up_after(deadline)
            order = await authority.order(url)
            if order.status not in until:
                await self._tools.clock.sleep(wait)
                wait = min(wait * POLL_GROWTH, POLL_MOST)
        return order

    def _give_up_after(self, deadline: float) -> None:
        if self._tools.clock.monotonic() > deadline:
            raise AuthorityUnreachable(f"the authority has been at it for over {ORDER_DEADLINE:.0f} seconds")

    # fetching

    async def _finish(self, authority: Authority, row: Certificate, order: Order) -> None:
        key = self._keeper.order_key(row)
        if order.status == "ready":
            order = await authority.finalize(order, keys.request_for((row.name,), key))
        order = await self._poll(authority, row, order.url, {"valid"}, order)
        chain = await authority.certificate(order)
        await self._check_chain(row, chain, key)
        await self._keep(authority, row, chain, key)

    async def _check_chain(self, row: Certificate, chain: str, key: bytes) -> None:
        """Look at what the authority gave: another one's certificate would be served to everybody."""
        try:
            first = keys.first_of(chain)
        except (ValueError, IndexError) as error:
            raise AuthorityUnreachable("the authority gave something that is no certificate") from error
        if _public(first.public_key()) != _public(keys.elliptic(key).public_key()):
            await self._fail_order(row, AuthorityRefused("badCertificate", "it certified another key than ours"))
        if row.name not in keys.names_of(first):
            await self._fail_order(row, AuthorityRefused("badCertificate", "it certified other names than asked for"))

    async def _keep(self, authority: Authority, row: Certificate, chain: str, key: bytes) -> None:
        values = self._keeper.material(row, chain, key)
        async with self._keeper.db.begin() as tx:
            moment = schedule.renew_at(values["begins_at"], values["ends_at"])
            await self._keeper.write(
                tx, row, **values, state=State.ISSUED, reason="", attempts=0, order_url="", sealed_order_key=b"",
                force=False, directory=authority.url, renew_at=moment, next_at=await tx.now(),
            )  # fmt: skip
            entry = await repository.open_order(tx, authority.url, row.name)
            if entry is not None:
                await repository.end_order(tx, entry.id, "issued")
            await self._keeper.audit(
                tx, row, "certificate.issue", issuer=row.issuer, until=f"{values['ends_at']:%Y-%m-%d}",
                challenge=row.challenge,
            )  # fmt: skip
        _log.info("certificate issued", name=row.name, issuer=row.issuer, until=f"{values['ends_at']:%Y-%m-%d}")

    # the end of an order

    async def _fail_order(self, row: Certificate, why: AuthorityRefused) -> None:
        await self._end_order(row, "failed", str(why))
        raise why

    async def _end_order(self, row: Certificate, state: str, reason: str) -> None:
        async with self._keeper.db.begin() as tx:
            entry = await repository.open_order(tx, self._tools.accounts.directory, row.name)
            if entry is not None:
                await repository.end_order(tx, entry.id, state, cut(reason))
            await self._keeper.write(tx, row, order_url="", sealed_order_key=b"")


def _choose(found: Authorization, seen: Seen) -> Challenge:
    """Return the challenge to answer: the best that may work. Raises: Blocked."""
    offered = {challenge.kind: challenge for challenge in found.challenges}
    usable = [offered[kind] for kind in seen.kinds if kind in offered]
    if not usable:
        raise Blocked(f"the authority offers {', '.join(offered) or 'nothing'}, and none of it works here")
    return usable[0]


def _with_last(seen: Seen, refused: str) -> Seen:
    """Put a challenge that the authority was not convinced by behind all others."""
    return Seen(tuple(sorted(seen.kinds, key=lambda kind: kind == refused)), seen.doubts)


def _with_doubts(error: AuthorityRefused, seen: Seen) -> AuthorityRefused:
    """Add what a look from here could not make sure of."""
    if not seen.doubts:
        return error
    words = f"{error.detail}; seen from here: {'; '.join(seen.doubts)}"
    return AuthorityRefused(error.code, words, status=error.status, retry_after=error.retry_after)


def _problem_of(found: Authorization) -> AuthorityRefused:
    for challenge in found.challenges:
        if challenge.error is not None:
            return challenge.error
    return AuthorityRefused("unauthorized", f"the authority was not convinced that {found.name} is ours")


def _public(key: object) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)  # type: ignore[attr-defined,no-any-return]
