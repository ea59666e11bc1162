"""Pages of the fleet: the list, joining a host, and one cluster. Rules are the API's."""

from collections.abc import Iterator, Mapping
from datetime import UTC
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel

from towline.control import forms
from towline.control.access.dependencies import Access, Permission, Resource, needs
from towline.control.agents import api as agents_api
from towline.control.agents.schemas import JoinTokenRequest
from towline.control.clusters import api
from towline.control.clusters.schemas import ClusterOut, ClusterPatch, ContainerOut
from towline.control.errors import ApiError, ErrorCode
from towline.control.kubernetes import heading
from towline.control.kubernetes import pages as kube_pages
from towline.control.listing import ListQuery, list_query
from towline.control.recordings import api as recordings
from towline.control.web import Notice, moment, redirect, size
from towline.control.web import query as with_query

router = APIRouter(include_in_schema=False)

Reader = Annotated[Access, needs(Permission.CLUSTER_READ)]
Manager = Annotated[Access, needs(Permission.CLUSTER_MANAGE)]
Joiner = Annotated[Access, needs(Permission.JOIN_TOKEN_MANAGE)]
Asked = Annotated[ListQuery, Depends(list_query)]
STATES = ("healthy", "degraded", "down", "working", "unknown")
EVERYTHING = ListQuery(limit=500)
CONTAINERS = 100
"""Containers on the page of a cluster; a filter and further pages find the others."""
CONTAINER_TONES = {"running": "healthy", "restarting": "degraded", "paused": "degraded", "dead": "down"}
AGENT_ACTIONS = {
    "approve": (agents_api.approve_agent, "the agent was approved"),
    "readmit": (agents_api.readmit_agent, "the agent may come back"),
    "revoke": (agents_api.revoke_agent, "the agent was cut off for good"),
    "rotate-key": (agents_api.rotate_agent_key, "the agent was asked to make a new key"),
}
MINUTE, HOUR, DAY = 60, 3600, 86400


class Step(BaseModel):
    """One of the first steps that tick themselves off."""

    title: str
    text: str
    done: bool
    url: str = ""
    action: str = ""
    post: bool = False
    next: bool = False


@router.get("/fleet")
async def fleet_page(request: Request, access: Reader, asked: Asked, selector: str = "", state: str = "") -> Response:
    """Show every cluster with its health; a new server shows the first steps above."""
    wanted = [state] if state in STATES else []
    found = await api.list_clusters(request, access, asked, selector, wanted)
    filters = {"search": asked.search, "selector": selector, "state": state}
    steps = await _first_steps(request, access) if not any(filters.values()) else []
    page: Response = request.app.state.control.web.page(
        request, "clusters/fleet.html", access=access, section="fleet", page=found.model_dump(), filters=filters,
        sort=asked.sort or "name", sort_url=with_query("/fleet", dict(filters)), steps=steps,
        page_url=with_query("/fleet", filters | {"sort": asked.sort}), may=_may(access),
        counts=await _counts(request, access) if found.total > 1 else [],
    )  # fmt: skip
    return page


async def _counts(request: Request, access: Access) -> list[tuple[str, int]]:
    found = await request.app.state.control.fleet.clusters.count_states(access)
    return [(state, found.get(state, 0)) for state in STATES]


async def _first_steps(request: Request, access: Access) -> list[Step]:
    """Return what a new owner does first, until all of it is done."""
    if not access.may(Permission.DEPLOYMENT_WRITE, Resource(access.org_id)):
        return []
    from towline.control.deployments.service import Wanted

    service = request.app.state.control.deployments.service
    clusters = await request.app.state.control.fleet.clusters.choices(access, Permission.CLUSTER_READ)
    deployments = await service.find_many(access, ListQuery(limit=1), Wanted())
    connected = len(clusters) > 1 or any(each.connected for each in clusters)
    steps = [
        Step(
            title="A host is connected", done=connected, url="/fleet/join",
            action="Join a host", text="Its agent dials out; no port has to be opened.",
        ),
        Step(
            title="Deploy a project", done=deployments.total > 0, url="/deployments/sample",
            action="Deploy the sample", post=True, text="The sample is a small web page; any Compose file works.",
        ),
        Step(
            title="Join a second host", done=len(clusters) > 1, url="/fleet/join", action="Join a host",
            text="One copied command on any machine that runs Docker.",
        ),
    ]  # fmt: skip
    if all(step.done for step in steps):
        return []
    for step in steps:
        if step.url == "/fleet/join" and not _may(access)["join"]:
            step.url, step.text = "", "Ask an administrator to join one."
    first = next(step for step in steps if not step.done)
    first.next = True
    return steps


