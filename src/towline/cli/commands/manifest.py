"""`cluster manifest`: the manifest of an agent in a Kubernetes cluster, on standard output for `kubectl apply -f -`."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from towline.cli.client import quoted
from towline.cli.errors import USAGE, CliError
from towline.cli.options import client, pairs
from towline.cli.output import err

app = typer.Typer(help="One cluster: the manifest that brings an agent into it.", no_args_is_help=True)


class Profile(StrEnum):
    """What the agent may do in the cluster; docs/how-to/kubernetes-cluster.md lists each permission."""

    DEFAULT = "default"
    READ_ONLY = "read-only"
    NAMESPACED = "namespaced"
    BROAD = "broad"


def register(root: typer.Typer) -> None:
    root.add_typer(app, name="cluster")


@app.callback()
def _cluster() -> None:
    """Keep `manifest` a word of its own although it is the only command."""


@app.command()
def manifest(
    name: Annotated[str, typer.Argument(help="Name of the cluster, new or known.", metavar="NAME")],
    profile: Annotated[Profile, typer.Option(help="What the agent may do in the cluster.")] = Profile.DEFAULT,
    replicas: Annotated[int, typer.Option(min=1, max=5, help="Pods; two survive the loss of a node.")] = 1,
    image: Annotated[str, typer.Option(help="Image of the agent, from a registry that the cluster reaches.")] = "",
    pull_secret: Annotated[str, typer.Option(help="Secret of the namespace with registry credentials.")] = "",
    pull_policy: Annotated[str, typer.Option(help="IfNotPresent, Always or Never.")] = "IfNotPresent",
    namespace: Annotated[str, typer.Option(help="Namespace of the agent.")] = "towline",
    allowed: Annotated[
        list[str] | None, typer.Option("--allow-namespace", help="For namespaced: where people may act; repeatable.")
    ] = None,
    user: Annotated[
        list[str] | None, typer.Option("--user", help="User that the agent may become; repeatable; default: all.")
    ] = None,
    inventory: Annotated[bool, typer.Option(help="Let the agent read nodes, workloads and events.")] = True,
    priority_class: Annotated[str, typer.Option(help="Priority class of the pods.")] = "",
    toleration: Annotated[
        list[str] | None, typer.Option(help="KEY[=VALUE][:EFFECT] of a taint to tolerate; repeatable.")
    ] = None,
    node: Annotated[list[str] | None, typer.Option("--node-selector", help="NAME=VALUE that nodes carry.")] = None,
    proxy: Annotated[
        Path | None, typer.Option("--proxy-file", help="File with http://[user:password@]host:port of the proxy.")
    ] = None,
    no_proxy: Annotated[str, typer.Option(help="Further names that are reached without the proxy.")] = "",
    ca_file: Annotated[Path | None, typer.Option(help="PEM file of authorities to trust for the server.")] = None,
    server: Annotated[str, typer.Option(help="Address of the server as the pods reach it.")] = "",
    label: Annotated[list[str] | None, typer.Option("--label", "-l", help="Label that a new cluster gets.")] = None,
    minutes: Annotated[int, typer.Option(min=1, max=7 * 24 * 60, help="How long the join token is good for.")] = 60,
    approval: Annotated[bool, typer.Option("--approval", help="The agent waits until somebody approves it.")] = False,
) -> None:
    """Print the manifest of an agent: `towline cluster manifest NAME | kubectl apply -f -`."""
    body: dict[str, Any] = {
        "profile": profile.value, "replicas": replicas, "image": image, "pull_secret": pull_secret,
        "pull_policy": pull_policy, "namespace": namespace, "namespaces": allowed or [], "users": user or [],
        "inventory": inventory, "priority_class": priority_class, "no_proxy": no_proxy, "server": server,
        "tolerations": [_toleration(text) for text in toleration or []], "ttl": minutes * 60,
        "node_selector": pairs(node or [], "node selectors"), "labels": pairs(label or [], "labels"),
        "proxy": proxy.read_text().strip() if proxy else "", "ca_pem": ca_file.read_text() if ca_file else "",
        "approval_required": approval,
    }  # fmt: skip
    with client() as api:
        made = api.post(f"clusters/{quoted(name)}/kubernetes/manifest", body)
    print(made["manifest"], end="")
    err.print(f"The join token in it works once, for {minutes} minutes. Apply it with: kubectl apply -f -")
    if made["replaces"]:
        err.print(
            f"{made['cluster']} has an agent already. A pod that finds its key in the cluster keeps it; one that joins "
            "anew takes the old agent's place."
        )


def _toleration(text: str) -> dict[str, str]:
    """Read KEY[=VALUE][:EFFECT], as `kubectl taint` writes taints. Raises: CliError."""
    rest, _, effect = text.partition(":")
    key, equals, value = rest.partition("=")
    if effect not in ("", "NoSchedule", "PreferNoSchedule", "NoExecute"):
        raise CliError(f"{text!r} is no toleration", hint="write KEY=VALUE:NoSchedule", code=USAGE)
    return {"key": key, "operator": "Equal" if equals else "Exists", "value": value, "effect": effect}
