"""`clusters` and `join-token`: the fleet, and how a host joins it."""

from typing import Annotated, Any

import typer

from towline.cli.client import quoted
from towline.cli.options import ClusterName, Output, Selector, StateFilter, client, confirm, pairs
from towline.cli.output import (
    Column,
    Format,
    ago,
    cell,
    done,
    err,
    labels,
    out,
    show,
    show_facts,
    show_list,
    size,
    state,
)

app = typer.Typer(help="Clusters: hosts and Kubernetes clusters that joined.", invoke_without_command=True)
tokens = typer.Typer(help="Join tokens: how a new host joins.", invoke_without_command=True)
AgentId = Annotated[str, typer.Argument(help="Id of an agent; see `towline clusters show`.", metavar="AGENT")]


def register(root: typer.Typer) -> None:
    root.add_typer(app, name="clusters")
    root.add_typer(tokens, name="join-token")


@app.callback()
def _list(
    context: typer.Context,
    search: Annotated[str, typer.Option(help="Part of a name or label.")] = "",
    selector: Selector = "",
    wanted: StateFilter = None,
    output: Output = Format.TABLE,
) -> None:
    """List clusters with their health and its reason."""
    if context.invoked_subcommand:
        return
    with client() as api:
        items = api.items("clusters", search=search, selector=selector, state=wanted)
        none = "no clusters yet; make a join line with: towline join-token create"
        show_list(items, output, COLUMNS, empty="no such cluster" if search or selector or wanted else none)


@app.command("show")
def show_cluster(cluster: ClusterName, output: Output = Format.TABLE) -> None:
    """Show one cluster: health, facts, agents and what runs there."""
    with client() as api:
        found = api.get(f"clusters/{quoted(cluster)}")
    facts, link = found.get("facts") or {}, found.get("link") or {}
    shown = [
        ("cluster", found["name"]), ("id", found["id"]), ("health", _health(found)),
        ("labels", labels(found.get("labels") or {})), ("last seen", ago(found.get("last_seen_at"))),
        ("system", facts.get("system")), ("host", facts.get("hostname")), ("CPUs", facts.get("cpus")),
        ("memory", size(facts["memory_bytes"]) if facts.get("memory_bytes") else ""),
        ("versions", labels(facts.get("versions") or {})),
        ("capabilities", ", ".join(_capability(entry) for entry in found.get("capabilities") or [])),
        ("link", _link(link)), ("reconnects", link.get("reconnects")), ("last error", link.get("last_error")),
        *(("agent", f"{agent['id']}  {agent['state']}  {agent.get('version', '')}") for agent in found["agents"]),
    ]  # fmt: skip
    show_facts(found, output, shown)


@app.command()
def label(
    cluster: ClusterName,
    changes: Annotated[list[str], typer.Argument(help="NAME=VALUE to set, NAME- to remove.")],
) -> None:
    """Set or remove labels."""
    with client() as api:
        held = dict(api.get(f"clusters/{quoted(cluster)}").get("labels") or {})
        for name in [change[:-1] for change in changes if change.endswith("-") and "=" not in change]:
            held.pop(name, None)
        held |= pairs([change for change in changes if "=" in change or not change.endswith("-")], "labels")
        answer = api.call("PATCH", f"clusters/{quoted(cluster)}", body={"labels": held})
    done(f"{answer['name']}: {labels(answer['labels']) or 'no labels'}")


@app.command()
def rename(cluster: ClusterName, name: Annotated[str, typer.Argument(help="The new name.")]) -> None:
    """Give a cluster another name; its agents and deployments stay as they are."""
    with client() as api:
        api.call("PATCH", f"clusters/{quoted(cluster)}", body={"name": name})
    done(f"{cluster} is now {name}")


@app.command()
def update(
    cluster: ClusterName,
    use_registered_token: Annotated[
        bool,
        typer.Option(
            "--use-registered-token/--no-registered-token",
            help="Let the token that the cluster's PipeOps agent registered be used to speak to its API server.",
        ),
    ],
) -> None:
    """Change how a cluster whose agent is a PipeOps agent is reached."""
    with client() as api:
        path = f"clusters/{quoted(cluster)}/registered-token"
        answer = api.call("PUT", path, body={"allowed": use_registered_token})
    has = "" if answer["registered"] else "; its agent has registered none yet"
    done(f"{cluster}: the registered token is {'used' if answer['allowed'] else 'not used'} from now on{has}")


@app.command()
def remove(cluster: ClusterName, yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False) -> None:
    """Remove a cluster: its agent stops for good, what runs on it goes on."""
    confirm(f"Remove {cluster}? Its agent stops for good; its containers go on running.", yes=yes)
    with client() as api:
        api.call("DELETE", f"clusters/{quoted(cluster)}")
    done(f"{cluster} was removed")


@app.command()
def readmit(cluster: ClusterName, agent: AgentId) -> None:
    """Let an agent back in that was cut off as a possible copy."""
    _act(cluster, agent, "readmit")


