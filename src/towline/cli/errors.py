"""What can go wrong on the command line, and the exit code each becomes.

Exit codes: 0 done, 1 failed, 2 usage, 3 not allowed, 4 not found, 5 away or timed out.
"""

from typing import Any

DONE, FAILED, USAGE, NOT_ALLOWED, NOT_FOUND, AWAY = range(6)

_BY_CLOSE = {4400: USAGE, 4403: NOT_ALLOWED, 4502: FAILED, 4503: AWAY}
"""Close codes of the server's WebSockets: bad frame, not allowed, the agent could not, the stream broke."""
_BY_STATUS = {401: NOT_ALLOWED, 403: NOT_ALLOWED, 404: NOT_FOUND, 408: AWAY, 422: USAGE, 503: AWAY, 504: AWAY}


class CliError(Exception):
    """A failure with a message for people, what to do about it, and an exit code."""

    def __init__(self, message: str, *, hint: str = "", code: int = FAILED, problems: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.message, self.hint, self.code, self.problems = message, hint, code, problems


def from_answer(status: int, body: Any, *, request: str) -> CliError:
    """Translate an API error, `{"error": {code, message, hint, detail}}`, or whatever came instead of one."""
    error = body.get("error") if isinstance(body, dict) else None
    if not isinstance(error, dict):
        return CliError(f"the server answered {status} to {request}", code=_BY_STATUS.get(status, FAILED))
    detail = error.get("detail") or {}
    message = str(error.get("message") or f"the server answered {status}")
    problems = [_problem(entry) for entry in detail.get("problems", ()) if isinstance(entry, dict)]
    forbidden = detail.get("reason") == "forbidden"  # by the host's own policy
    return CliError(
        message,
        hint=str(error.get("hint") or ""),
        code=NOT_ALLOWED if forbidden else _BY_STATUS.get(status, FAILED),
        problems=tuple(problem for problem in problems if not _says(message, problem)),
    )


def from_close(code: int, reason: str) -> CliError:
    """Translate the end of a WebSocket that was not the other side's good-bye."""
    return CliError(reason or "the connection through the cluster broke", code=_BY_CLOSE.get(code, AWAY))


def _says(message: str, problem: str) -> bool:
    """Tell whether the message is this very problem: servers repeat the first one as their message."""
    return problem.partition(" (")[0] in message


def _problem(entry: dict[str, Any]) -> str:
    where = f"line {entry['line']}: " if entry.get("line") else ""
    path = f" ({entry['path']})" if entry.get("path") else ""
    return f"{where}{entry.get('message', '')}{path}"
