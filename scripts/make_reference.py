"""Write docs/reference anew from the code: settings, errors, messages, metrics, command line and API.

Run by `make docs`. The pages are generated, so that nothing in them can differ from what runs; `make check` compares.
"""

import asyncio
import inspect
import json
import re
import sys
import tempfile
import typing
from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast

import click
import typer.main

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "reference"
NOTE = "<!-- Written by `make docs` from the code; change the code instead. -->\n\n"


def server_settings() -> str:
    """Return the page of the server's settings."""
    from towline.control.settings import PREFIX, Settings

    rows = [
        (f"`{name}`", f"`{PREFIX}{name.upper()}`", default_of(field), field.description or "")
        for name, field in Settings.model_fields.items()
    ]
    text = (
        "The server reads a TOML file (`server.toml` in its data folder, or the one that "
        "`TOWLINE_SERVER_CONFIG_FILE` names) and the environment; the environment wins. An unknown key is an error. "
        "`towline server check` explains what is wrong. In the environment a list is written with commas.\n\n"
    )
    return page("Settings of the server", text + table(("Key", "Variable", "Default", "Meaning"), rows))


def default_of(field: Any) -> str:
    if field.default_factory is not None:
        made = field.default_factory()
        return (
            f"`{made}`" if made and not isinstance(made, Path) else ("see there" if isinstance(made, Path) else "none")
        )
    return "none" if field.default in (None, "") else f"`{field.default}`"


def agent_settings() -> str:
    """Return the page of the agent's settings."""
    import msgspec

    from towline.agent.settings import PREFIX, AgentSettings

    rows = []
    for field in msgspec.structs.fields(AgentSettings):
        description = next(
            (meta.description for meta in getattr(field.type, "__metadata__", ()) if getattr(meta, "description", "")),
            "",
        )
        default = (
            "see there" if field.default is msgspec.NODEFAULT else (f"`{field.default}`" if field.default else "none")
        )
        rows.append((f"`{field.name}`", f"`{PREFIX}{field.name.upper()}`", default, description or ""))
    text = (
        "The agent reads `/etc/towline/agent.toml`, or the file that `TOWLINE_AGENT_CONFIG` names, and the "
        "environment, which wins. What the control plane may do on the host is no setting: see "
        "[the local policy](../how-to/agent-policy.md).\n\n"
    )
    return page("Settings of the agent", text + table(("Key", "Variable", "Default", "Meaning"), rows))


def errors() -> str:
    """Return the page of error codes."""
    from towline.control.errors import EXPLANATIONS, STATUSES, ErrorCode

    rows = [(f"`{code}`", str(STATUSES[code]), EXPLANATIONS[code]) for code in ErrorCode]
    text = (
        'Every error of the API is `{"error": {"code", "message", "hint", "detail", "request_id"}}`. The code is '
        "stable and made for programs; message and hint are for people and may change.\n\n"
    )
    return page("Errors", text + table(("Code", "HTTP", "Meaning and what to do"), rows))


def messages() -> str:
    """Return the page of the link's control messages."""
    import msgspec

    from towline.wire import link

    parts = [
        'Control messages of the link are JSON text frames, `{"type", "id"?, "payload"}`. Unknown types and fields are '
        "ignored. Order and rules: [the wire protocol](../wire-protocol.md).\n"
    ]
    for name, struct in link.TYPES.items():
        parts.append(f"\n## `{name}`\n\n{doc(struct)}\n\n")
        rows = [
            (f"`{field.encode_name}`", f"`{type_name(field.type)}`", "yes" if field.required else "")
            for field in msgspec.structs.fields(struct)
        ]
        parts.append(table(("Field", "Type", "Required"), rows) if rows else "No fields.\n")
    return page("Messages of the link", "".join(parts))


def type_name(kind: Any) -> str:
    text = kind.__name__ if inspect.isclass(kind) and not typing.get_args(kind) else str(kind)
    return re.sub(r"\b(?:[a-z_]+\.)+", "", text).replace("|", "or")


