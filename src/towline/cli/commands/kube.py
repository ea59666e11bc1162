"""`kube`: for those without kubectl, for many clusters at once, and what one may do where."""

import asyncio
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from towline.cli import credentials
from towline.cli.client import quoted
from towline.cli.errors import FAILED, NOT_ALLOWED, NOT_FOUND, USAGE, CliError
from towline.cli.kube import alias, choosing, discovery, entries, files
from towline.cli.kube.api import ClusterApi
from towline.cli.kube.each import Group, Said, grouped, run_each
from towline.cli.kube.spans import seconds
from towline.cli.kube.tables import TABLE, print_table, usage_rows
from towline.cli.kube.usage import usage
from towline.cli.logs import UNSAFE
from towline.cli.options import ClusterName, Output, client
from towline.cli.output import Column, Format, done, out, printable, quiet_logs, show, show_list

app = typer.Typer(help="Kubernetes clusters without kubectl, and many of them at once.", no_args_is_help=True)
Namespace = Annotated[str, typer.Option("-n", "--namespace", help="Namespace.")]
AllNamespaces = Annotated[bool, typer.Option("-A", "--all-namespaces", help="In every namespace.")]
Container = Annotated[str, typer.Option("-c", "--container", help="Container; default: the pod's own default.")]
Labels = Annotated[str, typer.Option("-l", "--selector", help="Labels to match, as kubectl takes them.")]
PodName = Annotated[str, typer.Argument(help="Name of a pod.", metavar="POD")]
OWN_WORDS = ("get", "logs", "top")
"""What `each` does by itself where there is no kubectl."""
DEFAULT_CONTAINER = "kubectl.kubernetes.io/default-container"


def register(root: typer.Typer) -> None:
    root.add_typer(app, name="kube")


@contextmanager
def opened(cluster: str) -> Iterator[ClusterApi]:
    """Yield a client of one cluster's API, as the current login."""
    api = ClusterApi(credentials.current(), cluster)
    try:
        yield api
    finally:
        api.close()


@app.command("get")
def get(
    cluster: ClusterName,
    resource: Annotated[str, typer.Argument(help="Like pods, deploy, nodes or ingresses.networking.k8s.io.")],
    name: Annotated[str, typer.Argument(help="Only this one.")] = "",
    namespace: Namespace = "default",
    everywhere: AllNamespaces = False,
    selector: Labels = "",
    wide: Annotated[bool, typer.Option("--wide", help="With all columns.")] = False,
    output: Output = Format.TABLE,
) -> None:
    """List or show resources."""
    with opened(cluster) as api:
        kind = discovery.find(api, resource)
        path = kind.path("" if everywhere else namespace, name)
        query = [("labelSelector", selector)] if selector else []
        found = api.get(path, query, accept=TABLE if output is Format.TABLE else "application/json")
    show(found, output, lambda: print_table(found, wide=wide, namespaces=everywhere and kind.namespaced))


@app.command("logs")
def logs(
    cluster: ClusterName,
    pod: PodName,
    namespace: Namespace = "default",
    container: Container = "",
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on as lines are written.")] = False,
    previous: Annotated[bool, typer.Option("-p", "--previous", help="Of the container before its restart.")] = False,
    tail: Annotated[int, typer.Option("--tail", min=-1, help="So many lines; -1: all.")] = -1,
    since: Annotated[str, typer.Option(help="From so long ago on: 30s, 10m, 2h, 3d.")] = "",
    timestamps: Annotated[bool, typer.Option("-t", "--timestamps", help="With the time of each line.")] = False,
) -> None:
    """Print the log of a container; one that breaks off is an error, never a quiet end."""
    query = [("container", container)] if container else []
    flags = {"follow": follow, "previous": previous, "timestamps": timestamps}
    query += [(flag, "true") for flag, wanted in flags.items() if wanted]
    query += [("tailLines", str(tail))] if tail >= 0 else []
    query += [("sinceSeconds", str(seconds(since)))] if since else []
    is_terminal = sys.stdout.isatty()
    with opened(cluster) as api:
        if not container:
            query.append(("container", default_container(api, namespace, pod)))
        try:
            for data in api.stream(_pod(namespace, pod) + "/log", query):
                sys.stdout.buffer.write(UNSAFE.sub(b"", data) if is_terminal else data)
                sys.stdout.buffer.flush()
        except KeyboardInterrupt:
            raise SystemExit(0) from None


