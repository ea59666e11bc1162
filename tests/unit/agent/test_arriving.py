"""An agent waits for an identity: by the settings' server, for as long as it takes, or not at all."""

from pathlib import Path

import pytest
from tests.support.agent_host import make_identity

from towline.agent import arriving
from towline.agent.identity import Store
from towline.agent.settings import AgentSettings
from towline.aio.clock import SimulatedClock
from towline.aio.tasks import TaskOwner


async def test_host_that_nobody_joined_is_not_waited_for(tmp_path: Path) -> None:
    await arriving.arrive(AgentSettings(state_folder=tmp_path), None, clock=SimulatedClock())


async def test_standalone_agent_waits_for_the_identity_that_somebody_makes(tmp_path: Path) -> None:
    clock, settings = SimulatedClock(), AgentSettings(state_folder=tmp_path, standalone=True)
    async with TaskOwner("test") as owner:
        waiting = owner.spawn("arrive", arriving.arrive(settings, None, clock=clock))
        await clock.advance(1000 * arriving.LOOK_INTERVAL)
        assert not waiting.done()

        Store(tmp_path).save(make_identity())
        await clock.advance(arriving.LOOK_INTERVAL)

        assert waiting.done()


async def test_why_it_has_not_joined_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TOWLINE_AGENT_TOKEN_FILE", raising=False)
    monkeypatch.delenv("TOWLINE_AGENT_TOKEN", raising=False)
    clock, settings = SimulatedClock(), AgentSettings(state_folder=tmp_path, server="https://towline.example")
    told: list[str] = []
    async with TaskOwner("test") as owner:
        owner.spawn("arrive", arriving.arrive(settings, None, failed=told.append, clock=clock))
        await clock.advance(0)

    assert told == ["there is no join token"]


async def test_removed_agent_waits_for_another_identity_than_its_old_one(tmp_path: Path) -> None:
    clock, store = SimulatedClock(), Store(tmp_path)
    store.save(make_identity(agent_id="agt_old"))
    async with TaskOwner("test") as owner:
        waiting = owner.spawn("anew", arriving.joined_anew(store, None, "agt_old", clock=clock))
        await clock.advance(10 * arriving.LOOK_INTERVAL)
        assert not waiting.done()

        Store(tmp_path).save(make_identity(agent_id="agt_new"))
        await clock.advance(arriving.LOOK_INTERVAL)

        assert waiting.done()
        assert store.current.agent_id == "agt_new"
