"""`publish`, `unpublish` and `routes`: private services on public names."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from towline.cli.client import quoted
from towline.cli.errors import AWAY, FAILED, USAGE, CliError
from towline.cli.options import ClusterName, Output, client, confirm, pairs, readable, secret
from towline.cli.output import Column, Format, ago, done, out, show, show_facts, show_list, state

app = typer.Typer(help="Routes: what is published under which name.", invoke_without_command=True)

LIGHTS = {"ok": "healthy", "failed": "down", "unknown": "unknown"}
"""How lights look: as states of health do."""
RouteArgument = Annotated[str, typer.Argument(help="Name or id of a route.", metavar="ROUTE")]
To = Annotated[
    str,
    typer.Option("--to", help="service/NS/NAME:PORT, pod/NS/NAME:PORT, compose/PROJECT/SERVICE:PORT or tcp/HOST:PORT."),
]
Clusters = Annotated[list[str] | None, typer.Option("--cluster", help="Where it runs; several share the requests.")]
Host = Annotated[str, typer.Option("--host", help="Public name, or *.NAME; default: NAME-CLUSTER.GATEWAY_DOMAIN.")]
PathOption = Annotated[str, typer.Option("--path", help="Path that it answers for, with all below it.")]
Exact = Annotated[bool, typer.Option("--exact", help="Answer for this very path alone.")]
Options = Annotated[
    list[str] | None,
    typer.Option("--option", help="KEY=VALUE, e.g. request_timeout=30, allow=10.0.0.0/8, sign_in=yes."),
]
ErrorPage = Annotated[Path | None, typer.Option("--error-page", help="HTML file for errors of the gateway itself.")]
Passwords = Annotated[
    list[str] | None, typer.Option("--password", help="Visitor's name, NAME or NAME=FILE; the password is asked for.")
]


class Mode(StrEnum):
    """What becomes of a claim."""

    AUTOMATIC = "automatic"
    PROPOSALS = "proposals"
    OFF = "off"


class Watch(StrEnum):
    """Whether an agent follows ingresses."""

    AUTO = "auto"
    ON = "on"
    OFF = "off"


class RouteState(StrEnum):
    """State of a route."""

    ACTIVE = "active"
    PROPOSED = "proposed"
    CONFLICT = "conflict"
    REFUSED = "refused"
    LEAVING = "leaving"


def register(root: typer.Typer) -> None:
    root.command()(publish)
    root.command()(unpublish)
    root.add_typer(app, name="routes")


def publish(
    name: Annotated[str, typer.Argument(help="What the route is called.")],
    to: To,
    host: Host = "",
    cluster: Clusters = None,
    path: PathOption = "/",
    exact: Exact = False,
    option: Options = None,
    error_page: ErrorPage = None,
    password: Passwords = None,
    output: Output = Format.TABLE,
) -> None:
    """Publish a private service under a public name. It answers as soon as this returns."""
    body = {
        "name": name, "to": to, "host": host, "clusters": cluster or [], "path": path,
        "path_type": "exact" if exact else "prefix", "options": _options(option, error_page),
        "passwords": _passwords(password),
    }  # fmt: skip
    with client() as api:
        made = api.post("routes", body)
    show(made, output, lambda: out.print(made["url"], markup=False))
    done(f"{made['name']} is published; look at all of it with: towline routes test {made['name']}")


def unpublish(route: RouteArgument, yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False) -> None:
    """Take a declared route away; its name answers 404 at once."""
    confirm(f"Take {route} away? Its name answers 404 at once.", yes=yes)
    with client() as api:
        api.call("DELETE", f"routes/{quoted(route)}")
    done(f"{route} is published no more")


@app.callback()
def _list(
    context: typer.Context,
    search: Annotated[str, typer.Option(help="Part of a name, host or path.")] = "",
    cluster: Annotated[str, typer.Option(help="Only those that lead to this cluster.")] = "",
    wanted: Annotated[RouteState | None, typer.Option("--state", help="Only in this state.")] = None,
    output: Output = Format.TABLE,
) -> None:
    """List routes with their state and its reason."""
    if context.invoked_subcommand:
        return
    with client() as api:
        items = api.items("routes", search=search, cluster=cluster, state=wanted)
        none = "nothing is published yet; publish something with: towline publish NAME --to TARGET"
        show_list(items, output, COLUMNS, empty="no such route" if search or cluster or wanted else none)


@app.command("show")
def show_route(route: RouteArgument, output: Output = Format.TABLE) -> None:
    """Show one route: name, target, options, and why it is as it is."""
    with client() as api:
        found = api.get(f"routes/{quoted(route)}")
    shown = [
        ("route", found["name"]), ("id", found["id"]), ("address", found["url"]),
        ("state", state(found["state"], found["reason"])), ("enabled", found["enabled"]),
        ("path", f"{found['path']} ({found['path_type']})"), ("source", _source(found)),
        *(("target", _target(target)) for target in found["targets"]),
        *(("option", f"{key}={value}") for key, value in sorted(found["options"].items())),
        ("visitors", ", ".join(found["users"])),
        *(("not honoured", note) for note in found["notes"]),
        ("decided by", found["decided_by"]), ("leaves", ago(found["leaving_at"]) if found["leaving_at"] else ""),
        ("made", f"{ago(found['created_at'])} by {found['created_by'] or found['source']}"),
    ]  # fmt: skip
    show_facts(found, output, shown)


@app.command("set")
def change(
    route: RouteArgument,
    to: Annotated[str, typer.Option("--to", help="Another target.")] = "",
    host: Annotated[str, typer.Option("--host", help="Another public name.")] = "",
    cluster: Clusters = None,
    path: Annotated[str, typer.Option("--path", help="Another path.")] = "",
    option: Annotated[
        list[str] | None, typer.Option("--option", help="KEY=VALUE to set, KEY- to take back to its default.")
    ] = None,
    error_page: ErrorPage = None,
    password: Passwords = None,
    enabled: Annotated[bool | None, typer.Option("--enable/--disable", help="Switch the route on or off.")] = None,
    output: Output = Format.TABLE,
) -> None:
    """Change a route; what is not named stays."""
    options = _options(option, error_page)
    wanted: dict[str, Any] = {"to": to, "host": host, "clusters": cluster, "path": path, "options": options}
    body: dict[str, Any] = {key: value for key, value in wanted.items() if value}
    body |= {} if enabled is None else {"enabled": enabled}
    body |= {"passwords": _passwords(password)} if password else {}
    if not body:
        raise CliError(
            "nothing to change", hint="name what should change, e.g. --option request_timeout=30", code=USAGE
        )
    with client() as api:
        found = api.call("PATCH", f"routes/{quoted(route)}", body=body)
    show(found, output, lambda: out.print(state(found["state"], found["reason"])))
    done(f"{found['name']} was changed")


@app.command()
def accept(
    routes: Annotated[list[str] | None, typer.Argument(help="Names or ids of proposed routes.")] = None,
    cluster: Annotated[str, typer.Option(help="Every proposal of this cluster.")] = "",
) -> None:
    """Let proposed routes answer for their names."""
    if bool(routes) == bool(cluster):
        raise CliError("name routes, or a cluster for all of its proposals", code=USAGE)
    with client() as api:
        if cluster:
            count = api.post("routes/accept", {"cluster": cluster})["accepted"]
            done(f"{count} {'route was' if count == 1 else 'routes were'} accepted")
        for route in routes or []:
            found = api.post(f"routes/{quoted(route)}/accept")
            done(f"{found['name']} is {found['state']}{': ' + found['reason'] if found['reason'] else ''}")


@app.command()
def refuse(routes: Annotated[list[str], typer.Argument(help="Names or ids of routes that a source claims.")]) -> None:
    """Keep claimed routes from answering, also when their sources claim them again."""
    with client() as api:
        for route in routes:
            found = api.post(f"routes/{quoted(route)}/refuse")
            done(f"{found['name']} is refused")


@app.command()
def test(route: RouteArgument, output: Output = Format.TABLE) -> None:
    """Look at a route from end to end, now: name, certificate, agent, target."""
    with client() as api:
        found = api.get(f"routes/{quoted(route)}/check")
    show(found, output, lambda: show_list(found["lights"], Format.TABLE, LIGHT_COLUMNS, empty="nothing to look at"))
    if not found["ok"]:
        away = any(light["name"] == "agent" and light["state"] == "failed" for light in found["lights"])
        raise CliError(f"{found['route']} does not work from end to end", code=AWAY if away else FAILED)


@app.command()
def sources(
    cluster: ClusterName,
    existing: Annotated[Mode | None, typer.Option(help="What was there when the cluster joined.")] = None,
    appearing: Annotated[Mode | None, typer.Option(help="What appears later.")] = None,
    watch: Annotated[Watch | None, typer.Option(help="Follow ingresses; auto: when the cluster is private.")] = None,
    output: Output = Format.TABLE,
) -> None:
    """Show or change what a cluster's ingresses, HTTPRoutes and Compose labels may publish."""
    wanted = {"existing": existing, "appearing": appearing, "watch_ingresses": watch}
    body = {key: value.value for key, value in wanted.items() if value is not None}
    path = f"clusters/{quoted(cluster)}/gateway"
    with client() as api:
        found = api.call("PATCH", path, body=body) if body else api.get(path)
    private = {True: "private", False: "public", None: "not known"}[found["is_private"]]
    shown = [
        ("existing", found["existing"]), ("appearing", found["appearing"]), ("ingresses", found["watch_ingresses"]),
        ("cluster is", private), ("routes", found["routes"]), ("left out", found["left_out"] or ""),
        ("sources", ", ".join(found["sources"])), ("told", ago(found["told_at"])),
    ]  # fmt: skip
    show_facts(found, output, shown)


