"""From a deploy's order to the one file that an InstaDeploy agent takes, checked as far as it can be from here.

That agent runs `docker compose up -d` in a folder that holds the file and nothing of ours: variables, the env file,
chosen profiles, pinned images and scales all have to be in the file itself. What the order gives no value is left to
the host, which may have an `.env` of its own, but only where no policy looks. Pure. Not here: sending (`deploying`).
"""

import posixpath
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from towline.compose import document, environment, interpolation, layout, normal, policy, project, references
from towline.compose.errors import ComposeError
from towline.compose.model import Lifetime, Service
from towline.compose.problems import dotted
from towline.wire import instadeploy, orders

HEADER = "# Written by Towline at each deploy. Deploy a new revision instead of changing it.\n"

AGENTS_OWN = {"AGENT_TOKEN": "", "AGENT_SECRET_TOKEN": ""}
"""In the environment of every InstaDeploy agent, and so within a Compose file's reach: no project may read them."""

MOVE_ON = "run Towline's own agent on this host instead"

_WORDS = frozenset(["true", "false", "yes", "no", "on", "off", "y", "n", "null", "~", ".inf", ".nan"])
_PLAIN = re.compile(r"[A-Za-z/_][A-Za-z0-9/_.-]*", re.ASCII)
_TYPED = re.compile(
    r"services\.[^.]+\.(scale|privileged|read_only|init|stdin_open|tty|oom_kill_disable|oom_score_adj|pids_limit"
    r"|cpu_\w+|cpus|mem_swappiness|healthcheck\.(retries|disable)|deploy\.(replicas|\w+_config\.(parallelism"
    r"|max_failure_ratio|max_attempts)|restart_policy\.max_attempts|placement\.max_replicas_per_node)"
    r"|ports\[\d+\]\.target|volumes\[\d+\]\.(read_only|volume\.nocopy|bind\.create_host_path|tmpfs\.size)"
    r"|(configs|secrets)\[\d+\]\.mode|ulimits\.\w+(\.(hard|soft))?)"
    r"|(networks|volumes|secrets|configs)\.[^.]+\.(external|internal|attachable|enable_ipv6)"
)
"""Where Compose wants a number or a word like `true`. Text from a variable becomes one there, as Compose has it; older
releases do so only for text that they interpolated themselves, and what we send is settled."""

_FREE = re.compile(r"services\.[^.]+\.(environment|command|entrypoint|labels|healthcheck\.test)\b.*")
"""Where a variable without a value may stay for the host to fill in: nothing there widens what a project may do."""


class Unsendable(Exception):
    """The order holds what such an agent cannot do, or a file that would break the project.

    Args: code: one of `orders.CODES`. problems: places in the file; empty when the order itself is the reason.
    """

    def __init__(self, code: str, message: str, problems: tuple[orders.Problem, ...] = ()) -> None:
        super().__init__(message)
        self.code = code
        self.problems = problems


@dataclass(frozen=True, slots=True)
class Rendered:
    """A file that can be sent, and what it says of the project."""

    text: str
    services: tuple[Service, ...]
    """Those that a deploy starts."""
    hidden: Mapping[str, str]
    """Values that were put in, by variable: they stay out of every log."""


def render(order: orders.Deploy) -> Rendered:
    """Make the file of an order. Raises: Unsendable."""
    _require_carried(order)
    known = values(order)
    try:
        loaded = document.load(order.compose)
        settled = _settled(loaded, known)
        data = _laid_over(settled, order, known)
        text = order.compose if data == loaded.data else HEADER + _dump(data)
        parsed = project.parse(text, AGENTS_OWN, name=order.project)
    except ComposeError as error:
        raise Unsendable("invalid_project", str(error)) from error
    _require_sound(parsed, order)
    if len(text.encode()) > instadeploy.MAX_COMPOSE_BYTES:
        limit = instadeploy.MAX_COMPOSE_BYTES
        raise Unsendable("invalid_project", f"with its values the file has more than {limit} bytes; use shorter ones")
    return Rendered(text, tuple(parsed.project.active()), known)


