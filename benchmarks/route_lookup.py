"""Which route a request belongs to, among 50,000 of them.

The table of the gateway alone, in one process, without a network: hosts with one route, hosts with several paths, and
wildcards, asked for in random order. `find` is what each request pays; `put` is what a changed route costs, `replace`
what the first reading after a start costs without the database.
"""

import random
import time
from collections.abc import Callable

from benchmarks.common import Row, resident_bytes, table

from towline.gateway.interfaces import Answer
from towline.gateway.routing import RouteEntry, RouteTable

ROUTES = 50_000
ASKED = 200_000
ROUNDS = 5
GOAL_MICROSECONDS = 2.0
"""The issue's goal, for a look-up at 50,000 routes."""
NOTHING = Answer(404, "none", "none")
PATHS = ("/", "/api", "/api/v1", "/static", "/admin")


def entries() -> list[RouteEntry]:
    """Half of the routes alone on their host, most others with four more on theirs, and some wildcards."""
    found = [RouteEntry(f"one{n}", f"app{n}.team{n % 500}.example.com", NOTHING) for n in range(ROUTES // 2)]
    hosts = range(ROUTES // 2 // 5 - 100)
    found += [RouteEntry(f"m{n}{path}", f"multi{n}.example.net", NOTHING, path) for n in hosts for path in PATHS]
    rest = range(ROUTES - len(found))
    return found + [RouteEntry(f"wild{n}", f"*.w{n}.example.org", NOTHING) for n in rest]


def questions(kind: str) -> list[tuple[str, bytes]]:
    """Return hosts and paths to ask for."""
    chance = random.Random(4711)
    hosts = {
        "one route on the host": lambda: (
            f"app{(n := chance.randrange(ROUTES // 2))}.team{n % 500}.example.com",
            b"/x",
        ),
        "five paths on the host": lambda: (
            f"multi{chance.randrange(ROUTES // 10 - 100)}.example.net",
            chance.choice((b"/", b"/api/v1/items/17", b"/static/app.js", b"/other/page")),
        ),
        "a wildcard": lambda: (f"any.w{chance.randrange(400)}.example.org", b"/"),
        "a host that is not published": lambda: (f"none{chance.randrange(10**6)}.example.com", b"/"),
    }
    return [hosts[kind]() for _ in range(ASKED)]


def per_call(work: Callable[[], object], calls: int) -> float:
    """Return microseconds of processor time of one call, the best of some rounds: others use this machine too."""
    best = float("inf")
    for _ in range(ROUNDS):
        began = time.process_time()
        work()
        best = min(best, time.process_time() - began)
    return best / calls * 1e6


def finding(routes: RouteTable, asked: list[tuple[str, bytes]]) -> float:
    """Return microseconds of one look-up, the loop around it included."""
    find = routes.find

    def work() -> None:
        for host, path in asked:
            find(host, path)

    return per_call(work, len(asked))


def main() -> None:
    """Measure and print the table."""
    import os

    before = resident_bytes(os.getpid())
    held = entries()
    routes = RouteTable(held)
    added = resident_bytes(os.getpid()) - before
    rows: list[Row] = []
    kinds = ("one route on the host", "five paths on the host", "a wildcard", "a host that is not published")
    for kind in kinds:
        took = finding(routes, questions(kind))
        rows.append((f"find, {kind}", f"{took:.2f} µs", f"under {GOAL_MICROSECONDS:.0f} µs", took < GOAL_MICROSECONDS))
    some = random.Random(1).sample(held, 5000)
    changing = per_call(lambda: [routes.put(entry) for entry in some], len(some))
    rows.append(("put, a changed route", f"{changing:.1f} µs", "", None))
    filling = per_call(lambda: routes.replace(held), 1) / 1000
    rows.append((f"replace, {len(held):,} routes", f"{filling:.0f} ms", "", None))
    rows.append(("memory of the table and its entries", f"{added / 2**20:.0f} MiB", "", None))
    print(table(rows))


if __name__ == "__main__":
    main()
