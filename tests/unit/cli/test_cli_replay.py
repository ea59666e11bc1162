"""Recordings in a terminal: true pace, and nothing that makes the reader's own terminal answer or change."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from towline.cli.commands.recordings import changed
from towline.cli.errors import CliError
from towline.cli.replay import Event, Pace, Screen, parse, play

CAST = (
    b'{"version":2,"width":100,"height":30,"title":"ada on prod","duration":9}\n[0.5,"o","a"]\n[1.0,"o","\xc3\xbc"]\n'
)


@pytest.mark.parametrize("cut", range(0, len(CAST), 7))
def test_a_cast_is_read_however_it_is_cut(cut: int) -> None:
    head, events = parse([CAST[:cut], CAST[cut:]])
    assert (head.width, head.height, head.title, head.seconds) == (100, 30, "ada on prod", 9.0)
    assert list(events) == [Event(0.5, "o", "a"), Event(1.0, "o", "ü")]


@pytest.mark.parametrize("text", [b"", b"{}\n", b"[]\n", b'{"version":1,"width":1,"height":1}\n'])
def test_what_is_no_cast_is_said_to_be_none(text: bytes) -> None:
    with pytest.raises(CliError, match="no asciicast"):
        parse([text])


def test_pauses_follow_speed_and_the_idle_limit() -> None:
    waits: list[float] = []
    events = [Event(1.0, "o", "a"), Event(11.0, "o", "b"), Event(10.5, "o", "c")]
    shown: list[str] = []
    assert play(events, Pace(speed=2, idle_limit=3), shown.append, waits.append) == 11.0
    assert waits == [0.5, 1.5, 0.0]
    assert "".join(shown) == "abc"


@pytest.mark.parametrize(
    "evil",
    [
        "\x1b[c", "\x1b[>c", "\x1b[6n", "\x1b[?6n", "\x1b[18t", "\x1b[21t", "\x1b[?1$p", "\x1bZ", "\x05",
        "\x1b]52;c;aGk=\x07", "\x1b]0;title\x07", "\x1b]10;?\x1b\\", "\x1bP$qm\x1b\\", "\x1b_app\x1b\\",
        "\x1b^pm\x1b\\", "\x9b6n", "\x9d52;c;aGk=\x07",
    ],
)  # fmt: skip
def test_nothing_that_a_terminal_would_answer_reaches_it(evil: str) -> None:
    for cut in range(len(evil) + 1):
        screen = Screen()
        out = screen.safe("before" + evil[:cut]) + screen.safe(evil[cut:] + "after")
        assert "\x1b" not in out
        assert "\x9b" not in out
        assert out.startswith("before")
        assert out.endswith("after")


DRAWS = "\x1b[31mred\x1b[0m\x1b[2J\x1b[H\x1b[?1049h\x1b[10;20H\x1b(B\x1b7\x1b8\x1b[K\ttab\r\n\x08\x1bM\x1b="


@given(st.lists(st.integers(0, 100), max_size=8))
def test_what_draws_stays_however_it_is_cut(cuts: list[int]) -> None:
    places = sorted({0, len(DRAWS), *(cut % len(DRAWS) for cut in cuts)})
    screen = Screen()
    pieces = [DRAWS[begin:end] for begin, end in itertools.pairwise(places)]
    assert "".join(screen.safe(piece) for piece in pieces) == DRAWS


@given(st.text(alphabet="\x1b[]P;?0123cntp\x07\\a$>\x9b\x05", max_size=60))
def test_no_text_gets_a_question_through(text: str) -> None:
    import re

    out = Screen().safe(text)
    assert re.search(r"\x1b\[[0-9;?>]*[cnt]|\x1b[\]P]|\x05|\x9b", out) is None


def test_rules_change_one_by_one_and_go_back_to_the_settings() -> None:
    own = {"mode": "all", "namespaces": ["a"], "keys": None, "keep_days": 5}
    assert changed(own, {"mode": "settings", "namespaces": "b, c", "keys": "no", "keep_days": "9"}) == {
        "namespaces": ["b", "c"], "keys": False, "keep_days": 9,
    }  # fmt: skip
    with pytest.raises(CliError, match="neither"):
        changed({}, {"keys": "maybe"})
