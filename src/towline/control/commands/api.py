"""REST routes of commands: runs and what came of them, saved commands. Thin: permission, call, shape."""

from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from fastapi.responses import StreamingResponse

from towline.control.access.actor import AccessLost
from towline.control.access.dependencies import Access, Permission, Resource, needs
from towline.control.commands import output, results
from towline.control.commands.choosing import Chosen
from towline.control.commands.follow import Place, follow
from towline.control.commands.models import CommandRun, CommandTarget, SavedCommand
from towline.control.commands.parameters import names
from towline.control.commands.schemas import (
    MOST_TARGETS,
    ChosenOut,
    GroupOut,
    PreviewOut,
    ResultsOut,
    RunIn,
    RunOut,
    RunWithTargets,
    RunWord,
    SavedIn,
    SavedOut,
    SavedPatch,
    TargetOut,
    What,
)
from towline.control.commands.service import View
from towline.control.errors import ApiError, not_found
from towline.control.idempotency import IdempotencyKey
from towline.control.jobs.follow import EVENT_STREAM, KEEP_ALIVE, sse
from towline.control.listing import ListQuery, Page, list_query, page

router = APIRouter(prefix="/api/v1/commands", tags=["commands"])

Runner = Annotated[Access, needs(Permission.COMMAND_RUN)]
Reader = Annotated[Access, needs(Permission.JOB_READ)]
Listing = Annotated[ListQuery, Depends(list_query)]
Bytes = Annotated[int, Query(ge=0, le=output.MOST_SHOWN_BYTES, description="Most of each output that is shown.")]
Position = Annotated[int, Path(ge=0, lt=MOST_TARGETS)]
_RUN_FIELDS = (
    "id", "state", "program", "stdin_bytes", "writes", "namespace", "project", "saved", "selector", "stop_on_failure",
    "timeout", "patience", "created_by", "created_at", "cancelled_by", "ended_at",
)  # fmt: skip
_TARGET_FIELDS = (
    "position", "cluster_id", "wave", "state", "job_id", "code", "exit_code", "stdout_bytes", "stderr_bytes",
    "truncated", "answer", "ended_at",
)  # fmt: skip
_SAVED_FIELDS = (
    "id", "name", "program", "arguments", "description", "defaults", "namespace", "project", "selector", "created_by",
    "created_at", "updated_at",
)  # fmt: skip


def feature_of(request: Request) -> Any:
    """Return everything about commands."""
    return request.app.state.control.commands


# -- runs ----------------------------------------------------------------------------------------


@router.post("/preview")
async def preview(request: Request, access: Runner, body: What) -> PreviewOut:
    """List where a command would run, and where it may not. Nothing is run."""
    asked, chosen = await feature_of(request).runs.preview(access, body)
    plan = asked.command.plan
    return PreviewOut(
        program=plan.program, arguments=list(plan.masked), verb=plan.verb, writes=plan.writes,
        targets=[_chosen(one) for one in chosen],
    )  # fmt: skip


@router.post("/runs", status_code=201)
async def begin(request: Request, access: Runner, body: RunIn, idempotency_key: IdempotencyKey = None) -> RunOut:
    """Run a command on clusters. Targets where the caller may not are reported; the others begin."""
    return run_shown(await feature_of(request).runs.begin(access, body, idempotency_key))


@router.get("/runs")
async def list_runs(
    request: Request,
    access: Reader,
    asked: Listing,
    state: RunWord = "",
    cluster: Annotated[str, Query(max_length=64, description="Name or id: only runs on it.")] = "",
) -> Page[RunOut]:
    """List runs, the newest first: one's own, and those on clusters whose jobs one may see."""
    return page(await feature_of(request).runs.page(access, asked, state=state, cluster=cluster), run_shown)


@router.get("/runs/{run}")
async def get_run(request: Request, access: Reader, run: str) -> RunWithTargets:
    """Show a run and its targets."""
    feature = feature_of(request)
    view, targets = await feature.runs.get(access, run)
    async with request.app.state.control.db.read() as tx:
        ids = [one.cluster_id for one in targets]
        may = await results.readable(tx, access, feature.contents, view.row, ids)
    listed = [target_shown(one, readable=one.cluster_id in may) for one in targets]
    return RunWithTargets(**run_shown(view).model_dump(), targets=listed)


@router.post("/runs/{run}/cancel", status_code=202)
async def cancel(request: Request, access: Reader, run: str) -> RunOut:
    """Begin no more targets, and ask those at work to stop."""
    return run_shown(await feature_of(request).runs.cancel(access, run))


@router.get("/runs/{run}/results")
async def get_results(
    request: Request, access: Reader, run: str, most: Annotated[Bytes, Query(alias="bytes")] = output.SHOWN_BYTES
) -> ResultsOut:
    """Show what the targets answered: equal answers once. Who could not run it on a target does not see its output."""
    feature = feature_of(request)
    async with request.app.state.control.db.read() as tx:
        row, targets = await feature.runs.find(tx, access, run)
        found = await results.answers(tx, access, feature.contents, row, targets, most=most)
    return ResultsOut(state=row.state, groups=[_group(one) for one in found])


