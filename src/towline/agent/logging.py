"""The agent's log: one line per event, as JSON or as text. Tracebacks carry no local variables, which hold secrets."""

from __future__ import annotations

import logging
import sys

import structlog

from towline.agent.errors import SettingsError

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
            _renderer(as_text),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=False,
    )


def _renderer(as_text: bool) -> structlog.typing.Processor:
    if as_text:
        return structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
    return structlog.processors.JSONRenderer()
