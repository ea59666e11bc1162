"""Compose projects: deploy, diff, list, roll back and operate them."""

import io
import tarfile
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from towline.cli.client import Client
from towline.cli.errors import USAGE, CliError
from towline.cli.follow import finish
from towline.cli.options import (
    Output,
    Place,
    StateFilter,
    Wait,
    client,
    confirm,
    deployment_path,
    pairs,
    readable,
    secret,
    split_place,
)  # fmt: skip
from towline.cli.output import Column, Format, ago, done, err, out, printable, show, show_list, state

COMPOSE_NAMES = ("compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml")
CHANGE_STYLES = {"added": "green", "removed": "red", "recreated": "yellow", "unchanged": "bright_black"}
SIGN_STYLES = {"+": "green", "-": "red", "@": "bright_black"}
MAX_BUNDLE_BYTES = 32 * 1024 * 1024
"""The server's own limit: found out before anything is sent."""

File = Annotated[Path | None, typer.Option("-f", "--file", help="Compose file; default: compose.yaml here.")]
EnvFile = Annotated[Path | None, typer.Option("--env-file", help="Env file; default: .env beside the Compose file.")]
Folder = Annotated[Path | None, typer.Option("--folder", help="Folder whose files go with it, at most 32 MiB.")]
Variables = Annotated[list[str] | None, typer.Option("--var", help="Variable, NAME=VALUE.")]
Secrets = Annotated[
    list[str] | None, typer.Option("--secret", help="Secret, NAME=FILE; NAME alone asks for it; NAME=- reads stdin.")
]
Registries = Annotated[list[str] | None, typer.Option("--registry", help="Stored registry to pull with.")]
Services = Annotated[list[str] | None, typer.Argument(help="Only these services.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
Message = Annotated[str, typer.Option("-m", "--message", help="Why, for the history.")]


def register(root: typer.Typer) -> None:
    for function in (
        deploy, diff, deployments, revisions, rollback, redeploy, stop, start, restart, scale, remove, prune, adopt,
    ):  # fmt: skip
        root.command()(function)


def deploy(
    place: Place,
    file: File = None,
    env_file: EnvFile = None,
    folder: Folder = None,
    var: Variables = None,
    secret_values: Secrets = None,
    registry: Registries = None,
    message: Message = "",
    pull: Annotated[bool, typer.Option("--pull", help="Pull every image anew, not only missing ones.")] = False,
    auto_rollback: Annotated[bool, typer.Option(help="Put the last good revision back when this one fails.")] = True,
    settle: Annotated[float, typer.Option(help="Seconds that a service without healthcheck must run.")] = 10.0,
    timeout: Annotated[float, typer.Option(help="Seconds until it must be healthy.")] = 600.0,
    supersede: Annotated[bool, typer.Option(help="Take the place of a deploy that still waits.")] = True,
    wait: Wait = True,
    output: Output = Format.TABLE,
) -> None:
    """Deploy a Compose project, and go back by itself when it does not get healthy."""
    options = {
        "pull": "always" if pull else "missing", "auto_rollback": auto_rollback, "settle_seconds": settle,
        "timeout": timeout, "supersede": supersede,
    }  # fmt: skip
    with client() as api:
        body = _revision(api, place, file, env_file, folder, var, secret_values, registry)
        answer = api.post(deployment_path(place, "revisions"), body | {"message": message, "options": options})
        done(f"revision {answer['revision']['number']} of {place}")
        finish(api, answer, output, wait=wait)


def diff(
    place: Place,
    file: File = None,
    env_file: EnvFile = None,
    folder: Folder = None,
    var: Variables = None,
    secret_values: Secrets = None,
    output: Output = Format.TABLE,
) -> None:
    """Show what a deploy would change, and why. Changes nothing."""
    with client() as api:
        body = _revision(api, place, file, env_file, folder, var, secret_values, None)
        answer = api.post(deployment_path(place, "diff"), body)
    show(answer, output, lambda: _print_diff(answer))


def deployments(
    cluster: Annotated[str, typer.Option(help="Only on this cluster.")] = "",
    search: Annotated[str, typer.Option(help="Part of a name or image.")] = "",
    wanted: StateFilter = None,
    output: Output = Format.TABLE,
) -> None:
    """List deployments with their state and its reason."""
    with client() as api:
        items = api.items("deployments", cluster=cluster, search=search, state=wanted)
        none = "no deployments yet; make one with: towline deploy CLUSTER/PROJECT"
        show_list(items, output, COLUMNS, empty="no such deployment" if cluster or search or wanted else none)


def revisions(
    place: Place,
    number: Annotated[int | None, typer.Argument(help="Show this revision's Compose file.")] = None,
    output: Output = Format.TABLE,
) -> None:
    """List the revisions of a deployment, the newest first, or show one."""
    with client() as api:
        if number is None:
            items = api.items(deployment_path(place, "revisions"))
            show_list(items, output, REVISION_COLUMNS, empty="no revisions")
            return
        found = api.get(deployment_path(place, f"revisions/{number}"))
    show(found, output, lambda: out.print(Text(printable(found["compose"])), end=""))


def rollback(
    place: Place,
    to: Annotated[int | None, typer.Option("--to", help="This revision; default: the last good one before.")] = None,
    wait: Wait = True,
    output: Output = Format.TABLE,
) -> None:
    """Go back to the last good revision, or to any other, by the image digests it ran with."""
    _act(place, "rollback", {"revision": to} if to else {}, wait, output)


def redeploy(place: Place, wait: Wait = True, output: Output = Format.TABLE) -> None:
    """Deploy the running revision again with freshly pulled images."""
    _act(place, "redeploy", {"pull": "always"}, wait, output)


def stop(place: Place, services: Services = None, wait: Wait = True, output: Output = Format.TABLE) -> None:
    """Stop services; their containers stay."""
    _act(place, "stop", {"services": services or []}, wait, output)


def start(place: Place, services: Services = None, wait: Wait = True, output: Output = Format.TABLE) -> None:
    """Start stopped services."""
    _act(place, "start", {"services": services or []}, wait, output)


def restart(place: Place, services: Services = None, wait: Wait = True, output: Output = Format.TABLE) -> None:
    """Restart services."""
    _act(place, "restart", {"services": services or []}, wait, output)


def scale(
    place: Place,
    counts: Annotated[list[str], typer.Argument(help="SERVICE=COUNT.")],
    wait: Wait = True,
    output: Output = Format.TABLE,
) -> None:
    """Run so many containers of a service."""
    wanted = pairs(counts, "counts")
    if not all(count.isdigit() for count in wanted.values()):
        raise CliError("a count is a whole number", hint="for example: web=3", code=USAGE)
    _act(place, "scale", {"services": {name: int(count) for name, count in wanted.items()}}, wait, output)


def remove(
    place: Place,
    volumes: Annotated[bool, typer.Option("--volumes", help="Remove its volumes too: their data is lost.")] = False,
    volume: Annotated[list[str] | None, typer.Option(help="Remove this volume too.")] = None,
    yes: Yes = False,
    wait: Wait = True,
    output: Output = Format.TABLE,
) -> None:
    """Remove a deployment: its containers and networks; volumes only when asked by name."""
    lost = "and ALL its volumes" if volumes else f"and the volumes {', '.join(volume)}" if volume else "(volumes stay)"
    confirm(f"Remove {place} {lost}?", yes=yes)
    _act(place, "remove", {"volumes": True if volumes else (volume or False)}, wait, output)


def prune(place: Place, wait: Wait = True, output: Output = Format.TABLE) -> None:
    """Remove images on the host that no kept revision needs."""
    _act(place, "prune", {}, wait, output)


def adopt(place: Place, wait: Wait = True, output: Output = Format.TABLE) -> None:
    """Take over a project that already runs on the host, without restarting it."""
    _act(place, "adopt", {}, wait, output)


def _act(place: str, action: str, body: dict[str, Any], wait: bool, output: Format) -> None:
    with client() as api:
        finish(api, api.post(deployment_path(place, action), body), output, wait=wait, word=action)


def _revision(
    api: Client, place: str, file: Path | None, env_file: Path | None, folder: Path | None,
    variables: list[str] | None, secrets: list[str] | None, registries: list[str] | None,
) -> dict[str, Any]:  # fmt: skip
    """Return the body that describes a new revision; files are uploaded first."""
    split_place(place)
    path = file or _find(folder or Path())
    beside = env_file or path.parent / ".env"
    return {
        "compose": readable(path),
        "env": readable(beside) if env_file or beside.is_file() else None,
        "bundle": _upload(api, folder, {path.resolve(), beside.resolve()}) if folder else None,
        "variables": pairs(variables or [], "variables"),
        "secrets": {name: _secret(name, source) for name, source in _sources(secrets)} if secrets else None,
        "registries": registries or [],
    }


def _find(folder: Path) -> Path:
    for name in COMPOSE_NAMES:
        if (folder / name).is_file():
            return folder / name
    raise CliError(f"no Compose file in {folder.resolve()}", hint="name it with --file", code=USAGE)


def _sources(entries: list[str]) -> list[tuple[str, str]]:
    return [(name, source) for name, _, source in (entry.partition("=") for entry in entries)]


def _secret(name: str, source: str) -> str:
    if source and source != "-" and not Path(source).is_file():
        raise CliError(f"there is no file {source}", hint="a secret comes from a file: NAME=FILE", code=USAGE)
    return secret(f"Secret {name}", Path(source) if source else None)


def _upload(api: Client, folder: Path, own: set[Path]) -> str:
    """Pack a folder without the Compose and env file, send it, and return its digest."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for path in sorted(folder.rglob("*")):
            if path.resolve() not in own and ".git" not in path.relative_to(folder).parts:
                archive.add(path, str(path.relative_to(folder)), recursive=False, filter=_nameless)
            if buffer.tell() > MAX_BUNDLE_BYTES:
                raise CliError(
                    f"{folder} holds more than 32 MiB", hint="leave out what the hosts do not need", code=USAGE
                )
    return str(api.upload("bundles", buffer.getvalue(), "application/x-tar")["digest"])


def _nameless(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    entry.mtime = 0
    return entry


def _print_diff(answer: dict[str, Any]) -> None:
    against = f"revision {answer['against']}" if answer["against"] else "nothing yet"
    err.print(Text(f"compared with {against}", style="bright_black"))
    for change in answer["services"]:
        line = Text(f"{change['change']:<10} {change['name']}", style=CHANGE_STYLES.get(change["change"], ""))
        out.print(line.append(f"  {printable(', '.join(change['reasons']))}", style="default"))
    for kind in ("volumes_added", "volumes_removed", "networks_added", "networks_removed"):
        for name in answer[kind]:
            what, _, change = kind.partition("_")
            out.print(Text(f"{change:<10} {what.removesuffix('s')} {printable(name)}", style=CHANGE_STYLES[change]))
    for what in ("variables", "secrets", "files"):
        for entry in answer[what]:
            out.print(Text(f"{what.removesuffix('s'):<10} {printable(entry)}", style="yellow"))
    for line in answer["lines"]:
        out.print(Text(f"{line['sign']} {printable(line['text'])}", style=SIGN_STYLES.get(line["sign"], "")))
    if not answer["changes_containers"]:
        out.print("no container would change")


def _drift(deployment: dict[str, Any]) -> str:
    return "; ".join(deployment.get("drift") or [])


COLUMNS: list[Column] = [
    ("DEPLOYMENT", lambda entry: f"{entry['cluster']['name']}/{entry['name']}"),
    ("STATE", lambda entry: state(entry["state"], entry.get("reason") or "")),
    ("REVISION", lambda entry: entry.get("revision")),
    ("DRIFT", _drift),
    ("UPDATED", lambda entry: ago(entry.get("updated_at"))),
]
REVISION_COLUMNS: list[Column] = [
    ("REVISION", lambda entry: entry["number"]),
    ("OUTCOME", lambda entry: entry.get("outcome")),
    ("AUTHOR", lambda entry: entry.get("author")),
    ("CREATED", lambda entry: ago(entry["created_at"])),
    ("MESSAGE", lambda entry: entry.get("message")),
]
