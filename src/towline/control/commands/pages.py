"""Pages of commands: what was run, a run with its answers, the form, saved commands. Rules are the API's.

The form shows where a command would run before it runs anything; what is run is what was shown, or it is shown anew.
"""

from __future__ import annotations

import hashlib
import re
import shlex
from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response

from towline.control import forms
from towline.control.access.dependencies import Access, Permission, needs
from towline.control.commands import api
from towline.control.commands.parameters import BadParameter, filled
from towline.control.commands.schemas import PreviewOut, RunIn, SavedIn, SavedOut, What
from towline.control.commands.states import OPEN_RUNS, RunState, TargetState
from towline.control.errors import ApiError, ErrorCode
from towline.control.jobs.pages import tabs
from towline.control.listing import ListQuery, list_query
from towline.control.web import Notice, redirect
from towline.control.web import query as with_query

router = APIRouter(include_in_schema=False)

Runner = Annotated[Access, needs(Permission.COMMAND_RUN)]
Reader = Annotated[Access, needs(Permission.JOB_READ)]
PROGRAMS = ("kubectl", "docker", "compose")
TONES = {
    RunState.RUNNING: "working", RunState.CANCELLING: "working", RunState.SUCCEEDED: "healthy",
    RunState.FAILED: "down", RunState.CANCELLED: "degraded",
    TargetState.PENDING: "unknown", TargetState.ACTIVE: "working", TargetState.EXPIRED: "down",
    TargetState.REFUSED: "unknown", TargetState.SKIPPED: "unknown",
}  # fmt: skip
STATES = tuple(state.value for state in RunState)
SHOWN_TARGETS = 200
"""Targets that the page lists one by one; of more it says how many."""
PARAMETER = "value_"
_PLAIN = re.compile(r"[\w@%+=:,./{}-]+", re.ASCII)
"""Arguments that read the same without quotes, parameters of saved commands among them."""
_FIELDS = ("program", "line", "stdin", "namespace", "project", "clusters", "selector", "wave", "timeout", "saved")


@router.get("/commands")
async def runs_page(
    request: Request, access: Reader, asked: Annotated[ListQuery, Depends(list_query)], state: str = "",
    cluster: str = "",
) -> Response:  # fmt: skip
    """Show what was run, the newest first."""
    filters = {"state": state if state in STATES else "", "cluster": cluster[:64]}
    found = await api.list_runs(request, access, asked, **filters)  # type: ignore[arg-type]
    shown = found.model_dump()
    shown["items"] = [described(one) for one in shown["items"]]
    return _page(
        request, access, "runs", page=shown, filters=filters, states=STATES, page_url=with_query("/commands", filters)
    )


@router.get("/commands/new")
async def form_page(request: Request, access: Runner, cluster: str = "", saved: str = "") -> Response:
    """Show the form, filled in for a cluster or a saved command."""
    typed = dict.fromkeys(_FIELDS, "") | {"clusters": cluster[:64], "program": PROGRAMS[0]}
    found = await api.get_saved(request, access, saved) if saved else None
    if found is not None:
        typed |= _of_saved(found)
    return await _form(request, access, typed, found)


@router.post("/commands/new")
async def begin(request: Request, access: Runner) -> Response:
    """Show where it would run; run it when that was seen."""
    form = await forms.read(request)
    typed = {name: form.text(name) if name == "stdin" else form.line(name) for name in _FIELDS}
    typed |= {name: form.line(name) for name in form.names() if name.startswith(PARAMETER)}
    typed["stop"] = "on" if form.checked("stop") else ""
    found = await api.get_saved(request, access, typed["saved"]) if typed["saved"] else None
    if found is not None:
        typed["line"] = joined(found.arguments)
    notices: list[Notice] = []
    seen = None
    async with forms.noticed(notices):
        body = _body(typed, found)
        what = What.model_validate(body.model_dump(include=set(What.model_fields)))
        seen = await api.preview(request, access, what)
        if form.line("go") == "run" and form.line("seen") == seen_mark(seen):
            made = await api.begin(request, access, body)
            return redirect(request, f"/commands/{made.id}", Notice("done", "the command is on its way"))
        if form.line("go") == "run":
            notices.append(Notice("warning", "look again: this is not what was shown before"))
    return await _form(request, access, typed, found, seen=seen, notices=notices)


