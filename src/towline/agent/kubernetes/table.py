"""What the agent keeps of one kind of objects between two messages: as little as the inventory needs.

A table takes the objects of one watcher or of several (one per namespace) and writes entries into the `Book`; a feed is
one watcher's share of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from towline.agent.kubernetes.book import Book
from towline.agent.kubernetes.watches import State
from towline.kube import objects

T = TypeVar("T")
Held = TypeVar("Held", contravariant=True)
Turned = Callable[[State, str], None]
Allowed = Callable[[str], bool]


class Table(Generic[T]):
    """Which objects of one kind there are. Subclasses say what of them is told."""

    def __init__(self, book: Book, allowed: Allowed) -> None:
        self.book = book
        self._allowed = allowed
        """Says which namespaces the host's policy lets be told; empty: the cluster's own objects."""
        self.keys: set[str] = set()
        self.removed = 0
        """How many objects have gone since the beginning."""

    def key(self, found: T) -> str:
        metadata: objects.Metadata = found.metadata  # type: ignore[attr-defined]
        return f"{metadata.namespace}/{metadata.name}"

    def put(self, found: T) -> str:
        """Take an object as it is now. Returns: its key; empty for one that may not be told."""
        if not self._allowed(getattr(found.metadata, "namespace", "")):  # type: ignore[attr-defined]
            return ""
        key = self.key(found)
        self.keys.add(key)
        self.keep(key, found)
        return key

    def remove(self, key: str) -> None:
        if key in self.keys:
            self.keys.discard(key)
            self.removed += 1
            self.drop(key)

    def keep(self, key: str, found: T) -> None:
        raise AssertionError("each table says what it keeps")

    def drop(self, key: str) -> None:
        raise AssertionError("each table says what it drops")


class Holder(Protocol[Held]):
    """What a feed fills: a table, or whatever else keeps objects by key."""

    def key(self, found: Held) -> str: ...
    def put(self, found: Held) -> str: ...
    def remove(self, key: str) -> None: ...


class Feed(Generic[T]):
    """The sink of one watcher over its table: after a list, what the list did not hold is gone."""

    def __init__(self, table: Holder[T], turned: Turned) -> None:
        self._table = table
        self._turned = turned
        self._keys: set[str] = set()
        self._unseen: set[str] = set()

    def begin(self) -> None:
        self._unseen = set(self._keys)

    def put(self, found: T) -> None:
        key = self._table.put(found)
        if key:
            self._keys.add(key)
            self._unseen.discard(key)

    def remove(self, found: T) -> None:
        self._forget(self._table.key(found))

    def finish(self) -> None:
        for key in self._unseen:
            self._forget(key)
        self._unseen = set()

    def clear(self) -> None:
        """Take back everything that this watcher said."""
        for key in list(self._keys):
            self._forget(key)

    def heir(self, turned: Turned) -> Feed[T]:
        """Return a feed that goes on with what this one said; this one is not used any more."""
        found: Feed[T] = Feed(self._table, turned)
        found._keys = self._keys
        return found

    def turned(self, state: State, reason: str) -> None:
        self._turned(state, reason)

    def _forget(self, key: str) -> None:
        self._keys.discard(key)
        self._table.remove(key)
