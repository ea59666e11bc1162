"""Lines of pods: cutting at any byte, stamps of other zones, and what was had of one container."""

import pytest

from towline.agent.surface.cluster import Row
from towline.agent.surface.pod_logs import LINE_BYTES, LineCutter, PodsWanted, _Source
from towline.agent.surface.selectors import parse
from towline.agent.surface.websocket import BURST, MESSAGES_PER_SECOND, Allowance
from towline.aio.clock import SimulatedClock

STAMP = b"2026-01-01T00:00:00.000000001Z"


def texts(cutter: LineCutter, *pieces: bytes) -> list[bytes]:
    return [line for piece in pieces for _, line in cutter.feed(piece)]


def stamped(number: int, text: str = "x") -> bytes:
    return b"2026-01-01T00:00:00.%09dZ %s\n" % (number, text.encode())


def sifted(source: _Source, *lines: bytes) -> list[bytes]:
    return [line for _, line in source.sift(LineCutter().feed(b"".join(lines)))]


@pytest.mark.parametrize("at", range(0, 80, 7))
def test_lines_are_whole_wherever_the_bytes_are_cut(at: int) -> None:
    data = stamped(1, "one") + stamped(2, "two two") + stamped(3, "")

    assert texts(LineCutter(), data[:at], data[at:]) == data.splitlines(keepends=True)


def test_last_line_without_an_end_comes_with_the_end() -> None:
    cutter = LineCutter()

    assert texts(cutter, stamped(1)[:-1]) == []
    assert [line for _, line in cutter.flush()] == [stamped(1)]
    assert cutter.flush() == []


def test_stamp_of_another_zone_is_turned_into_utc() -> None:
    assert texts(LineCutter(), b"2026-01-01T02:00:00.000000001+02:00 x\n") == [STAMP + b" x\n"]


@pytest.mark.parametrize("junk", [b"no stamp\n", b"\n", b"failed to read: \n", b"\xff\xfe \n"])
def test_bytes_without_a_stamp_are_no_line(junk: bytes) -> None:
    assert texts(LineCutter(), junk) == []


def test_line_that_is_too_long_is_cut_and_costs_no_memory() -> None:
    cutter = LineCutter()
    cutter.feed(STAMP + b" ")
    for _ in range(100):
        cutter.feed(b"x" * LINE_BYTES)
    (line,) = texts(cutter, b"\n")

    assert len(line) <= LINE_BYTES
    assert line.endswith(b"x (line cut)\n")


def test_first_question_is_for_the_last_lines_and_the_next_one_for_what_came_since() -> None:
    source = _Source("web/a/app", "", 10)
    assert source.query() == {"tailLines": "10"}

    sifted(source, stamped(5))
    source.rest(is_whole=False)
    assert source.query() == {"sinceTime": "2025-12-31T23:59:59.000000005Z"}


def test_cut_answer_goes_on_behind_its_last_line() -> None:
    source = _Source("web/a/app", "", 10)
    assert sifted(source, stamped(1), stamped(2, "first of two")) == [stamped(1), stamped(2, "first of two")]
    source.rest(is_whole=False)

    again = (stamped(1), stamped(2, "first of two"), stamped(2, "second of two"), stamped(3))
    assert sifted(source, *again) == [stamped(2, "second of two"), stamped(3)]
    assert not source.sieve.found_gap()


def test_lines_that_were_thrown_away_meanwhile_are_told_as_a_gap() -> None:
    source = _Source("web/a/app", "", 10)
    sifted(source, stamped(1))
    source.rest(is_whole=False)

    assert sifted(source, stamped(7)) == [stamped(7)]
    assert source.sieve.found_gap()


def test_run_that_begins_behind_a_whole_answer_is_no_gap() -> None:
    source = _Source("web/a/app", "", 10)
    sifted(source, stamped(1))
    source.rest(is_whole=True)

    assert sifted(source, stamped(1), stamped(7)) == [stamped(7)]
    assert not source.sieve.found_gap()


def test_nothing_is_chosen_that_was_not_asked_for() -> None:
    wanted = PodsWanted(namespace="web", selector=parse("app=x"), container="app")

    def row(namespace: str, **labels: str) -> Row:
        return Row(f"{namespace}/a", namespace, "a", labels, b"{}", ("app", "sidecar"))

    assert wanted.fits(row("web", app="x"))
    assert not wanted.fits(row("shop", app="x"))
    assert not wanted.fits(row("web", app="y"))
    assert wanted.containers(row("web")) == ("app",)
    assert PodsWanted().containers(row("web")) == ("app", "sidecar")


async def test_client_may_say_a_burst_and_then_so_many_a_second() -> None:
    clock = SimulatedClock()
    allowance = Allowance(clock)

    assert [allowance.take() for _ in range(int(BURST))] == [True] * int(BURST)
    assert not allowance.take()
    assert allowance.refused == 1
    await clock.advance(1.0)
    assert sum(allowance.take() for _ in range(100)) == MESSAGES_PER_SECOND
