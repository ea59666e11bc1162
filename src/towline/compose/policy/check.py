"""The one entry: a model and a policy in, violations out."""

from collections.abc import Iterator, Mapping
from typing import Any

from towline.compose import normal
from towline.compose.document import Document, KeyPath
from towline.compose.policy import keys, resources, services
from towline.compose.policy.findings import Context, Rule, Violation
from towline.compose.policy.levels import Policy
from towline.compose.policy.look import Look

_SECTIONS = {
    "volumes": resources.volume,
    "networks": resources.network,
    "secrets": resources.secret,
    "configs": resources.config,
}


def check(
    model: Mapping[str, Any], policy: Policy, context: Context | None = None, document: Document | None = None
) -> list[Violation]:
    """Check a project against a policy.

    Args: model: interpolated data in any syntax: what a Compose file says, or what `docker compose config` printed
        (through `normal.from_config`). document: the file it came from, for line numbers.
    Returns: all violations, in the order of the file's sections; an empty list means allowed.
    """
    wrong: list[Violation] = []

    def report(path: KeyPath, message: str) -> None:
        mark = document.mark(path) if document is not None else None
        wrong.append(Violation(path, Rule.SHAPE, message, "write it as Compose expects it", mark and mark.line))

    normalised = normal.normalise(dict(model), report)
    look = Look(normalised, policy, context or Context(), document)
    return [*wrong, *_violations(look)]


def _violations(look: Look) -> Iterator[Violation]:
    yield from look.keys((), look.model, keys.TOP)
    yield from resources.includes(look)
    for name, body in look.model["services"].items():
        yield from services.service(look, name, body)
    for section, rule in _SECTIONS.items():
        for name, body in look.model[section].items():
            yield from rule(look, name, body)
            yield from services.resource_labels(look, section, name, body)
