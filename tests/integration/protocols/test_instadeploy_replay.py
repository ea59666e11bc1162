"""The recording of a real InstaDeploy agent, message by message, against the real server.

The agent's side is said word for word; ids that the server chose are substituted. The server's side is compared in
meaning: it asks the same things in the same words. What the recording's server sent and ours never would (a file that
is not YAML, a bad name, bad base64, an unknown type, text that is no JSON) is asked through the session's conversation,
so that the real agent's answers to it are heard as well.
"""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import websockets
from tests.support.instadeploy_stand import Stand, stand
from tests.support.served import trusting
from websockets.asyncio.client import ClientConnection

from towline.control.protocols.admission import digest
from towline.control.protocols.instadeploy.session import InstaDeploySession
from towline.control.protocols.models import CompatToken
from towline.wire import instadeploy
from towline.wire.instadeploy import Command, Response, Standing

TRACE = Path(__file__).parents[2] / "data" / "traces" / "instadeploy.jsonl"
FRAMES: list[dict[str, Any]] = [json.loads(line) for line in TRACE.read_text().splitlines()]
UPGRADES = [frame for frame in FRAMES if frame["dir"] == "upgrade"]
COMMANDS = {frame["msg"]["id"]: frame["msg"] for frame in FRAMES if frame["dir"] == "cp" and "msg" in frame}
TEXTS = [frame["raw"] for frame in FRAMES if frame["dir"] == "agent" and frame["frame"] == "text"]

SECRET_OF_THE_RECORDING = "tok"


def answers(job_id: str) -> list[str]:
    """Return what the recorded agent said to a command, word for word."""
    return [text for text in TEXTS if json.loads(text)["job_id"] == job_id]


class Player:
    """The recorded agent: whoever asks what was asked then is told what was told then."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self.asked: list[dict[str, Any]] = []
        self.said: set[str] = set()
        """Ids of the recording whose answers were said."""

    async def run(self) -> None:
        try:
            async for text in self.connection:
                command = json.loads(text)
                self.asked.append(command)
                await self.answer(command)
        except websockets.ConnectionClosed:
            return

    async def answer(self, command: dict[str, Any]) -> None:
        asked = (command["type"], command["payload"])
        recorded = next((name for name, one in COMMANDS.items() if (one["type"], one["payload"]) == asked), "")
        assert recorded, f"the recorded agent was never asked {command}"
        self.said.add(recorded)
        for text in answers(recorded):
            await self.connection.send(text.replace(f'"{recorded}"', json.dumps(command["id"])))


@pytest.fixture
async def bench(prepared_sqlite: Path, tmp_path: Path) -> AsyncIterator[Stand]:
    async with stand(tmp_path, prepared_sqlite) as found:
        made = await found.shared_token()
        async with found.control.db.begin() as tx:
            row = await tx.get_one(CompatToken, made["id"])
            row.digest = digest(SECRET_OF_THE_RECORDING)
        yield found


@asynccontextmanager
async def recorded_agent(bench: Stand, upgrade: dict[str, Any]) -> AsyncIterator[Player]:
    """Connect with the recorded head: every header that the library does not make itself."""
    own = {"host", "connection", "upgrade", "sec-websocket-key", "sec-websocket-version", "user-agent"}
    headers = {name: value for name, value in upgrade["headers"].items() if name.lower() not in own}
    url = f"wss://localhost:{bench.running.port}{upgrade['path']}"
    async with websockets.connect(
        url,
        ssl=trusting(bench.running),
        additional_headers=headers,
        user_agent_header=upgrade["headers"]["User-Agent"],
        compression=None,
    ) as connection:
        player = Player(connection)
        task = asyncio.create_task(player.run())
        try:
            yield player
        finally:
            await connection.close()
            await task


def session_of(bench: Stand) -> InstaDeploySession:
    (one,) = list(bench.control.fleet.links)
    assert isinstance(one.session, InstaDeploySession)
    return one.session


async def ask(bench: Stand, command: Command) -> Response:
    return await session_of(bench).conversation.ask(command, timeout=5)


def recorded_file(job_id: str) -> str:
    return base64.b64decode(COMMANDS[job_id]["payload"]["compose_file_base64"]).decode()


async def test_the_whole_recording_replays(bench: Stand) -> None:
    async with recorded_agent(bench, UPGRADES[0]) as player:
        found = await bench.online("vm")
        assert found["facts"]["versions"] == {"agent": "InstaDeploy 1.0.0"}
        assert (found["facts"]["system"], found["facts"]["architecture"]) == ("linux", "amd64")

        # j1 to j3: a health check, a good deploy, its status.
        made = await bench.deploy(recorded_file("j2"), name="trace")
        assert (await bench.ended(made))["state"] == "succeeded"
        assert {"j1", "j2", "j3"} <= player.said

        # j4: a pull that fails. What follows is ours: the last good file is sent again.
        failed = await bench.ended(await bench.deploy(recorded_file("j4"), name="trace"))
        assert (failed["state"], failed["code"]) == ("failed", "pull_failed")
        assert "connection refused" in failed["error"]
        sent = [one["payload"] for one in player.asked if one["type"] == "DEPLOY_COMPOSE"]
        assert sent == [COMMANDS[name]["payload"] for name in ("j2", "j4", "j2")]

        # j5 to j7, j11: what ours refuses to send.
        assert (await bench.refused(recorded_file("j5"), name="trace"))["error"]["code"] == "compose_invalid"
        for name in ("j5", "j6", "j7", "j8", "j9", "j11"):
            one = COMMANDS[name]
            response = await ask(bench, Command(id=f"mine-{name}", type=one["type"], payload=one["payload"]))
            assert response.status is Standing.FAILED
            assert response.error == json.loads(answers(name)[-1])["error"]

        # j10: a project that nobody knows is COMPLETED, and so understood.
        response = await ask(bench, instadeploy.status("mine-j10", "nosuch"))
        assert response.status is Standing.COMPLETED

        # What it says to text that is no JSON concerns no command of ours: counted, nothing else.
        (unknown,) = answers("unknown")
        before = session_of(bench).conversation.ignored["unasked"]
        await player.connection.send(unknown)
        await (await player.connection.ping(b""))
        assert session_of(bench).conversation.ignored["unasked"] == before + 1
        assert player.said == set(COMMANDS)

    # It comes back a second after the close, with the same head but for its key.
    async with recorded_agent(bench, UPGRADES[1]):
        again = await bench.online("vm")
        assert [each["id"] for each in again["agents"]] == [each["id"] for each in found["agents"]]
        assert again["agents"][0]["epoch"] == 2


async def test_every_recorded_answer_is_read(bench: Stand) -> None:
    read = [instadeploy.decode_response(text) for text in TEXTS]

    assert [each.job_id for each in read] == [json.loads(text)["job_id"] for text in TEXTS]
