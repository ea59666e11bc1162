"""What every rule is given: the model, the policy, the place, and one way to report.

Not here: any rule but the one on keys, which all others share.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from towline.compose import normal
from towline.compose.document import Document, KeyPath
from towline.compose.policy.findings import Context, Rule, Violation
from towline.compose.policy.keys import Keys
from towline.compose.policy.levels import Level, Policy
from towline.compose.text import nearest, shown

ASK_FOR_PRIVILEGED = "remove it, or ask for the level 'privileged' here and in the host's own policy"


@dataclass(frozen=True, slots=True)
class Look:
    """One check in progress."""

    model: Mapping[str, Any]
    policy: Policy
    context: Context
    document: Document | None = None

    def finding(self, path: KeyPath, rule: Rule, message: str, fix: str) -> Violation:
        mark = self.document.mark(path) if self.document is not None else None
        return Violation(path, rule, message, fix, mark.line if mark is not None else None)

    def allows(self, level: Level) -> bool:
        return self.policy.level.includes(level)

    @property
    def is_privileged(self) -> bool:
        return self.allows(Level.PRIVILEGED)

    def keys(self, path: KeyPath, body: Mapping[str, Any], known: Keys) -> Iterator[Violation]:
        """Refuse keys that are unknown, or above the level and not empty. `x-` keys are the author's own."""
        for key, value in body.items():
            if not isinstance(key, str) or key.startswith("x-"):
                continue
            where = (*path, key)
            if key not in known:
                guess = nearest(key, known)
                fix = f"did you mean {shown(guess)}?" if guess else "remove it"
                yield self.finding(where, Rule.UNKNOWN_KEY, f"the key {shown(key)} is not known", fix)
            elif not self.allows(known[key]) and _asks_for_something(value):
                message = f"{shown(key)} needs the level {known[key]}, this project has {self.policy.level}"
                yield self.finding(where, Rule.LEVEL, message, "remove it, or ask for that level")


def _asks_for_something(value: Any) -> bool:
    if isinstance(value, (dict, list)):
        return bool(value)
    return value != "" and normal.is_true(value)


def as_mapping(value: Any) -> Mapping[str, Any]:
    """A mapping, or an empty one for anything else: `shape` findings tell about the rest."""
    return value if isinstance(value, dict) else {}


def as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
