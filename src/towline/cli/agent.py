"""`towline agent …`: join this host, run its agent, find out why its link is down, leave."""

import asyncio
import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from towline.cli.errors import AWAY, CliError
from towline.cli.output import Format, done, err, out, show, show_facts

if TYPE_CHECKING:
    from towline.agent.doctor import Check
    from towline.agent.settings import AgentSettings

app = typer.Typer(no_args_is_help=True, help="Run and look after the agent of this host.")

StateFolder = Annotated[Path | None, typer.Option(help="Folder of identity, journal and projects.")]
SettingsFile = Annotated[Path | None, typer.Option("--config", help="TOML file; default /etc/towline/agent.toml.")]
Output = Annotated[Format, typer.Option("--output", "-o", help="table, json or yaml.")]


def register(root: typer.Typer) -> None:
    root.add_typer(app, name="agent")


@app.command()
def join(
    server: Annotated[str, typer.Option(help="Address of the control plane, https://host:port.")],
    token_file: Annotated[
        str, typer.Option(help="File with the join token; - or nothing: standard input, or TOWLINE_AGENT_TOKEN.")
    ] = "",
    fingerprint: Annotated[
        list[str] | None, typer.Option(help="sha256:… of the server's authority, from the join line.")
    ] = None,
    ca_file: Annotated[Path | None, typer.Option(help="PEM file of the authority instead of a fingerprint.")] = None,
    again: Annotated[bool, typer.Option("--again", help="Join anew although this host has an identity.")] = False,
    state_folder: StateFolder = None,
    config: SettingsFile = None,
) -> None:
    """Join this host to a control plane. The token is never an argument: others could read it there."""
    from towline.agent import join as joining
    from towline.agent.errors import AgentError, JoinError

    settings = _settings(config, state_folder)
    named = Path(token_file) if token_file not in ("", "-") else None
    try:
        token = joining.read_token(named, {} if token_file == "-" else os.environ, sys.stdin)  # noqa: S105 - a name
        wanted = joining.Server(server, tuple(fingerprint or ()), ca_file)
        joined = asyncio.run(joining.join(settings, wanted, token, replace=again))
    except JoinError as error:
        raise CliError(str(error), hint=error.hint, code=AWAY if error.code == "unreachable" else 1) from error
    except AgentError as error:
        raise CliError(str(error)) from error
    done(f"joined as {joined.identity.cluster_name}")
    if joined.pending:
        err.print("an administrator has to approve this host before it gets work")
    if abs(joined.time_offset) > 60:
        err.print(f"this machine's clock is {joined.time_offset:.0f} s off the server's; set it")


@app.command()
def run(
    listen: Annotated[
        str, typer.Option(help="Answer local questions over HTTP on PORT (of 127.0.0.1) or ADDRESS:PORT.")
    ] = "",
    standalone: Annotated[
        bool, typer.Option("--standalone", help="Run without a control plane; listens on 127.0.0.1:8080 by itself.")
    ] = False,
    protocol: Annotated[
        str,
        typer.Option(
            help="What the control plane speaks: towline, instadeploy, pipeops-rest or pipeops-ws; for the older ones "
            "SERVER_URL, AGENT_TOKEN, PIPEOPS_API_URL, PIPEOPS_TOKEN and the like are read."
        ),
    ] = "",
    protocol_file: Annotated[Path | None, typer.Option(help="YAML file of the PipeOps agent.")] = None,
    state_folder: StateFolder = None,
    config: SettingsFile = None,
) -> None:
    """Run the agent until it is stopped."""
    settings = _settings(
        config, state_folder, listen=listen or None, standalone=standalone or None, protocol=protocol or None,
        protocol_file=protocol_file.absolute() if protocol_file else None,
    )  # fmt: skip
    environment = os.environ | {
        "TOWLINE_AGENT_STATE_FOLDER": str(settings.state_folder),
        "TOWLINE_AGENT_LISTEN": settings.listen,
        "TOWLINE_AGENT_STANDALONE": str(settings.standalone).lower(),
        "TOWLINE_AGENT_PROTOCOL": settings.protocol,
        **({"TOWLINE_AGENT_PROTOCOL_FILE": str(settings.protocol_file)} if settings.protocol_file else {}),
    }
    arguments = [sys.executable, "-m", "towline.agent", *([str(config.absolute())] if config else [])]
    # A process without the command line's modules needs half of the memory; the process id stays the same.
    os.execve(sys.executable, arguments, environment)  # noqa: S606 - an argument list of our own


