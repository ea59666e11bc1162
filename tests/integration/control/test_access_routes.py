"""Every route of the API and of the dashboard, walked by nobody, by each role, and by strangers with our ids.

A new route is in this test by itself: the routes come from the app. A route whose body this test does not know fails.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.routing import iter_route_contexts
from sqlalchemy import select
from tests.support import seeds
from tests.support.control_app import ControlApp, running_control

from towline.control.access.actor import Actor
from towline.control.access.dependencies import declaration
from towline.control.access.models import ApiToken, Grant, Session, User
from towline.control.access.permissions import ORG_WIDE, PERMISSIONS, Permission, Reach, Role, ScopeKind
from towline.control.agents.models import Agent, JoinToken
from towline.control.alerts.models import Alert, AlertChannel, AlertSilence
from towline.control.app import create_app
from towline.control.certificates.models import Certificate
from towline.control.clusters.models import Cluster
from towline.control.commands.models import CommandRun, SavedCommand
from towline.control.deployments.models import Deployment
from towline.control.domains.models import Domain
from towline.control.errors import StartupError
from towline.control.ids import new_id
from towline.control.jobs.models import Job
from towline.control.protocols.models import CompatToken
from towline.control.recordings.models import Recording
from towline.control.recordings.policy import Mode, Policy
from towline.control.recordings.policy import Session as Shell
from towline.control.registries.models import Registry
from towline.control.routes.models import PublishedRoute
from towline.control.settings import load

BODIES: dict[str, Any] = {
    "PATCH /api/v1/org": {"name": "x"},
    "POST /api/v1/tokens": {"name": "x"},
    "POST /api/v1/users": {"username": "x", "password": "x" * 20},
    "PATCH /api/v1/users/{user}": {"active": True},
    "PUT /api/v1/users/{user}/password": {"password": "x" * 20},
    "POST /api/v1/grants": {"user": "nobody", "role": "viewer"},
    "POST /api/v1/join-tokens": {},
    "POST /api/v1/compat/tokens": {"protocol": "pipeops"},
    "POST /api/v1/compat/tokens/{token_id}/open": {"seconds": 60},
    "PATCH /api/v1/clusters/{cluster}": {"description": "x"},
    "PUT /api/v1/clusters/{cluster}/registered-token": {"allowed": True},
    "POST /api/v1/clusters/{cluster}/agents/{agent}/update": {"manifest": "{}", "signature": "A" * 86},
    "POST /api/v1/clusters/{cluster}/link/test": {"seconds": 1},
    "POST /api/v1/clusters/{cluster}/kubernetes/manifest": {},
    "PATCH /api/v1/clusters/{cluster}/deployments/{name}": {"keep_revisions": 3},
    "POST /api/v1/clusters/{cluster}/deployments/{name}/revisions": {"compose": "services: {}"},
    "POST /api/v1/clusters/{cluster}/deployments/{name}/validate": {"compose": "services: {}"},
    "POST /api/v1/clusters/{cluster}/deployments/{name}/diff": {"compose": "services: {}"},
    "POST /api/v1/clusters/{cluster}/deployments/{name}/rollback": {},
    "POST /api/v1/clusters/{cluster}/deployments/{name}/redeploy": {},
    "POST /api/v1/clusters/{cluster}/deployments/{name}/adopt": {},
    "POST /api/v1/clusters/{cluster}/deployments/{name}/stop": {},
    "POST /api/v1/clusters/{cluster}/deployments/{name}/start": {},
    "POST /api/v1/clusters/{cluster}/deployments/{name}/restart": {},
    "POST /api/v1/clusters/{cluster}/deployments/{name}/scale": {"services": {"web": 1}},
    "POST /api/v1/clusters/{cluster}/deployments/{name}/remove": {"volumes": False},
    "POST /api/v1/clusters/{cluster}/deployments/{name}/prune": {},
    "POST /api/v1/registries": {"name": "x", "host": "registry.example", "username": "x", "password": "x"},
    "PATCH /api/v1/registries/{name}": {"username": "x"},
    "PUT /api/v1/clusters/{cluster}/recording-policy": {"mode": "all"},
    "PATCH /api/v1/alert-rules": {"rule": "crash_loop"},
    "POST /api/v1/alert-channels": {"name": "x", "target": {"kind": "webhook", "url": "https://hooks.example/x"}},
    "PATCH /api/v1/alert-channels/{channel}": {"enabled": False},
    "POST /api/v1/alert-silences": {"seconds": 60, "reason": "x"},
    "PATCH /api/v1/clusters/{cluster}/gateway": {"existing": "off"},
    "PATCH /api/v1/routes/{route}": {"enabled": False},
    "POST /api/v1/commands/preview": {"program": "docker", "arguments": ["ps"]},
    "POST /api/v1/commands/runs": {"program": "docker", "arguments": ["ps"], "clusters": ["edge-1"]},
    "POST /api/v1/commands/saved": {"name": "x", "program": "docker", "arguments": ["ps"]},
    "PATCH /api/v1/commands/saved/{command}": {"description": "x"},
    "POST /api/v1/certificates/{certificate}/renew": {},
    "POST /api/v1/certificates/{certificate}/revoke": {},
}
QUERIES = {
    "GET /api/v1/clusters/{cluster}/logs": "?project=shop",
    "GET /visit": f"?route=rte_x&host=x.example&state={'0' * 64}",
}
INSIDE = "nginx:alpine"
"""Stands in our deployments' files; the names that were asked for may come back in an error."""
EVERY_CLUSTER = Reach(ScopeKind.NAMESPACE, namespace="no-such-space")
"""A namespace of this name on any cluster: its holder may discover the API of each cluster, and nothing else there."""
DISCOVERED = ("/api/v1/clusters/{cluster}/kubernetes", "/api/v1/clusters/{cluster}/usage")
NEW_NAMES = {"POST /api/v1/clusters/{cluster}/kubernetes/manifest"}
"""Takes the name of a cluster that need not exist yet; an id is no such name."""
ENDLESS = {"/api/v1/events"}
"""Streams without end: the schema of their refusals is walked, not their content."""


