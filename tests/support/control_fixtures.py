"""Fixtures of a control plane: once on SQLite and once on PostgreSQL. A folder of tests takes them in its conftest."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from argon2 import PasswordHasher
from tests.support import prepared
from tests.support.control_app import ControlApp, running_control

from towline.control.access import passwords


@pytest.fixture
async def control_app(prepared_database_url: str, tmp_path: Path) -> AsyncIterator[ControlApp]:
    """A running control plane on a fresh database."""
    async with running_control(prepared_database_url, tmp_path) as app:
        yield app


@pytest.fixture(autouse=True)
def cheap_passwords(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hash passwords with the least cost that argon2 has: these tests sign in hundreds of times."""
    monkeypatch.setattr(passwords, "hasher", PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))


@pytest.fixture
async def small_app(prepared_sqlite: Path, tmp_path: Path) -> AsyncIterator[ControlApp]:
    """A control plane on SQLite alone, for what is decided before any database is asked."""
    async with running_control(prepared.sqlite_copy(prepared_sqlite, tmp_path), tmp_path) as app:
        yield app
