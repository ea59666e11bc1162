"""A recording whose row cannot be written leaves no file."""

from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from prometheus_client import CollectorRegistry

from towline.aio.clock import SimulatedClock
from towline.control.access.actor import Actor
from towline.control.errors import ApiError, ErrorCode
from towline.control.recordings.policy import Session
from towline.control.recordings.service import Recordings


class Away:
    """A database that is away."""

    @asynccontextmanager
    async def begin(self) -> Any:
        raise ApiError(ErrorCode.UNAVAILABLE, "the database is away")
        yield


def new_recordings(folder: Path) -> Recordings:
    settings = SimpleNamespace(
        data_folder=folder, recording_bytes=1000, recording="interactive", recording_namespaces=(),
        recording_on_loss="continue", recording_on_unreadable="refuse", recording_keys=False, recording_minutes=1,
        keep_recording_days=1,
    )  # fmt: skip
    control = SimpleNamespace(
        settings=settings, db=Away(), audit=None, clock=SimulatedClock(), sealer=None,
        metrics=SimpleNamespace(registry=CollectorRegistry()), retention=SimpleNamespace(custom=[]),
    )  # fmt: skip
    return Recordings(cast(Any, control))


async def test_a_database_that_is_away_leaves_no_file_open_or_behind(tmp_path: Path) -> None:
    recordings = new_recordings(tmp_path)
    with pytest.raises(ApiError, match="away"):
        await recordings.begin(Session("kubernetes", "clu_1", "prod"), Actor("user", "org_1"), recordings._usual)
    assert list((tmp_path / "recordings").iterdir()) == []
    await recordings.stop()