@dataclass(frozen=True)
class Walk:
    """One route with one method."""

    method: str
    path: str
    needs: str

    @property
    def key(self) -> str:
        return f"{self.method} {self.path}"

    @property
    def is_page(self) -> bool:
        return not self.path.startswith("/api/")


def walks() -> list[Walk]:
    settings = load({}, data_folder="/nonexistent/never-made")
    found = []
    for context in iter_route_contexts(_routes(settings)):
        needs = declaration(context)
        for method in sorted((context.methods or set()) - {"HEAD", "OPTIONS"}):
            if needs.startswith("needs "):
                found.append(Walk(method, context.path or "", needs.removeprefix("needs ")))
    return found


def _routes(settings: Any) -> list[Any]:
    from fastapi import FastAPI

    from towline.control.app import pages, routers

    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    for router in (*routers(), *pages()):
        app.include_router(router)
    return list(app.routes)


WALKS = walks()


@pytest.fixture
async def seeded(tmp_path: Path) -> Any:
    """A control plane with clusters, deployments, jobs, users and tokens of the default organisation."""
    async with running_control(f"sqlite:///{tmp_path / 'x.sqlite'}", tmp_path, start=False) as app:
        await seeds.three(app.control)
        owner = await app.user("oli", Role.OWNER)
        await owner.post("/api/v1/users", json={"username": "bob", "password": "x" * 20, "role": "viewer"})
        await owner.post("/api/v1/registries", json=BODIES["POST /api/v1/registries"] | {"name": "ours"})
        await owner.post("/api/v1/join-tokens", json={})
        await owner.post("/api/v1/compat/tokens", json={"protocol": "pipeops", "shared": True})
        await app.client().post("/api/v1/login", json={"username": "bob", "password": "x" * 20})
        await recorded(app)
        await published(app)
        await alerted(app, owner)
        await commanded(owner)
        yield app


async def commanded(owner: httpx.AsyncClient) -> None:
    """A run of a command and a saved one of the default organisation."""
    command = {"program": "docker", "arguments": ["ps"]}
    saved = await owner.post("/api/v1/commands/saved", json=command | {"name": "ours-alone"})
    run = await owner.post("/api/v1/commands/runs", json=command | {"clusters": ["edge-1"]})
    assert (saved.status_code, run.status_code) == (201, 201), (saved.text, run.text)


async def alerted(app: ControlApp, owner: httpx.AsyncClient) -> None:
    """An alert, a channel and a silence of the default organisation."""
    channel = BODIES["POST /api/v1/alert-channels"] | {"name": "ours-alone"}
    await owner.post("/api/v1/alert-channels", json=channel)
    await owner.post("/api/v1/alert-silences", json=BODIES["POST /api/v1/alert-silences"])
    async with app.control.db.begin() as tx:
        moment = await tx.now()
        tx.add(
            Alert(
                id=new_id("alr"), org_id=app.control.default_org, rule="crash_loop", subject="s", name="ours",
                state="firing", severity="warning", began_at=moment, changed_at=moment,
            )
        )  # fmt: skip


