"""Certificates as a part of the control plane: what belongs together, and the loop that keeps it going.

One pass: compare what is wanted with the rows, begin with what is due, serve what is there, warn of what ends. A hint
on the bus only makes it sooner; without any it runs every `LOOK_INTERVAL`.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

from sqlalchemy import and_, or_
from sqlalchemy.exc import DBAPIError

from towline.aio.tasks import TaskOwner
from towline.control.bus import Subscription
from towline.control.certificates import repository, schedule
from towline.control.certificates.accounts import Accounts, AuthoritySettings
from towline.control.certificates.answers import ChallengeAnswers
from towline.control.certificates.checks import Checks
from towline.control.certificates.figures import Figures
from towline.control.certificates.issuing import Issuer
from towline.control.certificates.keeping import TOPIC, Keeper
from towline.control.certificates.lights import certificate_light, upload_problem
from towline.control.certificates.local import LocalSigner
from towline.control.certificates.lookups import DnsLookups
from towline.control.certificates.models import AcmeChallenge, AcmeOrder, Certificate
from towline.control.certificates.ordering import Ordering, Tools
from towline.control.certificates.probing import Prober
from towline.control.certificates.service import CertificateService
from towline.control.certificates.serving import Serving
from towline.control.certificates.sources import (
    agent_hosts,
    check_settings,
    limits_of,
    looks_of,
    own_names,
    solver_of,
    source_of,
)
from towline.control.certificates.states import Source, State
from towline.control.certificates.wanted import Names, Plan, WantedName, plan
from towline.control.db import Transaction, now
from towline.control.domains.names import registrable
from towline.control.domains.resolver import Resolver
from towline.control.errors import ApiError
from towline.control.ids import new_id
from towline.control.logging import get_logger
from towline.control.pacing import rest_after
from towline.control.retention import Rule
from towline.control.routes import repository as routes
from towline.gateway.certificates import Certificates

if TYPE_CHECKING:
    from towline.control.app import ControlPlane

_log = get_logger("certificates")

LOOK_INTERVAL = 30.0
LEAST_PAUSE = 0.2
"""Seconds between two passes: a flood of hints costs five reads a second."""
TOPICS = (TOPIC, "route", "domain", "resync")
LONGEST_REASON = 300
"""Characters of a database's error in the log: it may hold a whole statement."""
WARN_AGAIN = timedelta(days=1)
KEEP_ORDERS = 30 * 86400.0
"""Seconds; the longest budget counts a week, and people look back for a month."""
KEEP_NAMES = 7 * 86400.0
"""Seconds after which a name without a use and without a certificate that holds is forgotten."""


