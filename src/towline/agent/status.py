"""What the running agent leaves on disk for `towline agent status` and `doctor`: its link, as it last was."""

from __future__ import annotations

import contextlib
from pathlib import Path

import msgspec

FILE_NAME = "status.json"


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """Written when the link comes or goes."""

    pid: int
    version: str
    connected: bool
    server: str = ""
    cluster: str = ""
    since: float = 0.0
    """Seconds since the epoch."""
    last_error: str = ""
    reconnects: int = 0
    protocol: str = "towline"
    """What the control plane speaks; with another one the identity lies in a folder of its own."""
    standalone: bool = False
    """Whether it runs without a control plane, and needs none."""


def write(state_folder: Path, status: Status) -> None:
    """Replace the file; losing it in a crash is no loss."""
    aside = state_folder / f".{FILE_NAME}.new"
    with contextlib.suppress(OSError):
        aside.write_bytes(msgspec.json.encode(status))
        aside.replace(state_folder / FILE_NAME)


def read(state_folder: Path) -> Status | None:
    """Return what the agent wrote last; None when it never ran here."""
    try:
        return msgspec.json.decode((state_folder / FILE_NAME).read_bytes(), type=Status)
    except (OSError, msgspec.DecodeError):
        return None


def is_running(status: Status) -> bool:
    """Tell whether the process that wrote it is still an agent."""
    try:
        return b"towline" in Path(f"/proc/{status.pid}/cmdline").read_bytes()
    except OSError:
        return False
