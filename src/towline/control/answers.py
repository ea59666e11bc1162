"""How errors leave the API: one JSON shape for all, an audit event for refused changes, and never the input itself.

The codes and their statuses are in `errors.py`; this is the only module that turns them into HTTP.
"""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError, WebSocketRequestValidationError
from sqlalchemy.exc import DBAPIError
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse, Response
from starlette.websockets import WebSocket, WebSocketState

from towline.control import web
from towline.control.db import translate
from towline.control.errors import ApiError, ErrorCode
from towline.control.logging import get_logger

_log = get_logger("api")

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
REFUSALS = frozenset({ErrorCode.FORBIDDEN, ErrorCode.CROSS_SITE})
HTTP_CODES = {
    400: ErrorCode.BAD_REQUEST,
    401: ErrorCode.UNAUTHENTICATED,
    403: ErrorCode.FORBIDDEN,
    404: ErrorCode.NOT_FOUND,
    405: ErrorCode.METHOD_NOT_ALLOWED,
    413: ErrorCode.TOO_LARGE,
    422: ErrorCode.INVALID,
}
CLOSE_REFUSED = 4403
"""WebSocket close code once a stream was open: the reason says why."""
CLOSE_REASON_BYTES = 120
"""A close reason holds 123 bytes. Source: RFC 6455, section 5.5."""
PROBLEMS_SHOWN = 20
"""Problems of one request that are listed: enough to fix a form, too few to flood a client."""


def install(app: FastAPI) -> None:
    """Answer every error of an app in our shape."""
    handlers: dict[type[Exception], Any] = {  # one handler serves requests and WebSockets: Any, for Starlette's types
        ApiError: _answer,
        RequestValidationError: _answer_invalid,
        WebSocketRequestValidationError: _answer_invalid,
        HTTPException: _answer_http,
        DBAPIError: _answer_database,
        Exception: _answer_unexpected,
    }
    for kind, handler in handlers.items():
        app.add_exception_handler(kind, handler)


def request_id(connection: HTTPConnection) -> str:
    """Return the id that the caller is shown and that our log lines carry."""
    return str(getattr(connection.state, "request_id", ""))


def response(error: ApiError, connection: HTTPConnection | None = None) -> JSONResponse:
    """Return the HTTP answer for an error."""
    headers = {"cache-control": "no-store"}
    if error.code is ErrorCode.UNAUTHENTICATED:
        headers["www-authenticate"] = 'Bearer realm="towline"'
    if error.code is ErrorCode.THROTTLED:
        headers["retry-after"] = str(max(1, round(error.detail.get("retry_after", 1))))
    if error.code is ErrorCode.METHOD_NOT_ALLOWED and "allow" in error.detail:
        headers["allow"] = str(error.detail["allow"])
    return JSONResponse(error.body("" if connection is None else request_id(connection)), error.status, headers)


async def _answer(connection: HTTPConnection, error: Exception) -> Response | None:
    assert isinstance(error, ApiError)
    if error.code is ErrorCode.THROTTLED:
        connection.app.state.control.metrics.throttled.inc()
    if error.code in REFUSALS:
        await _record_refusal(connection, error)
    return await _send(connection, error)


async def _answer_invalid(connection: HTTPConnection, error: Exception) -> Response | None:
    assert isinstance(error, RequestValidationError | WebSocketRequestValidationError)
    problems = [_problem(entry) for entry in error.errors()[:PROBLEMS_SHOWN]]
    first = problems[0] if problems else {"where": "request", "message": "is invalid"}
    message = f"{first['where']}: {first['message']}"
    return await _send(connection, ApiError(ErrorCode.INVALID, message, detail={"problems": problems}))


def _problem(entry: dict[str, Any]) -> dict[str, str]:
    """Name the field and what is wrong with it. What was sent may be a secret, so it is left out."""
    where = ".".join(str(part) for part in entry.get("loc", ()) if part != "body") or "body"
    return {"where": where[:200], "message": str(entry.get("msg", "is invalid")).removeprefix("Value error, ")[:300]}


async def _answer_http(connection: HTTPConnection, error: Exception) -> Response | None:
    assert isinstance(error, HTTPException)
    code = HTTP_CODES.get(error.status_code, ErrorCode.INTERNAL if error.status_code >= 500 else ErrorCode.BAD_REQUEST)
    allowed = {name.lower(): value for name, value in (error.headers or {}).items()}.get("allow")
    message = {404: "there is nothing at this address", 405: "this address does not take that method"}
    text = message.get(error.status_code, str(error.detail))
    return await _send(connection, ApiError(code, text, detail={"allow": allowed} if allowed else None))


async def _answer_database(connection: HTTPConnection, error: Exception) -> Response | None:
    translated = translate(error)
    return await (_send(connection, translated) if translated else _answer_unexpected(connection, error))


async def _answer_unexpected(connection: HTTPConnection, error: Exception) -> Response | None:
    _log.error("request failed", request=request_id(connection), exc_info=error)
    text = "the server failed; its log tells more under this request id"
    return await _send(connection, ApiError(ErrorCode.INTERNAL, text))


async def _send(connection: HTTPConnection, error: ApiError) -> Response | None:
    if isinstance(connection, Request) and web.wants_page(connection):
        return web.error_page(connection, error)
    answer = response(error, connection)
    if not isinstance(connection, WebSocket):
        return answer
    if connection.application_state is WebSocketState.CONNECTING:
        await connection.send_denial_response(answer)
    elif connection.application_state is WebSocketState.CONNECTED:
        reason = error.message.encode()[:CLOSE_REASON_BYTES].decode(errors="ignore")
        await connection.close(CLOSE_REFUSED, reason)
    return None


async def _record_refusal(connection: HTTPConnection, error: ApiError) -> None:
    """Put a refused change, or a refused stream, on record."""
    actor = getattr(connection.state, "actor", None)
    changes = isinstance(connection, WebSocket) or (
        isinstance(connection, Request) and connection.method not in SAFE_METHODS
    )
    if actor is None or not changes:
        return
    control = connection.app.state.control
    route = connection.scope.get("route")
    method = connection.method if isinstance(connection, Request) else "WEBSOCKET"
    try:
        await control.audit.record(
            control.db,
            actor,
            action=f"{method} {getattr(route, 'path', '')}",
            target_name=str(connection.scope.get("path", ""))[:200],
            result="refused",
            reason=error.message,
        )
    except ApiError as failure:
        _log.error("refusal not recorded", why=failure.message)
