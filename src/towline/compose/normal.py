"""One shape for every syntax: short and long volumes, ports as text or mapping, lists or maps of variables.

Here: a Compose file's data turned into the shape that `docker compose config --format json` prints, so that rules are
written once. Not here: interpolation (before), `extends` and `include` (Compose resolves them on the host), judging.
"""

import math
import re
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

from towline.compose.document import KeyPath, Mapping
from towline.compose.ports import split_short

Report = Callable[[KeyPath, str], None]

_BIND_START = (".", "/", "~")
_WINDOWS_DRIVE = re.compile(r"[A-Za-z]:[\\/]")
_FALSE = frozenset({"false", "n", "no", "off"})
_BIND_OPTIONS = frozenset({"rprivate", "private", "rshared", "shared", "rslave", "slave"})
_LISTS = (
    "cap_add", "cap_drop", "security_opt", "devices", "device_cgroup_rules", "volumes_from", "external_links", "links",
    "expose", "profiles", "group_add",
)  # fmt: skip
_LISTS_OR_TEXT = ("dns", "dns_search", "dns_opt", "tmpfs")
_TEXTS = (
    "image", "container_name", "restart", "network_mode", "pid", "ipc", "uts", "userns_mode", "cgroup", "runtime",
    "pull_policy", "user", "hostname", "working_dir", "platform", "cgroup_parent",
)  # fmt: skip


def is_true(value: Any) -> bool:
    """Read a boolean as Compose does, where a text may stand for one. Anything odd counts as true."""
    return not (value is None or value is False or (isinstance(value, str) and value.lower() in _FALSE))


def scalar_text(value: Any) -> str:
    """Write a scalar the way Compose writes it into an environment."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return _float_text(value)
    return "" if value is None else str(value)


def _float_text(value: float) -> str:
    """Write a float as Go's `%v` does: `1000`, `1.5`, `1e+06`, `+Inf`."""
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "+Inf" if value > 0 else "-Inf"
    sign, digits, _ = (exact := Decimal(repr(value))).as_tuple()
    exponent = exact.adjusted()
    if -5 < exponent < 6:
        return f"{exact.normalize():f}"
    text = "".join(map(str, digits)).rstrip("0") or "0"
    mantissa = text[0] + ("." + text[1:] if len(text) > 1 else "")
    return f"{'-' if sign else ''}{mantissa}e{exponent:+03d}"


def from_config(data: Any) -> Any:
    """Take the `$$` out of what `docker compose config` printed: it escapes every dollar sign for reading again."""
    if isinstance(data, str):
        return data.replace("$$", "$")
    if isinstance(data, dict):
        return {key: from_config(value) for key, value in data.items()}
    if isinstance(data, list):
        return [from_config(value) for value in data]
    return data


def normalise(data: Mapping, report: Report) -> Mapping:
    """Give a project its one shape.

    Args: data: interpolated data of a file, or the output of `config`; not changed. report: called for each value
        of a wrong type, which is then left out.
    Returns: a new model. `services`, `volumes`, `networks`, `secrets` and `configs` are always mappings of mappings.
    """
    model = dict(data)
    for section in ("volumes", "networks", "secrets", "configs"):
        model[section] = {name: _resource(item) for name, item in _section(data, section, report)}
    model["services"] = {
        name: _Service(name, item, report).normal() for name, item in _section(data, "services", report)
    }
    return model


def _section(data: Mapping, section: str, report: Report) -> Iterator[tuple[str, Mapping]]:
    items = data.get(section)
    if items is not None and not isinstance(items, dict):
        report((section,), "must be a mapping of names")
        return
    for name, item in (items or {}).items():
        if item is None or isinstance(item, dict):
            yield name, item or {}
        else:
            report((section, name), "must be a mapping of keys")


def _resource(item: Mapping) -> Mapping:
    external = item.get("external")
    if isinstance(external, dict):  # the form of version 2 files: {external: {name: x}}
        return {**item, "external": True, **{key: external[key] for key in ("name",) if key in external}}
    if "external" in item:
        return {**item, "external": is_true(external)}
    return dict(item)