@app.command("exec", context_settings={"ignore_unknown_options": True})
def exec_(
    cluster: ClusterName,
    pod: PodName,
    command: Annotated[list[str] | None, typer.Argument(help="Command to run; default: sh.")] = None,
    namespace: Namespace = "default",
    container: Container = "",
    no_tty: Annotated[bool, typer.Option("-T", "--no-tty", help="Without a terminal, for pipes.")] = False,
) -> None:
    """Run a command in a container, with a terminal when there is one; ends with its exit code."""
    from towline.cli.kube.shell import run_shell

    quiet_logs()
    tty = not no_tty and sys.stdin.isatty() and sys.stdout.isatty()
    with opened(cluster) as api:
        query = [("command", word) for word in command or ["sh"]]
        query += [("container", container or default_container(api, namespace, pod))]
        query += [("stdin", "true"), ("stdout", "true"), ("tty" if tty else "stderr", "true")]
        code = asyncio.run(run_shell(api, _pod(namespace, pod) + "/exec", query, tty=tty))
    raise SystemExit(code)


@app.command("top")
def top(
    cluster: ClusterName,
    what: Annotated[str, typer.Argument(help="pods or nodes.")] = "pods",
    namespace: Namespace = "default",
    everywhere: AllNamespaces = False,
    selector: Labels = "",
    output: Output = Format.TABLE,
) -> None:
    """Show what pods or nodes use, when the cluster measures it."""
    if what not in {"pod", "pods", "po", "node", "nodes", "no"}:
        raise CliError(f"{what!r} is neither pods nor nodes", code=USAGE)
    nodes = what.startswith("no")
    where = "nodes" if nodes else "pods" if everywhere else f"namespaces/{quoted(namespace)}/pods"
    with opened(cluster) as api:
        try:
            found = api.get(f"/apis/metrics.k8s.io/v1beta1/{where}", [("labelSelector", selector)] if selector else [])
        except CliError as error:
            if error.code != NOT_FOUND:
                raise
            hint = "install metrics-server in it"
            raise CliError(f"{cluster} measures nothing: it has no metrics API", hint=hint, code=NOT_FOUND) from error
    columns = [(title.upper(), lambda row, key=title: row[key]) for title in ("namespace", "name", "cpu", "memory")]
    rows = usage_rows(found)
    shown = columns if everywhere and not nodes else columns[1:]
    if output is Format.TABLE:
        show_list(rows, output, shown, empty="nothing is measured here")
    else:
        show(rows, output, lambda: None)


app.command("usage")(usage)


@app.command("access")
def access(
    cluster: ClusterName,
    verb: Annotated[str, typer.Option(help="Like get, list, create or delete.")] = "",
    resource: Annotated[str, typer.Option(help="Like pods, pods/exec, deployments.apps or /metrics.")] = "",
    namespace: Annotated[str, typer.Option("-n", "--namespace", help="Namespace.")] = "",
    user: Annotated[str, typer.Option("--user", help="What this user may do; for admins.")] = "",
    role: Annotated[str, typer.Option("--role", help="What this role may do there; for admins.")] = "",
    output: Output = Format.TABLE,
) -> None:
    """Show what you may do in a cluster, and by which rule."""
    with client() as api:
        asked = {"verb": verb, "resource": resource, "namespace": namespace, "user": user, "role": role}
        found = api.get(f"clusters/{quoted(cluster)}/kubernetes/access", **asked)
    show(found, output, lambda: _print_access(found))
    if (verb or resource) and not all(one["allowed"] for one in found["answers"]):
        raise SystemExit(NOT_ALLOWED)