# -- joining -----------------------------------------------------------------------------------


@router.get("/fleet/join")
async def join_page(request: Request, access: Joiner) -> Response:
    """Ask what the new host is called."""
    return _join_page(request, access, {"cluster_name": "", "labels": ""})


def _join_page(
    request: Request, access: Access, form: dict[str, str], made: Any = None, notices: tuple[Notice, ...] = ()
) -> Response:
    page: Response = request.app.state.control.web.page(
        request,
        "clusters/join.html",
        access=access,
        section="fleet",
        form=form,
        made=made,
        notices=notices,
        arrived=None,
    )
    return page


@router.post("/fleet/join")
async def make_join_token(request: Request, access: Joiner) -> Response:
    """Make a join token and show its line, this once, with a place that waits for the host."""
    form = await forms.read(request)
    notices: list[Notice] = []
    made = None
    async with forms.noticed(notices):
        asked = forms.body(
            JoinTokenRequest, cluster_name=form.line("cluster_name") or None, labels=forms.labels(form.line("labels")),
            ttl=form.number("ttl", HOUR), max_uses=int(form.number("max_uses", 1)),
            approval_required=form.checked("approval"),
        )  # fmt: skip
        made = await agents_api.create_join_token(request, access, asked)
    kept = {"cluster_name": form.line("cluster_name"), "labels": form.line("labels")}
    return _join_page(request, access, kept, made, tuple(notices))


@router.get("/fleet/join/{token_id}")
async def arrival_page(request: Request, access: Joiner, token_id: str) -> Response:
    """Show who joined with a token: what the join page fetches again and again."""
    token = await agents_api.get_join_token(request, access, token_id)
    arrived = None
    if token.agents:
        arrived = await api.get_cluster(request, access, token.agents[-1]["cluster_id"])
    page: Response = request.app.state.control.web.page(
        request, "clusters/arrival.html", access=access, section="fleet", token_id=token_id, arrived=arrived
    )
    return page


# -- one cluster -------------------------------------------------------------------------------


@router.get("/clusters/{name}")
async def cluster_page(request: Request, access: Reader, name: str, asked: Asked) -> Response:
    """Show health, what Kubernetes tells, projects, containers, facts and the link of one cluster."""
    try:
        cluster = await api.get_cluster(request, access, name)
    except ApiError as error:
        if error.code is not ErrorCode.CLUSTER_NOT_FOUND:
            raise
        return await kube_pages.restricted_overview(request, access, name)
    kubernetes: dict[str, Any] = {"kube": None, "compose": heading.serves_compose(cluster.capabilities)}
    if heading.is_kubernetes(cluster.capabilities):
        kubernetes |= await kube_pages.overview(request, access, name)
    projects = (await api.list_projects(request, access, name)).items
    shown = await api.list_containers(request, access, name, ListQuery(CONTAINERS, asked.cursor, search=asked.search))
    containers = await _all_containers(request, access, name) if projects else []
    page: Response = request.app.state.control.web.page(
        request, "clusters/overview.html", access=access, section="fleet", tab="overview",
        projects=[_project(project.name, project, containers) for project in projects],
        containers=[_container(container) for container in shown.items], facts=_facts(cluster),
        containers_page=shown.model_dump(), filters={"search": asked.search},
        page_url=with_query(f"/clusters/{cluster.name}", {"search": asked.search}),
        doctor=await _doctor(request, access, name) if not cluster.link.connected else [], **head(cluster, access),
        **kubernetes,
    )  # fmt: skip
    return page


