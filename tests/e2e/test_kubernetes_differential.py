"""The same command straight and through Towline: equal output, equal exit code, and the right name in the audit log.

One table, `tests.support.differential_commands`; a failure names the version of kubectl. Reads look at objects that
never change; writes are stories, told once in a namespace straight and once in another through Towline.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.support import differential
from tests.support.differential import Sides
from tests.support.differential_commands import GROUPS, READS, REFUSED, SINGLES, VERSION_OF, WRITES
from tests.support.kubernetes_stack import Stack, User
from tests.testbed.kubectl import NEWEST, VERSIONS

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(300)]

NAMESPACES = ("k8-diff-a", "k8-diff-b")


def test_the_table_has_at_least_a_hundred_and_twenty_commands() -> None:
    assert len(READS) + len(REFUSED) + sum(map(len, WRITES.values())) >= 120


@pytest.fixture(scope="module")
def vic(stack: Stack) -> User:
    """An admin of Towline whom the cluster itself lets see some things only."""
    return stack.user("k8vic", "admin", bound_to="view")


def make_sides(stack: Stack, user: User, version: str) -> Sides:
    """Both ways, with discovery done."""
    direct = stack.direct(user.identity, GROUPS, version)
    sides = Sides(direct, user.client(version), user.identity, frozenset(GROUPS), stack.account)
    for client in (sides.direct, sides.through):
        client.succeed("get", "configmaps", "-n", "k8-read")
    return sides


@pytest.fixture(scope="module")
def sides(stack: Stack, ada: User, seeded: str) -> dict[str, Sides]:
    return {version: make_sides(stack, ada, version) for version in VERSIONS}


@pytest.fixture(scope="module")
def sides_of_vic(stack: Stack, vic: User, seeded: str) -> dict[str, Sides]:
    return {version: make_sides(stack, vic, version) for version in VERSIONS}


@pytest.fixture(scope="module")
def pair(stack: Stack) -> Iterator[tuple[str, str]]:
    with stack.empty_namespace(NAMESPACES[0]) as one, stack.empty_namespace(NAMESPACES[1]) as two:
        yield one, two


@pytest.mark.parametrize("number", range(len(SINGLES)), ids=lambda number: SINGLES[number][0].name)
def test_what_is_read_is_the_same_through_towline(
    number: int, sides: dict[str, Sides], sides_of_vic: dict[str, Sides], stack: Stack
) -> None:
    command, may = SINGLES[number]
    side = (sides if may else sides_of_vic)[command.only or VERSION_OF[number]]
    differential.compare(side, command, stack.audit_log, namespaces=("k8-read", "k8-read"))


@pytest.mark.parametrize("story", WRITES)
def test_what_is_written_is_the_same_through_towline(
    story: str, sides: dict[str, Sides], pair: tuple[str, str], stack: Stack
) -> None:
    for command in WRITES[story]:
        differential.compare(sides[NEWEST], command, stack.audit_log, namespaces=pair)


@pytest.mark.parametrize("version", VERSIONS)
def test_towline_adds_no_request_and_leaves_none_out(version: str, sides: dict[str, Sides], stack: Stack) -> None:
    for words in ("-n k8-read get pods -o wide", "-n k8-read describe pod talker", "-n k8-read logs talker -c main"):
        log = differential.AuditLog.from_now(stack.audit_log)
        sides[version].direct.succeed(*words.split())
        sides[version].through.succeed(*words.split())
        user = sides[version].user
        straight, through = (differential.shape(log, who, user, "k8-read") for who in ("admin", stack.account))
        assert straight == through
