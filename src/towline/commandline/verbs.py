"""What a verb of the closed list is, and the flags that several of kubectl's verbs share."""

from __future__ import annotations

from dataclasses import dataclass

from towline.commandline.flags import Flag, Takes
from towline.commandline.plan import Level


@dataclass(frozen=True, slots=True)
class Verb:
    """One verb. `name` may be two words."""

    name: str
    usage: str
    """What stands behind the verb, flags left out."""
    words: str
    """What it does, for the reference."""
    flags: tuple[Flag, ...] = ()
    writes: bool = False
    level: Level = Level.SEE
    hosted: bool = False
    """Done by the `kubectl` of the host, where the local policy lists it (`commands.kubectl_verbs`)."""


NAMESPACE = Flag("namespace", "n", Takes.TEXT, "the namespace, instead of the run's own")
ALL_NAMESPACES = Flag("all-namespaces", "A", words="all namespaces; for added kinds: those of the whole cluster")
SELECTOR = Flag("selector", "l", Takes.TEXT, "labels that objects must have")
FIELDS = Flag("field-selector", "", Takes.TEXT, "fields that objects must have")
NO_HEADERS = Flag("no-headers", words="no line of column names")
STDIN = Flag("filename", "f", Takes.TEXT, "`-`: the manifest of standard input; nothing else is read")
DRY_RUN = Flag("dry-run", "", Takes.CHOICE, "only ask the API server what would happen", ("server", "none"), "server")
TIMEOUT = Flag("timeout", "", Takes.DURATION, "give up after this long; 0: never before the run's own limit")
