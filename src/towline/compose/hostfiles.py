"""The files of a project as they lie on its host: paths, content and modes, before anything is written.

With them `docker compose ps` in the folder works without us. This is the one place of the package that holds secret
values; they are never in a repr. Not here: the bundle's own files, and writing.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from towline.compose import environment, layout, names
from towline.compose.revision import Revision

_ENV_HEADER = "\n# Below: written by Towline at each deploy.\n"


@dataclass(frozen=True, slots=True)
class HostFile:
    """A file to write, relative to the project's folder."""

    path: str
    content: bytes = field(repr=False)
    mode: int


def render(
    revision: Revision,
    *,
    secret_values: Mapping[str, str],
    interpolated: frozenset[str],
    override: str = "",
    compose_name: str = layout.COMPOSE_FILE,
) -> tuple[HostFile, ...]:
    """Give the files of a revision.

    Args: interpolated: the variables that the Compose file uses; only secrets among them go into the env file, all
        go into files of their own. override: what `overrides.render` gave.
    """
    files = [
        HostFile(compose_name, revision.compose.encode(), layout.PLAIN_MODE),
        HostFile(
            layout.ENV_FILE,
            _env(revision, secret_values, interpolated, compose_files(compose_name, override)).encode(),
            layout.ENV_MODE,
        ),
    ]
    if override:
        files.append(HostFile(layout.OVERRIDE_FILE, override.encode(), layout.PLAIN_MODE))
    for name, value in sorted(secret_values.items()):
        files.append(HostFile(layout.secret_path(names.secret_name(name)), value.encode(), layout.SECRET_MODE))
    return tuple(files)


def compose_files(compose_name: str, override: str) -> tuple[str, ...]:
    """The Compose files of a project, in the order in which they override each other."""
    return (compose_name, layout.OVERRIDE_FILE) if override else (compose_name,)


def _env(
    revision: Revision, secret_values: Mapping[str, str], interpolated: frozenset[str], files: tuple[str, ...]
) -> str:
    own = {
        **revision.variables,
        **{name: value for name, value in sorted(secret_values.items()) if name in interpolated},
        "COMPOSE_PROJECT_NAME": revision.project,
        "COMPOSE_FILE": ":".join(files),
    }
    return revision.env.rstrip("\n") + _ENV_HEADER + environment.render(own)
