"""What an agent's claim becomes as a row: cleaned, checked, named. Pure rules; nothing of an agent is believed."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from towline.control.domains.names import NameRefused, Ownership, host_name
from towline.control.links.cleaning import clean, clean_json
from towline.control.routes.schemas import MAX_PATH
from towline.control.routes.targets import RouteTarget, TargetInvalid, check, place_of, stored
from towline.gateway.route_options import OptionError, check_place, options_as_json, parse_options
from towline.wire import link

LONGEST_NAME = 200
LONGEST_REF = 1000
"""Bytes: an index entry of PostgreSQL takes 2,704, and characters may have four each."""
LONGEST_NAMESPACE = 63
LONGEST_PROJECT = 255
LONGEST_WORDS = 500
MOST_NOTES = 20
MOST_TARGETS = 20
SECRET_OPTIONS = frozenset({"basic_auth", "set_request_headers"})
"""Options that are kept sealed; of what is in them only names are shown."""
_PATH = re.compile(r"/[\x21-\x7e]*")
_DIGEST_CHARACTERS = 8


@dataclass(frozen=True, slots=True)
class Claimed:
    """A claim as it is stored."""

    ref: str
    columns: dict[str, Any]
    secrets: dict[str, Any] = field(repr=False)
    places: tuple[tuple[str, str, str], ...] = ()
    told_ref: str = ""
    """As its agent says it."""


def claimed(claim: link.RouteClaim, cluster_id: str, cluster_name: str, ownership: Ownership) -> Claimed:
    """Read a claim. What is wrong with it stands in its `problem`: it is shown, and answers for nothing."""
    problems = [clean(claim.problem)] if claim.problem else []
    targets = _targets(claim, problems)
    options = _options(claim, problems)
    places = _places(claim, cluster_id, targets, problems)
    secrets = {key: options.pop(key) for key in SECRET_OPTIONS & options.keys()}
    columns = {
        "source": claim.source,
        "host": _host(claim, cluster_name, ownership, problems),
        "path": _path(claim, problems),
        "path_type": claim.path_type,
        "targets": [{"cluster_id": cluster_id, "target": clean_json(stored(target))} for target in targets],
        "options": options,
        "notes": [clean(note)[:LONGEST_WORDS] for note in claim.notes[:MOST_NOTES]],
        "caution": clean(claim.caution)[:LONGEST_WORDS],
        "problem": "; ".join(problems)[:LONGEST_WORDS],
        "tls": claim.tls,
    }
    return Claimed(ref_of(claim.ref), columns, secrets, places, claim.ref)


def ref_of(ref: str) -> str:
    """Return a source's name as rows hold it: one that had to be changed ends in a digest, so that no two are one."""
    kept = clean(ref)
    if kept == ref and len(ref.encode()) <= LONGEST_REF:
        return ref
    cut = kept.encode()[: LONGEST_REF - _DIGEST_CHARACTERS - 1].decode(errors="ignore")
    return f"{cut}-{_digest(ref)}"


def path_of(path: str, path_type: str) -> str:
    """Return a path as rows hold it: the last slash of a Prefix says nothing."""
    return path if path_type == "exact" else path.rstrip("/") or "/"


def name_of(cluster_name: str, ref: str) -> str:
    """Return the name of a claimed route: it has a dot, so that it is never that of a declared one."""
    name = f"{cluster_name}.{ref.replace('/', '.')}"
    if len(name) <= LONGEST_NAME:
        return name
    return f"{name[: LONGEST_NAME - _DIGEST_CHARACTERS - 1]}-{_digest(name)}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="replace")).hexdigest()[:_DIGEST_CHARACTERS]


def _host(claim: link.RouteClaim, cluster_name: str, ownership: Ownership, problems: list[str]) -> str:
    try:
        if claim.host:
            return host_name(claim.host, wildcard=True)
        return ownership.given_name(_short_name(claim.ref), cluster_name) if ownership.gateway_domain else ""
    except NameRefused as error:
        problems.append(clean(str(error)))
        return ""


def _short_name(ref: str) -> str:
    """Return what people call the source: `ingress/NAMESPACE/NAME/…`, `compose/PROJECT/SERVICE/…`."""
    parts = ref.split("/")
    return parts[2] if len(parts) > 2 else ref


def _place(ref: str, target: RouteTarget) -> tuple[str, str]:
    """Return project and namespace of a claim: of its source, because the target may be the cluster's controller."""
    parts = ref.split("/")
    return ("", parts[1]) if parts[0] in ("ingress", "httproute") and len(parts) > 2 else place_of(target)


def _places(
    claim: link.RouteClaim, cluster_id: str, targets: Sequence[RouteTarget], problems: list[str]
) -> tuple[tuple[str, str, str], ...]:
    """Return where permissions are looked up; a place that cannot be one leaves its claim to the whole cluster's."""
    found = dict.fromkeys(_place(claim.ref, target) for target in targets)
    for project, namespace in found:
        is_long = len(namespace) > LONGEST_NAMESPACE or len(project) > LONGEST_PROJECT
        if is_long or clean(project + namespace) != project + namespace:
            problems.append("its namespace or project is no name of one")
            return ((cluster_id, "", ""),)
    return tuple((cluster_id, *place) for place in found)


def _path(claim: link.RouteClaim, problems: list[str]) -> str:
    if len(claim.path) <= MAX_PATH and _PATH.fullmatch(claim.path):
        return path_of(claim.path, claim.path_type)
    problems.append("its path is no path of a URL")
    return "/"


def _targets(claim: link.RouteClaim, problems: list[str]) -> list[RouteTarget]:
    found: list[RouteTarget] = []
    wanted: Sequence[RouteTarget] = (claim.target, *claim.also)
    if claim.problem:  # told for people to see; nothing is ever dialled for it
        return list(wanted[:1])
    for target in wanted[:MOST_TARGETS]:
        try:
            found.append(check(target))
        except TargetInvalid as error:
            problems.append(clean(str(error)))
    return found


def _options(claim: link.RouteClaim, problems: list[str]) -> dict[str, Any]:
    """Read options. One that is wrong is a problem of the whole claim: without it, it could let in too many."""
    if any("\0" in value for value in claim.options.values()):  # no database takes it in a document
        problems.append("an option holds a NUL")
        return {}
    try:
        options = parse_options(claim.options)
        check_place(options, path_of(claim.path, claim.path_type), claim.path_type)
    except OptionError as error:
        problems.append(clean(f"option {error}"))
        return {}
    return options_as_json(options)
