"""The messages `command` of `/ws`: run one, follow it, cancel it; its output goes to everybody who follows."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from towline.agent.surface.endpoints import Right
from towline.agent.surface.errors import SurfaceError
from towline.agent.surface.running import LocalCommand, LocalCommands, Run
from towline.aio.tasks import TaskOwner

MOST_FOLLOWED = 8
"""Commands that one connection follows at once: as many as fit on a page."""

Send = Callable[[str, Any, str | int | None], Awaitable[None]]
"""Sends a message: type, payload, and what it answers. Raises: ConnectionError."""


class Asked(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One of: run a command and follow it, follow one, stop following, cancel."""

    run: Run | None = None
    follow: str = ""
    unfollow: str = ""
    cancel: str = ""


_asked = msgspec.json.Decoder(Asked)


class CommandTalk:
    """The commands of one connection."""

    def __init__(self, commands: LocalCommands, right: Right, owner: TaskOwner, send: Send) -> None:
        self._commands = commands
        self._right = right
        self._owner = owner
        self._send = send
        self._followed: dict[str, asyncio.Task[None]] = {}

    def __repr__(self) -> str:
        return f"<CommandTalk {sorted(self._followed)}>"

    async def take(self, payload: msgspec.Raw, answering: str | int | None) -> None:
        """Do what a message asks. Raises: SurfaceError, PolicyRefused, DecodeError, ConnectionError."""
        asked = _asked.decode(payload)
        given = [name for name in ("run", "follow", "unfollow", "cancel") if getattr(asked, name)]
        if len(given) != 1:
            raise SurfaceError("bad_request", "a command message has one of run, follow, unfollow, cancel")
        if asked.run is not None:
            await self._run(asked.run, answering)
        elif asked.follow:
            await self._follow(self._commands.find(asked.follow, self._right), answering)
        elif asked.cancel:
            self._commands.cancel(asked.cancel, self._right)
            await self._tell("cancelling", {"command": asked.cancel}, answering)
        else:
            self._unfollow(asked.unfollow)
            await self._tell("unfollowed", {"command": asked.unfollow}, answering)

    async def _run(self, run: Run, answering: str | int | None) -> None:
        self._require_room()
        command = self._commands.begin(run, self._right)
        await self._follow(command, answering)

    async def _follow(self, command: LocalCommand, answering: str | int | None) -> None:
        if command.id in self._followed:
            raise SurfaceError("bad_request", "this connection follows it already")
        self._require_room()
        # The task is noted before anything is awaited, so that one connection cannot follow twice.
        task = self._owner.spawn(command.id, self._send_output(command, answering))
        self._followed[command.id] = task

    def _require_room(self) -> None:
        if len(self._followed) >= MOST_FOLLOWED:
            raise SurfaceError("throttled", f"this connection follows {MOST_FOLLOWED} commands already")

    def _unfollow(self, command_id: str) -> None:
        task = self._followed.pop(command_id, None)
        if task is None:
            raise SurfaceError("not_found", f"this connection does not follow {command_id[:60]!r}")
        task.cancel()

    async def _send_output(self, command: LocalCommand, answering: str | int | None) -> None:
        """Send what there is, then what comes, at the client's own speed; the command keeps its bound meanwhile."""
        try:
            with contextlib.suppress(ConnectionError):
                await self._tell("started", command.shown(), answering)
                at = 0
                while True:
                    for stage, text in command.chunks[at:]:
                        at += 1
                        await self._tell("output", {"command": command.id, "stage": stage, "text": text})
                    if command.ended is not None and at >= len(command.chunks):
                        break
                    await command.more(at)
                await self._tell("ended", {"command": command.id, **command.shown()})
        finally:
            self._followed.pop(command.id, None)

    async def _tell(self, event: str, payload: dict[str, Any], answering: str | int | None = None) -> None:
        await self._send("command", {"event": event, **payload}, answering)