class _Service:
    """Normalises one service. Each method takes a raw value and returns its long form."""

    def __init__(self, name: str, raw: Mapping, report: Report) -> None:
        self._raw = raw
        self._path: KeyPath = ("services", name)
        self._report = report

    def normal(self) -> Mapping:
        service = dict(self._raw)
        forms: dict[str, Callable[[str, Any], Any]] = {
            "build": self._build, "volumes": self._volumes, "ports": self._ports, "environment": self._pairs,
            "labels": self._pairs, "annotations": self._pairs, "sysctls": self._pairs, "networks": self._named,
            "depends_on": self._named, "env_file": self._files, "label_file": self._files, "secrets": self._grants,
            "configs": self._grants, "extends": self._extends, "healthcheck": self._mapping, "deploy": self._mapping,
            "logging": self._mapping,
        }  # fmt: skip
        forms |= dict.fromkeys(_LISTS, self._list) | dict.fromkeys(_LISTS_OR_TEXT, self._list_or_text)
        forms |= dict.fromkeys(_TEXTS, self._text)
        for key, form in forms.items():
            if key in service:
                value = service.pop(key)
                if value is not None:
                    service[key] = form(key, value)
        return service

    def _wrong(self, key: str, message: str, *rest: str | int) -> None:
        self._report((*self._path, key, *rest), message)

    def _text(self, key: str, value: Any) -> str:
        if isinstance(value, (dict, list)):
            self._wrong(key, "must be text")
            return ""
        return scalar_text(value)

    def _mapping(self, key: str, value: Any) -> Mapping:
        if isinstance(value, dict):
            return value
        self._wrong(key, "must be a mapping")
        return {}

    def _list(self, key: str, value: Any) -> list[Any]:
        if isinstance(value, list):
            return value
        self._wrong(key, "must be a list")
        return []

    def _list_or_text(self, key: str, value: Any) -> list[Any]:
        return [value] if isinstance(value, str) else self._list(key, value)

    def _pairs(self, key: str, value: Any) -> dict[str, str | None]:
        if isinstance(value, dict):
            for name, item in value.items():
                if isinstance(item, (dict, list)):
                    self._wrong(key, "must be text", name)
            return {name: None if item is None else scalar_text(item) for name, item in value.items()}
        pairs: dict[str, str | None] = {}
        for index, item in enumerate(self._list(key, value)):
            if isinstance(item, (dict, list)):
                self._wrong(key, "must be text: NAME=value", index)
                continue
            name, equals, text = scalar_text(item).partition("=")
            pairs[name] = text if equals or key == "labels" else None
        return pairs

    def _named(self, key: str, value: Any) -> dict[str, Mapping]:
        if isinstance(value, dict):
            return {name: item if isinstance(item, dict) else {} for name, item in value.items()}
        return {item: {} for item in self._list(key, value) if isinstance(item, str)}

    def _files(self, key: str, value: Any) -> list[Mapping]:
        found = []
        for index, item in enumerate(value if isinstance(value, list) else [value]):
            if isinstance(item, str):
                found.append({"path": item})
            elif isinstance(item, dict) and isinstance(item.get("path"), str):
                found.append(item)
            else:
                self._wrong(key, "must name a file", index)
        return found

    def _grants(self, key: str, value: Any) -> list[Mapping]:
        found = []
        for index, item in enumerate(self._list(key, value)):
            if isinstance(item, str):
                found.append({"source": item})
            elif isinstance(item, dict) and isinstance(item.get("source"), str):
                found.append(item)
            else:
                self._wrong(key, "must name an entry of the top-level section", index)
        return found

    def _extends(self, key: str, value: Any) -> Mapping:
        return {"service": value} if isinstance(value, str) else self._mapping(key, value)

    def _build(self, key: str, value: Any) -> Mapping:
        if isinstance(value, str):
            return {"context": value}
        return self._mapping(key, value)

    def _ports(self, key: str, value: Any) -> list[Mapping]:
        found = []
        for index, item in enumerate(self._list(key, value)):
            if isinstance(item, dict):
                found.append({name: part if part is None else scalar_text(part) for name, part in item.items()})
            elif isinstance(item, (str, int)) and not isinstance(item, bool):
                found.append(split_short(str(item)))
            else:
                self._wrong(key, "must be a port, in quotes", index)
                found.append({})
        return found

    def _volumes(self, key: str, value: Any) -> list[Mapping]:
        found = []
        for index, item in enumerate(self._list(key, value)):
            if isinstance(item, str):
                found.append(self._short_volume(item, index))
            elif isinstance(item, dict):
                kind = scalar_text(item.get("type")) or "volume"
                found.append({**item, "type": kind, "read_only": is_true(item.get("read_only"))})
            else:
                self._wrong(key, "must be a mount", index)
                found.append({"type": "volume"})
        return found

    def _short_volume(self, spec: str, index: int) -> Mapping:
        drive = spec[:2] if _WINDOWS_DRIVE.match(spec) else ""
        parts = spec[len(drive) :].split(":")
        parts[0] = drive + parts[0]
        if len(parts) > 3 or not all(parts):
            self._wrong("volumes", "must be SOURCE:TARGET or SOURCE:TARGET:OPTIONS", index)
            return {"type": "volume"}
        if len(parts) == 1:
            return {"type": "volume", "target": parts[0], "read_only": False}
        options = parts[2].split(",") if len(parts) == 3 else []
        bind = parts[0].startswith(_BIND_START) or bool(drive)
        mount: Mapping = {
            "type": "bind" if bind else "volume",
            "source": parts[0],
            "target": parts[1],
            "read_only": "ro" in options,
        }
        if propagation := [option for option in options if option in _BIND_OPTIONS]:
            mount["bind"] = {"propagation": propagation[-1]}
        return mount
