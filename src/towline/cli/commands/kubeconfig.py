"""`kubeconfig` and `k8s-token`: kubectl, helm and every other client through the control plane."""

import sys
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from towline.cli.client import Client
from towline.cli.commands.access import scope
from towline.cli.errors import NOT_ALLOWED, USAGE, CliError
from towline.cli.kube import choosing, entries, files, merging, plugin
from towline.cli.options import client
from towline.cli.output import done

File = Annotated[
    Path | None, typer.Option("--file", "-f", help="File to write; default: what kubectl uses. With --static: stdout.")
]


def register(root: typer.Typer) -> None:
    root.command()(kubeconfig)
    root.command("k8s-token", context_settings={"ignore_unknown_options": True})(k8s_token)


def kubeconfig(
    names: Annotated[list[str] | None, typer.Argument(help="Clusters.", metavar="[NAME]...")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every Kubernetes cluster that you may see.")] = False,
    file: File = None,
    host_form: Annotated[bool, typer.Option(help="A host name for each cluster instead of a path.")] = False,
    switch: Annotated[
        bool | None, typer.Option("--switch/--no-switch", help="Make it the current context; default: for one NAME.")
    ] = None,
    static: Annotated[bool, typer.Option("--static", help="With a token inside, for robots; prints it once.")] = False,
    role: Annotated[str, typer.Option(help="With --static: viewer, operator, deployer, admin or owner.")] = "",
    on: Annotated[str, typer.Option("--on", help="With --static: where it holds; default: this cluster.")] = "",
    days: Annotated[int, typer.Option(min=1, max=3650, help="With --static: how long it is good for.")] = 90,
    robot: Annotated[str, typer.Option("--robot", help="With --static: name of the token.")] = "",
    personal: Annotated[
        bool, typer.Option("--personal", help="With --static: your own token, which ends with your account.")
    ] = False,
) -> None:
    """Put clusters into your kubeconfig; what is there already stays as it is."""
    with client() as api:
        chosen = choosing.clusters_of(api, names or [], everything=everything)
        server = choosing.server_of(api, host_form_of=chosen[0] if host_form else "")
        if static:
            _static(api, server, chosen, file, _token_body(chosen, role, on, days, robot, personal=personal))
            return
    current = chosen[0] if switch or (switch is None and len(chosen) == 1 and not everything) else ""
    target = file or files.default_file()
    changed = files.change(target, lambda text: _merged(target, text, entries.entries_of(server, chosen), current))
    words = ", ".join(chosen[:5]) + (f" and {len(chosen) - 5} more" if len(chosen) > 5 else "")
    done(f"{target} leads to {words}" if changed else f"{target} led to {words} already")


def k8s_token(
    server: Annotated[str, typer.Option("--server", help="Address of the server.", metavar="URL")] = "",
) -> None:
    """Print a token for kubectl; what `towline kubeconfig` writes calls this."""
    code = plugin.run(["--server", server] if server else [])
    if code:
        raise SystemExit(code)


def _merged(target: Path, text: str, wanted: list[merging.Entry], current: str) -> str:
    try:
        return merging.merge(text, wanted, current)
    except merging.Broken as error:
        raise CliError(
            f"{target} is no kubeconfig: {error}", hint="it was not touched; mend it, or name another with --file"
        ) from error
    except merging.Foreign as error:
        kubectl = f"kubectl config rename-context {error.name} OTHER" if error.kind == "contexts" else "another name"
        raise CliError(
            f"{target} has a {error} of somebody else, which stays",
            hint=f"give that one {kubectl}, or write to another file with --file",
        ) from error


def _token_body(chosen: list[str], role: str, on: str, days: int, robot: str, *, personal: bool) -> dict[str, Any]:
    if len(chosen) != 1:
        raise CliError("--static is for one cluster", hint="name it", code=USAGE)
    if not role:
        raise CliError("what may the robot do?", hint="add --role deployer, for example", code=USAGE)
    return {
        "name": robot or f"kubeconfig of {chosen[0]}", "kind": "user" if personal else "service", "role": role,
        "scope": scope(on or f"cluster={chosen[0]}"), "expires_in": days * 86400,
    }  # fmt: skip


def _static(api: Client, server: entries.Server, chosen: list[str], file: Path | None, body: dict[str, Any]) -> None:
    if file is not None and file.exists():
        raise CliError(f"{file} is there already", hint="a file with a token replaces nothing; name a new one")
    try:
        made = api.post("tokens", body)
    except CliError as error:
        if error.code == NOT_ALLOWED and body["kind"] == "service" and not error.hint:
            error.hint = "--personal makes a token of your own instead"
        raise
    text = _static_text(server, chosen[0], made)
    if file is None:
        sys.stdout.write(text)
    else:
        file.parent.mkdir(parents=True, exist_ok=True)
        files.write_private(file.absolute(), text)
    until = datetime.fromisoformat(made["expires_at"]).date()
    done(f"{body['role']} until {until}; end it before with: towline tokens revoke {made['id']}")


def _static_text(server: entries.Server, cluster: str, made: dict[str, Any]) -> str:
    import yaml

    config = entries.static_config(server, cluster, made["name"], made["token"])
    head = f"# Expires {made['expires_at']}. Revoke it with: towline tokens revoke {made['id']}\n"
    return head + str(yaml.safe_dump(config, sort_keys=False, allow_unicode=True, width=1_000_000))
