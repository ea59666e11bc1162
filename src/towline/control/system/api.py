"""REST routes about the server itself: health, readiness, version, figures, and the API's own documentation."""

from typing import Annotated, Any

from fastapi import APIRouter, Request, Response
from fastapi.openapi.utils import get_openapi
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse
from fastapi.routing import iter_route_contexts
from pydantic import BaseModel

from towline import __version__
from towline.control.access.dependencies import Access, Permission, declaration, needs, public
from towline.control.errors import ApiError, ErrorCode
from towline.control.system import docs
from towline.control.system.commit import commit
from towline.control.system.readiness import checks

router = APIRouter(tags=["system"])


class VersionOut(BaseModel):
    version: str
    commit: str
    api: str = "v1"


class CheckOut(BaseModel):
    name: str
    ok: bool
    reason: str


class ReadyOut(BaseModel):
    ready: bool
    checks: list[CheckOut]


@router.get("/healthz", dependencies=[public("says only that the process answers")])
async def healthz() -> dict[str, str]:
    """Say that the process answers. Restart it when this fails."""
    return {"status": "ok"}


@router.get("/readyz", dependencies=[public("balancers ask it; says nothing about anybody")])
async def readyz(request: Request, response: Response) -> ReadyOut:
    """Say whether requests can be served, and if not, why."""
    found = await checks(request.app.state.control)
    ready = all(check.ok for check in found)
    response.status_code = 200 if ready else 503
    return ReadyOut(ready=ready, checks=[CheckOut(name=one.name, ok=one.ok, reason=one.reason) for one in found])


@router.get("/api/v1/version", dependencies=[public("clients ask it before they sign in")])
async def version() -> VersionOut:
    """Say which release this is."""
    return VersionOut(version=__version__, commit=commit())


@router.get(
    "/metrics",
    response_class=PlainTextResponse,
    dependencies=[public("checks by itself: loopback, a token, or a setting")],
)
async def metrics(request: Request) -> Response:
    """Figures for Prometheus: to loopback, to a token that may see clusters, or to anybody if so set."""
    control = request.app.state.control
    if not control.settings.metrics_public and not _is_loopback(request):
        access = await control.access.authenticate(request, throttled=False)
        if not access.rights.gives(Permission.CLUSTER_READ):
            raise ApiError(ErrorCode.FORBIDDEN, "you may not see figures")
    body, kind = control.metrics.render()
    return Response(body, media_type=kind)


@router.get("/api/v1/openapi.json", include_in_schema=False, dependencies=[public("the same for everybody")])
async def openapi(request: Request) -> JSONResponse:
    """The API's description."""
    return JSONResponse(schema(request.app))


@router.get("/api/v1/docs", include_in_schema=False, dependencies=[public("the same for everybody")])
async def api_docs(request: Request) -> HTMLResponse:
    """The API's documentation as a page."""
    return docs.page(request.app.state.control)


@router.get("/api/v1/docs/start.js", include_in_schema=False, dependencies=[public("the same for everybody")])
async def api_docs_script() -> Response:
    """The script of that page: the content security policy allows none inside it."""
    return Response(docs.SCRIPT, media_type="text/javascript")


@router.get("/api/v1/system", tags=["system"])
async def system(request: Request, access: Annotated[Access, needs(Permission.CLUSTER_READ)]) -> dict[str, Any]:
    """What the settings page shows: release, database, certificate, limits. No secrets."""
    return dict(docs.about(request.app.state.control))


def schema(app: Any) -> dict[str, Any]:
    """Return the OpenAPI document, built once."""
    if app.openapi_schema is None:
        built = get_openapi(title="Towline", version=__version__, routes=app.routes, description=docs.DESCRIPTION)
        app.openapi_schema = docs.complete(built, public_routes(app))
    return dict(app.openapi_schema)


def public_routes(app: Any) -> set[tuple[str, str]]:
    """Return path and method of every route that needs nobody to be signed in."""
    return {
        (route.path or "", method.lower())
        for route in iter_route_contexts(app.routes)
        if declaration(route).startswith("public")
        for method in route.methods or ()
    }


def _is_loopback(request: Request) -> bool:
    return request.state.peer in ("127.0.0.1", "::1", "::ffff:127.0.0.1") or request.state.peer.startswith("127.")
