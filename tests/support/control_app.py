"""A whole control plane for tests: real database, real app, no sockets. Requests go straight into the app.

async with running_control(database_url, tmp_path) as app:
    ada = await app.user("ada", Role.VIEWER)
    answer = await ada.get("/api/v1/whoami")
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI

from towline.aio.clock import REAL_CLOCK, Clock
from towline.control.access import repository, secrets
from towline.control.access.actor import Access, Actor
from towline.control.access.models import ApiToken, User
from towline.control.access.permissions import Reach, Right, Rights, Role
from towline.control.app import ControlPlane, create_app
from towline.control.ids import new_id
from towline.control.opening import opened
from towline.control.settings import Settings, load

ORIGIN = "https://towline.test"
PASSWORD = "correct horse battery"
ADDRESS = "192.0.2.7"


@dataclass
class ControlApp:
    """The running control plane and ways to call it as somebody."""

    control: ControlPlane
    app: FastAPI
    settings: Settings
    clients: list[httpx.AsyncClient] = field(default_factory=list)
    joiner: httpx.AsyncClient = field(init=False, repr=False)
    """An administrator, there from the first join token on."""

    def client(self, token: str = "", *, address: str = ADDRESS, **headers: str) -> httpx.AsyncClient:
        """A client without or with a token; closed at the end of the test."""
        transport = httpx.ASGITransport(app=self.app, client=(address, 40000), raise_app_exceptions=False)
        if token:
            headers["authorization"] = f"Bearer {token}"
        client = httpx.AsyncClient(transport=transport, base_url=ORIGIN, headers=headers, timeout=30)
        self.clients.append(client)
        return client

    async def org(self, name: str) -> str:
        """Another organisation."""
        org_id = new_id("org")
        async with self.control.db.begin() as tx:
            await repository.ensure_org(tx, org_id, name)
        return org_id

    async def token(self, name: str, *rights: Right, org_id: str = "") -> str:
        """A user with these rights and no password, and a token of theirs. Without argon2: fast."""
        access = await self.access(name, *rights, org_id=org_id)
        made = await self.control.accounts.create_token(access, name, kind="user", right=None, lifetime=None)
        return made.secret

    async def user(self, name: str, *roles: Role, reach: Reach | None = None, org_id: str = "") -> httpx.AsyncClient:
        """A client that acts as a new user with these roles at one place."""
        rights = (Right(role, reach or Reach()) for role in roles)
        return self.client(await self.token(name, *rights, org_id=org_id))

    async def access(self, name: str, *rights: Right, org_id: str = "") -> Access:
        """A new user as services see one."""
        org_id = org_id or self.control.default_org
        actor = Actor("system", org_id, username="test")
        async with self.control.db.begin() as tx:
            user = await self.control.accounts.add_user(tx, actor, name, "", ())
            for right in rights:
                tx.add(grant_row(org_id, user.id, right, await tx.now()))
        who = Actor("user", org_id, user.id, name, ADDRESS)
        return Access(who, Rights(rights), self.control.access.watch)

    async def rows(self, table: Any) -> list[Any]:
        """Everything in a table."""
        from sqlalchemy import select

        async with self.control.db.read() as tx:
            return list((await tx.scalars(select(table))).all())


def grant_row(org_id: str, user_id: str, right: Right, moment: Any) -> Any:
    from towline.control.access.models import Grant

    return Grant(
        id=new_id("grt"), org_id=org_id, subject_kind="user", subject_id=user_id, role=right.role.value,
        reach=right.reach.as_json(), created_by="", created_at=moment,
    )  # fmt: skip


def test_settings(database_url: str, folder: Path, **changes: Any) -> Settings:
    """Settings for a test: high limits, so that only tests of limits meet them."""
    values: dict[str, Any] = {
        "data_folder": str(folder / "data"),
        "database_url": database_url,
        "listen": "127.0.0.1:0",
        "public_url": ORIGIN,
        "api_rate": 100_000.0,
        "api_burst": 100_000,
        "login_per_account": 10_000,
        "login_per_address": 10_000,
        "enrol_per_address": 10_000,
    }
    return load({}, **{**values, **changes})


test_settings.__test__ = False  # type: ignore[attr-defined]


@asynccontextmanager
async def running_control(
    database_url: str, folder: Path, *, clock: Clock = REAL_CLOCK, start: bool = True, **changes: Any
) -> AsyncIterator[ControlApp]:
    """A control plane on an empty (or kept) database, its loops running unless told otherwise."""
    settings = test_settings(database_url, folder, **changes)
    async with opened(settings, clock=clock) as control:
        app = ControlApp(control, create_app(control), settings)
        if start:
            await control.start()
        try:
            yield app
        finally:
            for client in app.clients:
                await client.aclose()


__all__ = [
    "ADDRESS",
    "ORIGIN",
    "PASSWORD",
    "ApiToken",
    "ControlApp",
    "User",
    "running_control",
    "secrets",
    "test_settings",
]
