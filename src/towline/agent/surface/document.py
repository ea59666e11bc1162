"""The OpenAPI document of the surface, from what the endpoints declare. `make docs` writes it into docs/reference."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import towline
from towline.agent.surface.endpoints import MOST_TEXT, Endpoint, Kind, Parameter, Right
from towline.agent.surface.errors import STATUSES

OPENAPI = "3.1.0"
_IN_PATH = re.compile(r"\{(\w+)\}")
_ERROR = {"$ref": "#/components/schemas/Error"}

ERROR_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["code", "message", "hint", "detail", "request_id"],
            "properties": {
                "code": {"type": "string", "enum": list(STATUSES)},
                "message": {"type": "string"},
                "hint": {"type": "string"},
                "detail": {"type": "object"},
                "request_id": {"type": "string"},
            },
        }
    },
}


def document(endpoints: Iterable[Endpoint]) -> dict[str, Any]:
    """Return the document."""
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in endpoints:
        paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = operation(endpoint)
    return {
        "openapi": OPENAPI,
        "info": {
            "title": "Towline agent: local surface",
            "version": towline.__version__,
            "description": "What the agent of a host or cluster answers to people and programs on it.",
        },
        "servers": [{"url": "http://127.0.0.1:8080"}],
        "paths": paths,
        "components": {
            "schemas": {"Error": ERROR_SCHEMA},
            "securitySchemes": {
                "read": {"type": "http", "scheme": "bearer", "description": "A local token of either right."},
                "operate": {"type": "http", "scheme": "bearer", "description": "The local token that operates."},
                "ticket": {
                    "type": "apiKey",
                    "in": "query",
                    "name": "ticket",
                    "description": "Good once and for 30 seconds; POST /api/tickets gives it.",
                },
            },
        },
    }


def operation(endpoint: Endpoint) -> dict[str, Any]:
    """Return what the document says of one endpoint."""
    found: dict[str, Any] = {
        "operationId": f"{endpoint.method.lower()}_{re.sub(r'[^a-z0-9]+', '_', endpoint.path.lower()).strip('_')}",
        "summary": endpoint.summary,
        "security": _security(endpoint),
        "responses": _responses(endpoint),
        "x-codeSamples": [{"lang": "Shell", "source": f"curl -sS {endpoint.curl}"}],
    }
    if parameters := [*_path_parameters(endpoint), *_query_parameters(endpoint)]:
        found["parameters"] = parameters
    if endpoint.body is not None:
        found["requestBody"] = {"required": True, "content": {"application/json": {"schema": endpoint.body}}}
    return found


def _security(endpoint: Endpoint) -> list[dict[str, list[str]]]:
    if endpoint.right is Right.OPEN:
        return []
    named = "read" if endpoint.right is Right.READ else "operate"
    ways = (named, "ticket") if endpoint.takes_ticket else (named,)
    return [{way: []} for way in ways]


def _responses(endpoint: Endpoint) -> dict[str, Any]:
    good = "101" if endpoint.path == "/ws" else "201" if endpoint.path == "/api/tickets" else "200"
    content: dict[str, Any] = {}
    if good != "101":
        content = {"content": {endpoint.answer: {"schema": _answer_schema(endpoint)}}}
    refusals = {"400": "A parameter or the body cannot be used.", "503": "Something that this needs does not answer."}
    if endpoint.right is not Right.OPEN:
        refusals |= {"401": "No token, or no good one.", "403": "The token, or this host's policy, does not allow it."}
    errors = {
        status: {"description": about, "content": {"application/json": {"schema": _ERROR}}}
        for status, about in sorted(refusals.items())
    }
    if endpoint.path == "/ready":  # the same answer, with what is missing
        errors["503"] = {"description": "Something that is required is down.", **content}
    return {good: {"description": endpoint.summary, **content}, **errors}


def _answer_schema(endpoint: Endpoint) -> dict[str, Any]:
    if endpoint.answers is not None:
        return endpoint.answers
    if endpoint.answer != "application/json":
        return {"type": "string"}
    shape: dict[str, Any] = {"type": "object"}
    if endpoint.fields:
        shape |= {"required": list(endpoint.fields), "properties": {name: {} for name in endpoint.fields}}
    return shape


def _path_parameters(endpoint: Endpoint) -> list[dict[str, Any]]:
    declared = {parameter.name: parameter for parameter in endpoint.parameters}
    return [
        {"in": "path", "required": True, **_parameter(declared.get(name, Parameter(name, f"Name of the {name}.")))}
        for name in _IN_PATH.findall(endpoint.path)
    ]


def _query_parameters(endpoint: Endpoint) -> list[dict[str, Any]]:
    in_path = set(_IN_PATH.findall(endpoint.path))
    return [{"in": "query", **_parameter(each)} for each in endpoint.parameters if each.name not in in_path]


def _parameter(each: Parameter) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": each.kind.value}
    if each.kind in (Kind.WHOLE, Kind.NUMBER):
        schema |= {"minimum": each.least, "maximum": each.most}
    elif each.kind is Kind.TEXT:
        schema["maxLength"] = min(MOST_TEXT, int(each.most))
    if each.choices:
        schema["enum"] = list(each.choices)
    if each.default is not None:
        schema["default"] = each.default
    return {"name": each.name, "description": each.about, "schema": schema}
