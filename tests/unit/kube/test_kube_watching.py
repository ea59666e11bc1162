"""Watch answers: events come out whole and in order, however the bytes are cut."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from towline.kube import watching
from towline.kube.objects import Pod
from towline.kube.watching import BadWatch, Bookmark, Change, Failure, WatchReader


def line(kind: str, /, **value: object) -> bytes:
    return json.dumps({"type": kind, "object": value}).encode() + b"\n"


ANSWER = b"".join(
    [
        line("ADDED", metadata={"name": "p1", "resourceVersion": "1"}, status={"phase": "Pending"}),
        line("MODIFIED", metadata={"name": "p1", "resourceVersion": "2"}, status={"phase": "Running"}),
        line("BOOKMARK", metadata={"resourceVersion": "3", "annotations": {"k8s.io/initial-events-end": "true"}}),
        b"\n",
        line("SOMETHING", new=True),
        line("BOOKMARK", metadata={"resourceVersion": "4"}),
        line("DELETED", metadata={"name": "p1", "resourceVersion": "5"}),
        line("ERROR", kind="Status", status="Failure", code=410, reason="Expired", message="too old resource version"),
    ]
)


def described(event: Change[Pod] | Bookmark | Failure) -> object:
    if isinstance(event, Change):
        return event.type, event.object.metadata.name, event.object.metadata.resource_version
    return event


EXPECTED = [
    ("ADDED", "p1", "1"), ("MODIFIED", "p1", "2"), Bookmark("3", True), Bookmark("4"), ("DELETED", "p1", "5"),
    Failure(410, "Expired", "too old resource version"),
]  # fmt: skip


@given(st.lists(st.integers(0, len(ANSWER)), max_size=8).map(sorted))
def test_events_are_the_same_however_the_answer_is_cut(cuts: list[int]) -> None:
    reader = WatchReader(Pod)
    pieces = [ANSWER[start:end] for start, end in zip([0, *cuts], [*cuts, len(ANSWER)], strict=True)]
    assert [described(event) for piece in pieces for event in reader.feed(piece)] == EXPECTED
    assert reader.is_between_events


def test_answer_cut_at_every_byte_gives_every_event_at_its_last_byte() -> None:
    reader, seen = WatchReader(Pod), []
    for at in range(len(ANSWER)):
        events = list(reader.feed(ANSWER[at : at + 1]))
        assert not events or ANSWER[at : at + 1] == b"\n"
        seen += events
    assert [described(event) for event in seen] == EXPECTED


def test_unfinished_event_is_noticed() -> None:
    reader = WatchReader(Pod)
    assert list(reader.feed(ANSWER[:-1])) != []
    assert not reader.is_between_events


@pytest.mark.parametrize(
    ("code", "reason", "expired"),
    [(410, "Gone", True), (0, "Expired", True), (410, "", True), (500, "InternalError", False)],
)
def test_expired_version_is_told_from_other_failures(code: int, reason: str, expired: bool) -> None:
    assert Failure(code, reason, "").is_expired is expired


@pytest.mark.parametrize(
    "data",
    [b"{\n", b"[]\n", b'{"type":"ADDED"}\n', b'{"type":1,"object":{}}\n', b'{"type":"ADDED","object":[]}\n', b"\xff\n",
     b"<html>\n",
     b'{"type":"ADDED","object":{"metadata":{"name":5}}}\n', b'{"type":"ADDED","object":' + b"[" * 5000 + b"\n"],
)  # fmt: skip
def test_malformed_event_is_refused(data: bytes) -> None:
    with pytest.raises(BadWatch):
        list(WatchReader(Pod).feed(data))


def test_event_over_the_limit_is_refused_before_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "MAX_EVENT_BYTES", 100)
    reader = WatchReader(Pod)
    assert list(reader.feed(b"{" * 100)) == []
    with pytest.raises(BadWatch):
        list(reader.feed(b"{"))


def test_what_a_reader_holds_does_not_show_in_its_repr() -> None:
    reader = WatchReader(Pod)
    list(reader.feed(b'{"type":"ADDED","object":{"data":"c2VjcmV0'))
    assert repr(reader) == "<WatchReader 42 bytes of an unfinished event>"
