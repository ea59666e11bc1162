"""Reading objects for verbs: one by name, or page by page by selector."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from towline.agent.commands.cluster import JSON, Query, Rejected, path_of
from towline.agent.commands.discovery import resolve
from towline.agent.commands.invocation import Invocation
from towline.commandline.plan import Plan, Target
from towline.commandline.resources import Resource

PAGE = 100
"""Whole objects of one page: a megabyte of usual pods, so that no list is ever held whole."""
ROWS = 500
"""Rows of a page of a table, as kubectl asks for."""

Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Chosen:
    """One object to do something to."""

    resource: Resource
    namespace: str
    name: str

    @property
    def shown(self) -> str:
        return f"{self.resource.shown}/{self.name}"

    def path(self, subresource: str = "", query: Query | None = None) -> str:
        return path_of(self.resource, self.namespace, self.name, subresource, query)


class Selector(NamedTuple):
    """Which objects of a list are wanted; empty texts leave nothing out."""

    labels: str = ""
    fields: str = ""


EVERY = Selector()


def selected(plan: Plan) -> Selector:
    """Return the plan's selectors."""
    return Selector(plan.parsed.text("selector"), plan.parsed.text("field-selector"))


async def pages(
    invocation: Invocation,
    resource: Resource,
    selector: Selector = EVERY,
    *,
    accept: str = JSON,
    namespace: str | None = None,
    size: int = PAGE,
) -> AsyncIterator[Object]:
    """Yield the pages of a list."""
    where = invocation.plan.namespace if namespace is None else namespace
    more = ""
    while True:
        selected = {"labelSelector": selector.labels, "fieldSelector": selector.fields}
        target = path_of(resource, where, query={**selected, "limit": size, "continue": more})
        page = await invocation.cluster.get(target, accept=accept)
        yield page
        more = str(page.get("metadata", {}).get("continue") or "")
        if not more:
            return


async def items(
    invocation: Invocation, resource: Resource, selector: Selector = EVERY, *, namespace: str | None = None
) -> AsyncIterator[Object]:
    """Yield the objects that a selector finds."""
    async for page in pages(invocation, resource, selector, namespace=namespace):
        for item in page.get("items") or ():
            yield item


async def chosen(invocation: Invocation, *, needs_one: bool = True) -> list[Chosen]:
    """Return the objects that the plan means. A selector that finds none is told on the standard error."""
    plan = invocation.plan
    found: list[Chosen] = []
    for target in plan.targets:
        resource = await resolve(invocation.cluster, target.resource)
        found += [Chosen(resource, plan.namespace, name) for name in target.names]
        if not target.names:
            async for item in items(invocation, resource, selected(plan)):
                metadata = item["metadata"]
                found.append(Chosen(resource, metadata.get("namespace", ""), metadata["name"]))
    if not found and needs_one:
        invocation.output.error("No resources found" + (f" in {plan.namespace} namespace." if plan.namespace else "."))
    return found


async def read_named(invocation: Invocation, target: Target, *, accept: str = JSON) -> AsyncIterator[Object]:
    """Yield the named objects of a target; those that are not there are told when the others have been shown.

    Raises: Rejected: the first that was not found.
    """
    ignores = invocation.plan.parsed.has("ignore-not-found")
    missing: Rejected | None = None
    for name in target.names:
        try:
            yield await invocation.cluster.get(path_of(target.resource, invocation.plan.namespace, name), accept=accept)
        except Rejected as error:
            if error.status != 404:
                raise
            if not ignores:
                missing = missing or error
                if error is not missing:
                    invocation.output.error(str(error))
    if missing is not None:
        raise missing


def kind_of(resource: Resource, body: Object) -> Object:
    """Return an object of a list with its apiVersion and kind, which lists leave out."""
    return {"apiVersion": resource.api_version, "kind": resource.kind, **body}


def indented(text: str, blanks: int) -> Iterator[str]:
    for line in text.splitlines():
        yield " " * blanks + line if line else line
