"""One immutable version of a project, without any secret value, and the project that it describes.

Not here: numbers, authors and times (those are rows), what runs (`drift`).
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from towline.compose import environment, names, project
from towline.compose.errors import EnvironmentRefused
from towline.compose.project import Parsed

# The variables that steer Compose and Docker themselves are not the project's; profiles are its own matter.
RESERVED_PREFIXES = ("COMPOSE_", "DOCKER_", "BUILDKIT_", "BUILDX_")
ALLOWED_VARIABLES = frozenset({"COMPOSE_PROFILES"})


@dataclass(frozen=True, slots=True)
class Revision:
    """What a deploy is made of.

    Attributes: env: the env file as its author wrote it. variables: set besides it, they win. secrets: name to version,
        a text that changes whenever the value does. files: path in the bundle to the digest of its content. bundle: the
        bundle's digest. images: service to the image it ran, digests included; known after the first good deploy.
    """

    project: str
    compose: str
    env: str = ""
    variables: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    bundle: str = ""
    images: Mapping[str, str] = field(default_factory=dict)

    def fingerprint(self) -> str:
        """A digest of all that decides what runs, images aside: equal ones deploy the same."""
        parts = [
            self.project, self.compose, self.env, sorted(self.variables.items()), sorted(self.secrets.items()),
            sorted(self.files.items()), self.bundle,
        ]  # fmt: skip
        return hashlib.sha256(json.dumps(parts, ensure_ascii=True).encode()).hexdigest()

    def values(self) -> dict[str, str]:
        """The variables for interpolation, with a placeholder for each secret.

        Raises: EnvironmentRefused, NameRefused.
        """
        found = environment.parse(self.env) | dict(self.variables)
        for name in found:
            check_variable(name)
        return found | {name: placeholder(name, version) for name, version in self.secrets.items()}

    def parse(self, folder: str = "") -> Parsed:
        """Read the project, secrets as placeholders. Raises: DocumentRefused, EnvironmentRefused, NameRefused."""
        return project.parse(self.compose, self.values(), name=self.project, folder=folder, secrets=self.secrets)


def check_variable(name: str) -> None:
    """Refuse the variables that would steer Compose or Docker. Raises: EnvironmentRefused."""
    if name.startswith(RESERVED_PREFIXES) and name not in ALLOWED_VARIABLES:
        raise EnvironmentRefused(f"the variable {name} steers Docker itself and cannot be set", 1)


def check_secrets(secrets: Mapping[str, str], variables: Mapping[str, str]) -> None:
    """Check the names of secrets. Raises: NameRefused, EnvironmentRefused when a name is also a plain variable."""
    for name in secrets:
        names.secret_name(name)
        check_variable(name)
        if name in variables:
            raise EnvironmentRefused(f"{name} is both a variable and a secret", 1)


def placeholder(name: str, version: str) -> str:
    """What stands for a secret's value wherever people or other hosts look."""
    return f"‹secret {name} {hashlib.sha256(version.encode()).hexdigest()[:8]}›"
