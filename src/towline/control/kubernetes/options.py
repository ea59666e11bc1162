"""What may be chosen about an agent in a cluster, checked. Pure; the objects are made in `manifest.py`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from towline.control.kubernetes.profiles import Profile

MOST_REPLICAS = 5
"""Two are enough against the loss of a node; more only cost watches."""
SURGE = 1
"""Pods that come while others go, in an update of the Deployment."""
MOST_NAMESPACES = 100
MOST_TOLERATIONS = 20
MOST_USERS = 500
"""Names in one rule: an object of the API may hold 1.5 MiB, a person reads less."""
LONGEST_CA = 256 * 1024

_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_KEY = re.compile(r"([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
_IMAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@-]{0,499}")
_QUANTITY = re.compile(r"[0-9]+(\.[0-9]+)?(m|Ki|Mi|Gi|k|M|G)?")
_USER = re.compile(r"[a-z0-9][a-z0-9_.@-]{0,62}")
_PROXY = re.compile(r"http://[!-~]{1,500}")
_NO_PROXY = re.compile(r"[A-Za-z0-9.:*/,_ -]{0,2000}")
_PEM = "-----BEGIN CERTIFICATE-----"

PullPolicy = Literal["IfNotPresent", "Always", "Never"]


class BadOption(ValueError):
    """A choice that makes no manifest; the message names it."""


@dataclass(frozen=True, slots=True)
class Toleration:
    """Which tainted nodes the agent may run on. Source: Kubernetes, "Taints and Tolerations"."""

    key: str = ""
    """Empty: every taint."""
    operator: Literal["Exists", "Equal"] = "Exists"
    value: str = ""
    effect: Literal["", "NoSchedule", "PreferNoSchedule", "NoExecute"] = ""


@dataclass(frozen=True, slots=True)
class Options:
    """Everything that can be chosen. `checked` before use."""

    image: str
    profile: Profile = Profile.DEFAULT
    namespace: str = "towline"
    name: str = "towline-agent"
    """Of the Deployment and what belongs to it; two agents in one cluster need two."""
    replicas: int = 1
    namespaces: tuple[str, ...] = ()
    """For the profile `namespaced`: where the agent and everybody behind it may act."""
    users: tuple[str, ...] = ()
    """Users that the agent may become; empty: all."""
    inventory: bool = True
    pull_policy: PullPolicy = "IfNotPresent"
    pull_secret: str = ""
    """A Secret with registry credentials that is in the namespace already."""
    priority_class: str = ""
    node_selector: Mapping[str, str] = field(default_factory=dict)
    tolerations: tuple[Toleration, ...] = ()
    proxy: str = field(default="", repr=False)
    """`http://[user:password@]host:port`; kept in a Secret."""
    no_proxy: str = ""
    ca_pem: str = ""
    """Further authorities that the agent trusts for the control plane."""
    cpu_request: str = "50m"
    cpu_limit: str = "1"
    memory_request: str = "96Mi"
    memory_limit: str = "256Mi"
    termination_grace: int = 30
    """Seconds for open streams to end when a pod goes."""

    @property
    def instances(self) -> int:
        """How many pods may be connected at once: replicas, and those that come while others go."""
        return self.replicas + SURGE

    @property
    def stats_account(self) -> str:
        """Name of the ServiceAccount that kubelets know the agent by; empty where they are not asked."""
        return f"{self.name}-stats" if self.inventory and self.profile is not Profile.NAMESPACED else ""

    @property
    def key_secret(self) -> str:
        """Name of the Secret that the first pod makes."""
        return f"{self.name}-key"

    @property
    def join_secret(self) -> str:
        """Name of the Secret with the join token."""
        return f"{self.name}-join"

    @property
    def local_secret(self) -> str:
        """Name of the Secret with the tokens of the agent's own surface."""
        return f"{self.name}-local"

    @property
    def settings_secret(self) -> str:
        """Name of the Secret with proxy and authorities, when there are any."""
        return f"{self.name}-settings"


def checked(options: Options) -> Options:
    """Return the options when every one can be. Raises: BadOption."""
    _match("namespace", options.namespace, _NAME)
    _match("name", options.name, _NAME)
    if len(options.name) > 52:
        raise BadOption("name may have 52 characters: Kubernetes adds to it")
    _match("image", options.image, _IMAGE)
    _range("replicas", options.replicas, 1, MOST_REPLICAS)
    _range("termination_grace", options.termination_grace, 1, 600)
    for name in ("pull_secret", "priority_class"):
        if getattr(options, name):
            _match(name, getattr(options, name), _SUBDOMAIN)
    for name in ("cpu_request", "cpu_limit", "memory_request", "memory_limit"):
        _match(name, getattr(options, name), _QUANTITY)
    _check_namespaces(options)
    _each("users", options.users, _USER, MOST_USERS)
    _check_places(options)
    if options.proxy:
        _match("proxy", options.proxy, _PROXY, secret=True)
    _match("no_proxy", options.no_proxy, _NO_PROXY)
    if options.ca_pem and (len(options.ca_pem) > LONGEST_CA or _PEM not in options.ca_pem):
        raise BadOption("ca_pem must hold certificates as PEM")
    if "PRIVATE KEY" in options.ca_pem:
        raise BadOption("ca_pem holds a private key; give certificates alone")
    return options


def _check_namespaces(options: Options) -> None:
    _each("namespaces", options.namespaces, _NAME, MOST_NAMESPACES)
    if (options.profile is Profile.NAMESPACED) != bool(options.namespaces):
        raise BadOption("the profile namespaced, and it alone, takes namespaces")


def _check_places(options: Options) -> None:
    if len(options.tolerations) > MOST_TOLERATIONS:
        raise BadOption(f"there may be {MOST_TOLERATIONS} tolerations")
    for one in options.tolerations:
        if one.key:
            _match("tolerations", one.key, _KEY)
        _match("tolerations", one.value, _VALUE)
        if (one.operator == "Exists" and one.value) or (one.operator == "Equal" and not one.key):
            raise BadOption("a toleration with a value needs the operator Equal and a key")
    for key, value in options.node_selector.items():
        _match("node_selector", key, _KEY)
        _match("node_selector", value, _VALUE)


def _match(name: str, value: str, pattern: re.Pattern[str], *, secret: bool = False) -> None:
    if pattern.fullmatch(value) is None:
        raise BadOption(f"{name} is no such thing" + ("" if secret else f": {value[:64]!r}"))


def _each(name: str, values: Sequence[str], pattern: re.Pattern[str], most: int) -> None:
    if len(values) > most:
        raise BadOption(f"there may be {most} {name}")
    for value in values:
        _match(name, value, pattern)


def _range(name: str, value: int, least: int, most: int) -> None:
    if not least <= value <= most:
        raise BadOption(f"{name} must lie between {least} and {most}")
