"""Long streams end soon after the right to them is gone, with and without hints; tickets open one stream."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.support.control_app import ControlApp, running_control

from towline.control.access import service
from towline.control.access.actor import Access, AccessLost
from towline.control.access.permissions import Permission, Resource, Role
from towline.control.errors import ApiError

HERE = Resource("org_default", cluster_id="clu_1")
DEADLINE = 5.0


@pytest.fixture
async def app(database_url: str, tmp_path: Path) -> AsyncIterator[ControlApp]:
    async with running_control(database_url, tmp_path, streams_per_user=2) as running:
        yield running


class _Connection:
    """What authentication reads of a request."""


async def signed_in(app: ControlApp, name: str, role: Role) -> tuple[Access, str]:
    """The access of a request with a new user's token, and the token's id."""
    from starlette.requests import Request

    token = await app.token(name, *[_right(role)])
    scope = {
        "type": "http", "method": "GET", "path": "/", "query_string": b"", "app": app.app,
        "headers": [(b"authorization", f"Bearer {token}".encode())], "state": {"peer": "192.0.2.7", "request_id": "r"},
    }  # fmt: skip
    access = await app.control.access.authenticate(Request(scope))
    return access, access.actor.token_id


def _right(role: Role):
    from towline.control.access.permissions import Right

    return Right(role)


async def hold(access: Access, opened: asyncio.Event) -> str:
    """A stream that would never end by itself."""
    try:
        async with access.watch(Permission.EXEC_OPEN, HERE):
            opened.set()
            await asyncio.Event().wait()
    except AccessLost as lost:
        return lost.message
    return "ended by itself"


async def test_a_stream_ends_when_its_token_is_revoked(app: ControlApp) -> None:
    access, token_id = await signed_in(app, "ada", Role.OPERATOR)
    owner = await app.user("oli", Role.OWNER)
    opened = asyncio.Event()
    async with asyncio.timeout(DEADLINE), asyncio.TaskGroup() as group:
        stream = group.create_task(hold(access, opened))
        await opened.wait()
        assert (await owner.delete(f"/api/v1/tokens/{token_id}")).status_code == 204
    assert "withdrawn" in stream.result()


async def test_a_stream_ends_when_the_role_is_taken_away(app: ControlApp) -> None:
    access, _ = await signed_in(app, "ada", Role.OPERATOR)
    owner = await app.user("oli", Role.OWNER)
    grants = (await owner.get("/api/v1/grants")).json()["items"]
    mine = next(grant["id"] for grant in grants if grant["subject_id"] == access.actor.user_id)
    opened = asyncio.Event()
    async with asyncio.timeout(DEADLINE), asyncio.TaskGroup() as group:
        stream = group.create_task(hold(access, opened))
        await opened.wait()
        await owner.delete(f"/api/v1/grants/{mine}")
    assert "withdrawn" in stream.result()


async def test_a_stream_ends_without_any_hint(app: ControlApp, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "RECHECK_SECONDS", 0.05)
    access, _ = await signed_in(app, "ada", Role.OPERATOR)
    owner = await app.user("oli", Role.OWNER)
    monkeypatch.setattr(app.control.bus, "publish", lambda topic, **ids: None)
    opened = asyncio.Event()
    async with asyncio.timeout(DEADLINE), asyncio.TaskGroup() as group:
        stream = group.create_task(hold(access, opened))
        await opened.wait()
        await owner.patch("/api/v1/users/ada", json={"active": False})
    assert "withdrawn" in stream.result()


async def test_a_stream_outlives_changes_that_are_not_about_it(app: ControlApp) -> None:
    access, _ = await signed_in(app, "ada", Role.OPERATOR)
    async with access.watch(Permission.EXEC_OPEN, HERE):
        owner = await app.user("oli", Role.OWNER)
        await owner.post("/api/v1/grants", json={"user": "oli", "role": "viewer"})
        assert await app.control.access.still(access, Permission.EXEC_OPEN, HERE)
        assert not await app.control.access.still(access, Permission.DEPLOYMENT_WRITE, HERE)


async def test_a_cancelled_stream_is_cancelled_not_refused(app: ControlApp) -> None:
    access, _ = await signed_in(app, "ada", Role.OPERATOR)
    opened = asyncio.Event()
    stream = asyncio.get_running_loop().create_task(hold(access, opened))
    await opened.wait()
    stream.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stream


async def test_streams_of_one_user_are_limited_and_counted_down(app: ControlApp) -> None:
    access, _ = await signed_in(app, "ada", Role.OPERATOR)
    for _ in range(3):
        async with access.watch(Permission.EXEC_OPEN, HERE), access.watch(Permission.EXEC_OPEN, HERE):
            with pytest.raises(ApiError) as raised:
                async with access.watch(Permission.EXEC_OPEN, HERE):
                    pytest.fail("the third stream was opened")
            assert raised.value.status == 429


async def test_hints_cross_from_one_process_to_another(postgres_url: str, tmp_path: Path) -> None:
    async with (
        running_control(postgres_url, tmp_path / "one") as one,
        _second(postgres_url, tmp_path) as two,
        asyncio.timeout(DEADLINE * 2),
    ):
        for running in (one, two):
            await running.control.features[0].listening.wait()
        async with two.control.bus.subscribe("job") as events:
            one.control.bus.publish("job", id="job_1")
            while (event := await anext(events)).topic != "job":
                pass
            assert event.ids == {"id": "job_1"}


test_hints_cross_from_one_process_to_another = pytest.mark.postgres(test_hints_cross_from_one_process_to_another)


def _second(url: str, folder: Path):
    """Another process on the same database, with the same keys."""
    import shutil

    shutil.copytree(folder / "one" / "data" / "keys", folder / "two" / "data" / "keys")
    return running_control(url, folder / "two")
