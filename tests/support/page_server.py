"""A whole server in a thread of this process, for tests that look at its pages. Agents and Docker are not part of it.

with PageServer(folder) as server:
    server.do(seeds.three(server.control))
    cookie = server.sign_in("ada", Role.VIEWER)
"""

import asyncio
import threading
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, Self, TypeVar

import uvloop
from tests.support.control_app import grant_row

from towline.control.access.actor import Actor
from towline.control.access.permissions import Reach, Right, Role
from towline.control.app import ControlPlane
from towline.control.server import serving
from towline.control.settings import load

START_TIMEOUT = 60.0
T = TypeVar("T")


class PageServer:
    """One server on loopback, and its control plane for setting up what a page shows."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        values: dict[str, Any] = {
            "data_folder": str(folder / "data"),
            "database_url": f"sqlite:///{folder / 'pages.sqlite'}",
            "listen": "127.0.0.1:0",
            "log_level": "error",
            "api_rate": 100_000.0,
            "api_burst": 100_000,
            "login_per_account": 10_000,
            "login_per_address": 10_000,
        }
        self._settings = load({}, **{**values, **settings})
        self._ready = threading.Event()
        self._failed: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="page-server")
        self.control: ControlPlane
        self.url = ""

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(START_TIMEOUT), "the server did not start"
        if self._failed:
            raise self._failed
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Drain and stop it; a second time does nothing."""
        if not self._thread.is_alive():
            return
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(START_TIMEOUT)
        assert not self._thread.is_alive(), "the server did not stop"

    def _run(self) -> None:
        try:
            uvloop.run(self._serve())
        except BaseException as error:
            self._failed = error
            self._ready.set()

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        async with serving(self._settings) as running:
            self.control, self.url = running.control, f"http://127.0.0.1:{running.port}"
            self._ready.set()
            await self._stop.wait()

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The server's."""
        return self._loop

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the server's loop."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(START_TIMEOUT)

    def sign_in(self, name: str, role: Role | None, reach: Reach | None = None) -> str:
        """Make a user with one role and a session. Returns: the session cookie's value."""
        return self.do(self._sign_in(name, role, reach or Reach()))

    async def _sign_in(self, name: str, role: Role | None, reach: Reach) -> str:
        accounts = self.control.accounts
        actor = Actor("system", self.control.default_org, username="test")
        async with self.control.db.begin() as tx:
            user = await accounts.add_user(tx, actor, name, "", ())
            if role:
                tx.add(grant_row(self.control.default_org, user.id, Right(role, reach), await tx.now()))
            made = await accounts.open_session(tx, user, address="127.0.0.1", browser="Chromium", request_id="")
        return made.secret
