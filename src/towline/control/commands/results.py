"""What came of a run, for one who looks: answers in groups, with what was printed as far as they may read it.

Who could run the command on a target may read what it printed there. Others see that it ran, and how it ended.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from towline.control.access.actor import Access
from towline.control.clusters import repository as clusters
from towline.control.commands import output
from towline.control.commands.authority import decide, place_of
from towline.control.commands.content import Contents
from towline.control.commands.models import CommandRun, CommandTarget
from towline.control.commands.output import MOST_SHOWN_BYTES, Group
from towline.control.db import Transaction
from towline.control.errors import ApiError
from towline.wire.orders import STDERR, STDOUT


@dataclass(frozen=True, slots=True)
class Answer:
    """What some targets answered."""

    group: Group
    stdout: str = ""
    stderr: str = ""
    truncated: bool = False
    hidden: bool = False
    """Whoever looks may not read what was printed."""

    @property
    def error(self) -> str:
        return error_of(self.group.first, readable=not self.hidden)


async def readable(
    tx: Transaction, access: Access, contents: Contents, run: CommandRun, cluster_ids: Collection[str]
) -> set[str]:
    """Return on which of some clusters somebody could run a run's command now."""
    try:
        plan = contents.plan(run)
    except ApiError:
        return set()  # this release reads it no more, or its key is gone
    rows, labels = await clusters.by_id(tx, cluster_ids), await clusters.labels_of(tx, cluster_ids)
    return {name for name, row in rows.items() if (await decide(tx, access, place_of(row, labels[name]), plan)).allowed}


def error_of(target: CommandTarget, *, readable: bool) -> str:
    """Return why a target failed; of a command that ended badly this is a line that it printed."""
    if readable or target.code != "command_exit":
        return target.error
    return f"exit code {target.exit_code}"


async def answers(
    tx: Transaction, access: Access, contents: Contents, run: CommandRun, targets: Sequence[CommandTarget], *, most: int
) -> list[Answer]:
    """Return the answers of some targets, in groups. Args: most: bytes of each output."""
    may = await readable(tx, access, contents, run, [one.cluster_id for one in targets])
    open_to = [one for one in targets if one.cluster_id in may]
    closed = [one for one in targets if one.cluster_id not in may]
    left = MOST_SHOWN_BYTES
    found = []
    for group in output.grouped(open_to):
        answer = await _answer(tx, group, min(most, left))
        left -= len(answer.stdout) + len(answer.stderr)
        found.append(answer)
    return found + [Answer(group, hidden=bool(group.first.job_id)) for group in output.grouped(closed)]


async def _answer(tx: Transaction, group: Group, most: int) -> Answer:
    job_id = group.first.job_id
    stdout, more = await output.read(tx, job_id, STDOUT, most)
    stderr, still_more = await output.read(tx, job_id, STDERR, most)
    return Answer(group, stdout, stderr, group.first.truncated or more or still_more)
