"""The API keeps its own description: generated requests for every operation, against a running server.

Seeded and bounded, so that it is the same run each time. The fleet of `seeds.three` is there to be found.
"""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import SkipTest

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    ignored_auth,
    response_schema_conformance,
)
from tests.support import seeds
from tests.support.control_app import PASSWORD
from tests.support.served import served

from towline.control.access.permissions import Role

EXAMPLES = 8
"""Requests per operation and kind: enough to find what a schema forbids and code does not, in a minute for all."""
START_TIMEOUT = 30.0
LEFT_OUT = [
    "/api/v1/logout",  # would end the session of this very test
    "/api/v1/events",  # never ends; has a test of its own
    "/api/v1/jobs/{job}/events",  # ends only with the job when followed; the same
]


@dataclass
class Server:
    """A server in a thread of its own."""

    folder: Path
    ready: threading.Event = field(default_factory=threading.Event)
    port: int = 0
    token: str = ""
    failure: BaseException | None = None
    loop: asyncio.AbstractEventLoop | None = None
    stop: asyncio.Event | None = None

    def run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:
            self.failure = error
            self.ready.set()

    async def _serve(self) -> None:
        self.loop, self.stop = asyncio.get_running_loop(), asyncio.Event()
        async with served(f"sqlite:///{self.folder / 'x.sqlite'}", self.folder, drain_timeout=0.2) as running:
            control = running.control
            await seeds.three(control)
            user = await control.accounts.create_user(_system(), "oli", PASSWORD, roles=(Role.OWNER,))
            self.token = await _token(control, user.id)
            self.port = running.port
            self.ready.set()
            await self.stop.wait()


def _system() -> Any:
    from towline.control.access.actor import system_actor

    return system_actor("test")


async def _token(control: Any, user_id: str) -> str:
    from towline.control.access.actor import Access, Actor
    from towline.control.access.permissions import SYSTEM_RIGHTS

    access = Access(Actor("user", control.default_org, user_id, "oli"), SYSTEM_RIGHTS)
    return str((await control.accounts.create_token(access, "fuzz", kind="user", right=None, lifetime=None)).secret)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    one = Server(tmp_path_factory.mktemp("openapi"))
    thread = threading.Thread(target=one.run, name="server")
    thread.start()
    assert one.ready.wait(START_TIMEOUT)
    if one.failure is not None:
        raise one.failure
    yield one
    assert one.loop is not None and one.stop is not None
    one.loop.call_soon_threadsafe(one.stop.set)
    thread.join(START_TIMEOUT)
    assert not thread.is_alive()


@pytest.fixture(scope="module")
def api_schema(server: Server) -> Any:
    loaded = schemathesis.openapi.from_url(f"http://127.0.0.1:{server.port}/api/v1/openapi.json")
    return loaded.exclude(path=LEFT_OUT).exclude(path_regex="^/install")  # scripts and files, not JSON


def test_every_operation_keeps_its_description(api_schema: Any, server: Server) -> None:
    walked = 0
    failed: list[str] = []
    for result in api_schema.get_all_operations():
        operation = result.ok()
        try:
            attack(operation, server.token)
        except (Exception, BaseExceptionGroup) as error:  # every operation is looked at before the test fails
            said = error.exceptions if isinstance(error, BaseExceptionGroup) else [error]
            failed += [f"{operation.method.upper()} {operation.path}: {one}" for one in said]
        walked += 1
    assert walked > 50
    assert failed == [], "\n\n".join(failed)


def attack(operation: Any, token: str) -> None:
    """Send generated requests, right and wrong ones, to one operation."""

    @seed(20261121)
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
        database=None,
    )
    @given(case=operation.as_strategy(generation_mode=GenerationMode.POSITIVE))
    def rightly(case: Any) -> None:
        check(case, token)

    @seed(20261121)
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
        database=None,
    )
    @given(case=operation.as_strategy(generation_mode=GenerationMode.NEGATIVE))
    def wrongly(case: Any) -> None:
        check(case, token)

    rightly()
    with suppress(SkipTest, Unsatisfiable):  # nothing about the operation can be wrong
        wrongly()


def check(case: Any, token: str) -> None:
    case.call_and_validate(
        headers={"Authorization": f"Bearer {token}"},
        timeout=20,
        checks=[not_a_server_error, content_type_conformance, response_schema_conformance, ignored_auth],
    )
