"""Settings of the agent: one typed object from a TOML file and `TOWLINE_AGENT_…` variables; variables win.

Unknown keys are errors that name the nearest known one. What the control plane may do here is not a setting but
the policy file (`policy.py`). No pydantic here: the agent starts without the server's dependencies.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_type_hints

import msgspec
from msgspec import Meta

from towline.agent.errors import SettingsError

PREFIX = "TOWLINE_AGENT_"
DEFAULT_FILE = Path("/etc/towline/agent.toml")
ROOT_STATE_FOLDER = Path("/var/lib/towline-agent")
MEBIBYTE = 1024 * 1024

KubernetesMode = Literal["auto", "off"]
Protocol = Literal["towline", "instadeploy", "pipeops-rest", "pipeops-ws"]

_FOREIGN = frozenset({"TOKEN", "TOKEN_FILE", "CONFIG", "LOCAL_READ_TOKEN", "LOCAL_OPERATE_TOKEN"})
"""Variables with our prefix that are not settings: tokens, which no repr may show, and the place of the file itself."""

PIPEOPS_PORT = "PIPEOPS_PORT"
"""What users of the PipeOps agent set; TOWLINE_AGENT_LISTEN and the file win."""


def default_state_folder() -> Path:
    """Return where the identity, the journal and the projects live unless told otherwise."""
    if os.geteuid() == 0:
        return ROOT_STATE_FOLDER
    import platformdirs

    return Path(platformdirs.user_data_dir("towline-agent"))


class AgentSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that can be set; each description says unit, default and reason."""

    state_folder: Annotated[
        Path,
        Meta(
            description="Folder of identity, journal, bundles and projects. Default: /var/lib/towline-agent for root, "
            "else the user's data folder."
        ),
    ] = msgspec.field(default_factory=default_state_folder)
    projects_folder: Annotated[
        Path | None,
        Meta(description="Folder of the Compose projects, `projects` in the state folder when empty. Never moved."),
    ] = None
    policy_file: Annotated[
        Path | None,
        Meta(
            description="The local policy that the control plane cannot widen. Empty: /etc/towline/agent-policy.toml, "
            "else policy.toml in the state folder, else the built-in defaults."
        ),
    ] = None
    docker_host: Annotated[
        str,
        Meta(description="Address of the Docker engine, `unix://…`. Empty: DOCKER_HOST, else the first socket found."),
    ] = ""
    compose_command: Annotated[
        str, Meta(description="Path of the Compose binary. Empty: the Docker CLI's plugin, else docker-compose.")
    ] = ""
    kubernetes: Annotated[
        KubernetesMode,
        Meta(
            description="`auto`: serve the cluster of `kubeconfig`, else the one whose pod the agent is. `off`: none. "
            "A kubeconfig that is not named here is never used."
        ),
    ] = "auto"
    kubeconfig: Annotated[
        Path | None,
        Meta(
            description="Kubeconfig of the cluster to serve, e.g. /etc/rancher/k3s/k3s.yaml; read again every minute. "
            "Takes tokens, token files and client certificates; no plugins, no unverified TLS."
        ),
    ] = None
    kubelet_account: Annotated[
        str,
        Meta(
            description="`NAMESPACE/NAME` of the ServiceAccount that asks kubelets for usage where the cluster "
            "has no metrics API; it may get `nodes/stats`, and the agent may make tokens of it. Empty: none is asked."
        ),
    ] = ""
    kubelet_ca_file: Annotated[
        Path | None,
        Meta(
            description="PEM file of authorities that sign kubelets, besides the cluster's own: kubelets that sign "
            "their certificates themselves are asked only with it."
        ),
    ] = None
    kubeconfig_context: Annotated[str, Meta(description="Context of the kubeconfig. Empty: its current one.")] = ""
    ca_file: Annotated[
        Path | None, Meta(description="PEM file of further authorities to trust for the control plane.")
    ] = None
    proxy: Annotated[
        str,
        Meta(
            description="HTTP proxy for the link, `http://[user:password@]host:port`. Empty: HTTPS_PROXY and NO_PROXY."
        ),
    ] = ""
    server: Annotated[
        str,
        Meta(
            description="Control plane to join at the first start, `https://host:port`, for an agent that nobody logs "
            "in to; the token comes from TOWLINE_AGENT_TOKEN_FILE. Empty: `towline agent join` was or will be run."
        ),
    ] = ""
    fingerprints: Annotated[
        str, Meta(description="`sha256:…` of the authorities to trust while joining `server`, separated by commas.")
    ] = ""
    join_token_file: Annotated[
        Path | None,
        Meta(
            description="File with the join token for `server`, read at each attempt. Empty: TOWLINE_AGENT_TOKEN_FILE, "
            "else TOWLINE_AGENT_TOKEN."
        ),
    ] = None
    identity_secret: Annotated[
        str,
        Meta(
            description="`NAMESPACE/NAME` of the Kubernetes Secret that keeps this agent's key for all of its pods. "
            "Empty: the key lies in the state folder alone."
        ),
    ] = ""
    protocol: Annotated[
        Protocol,
        Meta(
            description="What the control plane speaks: `towline`, or that of an older system, `instadeploy`, "
            "`pipeops-rest`, `pipeops-ws`. With one of these the names of its own agent are read beside ours: "
            "SERVER_URL, AGENT_TOKEN, PIPEOPS_API_URL, PIPEOPS_TOKEN and so on; `server` and other names of ours win."
        ),
    ] = "towline"
    protocol_file: Annotated[
        Path | None,
        Meta(
            description="YAML file of the PipeOps agent. Empty: .pipeops-agent.yaml in the home folder, /etc/pipeops "
            "or the working folder, for the protocols of that system."
        ),
    ] = None
    protocol_token_file: Annotated[
        Path | None,
        Meta(
            description="File with the token for an older system's control plane, read at each connect. Empty: what "
            "its own agent reads, AGENT_SECRET_TOKEN, AGENT_TOKEN, PIPEOPS_TOKEN, PIPEOPS_API_TOKEN, or the YAML file."
        ),
    ] = None
    listen: Annotated[
        str,
        Meta(
            description="Where the agent answers local questions over HTTP, `PORT` or `ADDRESS:PORT`; a port alone "
            "listens on 127.0.0.1. Empty: PIPEOPS_PORT, else 127.0.0.1:8080 for a standalone agent, else nowhere."
        ),
    ] = ""
    standalone: Annotated[
        bool,
        Meta(
            description="Run without a control plane, with the local surface; `towline agent join`, or a `server` that "
            "is set later in the settings' file, still joins, without a restart."
        ),
    ] = False
    read_token_file: Annotated[
        Path | None,
        Meta(
            description="File with the local token that reads, e.g. of a mounted Secret. Empty: "
            "TOWLINE_AGENT_LOCAL_READ_TOKEN, else local-read.token in the state folder, made at the first start."
        ),
    ] = None
    operate_token_file: Annotated[
        Path | None,
        Meta(
            description="The same for the local token that operates: TOWLINE_AGENT_LOCAL_OPERATE_TOKEN, "
            "local-operate.token."
        ),
    ] = None
    silence_alert_seconds: Annotated[
        float,
        Meta(
            description="Seconds without a word of the control plane after which the agent says so, in its log, as a "
            "figure and on its dashboard: ten minutes, longer than a restart or an update of the server takes."
        ),
    ] = 600.0
    log_level: Annotated[str, Meta(description="debug, info, warning or error.")] = "info"
    log_format: Annotated[str, Meta(description="`json`, `text`, or `auto`: text on a terminal, else JSON.")] = "auto"
    parallel_jobs: Annotated[
        int, Meta(description="Jobs of different projects that run at once; one project's jobs run one by one.")
    ] = 4
    parallel_commands: Annotated[
        int, Meta(description="Commands that run at once, those of the local surface counted apart; others wait.")
    ] = 10
    streams_limit: Annotated[
        int, Meta(description="Streams open at once over the link; further ones are refused as busy.")
    ] = 512
    bundles_bytes: Annotated[
        int, Meta(description="Room for the further files of deployments, in bytes; what is unused longest goes first.")
    ] = 512 * MEBIBYTE
    docker_wait_seconds: Annotated[
        float, Meta(description="How long a job waits for an engine that is away before it fails, in seconds.")
    ] = 120.0
    watchdog_seconds: Annotated[
        float,
        Meta(description="Seconds without a sign of life of the link's own loop after which the process ends itself."),
    ] = 900.0
    journal_keep_seconds: Annotated[
        float, Meta(description="How long a finished and stored job stays in the journal, in seconds: one day.")
    ] = 86400.0

    @property
    def projects(self) -> Path:
        """The folder of the projects."""
        return self.projects_folder or self.state_folder / "projects"


