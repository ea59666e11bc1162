"""What Prometheus is told of PipeOps agents on their WebSocket."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.support import prepared
from tests.support.pipeops_agent import Refused, heartbeat, upgrade
from tests.support.pipeops_plane import Plane, eventually, multiplexed, pipeops_plane, registered, until
from tests.support.served import trusting

from towline.control.protocols.pipeops.metrics import EVENTS


@pytest.fixture
async def plane(prepared_sqlite: Path, tmp_path: Path) -> AsyncIterator[Plane]:
    async with pipeops_plane(prepared.sqlite_copy(prepared_sqlite, tmp_path), tmp_path) as made:
        yield made


async def figures(plane: Plane) -> dict[str, float]:
    """What is told, by name and label."""
    answer = await plane.call("GET", "/metrics", token="")
    assert answer.status_code == 200
    found = {}
    for family in text_string_to_metric_families(answer.text):
        for sample in family.samples:
            if sample.name.startswith("towline_pipeops_") and "_rest_" not in sample.name:
                found[" ".join([sample.name.removeprefix("towline_pipeops_"), *sample.labels.values()])] = sample.value
    return found


async def test_every_event_is_told_from_the_start(plane: Plane) -> None:
    found = await figures(plane)
    assert {name: found[f"events_total {name}"] for name in EVENTS} == dict.fromkeys(EVENTS, 0.0)
    assert found["agents"] == found["connections"] == found["yamux"] == found["streams_open"] == 0.0


async def test_agents_their_sockets_and_their_yamux_are_counted(plane: Plane) -> None:
    async with plane.connect() as played:
        await until(lambda: plane.running.control.protocols.pipeops.office.tally["opened"])
        assert ((found := await figures(plane))["connections"], found["agents"]) == (1.0, 0.0)
        await multiplexed(plane, played)
        found = await figures(plane)
        assert (found["connections"], found["agents"], found["yamux"]) == (1.0, 1.0, 1.0)
        assert (found["events_total admitted"], found["events_total yamux_began"]) == (1.0, 1.0)

    async def gone() -> bool:
        found = await figures(plane)
        return (found["connections"], found["agents"], found["yamux"]) == (0.0, 0.0, 0.0)

    await eventually(gone)


async def test_what_is_wrong_with_an_agent_is_counted_by_what_it_is(plane: Plane) -> None:
    with pytest.raises(Refused):
        await upgrade(plane.running.port, "wrong-token-of-nobody", trusting(plane.running))
    async with plane.connect() as played:
        await played.say("heartbeat", heartbeat("agent-1", "nowhere"))
        await played.next("error")
        await registered(played)
        for name in ("no_such_thing", "proxy_response_end", "backpressure"):
            await played.say(name, {"reason": "x"} if name == "backpressure" else {}, request_id="nobody")
        await played.send(1, b"{nothing")
        await played.next("error")
        found = await figures(plane)
    counted = {name: found[f"events_total {name}"] for name in EVENTS}
    assert counted == dict.fromkeys(EVENTS, 0.0) | {
        "admitted": 1.0, "told_to_register": 1.0, "message_ignored": 2.0, "stray_answer": 1.0, "message_refused": 1.0,
    }  # fmt: skip
    assert found["upgrades_refused_total 401"] == 1.0