@router.get("/runs/{run}/targets/{position}")
async def get_target(request: Request, access: Reader, run: str, position: Position) -> GroupOut:
    """Show all that is kept of what one target printed."""
    feature = feature_of(request)
    async with request.app.state.control.db.read() as tx:
        row, targets = await feature.runs.find(tx, access, run)
        one = [target for target in targets if target.position == position]
        if not one:
            raise not_found("target", str(position))
        (found,) = await results.answers(tx, access, feature.contents, row, one, most=output.MOST_SHOWN_BYTES)
    return _group(found)


@router.get(
    "/runs/{run}/events",
    response_class=StreamingResponse,
    responses={200: {"content": {EVENT_STREAM: {"schema": {"type": "string"}}}}},
)
async def run_events(
    request: Request,
    access: Reader,
    run: str,
    output: Annotated[bool, Query(description="Also what the targets print, as it comes.")] = True,
    after: Annotated[str, Query(max_length=2000, description="Go on behind this event's id.")] = "",
) -> Response:
    """Follow a run by server-sent events `output`, `target` and `end`, until it ends."""
    await feature_of(request).runs.get(access, run)
    place = Place.parse(request.headers.get("last-event-id", "") or after)
    stream = _stream(request, access, run, place, with_output=output)
    return StreamingResponse(stream, media_type=EVENT_STREAM, headers={"cache-control": "no-store"})


async def _stream(
    request: Request, access: Access, run: str, place: Place, *, with_output: bool
) -> AsyncIterator[bytes]:
    try:
        async with access.watch(Permission.SELF, Resource(access.org_id)):
            async for news in follow(request.app.state.control, access, run, place, with_output=with_output):
                yield KEEP_ALIVE if news is None else sse(news.kind, news.data, id=news.place or None)
    except AccessLost as error:
        yield sse("end", error.body())
    except ApiError as error:
        yield sse("end", error.body())  # the run is gone, or the database is away


# -- saved ---------------------------------------------------------------------------------------


@router.get("/saved")
async def list_saved(request: Request, access: Runner, asked: Listing) -> Page[SavedOut]:
    """List saved commands, by name."""
    return page(await feature_of(request).saved.page(access, asked), saved_shown)


@router.post("/saved", status_code=201)
async def add_saved(request: Request, access: Runner, body: SavedIn) -> SavedOut:
    """Save a command. `{{name}}` in an argument is a parameter."""
    return saved_shown(await feature_of(request).saved.add(access, body))


@router.get("/saved/{command}")
async def get_saved(request: Request, access: Runner, command: str) -> SavedOut:
    """Show one saved command, by name or id."""
    return saved_shown(await feature_of(request).saved.get(access, command))


@router.patch("/saved/{command}")
async def change_saved(request: Request, access: Runner, command: str, body: SavedPatch) -> SavedOut:
    """Change a saved command: whoever saved it, and administrators."""
    return saved_shown(await feature_of(request).saved.change(access, command, body))


@router.delete("/saved/{command}", status_code=204)
async def remove_saved(request: Request, access: Runner, command: str) -> Response:
    """Remove a saved command. Runs of it stay."""
    await feature_of(request).saved.remove(access, command)
    return Response(status_code=204)


# -- shapes --------------------------------------------------------------------------------------


def run_shown(view: View) -> RunOut:
    """Return the JSON of a run."""
    row: CommandRun = view.row
    fields = {name: getattr(row, name) for name in _RUN_FIELDS}
    return RunOut.model_validate(fields | {"arguments": row.shown, "wave": row.wave_size, "counts": dict(view.counts)})


def target_shown(one: CommandTarget, *, readable: bool) -> TargetOut:
    """Return the JSON of a target."""
    fields = {name: getattr(one, name) for name in _TARGET_FIELDS}
    error = results.error_of(one, readable=readable)
    return TargetOut.model_validate(fields | {"cluster": one.cluster_name, "error": error})


def saved_shown(row: SavedCommand) -> SavedOut:
    """Return the JSON of a saved command."""
    fields = {name: getattr(row, name) for name in _SAVED_FIELDS}
    return SavedOut.model_validate(fields | {"parameters": names(row.arguments)})


def _chosen(one: Chosen) -> ChosenOut:
    decision = one.decision
    return ChosenOut(
        id=one.place.id, name=one.place.name, connected=one.row.connected, allowed=decision.allowed,
        reason=decision.reason,
    )  # fmt: skip


def _group(answer: results.Answer) -> GroupOut:
    first = answer.group.first
    return GroupOut.model_validate(
        {
            "targets": answer.group.names, "state": first.state, "exit_code": first.exit_code, "error": answer.error,
            "code": first.code, "stdout": answer.stdout, "stderr": answer.stderr, "truncated": answer.truncated,
            "hidden": answer.hidden,
        }
    )  # fmt: skip
