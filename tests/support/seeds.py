"""What pages show in tests: clusters, projects, containers, deployments, revisions, jobs and audit, straight in tables.

`three` is a small fleet with each kind of trouble; `thousand` is one that lists must answer quickly with.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec
from sqlalchemy import insert, update

from towline.control.access.actor import Actor
from towline.control.agents.models import Agent
from towline.control.app import ControlPlane
from towline.control.clusters.models import Cluster, ClusterLabel, InventoryContainer, InventoryProject
from towline.control.deployments.models import Deployment, Revision
from towline.control.ids import new_id
from towline.control.jobs.models import Job, JobEvent
from towline.wire import link

GIB = 1024**3
COMPOSE = """\
services:
  web:
    image: nginx:alpine
    ports:
      - "8080:80"
    healthcheck:
      test: ["CMD-SHELL", "wget -q -O /dev/null http://127.0.0.1/"]
  db:
    image: postgres:17
    volumes:
      - data:/var/lib/postgresql/data
volumes:
  data:
"""
NEWER = COMPOSE.replace("nginx:alpine", "nginx:1.29-alpine").replace("8080:80", "8081:80")
FACTS = {
    "hostname": "edge-1", "system": "Debian GNU/Linux 12 (bookworm)", "kernel": "6.1.0", "architecture": "x86_64",
    "cpus": 4, "memory_bytes": 8 * GIB, "addresses": ["10.0.4.17", "192.168.1.20"], "cloud": "", "region": "",
    "disks": [{"mount": "/", "total_bytes": 80 * GIB, "free_bytes": 31 * GIB, "device": "/dev/vda1"}],
    "versions": {"agent": "0.1.0", "python": "3.11.2", "docker": "28.5.2", "compose": "2.40.3"},
    "policy": {"capabilities": ["compose", "forward"], "privileged": False, "host_network": True, "images": []},
}  # fmt: skip
BEAT = {"load": 0.42, "memory_used_bytes": 3 * GIB, "disk_free_bytes": 31 * GIB, "cpu_percent": 7.5}
READY = [{"name": "compose", "ready": True, "version": "2.40.3", "reason": "", "since": None}]
BROKEN = [
    {
        "name": "compose", "ready": False, "version": "", "since": None,
        "reason": "Docker does not answer since 14:02: permission denied on the socket",
    }
]  # fmt: skip


async def three(control: ControlPlane) -> None:
    """A healthy, a degraded and an away host; on them a good, a failed and a foreign project; one job of each end."""
    async with control.db.begin() as tx:
        now = await tx.now()
        hosts = (
            ("edge-1", "healthy", "Everything works", {"env": "prod", "site": "berlin"}, READY),
            ("edge-2", "degraded", BROKEN[0]["reason"], {"env": "staging"}, BROKEN),
            ("warehouse-hamburg-storage", "unknown", "The line was cut: no answer to three heartbeats", {}, READY),
        )
        for name, state, reason, labels, capabilities in hosts:
            row = cluster(control, name, now, state, str(reason), capabilities=capabilities)
            tx.add(row)
            await tx.flush()
            tx.add_all(ClusterLabel(cluster_id=row.id, key=key, value=value) for key, value in labels.items())
            tx.add(agent(row, now))
            for project in ("shop", "blog"):
                tx.add(_project(row, project, managed=project == "shop"))
                tx.add_all(_containers(row, project))
            if name != "edge-2":
                await _deployment(tx, row, now, failed=name != "edge-1")
        actor = Actor("user", control.default_org, "usr_x", "ada", "192.0.2.7")
        for action, result in (("deployment.deploy", "done"), ("cluster.remove", "refused"), ("exec.open", "done")):
            await control.audit.record(
                tx, actor, action=action, target_kind="deployment", target_name="shop", result=result,
                reason="needs the role admin" if result == "refused" else "",
            )  # fmt: skip


async def thousand(control: ControlPlane, clusters: int = 1000, containers: int = 10) -> None:
    """Many clusters with one project each."""
    async with control.db.begin() as tx:
        now = await tx.now()
        rows = [cluster(control, f"host-{n:04}", now, *_mood(n)) for n in range(clusters)]
        await _insert(tx, Cluster, (_values(row) for row in rows))
        labels = ({"cluster_id": row.id, "key": "site", "value": f"s{n % 40}"} for n, row in enumerate(rows))
        await _insert(tx, ClusterLabel, labels)
        await _insert(tx, Agent, (_values(agent(row, now)) for row in rows))
        await _insert(tx, InventoryProject, (_values(_project(row, "shop", managed=True)) for row in rows))
        found = (_values(one) for row in rows for one in _containers(row, "shop", containers))
        await _insert(tx, InventoryContainer, found)
        made = [deployment(row, now, *_mood(n)) for n, row in enumerate(rows)]
        await _insert(tx, Deployment, (_values(one) for one in made))
        await _insert(tx, Revision, (_values(revision(one, 1, now, COMPOSE, "good")) for one in made))
        await _insert(tx, Job, (_values(job(one, now, "succeeded")) for one in made))


def cluster(
    control: ControlPlane, name: str, now: datetime, state: str, reason: str, capabilities: Sequence[Any] = READY
) -> Cluster:
    """A cluster as its agent left it."""
    return Cluster(
        id=new_id("clu"), org_id=control.default_org, name=name, description="", created_at=now - timedelta(days=12),
        created_by="ada", health_state=state, health_reason=reason, health_since=now - timedelta(minutes=7),
        capabilities=list(capabilities), facts=FACTS | {"hostname": name}, facts_at=now, heartbeat=BEAT,
        last_seen_at=now - timedelta(minutes=3), inventory_at=now, connected=False, connected_since=None,
        link_address="198.51.100.23", link_reconnects=2, link_last_error="connection reset by peer",
    )  # fmt: skip


def agent(row: Cluster, now: datetime, state: str = "active") -> Agent:
    return Agent(
        id=new_id("agt"), org_id=row.org_id, cluster_id=row.id, state=state, state_reason="", state_since=now, epoch=3,
        generation=3, acked_generation=3, resync=False, instance_id="i1", owner="", takeovers=[], rivals=[],
        hostname=row.name, version="0.1.0", address="198.51.100.23", sealing_key=bytes(32), join_token_id="",
        created_at=now, last_seen_at=now - timedelta(minutes=3), rotate_requested_at=None,
    )  # fmt: skip


def deployment(row: Cluster, now: datetime, state: str, reason: str, number: int = 1) -> Deployment:
    return Deployment(
        id=new_id("dep"), org_id=row.org_id, cluster_id=row.id, name="shop", labels={}, auto_rollback=True,
        settle_seconds=10.0, keep_revisions=5, policy_level="standard", scales={}, prune_interval_seconds=0.0,
        pruned_at=None, latest_number=number, desired_number=number, running_number=1, last_good_number=1,
        stopped_by="", folder="", removed_at=None, state=state, reason=reason, state_since=now, created_by="usr_x",
        created_at=now, updated_at=now,
    )  # fmt: skip


def revision(of: Deployment, number: int, now: datetime, compose: str, outcome: str, **more: Any) -> Revision:
    fields: dict[str, Any] = {
        "id": new_id("rev"), "org_id": of.org_id, "deployment_id": of.id, "number": number, "source": "deploy",
        "author_id": "usr_x", "author": "ada", "message": "a newer web server" if number > 1 else "first version",
        "base_number": number - 1, "idem_key": None, "idem_hash": "", "created_at": now, "compose": compose,
        "sealed_values": None, "has_env": False, "bundle": None, "variables": [], "secrets": {}, "registries": [],
        "services": [
            {"name": "web", "image": "nginx:alpine", "replicas": 1, "one_shot": False},
            {"name": "db", "image": "postgres:17", "replicas": 1, "one_shot": False},
        ],
        "outcome": outcome, "error": "", "code": "", "failing": [], "rolled_back_to": None, "images": {},
        "job_id": None, "finished_at": now,
    }  # fmt: skip
    return Revision(**(fields | more))


def job(of: Deployment, now: datetime, state: str, **more: Any) -> Job:
    fields: dict[str, Any] = {
        "id": new_id("job"), "org_id": of.org_id, "cluster_id": of.cluster_id, "deployment_id": of.id,
        "kind": "compose.deploy", "project": of.name, "serial_key": "", "idem_key": None, "state": state,
        "stage": "done", "attempt": 1, "fence": 3, "lease_owner": "", "lease_token": 1, "lease_until": None,
        "run_after": now, "deadline_at": None, "timeout": 600.0, "payload": {}, "result": {"revision": 1},
        "error": "", "code": "", "created_by": "ada", "created_at": now, "started_at": now, "finished_at": now,
        "last_seq": 0, "agent_seq": 0,
    }  # fmt: skip
    return Job(**(fields | more))


async def _deployment(tx: Any, row: Cluster, now: datetime, *, failed: bool) -> None:
    made = deployment(row, now, "degraded" if failed else "healthy", "", number=2 if failed else 1)
    tx.add(made)
    await tx.flush()
    tx.add(revision(made, 1, now - timedelta(hours=3), COMPOSE, "good"))
    failing = [
        {"service": "web", "container": "shop-web-1", "reason": "unhealthy: wget: can't connect to remote host",
         "log_tail": ["nginx: [emerg] bind() to 0.0.0.0:80 failed (98: Address in use)", "nginx: exiting"]}
    ]  # fmt: skip
    if failed:
        error = "revision 2 did not become healthy: web is unhealthy"
        tx.add(revision(made, 2, now, NEWER, "failed", error=error, failing=failing, rolled_back_to=1))
        detail = {"revision": 2, "failing": failing, "rolled_back_to": 1}
        done = job(made, now, "failed", error=error, code="unhealthy", result=detail, last_seq=6)
    else:
        done = job(made, now, "succeeded", last_seq=6)
    tx.add(done)
    await tx.flush()
    words = ("received", "validating", "pulling", "starting", "watching", "done")
    for seq, stage in enumerate(words, 1):
        bad = failed and seq > 4
        tx.add(
            JobEvent(
                job_id=done.id,
                seq=seq,
                at=now + timedelta(seconds=seq),
                stage=stage,
                service="web" if seq > 2 else "",
                text=f"{stage} nginx:alpine",
                level="error" if bad else "info",
                current=0,
                total=0,
            )
        )


def _containers(row: Cluster, project: str, count: int = 3) -> Iterator[InventoryContainer]:
    for n in range(count):
        service, image = ("web", "nginx:alpine") if n % 2 == 0 else ("db", "postgres:17")
        down = n == 2 and project == "blog"
        seen = link.Container(
            id=f"{row.id[-8:]}{project}{n:04}", name=f"{project}-{service}-{n // 2 + 1}", project=project,
            service=service, image=image, state="exited" if down else "running", health="" if down else "healthy",
            exit_code=137 if down else 0, oom_killed=down, restarts=3 if down else 0,
            ports=("0.0.0.0:8080->80/tcp",) if n == 0 else (),
        )  # fmt: skip
        yield InventoryContainer(
            cluster_id=row.id, container_id=seen.id, org_id=row.org_id, name=seen.name, project=project,
            service=service, image=image, state=seen.state, health=seen.health, sick=False,
            data=msgspec.to_builtins(seen),
        )  # fmt: skip


def _project(row: Cluster, name: str, *, managed: bool) -> InventoryProject:
    revision = 1 if managed else 0
    files = (f"/srv/{name}/compose.yaml",)
    seen = link.Project(name=name, folder=f"/srv/{name}", config_files=files, managed=managed, revision=revision)
    return InventoryProject(
        cluster_id=row.id, name=name, org_id=row.org_id, managed=managed, revision=revision,
        data=msgspec.to_builtins(seen),
    )  # fmt: skip


def _mood(number: int) -> tuple[str, str]:
    if number % 50 == 7:
        return "down", "web: exited with 137 (out of memory), 3 restarts in 10 min"
    if number % 20 == 3:
        return "unknown", "The line was cut: no answer to three heartbeats"
    return "healthy", "Everything works"


def _values(row: Any) -> dict[str, Any]:
    named = {column.key: getattr(row, column.key) for column in type(row).__mapper__.column_attrs}
    return {key: value for key, value in named.items() if key != "position"}


async def _insert(tx: Any, table: Any, rows: Iterator[dict[str, Any]]) -> None:
    await tx.execute(insert(table), list(rows))


async def set_health(control: ControlPlane, name: str, state: str, reason: str) -> None:
    """Change a cluster as a report of its agent would, hint included."""
    async with control.db.begin() as tx:
        row = await tx.scalar(
            update(Cluster).where(Cluster.name == name).values(health_state=state, health_reason=reason)
            .returning(Cluster.id)
        )  # fmt: skip
        tx.publish("cluster", id=str(row))


async def touch(control: ControlPlane) -> None:
    """Hint that every deployment may have changed."""
    control.bus.publish("deployment")
