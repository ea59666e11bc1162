"""`python -m tests.testbed up|status|down [PART…]`: bring the real parts up before the tests, and down afterwards."""

import argparse
import sys
import time
from collections.abc import Callable
from typing import Any

from tests.testbed import catalogue, debian
from tests.testbed.requirement import Missing, is_required


def up(names: list[str]) -> int:
    """Have each part. Returns: 1 when a required one is missing, else 0, with what was left out named plainly."""
    failures = 0
    steps: list[tuple[str, Callable[[], Any]]] = [
        ("packages", debian.ensure),
        *((name, catalogue.PARTS[name].ensure) for name in names),
    ]
    for name, ensure in steps:
        began = time.monotonic()
        try:
            print(f"{name:9} {ensure()}  [{time.monotonic() - began:.1f} s]", flush=True)
        except Missing as missing:
            failures += is_required(missing.part) or is_required(name)
            print(f"{name:9} LEFT OUT: {missing.reason} -> {missing.remedy}", flush=True)
    return 1 if failures else 0


def status(names: list[str]) -> int:
    """Say how each part is, changing nothing."""
    for name in names:
        print(f"{name:9} {catalogue.PARTS[name].status()}")
    return 0


def down(names: list[str]) -> int:
    """End what the test bed started, in the reverse order."""
    for name in reversed(names):
        catalogue.PARTS[name].down()
    return 0


def main() -> int:
    """Parse the words and do as they say."""
    parser = argparse.ArgumentParser(prog="python -m tests.testbed", description=__doc__)
    parser.add_argument("command", choices=["up", "status", "down"])
    parser.add_argument(
        "parts", nargs="*", metavar="PART", help=f"of {', '.join(catalogue.PARTS)} (default: usual ones)"
    )
    options = parser.parse_args()
    unknown = sorted(set(options.parts) - set(catalogue.PARTS))
    if unknown:
        parser.error(f"unknown part: {', '.join(unknown)}")
    names = options.parts or list(catalogue.USUAL)
    return {"up": up, "status": status, "down": down}[options.command](names)


if __name__ == "__main__":
    sys.exit(main())