async def published(app: ControlApp) -> None:
    """A domain, a route and a certificate of the default organisation."""
    async with app.control.db.begin() as tx:
        moment, org = await tx.now(), app.control.default_org
        tx.add(
            Domain(
                id=new_id("dom"), org_id=org, name="ours.example", state="verified", token="t", verified_at=moment,
                created_at=moment,
            )
        )  # fmt: skip
        tx.add(
            Certificate(
                id=new_id("crt"), org_id=org, name="shop.ours.example", source="acme", state="issued", next_at=moment,
                names=["shop.ours.example"], created_at=moment, updated_at=moment,
            )
        )  # fmt: skip
        tx.add(
            PublishedRoute(
                id=new_id("rte"), org_id=org, name="ours", host="shop.ours.example", created_at=moment,
                changed_at=moment,
            )
        )  # fmt: skip


async def recorded(app: ControlApp) -> None:
    """A recorded session of nobody in particular."""
    session = Shell("docker", "clu_gone", "gone", target="web")
    actor = Actor("user", app.control.default_org, "usr_gone", "gone")
    recorder = await app.control.recordings.begin(session, actor, Policy(Mode.ALL))
    assert recorder is not None
    recorder.begin(lambda why: None)
    recorder.end()


async def ids(app: ControlApp) -> dict[str, str]:
    """Our ids for every parameter of a path."""
    async with app.control.db.read() as tx:

        async def one(column: Any, *where: Any) -> str:
            return str(await tx.scalar(select(column).where(*where).limit(1)))

        deployment = (await tx.scalars(select(Deployment).limit(1))).one()
        job = (await tx.scalars(select(Job).limit(1))).one()
        return {
            "cluster": deployment.cluster_id,
            "cluster_name": await one(Cluster.name, Cluster.id == deployment.cluster_id),
            "name": deployment.name,
            "job": job.id,
            "agent": await one(Agent.id, Agent.cluster_id == deployment.cluster_id),
            "user": await one(User.id, User.username == "bob"),
            "grant_id": await one(Grant.id),
            "session_id": await one(Session.id),
            "token": await one(ApiToken.id),
            "join_token": await one(JoinToken.id),
            "compat_token": await one(CompatToken.id),
            "registry": await one(Registry.name),
            "recording": await one(Recording.id),
            "route": await one(PublishedRoute.id),
            "domain": await one(Domain.name),
            "certificate": await one(Certificate.name),
            "alert": await one(Alert.id),
            "channel": await one(AlertChannel.name),
            "silence": await one(AlertSilence.id),
            "run": await one(CommandRun.id),
            "command": await one(SavedCommand.name),
        }


def address(walk: Walk, known: dict[str, str]) -> str:
    """The path of a walk with our ids in it."""
    values = dict(known)
    kind = "join_token" if "join" in walk.path else "compat_token" if "compat" in walk.path else "token"
    values["token_id"] = known[kind]
    if "/registries/" in walk.path:
        values["name"] = known["registry"]
    for kind in ("domains", "certificates"):
        if f"/{kind}/{{name}}" in walk.path:
            values["name"] = known[kind.removesuffix("s")]
    if walk.path.startswith("/clusters/{name}"):
        values["name"] = known["cluster_name"]
    values |= {"number": "1", "position": "0", "word": "revoke"}
    objects = dict.fromkeys(("namespace", "resource", "kind", "object", "pod"), "pods")
    return walk.path.format(**{**objects, **values}) + QUERIES.get(walk.key, "")


async def send(client: httpx.AsyncClient, walk: Walk, known: dict[str, str]) -> httpx.Response:
    if walk.is_page and walk.method != "GET":
        return await client.request(walk.method, address(walk, known), data={"x": "y"})
    if walk.key in BODIES:
        return await client.request(walk.method, address(walk, known), json=BODIES[walk.key])
    return await client.request(walk.method, address(walk, known))


async def test_nobody_gets_anywhere(seeded: ControlApp) -> None:
    known, client = await ids(seeded), seeded.client()
    for walk in WALKS:
        answer = await send(client, walk, known)
        if walk.is_page and answer.status_code == 303:
            assert answer.headers["location"].startswith("/signin"), walk
        else:
            assert answer.status_code == 401, (walk, answer.status_code)


