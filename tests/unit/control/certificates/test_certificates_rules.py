"""Budgets, pauses, renewal, CAA, and which rows names need: the rules that ask nobody."""

from datetime import UTC, datetime, timedelta

import pytest

from towline.control.certificates import budget, schedule
from towline.control.certificates.acme_objects import retry_after
from towline.control.certificates.lookups import CaaRecord, caa_problem
from towline.control.certificates.models import Certificate
from towline.control.certificates.wanted import Plan, WantedName, plan

NOW = datetime(2026, 11, 1, tzinfo=UTC)
OURS = ("letsencrypt.org",)
LIMITS = budget.Limits()


def row(name: str, *, wanted: bool = True, source: str = "acme", names: list[str] | None = None) -> Certificate:
    return Certificate(name=name, wanted=wanted, source=source, names=names or [], org_id="org_default")


# -- which rows


def test_a_new_name_is_missing() -> None:
    assert plan([WantedName("a.test")], [], NOW) == Plan(missing=(WantedName("a.test"),))


def test_a_name_that_is_there_changes_nothing() -> None:
    assert plan([WantedName("a.test")], [row("a.test")], NOW) == Plan()


def test_a_name_that_nobody_needs_is_unwanted_and_comes_back() -> None:
    assert plan([], [row("a.test")], NOW) == Plan(unwanted=("a.test",))
    assert plan([WantedName("a.test")], [row("a.test", wanted=False)], NOW) == Plan(wanted=("a.test",))


def test_a_name_that_an_upload_covers_needs_no_other() -> None:
    upload = row("example.com", source="upload", names=["example.com", "*.example.com"])
    wanted = [WantedName("shop.example.com"), WantedName("example.com"), WantedName("a.b.example.com")]
    assert plan(wanted, [upload], NOW) == Plan(missing=(WantedName("a.b.example.com"),))


def test_a_name_whose_upload_has_ended_is_asked_for() -> None:
    upload = row("example.com", source="upload", names=["example.com"])
    upload.ends_at = NOW - timedelta(days=1)
    assert plan([WantedName("example.com")], [upload], NOW) == Plan(lapsed=("example.com",))
    assert plan([], [upload], NOW) == Plan()


def test_names_that_are_given_out_share_a_wildcard_where_one_can_be_had() -> None:
    wanted = [WantedName("shop-a.apps.test", "org_x"), WantedName("web-b.apps.test"), WantedName("own.test")]
    found = plan(wanted, [], NOW, wildcard_of="apps.test")
    assert found.missing == (WantedName("*.apps.test"), WantedName("own.test"))


def test_of_two_organisations_the_first_has_a_name() -> None:
    found = plan([WantedName("a.test", "org_1"), WantedName("a.test", "org_2")], [], NOW)
    assert found.missing == (WantedName("a.test", "org_1"),)


# -- how often


def test_an_authority_of_ones_own_may_be_asked_more_often() -> None:
    spent = budget.Spent(account=5000, domain=5000)
    assert budget.judge(spent, "a.test", "a.test", budget.Limits(10_000, 10_000)).problem == ""
    assert (
        budget.left(spent, budget.Limits(10_000, 10_000))
        == "3 of 3 this week for the name, 5000 of 10000 for its domain"
    )


def test_what_is_within_its_limits_may_be_asked_for() -> None:
    assert (
        budget.judge(budget.Spent(account=249, domain=39, name=2, failures=2), "a.test", "a.test", LIMITS).problem == ""
    )


@pytest.mark.parametrize(
    ("spent", "words"),
    [
        (budget.Spent(account=250), "250 certificates of this server in 3 hours"),
        (budget.Spent(domain=40), "40 certificates below example.test in one week"),
        (budget.Spent(name=3), "3 certificates of a.example.test in one week"),
        (budget.Spent(failures=3), "3 refusals for a.example.test in one hour"),
        (budget.Spent(renewals=10), "10 certificates of a.example.test, renewals included"),
    ],
)
def test_each_limit_is_named(spent: budget.Spent, words: str) -> None:
    verdict = budget.judge(spent, "a.example.test", "example.test", LIMITS)
    assert words in verdict.problem and verdict.wait > 0


# -- when


def test_pauses_grow_and_stay_at_the_longest() -> None:
    steps = schedule.REFUSED_STEPS
    pauses = [schedule.pause(steps, attempts) for attempts in range(1, 8)]
    assert all(step <= pause <= step * 1.1 for step, pause in zip((*steps, steps[-1], steps[-1]), pauses, strict=True))


def test_the_wish_of_an_authority_is_waited_for() -> None:
    assert schedule.pause(schedule.REFUSED_STEPS, 1, 86400.0) == 86400.0


@pytest.mark.parametrize("days", [90, 45, 6])
def test_a_certificate_is_renewed_at_two_thirds_of_whatever_life_it_has(days: int) -> None:
    life = timedelta(days=days)
    moment = schedule.renew_at(NOW, NOW + life)
    assert NOW + life * 0.66 < moment < NOW + life * 0.73 < schedule.warn_at(NOW, NOW + life)


@pytest.mark.parametrize(("wish", "seconds"), [(0, 6 * 3600), (1, 60), (3600, 3600), (1e9, 86400)])
def test_the_authority_is_asked_again_within_bounds(wish: float, seconds: float) -> None:
    assert schedule.ask_again(wish) == seconds


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, 0),
        ({"Retry-After": "120"}, 120),
        ({"Retry-After": "99999999"}, 7 * 86400),
        ({"Retry-After": "Sun, 01 Nov 2026 01:00:00 GMT", "Date": "Sun, 01 Nov 2026 00:00:00 GMT"}, 3600),
        ({"Retry-After": "Sun, 01 Nov 2026 01:00:00 GMT"}, 0),
        ({"Retry-After": "soon"}, 0),
        ({"Retry-After": "-5"}, 0),
    ],
)
def test_retry_after_is_a_number_or_a_date(headers: dict[str, str], seconds: float) -> None:
    assert retry_after(headers) == seconds


# -- CAA


@pytest.mark.parametrize(
    ("records", "wildcard", "problem"),
    [
        ([], False, ""),
        ([CaaRecord(False, "issue", "letsencrypt.org")], False, ""),
        ([CaaRecord(False, "issue", "letsencrypt.org; validationmethods=http-01")], False, ""),
        ([CaaRecord(False, "issue", "LetsEncrypt.org")], False, ""),
        ([CaaRecord(False, "issue", "other.example")], False, "allow other.example"),
        ([CaaRecord(False, "issue", ";")], False, "no authority at all"),
        ([CaaRecord(False, "iodef", "mailto:a@b")], False, ""),
        ([CaaRecord(False, "issuewild", "other.example")], False, ""),
        ([CaaRecord(False, "issuewild", "other.example")], True, "allow other.example"),
        ([CaaRecord(False, "issue", "letsencrypt.org"), CaaRecord(False, "issuewild", ";")], True, "no authority"),
        ([CaaRecord(True, "tbs", "x")], False, "unknown (tbs)"),
    ],
)
def test_caa_records_are_followed(records: list[CaaRecord], wildcard: bool, problem: str) -> None:
    found = caa_problem(records, OURS, wildcard=wildcard)
    assert (problem in found) if problem else found == ""
