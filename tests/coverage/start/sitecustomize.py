"""Python imports this as it starts when this folder is on PYTHONPATH: modules of the plan are run with marks in them.

Each mark is a byte of one file that all processes share, so that what a process ran is known even if it was killed.
Standard library alone, and little of it: every process of a test run pays for this. Who makes the plan: `plugin.py`.
"""

import marshal
import mmap
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import CodeType, ModuleType

FOLDER = "AGENT_LINES_FOLDER"
"""Names the folder with plan, code and marks; without it nothing happens here."""
PLAN, MARKS, CODE = "plan", "marks", "{}.code"
Plan = dict[str, tuple[int, int, int]]
"""By module: where its marks begin, how many there are, and the size of its source in bytes."""


class Marked(SourceFileLoader):
    """Runs what the plan holds instead of the source. Only an unchanged source is taken for it."""

    def get_code(self, fullname: str) -> CodeType:
        path = os.path.join(_folder, CODE.format(fullname))
        with open(path, "rb") as file:
            code: CodeType = marshal.load(file)
        return code


class Finder:
    """Finds modules of the plan where Python would."""

    @staticmethod
    def find_spec(
        fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in _plan:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is None or type(spec.loader) is not SourceFileLoader or spec.origin is None:
            return None
        if os.path.getsize(spec.origin) != _plan[fullname][2]:
            return None  # another version, as a test of upgrades installs it
        spec.loader = Marked(fullname, spec.origin)
        return spec


def marks_of(module: str) -> memoryview:
    """Return the marks of a module. Its marked code asks for them first of all."""
    begin, count, _ = _plan[module]
    return memoryview(_marks)[begin : begin + count]


def begin(folder: str) -> None:
    """Read the plan, and find modules by it from now on."""
    global _folder, _marks
    with open(os.path.join(folder, PLAN), "rb") as file:
        plan: Plan = marshal.load(file)
    with open(os.path.join(folder, MARKS), "r+b") as file:
        _marks = mmap.mmap(file.fileno(), 0)
    _folder = folder
    _plan.update(plan)
    sys.meta_path.insert(0, Finder)


_plan: Plan = {}
_folder = ""
_marks: mmap.mmap

if FOLDER in os.environ:
    with suppress(OSError):  # a process of another user, or one that outlived the run: it is not measured
        begin(os.environ[FOLDER])
