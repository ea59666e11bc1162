"""Puts our entries into the text of a kubeconfig: foreign entries stay, comments too, and a second run changes nothing.

The text is edited in place. What came out is read again and compared with what it has to say; when some layout was too
unusual for that, the file is written anew from its nodes, where comments are lost and no entry is. Pure.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import yaml
from yaml import MappingNode, Node, ScalarNode, SequenceNode

from towline.cli.kube import nodes

Kind = Literal["clusters", "users", "contexts"]
INNER: Mapping[Kind, str] = {"clusters": "cluster", "users": "user", "contexts": "context"}
CURRENT = "current-context"


class Broken(Exception):
    """The text is no kubeconfig; the message says where."""


class Foreign(Exception):
    """An entry of that name is there already, and it is not ours."""

    def __init__(self, kind: Kind, name: str) -> None:
        super().__init__(f"{INNER[kind]} {name}")
        self.kind, self.name = kind, name


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry that we own. Fields of it that are named nowhere here are the user's and stay."""

    kind: Kind
    name: str
    fields: Mapping[str, Any]
    is_ours: Callable[[Mapping[str, Any]], bool]
    """Judges what stands under this name now."""
    drop: tuple[str, ...] = ()
    initial: Mapping[str, Any] = field(default_factory=dict)
    """Fields of a new entry only."""


def merge(text: str, entries: Sequence[Entry], current: str = "") -> str:
    """Return the text with these entries in it.

    Args: current: becomes the current context; empty: stays, or becomes the first of ours when there is none.
    Raises: Broken, Foreign.
    """
    try:
        root = _root(text)
        wanted = copy.deepcopy(root)
        changed = [_apply(wanted, entry) for entry in entries]
        target = current or _first_context(entries, root)
        if nodes.meaning(wanted) == nodes.meaning(root) and (not target or _current(root) == target):
            return text
        if target:
            nodes.put(wanted, CURRENT, ScalarNode(nodes.STR, target))
        return _written(text, root, wanted, [kind for kind, is_changed in changed if is_changed], target)
    except RecursionError as error:
        raise Broken("it holds itself") from error


def _root(text: str) -> MappingNode:
    try:
        root = nodes.compose(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}: " if mark else ""
        raise Broken(f"{where}{getattr(error, 'problem', None) or 'it is no YAML'}") from error
    if root is None or nodes.is_empty(root):
        return _empty()
    if not isinstance(root, MappingNode):
        raise Broken("it is no mapping")
    kind = nodes.get(root, "kind")
    if not nodes.is_empty(kind) and nodes.plain(kind) != "Config":
        raise Broken("its kind is not Config")
    for name in INNER:
        _check_list(root, name)
    return root


def _empty() -> MappingNode:
    return MappingNode("tag:yaml.org,2002:map", [])


def _check_list(root: MappingNode, kind: Kind) -> None:
    found = nodes.get(root, kind)
    if nodes.is_empty(found):
        return
    if not isinstance(found, SequenceNode):
        raise Broken(f"{kind} is no list")
    for item in found.value:
        if not isinstance(item, MappingNode) or not isinstance(nodes.get(item, "name"), ScalarNode):
            raise Broken(f"an entry of {kind} has no name")
        inner = nodes.get(item, INNER[kind])
        if not nodes.is_empty(inner) and not isinstance(inner, MappingNode):
            raise Broken(f"{INNER[kind]} {nodes.plain(nodes.get(item, 'name'))} is no mapping")


def _apply(root: MappingNode, entry: Entry) -> tuple[Kind, bool]:
    """Put one entry into the tree. Returns: its list, and whether that changed."""
    items = nodes.get(root, entry.kind)
    if not isinstance(items, SequenceNode):
        items = SequenceNode("tag:yaml.org,2002:seq", [], flow_style=False)
        nodes.put(root, entry.kind, items)
    item = _named(items, entry.name)
    if item is None:
        items.value.append(nodes.from_data(_new(entry)))
        items.flow_style = bool(items.flow_style and len(items.value) > 1)
        return entry.kind, True
    before = nodes.meaning(item)
    inner = nodes.get(item, INNER[entry.kind])
    if not entry.is_ours(nodes.plain(inner) or {}):
        raise Foreign(entry.kind, entry.name)
    nodes.put(item, INNER[entry.kind], _updated(inner, entry))
    return entry.kind, nodes.meaning(item) != before


def _updated(inner: Node | None, entry: Entry) -> MappingNode:
    updated = copy.deepcopy(inner) if isinstance(inner, MappingNode) else _empty()
    for key, value in entry.fields.items():
        wanted, held = nodes.from_data(value), nodes.get(updated, key)
        if held is None or nodes.meaning(held) != nodes.meaning(wanted):
            nodes.put(updated, key, wanted)
    for key in entry.drop:
        nodes.drop(updated, key)
    return updated


