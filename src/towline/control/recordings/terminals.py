"""Recording of terminals on Docker hosts: their frames say themselves what they are."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import msgspec

from towline.control.recordings.policy import Session
from towline.control.recordings.service import Recordings
from towline.wire.streams import EXIT, RESIZE, STDERR, STDIN, STDOUT, Frame

if TYPE_CHECKING:
    from towline.control.recordings.recorder import Recorder
    from towline.control.streams.opening import Request


@asynccontextmanager
async def recorded(recordings: Recordings, session: Session, wanted: Request) -> AsyncIterator[Request]:
    """Record a terminal if its cluster's policy says so; the block serves it.

    Raises: ApiError: it cannot be recorded, and may not be without.
    """
    policy = await recordings.policy(session.cluster_id)
    recorder = await recordings.begin(session, wanted.access.actor, policy) if policy.wants(session) else None
    if recorder is None:
        yield wanted
        return
    recorder.is_claimed = True
    try:
        yield replace(wanted, recorder=recorder)
    finally:
        if recorder.has_begun:
            recorder.end()
        else:
            recordings.discard(recorder)


def typed(recorder: Recorder, kind: int, body: bytes) -> None:
    """Note what a client sent."""
    if kind == STDIN:
        recorder.input(body)
    elif kind == RESIZE:
        try:
            size = msgspec.json.decode(body, type=dict[str, int])
            recorder.resized(size["columns"], size["rows"])
        except (msgspec.DecodeError, KeyError):
            return  # the agent will refuse it


def shown(recorder: Recorder, frame: Frame) -> None:
    """Note what came from the command."""
    if frame.kind in (STDOUT, STDERR):
        recorder.output(frame.body)
    elif frame.kind == EXIT:
        recorder.exit = _exit(frame.body)


def _exit(body: bytes) -> str:
    try:
        ended = msgspec.json.decode(body, type=dict[str, object])
    except msgspec.DecodeError:
        return ""
    return str(ended.get("error") or ended.get("code", ""))
