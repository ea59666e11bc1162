"""Structured logs of the control plane: one line per fact, with the ids of the request, agent, cluster, job and
stream that are bound to the current context, and without secrets.

What a secret looks like is decided here once: our own tokens by their checksum, and values by the name of their key.
"""

from __future__ import annotations

import logging
import re
import sys
import zlib
from collections.abc import Mapping
from typing import Any, Literal, cast

import structlog
from structlog.typing import EventDict, WrappedLogger

TOKEN_PREFIXES = ("twl", "tws", "twj", "tww", "twx", "twt", "twk")
"""User, service, join, webhook, setup and ticket."""
TOKEN_PATTERN = re.compile(r"\b(tw[a-z])_([0-9A-Za-z]{36})([0-9A-Za-z]{6})\b")
SECRET_KEYS = re.compile(
    r"(authorization|cookie|password|passwd|secret|token|passphrase|private_key|csrf)", re.IGNORECASE
)
PUBLIC_KEYS = frozenset({"token_id", "token_kind", "token_file", "secret_names", "join_token_id", "token_name"})
"""Names that look secret and are not."""
BLOT = "[redacted]"
BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
DEEPEST = 12
"""Levels of a value that are looked into; what lies deeper is blotted out whole."""


def checksum(text: str) -> str:
    """Return the six base-62 digits of the CRC-32 that end each of our tokens."""
    value = zlib.crc32(text.encode("ascii"))
    digits = ""
    for _ in range(6):
        value, digit = divmod(value, 62)
        digits = BASE62[digit] + digits
    return digits


def redact_text(text: str) -> str:
    """Blot out every token of ours in a text; the prefix stays, so that a reader knows what it was."""
    if "tw" not in text:
        return text
    return TOKEN_PATTERN.sub(_blot_token, text)


def _blot_token(match: re.Match[str]) -> str:
    prefix, body, check = match.groups()
    known = prefix in TOKEN_PREFIXES and checksum(f"{prefix}_{body}") == check
    return f"{prefix}_{BLOT}" if known else match.group()


def redact_value(value: Any, depth: int = 0) -> Any:
    """Return a copy without secrets, for logs and the audit log."""
    if isinstance(value, str):
        return redact_text(value)
    if depth >= DEEPEST:
        return BLOT
    if isinstance(value, Mapping):
        return {str(key): _redact_item(str(key), item, depth) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [redact_value(item, depth + 1) for item in value]
    return value


def _redact_item(key: str, value: Any, depth: int) -> Any:
    if SECRET_KEYS.search(key) and key not in PUBLIC_KEYS and value not in ("", None, False, True):
        return BLOT
    return redact_value(value, depth + 1)


def _redact_event(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    return cast(EventDict, redact_value(event))


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """Return the logger of one area."""
    return cast(structlog.stdlib.BoundLogger, structlog.get_logger(f"towline.{name}"))


def bind(**ids: str) -> None:
    """Bind ids (`request`, `agent`, `cluster`, `job`, `stream`) to what the current task logs."""
    structlog.contextvars.bind_contextvars(**ids)


def configure(level: str = "info", shape: Literal["auto", "json", "console"] = "auto") -> None:
    """Send every log line, also of libraries, to standard error in one shape. Call once per process."""
    lines = shape == "json" or (shape == "auto" and not sys.stderr.isatty())
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
        _redact_event,
    ]
    renderer: Any = (
        structlog.processors.JSONRenderer() if lines else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        # What will not be written is not prepared either: every background task has a debug line for its end.
        processors=[structlog.stdlib.filter_by_level, *shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for noisy in ("uvicorn", "aiosqlite", "asyncio", "sqlalchemy.engine", "alembic", "websockets", "httpx"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    logging.getLogger("uvicorn.error").addFilter(is_no_denial)


def is_no_denial(record: logging.LogRecord) -> bool:
    """Tell whether a line of uvicorn's is news: it counts each WebSocket that we refused as an error."""
    return record.getMessage() != "ASGI callable returned without completing handshake."
