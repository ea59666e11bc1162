"""What the pods of a manifest ask of their nodes, held against the host's Compose policy. Pure.

A pod's container is read as the Compose service that would ask for the same: its image, privileges, capabilities,
host namespaces, host paths and host ports. What an operator makes out of custom objects cannot be seen here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from towline.commandline.plan import Manifest
from towline.compose import policy

_TEMPLATES = {
    "Pod": (),
    "PodTemplate": ("template",),
    "Deployment": ("spec", "template"),
    "ReplicaSet": ("spec", "template"),
    "StatefulSet": ("spec", "template"),
    "DaemonSet": ("spec", "template"),
    "ReplicationController": ("spec", "template"),
    "Job": ("spec", "template"),
    "CronJob": ("spec", "jobTemplate", "spec", "template"),
}
"""Where the pod is in each kind that makes pods."""
KINDS = frozenset(_TEMPLATES)
"""Built-in kinds that run containers."""
_CONTAINERS = ("initContainers", "containers", "ephemeralContainers")


def makes_pods(manifest: Manifest) -> bool:
    """Tell whether an object of a built-in kind runs containers."""
    return manifest.resource.is_known and manifest.resource.kind in _TEMPLATES


def violations(
    manifests: Iterable[Manifest], granted: policy.Policy, *, protected: tuple[str, ...] = ()
) -> Iterator[str]:
    """Yield what the policy does not allow, in words for who applies.

    Args: protected: folders of the agent itself, never mounted.
    """
    for manifest in manifests:
        if not makes_pods(manifest):
            continue
        model = {"services": dict(_services(_spec(manifest)))}
        for found in policy.check(model, granted, policy.Context(protected=protected)):
            container = found.key_path[1] if len(found.key_path) > 1 else ""
            yield f"{manifest.resource.shown}/{manifest.name}: container {container}: {found.message}"


def _spec(manifest: Manifest) -> Mapping[str, Any]:
    value: Any = manifest.body
    for key in (*_TEMPLATES[manifest.resource.kind], "spec"):
        value = _mapping(value).get(key)
    return _mapping(value)


def _services(spec: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    host_paths = {
        volume.get("name"): str(_mapping(volume["hostPath"]).get("path", ""))
        for volume in _items(spec.get("volumes"))
        if "hostPath" in volume
    }
    for group in _CONTAINERS:
        for container in _items(spec.get(group)):
            yield str(container.get("name", "")), _service(spec, container, host_paths)


def _service(spec: Mapping[str, Any], container: Mapping[str, Any], host_paths: Mapping[Any, str]) -> dict[str, Any]:
    own, shared = _mapping(container.get("securityContext")), _mapping(spec.get("securityContext"))
    service: dict[str, Any] = {"image": str(container.get("image") or "none")}
    if own.get("privileged") or _is_host_process(own) or _is_host_process(shared):
        service["privileged"] = True
    added = _mapping(own.get("capabilities")).get("add")
    if isinstance(added, list):
        service["cap_add"] = [str(each) for each in added]
    for key, field in (("network_mode", "hostNetwork"), ("pid", "hostPID"), ("ipc", "hostIPC")):
        if spec.get(field):
            service[key] = "host"
    mounts = [each for each in _items(container.get("volumeMounts")) if each.get("name") in host_paths]
    if mounts:
        service["volumes"] = [_mount(each, host_paths[each["name"]]) for each in mounts]
    if options := list(_options(own, shared)):
        service["security_opt"] = options
    if sysctls := [f"{each.get('name')}={each.get('value')}" for each in _items(shared.get("sysctls"))]:
        service["sysctls"] = sysctls
    ports = [each for each in _items(container.get("ports")) if each.get("hostPort")]
    if ports:
        service["ports"] = [f"{each['hostPort']}:{each.get('containerPort', each['hostPort'])}" for each in ports]
    return service


def _mount(mount: Mapping[str, Any], source: str) -> dict[str, Any]:
    return {"type": "bind", "source": source, "target": str(mount.get("mountPath", "/"))}


def _options(own: Mapping[str, Any], shared: Mapping[str, Any]) -> Iterator[str]:
    """Yield Docker's security options that take the same walls away."""
    if own.get("procMount") == "Unmasked":
        yield "systempaths=unconfined"
    for name, field in (("seccomp", "seccompProfile"), ("apparmor", "appArmorProfile")):
        if any(_mapping(each.get(field)).get("type") == "Unconfined" for each in (own, shared)):
            yield f"{name}=unconfined"


def _is_host_process(context: Mapping[str, Any]) -> bool:
    return bool(_mapping(context.get("windowsOptions")).get("hostProcess"))


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _items(value: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(value, list):
        yield from (each for each in value if isinstance(each, dict))