def _require_carried(order: orders.Deploy) -> None:
    """Raises: Unsendable, naming what an InstaDeploy agent has no place for."""
    if order.bundle:
        what = "files besides the Compose file (bundles, build contexts, configs)"
    elif order.secret_names or order.sealed_secrets:
        what = "secrets kept on the host"
    elif order.sealed_registries:
        what = "passwords of registries; log in on the host with `docker login` and leave the registries out"
    else:
        return
    raise Unsendable("bad_order", f"an InstaDeploy agent takes one Compose file and no {what}; else {MOVE_ON}")


def values(order: orders.Deploy) -> dict[str, str]:
    """Return the variables of an order; those beside its env file win. Raises: Unsendable."""
    try:
        return environment.parse(order.env) | order.variables
    except ComposeError as error:
        raise Unsendable("invalid_project", str(error)) from error


def _require_sound(parsed: project.Parsed, order: orders.Deploy) -> None:
    """The file replaces the old one before the host looks at it: one that Compose refuses would also block `stop`."""
    if wrong := parsed.errors:
        found = tuple(
            orders.Problem(message=each.message, line=each.line or 0, path=dotted(each.path), fix=each.fix)
            for each in wrong
        )
        raise Unsendable("invalid_project", f"{found[0].path}: {found[0].message}", found)
    granted = policy.for_level(policy.Level(order.policy_level))
    context = policy.Context(project=order.project)
    forbidden = tuple(
        orders.Problem(message=each.message, path=dotted(each.key_path), rule=each.rule.value, fix=each.fix)
        for each in policy.check(parsed.project.model, granted, context, parsed.document)
    )
    if forbidden:
        raise Unsendable("policy_violation", f"{forbidden[0].path}: {forbidden[0].message}", forbidden)
    if not parsed.project.active():
        raise Unsendable("invalid_project", "the project has no service to run; are all of them behind profiles?")


# -- values --------------------------------------------------------------------------------------


def _settled(loaded: document.Document, given: Mapping[str, str]) -> Any:
    known = AGENTS_OWN | dict(given)

    def walk(data: Any, path: document.KeyPath) -> Any:
        if isinstance(data, dict):
            return {key: walk(value, (*path, key)) for key, value in data.items()}
        if isinstance(data, list):
            return [walk(value, (*path, place)) for place, value in enumerate(data)]
        if not isinstance(data, str) or "$" not in data or path == ("version",):
            return data
        return _typed(_settle(loaded, data, path, known), path)

    return walk(loaded.data, ())


def _settle(loaded: document.Document, text: str, path: document.KeyPath, known: Mapping[str, str]) -> str:
    try:
        if _FREE.fullmatch(dotted(path)):
            settled = interpolation.settle(text, known)
        else:
            _require_values(text, known)
            settled = interpolation.substitute(text, known).replace("$", "$$")
    except interpolation.TemplateError as error:
        mark = loaded.mark(path)
        message = str(error) or "this text mixes variables in a way that cannot be sent; give all of them a value"
        problem = orders.Problem(message=message, path=dotted(path), line=mark.line if mark else 0)
        raise Unsendable("invalid_project", f"{dotted(path)}: {message}", (problem,)) from error
    return text if settled == interpolation.settle(text, {}) else settled


def _require_values(text: str, known: Mapping[str, str]) -> None:
    """Raises: TemplateError, for a variable that only the host could fill in at a place that a policy judges."""
    for variable in interpolation.variables(text):
        if not variable.operator and variable.name not in known:
            raise interpolation.TemplateError(
                f"the variable {variable.name} has no value; give it one, the host's own is not looked at here"
            )


