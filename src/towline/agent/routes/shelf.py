"""Objects of one kind by key, as the watches of the cluster fill them, and what happens when one of them changes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from towline.kube import traffic


class Named(Protocol):
    """An object with a name, and a namespace unless it is the whole cluster's."""

    @property
    def metadata(self) -> traffic.Metadata | traffic.NamedMetadata: ...


T = TypeVar("T", bound=Named)


class Shelf(Generic[T]):
    """Args: changed: called with the key of an object that was put or removed."""

    def __init__(self, changed: Callable[[str], None], prepare: Callable[[T], T] | None = None) -> None:
        self._changed = changed
        self._prepare = prepare
        self.objects: dict[str, T] = {}

    def __repr__(self) -> str:
        return f"<Shelf {len(self.objects)} objects>"

    def key(self, found: T) -> str:
        metadata = found.metadata
        return f"{metadata.namespace}/{metadata.name}" if metadata.namespace else metadata.name

    def put(self, found: T) -> str:
        """Take an object as it is now. Returns: its key."""
        key = self.key(found)
        self.objects[key] = found if self._prepare is None else self._prepare(found)
        self._changed(key)
        return key

    def remove(self, key: str) -> None:
        if self.objects.pop(key, None) is not None:
            self._changed(key)

    def clear(self) -> None:
        for key in list(self.objects):
            self.remove(key)