@router.get("/commands/saved")
async def saved_page(request: Request, access: Runner, asked: Annotated[ListQuery, Depends(list_query)]) -> Response:
    """Show the saved commands."""
    return await _saved(request, access, asked)


@router.post("/commands/saved")
async def add_saved(request: Request, access: Runner) -> Response:
    """Save a command."""
    form = await forms.read(request)
    try:
        body = forms.body(
            SavedIn, name=form.line("name"), program=form.line("program"), arguments=words(form.line("line")),
            description=form.line("description"), namespace=form.line("namespace"), project=form.line("project"),
            selector=form.line("selector"), defaults=_defaults(form.text("defaults")),
        )  # fmt: skip
        await api.add_saved(request, access, body)
    except ApiError as error:
        typed = {name: form.text(name) for name in form.names() if name != "_csrf"}
        return await _saved(request, access, ListQuery(), [Notice("error", error.message, error.hint)], typed=typed)
    return redirect(request, "/commands/saved", Notice("done", f"{body.name} was saved"))


@router.post("/commands/saved/{command}/remove")
async def remove_saved(request: Request, access: Runner, command: str) -> Response:
    """Remove a saved command."""
    return await forms.act(
        request, "/commands/saved", f"{command} was removed", lambda: api.remove_saved(request, access, command)
    )


@router.get("/commands/{run}")
async def run_page(request: Request, access: Reader, run: str) -> Response:
    """Show a run and what its targets answered."""
    found = (await api.get_run(request, access, run)).model_dump()
    answers = (await api.get_results(request, access, run)).model_dump()["groups"]
    targets = found.pop("targets")
    return _page(
        request, access, "run", run=described(found), groups=[_toned(one) for one in answers],
        targets=[_toned(one) for one in targets[:SHOWN_TARGETS]], more=max(0, len(targets) - SHOWN_TARGETS),
        waves=len({one["wave"] for one in targets}), may_cancel=_may_cancel(access, found),
    )  # fmt: skip


@router.post("/commands/{run}/cancel")
async def cancel(request: Request, access: Reader, run: str) -> Response:
    """Cancel a run."""
    return await forms.act(
        request, f"/commands/{run}", "no more targets begin, and those at work are asked to stop",
        lambda: api.cancel(request, access, run),
    )  # fmt: skip


# -- parts ---------------------------------------------------------------------------------------


def words(line: str) -> list[str]:
    """Cut a line into arguments at blanks; quotes keep blanks together. Nothing else means anything.

    Raises: ApiError: a quote without its end.
    """
    try:
        return shlex.split(line, posix=True)
    except ValueError as error:
        raise ApiError(ErrorCode.INVALID, "a quote has no end", hint="write '…' around what holds blanks") from error


def joined(arguments: Sequence[str]) -> str:
    """Return arguments on one line, as `words` reads them; quotes stand only where they are needed."""
    return " ".join(word if _PLAIN.fullmatch(word) else shlex.quote(word) for word in arguments)


def described(run: dict[str, Any]) -> dict[str, Any]:
    """Add to a run's JSON what templates need: the command on one line, a tone, and how its targets are."""
    counts = ", ".join(f"{count} {state}" for state, count in sorted(run["counts"].items()))
    return run | {
        "line": joined([run["program"], *run["arguments"]]),
        "tone": TONES[RunState(run["state"])],
        "open": RunState(run["state"]) in OPEN_RUNS,
        "summary": counts,
    }


def seen_mark(seen: PreviewOut) -> str:
    """Return what tells one preview from another: the command and the clusters where it may run."""
    text = seen.model_dump_json(include={"program": True, "arguments": True, "targets": {"__all__": {"id", "allowed"}}})
    return hashlib.sha256(text.encode()).hexdigest()


def _toned(one: dict[str, Any]) -> dict[str, Any]:
    state = TargetState(one["state"])
    tone = TONES.get(state) or TONES[RunState(state.value)]
    return one | {"tone": tone, "word": "running" if state is TargetState.ACTIVE else state.value}


