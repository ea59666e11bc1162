"""What somebody typed: sealed while it is kept, read again when it is needed.

Arguments and standard input may hold secrets. They are opened to make an order, and to decide who may see what the
command printed; a few plans are kept, because a page asks for the same one each second.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

import msgspec

from towline.commandline.errors import BadCommand
from towline.commandline.plan import Plan
from towline.commandline.reading import parse
from towline.control.commands.models import CommandRun
from towline.control.errors import ApiError, ErrorCode
from towline.control.sealing.service import CannotOpen, Sealer

PURPOSE = "command"
VERSION = 1
DEFAULT_NAMESPACE = "default"
KEPT_PLANS = 64


class Typed(msgspec.Struct, frozen=True):
    """What was typed, in full."""

    arguments: tuple[str, ...]
    stdin: str = ""

    def __repr__(self) -> str:
        return f"<Typed {len(self.arguments)} arguments>"


@dataclass(frozen=True, slots=True)
class Wanted:
    """A command that can be read, with what it is made of."""

    program: str
    typed: Typed
    namespace: str
    project: str
    plan: Plan = field(repr=False)


def wanted(program: str, typed: Typed, *, namespace: str, project: str) -> Wanted:
    """Read a command. Raises: ApiError: invalid, with what is wrong in words."""
    try:
        where = namespace or DEFAULT_NAMESPACE
        plan = parse(program, typed.arguments, stdin=typed.stdin, namespace=where, project=project)
    except BadCommand as error:
        hint = "`towline kubeconfig` lets kubectl itself do what this does not" if program == "kubectl" else ""
        raise ApiError(ErrorCode.INVALID, str(error), hint=hint) from error
    return Wanted(program, typed, namespace, project, plan)


class Contents:
    """Seals and opens the contents of runs."""

    def __init__(self, sealer: Sealer) -> None:
        self._sealer = sealer
        self._plans: OrderedDict[str, Plan] = OrderedDict()

    def __repr__(self) -> str:
        return f"<Contents {len(self._plans)} plans kept>"

    def seal(self, org_id: str, run_id: str, typed: Typed) -> bytes:
        return self._sealer.seal(org_id, run_id, VERSION, PURPOSE, msgspec.json.encode(typed))

    def open(self, run: CommandRun) -> Typed:
        """Return what was typed. Raises: ApiError: the keys that sealed it are gone."""
        try:
            text = self._sealer.open(run.org_id, run.id, VERSION, PURPOSE, run.sealed)
        except CannotOpen as error:
            raise ApiError(ErrorCode.CONFLICT, "the command cannot be opened with the keys of this server") from error
        return msgspec.json.decode(text, type=Typed)

    def plan(self, run: CommandRun) -> Plan:
        """Return what a run's command touches, as this release reads it. Raises: ApiError."""
        known = self._plans.get(run.id)
        if known is None:
            typed = self.open(run)
            known = wanted(run.program, typed, namespace=run.namespace, project=run.project).plan
            self._plans[run.id] = known
            if len(self._plans) > KEPT_PLANS:
                self._plans.popitem(last=False)
        return known
