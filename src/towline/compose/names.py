"""Grammars of the names that people choose: projects, services, deployments, secrets, variables.

Not here: image references (`references`) and file paths (`bundle`).
"""

import re
from typing import NewType

from towline.compose.errors import NameRefused
from towline.compose.text import shown

ProjectName = NewType("ProjectName", str)
ServiceName = NewType("ServiceName", str)
DeploymentName = NewType("DeploymentName", str)
SecretName = NewType("SecretName", str)
VariableName = NewType("VariableName", str)

# Compose's own project grammar, cut to the 63 characters that fit a DNS label. A leading dash is excluded,
# so that no name is ever taken for an option.
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}", re.ASCII)
# Compose allows dots and capitals in service, volume and network names.
_RESOURCE = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._-]{0,62}", re.ASCII)
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}", re.ASCII)

_NAME_RULE = "use 1 to 63 of a-z, 0-9, '-' and '_', starting with a letter or digit"
_RESOURCE_RULE = "use 1 to 63 of letters, digits, '.', '-' and '_', starting with a letter or digit"
_VARIABLE_RULE = "use 1 to 128 of letters, digits and '_', not starting with a digit"


def project_name(text: str) -> ProjectName:
    """Check the name of a Compose project. Raises: NameRefused."""
    return ProjectName(_checked("project name", text, _NAME, _NAME_RULE))


def deployment_name(text: str) -> DeploymentName:
    """Check the name of a deployment, which is also its project's name. Raises: NameRefused."""
    return DeploymentName(_checked("deployment name", text, _NAME, _NAME_RULE))


def service_name(text: str) -> ServiceName:
    """Check the name of a service. Raises: NameRefused."""
    return ServiceName(_checked("service name", text, _RESOURCE, _RESOURCE_RULE))


def secret_name(text: str) -> SecretName:
    """Check the name of a secret: it becomes a file name on the host. Raises: NameRefused."""
    return SecretName(_checked("secret name", text, _RESOURCE, _RESOURCE_RULE))


def variable_name(text: str) -> VariableName:
    """Check the name of a variable as `${NAME}` can use it. Raises: NameRefused."""
    return VariableName(_checked("variable name", text, _VARIABLE, _VARIABLE_RULE))


def is_resource_name(text: str) -> bool:
    """Tell whether a volume, network, config or secret may carry this name."""
    return _RESOURCE.fullmatch(text) is not None


def _checked(what: str, text: str, grammar: re.Pattern[str], rule: str) -> str:
    if grammar.fullmatch(text) is None:
        raise NameRefused(f"{what} {shown(text)} is not allowed: {rule}")
    return text
