"""Every differential command once more over the link of an older agent: the same output, exit code and audited name.

Our own agent speaks PipeOps' WebSocket to our own control plane, which reaches the API server by raw streams in yamux.
The table is that of `test_kubernetes_differential.py`; here each command costs two runs of kubectl, some 80 s in all.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.support import differential
from tests.support.differential import Sides
from tests.support.differential_commands import GROUPS, SINGLES, VERSION_OF, WRITES
from tests.support.kubernetes_stack import User
from tests.support.older_stack import OlderStack
from tests.testbed.kubectl import NEWEST, VERSIONS

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(300)]

NAMESPACES = ("k8-older-a", "k8-older-b")
READ = ("k8-read", "k8-read")


def make_sides(older: OlderStack, user: User, version: str) -> Sides:
    """Both ways, with discovery done."""
    direct = older.direct(user.identity, GROUPS, version)
    sides = Sides(direct, older.through(user, version), user.identity, frozenset(GROUPS), older.account)
    for client in sides.clients:
        client.succeed("get", "configmaps", "-n", "k8-read")
    return sides


@pytest.fixture(scope="module")
def sides(older: OlderStack, olga: User, seeded_older: str) -> dict[str, Sides]:
    return {version: make_sides(older, olga, version) for version in VERSIONS}


@pytest.fixture(scope="module")
def sides_of_vik(older: OlderStack, seeded_older: str) -> dict[str, Sides]:
    """Of an admin of Towline whom the cluster itself lets see some things only."""
    vik = older.user("k8vik", "admin", bound_to="view")
    return {version: make_sides(older, vik, version) for version in VERSIONS}


@pytest.fixture(scope="module")
def pair(older: OlderStack) -> Iterator[tuple[str, str]]:
    with older.empty_namespace(NAMESPACES[0]) as one, older.empty_namespace(NAMESPACES[1]) as two:
        yield one, two


@pytest.mark.parametrize("number", range(len(SINGLES)), ids=lambda number: SINGLES[number][0].name)
def test_what_is_read_is_the_same_through_an_older_agent(
    number: int, sides: dict[str, Sides], sides_of_vik: dict[str, Sides], older: OlderStack
) -> None:
    command, may = SINGLES[number]
    side = (sides if may else sides_of_vik)[command.only or VERSION_OF[number]]
    differential.compare(side, command, older.audit_log, namespaces=READ)


@pytest.mark.parametrize("story", WRITES)
def test_what_is_written_is_the_same_through_an_older_agent(
    story: str, sides: dict[str, Sides], pair: tuple[str, str], older: OlderStack
) -> None:
    for command in WRITES[story]:
        differential.compare(sides[NEWEST], command, older.audit_log, namespaces=pair)


@pytest.mark.parametrize("version", VERSIONS)
def test_an_older_agent_adds_no_request_and_leaves_none_out(
    version: str, sides: dict[str, Sides], older: OlderStack
) -> None:
    for words in ("-n k8-read get pods -o wide", "-n k8-read describe pod talker", "-n k8-read logs talker -c main"):
        log = differential.AuditLog.from_now(older.audit_log)
        for client in sides[version].clients:
            client.succeed(*words.split())
        user = sides[version].user
        straight, through = (differential.shape(log, who, user, "k8-read") for who in ("admin", older.account))
        assert straight == through
