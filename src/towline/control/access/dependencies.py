"""What a handler writes in its signature: the permission that it needs, or that it is public and why.

    async def list_clusters(access: Annotated[Access, needs(Permission.CLUSTER_READ)]) -> …
    @router.get("/version", dependencies=[public("says only the version")])

`needs` lets in whoever holds the permission anywhere; the service asks `access.require` for the resource at hand.
A route without a declaration fails the start (`undeclared_routes`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from fastapi import Depends
from fastapi.dependencies.models import Dependant
from fastapi.routing import RouteContext, iter_route_contexts
from starlette.requests import HTTPConnection
from starlette.routing import BaseRoute

from towline.control.access.actor import Access, Actor, forbidden
from towline.control.access.permissions import Permission, Resource, Right, Rights, Role, Scope

__all__ = ["Access", "Actor", "Permission", "Resource", "Right", "Rights", "Role", "Scope", "needs", "public"]

DECLARATION = "towline_declaration"


def needs(permission: Permission, *, throttled: bool = True) -> Any:
    """Declare that a handler needs a permission, and give it the `Access` of the request.

    Args: throttled: count the request against the caller's rate; False for what a page asks for by itself.
    Raises (in the request): ApiError: unauthenticated, forbidden, cross_site, throttled.
    """

    async def authorise(connection: HTTPConnection) -> Access:
        access: Access = await connection.app.state.control.access.authenticate(connection, throttled=throttled)
        connection.state.actor, connection.state.access = access.actor, access
        if not access.rights.gives(permission):
            raise forbidden(permission)
        return access

    setattr(authorise, DECLARATION, f"needs {permission.value}")
    return Depends(authorise)


def public(reason: str) -> Any:
    """Declare that anybody may call this handler, and why that is right."""

    async def nothing() -> None:  # not a plain function: those are called in a thread
        return None

    setattr(nothing, DECLARATION, f"public: {reason}")
    return Depends(nothing)


def declaration(route: RouteContext) -> str:
    """Return what a route declares, `needs …` or `public: …`; empty when it declares nothing."""
    dependant: Dependant | None = getattr(route, "dependant", None) or getattr(route.original_route, "dependant", None)
    found = (
        [] if dependant is None else [text for call in _calls(dependant) if (text := getattr(call, DECLARATION, ""))]
    )
    return found[0] if found else ""


def undeclared_routes(routes: Sequence[BaseRoute]) -> list[str]:
    """Return the paths of routes that name neither a permission nor why they are public."""
    return [route.path or repr(route) for route in iter_route_contexts(routes) if not declaration(route)]


def _calls(dependant: Dependant) -> Iterator[Callable[..., Any]]:
    for inner in dependant.dependencies:
        if inner.call is not None:
            yield inner.call
        yield from _calls(inner)
