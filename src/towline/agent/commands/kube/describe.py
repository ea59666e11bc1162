"""`kubectl describe`: an object told in sections, its events behind it. Our own form; secrets show sizes alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import yaml

from towline.agent.commands.cluster import Rejected
from towline.agent.commands.invocation import Invocation
from towline.agent.commands.kube.objects import Chosen, Object, Selector, chosen, indented, items
from towline.agent.commands.tables import Table, age
from towline.commandline.kubectl import EVENTS, OF_CLUSTER

MOST_EVENTS = 50
"""Events of one object, the newest: an API server keeps an hour of them."""

LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
"""An annotation that repeats the object, the values of a Secret included: never shown."""


async def describe(invocation: Invocation) -> None:
    """Print everything about objects. Raises: CommandEnds: the first that is not there."""
    missing: Rejected | None = None
    is_first = True
    for each in await chosen(invocation):
        try:
            found = await invocation.cluster.get(each.path())
        except Rejected as error:
            if missing is not None:
                invocation.output.error(str(missing))
            missing = error
            continue
        if not is_first:
            invocation.output.line("\n")
        is_first = False
        for line in sections(found):
            invocation.output.line(line)
        if invocation.plan.parsed.text("show-events", "true") == "true":
            await _events(invocation, each, found)
    if missing is not None:
        raise missing


def sections(found: Object) -> Iterator[str]:
    """Yield an object as lines."""
    metadata = found["metadata"]
    yield f"Name:         {metadata['name']}"
    if metadata.get("namespace"):
        yield f"Namespace:    {metadata['namespace']}"
    yield f"Kind:         {found.get('kind', '')} ({found.get('apiVersion', '')})"
    yield f"Created:      {metadata.get('creationTimestamp', '')}"
    if metadata.get("deletionTimestamp"):
        yield f"Terminating:  since {metadata['deletionTimestamp']}"
    owner = next((one for one in metadata.get("ownerReferences") or () if one.get("controller")), None)
    if owner is not None:
        yield f"Controlled By: {owner['kind']}/{owner['name']}"
    yield from _pairs("Labels", metadata.get("labels"))
    yield from _pairs("Annotations", metadata.get("annotations"))
    if found.get("kind") == "Pod":
        yield from _pod(found)
    yield from _conditions((found.get("status") or {}).get("conditions"))
    yield from _rest(found)


def _pairs(title: str, values: dict[str, str] | None) -> Iterator[str]:
    if not values:
        yield f"{title}: <none>"
        return
    yield f"{title}:"
    for name, value in sorted(values.items()):
        if name == LAST_APPLIED:
            continue
        yield f"  {name}={value if len(value) <= 200 else value[:200] + '…'}"


def _pod(found: Object) -> Iterator[str]:
    spec, status = found["spec"], found.get("status") or {}
    yield f"Node:         {spec.get('nodeName', '<none>')}"
    yield f"Status:       {status.get('phase', '')}{_because(status)}"
    yield f"IP:           {status.get('podIP', '<none>')}"
    known = {one["name"]: one for key in _STATUSES for one in status.get(key) or ()}
    for title, key in (("Init Containers", "initContainers"), ("Containers", "containers")):
        if spec.get(key):
            yield f"{title}:"
            for container in spec[key]:
                yield from indented("\n".join(_container(container, known.get(container["name"], {}))), 2)


_STATUSES = ("initContainerStatuses", "containerStatuses")


def _container(container: Object, status: Object) -> Iterator[str]:
    yield f"{container['name']}:"
    yield f"  Image:      {container.get('image', '')}"
    if container.get("command") or container.get("args"):
        yield f"  Command:    {[*(container.get('command') or ()), *(container.get('args') or ())]}"
    for title, key in (("State", "state"), ("Last State", "lastState")):
        for name, more in (status.get(key) or {}).items():
            yield f"  {title}: {name}{_because(more)}{_exit(more)}"
    yield f"  Ready:      {status.get('ready', False)}"
    yield f"  Restarts:   {status.get('restartCount', 0)}"
    for key, values in (container.get("resources") or {}).items():
        if isinstance(values, dict):
            yield f"  {key.capitalize()}: " + ", ".join(f"{name}={value}" for name, value in values.items())
    for mount in container.get("volumeMounts") or ():
        yield f"  Mount:      {mount['mountPath']} from {mount['name']}"


def _because(told: Object) -> str:
    words = ": ".join(part for part in (told.get("reason", ""), told.get("message", "")) if part)
    return f" ({words})" if words else ""


def _exit(told: Object) -> str:
    return f", exit code {told['exitCode']}" if "exitCode" in told else ""


def _conditions(conditions: list[Object] | None) -> Iterator[str]:
    if not conditions:
        return
    yield "Conditions:"
    table = Table(["Type", "Status", "Reason", "Message"])
    rows = [[one.get("type"), one.get("status"), one.get("reason", ""), one.get("message", "")] for one in conditions]
    yield from (f"  {line}" for line in table.lay_out(rows))


def _rest(found: Object) -> Iterator[str]:
    """Yield everything that has no section of its own."""
    is_secret = found.get("kind") == "Secret"
    for key, value in found.items():
        if key in ("apiVersion", "kind", "metadata") or value in (None, {}, []):
            continue
        if is_secret and key in ("data", "stringData"):
            yield "Data:"
            yield from (f"  {name}: {len(str(text)) * 3 // 4} bytes" for name, text in value.items())
            continue
        if isinstance(value, dict):
            value = {name: inner for name, inner in value.items() if name != "conditions"}
        yield f"{key[0].upper()}{key[1:]}:"
        yield from indented(_yaml(value), 2)


def _yaml(value: Any) -> str:
    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    return str(yaml.dump(value, Dumper=dumper, default_flow_style=False, allow_unicode=True, width=4096))


async def _events(invocation: Invocation, each: Chosen, found: Object) -> None:
    fields = {"involvedObject.kind": found.get("kind", ""), "involvedObject.name": each.name}
    if found["metadata"].get("namespace"):
        fields["involvedObject.namespace"] = found["metadata"]["namespace"]
    selector = ",".join(f"{name}={value}" for name, value in fields.items())
    where = each.namespace if each.resource.namespaced else OF_CLUSTER
    told = [event async for event in items(invocation, EVENTS, Selector(fields=selector), namespace=where)]
    if not told:
        invocation.output.line("Events: <none>")
        return
    told.sort(key=_moment)
    now = invocation.clock.now()
    table = Table(["Type", "Reason", "Age", "From", "Message"])
    rows = [_event_row(event, age(_moment(event), now)) for event in told[-MOST_EVENTS:]]
    invocation.output.line("Events:")
    for line in table.lay_out(rows):
        invocation.output.line(f"  {line}")


def _moment(event: Object) -> str:
    last = (event.get("series") or {}).get("lastObservedTime")
    return str(last or event.get("lastTimestamp") or event.get("eventTime") or "")


def _event_row(event: Object, how_long: str) -> list[Any]:
    count = (event.get("series") or {}).get("count") or event.get("count") or 1
    source = event.get("reportingComponent") or (event.get("source") or {}).get("component", "")
    times = f" (x{count})" if count > 1 else ""
    return [event.get("type", ""), event.get("reason", ""), f"{how_long}{times}", source, event.get("message", "")]
