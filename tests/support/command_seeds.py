"""A run with each kind of answer, and a saved command, straight in tables: what pages of commands show."""

import hashlib

from sqlalchemy import select

from towline.control.access.actor import Actor
from towline.control.app import ControlPlane
from towline.control.clusters.models import Cluster
from towline.control.commands.authority import remembered
from towline.control.commands.content import Typed
from towline.control.commands.models import CommandRun, CommandTarget, SavedCommand
from towline.control.ids import new_id
from towline.control.jobs.models import Job, JobEvent

RUN = "run_01k0000000000000000000000a"
LINE = ("get", "pods", "-n", "shop")
TABLE = "NAME    READY   STATUS    RESTARTS   AGE\nweb-1   1/1     Running   0          3d\n"


async def run_and_saved(control: ControlPlane) -> None:
    """One run over the clusters of `seeds.three`, and the saved command `logs`."""
    async with control.db.begin() as tx:
        now = await tx.now()
        rows = (await tx.scalars(select(Cluster).order_by(Cluster.name))).all()
        actor = Actor("user", control.default_org, "usr_x", "ada")
        run = CommandRun(
            id=RUN, org_id=control.default_org, state="failed", program="kubectl", shown=list(LINE), writes=False,
            sealed=control.commands.contents.seal(control.default_org, RUN, Typed(LINE)), selector="env=prod",
            timeout=120, patience=60, output_bytes=1024 * 1024, actor=remembered(actor), created_by="ada",
            created_at=now, ended_at=now, wave_size=1,
        )  # fmt: skip
        tx.add(run)
        await tx.flush()
        for place, row in enumerate(rows):
            is_good = place == 0
            job = Job(
                id=new_id("job"), org_id=row.org_id, cluster_id=row.id, kind="command.run", run_after=now, timeout=120,
                state="succeeded" if is_good else "failed", created_by="ada", created_at=now, last_seq=1,
            )  # fmt: skip
            tx.add(job)
            await tx.flush()
            text = TABLE if is_good else f"Error: pods is forbidden on {row.name}\n"
            stage = "stdout" if is_good else "stderr"
            tx.add(JobEvent(job_id=job.id, seq=1, at=now, stage=stage, text=text))
            tx.add(
                CommandTarget(
                    run_id=RUN, position=place, cluster_id=row.id, cluster_name=row.name, wave=place, job_id=job.id,
                    state=job.state, exit_code=0 if is_good else 1, code="" if is_good else "command_exit",
                    error="" if is_good else text.strip(), answer=hashlib.sha256(text.encode()).hexdigest(),
                    ended_at=now,
                )
            )  # fmt: skip
        tx.add(
            SavedCommand(
                id=new_id("cmd"), org_id=control.default_org, name="logs", program="kubectl",
                description="the newest lines of an app", arguments=["logs", "deploy/{{app}}", "-n", "{{ns}}"],
                defaults={"ns": "shop"}, selector="env=prod", created_by="ada", created_at=now, updated_at=now,
            )
        )  # fmt: skip