def _typed(text: str, path: document.KeyPath) -> Any:
    """Give a settled text the type that Compose wants at its place; elsewhere it stays the text that it is."""
    if _TYPED.fullmatch(dotted(path)) is None:
        return text
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    try:
        return int(text) if re.fullmatch(r"-?[0-9]{1,18}", text) else float(text)
    except ValueError:
        return text


# -- what is laid over ---------------------------------------------------------------------------


def _laid_over(data: Any, order: orders.Deploy, given: Mapping[str, str]) -> Any:
    """Return the file with all that other agents get beside it. Bodies that are not mappings are left to the checks."""
    data = {**data, **({"name": order.project} if "name" in data else {})}
    services = data.get("services")
    if not isinstance(services, dict):
        return data
    chosen = {word.strip() for word in given.get("COMPOSE_PROFILES", "").split(",") if word.strip()}
    known = environment.parse(order.env)
    return data | {
        "services": {
            name: _service(name, body, order, chosen, known) if isinstance(body, dict) else body
            for name, body in services.items()
        }
    }


def _service(name: str, body: Any, order: orders.Deploy, chosen: set[str], env: Mapping[str, str]) -> dict[str, Any]:
    changed = dict(body)
    profiles = changed.get("profiles")
    if isinstance(profiles, list) and ("*" in chosen or chosen & set(map(str, profiles))):
        del changed["profiles"]
    if order.env and "env_file" in changed:
        changed = _without_env_file(changed, env)
    if name in order.scales:
        changed["scale"] = order.scales[name]
    pin = order.image_pins.get(name, "")
    if pin and not references.is_image_id(pin):
        changed |= {"image": pin, "pull_policy": "missing"}
    elif order.pull == "always" and "build" not in changed:
        changed["pull_policy"] = "always"
    return changed


def _without_env_file(body: dict[str, Any], env: Mapping[str, str]) -> dict[str, Any]:
    """Put the env file of the order into `environment` where a service reads it: the file is not on the host."""
    entries = body["env_file"] if isinstance(body["env_file"], list) else [body["env_file"]]
    kept = [entry for entry in entries if not _is_env_file(entry)]
    if len(kept) == len(entries):
        return body
    added = {name: value.replace("$", "$$") for name, value in env.items()}
    changed = {key: value for key, value in body.items() if key != "env_file"}
    own = dict(_environment(body.get("environment")))
    return changed | ({"env_file": kept} if kept else {}) | {"environment": added | own}


def _is_env_file(entry: Any) -> bool:
    path = entry.get("path") if isinstance(entry, dict) else entry
    return isinstance(path, str) and posixpath.normpath(path) == layout.ENV_FILE


def _environment(given: Any) -> Iterator[tuple[str, Any]]:
    """Read either form of `environment`; a name without a value takes the host's."""
    if isinstance(given, dict):
        yield from given.items()
    for entry in given if isinstance(given, list) else ():
        name, equals, value = str(entry).partition("=")
        yield name, value if equals else None


# -- writing -------------------------------------------------------------------------------------


class _Dumper(yaml.SafeDumper):
    """Quotes every text that some reader of YAML, 1.1 or 1.2, might take for something else."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    plain = _PLAIN.fullmatch(text) is not None and text.lower() not in _WORDS
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if plain else '"')


_Dumper.add_representer(str, _text)
_Dumper.ignore_aliases = lambda self, data: True  # type: ignore[method-assign]


def _dump(data: Any) -> str:
    return str(yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=2**20))


# -- what the file says of services ----------------------------------------------------------------


def may_be_gone(service: Service) -> bool:
    """Tell whether a service may have no running container: it is waited for, or its file says that it ends."""
    return service.lifetime is Lifetime.ONE_SHOT or _says_no(service)


def _says_no(service: Service) -> bool:
    asked = service.body.get("restart") or (service.body.get("deploy", {}).get("restart_policy") or {}).get("condition")
    return normal.scalar_text(asked) in ("no", "none")