def _options(entries: list[str] | None, error_page: Path | None) -> dict[str, Any]:
    """Read options; the server knows which there are and what they may hold."""
    taken = {entry[:-1]: None for entry in entries or [] if entry.endswith("-") and "=" not in entry}
    given = pairs([entry for entry in entries or [] if entry[:-1] not in taken], "options")
    return {**taken, **given, **({"error_page": readable(error_page)} if error_page else {})}


def _passwords(entries: list[str] | None) -> dict[str, str] | None:
    if not entries:
        return None
    named = (entry.partition("=") for entry in entries)
    return {name: secret(f"Password of {name}", Path(file) if file else None) for name, _, file in named}


def _source(route: dict[str, Any]) -> str:
    return " ".join(
        filter(None, (route["source"], route["ref"], f"on {route['cluster']['name']}" if route["cluster"] else ""))
    )


def _target(target: dict[str, Any]) -> str:
    return f"{target['to']} on {target['cluster']['name']}" + ("" if target["connected"] else ", whose agent is away")


def _targets(route: dict[str, Any]) -> str:
    return ", ".join(f"{target['cluster']['name']}: {target['to']}" for target in route["targets"])


COLUMNS: list[Column] = [
    ("NAME", lambda route: route["name"]),
    ("ADDRESS", lambda route: route["host"] + (route["path"] if route["path"] != "/" else "")),
    ("STATE", lambda route: state(route["state"] if route["enabled"] else "switched off", route["reason"])),
    ("SOURCE", lambda route: route["source"]),
    ("TARGETS", _targets),
]
LIGHT_COLUMNS: list[Column] = [
    ("WHAT", lambda light: light["name"]),
    ("CLUSTER", lambda light: light["cluster"]),
    ("STATE", lambda light: state(LIGHTS[light["state"]], light["reason"])),
]
