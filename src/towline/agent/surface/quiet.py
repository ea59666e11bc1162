"""Where aiohttp's own log goes: to ours, by the kind of trouble alone. Its texts quote what callers sent."""

from __future__ import annotations

import logging

import structlog

_log = structlog.get_logger("towline.agent")


class _Kinds(logging.Handler):
    """Tells which kind of exception it was, at the level that is off by default: anybody can cause these lines."""

    def emit(self, record: logging.LogRecord) -> None:
        kind = record.exc_info[0] if record.exc_info else None
        _log.debug("local request cannot be read", kind=kind.__name__ if kind else record.levelname)


def logger() -> logging.Logger:
    """Return the logger for aiohttp's server."""
    found = logging.Logger("towline.agent.surface", logging.INFO)  # of nobody else: nothing else sees its records
    found.addHandler(_Kinds())
    return found