@pytest.mark.parametrize("role", list(Role))
async def test_a_role_gets_no_further_than_its_permissions(seeded: ControlApp, role: Role) -> None:
    known, client = await ids(seeded), await seeded.user("rob", role)
    for walk in WALKS:
        if Permission(walk.needs) not in PERMISSIONS[role]:
            answer = await send(client, walk, known)
            assert answer.status_code == 403, (walk, answer.status_code, answer.text[:200])


async def test_somebody_without_any_grant_gets_nowhere(seeded: ControlApp) -> None:
    known, client = await ids(seeded), await seeded.user("nora")
    for walk in WALKS:
        answer = await send(client, walk, known)
        assert answer.status_code == 403, (walk, answer.status_code)


async def test_the_owner_of_another_organisation_finds_nothing_of_ours(seeded: ControlApp) -> None:
    known = await ids(seeded)
    alien = await seeded.user("zed", Role.OWNER, org_id=await seeded.org("other"))
    before = await _state(seeded)
    for walk in WALKS:
        if "{" not in walk.path or walk.path in ENDLESS:
            continue
        answer = await send(alien, walk, known)
        expected = (404, 422, 400, 303) if walk.is_page or walk.key in NEW_NAMES else (404,)
        assert answer.status_code in expected, (walk, answer.status_code, answer.text[:300])
        assert INSIDE not in answer.text, walk
    assert await _state(seeded) == before


async def test_lists_show_another_organisation_nothing_of_ours(seeded: ControlApp) -> None:
    known = await ids(seeded)
    alien = await seeded.user("zed", Role.OWNER, org_id=await seeded.org("other"))
    ours = {known[name] for name in ("cluster", "job", "agent", "user", "grant_id", "token", "join_token")}
    for walk in WALKS:
        if walk.method != "GET" or "{" in walk.path or walk.path in ENDLESS:
            continue
        answer = await send(alien, walk, known)
        assert answer.status_code in ((404,) if walk.path == "/visit" else (200, 303)), (walk, answer.status_code)
        assert not any(value in answer.text for value in ours), walk


@pytest.mark.parametrize(
    "reach",
    [
        Reach(ScopeKind.CLUSTER, cluster_id="clu_elsewhere"),
        Reach(ScopeKind.SELECTOR, selector=(("no", "such"),)),
        Reach(ScopeKind.PROJECT, project="no-such-project"),
        EVERY_CLUSTER,
    ],
)
async def test_an_owner_of_a_part_finds_nothing_of_the_rest(seeded: ControlApp, reach: Reach) -> None:
    known, stranger = await ids(seeded), await seeded.user("pat", Role.OWNER, reach=reach)
    before = await _state(seeded)
    for walk in WALKS:
        if not any(name in walk.path for name in ("{cluster}", "{job}", "/clusters/{name}")):
            continue
        answer = await send(stranger, walk, known)
        expected = (404, 422, 400, 303) if walk.is_page else (404,)
        if Permission(walk.needs) in ORG_WIDE:
            expected = (403,)
        elif reach == EVERY_CLUSTER and walk.path.startswith(DISCOVERED):
            assert not any(one["allowed"] for one in answer.json().get("answers", ()))
            expected = (200, 403, 404)
        elif reach == EVERY_CLUSTER and walk.is_page and walk.method == "GET":
            assert known["name"] not in answer.text, walk  # its page tells of namespaces; no deployment of ours
            expected = (200, 403, *expected)
        assert answer.status_code in expected, (walk, answer.status_code, answer.text[:300])
        assert INSIDE not in answer.text, walk
    listed = [(await stranger.get(f"/api/v1/{name}")).json()["total"] for name in ("clusters", "deployments", "jobs")]
    assert listed == [0, 0, 0]
    assert await _state(seeded) == before


async def test_a_route_without_a_declaration_stops_the_start(
    seeded: ControlApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fastapi import APIRouter

    from towline.control import app as wiring

    router = APIRouter()

    @router.get("/api/v1/forgotten")
    async def forgotten() -> str:
        return "open to all"

    monkeypatch.setattr(wiring, "routers", lambda: (router,))
    with pytest.raises(StartupError, match="/api/v1/forgotten"):
        create_app(seeded.control)


async def _state(app: ControlApp) -> str:
    """Everything that strangers must not change, as text."""
    tables = (User, Grant, ApiToken, JoinToken, CompatToken, Cluster, Agent, Deployment, Job, Registry)
    async with app.control.db.read() as tx:
        rows = [[tuple(row) for row in (await tx.execute(select(table.__table__))).all()] for table in tables]
    strangers = ("'zed'", "'pat'")
    return str([[row for row in table if not any(name in str(row) for name in strangers)] for table in rows])
