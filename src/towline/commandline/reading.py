"""From an argument list to a plan: `parse`, for all programs."""

from __future__ import annotations

from collections.abc import Sequence

from towline.commandline import docker, flags, kubectl, masking
from towline.commandline.catalogue import PROGRAMS, Program
from towline.commandline.errors import BadCommand
from towline.commandline.plan import Plan
from towline.commandline.verbs import Verb
from towline.wire import orders


def parse(
    program: str, arguments: Sequence[str], *, stdin: str = "", namespace: str = "default", project: str = ""
) -> Plan:
    """Read a command.

    Args: arguments: without the program's name. stdin: manifest text for `-f -`. namespace, project: where no
    argument says another.
    Raises: BadCommand: it is none that Towline runs; says why, and what to do instead.
    """
    _check_sizes(arguments, stdin)
    known = PROGRAMS.get(program)
    if known is None:
        raise BadCommand(f"the program is {', '.join(PROGRAMS)}, not {flags.shown(program)}")
    verb, rest = _verb(known, arguments)
    parsed = flags.parse(rest, verb.flags, known.refused, of=f"{program} {verb.name}")
    masked = masking.mask(arguments)
    if program == "kubectl":
        return kubectl.plan(verb, parsed, masked, stdin=stdin, namespace=namespace)
    if stdin:
        raise BadCommand(f"{program} {verb.name} reads no standard input")
    return docker.plan(program, verb, parsed, masked, project=project)


def _check_sizes(arguments: Sequence[str], stdin: str) -> None:
    if len(arguments) > orders.MAX_ARGUMENTS:
        raise BadCommand(f"a command has at most {orders.MAX_ARGUMENTS} arguments")
    if any(len(each.encode("utf-8", "surrogatepass")) > orders.MAX_ARGUMENT_BYTES for each in arguments):
        raise BadCommand(f"an argument has at most {orders.MAX_ARGUMENT_BYTES} bytes")
    if any("\0" in each or not _is_text(each) for each in arguments):
        raise BadCommand("an argument holds a character that is none")
    if len(stdin.encode("utf-8", "surrogatepass")) > orders.MAX_STDIN_BYTES:
        raise BadCommand(f"standard input has at most {orders.MAX_STDIN_BYTES} bytes")


def _is_text(argument: str) -> bool:
    try:
        argument.encode()
    except UnicodeEncodeError:
        return False
    return True


def _verb(program: Program, arguments: Sequence[str]) -> tuple[Verb, list[str]]:
    """Find the verb; flags that every verb has may stand before it. Raises: BadCommand."""
    before, rest = _leading_flags(program, list(arguments))
    if not rest:
        verbs = ", ".join(verb.name for verb in program.verbs)
        raise BadCommand(f"{program.name} needs a verb: {verbs}")
    by_name = {verb.name: verb for verb in program.verbs}
    two = " ".join(rest[:2])
    if two in by_name:
        return by_name[two], before + rest[2:]
    if rest[0] in by_name:
        return by_name[rest[0]], before + rest[1:]
    if rest[0] in program.elsewhere:
        raise BadCommand(f"{program.name} {rest[0]} is not run by Towline: {program.elsewhere[rest[0]]}")
    verbs = ", ".join(by_name)
    raise BadCommand(f"{program.name} has no verb {flags.shown(rest[0])} here; there are {verbs}")


_LEADING = {"-n": 2, "--namespace": 2, "-p": 2, "--project-name": 2, "-A": 1, "--all-namespaces": 1}


def _leading_flags(program: Program, arguments: list[str]) -> tuple[list[str], list[str]]:
    """Split off what stands before the verb. Raises: BadCommand: a refused flag, or one that belongs behind it."""
    before: list[str] = []
    while arguments and arguments[0].startswith("-"):
        name = arguments[0].partition("=")[0]
        width = 1 if "=" in arguments[0] else _LEADING.get(name, 0)
        if name not in _LEADING:
            reason = program.refused.get(name.lstrip("-")) or program.refused.get(name[1:2])
            raise BadCommand(f"{flags.shown(name)} is not taken" + (f": {reason}" if reason else " before the verb"))
        before += arguments[:width]
        del arguments[:width]
    return before, arguments
