"""Puts a mark before each statement of a module, so that running it says so. Pure: text in, code out.

A statement counts once, at the line where it begins, as coverage.py counts it. Left out is what has no code or never
runs: docstrings, `...` alone, `global`, `nonlocal`, and what only type checkers see.
"""

from __future__ import annotations

import ast
from itertools import takewhile
from types import CodeType

BLOCKS = ("body", "handlers", "cases", "orelse", "finalbody")
"""Fields of a node that hold statements, or what holds statements, as they stand in the text."""
MARKS = "__seen__"


def lines_of(source: str) -> list[int]:
    """Return where the statements of a module begin, in the order of their marks."""
    return _Marker().take(ast.parse(source))


def marked(source: str, module: str, path: str) -> CodeType:
    """Return the code of a module with marks."""
    tree = ast.parse(source)
    _Marker(put=True).take(tree)
    prologue = ast.parse(f"{MARKS} = __import__('sitecustomize').marks_of({module!r})").body
    begin = _end_of_head(tree.body)
    tree.body[begin:begin] = prologue
    return compile(tree, path, "exec", dont_inherit=True)


class _Marker:
    """Goes through a tree; puts marks into it when told so."""

    def __init__(self, *, put: bool = False) -> None:
        self._put = put
        self._lines: list[int] = []

    def take(self, tree: ast.Module) -> list[int]:
        head = _end_of_head(tree.body)
        tree.body = [*tree.body[:head], *self._block(tree.body[head:])]
        return self._lines

    def _block(self, statements: list[ast.stmt]) -> list[ast.stmt]:
        found: list[ast.stmt] = []
        for statement in statements:
            if not _is_silent(statement):
                self._lines.append(statement.lineno)
                if self._put:
                    found.append(self._mark(statement.lineno))
            self._inside(statement)
            found.append(statement)
        return found

    def _inside(self, node: ast.AST) -> None:
        if _is_for_types(node):
            return
        for name in BLOCKS:
            found = getattr(node, name, None)
            if name in ("handlers", "cases"):
                for part in found or ():
                    self._inside(part)
            elif found:
                setattr(node, name, self._block(found))

    def _mark(self, line: int) -> ast.stmt:
        mark = ast.parse(f"{MARKS}[{len(self._lines) - 1}] = 1").body[0]
        for node in ast.walk(mark):
            if isinstance(node, (ast.expr, ast.stmt)):
                node.lineno = node.end_lineno = line
                node.col_offset = node.end_col_offset = 0
        return mark


def _end_of_head(body: list[ast.stmt]) -> int:
    """Return how many statements of a module must stay first: its docstring, and what it takes from the future."""
    return len(list(takewhile(lambda one: _is_text(one) or _is_of_future(one), body)))


def _is_of_future(node: ast.AST) -> bool:
    return isinstance(node, ast.ImportFrom) and node.module == "__future__"


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _is_silent(node: ast.stmt) -> bool:
    return _is_text(node) or isinstance(node, (ast.Global, ast.Nonlocal)) or _is_for_types(node)


def _is_for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