def _new(entry: Entry) -> dict[str, Any]:
    return {"name": entry.name, INNER[entry.kind]: {**entry.fields, **entry.initial}}


def _named(items: SequenceNode, name: str) -> MappingNode | None:
    for item in items.value:
        if nodes.plain(nodes.get(item, "name")) == name:
            found: MappingNode = item
            return found
    return None


def _first_context(entries: Sequence[Entry], root: MappingNode) -> str:
    if _current(root):
        return ""
    return next((entry.name for entry in entries if entry.kind == "contexts"), "")


def _current(root: MappingNode) -> str:
    return str(nodes.plain(nodes.get(root, CURRENT)))


# -- text


def _written(text: str, root: MappingNode, wanted: MappingNode, kinds: Sequence[Kind], current: str) -> str:
    if not root.value:
        for key, value in (("kind", "Config"), ("apiVersion", "v1")):
            wanted.value.insert(0, (ScalarNode(nodes.STR, key), ScalarNode(nodes.STR, value)))
    written = _edited(text, root, wanted, kinds, current)
    if not _says(written, wanted):
        written = nodes.serialize(wanted)
        if not _says(written, wanted):
            raise Broken("it cannot be changed without losing something of it")
    return written


def _says(text: str, wanted: MappingNode) -> bool:
    try:
        found = nodes.compose(text)
    except yaml.YAMLError:
        return False
    return found is not None and nodes.meaning(found) == nodes.meaning(wanted)


@dataclass(frozen=True, slots=True)
class _Edit:
    start: int
    end: int
    text: str


def _edited(text: str, root: MappingNode, wanted: MappingNode, kinds: Sequence[Kind], current: str) -> str:
    """Return the text with the changes made in place; it may come out wrong where the layout is unusual."""
    if not root.value:
        return _line_end(text) + nodes.serialize(wanted)
    edits: list[_Edit] = []
    tail = ""
    for kind in dict.fromkeys(kinds):
        before, after = nodes.get(root, kind), nodes.get(wanted, kind)
        assert isinstance(after, SequenceNode)
        if before is None:
            tail += f"{kind}:\n" + _items(after.value, 0)
        elif isinstance(before, SequenceNode) and before.value:
            edits += _list_edits(text, before, after)
        else:
            edits += _filled(text, before, _items(after.value, 0))
    held = nodes.get(root, CURRENT)
    if current and held is None:
        tail += nodes.serialize(nodes.from_data({CURRENT: current}))
    elif current and held is not None and nodes.plain(held) != current:
        word = nodes.serialize(nodes.from_data([current]))[2:].rstrip("\n")
        edits.append(_Edit(held.start_mark.index, held.end_mark.index, word if nodes.plain(held) else f" {word}"))
    for edit in sorted(edits, key=lambda one: (one.start, one.end), reverse=True):
        text = text[: edit.start] + edit.text + text[edit.end :]
    return _line_end(text) + tail if tail else text


def _list_edits(text: str, before: SequenceNode, after: SequenceNode) -> list[_Edit]:
    edits = []
    for old, new in zip(before.value, after.value, strict=False):
        if nodes.meaning(old) != nodes.meaning(new):
            column = old.start_mark.column
            lines = nodes.serialize(new).rstrip("\n").split("\n")
            edits.append(_Edit(old.start_mark.index, nodes.last_index(old), f"\n{' ' * column}".join(lines)))
    added = after.value[len(before.value) :]
    if added:
        place = _end_of_line(text, nodes.last_index(before))
        edits.append(_Edit(place, place, "\n" + _items(added, before.start_mark.column).rstrip("\n")))
    return edits


def _filled(text: str, before: Node, items: str) -> list[_Edit]:
    """Turn `clusters: []`, `clusters: null` or `clusters:` into a list; a comment behind it stays."""
    place = _end_of_line(text, before.end_mark.index)
    edits = [_Edit(place, place, "\n" + items.rstrip("\n"))]
    if before.end_mark.index > before.start_mark.index:
        edits.append(_Edit(before.start_mark.index, before.end_mark.index, ""))
    return edits


def _items(items: Sequence[Node], column: int) -> str:
    """Return entries as lines of a list that begins at a column."""
    text = nodes.serialize(SequenceNode("tag:yaml.org,2002:seq", list(items), flow_style=False))
    return "".join(f"{' ' * column}{line}\n" for line in text.rstrip("\n").split("\n"))


def _end_of_line(text: str, index: int) -> int:
    if index and text[index - 1 : index] == "\n":
        return index - 1
    place = text.find("\n", index)
    place = len(text) if place < 0 else place
    return place - 1 if text[place - 1 : place] == "\r" else place


def _line_end(text: str) -> str:
    """Return the text with its last line ended; a document's end mark would hide what follows."""
    return text if not text or text.endswith("\n") else text + "\n"