def load(file: Path | None = None, environment: Mapping[str, str] | None = None, **overrides: Any) -> AgentSettings:
    """Read the file, then the environment, then the given overrides.

    Args: file: must exist when given; else TOWLINE_AGENT_CONFIG, else DEFAULT_FILE when it exists.
    Raises: SettingsError: naming the key, its source and, for a misspelt one, the nearest known key.
    """
    environment = os.environ if environment is None else environment
    values = _from_pipeops(environment)
    values.update(_from_file(_file_to_read(file, environment)))
    values.update(_from_environment(environment))
    values.update({name: value for name, value in overrides.items() if value is not None})
    return AgentSettings(**{**_from_older(values, environment), **values})


def _from_older(values: Mapping[str, Any], environment: Mapping[str, str]) -> dict[str, Any]:
    """Read what ours share with the settings of an older system's agent; those of ours win."""
    protocol = _converted("protocol", values.get("protocol", "towline"), "--protocol")
    if protocol == "towline":
        return {}
    from towline.agent.protocols import names

    older = names.read(protocol, environment, values.get("protocol_file"))
    found = {"server": older.server, "listen": older.listen, "log_level": older.log_level}
    shared: dict[str, Any] = {name: value for name, value in found.items() if value}
    return shared | ({"ca_file": _path(older.ca_file)} if older.ca_file else {})


