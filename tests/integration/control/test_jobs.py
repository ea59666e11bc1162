"""Jobs: exactly once in effect, over lost links, restarts, cancellations and deadlines."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import msgspec
import pytest
from sqlalchemy import update
from tests.support.control_app import ControlApp
from tests.support.scripted_agent import ScriptedAgent, enrolled, link_listener, until

from towline.control.access.actor import Actor
from towline.control.access.permissions import Reach, Role, ScopeKind
from towline.control.audit.models import AuditEvent
from towline.control.clusters.models import InventoryContainer
from towline.control.db import Transaction, now
from towline.control.errors import ApiError, ErrorCode
from towline.control.jobs import repository
from towline.control.jobs.models import Job, JobEvent
from towline.control.jobs.states import JobState
from towline.control.jobs.work import JobEnd, Submission, Submitted
from towline.control.metrics import Metrics
from towline.wire import link

KIND = "test.work"


class Recorder:
    """A handler that remembers what it was told."""

    def __init__(self) -> None:
        self.ends: list[tuple[str, JobEnd]] = []
        self.prepared: list[str] = []
        self.events: list[link.JobEvent] = []
        self.failures: list[ApiError] = []
        self.gate: asyncio.Event | None = None

    async def prepare(self, job: Job) -> Mapping[str, Any]:
        self.prepared.append(job.id)
        if self.gate is not None:
            await self.gate.wait()
        if self.failures:
            raise self.failures.pop(0)
        return {"project": job.project, **job.payload}

    async def progressed(self, tx: Transaction, job: Job, events: Sequence[link.JobEvent]) -> None:
        self.events += events

    async def finished(self, tx: Transaction, job: Job, end: JobEnd) -> None:
        self.ends.append((job.id, end))


class Bench:
    """A control plane, an agent, and a handler."""

    def __init__(self, app: ControlApp, agent: ScriptedAgent, url: str) -> None:
        self.app, self.agent, self.url = app, agent, url
        self.handler = Recorder()
        app.control.fleet.jobs.register(KIND, self.handler)

    async def submit(self, **wanted: Any) -> Submitted:
        submission = Submission(cluster_id=self.agent.identity.cluster_id, kind=KIND, **wanted)
        async with self.app.control.db.begin() as tx:
            actor = Actor("user", self.app.control.default_org, username="ada")
            return await self.app.control.fleet.jobs.submit(tx, actor, submission)

    async def job(self, job_id: str) -> Job:
        return next(row for row in await self.app.rows(Job) if row.id == job_id)

    async def state(self, job_id: str, *states: str) -> Job:
        """Wait until a job is in one of some states."""
        async with asyncio.timeout(10), self.app.control.bus.subscribe("job") as events:
            while (job := await self.job(job_id)).state not in states:
                try:
                    async with asyncio.timeout(0.5):
                        await anext(events)
                except TimeoutError:
                    continue
        return job

    async def accept(self, order: link.Job) -> None:
        await self.agent.send(link.JobAccepted(job_id=order.job_id, fence=order.fence))

    async def finish(self, order: link.Job, outcome: str = "succeeded", **more: Any) -> None:
        result = link.JobResult(job_id=order.job_id, fence=order.fence, outcome=outcome, **more)
        await self.agent.send(result)
        assert (await self.agent.next(link.JobStored)).job_id == order.job_id

    async def reconnect(self, **held: tuple[str, ...]) -> None:
        self.agent.cut()
        await self.agent.ended()
        await self.agent.connect(self.url, jobs=link.JobsHeld(**held))


@pytest.fixture
async def bench(control_app: ControlApp) -> AsyncIterator[Bench]:
    async with link_listener(control_app.control) as url, await enrolled(control_app, cluster_name="edge-1") as agent:
        yield Bench(control_app, agent, url)


@pytest.fixture
async def linked(bench: Bench) -> Bench:
    await bench.agent.connect(bench.url)
    await bench.agent.synced()
    return bench


async def test_a_job_is_sent_accepted_and_done(linked: Bench) -> None:
    made = await linked.submit(payload={"what": 1}, serial_key="project/x/shop", timeout=30)
    order = await linked.agent.next(link.Job)
    assert (order.job_id, order.kind, order.timeout, order.fence) == (made.job.id, KIND, 30, linked.agent.epoch)
    assert msgspec.json.decode(order.payload) == {"project": "shop", "what": 1}
    await linked.accept(order)
    assert (await linked.state(order.job_id, "running")).started_at is not None
    await linked.finish(order, detail={"images": {"web": "x@sha256:1"}})
    done = await linked.state(order.job_id, "succeeded")
    assert done.result == {"images": {"web": "x@sha256:1"}}
    assert [end.state for _, end in linked.handler.ends] == ["succeeded"]


async def test_work_for_an_agent_that_is_away_waits_and_says_so(bench: Bench) -> None:
    made = await bench.submit()
    assert made.job.state == "waiting"
    (event,) = await bench.app.rows(JobEvent)
    assert "edge-1 is away" in event.text
    assert "waiting until" in event.text
    await bench.agent.connect(bench.url)
    assert (await bench.agent.next(link.Job)).job_id == made.job.id


async def test_nothing_is_sent_before_the_agent_said_what_it_holds(bench: Bench) -> None:
    made = await bench.submit()
    silent = bench.app.control.fleet.intake
    gate = asyncio.Event()
    handler = bench.app.control.fleet.links._handlers[link.JobsHeld]

    async def late(one: Any, message: Any) -> None:
        await gate.wait()
        await handler(one, message)

    bench.app.control.fleet.links._handlers[link.JobsHeld] = late
    await bench.agent.connect(bench.url)
    bench.app.control.fleet.dispatcher.wake(bench.agent.identity.cluster_id)
    await bench.app.control.fleet.dispatcher.look()
    assert bench.agent.received(link.Job) == []
    gate.set()
    assert (await bench.agent.next(link.Job)).job_id == made.job.id
    assert silent.ignored.total() == 0


async def test_jobs_of_one_project_run_one_after_another(linked: Bench) -> None:
    first, second, other = [
        (await linked.submit(serial_key=key)).job for key in ("project/x/shop", "project/x/shop", "project/x/blog")
    ]
    orders = {(await linked.agent.next(link.Job)).job_id, (await linked.agent.next(link.Job)).job_id}
    assert orders == {first.id, other.id}
    assert (await linked.job(second.id)).state == "queued"
    order = link.Job(
        job_id=first.id, kind=KIND, fence=linked.agent.epoch, attempt=1, timeout=1, payload=msgspec.Raw(b"{}")
    )
    await linked.accept(order)
    await linked.finish(order)
    assert (await linked.agent.next(link.Job)).job_id == second.id


async def test_a_newer_job_takes_the_place_of_one_that_waits(bench: Bench) -> None:
    old = (await bench.submit(serial_key="project/x/shop")).job
    other = (await bench.submit(serial_key="project/x/blog")).job
    made = await bench.submit(serial_key="project/x/shop", supersede=True)
    assert made.superseded == (old.id,)
    states = {job.id: job.state for job in await bench.app.rows(Job)}
    assert states == {old.id: "superseded", other.id: "waiting", made.job.id: "waiting"}
    assert [(job_id, end.state) for job_id, end in bench.handler.ends] == [(old.id, "superseded")]


async def test_an_idempotency_key_makes_one_job(bench: Bench) -> None:
    first = await bench.submit(idem_key="k")
    again = await bench.submit(idem_key="k")
    assert again.repeated and again.job.id == first.job.id
    assert len(await bench.app.rows(Job)) == 1
    with pytest.raises(ApiError):
        await bench.submit(idem_key="k", deployment_id="dep_other")


async def test_a_rolled_back_transaction_leaves_no_job(bench: Bench) -> None:
    with pytest.raises(RuntimeError):
        async with bench.app.control.db.begin() as tx:
            actor = Actor("user", bench.app.control.default_org, username="ada")
            await bench.app.control.fleet.jobs.submit(
                tx, actor, Submission(cluster_id=bench.agent.identity.cluster_id, kind=KIND)
            )
            raise RuntimeError("the caller changed its mind")
    assert await bench.app.rows(Job) == []


async def test_progress_is_stored_once_in_order_and_cleaned(linked: Bench) -> None:
    made = await linked.submit()
    order = await linked.agent.next(link.Job)

    def event(seq: int, text: str = "pulling") -> link.JobEvent:
        return link.JobEvent(seq=seq, at=1.7e9 + seq, stage="pulling", text=text)

    await linked.agent.send(link.JobProgress(job_id=order.job_id, fence=order.fence, events=(event(1), event(2))))
    await linked.reconnect(running=(order.job_id,))
    await linked.agent.send(
        link.JobProgress(
            job_id=order.job_id, fence=order.fence, events=(event(1), event(2), event(3, "a\x00\x1b[31mb"))
        )
    )
    await linked.agent.synced()
    stored = [one for one in await linked.app.rows(JobEvent) if one.stage == "pulling"]
    assert [one.text for one in sorted(stored, key=lambda one: one.seq)] == ["pulling", "pulling", "a[31mb"]
    job = await linked.job(made.job.id)
    assert (job.agent_seq, job.state, job.stage) == (3, "running", "pulling")
    assert len(linked.handler.events) == 3


async def test_a_lost_link_before_the_order_arrived_sends_it_again(linked: Bench) -> None:
    made = await linked.submit()
    first = await linked.agent.next(link.Job)
    await linked.reconnect()
    second = await linked.agent.next(link.Job)
    assert (second.job_id, second.attempt) == (made.job.id, 2)
    assert second.fence > first.fence


async def test_a_job_that_the_agent_holds_is_not_sent_again(linked: Bench) -> None:
    made = await linked.submit()
    await linked.agent.next(link.Job)
    await linked.reconnect(running=(made.job.id,))
    await linked.state(made.job.id, "running")
    await linked.app.control.fleet.dispatcher.look()
    await linked.agent.synced()
    assert linked.agent.received(link.Job) == []


async def test_a_result_that_comes_twice_counts_once(linked: Bench) -> None:
    await linked.submit()
    order = await linked.agent.next(link.Job)
    await linked.finish(order)
    await linked.reconnect(finished=(order.job_id,))
    await linked.finish(order, outcome="failed", error="late lie")
    assert (await linked.job(order.job_id)).state == "succeeded"
    assert len(linked.handler.ends) == 1


async def test_a_job_that_ran_to_its_end_without_the_link_is_known_afterwards(linked: Bench) -> None:
    await linked.submit()
    order = await linked.agent.next(link.Job)
    await linked.accept(order)
    await linked.state(order.job_id, "running")
    await linked.reconnect(finished=(order.job_id,))
    assert (await linked.job(order.job_id)).state == "running"
    await linked.finish(order, outcome="failed", error="pull failed", code="pull_failed")
    job = await linked.job(order.job_id)
    assert (job.state, job.code, job.error) == ("failed", "pull_failed", "pull failed")


async def test_a_running_job_that_the_agent_forgot_is_lost_and_says_so(linked: Bench) -> None:
    await linked.submit()
    order = await linked.agent.next(link.Job)
    await linked.accept(order)
    await linked.state(order.job_id, "running")
    await linked.reconnect()
    job = await linked.state(order.job_id, "failed")
    assert job.code == "lost"
    assert "state folder was replaced" in job.error


async def test_what_the_agent_reported_before_a_result_is_known_when_the_job_ends(linked: Bench) -> None:
    job = (await linked.submit()).job
    order = await linked.agent.next(link.Job)
    await linked.accept(order)
    container = link.Container(id="c1", name="shop-web-1", project="shop", service="web", state="running")
    await linked.agent.send(link.Inventory(full=False, containers=(container,)))
    await linked.finish(order)
    assert (await linked.job(job.id)).state == JobState.SUCCEEDED
    assert [row.container_id for row in await linked.app.rows(InventoryContainer)] == ["c1"]


async def test_messages_about_foreign_jobs_are_ignored(linked: Bench) -> None:
    async with await enrolled(linked.app, hostname="other") as thief:
        await thief.connect(linked.url)
        made = await linked.submit()
        order = await linked.agent.next(link.Job)
        await thief.send(link.JobAccepted(job_id=order.job_id, fence=order.fence))
        await thief.send(link.JobResult(job_id=order.job_id, fence=order.fence, outcome="succeeded"))
        progress = (link.JobEvent(seq=1, at=0, stage="x", text="y"),)
        await thief.send(link.JobProgress(job_id=order.job_id, fence=order.fence, events=progress))
        await thief.send(link.JobResult(job_id="job_nothing", fence=1, outcome="succeeded"))
        await thief.synced()
        assert thief.received(link.JobStored) == []
        assert (await linked.job(made.job.id)).state == "sent"
        assert linked.app.control.fleet.intake.ignored.total() == 4


async def test_a_result_from_the_future_or_for_what_was_never_sent_is_ignored(bench: Bench) -> None:
    made = await bench.submit()
    bench.handler.gate = asyncio.Event()
    await bench.agent.connect(bench.url)
    await until(lambda: bench.handler.prepared)
    await bench.agent.send(link.JobResult(job_id=made.job.id, fence=1, outcome="succeeded"))
    await bench.agent.synced()
    assert (await bench.job(made.job.id)).state == "sent"
    bench.handler.gate.set()
    order = await bench.agent.next(link.Job)
    await bench.agent.send(link.JobResult(job_id=made.job.id, fence=order.fence + 7, outcome="succeeded"))
    await bench.agent.synced()
    assert (await bench.job(made.job.id)).state == "sent"


# -- cancelling ----------------------------------------------------------------------------------


async def _cancel(bench: Bench, job_id: str, who: Role = Role.OPERATOR) -> int:
    client = await bench.app.user("carl", who)
    return (await client.post(f"/api/v1/jobs/{job_id}/cancel")).status_code


async def test_a_waiting_job_is_cancelled_at_once(bench: Bench) -> None:
    made = await bench.submit()
    assert await _cancel(bench, made.job.id) == 202
    job = await bench.job(made.job.id)
    assert (job.state, job.error) == ("cancelled", "cancelled by carl")
    assert [event.action for event in await bench.app.rows(AuditEvent) if event.action == "job.cancel"] == [
        "job.cancel"
    ]


async def test_a_job_whose_order_is_being_made_is_cancelled_at_once_and_never_sent(bench: Bench) -> None:
    bench.handler.gate = asyncio.Event()
    made = await bench.submit()
    await bench.agent.connect(bench.url)
    await until(lambda: bench.handler.prepared)
    assert await _cancel(bench, made.job.id) == 202
    bench.handler.gate.set()
    await until(lambda: bench.handler.ends)
    await bench.agent.synced()
    assert bench.agent.received(link.Job) == []
    assert (await bench.job(made.job.id)).state == "cancelled"


async def test_a_running_job_is_cancelled_by_its_agent(linked: Bench) -> None:
    made = await linked.submit()
    order = await linked.agent.next(link.Job)
    await linked.accept(order)
    await linked.state(made.job.id, "running")
    assert await _cancel(linked, made.job.id) == 202
    assert (await linked.agent.next(link.JobCancel)).job_id == made.job.id
    assert (await linked.job(made.job.id)).state == "cancelling"
    await linked.finish(order, outcome="cancelled", error="stopped while pulling")
    assert (await linked.job(made.job.id)).state == "cancelled"


async def test_a_cancellation_while_the_agent_is_away_reaches_it_later(linked: Bench) -> None:
    made = await linked.submit()
    order = await linked.agent.next(link.Job)
    await linked.accept(order)
    await linked.state(made.job.id, "running")
    linked.agent.cut()
    await linked.agent.ended()
    assert await _cancel(linked, made.job.id) == 202
    await linked.agent.connect(linked.url, jobs=link.JobsHeld(running=(made.job.id,)))
    assert (await linked.agent.next(link.JobCancel)).job_id == made.job.id


async def test_a_job_that_succeeds_while_it_is_cancelled_has_succeeded(linked: Bench) -> None:
    made = await linked.submit()
    order = await linked.agent.next(link.Job)
    await linked.accept(order)
    await linked.state(made.job.id, "running")
    await _cancel(linked, made.job.id)
    await linked.finish(order)
    assert (await linked.job(made.job.id)).state == "succeeded"


async def test_a_cancelled_order_that_never_arrived_is_cancelled_on_reconnect(linked: Bench) -> None:
    made = await linked.submit()
    await linked.agent.next(link.Job)
    linked.agent.cut()
    await linked.agent.ended()
    assert await _cancel(linked, made.job.id) == 202
    await linked.agent.connect(linked.url)
    assert (await linked.state(made.job.id, "cancelled")).code == "cancelled"
    await linked.agent.synced()
    assert linked.agent.received(link.Job) == []


async def test_an_ended_job_cannot_be_cancelled(linked: Bench) -> None:
    await linked.submit()
    order = await linked.agent.next(link.Job)
    await linked.finish(order)
    assert await _cancel(linked, order.job_id) == 409


# -- deadlines, failures, leases ---------------------------------------------------------------------


async def test_a_job_expires_when_nobody_began_in_time(bench: Bench) -> None:
    made = await bench.submit(deadline_seconds=-1)
    await bench.app.control.fleet.dispatcher.expire()
    job = await bench.job(made.job.id)
    assert (job.state, job.code) == ("expired", "expired")
    await bench.agent.connect(bench.url)
    await bench.agent.synced()
    assert bench.agent.received(link.Job) == []


async def test_a_running_job_never_expires(linked: Bench) -> None:
    made = await linked.submit()
    order = await linked.agent.next(link.Job)
    await linked.accept(order)
    await linked.state(made.job.id, "running")
    async with linked.app.control.db.begin() as tx:
        await tx.execute(update(Job).values(deadline_at=now(-100)))
    await linked.app.control.fleet.dispatcher.expire()
    assert (await linked.job(made.job.id)).state == "running"


async def test_an_order_that_cannot_be_made_ends_the_job_with_its_reason(linked: Bench) -> None:
    linked.handler.failures.append(ApiError(ErrorCode.BUNDLE_NOT_FOUND, "the bundle is gone"))
    made = await linked.submit()
    job = await linked.state(made.job.id, "failed")
    assert (job.code, job.error) == ("bundle_not_found", "the bundle is gone")


async def test_an_order_that_cannot_be_made_now_is_tried_again(linked: Bench) -> None:
    linked.handler.failures.append(ApiError(ErrorCode.UNAVAILABLE, "the database does not answer"))
    made = await linked.submit()
    order = await linked.agent.next(link.Job)
    assert (order.job_id, order.attempt) == (made.job.id, 2)


async def test_a_lost_lease_fences_the_one_that_had_it(linked: Bench) -> None:
    linked.handler.gate = asyncio.Event()
    made = await linked.submit()
    await until(lambda: linked.handler.prepared)
    async with linked.app.control.db.begin() as tx:  # a pause beyond the lease: somebody else takes it
        await tx.execute(update(Job).values(lease_until=now(-1)))
        taken = await repository.claim(tx, linked.agent.identity.cluster_id, owner="other", lease=30)
        assert taken is not None and taken.id == made.job.id
    linked.handler.gate.set()
    await linked.agent.synced()
    await linked.agent.synced()
    assert linked.agent.received(link.Job) == []
    assert (await linked.job(made.job.id)).lease_owner == "other"


async def test_thirty_claims_at_once_take_a_job_once(bench: Bench) -> None:
    await bench.submit()
    db, cluster_id = bench.app.control.db, bench.agent.identity.cluster_id

    async def claim(number: int) -> Job | None:
        async with db.begin() as tx:
            return await repository.claim(tx, cluster_id, owner=str(number), lease=30)

    found = await asyncio.gather(*(claim(number) for number in range(30)))
    assert len([job for job in found if job is not None]) == 1


async def test_an_order_that_was_never_confirmed_is_sent_again_and_given_up_at_last(linked: Bench) -> None:
    made = await linked.submit()
    for attempt in range(1, 6):
        assert (await linked.agent.next(link.Job)).attempt == attempt
        async with linked.app.control.db.begin() as tx:
            await tx.execute(update(Job).values(lease_until=now(-1)))
        await linked.app.control.fleet.dispatcher.look()
    job = await linked.state(made.job.id, "failed")
    assert job.code == "not_accepted"


async def test_a_restarted_server_goes_on_with_its_jobs(linked: Bench) -> None:
    made = await linked.submit()
    await linked.agent.next(link.Job)
    await linked.app.control.fleet.stop()
    await linked.agent.ended()
    linked.app.control.metrics = Metrics()
    fleet = type(linked.app.control.fleet)(linked.app.control)
    fleet.jobs.register(KIND, linked.handler)
    linked.app.control.fleet = fleet
    await fleet.start()
    await linked.agent.connect(linked.url, jobs=link.JobsHeld(running=(made.job.id,)))
    await linked.state(made.job.id, "running")
    await fleet.stop()


# -- the API ---------------------------------------------------------------------------------------


async def test_jobs_need_a_permission_and_belong_to_their_organisation(bench: Bench) -> None:
    made = await bench.submit(serial_key="project/x/shop")
    paths = [f"/api/v1/jobs/{made.job.id}", f"/api/v1/jobs/{made.job.id}/events"]
    alien = await bench.app.user("eve", Role.OWNER, org_id=await bench.app.org("other"))
    for path in paths:
        assert (await bench.app.client().get(path)).status_code == 401
        assert (await alien.get(path)).status_code == 404
    assert (await alien.post(f"/api/v1/jobs/{made.job.id}/cancel")).status_code == 404
    assert (await alien.get("/api/v1/jobs")).json()["total"] == 0
    assert await _cancel(bench, made.job.id, Role.VIEWER) == 403


async def test_log_lines_of_a_failure_are_for_those_who_may_read_logs(linked: Bench) -> None:
    made = await linked.submit(serial_key="project/x/shop")
    order = await linked.agent.next(link.Job)
    await linked.accept(order)
    await linked.finish(order, detail={"failing": [{"service": "web", "log_tail": ["card number 4111"]}]})
    await linked.state(made.job.id, "succeeded")
    for role, seen in ((Role.VIEWER, False), (Role.OPERATOR, True)):
        who = await linked.app.user(f"{role.value}-1", role)
        shown = [
            (await who.get(f"/api/v1/jobs/{made.job.id}")).text,
            (await who.get("/api/v1/jobs")).text,
            (await who.get(f"/api/v1/jobs/{made.job.id}/events?follow=1")).text,
        ]
        assert [("4111" in text) for text in shown] == [seen] * 3


async def test_a_grant_on_a_project_shows_the_jobs_of_that_project_alone(bench: Bench) -> None:
    shop = (await bench.submit(serial_key="project/x/shop")).job
    blog = (await bench.submit(serial_key="project/x/blog")).job
    sam = await bench.app.user("sam", Role.VIEWER, reach=Reach(ScopeKind.PROJECT, project="shop"))
    items = (await sam.get("/api/v1/jobs")).json()["items"]
    assert [one["id"] for one in items] == [shop.id]
    assert (await sam.get(f"/api/v1/jobs/{blog.id}")).status_code == 404


async def test_the_list_is_filtered_and_paged(bench: Bench) -> None:
    ids = [(await bench.submit(serial_key=f"project/x/p{number}")).job.id for number in range(5)]
    ada = await bench.app.user("ada", Role.VIEWER)
    first = (await ada.get("/api/v1/jobs?limit=2&cluster=edge-1&state=waiting")).json()
    assert (len(first["items"]), first["total"]) == (2, 5)
    rest = (await ada.get(f"/api/v1/jobs?limit=50&cluster=edge-1&state=waiting&cursor={first['next_cursor']}")).json()
    assert sorted(one["id"] for one in first["items"] + rest["items"]) == sorted(ids)
    assert (await ada.get("/api/v1/jobs?kind=compose.deploy")).json()["total"] == 0
    assert (await ada.get("/api/v1/jobs?cluster=nowhere")).status_code == 404


async def test_a_follower_sees_everything_until_the_end(linked: Bench) -> None:
    made = await linked.submit()
    order = await linked.agent.next(link.Job)
    ada = await linked.app.user("ada", Role.VIEWER)

    async def follow() -> list[tuple[str, dict[str, Any]]]:
        seen = []
        async with ada.stream("GET", f"/api/v1/jobs/{made.job.id}/events?follow=1") as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            kind = ""
            async for line in answer.aiter_lines():
                if line.startswith("event: "):
                    kind = line[7:]
                elif line.startswith("data: "):
                    seen.append((kind, json.loads(line[6:])))
        return seen

    following = asyncio.get_running_loop().create_task(follow())
    await linked.accept(order)
    progress = (link.JobEvent(seq=1, at=1.7e9, stage="pulling", text="one"),)
    await linked.agent.send(link.JobProgress(job_id=order.job_id, fence=order.fence, events=progress))
    await linked.finish(order)
    seen = await asyncio.wait_for(following, 10)
    assert [data["text"] for kind, data in seen if kind == "progress"] == ["queued by ada", "one", "succeeded"]
    assert seen[-1][0] == "end"
    assert seen[-1][1]["state"] == JobState.SUCCEEDED
    after = (await ada.get(f"/api/v1/jobs/{made.job.id}/events?after=2")).json()
    assert [one["text"] for one in after] == ["succeeded"]


async def test_old_jobs_are_forgotten_and_running_ones_kept(bench: Bench) -> None:
    made = await bench.submit()
    waiting = await bench.submit()
    await _cancel(bench, made.job.id)
    async with bench.app.control.db.begin() as tx:
        moment = await tx.now()
        assert await repository.forget(tx, moment, 100) == 1
    assert [job.id for job in await bench.app.rows(Job)] == [waiting.job.id]
    assert {event.job_id for event in await bench.app.rows(JobEvent)} == {waiting.job.id}
