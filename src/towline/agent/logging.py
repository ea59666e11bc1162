"""The agent's log: one line per event, as JSON or as text, without secrets.

Tracebacks carry no local variables, and every token of ours is blotted out by its shape and its check characters.
"""

from __future__ import annotations

import logging
import re
import sys
from typing import Any

import structlog
from structlog.typing import EventDict

from towline.agent.errors import SettingsError
from towline.wire import tokens

_TOKEN = re.compile(r"\btw[a-z]_[0-9A-Za-z]{42}\b")

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


def configure(level: str, form: str) -> None:
    """Set the log up. Raises: SettingsError: unknown level or form."""
    if level not in _LEVELS:
        raise SettingsError(f"log_level must be one of {', '.join(_LEVELS)}, not {level!r}")
    if form not in ("json", "text", "auto"):
        raise SettingsError(f"log_format must be json, text or auto, not {form!r}")
    as_text = form == "text" or (form == "auto" and sys.stderr.isatty())
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            _redact,
            _renderer(as_text),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=False,
    )


def _redact(_: Any, __: str, event: EventDict) -> EventDict:
    for name, value in event.items():
        if isinstance(value, str) and "tw" in value:
            event[name] = _TOKEN.sub(_blot, value)
    return event


def _blot(match: re.Match[str]) -> str:
    prefix = match[0].partition("_")[0]
    return f"{prefix}_…" if tokens.is_well_formed(match[0], prefix) else match[0]


def _renderer(as_text: bool) -> structlog.typing.Processor:
    if as_text:
        return structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
    return structlog.processors.JSONRenderer()
