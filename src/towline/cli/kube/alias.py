"""`kube each` as the alias of `towline run`: what the server runs goes there, the rest is kubectl's here.

The closed list of verbs is the server's too. A server that knows no commands, or somebody who may not run any but may
read by kubectl, is served by kubectl as before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from towline.cli import runs
from towline.cli.errors import FAILED, NOT_ALLOWED, NOT_FOUND, CliError
from towline.cli.options import client
from towline.cli.output import Format, show

ELSEWHERE = (NOT_ALLOWED, NOT_FOUND)


@dataclass(frozen=True, slots=True)
class Asked:
    """What `kube each` was told."""

    arguments: Sequence[str]
    names: Sequence[str]
    selector: str
    parallel: int
    timeout: float
    everything: bool = False

    def body(self) -> dict[str, Any]:
        """Return it as the API takes it."""
        where: dict[str, Any] = {"clusters": list(self.names)}
        if not self.names:
            where["selector"] = self.selector
        limits = {"timeout": self.timeout, "wave": self.parallel}
        return where | {"program": "kubectl", "arguments": list(self.arguments), **limits}


def takes(arguments: Sequence[str]) -> bool:
    """Tell whether a command is one that every agent does itself, and that reads no file of ours."""
    from towline.commandline.errors import BadCommand
    from towline.commandline.reading import parse

    try:
        plan = parse("kubectl", arguments)
    except BadCommand:
        return False
    return not plan.manifests and not plan.hosted


def run(asked: Asked, output: Format) -> bool:
    """Run it on the server and print the answers. False: the server does not run it for whoever asks."""
    if not (asked.names or asked.selector or asked.everything):
        return False
    with client() as api:
        try:
            begun = api.post_once(runs.RUNS, asked.body())
        except CliError as error:
            if error.code in ELSEWHERE:
                return False
            raise
        runs.follow_quietly(api, begun["id"])
        found = runs.results(api, begun["id"])
    show([_shown(group) for group in found["groups"]], output, lambda: runs.print_groups(found["groups"]))
    if found["state"] != "succeeded":
        raise SystemExit(FAILED)
    return True


def _shown(group: dict[str, Any]) -> dict[str, Any]:
    """Return a group in the words that `kube each` always had for programs."""
    code = group["exit_code"] if group["exit_code"] is not None else FAILED
    stderr = group["stderr"] or group["error"]
    return {"clusters": group["targets"], "code": code, "stdout": group["stdout"], "stderr": stderr}
