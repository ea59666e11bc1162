"""Messages that are gathered come to the same as messages that are written one by one."""

from hypothesis import given
from hypothesis import strategies as st

from towline.control.routes.intake import MOST_KEPT, MOST_REMOVED, Pending
from towline.wire import link
from towline.wire.streams import Tcp

REFS = ("a", "b", "c", "d")


def claim(ref: str, number: int) -> link.RouteClaim:
    return link.RouteClaim(ref=ref, source="ingress", host=f"h{number}.x", target=Tcp(host="h", port=1))


claims = st.lists(st.builds(claim, st.sampled_from(REFS), st.integers(0, 3)), max_size=3, unique_by=lambda one: one.ref)
messages = st.builds(
    lambda full, found, removed: link.Routes(
        full=full, sequence=1, sources=("ingress",), claims=tuple(found), removed=() if full else tuple(removed)
    ),
    st.booleans(), claims, st.lists(st.sampled_from(REFS), max_size=3, unique=True),
)  # fmt: skip
State = dict[str, link.RouteClaim]


def one_by_one(state: State, message: link.Routes) -> State:
    kept = {} if message.full else {ref: one for ref, one in state.items() if ref not in message.removed}
    return kept | {one.ref: one for one in message.claims}


def written(state: State, pending: Pending) -> State:
    kept = {} if pending.full else {ref: one for ref, one in state.items() if ref not in pending.removed}
    return kept | pending.claims


def taken(message: link.Routes) -> Pending:
    found = Pending(full=message.full, sources=frozenset(message.sources or ()))
    found.take(message)
    return found


@given(st.lists(st.tuples(messages, st.booleans()), max_size=8))
def test_gathered_messages_come_to_the_same_as_single_ones(told: list[tuple[link.Routes, bool]]) -> None:
    """Args: told: messages, each with whether what waits is written behind it."""
    wanted: State = {}
    state: State = {}
    waiting: Pending | None = None
    for message, flushed in told:
        wanted = one_by_one(wanted, message)
        waiting = taken(message) if waiting is None else taken(message).after(waiting)
        if flushed:
            state, waiting = written(state, waiting), None
    assert (state if waiting is None else written(state, waiting)) == wanted


def test_a_claim_behind_a_whole_list_is_known_to_be_later() -> None:
    whole = taken(link.Routes(full=True, sequence=1, sources=("ingress",), claims=(claim("a", 0),)))
    later = taken(link.Routes(full=False, sequence=2, claims=(claim("a", 1), claim("b", 0))))
    both = later.after(whole)
    assert both.full and both.late == {"b"} and both.claims["a"].host == "h1.x"


def test_what_waits_never_grows_beyond_what_is_kept_of_a_cluster() -> None:
    def many(first: int) -> link.Routes:
        found = tuple(claim(f"r{number}", 0) for number in range(first, first + MOST_KEPT))
        return link.Routes(full=False, sequence=1, claims=found)

    both = taken(many(10)).after(taken(many(0)))
    assert (len(both.claims), both.left_out) == (MOST_KEPT, 10)


def test_what_went_away_is_remembered_up_to_a_limit_and_beyond_it_a_list_is_wanted() -> None:
    def gone(first: int, count: int) -> link.Routes:
        return link.Routes(full=False, sequence=1, removed=tuple(f"r{n}" for n in range(first, first + count)))

    full = taken(gone(0, MOST_REMOVED))
    assert (len(full.removed), full.is_short) == (MOST_REMOVED, False)
    again = taken(gone(0, 10)).after(full)
    assert (len(again.removed), again.is_short) == (MOST_REMOVED, False)
    both = taken(gone(MOST_REMOVED, 10)).after(again)
    assert (len(both.removed), both.is_short) == (MOST_REMOVED, True)
    one = taken(gone(0, MOST_REMOVED + 1))
    assert (len(one.removed), one.is_short) == (MOST_REMOVED, True)
    whole = taken(link.Routes(full=True, sequence=2, sources=("ingress",))).after(both)
    assert not whole.removed and not whole.is_short


def test_claims_that_come_and_go_leave_nothing_behind() -> None:
    waiting = taken(link.Routes(full=False, sequence=1))
    for number in range(50):
        waiting = taken(link.Routes(full=False, sequence=2, claims=(claim(f"r{number}", 0),))).after(waiting)
        waiting = taken(link.Routes(full=False, sequence=3, removed=(f"r{number}",))).after(waiting)
    assert not waiting.claims and not waiting.late
