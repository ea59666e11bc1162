"""The table of routes against a slow oracle, its precedence case by case, and paths that readers read differently."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from towline.gateway.interfaces import Answer
from towline.gateway.routing import LONGEST_ODD_BYTES, PathRefused, PathType, RouteEntry, RouteTable

NOTHING = Answer(404, "none", "none")
HOSTS = ("a.x", "b.x", "*.x", "*.a.x", "c.b.x", "y")
ASKED = ("a.x", "b.x", "c.x", "c.b.x", "d.a.x", "e.d.a.x", "x", "y", "z.y")
PATHS = ("/", "/a", "/a/", "/a/b", "/ab", "/a/b/c", "/b")
ASKED_PATHS = (b"/", b"/a", b"/a/", b"/a/b", b"/ab", b"/a/b/c/d", b"/b", b"/ba", b"/c", b"/a/bc", b"*")


def entry(route_id: str, host: str, path: str = "/", path_type: PathType = "prefix") -> RouteEntry:
    return RouteEntry(route_id, host, NOTHING, path, path_type)


def covers(one: RouteEntry, host: str, path: bytes) -> bool:
    """The rules, as slowly as they are written."""
    if one.host.startswith("*."):
        first, dot, rest = host.partition(".")
        if not (first and dot) or rest != one.host[2:]:
            return False
    elif one.host != host:
        return False
    if one.path_type == "exact":
        return one.path.encode() == path
    wanted = [part for part in one.path.encode().split(b"/") if part]
    return path.split(b"/")[1 : len(wanted) + 1] == wanted


def oracle(entries: list[RouteEntry], host: str, path: bytes) -> RouteEntry | None:
    matching = [one for one in entries if covers(one, host, path)]
    rank = [(not one.host.startswith("*."), one.path_type == "exact", len(one.path.rstrip("/"))) for one in matching]
    return matching[rank.index(max(rank))] if matching else None


def kept(entries: list[RouteEntry]) -> list[RouteEntry]:
    """Of two with one claim the first stays."""
    found: dict[object, RouteEntry] = {}
    for one in entries:
        found.setdefault(one.claim, one)
    return list(found.values())


claims = st.tuples(st.sampled_from(HOSTS), st.sampled_from(PATHS), st.sampled_from(["exact", "prefix"]))
tables = st.lists(claims, max_size=12).map(
    lambda found: [entry(f"r{number}", *claim) for number, claim in enumerate(found)]
)


@given(tables, st.sampled_from(ASKED), st.sampled_from(ASKED_PATHS))
def test_the_table_finds_what_the_oracle_finds(entries: list[RouteEntry], host: str, path: bytes) -> None:
    assert RouteTable(entries).find(host, path) is oracle(kept(entries), host, path)


@given(tables, st.lists(st.integers(0, 11), max_size=12), st.sampled_from(ASKED), st.sampled_from(ASKED_PATHS))
def test_a_table_that_lost_routes_is_as_one_that_never_had_them(
    entries: list[RouteEntry], gone: list[int], host: str, path: bytes
) -> None:
    first = kept(entries)
    table = RouteTable(first)
    for number in gone:
        table.remove(f"r{number}")
    left = [one for one in first if int(one.id[1:]) not in gone]
    assert len(table) == len(left) and set(table) == set(left)
    assert table.find(host, path) is oracle(left, host, path)


@pytest.mark.parametrize(
    ("host", "path", "found"),
    [
        ("shop.example.com", b"/", "exact host"),
        ("other.example.com", b"/", "wildcard"),
        ("deep.other.example.com", b"/", None),
        ("example.com", b"/", None),
        ("shop.example.com", b"/api/v1", "long prefix"),
        ("shop.example.com", b"/api/v1/x", "long prefix"),
        ("shop.example.com", b"/api/v10", "prefix"),
        ("shop.example.com", b"/api", "exact path"),
        ("shop.example.com", b"/api/", "prefix"),
        ("shop.example.com", b"/apis", "exact host"),
    ],
)
def test_precedence(host: str, path: bytes, found: str | None) -> None:
    table = RouteTable(
        [
            entry("exact host", "shop.example.com"),
            entry("wildcard", "*.example.com"),
            entry("prefix", "shop.example.com", "/api"),
            entry("exact path", "shop.example.com", "/api", "exact"),
            entry("long prefix", "shop.example.com", "/api/v1/"),
        ]
    )
    one = table.find(host, path)
    assert (one.id if one else None) == found


def test_a_wildcard_answers_for_paths_that_the_exact_host_has_no_route_for() -> None:
    table = RouteTable([entry("api", "shop.example.com", "/api"), entry("wildcard", "*.example.com")])
    found = table.find("shop.example.com", b"/other")
    assert found is not None and found.id == "wildcard"


def test_the_first_of_two_with_one_claim_stays_and_is_named() -> None:
    table = RouteTable([entry("first", "a.x", "/a")])
    held = table.put(entry("second", "a.x", "/a/"))
    assert held is not None and held.id == "first"
    assert "second" not in table
    table.remove("second")
    assert "first" in table


def test_a_changed_route_gives_its_old_name_up() -> None:
    table = RouteTable([entry("one", "a.x")])
    assert table.put(entry("one", "b.x")) is None
    assert table.find("a.x", b"/") is None
    assert table.hosts() == {"b.x"}


def test_claims_of_a_host_come_from_exact_and_wildcard_routes() -> None:
    table = RouteTable([entry("one", "a.x"), entry("two", "*.x", "/a", "exact"), entry("three", "b.x")])
    assert [one.id for one in table.claims("a.x")] == ["one", "two"]
    assert table.claims("a.a.x") == ()


# -- paths that readers read differently -----------------------------------------------------------


@pytest.fixture
def guarded() -> RouteTable:
    """A host with an open part and a guarded one: the usual aim of odd paths."""
    return RouteTable([entry("open", "a.x"), entry("guarded", "a.x", "/admin"), entry("only", "b.x")])


@pytest.mark.parametrize(
    "path",
    [
        b"//admin", b"/%2fadmin", b"/x/../admin", b"/x/%2e%2e/admin", b"/.%2e/admin", b"/./admin", b"/\\admin",
        b"/admin;x", b"/admin;x/y", b"/admin%2f", b"/admin%2Fx", b"/admin%5cx", b"/%2561dmin", b"/admin/..;/x",
        b"/admin/../x", b"/x/..%2fadmin", b"/x%2f..%2fadmin", b"/admin%3bx", b"/x/..", b"/.",
    ],
)  # fmt: skip
def test_a_path_that_two_readers_would_route_differently_is_refused(guarded: RouteTable, path: bytes) -> None:
    with pytest.raises(PathRefused):
        guarded.find("a.x", path)


@pytest.mark.parametrize(
    ("path", "found"),
    [
        (b"/%61dmin", "guarded"), (b"/admin/a%2fb", "guarded"), (b"/admin/a;b=c", "guarded"), (b"/a%20b", "open"),
        (b"/projects/group%2Fproject", "open"), (b"/a//b", "open"), (b"/x;y", "open"), (b"/a..b", "open"),
        (b"/...", "open"), (b"/%zz", "open"), (b"/%", "open"), (b"/admin//x", "guarded"),
    ],
)  # fmt: skip
def test_an_odd_path_that_all_readers_route_alike_passes(guarded: RouteTable, path: bytes, found: str) -> None:
    one = guarded.find("a.x", path)
    assert one is not None and one.id == found


def test_paths_of_a_host_with_one_route_are_never_looked_at(guarded: RouteTable) -> None:
    for path in (b"/../..", b"//x", b"/" + b"%2e" * LONGEST_ODD_BYTES):
        found = guarded.find("b.x", path)
        assert found is not None and found.id == "only"


def test_a_long_odd_path_is_refused_without_being_read(guarded: RouteTable) -> None:
    with pytest.raises(PathRefused):
        guarded.find("a.x", b"/%61" + b"a" * LONGEST_ODD_BYTES)


@given(st.binary(max_size=40))
@example(b"//")
def test_any_bytes_find_a_route_or_are_refused(path: bytes) -> None:
    table = RouteTable([entry("open", "a.x"), entry("guarded", "a.x", "/admin")])
    try:
        found = table.find("a.x", b"/" + path)
    except PathRefused:
        return
    assert found is not None