@app.command("each", context_settings={"ignore_unknown_options": True})
def each(
    arguments: Annotated[list[str], typer.Argument(help="What kubectl is given, after --.", metavar="-- ARGUMENTS")],
    names: Annotated[list[str] | None, typer.Option("--cluster", help="This cluster; may be repeated.")] = None,
    selector: Annotated[str, typer.Option("--selector", "-l", help="Clusters with these labels, env=prod.")] = "",
    everything: Annotated[bool, typer.Option("--all", help="Every Kubernetes cluster that you may see.")] = False,
    parallel: Annotated[int, typer.Option(min=1, max=64, help="So many at once; on the server, in waves.")] = 8,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds for each cluster.")] = 120.0,
    output: Output = Format.TABLE,
) -> None:
    """Run kubectl on many clusters: as `towline run`, or by kubectl here where that does not know the verb."""
    if alias.takes(arguments):
        asked = alias.Asked(arguments, names or [], selector, parallel, timeout, everything=everything)
        if alias.run(asked, output):
            return
    quiet_logs()
    with client() as api:
        chosen = choosing.clusters_of(api, names or [], everything=everything, selector=selector)
        server = choosing.server_of(api, command=choosing.own_command())
    with tempfile.TemporaryDirectory(prefix="towline-") as folder:
        commands = _commands(Path(folder), server, chosen, arguments)
        said = asyncio.run(run_each(commands, parallel=parallel, timeout=timeout, ended=_progress(len(chosen))))
    groups = grouped(said)
    show([asdict(one) | {"clusters": list(one.clusters)} for one in groups], output, lambda: _print_groups(groups))
    if any(one.code for one in said):
        raise SystemExit(FAILED)


def _commands(folder: Path, server: entries.Server, chosen: list[str], arguments: list[str]) -> dict[str, list[str]]:
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        if not arguments or arguments[0] not in OWN_WORDS:
            hint = f"install it; without it there are only {', '.join(OWN_WORDS)}"
            raise CliError("there is no kubectl on the PATH", hint=hint)
        word, *rest = arguments
        return {name: [choosing.own_command(), "kube", word, name, *rest] for name in chosen}
    import yaml

    config = folder / "kubeconfig"
    files.write_private(config, yaml.safe_dump(entries.plugin_config(server, chosen), sort_keys=False))
    return {name: [kubectl, f"--kubeconfig={config}", f"--context={name}", *arguments] for name in chosen}


def _progress(count: int) -> Any:
    left = count

    def ended(said: Said) -> None:
        nonlocal left
        left -= 1
        if sys.stderr.isatty() and count > 1 and left:
            done(f"{said.cluster} answered; {left} to go")

    return ended


def _print_groups(groups: list[Group]) -> None:
    for place, group in enumerate(groups):
        head = f"{len(group.clusters)} clusters" if len(group.clusters) > 1 else "1 cluster"
        failed = f", exit code {group.code}" if group.code else ""
        out.print(Text(f"== {head}: {', '.join(group.clusters)}{failed}", style="bold"))
        for text in (group.stdout, group.stderr):
            for line in text.splitlines():
                out.print(Text(printable(line)))
        if place + 1 < len(groups):
            out.print()


def default_container(api: ClusterApi, namespace: str, pod: str) -> str:
    """Return the container that kubectl would take: the pod's own word, else the first."""
    found = api.get(_pod(namespace, pod))
    named = (found["metadata"].get("annotations") or {}).get(DEFAULT_CONTAINER)
    return str(named or found["spec"]["containers"][0]["name"])


def _pod(namespace: str, pod: str) -> str:
    return f"/api/v1/namespaces/{quoted(namespace)}/pods/{quoted(pod)}"


def _print_access(found: dict[str, Any]) -> None:
    if found["user"]:
        done(f"inside {found['cluster']} this is {found['user']}, with the groups {', '.join(found['groups'])}")
    show_list(found["answers"], Format.TABLE, ACCESS_COLUMNS, empty="nothing")


ACCESS_COLUMNS: list[Column] = [
    ("RESOURCE", lambda one: one["resource"]),
    ("VERB", lambda one: one["verb"]),
    ("ALLOWED", lambda one: one["allowed"]),
    ("ROLE", lambda one: one["role"]),
    ("WHERE", lambda one: one["where"]),
    ("RULE", lambda one: one["rule"] + (f" ({one['risk']})" if one["risk"] else "")),
]