def metrics() -> str:
    """Return the page of metrics: everything that a control plane registers, read from one that was opened for it."""
    with tempfile.TemporaryDirectory() as folder:
        rows = asyncio.run(families(Path(folder)))
    text = "The server answers `/metrics` for Prometheus: to loopback, or to a bearer token that may see clusters.\n\n"
    own = (
        "\n## Of the agent\n\nAn agent that listens answers `/metrics` to a bearer of its local token; see "
        "[the agent's own surface](../how-to/agent-surface.md).\n\n"
    )
    head = ("Name", "Type", "Labels", "Meaning")
    return page("Metrics", text + table(head, rows) + own + table(head, agent_families()))


def agent_families() -> list[tuple[str, ...]]:
    """Return name, type, labels and meaning of every family of the agent."""
    from towline.agent.surface.figures import FIGURES, REQUEST_SECONDS

    rows = [
        (f"`{each.name}`", each.kind, ", ".join(f"`{label}`" for label in each.labels), each.about) for each in FIGURES
    ]
    name, about = REQUEST_SECONDS
    return sorted([*rows, (f"`{name}`", "histogram", "", about)])


def agent_document() -> str:
    """Return the OpenAPI document of the agent's own surface."""
    from towline.agent.surface.catalogue import ENDPOINTS
    from towline.agent.surface.document import document

    return json.dumps(document(ENDPOINTS), indent=2, ensure_ascii=False) + "\n"


def agent_surface() -> str:
    """Return the page of the agent's own surface."""
    from towline.agent.surface.catalogue import ENDPOINTS

    rights = ("nobody", "read", "operate")
    rows = [(each.method, f"`{each.path}`", rights[each.right], each.summary) for each in ENDPOINTS]
    text = (
        "What an agent that listens answers on its own host or in its own cluster; how to reach it: "
        "[the agent's own surface](../how-to/agent-surface.md). Shapes are in "
        "[the OpenAPI document](agent-openapi.json).\n\n"
    )
    parts = [text, table(("Method", "Path", "Asks for the right", "What it does"), rows), "\n## Examples\n\n"]
    parts.append("```sh\nURL=http://127.0.0.1:8080\n# where reading is enough: towline agent token\n")
    parts.append("TOKEN=$(towline agent token --operate)\n\n")
    parts += [f"curl -sS {each.curl}\n" for each in ENDPOINTS]
    return page("The agent's own surface", "".join([*parts, "```\n"]))


def verb_row(verb: Any) -> tuple[str, ...]:
    """Return a verb of the closed list as a row."""
    return (
        f"`{verb.name} {verb.usage}`".replace(" `", "`"),
        "yes" if verb.writes else "",
        ", ".join(f"`{flag.shown}`" for flag in verb.flags),
        verb.words,
    )


def command_list() -> str:
    """Return the page of the commands that people may run on clusters."""
    from towline.commandline.catalogue import PROGRAMS
    from towline.wire.orders import CODES

    text = (
        "The closed list of commands that `towline run`, its pages and the agent's own surface take; how to run them: "
        "[run commands](../how-to/commands.md). Arguments are a list and no shell reads them; what is not written here "
        "is refused by both ends. Verbs that write are never begun twice.\n"
    )
    parts = [text]
    for program in PROGRAMS.values():
        parts.append(f"\n## `{program.name}`\n\n")
        columns = ("Verb", "Writes", "Flags", "What it does")
        parts.append(table(columns, [verb_row(verb) for verb in program.verbs if not verb.hosted]))
        if hosted := [verb_row(verb) for verb in program.verbs if verb.hosted]:
            parts.append(
                f"\nDone by the host's own `{program.name}`, only where the local policy lists the verb in "
                f"`commands.kubectl_verbs`:\n\n{table(columns, hosted)}"
            )
        refused = [(f"`{'-' if len(name) == 1 else '--'}{name}`", why) for name, why in program.refused.items()]
        parts.append(f"\nRefused flags of `{program.name}`:\n\n{table(('Flag', 'Why'), refused)}")
    codes = ("bad_command", "forbidden", "command_exit", "interrupted", "timed_out", "cancelled")
    meanings = [(f"`{code}`", CODES[code]) for code in codes]
    parts.append(f"\n## How a command ends\n\n{table(('Code', 'Meaning'), meanings)}")
    return page("Commands", "".join(parts))