@app.command()
def approve(cluster: ClusterName, agent: AgentId) -> None:
    """Let a new agent in whose join token asked for approval."""
    _act(cluster, agent, "approve")


@app.command()
def revoke(cluster: ClusterName, agent: AgentId) -> None:
    """Cut an agent off for good."""
    _act(cluster, agent, "revoke")


@app.command("rotate-key")
def rotate_key(cluster: ClusterName, agent: AgentId) -> None:
    """Have an agent make a new key; the old one works for another day."""
    _act(cluster, agent, "rotate-key")


@app.command()
def containers(
    cluster: ClusterName,
    search: Annotated[str, typer.Option(help="Part of a name or image.")] = "",
    output: Output = Format.TABLE,
) -> None:
    """List what runs on a cluster."""
    with client() as api:
        items = api.items(f"clusters/{quoted(cluster)}/containers", search=search)
        show_list(items, output, CONTAINER_COLUMNS, empty="no containers there")


@tokens.callback()
def _list_tokens(context: typer.Context, output: Output = Format.TABLE) -> None:
    """List join tokens; their secrets are never shown again."""
    if context.invoked_subcommand:
        return
    with client() as api:
        show_list(api.items("join-tokens"), output, TOKEN_COLUMNS, empty="no join tokens")


@tokens.command()
def create(
    name: Annotated[str, typer.Option("--cluster", help="Name of the cluster that it will make.")] = "",
    label: Annotated[list[str] | None, typer.Option("--label", "-l", help="Label that the cluster gets.")] = None,
    minutes: Annotated[int, typer.Option(min=1, max=7 * 24 * 60, help="How long it is good for.")] = 60,
    uses: Annotated[int, typer.Option(min=1, max=1000, help="How many hosts may join with it.")] = 1,
    network: Annotated[list[str] | None, typer.Option(help="Network that it may come from, as CIDR.")] = None,
    approval: Annotated[bool, typer.Option("--approval", help="The host waits until somebody approves it.")] = False,
    output: Output = Format.TABLE,
) -> None:
    """Make a join token and print the line to run on the new host."""
    body = {
        "cluster_name": name or None, "labels": pairs(label or [], "labels"), "ttl": minutes * 60, "max_uses": uses,
        "networks": network or [], "approval_required": approval,
    }  # fmt: skip
    with client() as api:
        made = api.post("join-tokens", body)

    def lines() -> None:
        err.print("Run this on the host, as root or as a user who may use Docker:\n")
        out.print(cell(made["command"]))
        err.print(f"\nIt works {'once' if uses == 1 else f'{uses} times'}, for {minutes} minutes.")

    show(made, output, lines)


@tokens.command("revoke")
def revoke_token(token: Annotated[str, typer.Argument(help="Id of a join token.")]) -> None:
    """Make a join token useless."""
    with client() as api:
        api.call("DELETE", f"join-tokens/{quoted(token)}")
    done(f"{token} was revoked")


def _act(cluster: str, agent: str, word: str) -> None:
    with client() as api:
        api.post(f"clusters/{quoted(cluster)}/agents/{quoted(agent)}/{word}")
    done(f"{agent}: {word} done")


def _health(cluster: dict[str, Any]) -> Any:
    health = cluster.get("health") or {}
    return state(health.get("state", "unknown"), health.get("reason", ""))


def _capability(entry: dict[str, Any]) -> str:
    ready = entry.get("version", "") if entry["ready"] else f"not ready: {entry.get('reason', '')}"
    return f"{entry['name']} {ready}".strip()


def _link(link: dict[str, Any]) -> str:
    if not link.get("connected"):
        return "not connected"
    median = (link.get("rtt_ms") or {}).get("median")
    return f"connected from {link.get('address', '?')}" + (f", round trip {median:.1f} ms" if median else "")


COLUMNS: list[Column] = [
    ("NAME", lambda cluster: cluster["name"]),
    ("HEALTH", _health),
    ("LABELS", lambda cluster: labels(cluster.get("labels") or {})),
    ("PROJECTS", lambda cluster: cluster.get("projects_count")),
    ("CONTAINERS", lambda cluster: cluster.get("containers_count")),
    ("LAST SEEN", lambda cluster: ago(cluster.get("last_seen_at"))),
]
CONTAINER_COLUMNS: list[Column] = [
    ("NAME", lambda entry: entry["name"]),
    ("PROJECT", lambda entry: entry.get("project")),
    ("STATE", lambda entry: " ".join(filter(None, (entry.get("state"), entry.get("health"))))),
    ("IMAGE", lambda entry: entry.get("image")),
    ("PORTS", lambda entry: " ".join(entry.get("ports") or [])),
]
TOKEN_COLUMNS: list[Column] = [
    ("ID", lambda token: token["id"]),
    ("CLUSTER", lambda token: token.get("cluster_name")),
    ("USES", lambda token: f"{token.get('used', 0)} of {token.get('max_uses', 1)}"),
    ("EXPIRES", lambda token: ago(token.get("expires_at"))),
    ("STATE", lambda token: token.get("state")),
]
