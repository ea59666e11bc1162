"""The control plane that these tests talk to: once on SQLite and once on PostgreSQL."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.support.control_app import ControlApp, running_control


@pytest.fixture
async def control_app(database_url: str, tmp_path: Path) -> AsyncIterator[ControlApp]:
    """A running control plane on a fresh database."""
    async with running_control(database_url, tmp_path) as app:
        yield app
