"""The settings of the older agents under their own names: environment and YAML file. Read beside ours, never written.

Precedence as they have it: environment, then file. Tokens are in no repr. Unknown keys are passed over, as those
agents do: their files name much that no agent has ever read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from towline.agent.errors import SettingsError

YAML_NAME = ".pipeops-agent.yaml"
MAX_FILE_BYTES = 1024 * 1024
"""Of the YAML file: people write it by hand."""
YAML_PLACES = (Path("/etc/pipeops") / YAML_NAME,)

SERVER_NAMES = {
    "instadeploy": ("SERVER_URL",),
    "pipeops-rest": ("PIPEOPS_API_URL",),
    "pipeops-ws": ("PIPEOPS_API_URL",),
}
"""Where each system's agent finds the address of its control plane."""
TOKEN_NAMES = {
    "instadeploy": ("AGENT_SECRET_TOKEN", "AGENT_TOKEN"),
    "pipeops-rest": ("PIPEOPS_TOKEN", "PIPEOPS_API_TOKEN"),
    "pipeops-ws": ("PIPEOPS_TOKEN", "PIPEOPS_API_TOKEN"),
}
_LEVELS = {"debug": "debug", "info": "info", "warn": "warning", "warning": "warning", "error": "error"}


@dataclass(frozen=True, slots=True)
class Older:
    """What an older agent would have been told. Empty: it was not."""

    server: str = ""
    token: str = field(default="", repr=False)
    agent_id: str = ""
    agent_name: str = ""
    cluster_name: str = ""
    listen: str = ""
    log_level: str = ""
    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)


def read(protocol: str, environment: Mapping[str, str], file: Path | None = None) -> Older:
    """Read what was set for the older agent of a protocol.

    Args: file: must exist when given; else the places where the PipeOps agent looks. Raises: SettingsError.
    """
    from_file = {} if protocol == "instadeploy" and file is None else _file(environment, file)

    def of(*names: str, key: str = "") -> str:
        found = next((environment[name] for name in names if environment.get(name)), "")
        return (found or _text(from_file, key)).strip()

    _refuse_unverified(of)
    return Older(
        server=of(*SERVER_NAMES[protocol], key="pipeops.api_url"),
        token=of(*TOKEN_NAMES[protocol], key="pipeops.token"),
        agent_id=of("PIPEOPS_AGENT_ID", "AGENT_ID", key="agent.id"),
        agent_name=of("AGENT_NAME", key="agent.name"),
        cluster_name=of("PIPEOPS_CLUSTER_NAME", key="agent.cluster_name"),
        listen=_port(of("AGENT_PORT", key="agent.port")) if protocol != "instadeploy" else "",
        log_level=_level(of("PIPEOPS_LOG_LEVEL", key="logging.level")),
        ca_file=of(key="pipeops.tls.ca_file"),
        cert_file=of(key="pipeops.tls.cert_file"),
        key_file=of(key="pipeops.tls.key_file"),
        labels=_labels(from_file),
    )


def _refuse_unverified(of: Callable[..., str]) -> None:
    if of("PIPEOPS_TLS_INSECURE_SKIP_VERIFY", key="pipeops.tls.insecure_skip_verify").lower() in ("true", "1", "yes"):
        raise SettingsError("insecure_skip_verify is not supported: name the authority in pipeops.tls.ca_file")


def _file(environment: Mapping[str, str], named: Path | None) -> Mapping[str, Any]:
    import yaml

    path = named or next(filter(Path.is_file, _places(environment)), None)
    if path is None:
        return {}
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
        if len(data) > MAX_FILE_BYTES:
            raise SettingsError(f"{path} has more than {MAX_FILE_BYTES} bytes")
        found = yaml.safe_load(data)
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror or error}") from error
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        # The text of a YAML error shows the lines around it, where a token may stand.
        raise SettingsError(f"{path} is not YAML: {_where(error)}") from error
    if found is not None and not isinstance(found, dict):
        raise SettingsError(f"{path} must hold keys and values")
    return found or {}


def _where(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    return f"{getattr(error, 'problem', None) or type(error).__name__} in line {mark.line + 1 if mark else '?'}"


def _places(environment: Mapping[str, str]) -> tuple[Path, ...]:
    home = environment.get("HOME", "")
    return (*((Path(home) / YAML_NAME,) if home else ()), *YAML_PLACES, Path(YAML_NAME))


def _found(values: Mapping[str, Any], key: str) -> Any:
    at: Any = values
    for part in key.split("."):
        at = at.get(part) if isinstance(at, dict) else None
    return at


def _text(values: Mapping[str, Any], key: str) -> str:
    found = _found(values, key) if key else None
    if found is None or isinstance(found, (dict, list)):
        return ""
    return str(found).lower() if isinstance(found, bool) else str(found)


def _labels(values: Mapping[str, Any]) -> dict[str, str]:
    found = _found(values, "agent.labels")
    return {str(key): str(value) for key, value in found.items()} if isinstance(found, dict) else {}


def _port(text: str) -> str:
    if text and not (text.isascii() and text.isdigit() and 0 < int(text) < 65536):
        raise SettingsError(f"the agent's port must be a port, not {text[:40]!r}")
    return text


def _level(text: str) -> str:
    if text and text.lower() not in _LEVELS:
        raise SettingsError(f"the log level must be one of {', '.join(_LEVELS)}, not {text[:40]!r}")
    return _LEVELS.get(text.lower(), "")
