"""How the agent stands with a control plane: since when, and told to those who listen."""

from towline.agent.surface.linkstate import LinkState, LinkView, Standing
from towline.aio.clock import SimulatedClock


async def test_since_is_that_of_the_standing_and_not_of_its_words() -> None:
    clock = SimulatedClock()
    state = LinkState(Standing.CONNECTING, clock=clock)
    began = state.view.since

    await clock.advance(5)
    state.turned(Standing.CONNECTING, last_error="refused")
    assert (state.view.since, state.view.last_error) == (began, "refused")
    state.turned(Standing.CONNECTED)
    assert state.view.since == began + 5


def test_listeners_hear_of_changes_alone_until_they_end_it() -> None:
    state = LinkState(Standing.STANDALONE, clock=SimulatedClock())
    heard: list[LinkView] = []
    stop = state.listen(heard.append)

    state.turned(Standing.CONNECTED)
    state.turned(Standing.CONNECTED)
    stop()
    stop()
    state.turned(Standing.CONNECTING)

    assert [view.standing for view in heard] == [Standing.CONNECTED]