@router.get("/clusters/{name}/settings")
async def cluster_settings(request: Request, access: Manager, name: str) -> Response:
    """Show name, labels, agents and the local policy of one cluster."""
    cluster = await api.get_cluster(request, access, name)
    page: Response = request.app.state.control.web.page(
        request, "clusters/settings.html", access=access, section="fleet", tab="settings",
        policy=list(_policy(cluster.facts.get("policy") or {})),
        recording=await recordings.get_recording_policy(request, access, name),
        registered=await request.app.state.control.protocols.pipeops.tokens.peek(access, name),
        **head(cluster, access),
    )  # fmt: skip
    return page


@router.post("/clusters/{name}/settings")
async def change_cluster(request: Request, access: Manager, name: str) -> Response:
    """Save name, labels and description."""
    form = await forms.read(request)
    changed = name

    async def action() -> None:
        nonlocal changed
        asked = forms.body(
            ClusterPatch, name=form.line("name"), labels=forms.labels(form.line("labels")),
            description=form.line("description"),
        )  # fmt: skip
        changed = (await api.change_cluster(request, access, name, asked)).name

    try:
        await action()
    except ApiError as error:
        return redirect(request, f"/clusters/{name}/settings", Notice("error", error.message, error.hint))
    return redirect(request, f"/clusters/{changed}/settings", Notice("done", "saved"))


@router.post("/clusters/{name}/agents/{agent}/{word}")
async def act_on_agent(request: Request, access: Manager, name: str, agent: str, word: str) -> Response:
    """Approve, readmit or revoke an agent, or have it rotate its key."""
    if word not in AGENT_ACTIONS:
        return redirect(request, f"/clusters/{name}/settings", Notice("error", f"there is no action {word!r}"))
    function, done = AGENT_ACTIONS[word]
    return await forms.act(request, f"/clusters/{name}/settings", done, lambda: function(request, access, name, agent))


@router.post("/clusters/{name}/remove")
async def remove_cluster(request: Request, access: Manager, name: str) -> Response:
    """Remove a cluster whose name was typed."""
    form = await forms.read(request)
    if form.line("confirm") != name:
        return redirect(request, f"/clusters/{name}/settings", Notice("error", f"type {name} to remove it"))
    return await forms.act(request, "/fleet", f"{name} was removed", lambda: api.remove_cluster(request, access, name))


async def _all_containers(request: Request, access: Access, name: str) -> list[ContainerOut]:
    """Return every container of a cluster: the states of its projects are judged by all of theirs."""
    page = await api.list_containers(request, access, name, EVERYTHING)
    found = list(page.items)
    while page.next_cursor:
        page = await api.list_containers(request, access, name, ListQuery(EVERYTHING.limit, page.next_cursor))
        found += page.items
    return found


def head(cluster: ClusterOut, access: Access) -> dict[str, Any]:
    """Return what stands above every page of a cluster, and what may be done with it."""
    base = f"/clusters/{cluster.name}"
    here = Resource(access.org_id, cluster_id=cluster.id, labels=cluster.labels)
    manages = access.may(Permission.CLUSTER_MANAGE, here)
    tabs = [("overview", base, "Overview")]
    if access.rights.gives(Permission.ROUTE_READ):
        tabs.append(("routes", f"{base}/routes", "Routes"))
    if manages:
        tabs.append(("settings", f"{base}/settings", "Settings"))
    if heading.is_kubernetes(cluster.capabilities):
        tabs = heading.tabs(cluster.name, manages)
    may = _may(access, here)
    may["deploy"] = may["deploy"] and heading.serves_compose(cluster.capabilities)
    return {"cluster": cluster, "tabs": tabs, "may": may}


