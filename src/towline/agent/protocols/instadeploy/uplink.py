"""One connection to an InstaDeploy control plane: commands in, answers out, each command's end once.

Every command that does something is in the journal before it is begun, and its end until the control plane has read
it: an agent that starts again in the middle goes on, and answers. Not here: what the commands do (`work.py`).
"""

from __future__ import annotations

import structlog

from towline.agent.errors import StorageError
from towline.agent.jobs.context import Host
from towline.agent.jobs.runner import Runner
from towline.agent.journal import Entry
from towline.agent.protocols import ids
from towline.agent.protocols.instadeploy import work
from towline.agent.protocols.keeper import Up
from towline.agent.protocols.line import Line
from towline.agent.protocols.place import Place, architecture, hostname
from towline.aio.streams import StreamError
from towline.aio.tasks import TaskOwner
from towline.tunnel import dial
from towline.tunnel.websocket import Channel, MessageLimits
from towline.wire import instadeploy
from towline.wire.instadeploy import Announced, BadMessage, Command, Kind, Response, Standing

MAX_LOG_CHARACTERS = 512 * 1024
"""Of one answer: what a deploy printed; the end of it is kept."""

_log = structlog.get_logger("towline.agent.instadeploy")


class Uplink:
    """Holds one connection after the other; `hold` is for a `Keeper`."""

    def __init__(self, place: Place, host: Host, runner: Runner, owner: TaskOwner) -> None:
        self._place = place
        self._host = host
        self._runner = runner
        self._owner = owner
        self._line: Line | None = None
        self._sent: set[str] = set()
        """Jobs whose end was sent on the present line."""

    def __repr__(self) -> str:
        return f"<InstaDeploy {self._line!r}>"

    async def hold(self, up: Up) -> str:
        """Connect and answer until the connection ends; returns why. Raises: LinkDown, SettingsError."""
        line = await self._dialled()
        self._sent.clear()
        self._line = line
        try:
            up(line)
            for entry in self._host.journal.unstored():
                await self._tell_end(line, entry)
            while (text := await line.receive()) is not None:
                await self._take(line, text)
        except StreamError as error:
            return error.reason
        finally:
            self._line = None
            line.close(reason="the agent was stopped")
        return line.ending

    async def _dialled(self) -> Line:
        place = self._place
        server = place.endpoint(instadeploy.PATHS[0], default_path=True)
        context = await place.context(server)
        clock = self._host.clock
        line = Line(Channel(clock=clock, limits=MessageLimits(text_bytes=instadeploy.MAX_COMMAND_BYTES)))
        headers = {
            "Authorization": f"Bearer {place.token()}",
            "User-Agent": place.route.user_agent,
            **dict(instadeploy.announcement(announced())),
        }
        await dial.open_channel(server, place.route, line.channel, headers, context=context, clock=clock)
        return line

    # -- commands ----------------------------------------------------------------------------------

    async def _take(self, line: Line, text: bytes) -> None:
        try:
            command = instadeploy.decode_command(text)
        except BadMessage as error:
            await self._fail(line, instadeploy.UNKNOWN_JOB, f"Invalid command format: {error}")
            return
        _log.info("command", command=command.id, type=command.type[:40])  # its payload may hold secrets
        await _send(line, Response(job_id=command.id, status=Standing.IN_PROGRESS, logs=instadeploy.RECEIVED))
        if command.kind is Kind.HEALTH:
            await _send(line, _healthy(command))
        elif command.kind is None:
            await self._fail(line, command.id, f"Unknown command type: {command.type[:100]}")
        else:
            await self._begin(line, command)

    async def _begin(self, line: Line, command: Command) -> None:
        """Promise to do it; one that was promised before is not done again, and its end is told again."""
        try:
            job = work.job(command, self._host)
            self._runner.take(job)
        except (BadMessage, ids.BadId, StorageError) as error:
            await self._fail(line, command.id, str(error))
            return
        self._sent.discard(job.job_id)
        entry = self._host.journal.entry(job.job_id)
        if entry is not None and entry.result is not None:
            await self._tell_end(line, entry)

    async def _fail(self, line: Line, command_id: str, error: str) -> None:
        await _send(line, Response(job_id=command_id, status=Standing.FAILED, error=error))

    # -- ends --------------------------------------------------------------------------------------

    def job_said(self, job_id: str) -> None:
        """Tell the end of a job, when there is one and somebody to tell."""
        entry = self._host.journal.entry(job_id)
        line = self._line
        if entry is not None and entry.result is not None and line is not None and not self._owner.closed:
            self._owner.spawn(f"end of {job_id}", self._tell_end_if_up(line, entry))

    async def _tell_end_if_up(self, line: Line, entry: Entry) -> None:
        try:
            await self._tell_end(line, entry)
        except StreamError as error:
            _log.debug("the end of a command waits for the next connection", reason=error.reason)

    async def _tell_end(self, line: Line, entry: Entry) -> None:
        """Raises: TunnelClosed."""
        if entry.job_id in self._sent or entry.result is None:
            return
        self._sent.add(entry.job_id)
        await _send(line, self._end(entry))
        # The protocol confirms nothing; an answered ping says that everything before it was read.
        line.channel.confirm(lambda: self._arrived(entry.job_id))

    def _arrived(self, job_id: str) -> None:
        try:
            self._host.journal.mark_stored(job_id, self._host.clock.now().timestamp())
        except StorageError as error:
            # It is told again on the next connection, which changes nothing there.
            _log.warning("the end of a command is told again", job=job_id, reason=str(error))

    def _end(self, entry: Entry) -> Response:
        assert entry.result is not None
        name, logs = ids.foreign_id(work.PREFIX, entry.job_id), self._logs(entry.job_id)
        if entry.result.outcome != "succeeded":
            error = entry.result.error or f"the command was {entry.result.outcome}"
            return Response(job_id=name, status=Standing.FAILED, logs=logs, error=error)
        if entry.kind == "compose.deploy":
            logs = f"Project '{entry.project}' deployed successfully.\n\nOutput:\n{logs}"
        elif entry.kind == "compose.stop":
            logs = f"Project '{entry.project}' stopped successfully.\n\nOutput:\n{logs}"
        return Response(job_id=name, status=Standing.COMPLETED, logs=logs)

    def _logs(self, job_id: str) -> str:
        texts, after = [], 0
        while events := self._host.journal.events(job_id, after):
            texts += [f"{event.service}: {event.text}" if event.service else event.text for event in events]
            after = events[-1].seq
        return "\n".join(texts)[-MAX_LOG_CHARACTERS:]


def announced() -> Announced:
    """Return what this agent says of itself."""
    return Announced(hostname=hostname(), version=instadeploy.AGENT_VERSION, architecture=architecture())


def _healthy(command: Command) -> Response:
    said = announced()
    data = {"version": said.version, "architecture": said.architecture, "hostname": said.hostname}
    return Response(job_id=command.id, status=Standing.COMPLETED, logs=instadeploy.HEALTHY, data=data)


async def _send(line: Line, response: Response) -> None:
    await line.send(instadeploy.encode_response(response).encode())
