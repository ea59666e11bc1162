"""What a source of credentials says about the API server, in memory, and the reading of the files it names."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from towline.agent.errors import KubernetesError

MAX_FILE_BYTES = 1024 * 1024
"""A kubeconfig of many clusters is some hundred KiB; a certificate a few."""


@dataclass(frozen=True, slots=True)
class Material:
    """Address, trust and proof. Texts are PEM; empty means that there is none."""

    server: str
    server_name: str = ""
    authorities: str = field(default="", repr=False)
    """Empty: the authorities that the system trusts."""
    certificate: str = field(default="", repr=False)
    key: str = field(default="", repr=False)
    token: str = field(default="", repr=False)


def read_secret(path: Path, hint: str) -> str:
    """Read a small text file. Raises: KubernetesError: naming the file, why not, and `hint`."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
        if len(content) > MAX_FILE_BYTES:
            raise KubernetesError(f"{path} has more than {MAX_FILE_BYTES} bytes; {hint}")
        return content.decode()
    except OSError as error:
        raise KubernetesError(f"{path}: {(error.strerror or 'cannot be read').lower()}; {hint}") from error
    except UnicodeDecodeError:
        raise KubernetesError(f"{path} is not text; {hint}") from None