def _may(access: Access, here: Resource | None = None) -> dict[str, bool]:
    place = here or Resource(access.org_id)
    return {
        "join": access.may(Permission.JOIN_TOKEN_MANAGE, Resource(access.org_id)),
        "deploy": access.may(Permission.DEPLOYMENT_WRITE, place),
        "publish": access.may(Permission.ROUTE_WRITE, place),
        "run": access.may(Permission.COMMAND_RUN, place),
    }


async def _doctor(request: Request, access: Access, name: str) -> list[dict[str, Any]]:
    from towline.control.links.api import link_doctor

    found = await link_doctor(request, access, name)
    return [check.model_dump() for check in found.checks]


def _facts(cluster: ClusterOut) -> list[tuple[str, str]]:
    facts, beat = cluster.facts, cluster.heartbeat
    versions = facts.get("versions") or {}
    disks = facts.get("disks") or []
    memory = f"{size(beat['memory_used_bytes'])} of " if beat.get("memory_used_bytes") else ""
    return [
        ("System", facts.get("system", "")),
        ("Host", facts.get("hostname", "")),
        ("Load", f"{beat['load']:.2f} on {facts.get('cpus', '?')} CPUs" if "load" in beat else ""),
        ("Memory", memory + size(facts["memory_bytes"]) if facts.get("memory_bytes") else ""),
        *(
            (f"Disk {disk['mount']}", f"{size(disk['free_bytes'])} free of {size(disk['total_bytes'])}")
            for disk in disks
        ),
        ("Docker", versions.get("docker", "")),
        ("Compose", versions.get("compose", "")),
        ("Agent", versions.get("agent", "")),
        ("Addresses", ", ".join(facts.get("addresses") or [])),
        ("Cloud", " ".join(filter(None, (facts.get("cloud"), facts.get("region"))))),
        ("Up since", _since(facts.get("boot_at"))),
        ("Joined", _since(cluster.created_at)),
    ]


def _since(value: Any) -> str:
    at = moment(value)
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC") if at else ""


def _project(name: str, project: Any, containers: list[ContainerOut]) -> dict[str, Any]:
    own = [container for container in containers if container.project == name]
    bad = [container for container in own if _tone(container) in {"down", "degraded"}]
    running = any(container.state == "running" for container in own)
    state = "down" if own and not running else "degraded" if bad or project.drift else "healthy" if own else "unknown"
    reasons = [f"{container.service or container.name}: {_state_words(container)}" for container in bad[:3]]
    reasons += [f"drift: {entry}" for entry in project.drift[:2]]
    return {
        "name": name, "managed": project.managed, "state": state, "reason": "; ".join(reasons),
        "containers_count": len(own),
    }  # fmt: skip


def _container(container: ContainerOut) -> dict[str, Any]:
    return {
        "name": container.name, "image": container.image, "ports": container.detail.get("ports") or [],
        "tone": _tone(container), "words": _state_words(container),
    }  # fmt: skip


def _tone(container: ContainerOut) -> str:
    if container.health == "unhealthy":
        return "down"
    if container.health == "starting":
        return "working"
    if container.state == "exited":
        return "unknown" if not container.detail.get("exit_code") else "down"
    return CONTAINER_TONES.get(container.state, "unknown")


def _state_words(container: ContainerOut) -> str:
    if container.state == "exited":
        memory = " (out of memory)" if container.detail.get("oom_killed") else ""
        return f"exited with {container.detail.get('exit_code', 0)}{memory}"
    return f"{container.state}, {container.health}" if container.health else container.state


def _policy(policy: Mapping[str, Any], within: str = "") -> Iterator[tuple[str, str]]:
    for key, value in policy.items():
        name = f"{within}{key.replace('_', ' ')}"
        if name == "capabilities" and not value:
            yield name, "none: everything is refused"
        elif isinstance(value, Mapping):
            yield from _policy(value, f"{name}: ")
        else:
            yield name, _words(value)


def _words(value: Any) -> str:
    if value is None or value in ([], ()):
        return "not limited"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
