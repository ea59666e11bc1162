"""Keeping a connection to an older control plane: for ever, with pauses that grow, slowly where it is refused."""

import pytest

from towline.agent.errors import SettingsError
from towline.agent.protocols.keeper import REFUSED_PAUSE, Keeper
from towline.aio.backoff import Backoff
from towline.aio.clock import REAL_CLOCK
from towline.tunnel.errors import LinkDown, TcpFailed, UpgradeRefused


class Enough(BaseException):
    """The test has seen what it wanted."""


class Pauses:
    """A clock whose sleeps are noted and cost nothing."""

    def __init__(self, most: int) -> None:
        self.seconds: list[float] = []
        self._most = most
        self.now = REAL_CLOCK.now
        self.at = 0.0

    def monotonic(self) -> float:
        return self.at

    async def sleep(self, seconds: float) -> None:
        self.seconds.append(seconds)
        self.at += seconds
        if len(self.seconds) >= self._most:
            raise Enough


class Connection:
    """One that is up."""

    last_message_at = 0.0
    rtt = 0.0
    stream_count = 0


async def pauses(error: Exception, most: int, draw: float = 1.0) -> list[float]:
    clock = Pauses(most)

    async def hold(up: object) -> str:
        raise error

    keeper = Keeper(
        hold, server="s", changed=lambda up, why: None, draw=lambda: draw,
        backoff=Backoff(clock=clock, draw=lambda: draw), clock=clock,
    )  # fmt: skip
    with pytest.raises(Enough):
        await keeper.run()
    assert keeper.status.attempts == most and not keeper.status.connected
    return clock.seconds


async def test_pauses_grow_to_a_minute_and_go_on_for_ever() -> None:
    found = await pauses(TcpFailed("refused"), 30)
    assert found[0] == 0.5 and found[-1] == 60.0 and found == sorted(found)


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize(("draw", "least"), [(0.0, REFUSED_PAUSE / 2), (1.0, REFUSED_PAUSE)])
async def test_a_refused_token_is_tried_again_slowly(status: int, draw: float, least: float) -> None:
    assert min(await pauses(UpgradeRefused("no", status=status), 5, draw)) == least


@pytest.mark.parametrize("error", [SettingsError("no token"), LinkDown("x"), RuntimeError("a mistake of ours")])
async def test_nothing_that_goes_wrong_ends_it(error: Exception) -> None:
    assert len(await pauses(error, 3)) == 3


async def test_a_connection_that_lasted_begins_the_pauses_anew() -> None:
    clock, turns = Pauses(4), []

    async def hold(up: object) -> str:
        assert callable(up)
        up(Connection())
        clock.at += 100.0
        return "closed"

    keeper = Keeper(
        hold, server="s", changed=lambda up, why: turns.append((up, why)),
        backoff=Backoff(clock=clock, draw=lambda: 1.0), clock=clock,
    )  # fmt: skip
    with pytest.raises(Enough):
        await keeper.run()
    assert clock.seconds == [0.5] * 4
    assert turns[:2] == [(True, ""), (False, "closed")] and keeper.status.reconnects == 3
