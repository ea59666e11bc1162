"""The API's documentation: the OpenAPI document completed, and the page that shows it from vendored files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastapi.responses import HTMLResponse

from towline import __version__
from towline.control.errors import ErrorCode
from towline.control.system.commit import commit

if TYPE_CHECKING:
    from towline.control.app import ControlPlane

DESCRIPTION = (
    "One control plane for Docker hosts and clusters behind NAT. Send `Authorization: Bearer twl_…`. "
    "Every error has the shape of `Error`, with a stable code."
)
CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; font-src 'self' data:; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
)
"""Swagger UI sets styles on its own elements; scripts come from files alone."""
SCRIPT = """\
window.addEventListener("load", () => {
  SwaggerUIBundle({ url: "/api/v1/openapi.json", dom_id: "#docs", deepLinking: true, validatorUrl: null });
});
"""
PAGE = """\
<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Towline API</title>
<link rel="stylesheet" href="{style}"></head>
<body><div id="docs"></div><script src="{bundle}"></script><script src="/api/v1/docs/start.js"></script></body>
</html>
"""
ERROR_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["code", "message", "hint", "detail", "request_id"],
            "properties": {
                "code": {
                    "type": "string",
                    "description": "Stable word; the edge adds a few of its own for requests it cannot read.",
                    "examples": [code.value for code in ErrorCode],
                },
                "message": {"type": "string"},
                "hint": {"type": "string"},
                "detail": {"type": "object"},
                "request_id": {"type": "string"},
            },
        }
    },
}
METHODS = ("get", "post", "put", "patch", "delete")


def page(control: ControlPlane) -> HTMLResponse:
    """Return the page."""
    web = control.web
    body = PAGE.format(style=web.static_url("vendor/swagger-ui.css"), bundle=web.static_url("vendor/swagger-ui.js"))
    return HTMLResponse(body, headers={"Content-Security-Policy": CSP, "X-Content-Type-Options": "nosniff"})


def complete(document: dict[str, Any], public: set[tuple[str, str]]) -> dict[str, Any]:
    """Add what FastAPI cannot know: our error shape on every answer, and which routes need whom.

    Args: public: path and method of the routes that need nobody.
    """
    components = document.setdefault("components", {})
    components.setdefault("schemas", {})["Error"] = ERROR_SCHEMA
    components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    document["security"] = [{"token": []}]
    error = {
        "description": "See code",
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
    }
    for path, operations in document.get("paths", {}).items():
        for method in METHODS:
            if method in operations:
                answers = operations[method].setdefault("responses", {})
                answers.pop("422", None)
                answers.setdefault("default", error)
                if (path, method) in public:
                    operations[method]["security"] = []
    for unused in ("HTTPValidationError", "ValidationError"):
        components["schemas"].pop(unused, None)
    return document


def about(control: ControlPlane) -> dict[str, Any]:
    """Return what an operator wants to know of this server at a glance."""
    settings = control.settings
    return {
        "version": __version__,
        "commit": commit(),
        "database": control.db.url.get_backend_name(),
        "data_folder": str(settings.data_folder),
        "listen": settings.listen,
        "hostnames": settings.hostnames,
        "public_url": settings.public_url,
        "fingerprint": control.fingerprint,
        "keep_days": {
            name.removeprefix("keep_").removesuffix("_days"): getattr(settings, name)
            for name in type(settings).model_fields
            if name.startswith("keep_")
        },
    }