@app.command()
def token(
    operate: Annotated[bool, typer.Option("--operate", help="The one that may also change things.")] = False,
    state_folder: StateFolder = None,
    config: SettingsFile = None,
) -> None:
    """Print the local token of this host's agent, for `Authorization: Bearer` on the address that it listens on."""
    from towline.agent.errors import AgentError
    from towline.agent.surface import tokens

    try:
        print(tokens.shown(_settings(config, state_folder), operate=operate))
    except AgentError as error:
        raise CliError(str(error)) from error


@app.command()
def doctor(output: Output = Format.TABLE, state_folder: StateFolder = None, config: SettingsFile = None) -> None:
    """Walk the way to the server, hop by hop, and look at this host."""
    import msgspec

    from towline.agent import doctor as examining

    checks = asyncio.run(examining.examine(_settings(config, state_folder)))
    well = examining.is_well(checks)
    value = {"well": well, "checks": msgspec.to_builtins(checks)}
    show(value, output, lambda: _print_checks(checks))
    if not well:
        raise typer.Exit(1)


@app.command()
def status(output: Output = Format.TABLE, state_folder: StateFolder = None, config: SettingsFile = None) -> None:
    """Show who this host is, and whether its agent is connected."""
    value = _status(_settings(config, state_folder))
    facts = [(name.replace("_", " "), value[name]) for name in value]
    show_facts(value, output, facts)
    if not value["connected"] and not value["standalone"]:
        raise typer.Exit(AWAY)


@app.command()
def leave(
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    state_folder: StateFolder = None,
    config: SettingsFile = None,
) -> None:
    """Remove this host's identity. Projects go on running, and their files stay."""
    from towline.agent import leave as leaving
    from towline.agent.errors import AgentError

    settings = _settings(config, state_folder)
    if not yes:
        typer.confirm("Remove the identity of this host? It can come back with a new join token only.", abort=True)
    try:
        name = leaving.leave(settings)
    except AgentError as error:
        raise CliError(str(error)) from error
    done(f"left {name}; remove the cluster in the control plane as well")


def _settings(config: Path | None, state_folder: Path | None, **more: Any) -> "AgentSettings":
    from towline.agent.errors import SettingsError
    from towline.agent.settings import load

    try:
        return load(config, state_folder=state_folder.absolute() if state_folder else None, **more)
    except SettingsError as error:
        raise CliError(str(error), code=2) from error


def _status(settings: "AgentSettings") -> dict[str, Any]:
    from towline.agent import status as statuses
    from towline.agent.errors import IdentityError
    from towline.agent.identity import Store

    left = statuses.read(settings.state_folder)
    running = left is not None and statuses.is_running(left)
    alone = running and left is not None and left.standalone
    protocol = left.protocol if running and left is not None else settings.protocol
    try:
        identity = None if alone else Store(_identity_folder(settings, protocol)).current
    except IdentityError as error:
        raise CliError(str(error)) from error
    return {
        "cluster": identity.cluster_name if identity else "",
        "agent": identity.agent_id if identity else "",
        "servers": list(identity.server_urls if identity else ()) or ([left.server] if left and left.server else []),
        "protocol": protocol,
        "state_folder": str(settings.state_folder),
        "running": running,
        "standalone": alone,
        "connected": bool(running and left and left.connected),
        "since": datetime.fromtimestamp(left.since, UTC).isoformat(timespec="seconds") if left else None,
        "last_error": left.last_error if left else "",
    }


def _identity_folder(settings: "AgentSettings", protocol: str) -> Path:
    return settings.state_folder if protocol == "towline" else settings.state_folder / protocol


def _print_checks(checks: "list[Check]") -> None:
    from rich.markup import escape

    server = ""
    for check in checks:
        if check.server != server:
            server = check.server
            out.print(f"[bold]{escape(server or 'this host')}[/]")
        mark = "[green]✓[/]" if check.ok else "[red]✕[/]"
        out.print(f"  {mark} {check.name:<9} {escape(check.text)}")
        for line in check.chain:
            out.print(f"              {escape(line)}")
        if check.hint and not check.ok:
            out.print(f"              [bright_black]{escape(check.hint)}[/]")
