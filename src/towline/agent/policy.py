"""The local policy: what the control plane may do on this host. It can never widen it.

A TOML file that only the host's owner writes; read anew for each job and stream. Unknown keys are errors, and while
the file is wrong everything is refused. What Compose projects may ask for is judged by `towline.compose.policy`.
"""

from __future__ import annotations

import ipaddress
import tomllib
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import msgspec
import structlog

from towline.agent.errors import PolicyRefused, SettingsError
from towline.agent.settings import AgentSettings, nearest_hint
from towline.commandline import hosted_verbs
from towline.compose import policy as compose_policy

_log = structlog.get_logger("towline.agent")

SYSTEM_FILE = Path("/etc/towline/agent-policy.toml")
FILE_NAME = "policy.toml"
CAPABILITIES = ("compose", "forward", "exec", "logs", "kubernetes")

SOURCES = ("ingress", "httproute", "compose")

PROGRAMS = ("kubectl", "docker", "compose")
"""Of commands."""

KUBECTL_VERBS = tuple(verb.name for verb in hosted_verbs.HOSTED)
"""That the `kubectl` of the host may do."""

LOOPBACK, OWN, CONTAINERS = "loopback", "own", "containers"
"""Words that stand for addresses in forward targets."""

DEFAULT_TARGETS = (f"{LOOPBACK}:*", f"{OWN}:*", f"{CONTAINERS}:*")
"""This host and its containers. Other machines of its network only when its owner says so."""

_METADATA = ("169.254.0.0/16", "fe80::/10")
"""Link-local addresses answer cloud metadata with credentials: only named exactly they are reached."""


