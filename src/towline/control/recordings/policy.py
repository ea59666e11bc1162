"""What is recorded, by a cluster's own rules over the settings. Pure.

Two things are decided here once: whether a session is recorded, and what happens to it when it cannot be.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from typing import Any

COMMAND_CHARACTERS = 4000
"""Of the command in the list; the audit log holds its words one by one."""


class Mode(StrEnum):
    """Which sessions are recorded."""

    OFF = "off"
    INTERACTIVE = "interactive"
    """Those that take input: with a terminal, or with standard input open. On Docker hosts it always is."""
    ALL = "all"


class OnLoss(StrEnum):
    """What a session does whose recording cannot go on: a slow or full disk, a limit."""

    CONTINUE = "continue"
    END = "end"


class OnUnreadable(StrEnum):
    """What happens to a session in a protocol that cannot be read along."""

    REFUSE = "refuse"
    UNRECORDED = "unrecorded"


@dataclass(frozen=True, slots=True)
class Policy:
    """The rules of one cluster."""

    mode: Mode = Mode.OFF
    namespaces: tuple[str, ...] = ()
    """Only these, on Kubernetes; empty: all."""
    on_loss: OnLoss = OnLoss.CONTINUE
    on_unreadable: OnUnreadable = OnUnreadable.REFUSE
    keys: bool = False
    """What is typed as well. Off, because people type passwords."""
    minutes: int = 480
    """Longest recording; what comes after it is a loss."""
    keep_days: int = 90

    @property
    def is_strict(self) -> bool:
        """True when nothing may happen unrecorded."""
        return self.on_loss is OnLoss.END

    def wants(self, session: Session) -> bool:
        """Tell whether a session is recorded."""
        if self.mode is Mode.OFF or (self.mode is Mode.INTERACTIVE and not session.is_interactive):
            return False
        return not self.namespaces or session.kind != "kubernetes" or session.namespace in self.namespaces

    def with_rules(self, rules: Mapping[str, Any]) -> Policy:
        """Return these rules as a cluster changes them."""
        changes = {key: _TYPES[key](value) for key, value in rules.items() if key in _TYPES and value is not None}
        return replace(self, **changes)

    def as_json(self) -> dict[str, Any]:
        """Return every rule by its name."""
        found = {one.name: getattr(self, one.name) for one in fields(self)}
        return found | {"namespaces": list(self.namespaces)}


def _names(value: Sequence[str]) -> tuple[str, ...]:
    return tuple(str(name) for name in value)


_TYPES: Mapping[str, Any] = {
    "mode": Mode, "namespaces": _names, "on_loss": OnLoss, "on_unreadable": OnUnreadable, "keys": bool,
    "minutes": int, "keep_days": int,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Session:
    """What somebody opens, in the words of its recording."""

    kind: str
    cluster_id: str
    cluster_name: str
    action: str = "exec"
    namespace: str = ""
    project: str = ""
    target: str = ""
    container: str = ""
    argv: Sequence[str] = field(default=())
    tty: bool = False
    takes_input: bool = True
    columns: int = 80
    rows: int = 24

    @property
    def is_interactive(self) -> bool:
        return self.tty or self.takes_input

    @property
    def command(self) -> str:
        """The argument list as people read it."""
        return " ".join(self.argv)[:COMMAND_CHARACTERS]
