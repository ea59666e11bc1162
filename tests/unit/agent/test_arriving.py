"""An agent waits for an identity: by the settings' server, for as long as it takes, or not at all."""

from pathlib import Path

import msgspec
import pytest
from tests.support.agent_host import make_identity

from towline.agent import arriving
from towline.agent.errors import SettingsError
from towline.agent.identity import Store
from towline.agent.settings import AgentSettings
from towline.agent.surface.linkstate import LinkState, Standing
from towline.aio.backoff import FIRST_DELAY
from towline.aio.clock import SimulatedClock
from towline.aio.tasks import TaskOwner


async def test_host_that_nobody_joined_is_not_waited_for(tmp_path: Path) -> None:
    await arriving.arrive(
        AgentSettings(state_folder=tmp_path), None, LinkState(Standing.JOINING), clock=SimulatedClock()
    )


async def test_standalone_agent_waits_for_the_identity_that_somebody_makes(tmp_path: Path) -> None:
    clock, settings = SimulatedClock(), AgentSettings(state_folder=tmp_path, standalone=True)
    async with TaskOwner("test") as owner:
        waiting = owner.spawn("arrive", arriving.arrive(settings, None, LinkState(Standing.STANDALONE), clock=clock))
        await clock.advance(1000 * arriving.LOOK_INTERVAL)
        assert not waiting.done()

        Store(tmp_path).save(make_identity())
        await clock.advance(arriving.LOOK_INTERVAL)

        assert waiting.done()


async def test_why_it_has_not_joined_is_told_with_the_moment_of_the_next_attempt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TOWLINE_AGENT_TOKEN_FILE", raising=False)
    monkeypatch.delenv("TOWLINE_AGENT_TOKEN", raising=False)
    clock, settings = SimulatedClock(), AgentSettings(state_folder=tmp_path, server="https://towline.example")
    link = LinkState(Standing.JOINING, clock=clock)
    async with TaskOwner("test") as owner:
        owner.spawn("arrive", arriving.arrive(settings, None, link, clock=clock))
        await clock.advance(0)

        assert link.view.last_error == "there is no join token"
        assert link.view.hint.startswith("give it")
        assert link.view.attempts == 1
        assert clock.now().timestamp() < link.view.next_attempt_at <= clock.now().timestamp() + FIRST_DELAY
        await clock.advance(FIRST_DELAY)
        assert link.view.attempts > 1


async def test_mistyped_token_is_told_apart_by_its_code(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("twj_cut")
    clock = SimulatedClock()
    settings = AgentSettings(
        state_folder=tmp_path / "state", server="https://towline.example", join_token_file=tmp_path / "token"
    )
    link = LinkState(Standing.JOINING, clock=clock)
    async with TaskOwner("test") as owner:
        owner.spawn("arrive", arriving.arrive(settings, None, link, clock=clock))
        await clock.advance(0)

    assert link.view.code == "mistyped"
    assert "twj_cut" not in repr(link.view)


async def test_standalone_agent_notices_a_server_that_is_set_later(tmp_path: Path) -> None:
    clock, settings = SimulatedClock(), AgentSettings(state_folder=tmp_path, standalone=True)
    link, now = LinkState(Standing.STANDALONE, clock=clock), [settings]
    async with TaskOwner("test") as owner:
        owner.spawn("arrive", arriving.arrive(settings, None, link, reread=lambda: now[0], clock=clock))
        await clock.advance(10 * arriving.SETTINGS_INTERVAL)
        assert link.view.standing is Standing.STANDALONE

        now[0] = msgspec.structs.replace(settings, server="https://towline.example")
        await clock.advance(arriving.SETTINGS_INTERVAL + arriving.LOOK_INTERVAL)

        assert (link.view.standing, link.view.server) == (Standing.JOINING, "https://towline.example")


async def test_settings_that_cannot_be_read_change_nothing(tmp_path: Path) -> None:
    clock, settings = SimulatedClock(), AgentSettings(state_folder=tmp_path, standalone=True)
    link = LinkState(Standing.STANDALONE, clock=clock)

    def broken() -> AgentSettings:
        raise SettingsError("half a file")

    async with TaskOwner("test") as owner:
        waiting = owner.spawn("arrive", arriving.arrive(settings, None, link, reread=broken, clock=clock))
        await clock.advance(10 * arriving.SETTINGS_INTERVAL)
        assert not waiting.done()
        assert link.view.standing is Standing.STANDALONE


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
