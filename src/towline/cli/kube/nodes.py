"""YAML as a tree of nodes, which keeps every scalar as it was written. Pure.

Loading a kubeconfig into dictionaries and dumping it again would turn a token `0123` into the number 83, because
kubectl and PyYAML follow different versions of YAML. Nodes hold the text, so nothing is read that is not ours.
"""

from __future__ import annotations

from typing import Any

import yaml
from yaml import MappingNode, Node, ScalarNode, SequenceNode

STR = "tag:yaml.org,2002:str"
NULL = "tag:yaml.org,2002:null"
_NO_FOLDING = 1_000_000_000
"""Columns: a line that is broken and read again is the same text, but certificates are easier to compare whole."""


def compose(text: str) -> Node | None:
    """Return the one document of a text; None when there is nothing but comments. Raises: yaml.YAMLError."""
    return yaml.compose(text, Loader=yaml.SafeLoader)


def from_data(value: Any) -> Node:
    """Return plain data as a node."""
    node = compose(yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=_NO_FOLDING))
    assert node is not None
    return node


def serialize(node: Node) -> str:
    """Return a node as text; its scalars stay as they were written."""
    text: str = yaml.serialize(node, Dumper=yaml.SafeDumper, allow_unicode=True, width=_NO_FOLDING)
    return text


def meaning(node: Node) -> object:
    """Return what a node says, to be compared: comments, quotes and layout are left out.

    Raises: RecursionError: it holds itself.
    """
    if isinstance(node, MappingNode):
        return [(meaning(key), meaning(value)) for key, value in node.value]
    if isinstance(node, SequenceNode):
        return ["list", *(meaning(one) for one in node.value)]
    return (node.tag, node.value)


def plain(node: Node | None) -> Any:
    """Return a node as dictionaries, lists and texts; nothing is read as number, date or truth value."""
    if isinstance(node, MappingNode):
        return {plain(key): plain(value) for key, value in node.value if isinstance(key, ScalarNode)}
    if isinstance(node, SequenceNode):
        return [plain(one) for one in node.value]
    return "" if node is None or node.tag == NULL else node.value


def get(mapping: MappingNode, key: str) -> Node | None:
    """Return the value of a key; None when there is none."""
    for name, value in mapping.value:
        if isinstance(name, ScalarNode) and name.value == key:
            found: Node = value
            return found
    return None


def put(mapping: MappingNode, key: str, value: Node) -> None:
    """Set a key where it stands, or at the end."""
    for place, (name, _) in enumerate(mapping.value):
        if isinstance(name, ScalarNode) and name.value == key:
            mapping.value[place] = (name, value)
            return
    mapping.value.append((ScalarNode(STR, key), value))


def drop(mapping: MappingNode, key: str) -> None:
    """Remove a key, if it is there."""
    mapping.value = [(name, value) for name, value in mapping.value if getattr(name, "value", None) != key]


def is_empty(node: Node | None) -> bool:
    """True for nothing, `null`, `[]` and `{}`."""
    return node is None or node.tag == NULL or (not isinstance(node, ScalarNode) and not node.value)


def last_index(node: Node) -> int:
    """Return where the text of a node ends; the mark of a block node also takes the comments that follow it."""
    if not isinstance(node, MappingNode | SequenceNode) or node.flow_style or not node.value:
        end: int = node.end_mark.index
        return end
    last = node.value[-1]
    return max(last_index(one) for one in (last if isinstance(last, tuple) else (last,)))
