import pytest
from hypothesis import given
from hypothesis import strategies as st

from towline.agent.streams.log_sieve import Sieve
from towline.agent.streams.log_times import Cursor, stamp


def at(milliseconds: int) -> bytes:
    return stamp(f"2026-11-21T10:{milliseconds // 60000:02}:{milliseconds // 1000 % 60:02}.{milliseconds % 1000:03}Z")


def line(milliseconds: int, text: str = "x", kind: int = 1) -> tuple[int, bytes]:
    return kind, at(milliseconds) + b" " + text.encode() + b"\n"


def texts(lines) -> list[str]:
    return [each[1].partition(b" ")[2].decode().strip() for each in lines]


def cursor_of(lines) -> Cursor:
    """What a reader keeps: the last stamp and how many lines of it came."""
    last = lines[-1][1][:30]
    return Cursor(last, sum(each[1][:30] == last for each in lines))


# The log of a container: steps between stamps in milliseconds; negative ones are lines that lost a race.
LOGS = st.lists(
    st.tuples(st.sampled_from([0, 0, 1, 5, 400, 3000, -1, -3]), st.sampled_from(["a", "b"])), min_size=1, max_size=40
)


def written(shapes) -> list[tuple[int, bytes]]:
    moment, lines = 10_000, []
    for number, (step, word) in enumerate(shapes):
        moment += step
        lines.append(line(moment, f"{word}{number}"))
    return lines


def read(lines, sieve: Sieve):
    """Ask as the engine is asked: lines before `begin` are not given out."""
    return sieve.sift([each for each in lines if each[1][:30] >= sieve.begin])


@given(LOGS, st.data(), st.sampled_from([b"", b"a"]))
def test_reader_that_comes_back_with_its_cursor_gets_the_rest_once(shapes, data, text):
    lines = written(shapes)
    whole = read(lines, Sieve(text=text))
    had = data.draw(st.integers(0, len(whole)))
    if had == 0:
        return
    rest = read(lines, Sieve(text=text, cursor=cursor_of(whole[:had])))
    assert whole[:had] + rest == whole


@given(LOGS, st.data(), st.sampled_from([b"", b"a"]))
def test_log_that_is_read_again_goes_on_where_it_stopped(shapes, data, text):
    lines = written(shapes)
    stops = sorted(data.draw(st.lists(st.integers(0, len(lines)), max_size=4)))
    sieve, got = Sieve(text=text), []
    for stop in [*stops, len(lines)]:
        sieve.rewind()
        got += read(lines[:stop], sieve)
    assert got == read(lines, Sieve(text=text))
    assert not sieve.found_gap()


@given(LOGS)
def test_stamps_never_fall(shapes):
    stamps = [each[1][:30] for each in read(written(shapes), Sieve())]
    assert stamps == sorted(stamps)


def test_line_that_lost_a_race_gets_its_predecessors_stamp():
    assert Sieve().sift([line(5, "a"), line(3, "b")]) == [line(5, "a"), line(5, "b")]


def test_clock_that_was_set_back_keeps_its_stamps():
    sieve = Sieve(since=at(1000))
    assert sieve.sift([line(9000, "a"), line(2000, "b")]) == [line(9000, "a"), line(2000, "b")]
    assert sieve.sift([line(500, "c")]) == [line(500, "c")]


def test_since_excludes_its_moment_and_until_includes_it():
    lines = [line(1), line(2), line(3), line(4)]
    assert Sieve(since=at(1), until=at(3)).sift(lines) == [line(2), line(3)]


def test_text_is_looked_for_behind_the_stamp():
    lines = [line(1, "2026 happened"), line(2, "nothing")]
    assert texts(Sieve(text=b"2026").sift(lines)) == ["2026 happened"]


def test_cursor_before_since_is_no_cursor():
    sieve = Sieve(since=at(5), cursor=Cursor(at(3), 1))
    assert not sieve.is_resumed
    assert texts(sieve.sift([line(3, "a"), line(5, "b"), line(6, "c")])) == ["c"]


def test_gap_is_told_once_when_the_cursors_line_is_gone():
    sieve = Sieve(cursor=Cursor(at(3), 1))
    assert texts(sieve.sift([line(4, "a")])) == ["a"]
    assert sieve.found_gap()
    sieve.sift([line(5, "b")])
    assert not sieve.found_gap()


def test_there_is_no_gap_when_the_cursors_line_is_there():
    sieve = Sieve(cursor=Cursor(at(3), 1))
    sieve.sift([line(3, "a")])
    sieve.sift([line(4, "b")])
    assert not sieve.found_gap()


@pytest.mark.parametrize(("first", "unsure"), [(2, False), (3, True), (4, True)])
def test_tail_is_sure_only_with_a_line_before_the_cursors(first, unsure):
    sieve = Sieve(cursor=Cursor(at(3), 1))
    sieve.sift([line(first), line(5)])
    assert sieve.is_unsure is unsure


def test_what_was_thrown_away_can_be_read_again():
    sieve = Sieve()
    sieve.sift([line(1, "a"), line(2, "b")])
    sieve.rewind()
    sieve.sift([line(7, "d")])
    sieve.retry()
    assert texts(sieve.sift([line(2, "b"), line(2, "c"), line(7, "d")])) == ["c", "d"]


def test_nothing_has_passed_while_everything_lies_before_the_beginning():
    sieve = Sieve(since=at(5))
    sieve.sift([line(1), line(5)])
    assert not sieve.has_passed
    sieve.sift([line(6)])
    assert sieve.has_passed


def test_garbage_instead_of_a_stamp_is_passed_on():
    assert len(Sieve().sift([(1, b"zz\n"), line(5), (1, b"\n"), line(6)])) == 4
