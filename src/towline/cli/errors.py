"""What can go wrong on the command line, and the exit code each becomes.

Exit codes: 0 done, 1 failed, 2 usage, 3 not allowed, 4 not found, 5 away or timed out.
"""

from typing import Any

DONE, FAILED, USAGE, NOT_ALLOWED, NOT_FOUND, AWAY = range(6)

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
    problems = tuple(_problem(entry) for entry in detail.get("problems", ()) if isinstance(entry, dict))
    return CliError(
        str(error.get("message") or f"the server answered {status}"),
        hint=str(error.get("hint") or ""),
        code=_BY_STATUS.get(status, FAILED),
        problems=problems,
    )


def _problem(entry: dict[str, Any]) -> str:
    where = f"line {entry['line']}: " if entry.get("line") else ""
    path = f" ({entry['path']})" if entry.get("path") else ""
    return f"{where}{entry.get('message', '')}{path}"
