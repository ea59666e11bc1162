"""How often an authority may be asked. Pure: counts in, words out.

The numbers are a little below those of Let's Encrypt, the strictest of the public ones, so that its own refusal, which
blocks for up to a week, is not met. Source: https://letsencrypt.org/docs/rate-limits/
"""

from __future__ import annotations

from dataclasses import dataclass

HOUR, DAY, WEEK = 3600.0, 86400.0, 7 * 86400.0


@dataclass(frozen=True, slots=True)
class Limit:
    """So many within some seconds."""

    most: int
    seconds: float
    what: str


PER_ACCOUNT_SPAN, PER_DOMAIN_SPAN = 3 * HOUR, WEEK
PER_NAME = Limit(3, WEEK, "certificates of {name}")
FAILURES = Limit(3, HOUR, "refusals for {name}")
RENEWALS = Limit(10, WEEK, "certificates of {name}, renewals included,")
"""Authorities do not count renewals; we do, so that advice which is always in the past makes no loop."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Those that differ between authorities: one's own has none, or others."""

    account: int = 250
    domain: int = 40

    @property
    def per_account(self) -> Limit:
        return Limit(self.account, PER_ACCOUNT_SPAN, "certificates of this server")

    @property
    def per_domain(self) -> Limit:
        return Limit(self.domain, PER_DOMAIN_SPAN, "certificates below {domain}")


@dataclass(frozen=True, slots=True)
class Spent:
    """What was asked within the spans of the limits."""

    account: int = 0
    domain: int = 0
    name: int = 0
    failures: int = 0
    renewals: int = 0
    """Of the name, first ones included."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether one more may be asked for. `problem` is empty when it may."""

    problem: str = ""
    wait: float = 0.0


def judge(spent: Spent, name: str, domain: str, limits: Limits) -> Verdict:
    """Return whether one more certificate may be asked for, and how long to wait when not."""
    for count, limit in (
        (spent.failures, FAILURES),
        (spent.renewals, RENEWALS),
        (spent.name, PER_NAME),
        (spent.domain, limits.per_domain),
        (spent.account, limits.per_account),
    ):
        if count >= limit.most:
            what = limit.what.format(name=name, domain=domain)
            return Verdict(f"{count} {what} in {_span(limit.seconds)}: not asking before some of that is past", HOUR)
    return Verdict()


def left(spent: Spent, limits: Limits) -> str:
    """Say how much is left, for people."""
    name, domain = max(0, PER_NAME.most - spent.name), max(0, limits.domain - spent.domain)
    return f"{name} of {PER_NAME.most} this week for the name, {domain} of {limits.domain} for its domain"


def _span(seconds: float) -> str:
    for unit, word in ((WEEK, "week"), (DAY, "day"), (HOUR, "hour")):
        if seconds >= unit:
            count = int(seconds // unit)
            return f"{count} {word}s" if count > 1 else f"one {word}"
    return f"{seconds:.0f} seconds"