class ComposeRules(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What projects may ask for; see docs/how-to/agent-policy.md."""

    privileged: bool = False
    capabilities: tuple[str, ...] | None = None
    bind_mounts: bool = True
    bind_folders: tuple[str, ...] = ()
    images: tuple[str, ...] = ()
    host_network: bool = False
    devices: bool = False
    require_digest: bool = False
    projects: tuple[str, ...] = ("*",)


class ForwardRules(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    targets: tuple[str, ...] = DEFAULT_TARGETS


class ExecRules(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    projects: tuple[str, ...] = ("*",)
    """Containers outside of any project are named by `-`."""


class KubernetesRules(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What may pass to the API server; judged by `towline.agent.kubernetes.access`."""

    enabled: bool = True
    read_only: bool = False
    exec: bool = True
    secrets: bool = True
    namespaces: tuple[str, ...] = ("*",)


class GatewayRules(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What of this side may have a public name."""

    enabled: bool = True
    namespaces: tuple[str, ...] = ("*",)
    """Of Kubernetes services and pods that published requests reach; an ingress controller's own one counts too."""
    sources: tuple[str, ...] = SOURCES
    """What may ask for names by itself."""


class CommandRules(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What commands may do here, besides what `[kubernetes]` and `[compose]` say."""

    enabled: bool = True
    programs: tuple[str, ...] = PROGRAMS
    read_only: bool = False
    workloads: bool = True
    """Whether `kubectl apply` may bring objects that run containers; each is held against `[compose]` then."""
    kubectl_verbs: tuple[str, ...] = ()
    """Further verbs that the `kubectl` of the host does, for those who may; none unless they are listed."""
    containers: tuple[str, ...] = ("*",)
    """Projects whose containers `docker` reaches; containers outside of any project are named by `-`."""


class LocalPolicy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The policy in force."""

    capabilities: tuple[str, ...] = CAPABILITIES
    compose: ComposeRules = ComposeRules()
    forward: ForwardRules = ForwardRules()
    exec: ExecRules = ExecRules()
    kubernetes: KubernetesRules = KubernetesRules()
    gateway: GatewayRules = GatewayRules()
    commands: CommandRules = CommandRules()

    def require(self, capability: str) -> None:
        """Raises: PolicyRefused: the host's owner switched this off."""
        if capability not in self.capabilities:
            raise PolicyRefused(f"the policy of this host does not allow {capability}")

    def require_project(self, project: str) -> None:
        """Raises: PolicyRefused: jobs may not touch this project."""
        self.require("compose")
        if not fits(project, self.compose.projects):
            raise PolicyRefused(f"the policy of this host does not allow jobs for the project {project!r}")

    def require_exec(self, project: str) -> None:
        """Raises: PolicyRefused: nobody may run commands in containers of this project."""
        self.require("exec")
        if not fits(project or "-", self.exec.projects):
            raise PolicyRefused(f"the policy of this host does not allow commands in {project or 'this container'!r}")

    def require_command(self, program: str, *, writes: bool) -> None:
        """Raises: PolicyRefused: commands like this may not run here."""
        rules = self.commands
        if not rules.enabled or program not in rules.programs:
            raise PolicyRefused(f"the policy of this host does not allow {program} commands")
        if writes and rules.read_only:
            raise PolicyRefused("the policy of this host allows commands that read only")

    def require_verb(self, verb: str) -> None:
        """Raises: PolicyRefused: the `kubectl` of the host is not used for this."""
        if verb not in self.commands.kubectl_verbs:
            raise PolicyRefused(f"the policy of this host does not list kubectl {verb} (commands.kubectl_verbs)")

    def require_kubernetes(self) -> KubernetesRules:
        """Return what requests are held against. Raises: PolicyRefused: none may pass at all."""
        self.require("kubernetes")
        if not self.kubernetes.enabled:
            raise PolicyRefused("the policy of this host does not allow kubernetes")
        return self.kubernetes

    def require_gateway(self, namespace: str) -> None:
        """Raises: PolicyRefused: nothing of this namespace may be reached by streams from outside."""
        self.require("forward")
        if not self.gateway.enabled:
            raise PolicyRefused("the policy of this host does not allow the gateway")
        if not fits(namespace, self.gateway.namespaces):
            raise PolicyRefused(f"the policy of this host does not publish the namespace {namespace[:100]!r}")

    def may_claim(self, source: str, namespace: str = "") -> bool:
        """Tell whether a source may ask for names, for a namespace when it has one."""
        rules = self.gateway
        if not rules.enabled or source not in rules.sources or "forward" not in self.capabilities:
            return False
        return not namespace or fits(namespace, rules.namespaces)

    def for_project(self, level: str) -> compose_policy.Policy:
        """Return what a project at a level may ask of this host: the stricter of both."""
        rules = self.compose
        own = compose_policy.local(
            privileged=rules.privileged,
            capabilities=None if rules.capabilities is None else frozenset(rules.capabilities),
            bind_mounts=rules.bind_mounts,
            bind_folders=rules.bind_folders,
            images=rules.images,
            host_network=rules.host_network,
            devices=rules.devices,
            require_digest=rules.require_digest,
        )
        return compose_policy.stricter(own, compose_policy.for_level(compose_policy.Level(level)))

    def shown(self) -> dict[str, Any]:
        """Return the policy for the cluster's page."""
        value: dict[str, Any] = msgspec.to_builtins(self)
        return value


DENY_ALL = LocalPolicy(capabilities=())


def load(settings: AgentSettings) -> LocalPolicy:
    """Read the policy. Raises: SettingsError: the file is wrong; nothing may be done until it is right."""
    path = find(settings)
    if path is None:
        return LocalPolicy()
    try:
        raw = tomllib.loads(path.read_text())
    except OSError as error:
        raise SettingsError(f"policy {path}: {error.strerror or error}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"policy {path} is not TOML: {error}") from error
    return parse(raw, str(path))


def find(settings: AgentSettings) -> Path | None:
    """Return the policy's file; None when the built-in defaults are in force."""
    if settings.policy_file is not None:
        return settings.policy_file
    return next((path for path in (SYSTEM_FILE, settings.state_folder / FILE_NAME) if path.exists()), None)


def load_or_deny(settings: AgentSettings) -> LocalPolicy:
    """Read the policy; while it is wrong, allow nothing and say so."""
    try:
        return load(settings)
    except SettingsError as error:
        _log.error("the policy cannot be read: nothing is allowed", reason=str(error))
        return DENY_ALL


def parse(raw: Mapping[str, Any], source: str) -> LocalPolicy:
    """Check a policy. Raises: SettingsError, naming what is wrong."""
    try:
        policy = msgspec.convert(raw, LocalPolicy)
        policy.for_project("standard")
        for target in policy.forward.targets:
            _split_target(target)
    except (msgspec.ValidationError, ValueError) as error:
        raise SettingsError(f"policy {source}: {error}{_hint(str(error))}") from error
    unknown = set(policy.capabilities) - set(CAPABILITIES)
    if unknown:
        raise SettingsError(f"policy {source}: unknown capabilities {sorted(unknown)}; known are {list(CAPABILITIES)}")
    for key, given, known in (
        ("gateway.sources", policy.gateway.sources, SOURCES),
        ("commands.programs", policy.commands.programs, PROGRAMS),
        ("commands.kubectl_verbs", policy.commands.kubectl_verbs, KUBECTL_VERBS),
    ):
        if strange := set(given) - set(known):
            raise SettingsError(f"policy {source}: unknown {key} {sorted(strange)}; known are {list(known)}")
    return policy


def may_forward(
    policy: LocalPolicy, host: str, address: str, port: int, own: Iterable[str], near: Iterable[str]
) -> bool:
    """Tell whether a stream may dial an address.

    Args: host: as the caller named it. address: what it resolved to. own: this host's addresses. near: containers'.
    """
    target = ipaddress.ip_address(address)
    target = getattr(target, "ipv4_mapped", None) or target
    words = _words(target, own, near)
    return any(
        _fits_port(port, ports) and _fits_host(pattern, host, target, words)
        for pattern, ports in map(_split_target, policy.forward.targets)
    )


def _words(target: Any, own: Iterable[str], near: Iterable[str]) -> set[str]:
    words = {LOOPBACK} if target.is_loopback else set()
    if str(target) in own:
        words.add(OWN)
    if str(target) in near:
        words.add(CONTAINERS)
    return words


def _fits_host(pattern: str, host: str, target: Any, words: set[str]) -> bool:
    if pattern in (LOOPBACK, OWN, CONTAINERS):
        return pattern in words
    if pattern in (str(target), host):
        return True
    if any(target in ipaddress.ip_network(network) for network in _METADATA):
        return False
    if "/" in pattern:
        return target in ipaddress.ip_network(pattern)
    return fnmatchcase(host.lower(), pattern.lower())


def _split_target(text: str) -> tuple[str, str]:
    host, colon, ports = text.rpartition(":")
    if not colon or not host or not (ports == "*" or all(part.isdigit() for part in ports.split("-", 1))):
        raise ValueError(f"forward target {text!r} is not HOST:PORT, HOST:FROM-TO or HOST:*")
    host = host.strip("[]")
    if "/" in host:
        ipaddress.ip_network(host)
    return host, ports


def _fits_port(port: int, ports: str) -> bool:
    if ports == "*":
        return True
    first, _, last = ports.partition("-")
    return int(first) <= port <= int(last or first)


def fits(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _hint(message: str) -> str:
    if "unknown field" not in message:
        return ""
    key = message.split("`")[1]
    kinds = (LocalPolicy, ComposeRules, ForwardRules, ExecRules, KubernetesRules, GatewayRules, CommandRules)
    known = {name: None for kind in kinds for name in kind.__struct_fields__}
    return nearest_hint(key, known)