async def families(folder: Path) -> list[tuple[str, ...]]:
    """Return name, type, labels and meaning of every family."""
    from towline.control import logging
    from towline.control.edge_metrics import EdgeCollector
    from towline.control.opening import opened
    from towline.control.settings import load
    from towline.gateway.counters import EdgeCounters

    logging.configure("error", "json")
    rows = {}
    async with opened(load({}, data_folder=folder)) as control:
        control.metrics.registry.register(EdgeCollector(EdgeCounters()))
        for collector in list(control.metrics.registry._collector_to_names):
            for family in collector.collect():
                labels = getattr(family, "_labelnames", ()) or getattr(collector, "_labelnames", ())
                if family.name.startswith("towline_"):
                    shown = ", ".join(f"`{label}`" for label in labels)
                    rows[family.name] = (f"`{family.name}`", family.type, shown, family.documentation)
    return [rows[name] for name in sorted(rows)]


def command_line() -> str:
    """Return the page of the command line."""
    from towline.cli.main import build

    root: Any = typer.main.get_command(build())
    text = (
        "Exit codes: 0 done, 1 failed, 2 usage, 3 not allowed, 4 not found, 5 away or timed out. Tables are for "
        "people; `-o json` and `-o yaml` are for programs.\n"
    )
    context = click.Context(root, info_name="towline")
    return page("Command line", text + "".join(commands(root, context, "towline")))


def commands(command: Any, context: Any, name: str) -> Iterable[str]:
    children = {key: command.get_command(context, key) for key in command.list_commands(context)} if hasattr(
        command, "list_commands"
    ) else {}  # fmt: skip
    if name != "towline":
        yield f"\n## `{name}`\n\n{(command.help or '').strip()}\n\n"
        rows = [(f"`{usage(parameter)}`", getattr(parameter, "help", "") or "") for parameter in command.params]
        if rows := [row for row in rows if row[0] != "`--help`"]:
            yield table(("Argument or option", "Meaning"), rows)
    for key, child in children.items():
        yield from commands(child, type(context)(child, info_name=key, parent=context), f"{name} {key}")


def usage(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        return str(parameter.metavar or parameter.name.upper())
    return ", ".join([*parameter.opts, *parameter.secondary_opts])


def api() -> str:
    """Return the page of the API's routes, with the permission that each needs."""
    from fastapi import FastAPI
    from fastapi.routing import APIRoute, APIWebSocketRoute

    from towline.control.access.dependencies import declaration
    from towline.control.app import routers

    app = FastAPI()
    for router in routers():
        app.include_router(router)
    rows = []
    for route in flat(app.routes):
        if isinstance(route, APIWebSocketRoute) or (isinstance(route, APIRoute) and route.include_in_schema):
            methods = ", ".join(sorted(route.methods or ())) if isinstance(route, APIRoute) else "WebSocket"
            first = (inspect.getdoc(route.endpoint) or "").split("\n")[0]
            rows.append((methods, f"`{route.path}`", declaration(cast(Any, route)).removeprefix("needs "), first))
    text = "Shapes of bodies and answers are in the server's own documentation at `/api/v1/docs`.\n\n"
    return page("API", text + table(("Method", "Path", "Needs", "What it does"), rows))


def flat(routes: Iterable[Any]) -> Iterable[Any]:
    for route in routes:
        inner = getattr(route, "original_router", None) or getattr(route, "router", None)
        yield from flat(inner.routes) if inner is not None and not hasattr(route, "endpoint") else (route,)


def doc(thing: Any) -> str:
    return (inspect.getdoc(thing) or "").strip()


def page(title: str, text: str) -> str:
    return f"# {title}\n\n{NOTE}{text.rstrip()}\n"


def table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "".join(
        "| " + " | ".join(cell.replace("\n", " ").replace("|", "\\|") for cell in row) + " |\n" for row in lines
    )


PAGES = {
    "settings-server.md": server_settings,
    "settings-agent.md": agent_settings,
    "errors.md": errors,
    "messages.md": messages,
    "metrics.md": metrics,
    "cli.md": command_line,
    "api.md": api,
    "agent-surface.md": agent_surface,
    "commands.md": command_list,
    "agent-openapi.json": agent_document,
}


def main() -> int:
    """Write every page; with --check, only say which ones differ. Returns: 1 when one does."""
    stale = []
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, write in PAGES.items():
        text, path = write(), FOLDER / name
        if "--check" not in sys.argv:
            path.write_text(text)
        elif not path.exists() or path.read_text() != text:
            stale.append(name)
    for name in stale:
        print(f"docs/reference/{name} is stale: run `make docs`")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
