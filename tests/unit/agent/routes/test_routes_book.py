"""Claims as they are told: what changed, what only went out of sight, and messages small enough."""

import msgspec

from towline.agent.routes.book import MOST_KEPT, PART_BYTES, ClaimBook, in_parts
from towline.wire.link import MOST_CLAIMS, RouteClaim, Routes
from towline.wire.streams import Service


def claim(ref: str, *, host: str = "a.example.com", note: str = "") -> RouteClaim:
    target = Service(project="p", service="s", port=80)
    return RouteClaim(ref=ref, source="compose", host=host, target=target, notes=(note,) if note else ())


def book() -> ClaimBook:
    """A book whose first list has been told."""
    found = ClaimBook(lambda: None)
    found.take(())
    return found


def refs(message: Routes | None) -> set[str]:
    return {one.ref for one in message.claims} if message is not None else set()


def test_first_message_is_a_whole_list_with_its_sources():
    found = ClaimBook(lambda: None)
    found.put("m", [claim("r1")])
    message = found.take({"ingress", "compose"})
    assert message is not None
    assert (message.full, message.sources, refs(message)) == (True, ("compose", "ingress"), {"r1"})
    assert found.take(()) is None


def test_list_of_an_agent_that_follows_nothing_names_no_source():
    message = ClaimBook(lambda: None).take(())
    assert message is not None
    assert message.sources == ()


def test_changes_are_told_once():
    found = book()
    found.put("m", [claim("r1"), claim("r2")])
    message = found.take(())
    assert message is not None
    assert (message.full, refs(message), message.removed) == (False, {"r1", "r2"}, ())
    found.put("m", [claim("r1"), claim("r2")])
    assert found.take(()) is None


def test_maker_that_takes_back_tells_what_is_removed():
    found = book()
    found.put("m", [claim("r1"), claim("r2")])
    found.take(())
    found.put("m", [claim("r2", host="b.example.com")])
    message = found.take(())
    assert message is not None
    assert (refs(message), message.removed) == ({"r2"}, ("r1",))


def test_claim_that_comes_back_in_time_is_only_told_anew():
    found = book()
    found.put("m", [claim("r1")])
    found.take(())
    found.put("m", [])
    found.put("m", [claim("r1")])
    message = found.take(())
    assert message is not None
    assert (refs(message), message.removed) == ({"r1"}, ())


def test_what_is_out_of_sight_is_missing_from_a_list_and_not_removed():
    found = book()
    found.put("m", [claim("r1"), claim("r2")])
    found.take(())
    found.put("m", [claim("r2")], softly=True)
    message = found.take(())
    assert message is not None
    assert (message.full, refs(message), message.removed) == (True, {"r2"}, ())


def test_makers_are_let_go_by_the_beginning_of_their_names():
    found = book()
    for maker in ("ingress/a/x", "ingress/a/y", "httproute/a/z"):
        found.put(maker, [claim(maker)])
    found.let_go("ingress/", but={"ingress/a/y"})
    assert refs(found.take(())) == {"ingress/a/y", "httproute/a/z"}


def test_book_says_when_there_is_something_to_tell():
    calls: list[None] = []
    found = ClaimBook(lambda: calls.append(None))
    found.put("m", [claim("r1")])
    assert len(calls) == 1
    found.put("m", [claim("r1")])
    assert len(calls) == 1


def test_book_has_an_end():
    found = book()
    found.put("m", [claim(f"r{number}") for number in range(MOST_KEPT + 3)])
    assert (len(found), found.left_out) == (MOST_KEPT, 3)


def test_long_list_is_cut_into_messages_that_belong_together():
    whole = Routes(full=True, sequence=0, sources=("compose",), claims=tuple(claim(f"r{n}") for n in range(1201)))
    parts = in_parts(whole, 7)
    assert [(part.full, part.more, part.sequence, len(part.claims)) for part in parts] == [
        (True, True, 7, MOST_CLAIMS),
        (True, True, 8, MOST_CLAIMS),
        (True, False, 9, 201),
    ]
    assert all(part.sources == ("compose",) for part in parts)


def test_large_claims_make_smaller_messages():
    change = Routes(full=False, sequence=0, claims=tuple(claim(f"r{n}", note="x" * 60_000) for n in range(10)),
                    removed=("gone",))  # fmt: skip
    parts = in_parts(change, 1)
    assert all(len(msgspec.json.encode(part)) <= PART_BYTES for part in parts)
    assert [part.removed for part in parts] == [("gone",), *[()] * (len(parts) - 1)]
    assert not any(part.more for part in parts)
    assert sum(len(part.claims) for part in parts) == 10


def test_list_of_nothing_is_one_message():
    assert in_parts(Routes(full=True, sequence=0), 1) == [Routes(full=True, sequence=1)]
