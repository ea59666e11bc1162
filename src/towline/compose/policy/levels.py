"""Policies as data: three levels, the grants that go with each, and the stricter of two.

Not here: the rules that read them.
"""

from dataclasses import dataclass, field, replace
from enum import StrEnum

from towline.compose import paths


class Level(StrEnum):
    """How far a project may reach into its host."""

    RESTRICTED = "restricted"
    STANDARD = "standard"
    PRIVILEGED = "privileged"

    @property
    def rank(self) -> int:
        return list(Level).index(self)

    def includes(self, other: "Level") -> bool:
        return self.rank >= other.rank


class Binds(StrEnum):
    """Which host paths may be mounted: none, those in the project's folder, or granted folders too."""

    NONE = "none"
    PROJECT = "project"
    FOLDERS = "folders"

    @property
    def rank(self) -> int:
        return list(Binds).index(self)


ALL_CAPABILITIES = frozenset({"ALL"})
# What Docker gives every container by default: adding one of these grants nothing new.
DOCKER_CAPABILITIES = frozenset(
    {
        "AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_BIND_SERVICE", "NET_RAW",
        "SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT",
    }
)  # fmt: skip
# IPC_LOCK keeps memory out of swap; databases and vaults ask for it, and it reaches nothing outside the container.
STANDARD_CAPABILITIES = DOCKER_CAPABILITIES | {"IPC_LOCK"}
RESTRICTED_CAPABILITIES = frozenset({"NET_BIND_SERVICE"})
# Ports below this need root on a host, and are where people expect the host's own services.
FIRST_UNPRIVILEGED_PORT = 1024


@dataclass(frozen=True, slots=True)
class Policy:
    """What is granted. Build by `for_level` or `local`, join by `stricter`.

    Attributes: capabilities: may be added; {"ALL"} stands for any. bind_folders: absolute folders under which mounts
        are granted when `binds` is `folders`. images: every group must have a pattern that fits; no group allows all.
        lowest_port: the first host port that may be published.
    """

    level: Level
    capabilities: frozenset[str]
    binds: Binds
    bind_folders: tuple[str, ...]
    host_network: bool
    devices: bool
    lowest_port: int = 1
    require_digest: bool = False
    images: tuple[tuple[str, ...], ...] = field(default=())

    def may_add(self, capability: str) -> bool:
        return "ALL" in self.capabilities or capability in self.capabilities


def for_level(level: Level) -> Policy:
    """The grants of a level. Where it leaves mounts to the host, the agent's own policy decides about folders."""
    match level:
        case Level.RESTRICTED:
            return Policy(level, RESTRICTED_CAPABILITIES, Binds.PROJECT, (), False, False, FIRST_UNPRIVILEGED_PORT)
        case Level.STANDARD:
            return Policy(level, STANDARD_CAPABILITIES, Binds.FOLDERS, ("/",), False, False)
        case Level.PRIVILEGED:
            return Policy(level, ALL_CAPABILITIES, Binds.FOLDERS, ("/",), True, True)


def local(
    *,
    privileged: bool = False,
    capabilities: frozenset[str] | None = None,
    bind_mounts: bool = True,
    bind_folders: tuple[str, ...] = (),
    images: tuple[str, ...] = (),
    host_network: bool = False,
    devices: bool = False,
    require_digest: bool = False,
) -> Policy:
    """The policy of a host's owner, from the agent's policy file. The defaults grant what stays in the project.

    Args: capabilities: None for the level's own. bind_folders: absolute folders besides the project's own.
        privileged: grants everything that a level can grant, whatever the other arguments but `images` say.
    Raises: ValueError, for a folder that is not absolute and normal.
    """
    for folder in bind_folders:
        if not folder.startswith("/") or paths.resolve("/", folder) != folder:
            raise ValueError(f"{folder!r} is not an absolute folder")
    base = for_level(Level.PRIVILEGED if privileged else Level.STANDARD)
    groups = (images,) if images else ()
    if privileged:
        return replace(base, images=groups, require_digest=require_digest)
    return replace(
        base,
        capabilities=base.capabilities if capabilities is None else capabilities,
        binds=Binds.FOLDERS if bind_mounts else Binds.NONE,
        bind_folders=bind_folders,
        host_network=host_network,
        devices=devices,
        require_digest=require_digest,
        images=groups,
    )


def stricter(one: Policy, other: Policy) -> Policy:
    """What both grant."""
    return Policy(
        level=min(one.level, other.level, key=lambda level: level.rank),
        capabilities=_both_capabilities(one.capabilities, other.capabilities),
        binds=min(one.binds, other.binds, key=lambda binds: binds.rank),
        bind_folders=_both_folders(one.bind_folders, other.bind_folders),
        host_network=one.host_network and other.host_network,
        devices=one.devices and other.devices,
        lowest_port=max(one.lowest_port, other.lowest_port),
        require_digest=one.require_digest or other.require_digest,
        images=tuple(dict.fromkeys(one.images + other.images)),
    )


def _both_capabilities(one: frozenset[str], other: frozenset[str]) -> frozenset[str]:
    if "ALL" in one and "ALL" in other:
        return ALL_CAPABILITIES
    if "ALL" in one or "ALL" in other:
        return other if "ALL" in one else one
    return one & other


def _both_folders(one: tuple[str, ...], other: tuple[str, ...]) -> tuple[str, ...]:
    kept = [folder for folder in one if paths.is_within_any(folder, other)]
    kept += [folder for folder in other if paths.is_within_any(folder, one)]
    return tuple(sorted(set(kept)))