class CertificatesFeature:
    """Everything about certificates. `sources` are asked which names need one; routes add theirs before the start."""

    def __init__(self, control: ControlPlane) -> None:
        check_settings(control.settings)
        settings, db, clock = control.settings, control.db, control.clock
        self._control = control
        self._tasks = TaskOwner("certificates")
        self.sources: list[Names] = [lambda: own_names(settings), self._route_names]
        self.handshakes = Certificates(control.tls.context)
        self.handshakes.own_names = frozenset(control.tls.names)
        self.handshakes.kept_names = agent_hosts(settings)
        self.handshakes.is_strict = bool(settings.gateway_domain)
        self.keeper = Keeper(db, control.sealer, control.audit, clock, owner=new_id("evt"))
        self.answers = ChallengeAnswers(self.handshakes, self._look_up, clock)
        self.figures = Figures(control.metrics.registry, self.handshakes)
        self.accounts = self._accounts()
        self.answers.is_on = self.accounts is not None
        self._source = source_of(settings)
        self._serving = Serving(self.keeper, self.handshakes, self.answers)
        self._local = LocalSigner(settings.data_folder / "tls", clock)
        if self._source is Source.LOCAL:
            self.handshakes.signer = self._local
        self._issuer = Issuer(self.keeper, self._ordering(), self.figures, self._tasks)
        self.service = CertificateService(self.keeper, control.audit, self.accounts)
        self.service.limits = limits_of(settings)
        self.service.local_owners = lambda: self._local.owners
        self.service.may_have = partial(upload_problem, control)
        control.gateway.checks.certificate = partial(certificate_light, control)

        control.retention.rules += rules()

    def __repr__(self) -> str:
        return f"<CertificatesFeature {self._source or 'without authority'} {self.handshakes!r}>"

    async def start(self) -> None:
        """Serve what there is, and begin to keep it right."""
        await self._serving.reload()
        self._tasks.spawn("look", self._look_for_ever())

    async def stop(self) -> None:
        """End what runs; its orders are gone on with by another replica, or at the next start."""
        await self._tasks.close()
        if self.accounts is not None:
            await self.accounts.close()

    async def look(self) -> None:
        """Make one whole pass."""
        await self._reconcile()
        await self._glance()
        await self._count_and_warn()

    # the loop

    async def _look_for_ever(self) -> None:
        names_changed = True
        async with self._control.bus.subscribe(*TOPICS) as hints:
            while True:
                began = self._control.clock.monotonic()
                try:
                    await (self.look() if names_changed else self._glance())
                except (ApiError, DBAPIError) as error:
                    _log.warning("certificates not looked at", why=str(error)[:LONGEST_REASON])
                took = self._control.clock.monotonic() - began
                await self._control.clock.sleep(rest_after(took, least=LEAST_PAUSE))
                try:
                    names_changed = await self._wait(hints)
                except StopAsyncIteration:
                    return

    async def _wait(self, hints: Subscription) -> bool:
        """Wait for hints, and take all that are there. Returns: whether names may need other certificates now."""
        try:
            async with asyncio.timeout(await self._pause()):
                found = [await anext(hints)]
        except TimeoutError:
            return True
        with suppress(TimeoutError):
            async with asyncio.timeout(0):  # ends only when there is nothing left to take at once
                while True:
                    found.append(await anext(hints))
        return any(hint.topic != TOPIC or "names" in hint.ids for hint in found)

    async def _glance(self) -> None:
        """Begin with what is due, and serve what there is: the quick half of a pass."""
        await self._issuer.take_due()
        await self._serving.reload()

    async def _pause(self) -> float:
        """Return the seconds until something is due, or until the next look without a reason."""
        try:
            async with self._control.db.read() as tx:
                due = await repository.next_moment(tx)
        except (ApiError, DBAPIError):
            return LOOK_INTERVAL
        return LOOK_INTERVAL if due is None else min(LOOK_INTERVAL, max(LEAST_PAUSE, due))

    async def _reconcile(self) -> None:
        names = await self._wanted()
        if self._source is Source.LOCAL:
            self._local.owners = {each.name: each.org_id for each in reversed(names)}
        if self._source is not Source.ACME:
            return
        async with self._control.db.read() as tx:
            rows, moment = await repository.everything(tx), await tx.now()
        changes = plan(names, rows, moment, wildcard_of=self._wildcard_of)
        if changes != Plan():
            async with self._control.db.begin() as tx:
                await self._apply(tx, changes)

    async def _wanted(self) -> list[WantedName]:
        return [each for ask in self.sources for each in await ask()]

    async def _route_names(self) -> list[WantedName]:
        async with self._control.db.read() as tx:
            owners = await routes.owners_of_hosts(tx)
        return [WantedName(host, org_id) for host, org_id in owners.items()]

    @property
    def _wildcard_of(self) -> str:
        """With DNS-01 all names that are given out share one certificate."""
        settings = self._control.settings
        return settings.gateway_domain if solver_of(settings) is not None else ""

    async def _apply(self, tx: Transaction, changes: Plan) -> None:
        moment = await tx.now()
        rows = [
            {
                "id": new_id("crt"), "name": each.name, "org_id": each.org_id, "source": Source.ACME,
                "state": State.WAITING, "next_at": moment, "created_at": moment, "updated_at": moment,
                **repository.EMPTY,
            }
            for each in changes.missing
        ]  # fmt: skip
        await repository.insert_missing(tx, rows)
        await repository.set_wanted(tx, changes.wanted, wanted=True)
        await repository.set_wanted(tx, changes.unwanted, wanted=False)
        await repository.take_over(tx, changes.lapsed)
        tx.publish(TOPIC)
        for each in changes.missing:
            _log.info("a name needs a certificate", name=each.name)

    async def _count_and_warn(self) -> None:
        async with self._control.db.read() as tx:
            moment = await tx.now()
            self.figures.show(await repository.states(tx))
            soonest = await repository.soonest_end(tx)
            ending = [row for row in await repository.with_end(tx) if _is_ending(row, moment)]
        self.figures.ending.set(len(ending))
        self.figures.soonest.set((soonest - moment).total_seconds() if soonest else 0.0)
        for row in ending:
            is_tried = row.source != Source.UPLOAD and (row.owner or row.next_at <= moment)
            if not is_tried and (row.warned_at is None or row.warned_at + WARN_AGAIN < moment):
                await self._warn(row)

    async def _warn(self, row: Certificate) -> None:
        """Say once a day that a certificate will end, and why the next one has not come."""
        assert row.ends_at is not None
        why = row.reason or ("upload the next one" if row.source == Source.UPLOAD else "its renewal has not worked")
        async with self._control.db.begin() as tx:
            if not await repository.mark_warned(tx, row):
                return  # another replica said so
            until = f"{row.ends_at:%Y-%m-%d %H:%M}"
            await self.keeper.audit(tx, row, "certificate.ending", result="failed", reason=f"ends {until} UTC: {why}")
        _log.warning("a certificate ends soon", name=row.name, until=until, why=why)

    # parts

    async def _look_up(self, token: str) -> AcmeChallenge | None:
        async with self._control.db.read() as tx:
            return await repository.challenge(tx, token)

    def _accounts(self) -> Accounts | None:
        settings = self._control.settings
        if not settings.acme_directory:
            return None
        who = AuthoritySettings(
            settings.acme_directory, settings.acme_email, str(settings.acme_ca_file or ""),
            settings.acme_eab_key_id, settings.acme_eab_hmac_file,
        )  # fmt: skip
        return Accounts(self._control.db, self._control.sealer, who)

    def _ordering(self) -> Ordering | None:
        if self.accounts is None:
            return None
        control, settings = self._control, self._control.settings
        prober = Prober(self.keeper, self.answers, has_replicas=not control.db.is_sqlite, clock=control.clock)
        looker = Checks(DnsLookups(Resolver(settings.dns_resolvers)), looks_of(settings), prober.open)
        tools = Tools(
            self.keeper, self.accounts, looker, solver_of(settings), control.clock, registrable,
            has_replicas=not control.db.is_sqlite, answers=self.answers, limits=limits_of(settings),
        )  # fmt: skip
        return Ordering(tools)


def rules() -> list[Rule]:
    """Return what is old: orders that no budget counts, challenges, and names that nobody needs any more."""
    unneeded = and_(~Certificate.wanted, Certificate.source != Source.UPLOAD)
    ended = or_(Certificate.ends_at.is_(None), Certificate.ends_at < now())
    return [
        Rule("acme_orders", AcmeOrder.id, lambda: AcmeOrder.created_at < now(-KEEP_ORDERS)),
        Rule("acme_challenges", AcmeChallenge.token, lambda: AcmeChallenge.expires_at < now()),
        Rule("certificates", Certificate.id, lambda: and_(unneeded, ended, Certificate.updated_at < now(-KEEP_NAMES))),
    ]


def _is_ending(row: Certificate, moment: datetime) -> bool:
    return bool(row.begins_at and row.ends_at and moment >= schedule.warn_at(row.begins_at, row.ends_at))
