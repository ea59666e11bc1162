"""Reading a Compose file as YAML: strict, bounded, with the line of every key.

Here: size, depth, node and alias limits, duplicate keys, merge keys, tags, scalars as Compose reads them (YAML 1.2).
Not here: what the keys mean (`project`) or whether they are allowed (`policy`).
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import yaml

from towline.compose.errors import DocumentRefused
from towline.compose.text import clean, shown

# Far above any hand-written project; bounds the parser's work and a revision's row.
MAX_BYTES = 512 * 1024
# Compose's own schema nests about ten deep; everything after this module may walk recursively.
MAX_DEPTH = 40
# Distinct nodes, counted once however often they are referred to; each costs some 4 µs.
MAX_NODES = 10_000
# Nodes as a walk sees them, aliases followed: an anchors bomb is small by identity and endless when walked.
MAX_EXPANDED_NODES = 100_000

# Longer digits are an identifier, not a number that Compose could use.
MAX_NUMBER_LENGTH = 40

KeyPath = tuple[str | int, ...]
Mapping = dict[str, Any]

_MERGE = "<<"
# The scanner looks up to 1,024 characters ahead at a run of brackets; this stops such a run before it starts.
_BRACKET_RUN = re.compile(rf"(?:[\[{{][ \n]{{0,8}}){{{MAX_DEPTH + 1}}}")
_INTEGER = re.compile(r"[-+]?(?:0b[01]+|0o?[0-7]+|0x[0-9a-fA-F]+|[1-9][0-9]*|0)")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_NUMBER_STARTS = frozenset("0123456789+-.")
_DATE = re.compile(r"[0-9]{4}-([0-9]{1,2})-([0-9]{1,2})(?:(?:[Tt]|[ \t]+)[0-9]{1,2}:[0-9]{2}:[0-9]{2}[^#]{0,40})?")
_CONSTANTS: dict[str, Any] = {
    "": None, "~": None, "null": None, "Null": None, "NULL": None,
    "true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False,
    ".inf": float("inf"), "+.inf": float("inf"), "-.inf": float("-inf"), ".nan": float("nan"),
}  # fmt: skip
_BYTE_ORDER_MARKS = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16", b"\xef\xbb\xbf": "UTF-8 with a byte order mark"}


class Mark(NamedTuple):
    """A place in a file, both numbers from 1."""

    line: int
    column: int


_NOWHERE = Mark(0, 0)


@dataclass(frozen=True, slots=True)
class Document:
    """A parsed file: plain data, merge keys resolved, and where each key was written."""

    data: Mapping
    marks: dict[KeyPath, Mark] = field(repr=False)
    text: str = field(repr=False)

    def mark(self, path: KeyPath) -> Mark | None:
        """Where `path` was written, or its nearest parent that was."""
        for end in range(len(path), 0, -1):
            if (found := self.marks.get(path[:end])) is not None:
                return found
        return None


def load(raw: bytes | str) -> Document:
    """Parse one Compose file.

    Raises: DocumentRefused, with line, column and what to do. Every hostile input is refused in under 100 ms.
    """
    text = _decode(raw)
    if (run := _BRACKET_RUN.search(text)) is not None:
        line = text.count("\n", 0, run.start()) + 1
        raise _too_deep(Mark(line, run.start() - text.rfind("\n", 0, run.start())))
    builder = _Builder(_events(text))
    try:
        root = builder.document()
    except yaml.YAMLError as error:
        raise _translated(error, text) from None
    if not isinstance(root.value, dict):
        raise DocumentRefused(
            "the file must be a mapping of keys",
            line=root.mark.line,
            column=root.mark.column,
            fix="start with 'services:'",
        )
    return Document(root.value, builder.marks, text)


def _decode(raw: bytes | str) -> str:
    data = raw.encode(errors="surrogatepass") if isinstance(raw, str) else raw
    if len(data) > MAX_BYTES:
        raise DocumentRefused(
            f"the file has {len(data)} bytes, the limit is {MAX_BYTES}",
            fix="move large content into files of the bundle",
        )
    for mark, encoding in _BYTE_ORDER_MARKS.items():
        if data.startswith(mark):
            raise DocumentRefused(f"the file is {encoding}", line=1, column=1, fix="save it as plain UTF-8")
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        column = error.start - data.rfind(b"\n", 0, error.start)
        raise DocumentRefused("not valid UTF-8", line=line, column=column, fix="save it as plain UTF-8") from None
    if "\0" in text[:4]:
        raise DocumentRefused("the file is UTF-16 or UTF-32", line=1, column=1, fix="save it as plain UTF-8")
    return text


def _events(text: str) -> Iterator[yaml.Event]:
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return yaml.parse(text, Loader=loader)


class _Node(NamedTuple):
    """A finished value with what it costs to walk it."""

    value: Any
    mark: Mark
    size: int = 1
    height: int = 0


@dataclass(slots=True)
class _Open:
    """A mapping or sequence that is still being read."""

    event: yaml.CollectionStartEvent
    path: KeyPath
    is_mapping: bool
    size: int = 1
    height: int = 1
    items: list[Any] = field(default_factory=list)
    values: Mapping = field(default_factory=dict)
    merged: list[tuple[Mapping, Mark]] = field(default_factory=list)
    key: str | None = None
    merges: bool = False
    key_mark: Mark = _NOWHERE

    def child_path(self) -> KeyPath:
        return (*self.path, self.key if self.is_mapping and self.key is not None else len(self.items))

    def add(self, node: _Node) -> None:
        self.size += node.size
        self.height = max(self.height, node.height + 1)
        if not self.is_mapping:
            self.items.append(node.value)
        elif self.merges:
            self._merge(node)
        else:
            assert self.key is not None
            self.values[self.key] = node.value
        self.key, self.merges = None, False

    def _merge(self, node: _Node) -> None:
        sources = node.value if isinstance(node.value, list) else [node.value]
        for source in sources:
            if not isinstance(source, dict):
                raise DocumentRefused(
                    "'<<' can only merge mappings",
                    line=self.key_mark.line,
                    column=self.key_mark.column,
                    fix="name an anchor of a mapping: '<<: *name'",
                )
            self.merged.append((source, self.key_mark))


class _Builder:
    """Builds values from parser events with a stack of its own, and stops at the first limit that is passed."""

    def __init__(self, events: Iterator[yaml.Event]) -> None:
        self._events = events
        self._anchors: dict[str, _Node | None] = {}
        self._stack: list[_Open] = []
        self._count = 0
        self.marks: dict[KeyPath, Mark] = {}

    def document(self) -> _Node:
        root: _Node | None = None
        for event in self._events:
            if isinstance(event, yaml.DocumentStartEvent):
                if root is not None:
                    raise _refused(event, "the file holds several documents", "keep one, and remove the '---' lines")
                root = self._root()
        if root is None:
            raise DocumentRefused("the file is empty", fix="start with 'services:'")
        return root

    def _root(self) -> _Node:
        while True:
            node = self._step(next(self._events))
            if node is None:
                continue
            if not self._stack:
                return node
            self._stack[-1].add(node)

    def _step(self, event: yaml.Event) -> _Node | None:
        if isinstance(event, yaml.CollectionEndEvent):
            return self._close(self._stack.pop())
        mark = _mark(event)
        if self._stack:
            parent = self._stack[-1]
            if not parent.is_mapping:
                self.marks[parent.child_path()] = mark
            elif parent.key is None:
                self._open_key(event, parent, mark)
                return None
        if isinstance(event, yaml.ScalarEvent):
            return self._scalar(event, mark)
        if isinstance(event, yaml.CollectionStartEvent):
            self._open(event)
            return None
        assert isinstance(event, yaml.AliasEvent)
        return self._alias(event)

    def _open(self, event: yaml.CollectionStartEvent) -> None:
        self._counted(event)
        if len(self._stack) >= MAX_DEPTH:
            raise _too_deep(_mark(event))
        self._define(event, None)
        path = self._stack[-1].child_path() if self._stack else ()
        self._stack.append(_Open(event, path, isinstance(event, yaml.MappingStartEvent)))

    def _close(self, done: _Open) -> _Node:
        value: Any = done.items
        if done.is_mapping:
            value = done.values
            for source, mark in done.merged:
                for key, item in source.items():
                    if key not in value:
                        value[key] = item
                        self.marks[(*done.path, key)] = mark
        node = _Node(value, _mark(done.event), done.size, done.height)
        self._bounded(node.size, done.event)
        self._define(done.event, node)
        return node

    def _open_key(self, event: yaml.Event, mapping: _Open, mark: Mark) -> None:
        if not isinstance(event, yaml.ScalarEvent):
            raise _refused(event, "a key must be plain text", "write the key out")
        self._counted(event)
        value = _resolve(event)
        if not isinstance(value, str):
            raise _refused(event, f"the key {shown(event.value)} is not text", "put it in quotes")
        mapping.key, mapping.key_mark = value, mark
        mapping.merges = value == _MERGE and event.implicit[0]
        if mapping.merges:
            return
        if value in mapping.values:
            first = self.marks[(*mapping.path, value)].line
            raise _refused(event, f"the key {shown(value)} is given twice, first in line {first}", "remove one of them")
        self.marks[(*mapping.path, value)] = mapping.key_mark

    def _scalar(self, event: yaml.ScalarEvent, mark: Mark) -> _Node:
        self._counted(event)
        node = _Node(_resolve(event), mark)
        self._define(event, node)
        return node

    def _alias(self, event: yaml.AliasEvent) -> _Node:
        name = str(event.anchor)
        if name not in self._anchors:
            raise _refused(event, f"there is no anchor {shown(name)} above", "define it before with '&'")
        target = self._anchors[name]
        if target is None:
            raise _refused(event, f"the anchor {shown(name)} contains itself", "remove the alias")
        if len(self._stack) + target.height > MAX_DEPTH:
            raise _too_deep(_mark(event))
        self._bounded(self._stack[-1].size + target.size if self._stack else 0, event)
        return _Node(target.value, _mark(event), target.size, target.height)

    def _define(self, event: yaml.NodeEvent, node: _Node | None) -> None:
        if event.anchor is not None:
            self._anchors[event.anchor] = node

    def _counted(self, event: yaml.NodeEvent) -> None:
        self._count += 1
        if self._count > MAX_NODES:
            raise _refused(event, f"the file has more than {MAX_NODES} entries", "split it into several projects")
        tag = getattr(event, "tag", None)
        if tag is not None:
            raise _refused(event, f"the tag {shown(str(tag))} is not allowed", "remove the tag")

    def _bounded(self, size: int, event: yaml.Event) -> None:
        if size > MAX_EXPANDED_NODES:
            raise _refused(
                event, f"the aliases unfold to more than {MAX_EXPANDED_NODES} entries", "write shorter anchors"
            )


def _resolve(event: yaml.ScalarEvent) -> Any:
    """Give a scalar its value as Compose does: YAML 1.2 types, so `no` and `22:22` stay text."""
    text = str(event.value)
    if not text.isascii() and any("\ud800" <= char <= "\udfff" for char in text):
        raise _refused(event, "half of a surrogate pair", "write the character itself")
    if "\0" in text:
        raise _refused(event, "a NUL character", "remove it")
    if not event.implicit[0]:
        return text
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if (date := _DATE.fullmatch(text)) and 1 <= int(date[1]) <= 12 and 1 <= int(date[2]) <= 31:
        raise _refused(event, f"{shown(text)} is a date to YAML, which Compose does not take", "put it in quotes")
    return _number(text)


def _number(text: str) -> int | float | str:
    if len(text) > MAX_NUMBER_LENGTH:
        return text
    plain = text.replace("_", "") if text[:1] in _NUMBER_STARTS else text
    if _INTEGER.fullmatch(plain):
        sign = -1 if plain.startswith("-") else 1
        digits = plain.lstrip("+-")
        legacy_octal = len(digits) > 1 and digits.isdigit() and digits[0] == "0"
        value = sign * (int(digits, 8) if legacy_octal else int(digits, 0))
        return value if -(2**63) <= value < 2**64 else float(value)
    return float(plain) if _FLOAT.fullmatch(plain) else text


def _mark(event: yaml.Event) -> Mark:
    start = event.start_mark
    assert start is not None
    return Mark(start.line + 1, start.column + 1)


def _refused(event: yaml.Event, message: str, fix: str) -> DocumentRefused:
    mark = _mark(event)
    return DocumentRefused(message, line=mark.line, column=mark.column, fix=fix)


def _too_deep(mark: Mark) -> DocumentRefused:
    return DocumentRefused(
        f"nested deeper than {MAX_DEPTH} levels", line=mark.line, column=mark.column, fix="flatten this part"
    )


def _translated(error: yaml.YAMLError, text: str) -> DocumentRefused:
    """Turn a parser error into our own, and name the tab that most often causes it."""
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    problem = clean(str(getattr(error, "problem", None) or "not valid YAML"), 200)
    if mark is None:
        character = getattr(error, "character", None)
        position = getattr(error, "position", 0)
        line = text.count("\n", 0, position) + 1
        return DocumentRefused(
            f"a character that YAML does not allow ({character!r})" if character is not None else problem,
            line=line,
            column=position - text.rfind("\n", 0, position),
            fix="remove the control character",
        )
    lines = text.split("\n")
    written = lines[mark.line] if mark.line < len(lines) else ""
    if "\t" in written[: len(written) - len(written.lstrip())]:
        return DocumentRefused("a tab is used for indentation", line=mark.line + 1, column=1, fix="use spaces")
    return DocumentRefused(problem, line=mark.line + 1, column=mark.column + 1, fix="check the lines above it too")
