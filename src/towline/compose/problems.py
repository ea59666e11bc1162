"""What is wrong with a project, where, and what to do: the form in which this package reports to people.

Not here: refusals that stop the reading at once (`errors`) and policy findings (`policy`), which carry a rule.
"""

from dataclasses import dataclass
from enum import StrEnum

from towline.compose.document import KeyPath, Mark


class Severity(StrEnum):
    """An error stops a deploy; a warning is shown and deployed."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Problem:
    """One finding in a Compose file.

    Attributes: path: keys from the top. mark: its place in the file, None for what is nowhere written. fix: what to do.
    """

    path: KeyPath
    mark: Mark | None
    message: str
    fix: str = ""
    severity: Severity = Severity.ERROR

    @property
    def line(self) -> int | None:
        return self.mark.line if self.mark is not None else None

    @property
    def is_error(self) -> bool:
        return self.severity is Severity.ERROR

    def __str__(self) -> str:
        where = f"line {self.mark.line}: " if self.mark is not None else ""
        return f"{where}{dotted(self.path)}: {self.message}" + (f" ({self.fix})" if self.fix else "")


def dotted(path: KeyPath) -> str:
    """Write a key path for people: `services.web.ports[0]`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text