async def _form(
    request: Request, access: Access, typed: dict[str, str], found: SavedOut | None, *,
    seen: PreviewOut | None = None, notices: Sequence[Notice] = (),
) -> Response:  # fmt: skip
    choices = await request.app.state.control.fleet.clusters.choices(access, Permission.COMMAND_RUN)
    allowed = [one for one in seen.targets if one.allowed] if seen else []
    return _page(
        request, access, "new", notices=notices, typed={"stop": "", **typed}, saved_one=found, seen=seen,
        allowed=len(allowed), mark=seen_mark(seen) if seen else "", programs=PROGRAMS,
        names=[one.name for one in choices], line=joined([seen.program, *seen.arguments]) if seen else "",
        parameters=[(name, typed.get(PARAMETER + name, "")) for name in (found.parameters if found else ())],
        as_command=_as_command(typed),
    )  # fmt: skip


async def _saved(
    request: Request, access: Access, asked: ListQuery, notices: Sequence[Notice] = (), *,
    typed: dict[str, str] | None = None,
) -> Response:  # fmt: skip
    service = request.app.state.control.commands.saved
    listed = await service.page(access, asked)
    rows = [
        api.saved_shown(row).model_dump()
        | {"line": joined([row.program, *row.arguments]), "may_change": service.may_change(access, row)}
        for row in listed.rows
    ]
    shown = {"items": rows, "next_cursor": listed.next_cursor, "total": listed.total}
    return _page(
        request, access, "saved", notices=notices, page=shown, page_url=with_query("/commands/saved", {}),
        typed=typed or {}, programs=PROGRAMS,
    )  # fmt: skip


def _page(request: Request, access: Access, name: str, **context: Any) -> Response:
    runs = access.rights.gives(Permission.COMMAND_RUN)
    page: Response = request.app.state.control.web.page(
        request,
        f"commands/{name}.html",
        access=access,
        section="jobs",
        tabs=tabs(access),
        tab=name,
        may_run=runs,
        **context,
    )
    return page


def _body(typed: dict[str, str], found: SavedOut | None) -> RunIn:
    """Return what the form asks for. Raises: ApiError."""
    clusters = typed["clusters"].replace(",", " ").split()
    fields: dict[str, Any] = {
        "clusters": clusters, "selector": None if clusters else typed["selector"], "stdin": typed["stdin"],
        "namespace": typed["namespace"], "project": typed["project"], "stop_on_failure": bool(typed["stop"]),
        "wave": typed["wave"] or 0, "timeout": typed["timeout"] or 120,
    }  # fmt: skip
    if not clusters and not typed["selector"]:
        raise ApiError(ErrorCode.INVALID, "which clusters?", hint="name them, or give labels like env=prod")
    if found is None:
        return forms.body(RunIn, program=typed["program"], arguments=words(typed["line"]), **fields)
    values = {
        name.removeprefix(PARAMETER): value for name, value in typed.items() if name.startswith(PARAMETER) and value
    }
    try:
        filled(found.arguments, values, found.defaults)
    except BadParameter as error:
        raise ApiError(ErrorCode.INVALID, str(error)) from error
    return forms.body(RunIn, saved=found.name, values=values, **fields)


def _of_saved(found: SavedOut) -> dict[str, str]:
    typed = {
        "saved": found.name, "program": found.program, "line": joined(found.arguments),
        "namespace": found.namespace, "project": found.project, "selector": found.selector,
    }  # fmt: skip
    return typed | {PARAMETER + name: found.defaults.get(name, "") for name in found.parameters}


def _defaults(text: str) -> dict[str, str]:
    """Read NAME=VALUE lines. Raises: ApiError."""
    found = {}
    for entry in filter(None, (part.strip() for part in text.splitlines())):
        name, equals, value = entry.partition("=")
        if not equals:
            raise ApiError(ErrorCode.INVALID, f"{entry!r} is no default", hint="write NAME=VALUE, one on a line")
        found[name.strip()] = value
    return found


def _as_command(typed: dict[str, str]) -> str:
    """Return the line that does the same in a terminal, where a shell does read it."""
    names = typed["clusters"].replace(",", " ").split()
    where = shlex.join(names) if names else f"--selector {shlex.quote(typed['selector'] or 'env=prod')}"
    if typed["saved"]:
        return f"towline run {where} --saved {typed['saved']}"
    try:
        arguments = words(typed["line"]) or ["get", "nodes"]
    except ApiError:
        arguments = []
    return f"towline run {where} -- {shlex.join([typed['program'] or 'kubectl', *arguments])}"


def _may_cancel(access: Access, run: dict[str, Any]) -> bool:
    mine = run["created_by"] == access.actor.username
    return RunState(run["state"]) is RunState.RUNNING and (mine or access.rights.gives(Permission.JOB_CANCEL))