def _file_to_read(file: Path | None, environment: Mapping[str, str]) -> Path | None:
    named = file or (Path(text) if (text := environment.get(PREFIX + "CONFIG", "")) else None)
    if named is not None:
        return named
    return DEFAULT_FILE if DEFAULT_FILE.exists() else None


def _from_file(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        raw = tomllib.loads(path.read_text())
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror or error}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} is not TOML: {error}") from error
    return {key: _converted(key, value, str(path)) for key, value in raw.items()}


def _from_pipeops(environment: Mapping[str, str]) -> dict[str, Any]:
    port = environment.get(PIPEOPS_PORT, "")
    if not port or port.startswith("tcp://"):  # which Kubernetes says of a service of the name "pipeops"
        return {}
    if not port.isascii() or not port.isdigit():
        raise SettingsError(f"variable {PIPEOPS_PORT}: it must be a port, not {port!r}")
    return {"listen": port}


def _from_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    found = {}
    for name, text in environment.items():
        key = name.removeprefix(PREFIX)
        if key != name and key not in _FOREIGN:
            found[key.lower()] = _converted(key.lower(), text, f"variable {name}")
    return found


def _converted(key: str, value: Any, source: str) -> Any:
    kinds = get_type_hints(AgentSettings)
    if key not in kinds:
        raise SettingsError(f"{source}: unknown setting {key!r}{nearest_hint(key, kinds)}")
    parse, words = _PARSERS[kinds[key]]
    try:
        return parse(value)
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise SettingsError(f"{source}: {key} must be {words}, not {value!r}") from error


def nearest_hint(key: str, known: Mapping[str, Any]) -> str:
    """Return `; did you mean 'x'?`, or the list of what there is."""
    from difflib import get_close_matches

    close = get_close_matches(key, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; known are {', '.join(sorted(known))}"


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _path(value: Any) -> Path:
    if not _text(value):
        raise ValueError
    return Path(value).expanduser().absolute()


def _kubernetes_mode(value: Any) -> KubernetesMode:
    if value not in get_args(KubernetesMode):
        raise ValueError
    mode: KubernetesMode = value
    return mode


def _protocol(value: Any) -> Protocol:
    if value not in get_args(Protocol):
        raise ValueError
    protocol: Protocol = value
    return protocol


def _flag(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    return {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False, "": False}[value.lower()]


def _optional_path(value: Any) -> Path | None:
    return _path(value) if _text(value) else None


def _whole(value: Any) -> int:
    number = _number(value)
    if number != int(number):
        raise ValueError
    return int(number)


def _number(value: Any) -> float:
    if isinstance(value, bool):
        raise TypeError
    number = float(value)
    if not 0 < number < float("inf"):
        raise ValueError
    return number


_PARSERS: dict[Any, tuple[Callable[[Any], Any], str]] = {
    Path: (_path, "a path"),
    Path | None: (_optional_path, "a path"),
    KubernetesMode: (_kubernetes_mode, "auto or off"),
    Protocol: (_protocol, f"one of {', '.join(get_args(Protocol))}"),
    str: (_text, "text"),
    bool: (_flag, "true or false"),
    int: (_whole, "a whole number above 0"),
    float: (_number, "a number above 0"),
}
