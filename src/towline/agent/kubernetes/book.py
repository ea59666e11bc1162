"""The inventory as it is told: entries by section, what changed since the last message, and messages small enough.

Nothing here knows where entries come from, or whether a link is up.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import msgspec

from towline.wire import link
from towline.wire.kube_inventory import MOST_ENTRIES, SECTIONS, About, Entry, Reference, Section, entry_key

PART_BYTES = 256 * 1024
"""Of one message, a quarter of what the link takes: job messages wait behind it."""

MOST_WAITING = 20_000
"""Entries without room that are kept for when there is some: of 10,000 sick pods all are told in the end, half of them
once the others are well; each takes about a kilobyte."""
UNWAITED: frozenset[Section] = frozenset({"events"})
"""Sections whose entries grow old: their table makes room itself."""

_encoder = msgspec.json.Encoder()


class Book:
    """Entries, and which of them changed.

    Args: on_change: called whenever something is to be told.
    """

    def __init__(self, on_change: Callable[[], None]) -> None:
        self._on_change = on_change
        self._entries: dict[Section, dict[str, Entry]] = {section: {} for section in SECTIONS}
        self._changed: set[tuple[Section, str]] = set()
        self._about = About()
        self._about_changed = False
        self._waiting: dict[Section, dict[str, Entry]] = {section: {} for section in SECTIONS}

    def __repr__(self) -> str:
        held = ", ".join(f"{len(entries)} {section}" for section, entries in self._entries.items())
        return f"<Book {held}, {len(self._changed)} changed>"

    @property
    def left_out(self) -> Counter[Section]:
        """How many entries wait for room, by section."""
        return Counter({section: len(waiting) for section, waiting in self._waiting.items() if waiting})

    @property
    def about(self) -> About:
        return self._about

    @about.setter
    def about(self, about: About) -> None:
        if about != self._about:
            self._about = about
            self._about_changed = True
            self._on_change()

    def get(self, section: Section, key: str) -> Entry | None:
        return self._entries[section].get(key)

    def has(self, section: Section, key: str) -> bool:
        return key in self._entries[section]

    def put(self, section: Section, entry: Entry) -> bool:
        """Add or change an entry. Returns: whether there is room for it."""
        entries, key = self._entries[section], entry_key(entry)
        known = entries.get(key)
        if known == entry:
            return True
        if known is None and len(entries) >= MOST_ENTRIES[section]:
            self._wait(section, key, entry)
            return False
        entries[key] = entry
        self._note(section, key)
        return True

    def remove(self, section: Section, key: str) -> None:
        """Take an entry away; one that waits gets its room."""
        entries, waiting = self._entries[section], self._waiting[section]
        waiting.pop(key, None)
        if entries.pop(key, None) is None:
            return
        self._note(section, key)
        if waiting:
            next_key = next(iter(waiting))
            entries[next_key] = waiting.pop(next_key)
            self._note(section, next_key)

    def _wait(self, section: Section, key: str, entry: Entry) -> None:
        waiting = self._waiting[section]
        if section not in UNWAITED and (key in waiting or len(waiting) < MOST_WAITING):
            waiting[key] = entry

    def _note(self, section: Section, key: str) -> None:
        self._changed.add((section, key))
        self._on_change()

    def clear(self, about: About) -> None:
        """Forget every entry; the next message should be a whole one."""
        for entries in (*self._entries.values(), *self._waiting.values()):
            entries.clear()
        self._changed.clear()
        self.about = about

    def snapshot(self) -> link.KubeInventory:
        """Return everything, and count it as told."""
        self.forget_changes()
        sections: dict[str, Any] = {section: tuple(entries.values()) for section, entries in self._entries.items()}
        return link.KubeInventory(full=True, about=self._about, **sections)

    def take(self) -> link.KubeInventory | None:
        """Return what changed, and count it as told; None when nothing did."""
        if not self._changed and not self._about_changed:
            return None
        found: dict[str, list[Entry]] = {}
        removed: list[Reference] = []
        for section, key in self._changed:
            entry = self._entries[section].get(key)
            if entry is None:
                removed.append(Reference(section=section, key=key))
            else:
                found.setdefault(section, []).append(entry)
        about = self._about if self._about_changed else None
        self.forget_changes()
        sections: dict[str, Any] = {section: tuple(entries) for section, entries in found.items()}
        return link.KubeInventory(full=False, about=about, removed=tuple(removed), **sections)

    def forget_changes(self) -> None:
        """Count everything as told."""
        self._changed.clear()
        self._about_changed = False


def size_of(message: link.KubeInventory) -> int:
    """Return how many entries a message tells or takes away."""
    return len(message.removed) + sum(len(getattr(message, section)) for section in SECTIONS)


def in_parts(message: link.KubeInventory) -> list[link.KubeInventory]:
    """Cut a message into ones of PART_BYTES at most. The first alone is `full`, and takes entries away."""
    parts: list[dict[str, Any]] = [{"full": message.full, "about": message.about, "removed": message.removed}]
    room = PART_BYTES - len(_encoder.encode(message.removed))
    for section in SECTIONS:
        for entry in getattr(message, section):
            room -= len(_encoder.encode(entry)) + 1
            if room < 0:
                parts.append({"full": False})
                room = PART_BYTES - len(_encoder.encode(entry)) - 1
            parts[-1].setdefault(section, []).append(entry)
    return [link.KubeInventory(**_frozen(part)) for part in parts]


def _frozen(part: dict[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in part.items()}
