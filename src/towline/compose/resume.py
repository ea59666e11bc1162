"""Going on with an interrupted `up` without running a one-shot service twice.

`up` starts every container that has exited, so a migration that ended before the interruption would run again.
Not here: deciding that a deploy resumes (`plan`).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from towline.compose.containers import Container
from towline.compose.model import Lifetime, Service


@dataclass(frozen=True, slots=True)
class Resumption:
    """What to run to go on.

    Attributes: services: to name on `up`; empty means all. no_deps: `up` must start nothing else.
        is_needed: False when a one-shot service has failed already, so that starting more would be wrong, or when
        nothing but finished one-shot services is left: go and judge the health. finished: the ones not to run again.
    """

    services: tuple[str, ...]
    no_deps: bool
    is_needed: bool
    finished: tuple[str, ...] = ()


def resume(services: Iterable[Service], containers: Iterable[Container], hashes: Mapping[str, str]) -> Resumption:
    """Plan the second `up` of the same revision.

    Args: services: the active ones. hashes: the revision's configuration hash of each service. A one-shot service has
        had its run when a container of this very configuration was started since the interrupted `up` began.
    """
    active = tuple(services)
    present = tuple(containers)
    ended = {
        each.name: container
        for each in active
        if each.lifetime is not Lifetime.LONG and (container := _run_of(each, present, hashes)) is not None
    }
    if not ended:
        return Resumption((), no_deps=False, is_needed=True)
    failed = any(container.exit_code != 0 for name, container in ended.items())
    left = tuple(each.name for each in active if each.name not in ended)
    return Resumption(left, no_deps=True, is_needed=bool(left) and not failed, finished=tuple(ended))


def _run_of(service: Service, containers: Iterable[Container], hashes: Mapping[str, str]) -> Container | None:
    for container in containers:
        is_ours = container.service == service.name and not container.is_one_off
        is_same = bool(container.config_hash) and container.config_hash == hashes.get(service.name)
        if is_ours and is_same and container.has_ended and container.started_in_this_run:
            return container
    return None
