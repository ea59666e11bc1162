"""A control plane that is silent for long is told once, and that it is heard again as well."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import structlog

from towline.agent.surface.linkstate import LinkState, Standing
from towline.agent.uplink.silence import LOOK_INTERVAL, Silence
from towline.aio.clock import SimulatedClock
from towline.aio.tasks import TaskOwner

LONGEST = 600.0


@dataclass
class Session:
    last_message_at: float


class Scene:
    def __init__(self, standing: Standing = Standing.CONNECTING) -> None:
        self.clock = SimulatedClock()
        self.link = LinkState(standing, clock=self.clock)
        self.session: Any = None
        self.silence = Silence(
            self.link, lambda: self.session, longest=LONGEST, reason=lambda: "tcp: refused", clock=self.clock
        )

    async def lasts(self, seconds: float) -> None:
        async with TaskOwner("test") as owner:
            owner.spawn("silence", self.silence.run())
            await self.clock.advance(seconds)


async def test_long_silence_is_told_once_with_its_reason() -> None:
    scene = Scene()
    with structlog.testing.capture_logs() as logs:
        await scene.lasts(LONGEST - LOOK_INTERVAL)
        assert not scene.silence.alert
        await scene.lasts(3 * LONGEST)

    assert scene.silence.alert
    (line,) = [line for line in logs if line["log_level"] == "error"]
    assert line["reason"] == "tcp: refused"


async def test_alert_ends_when_the_control_plane_is_heard() -> None:
    scene = Scene()
    await scene.lasts(2 * LONGEST)
    scene.session = Session(scene.clock.monotonic())
    await scene.lasts(LOOK_INTERVAL)

    assert not scene.silence.alert
    assert scene.silence.seconds == pytest.approx(LOOK_INTERVAL)


async def test_silence_counts_from_the_last_word_and_not_from_the_end_of_the_link() -> None:
    scene = Scene()
    scene.session = Session(scene.clock.monotonic() + 90)
    await scene.lasts(100)
    scene.session = None
    await scene.lasts(50)

    assert scene.silence.seconds == pytest.approx(60)
    assert scene.silence.since == pytest.approx(scene.clock.now().timestamp() - 60)


async def test_standalone_agent_expects_no_word() -> None:
    scene = Scene(Standing.STANDALONE)
    await scene.lasts(3 * LONGEST)
    assert not scene.silence.alert

    scene.link.turned(Standing.JOINING)
    await scene.lasts(LONGEST / 2)
    assert scene.silence.seconds <= LONGEST / 2 + LOOK_INTERVAL
