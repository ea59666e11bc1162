"""Options of a route as a form shows and reads them: labels in plain words, and values back as the API takes them.

What an option does, and what it may be, is `gateway.route_options`; a key that is not here is not in the form.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from towline.control.errors import ApiError, ErrorCode
from towline.control.forms import Form
from towline.gateway.route_options import (
    BALANCES,
    DEFAULT_HEALTH_INTERVAL,
    DEFAULT_REQUEST_TIMEOUT,
    RouteOptions,
    all_as_json,
)

Kind = Literal["number", "flag", "lines", "headers", "text", "choice", "page"]
MIB = 1024 * 1024
DAY = 24 * 3600
PREFIX = "option-"
"""Of the fields' names, so that none is called like one of the form's own."""


@dataclass(frozen=True, slots=True)
class Field:
    """One option in a form. `unit` is what a number is multiplied by."""

    key: str
    label: str
    kind: Kind
    hint: str = ""
    unit: float = 1
    whole: bool = False
    example: str = ""
    is_rare: bool = False
    """Only where the server's settings allow it: a form may be without it."""
    value: Any = ""

    @property
    def name(self) -> str:
        return PREFIX + self.key


@dataclass(frozen=True, slots=True)
class Group:
    """Options that belong together."""

    key: str
    title: str
    fields: tuple[Field, ...]
    is_changed: bool = False
    """One of them differs from its default."""


GROUPS = (
    Group(
        "visitors",
        "Who may come in",
        (
            Field("allow", "Only these networks", "lines", "One in a line; empty: everybody.", example="10.0.0.0/8"),
            Field("deny", "Never these networks", "lines", "They are refused, whatever stands above."),
            Field("sign_in", "Only users of this dashboard", "flag", "Whose role covers the cluster."),
            Field("https_redirect", "Send plain HTTP to HTTPS", "flag"),
            Field("hsts", "Days that browsers insist on HTTPS", "number", "HSTS; 0: off.", DAY, whole=True),
        ),
    ),
    Group(
        "limits",
        "Limits",
        (
            Field(
                "request_timeout", "Seconds until an answer begins", "number",
                f"{DEFAULT_REQUEST_TIMEOUT:g} unless said otherwise; 0: for ever.",
            ),
            Field("idle_timeout", "Seconds without a byte", "number", "Of an answer or a WebSocket; 0: for ever."),
            Field("body_limit", "Largest request body in MiB", "number", "0: no limit.", MIB, whole=True),
            Field("rate_limit", "Requests a second of one visitor", "number", "By address; 0: no limit."),
            Field("rate_burst", "Requests that may come at once", "number", "On top of the rate.", whole=True),
        ),
    ),
    Group(
        "headers",
        "Headers",
        (
            Field("host", "Host that the target sees", "text", "Empty: what the visitor asked for."),
            Field("set_request_headers", "Set on requests", "headers", "One in a line.", example="X-Team: shop"),
            Field("remove_request_headers", "Remove from requests", "lines", "Names, one in a line."),
            Field("set_answer_headers", "Set on answers", "headers", "One in a line."),
            Field("remove_answer_headers", "Remove from answers", "lines", "Names, one in a line.", example="Server"),
        ),
    ),
    Group(
        "pages",
        "Answers",
        (
            Field("compression", "Compress answers that the target did not", "flag"),
            Field("maintenance", "Answer with a maintenance page", "flag", "The target is asked nothing meanwhile."),
            Field(
                "error_page", "Page for the gateway's own errors", "page",
                "HTML; {status}, {code} and {message} are filled in. Empty: a plain page.",
            ),
        ),
    ),
    Group(
        "balance",
        "Several clusters",
        (
            Field("balance", "Who gets the next request", "choice", "Matters when the target runs on several."),
            Field("health_path", "Path that is asked to see who is well", "text", "Empty: requests tell.",
                  example="/healthz"),
            Field("health_interval", "Seconds between two looks", "number", f"{DEFAULT_HEALTH_INTERVAL:g} by default."),
        ),
    ),
    Group(
        "log",
        "Access log",
        (Field("sample", "Percent of good requests in the log", "number", "Empty: as the server is set.", 0.01),),
    ),
    Group(
        "raw",
        "Not HTTP",
        (
            Field(
                "tls_passthrough", "Hand TLS to the target as it is", "flag",
                "The gateway reads the name alone: the target has the certificate, and no other option matters.",
            ),
            Field(
                "tcp_port", "Port of the gateway that leads to the target", "number",
                "Plain TCP, whatever name was asked for; 0: none.", whole=True, is_rare=True,
            ),
        ),
    ),
)  # fmt: skip
CHOICES = {"round_robin": "Each in turn", "least_connections": "Who has the fewest open"}
DEFAULTS = all_as_json(RouteOptions())
assert set(CHOICES) == set(BALANCES)


def groups(options: Mapping[str, Any], *, rare: bool = False) -> list[Group]:
    """Return the form's groups with the values that options have, or their defaults."""
    return [_filled(_without_rare(group, rare), {**DEFAULTS, **options}) for group in GROUPS]


def _without_rare(group: Group, rare: bool) -> Group:
    return group if rare else replace(group, fields=tuple(one for one in group.fields if not one.is_rare))


def _filled(group: Group, options: Mapping[str, Any]) -> Group:
    fields = tuple(replace(field, value=_shown(field, options.get(field.key))) for field in group.fields)
    changed = any(options.get(field.key) != DEFAULTS[field.key] for field in group.fields)
    return replace(group, fields=fields, is_changed=changed)


def _shown(field: Field, value: Any) -> Any:
    match field.kind:
        case "flag":
            return bool(value)
        case "number":
            return "" if value is None else f"{value / field.unit:.10g}"
        case "lines":
            return "\n".join(value or ())
        case "headers":
            return "\n".join(f"{name}: {text}" for name, text in (value or {}).items())
    return value or ""


def typed(form: Form) -> dict[str, Any]:
    """Return every option that a form shows; None for those that were left empty. Raises: ApiError."""
    shown = set(form.names())
    fields = (field for group in GROUPS for field in group.fields)
    return {field.key: _read(field, form) for field in fields if not field.is_rare or field.name in shown}


def _read(field: Field, form: Form) -> Any:
    if field.kind == "flag":
        return form.checked(field.name)
    text = form.text(field.name).strip()
    if not text:
        return None
    if field.kind == "number":
        return _number(field, text)
    return text.splitlines() if field.kind == "lines" else text


def _number(field: Field, text: str) -> float:
    try:
        value = float(text) * field.unit
        return round(value) if field.whole else round(value, 9)
    except (ValueError, OverflowError) as error:
        raise ApiError(ErrorCode.INVALID, f"{field.label}: {text[:40]!r} is not a number") from error


def as_typed(form: Form, *, rare: bool = False) -> list[Group]:
    """Return the groups as they were typed, for a form that is shown again."""
    return [
        replace(
            group,
            is_changed=True,
            fields=tuple(
                replace(one, value=form.checked(one.name) if one.kind == "flag" else form.text(one.name))
                for one in group.fields
            ),
        )
        for group in (_without_rare(group, rare) for group in GROUPS)
    ]


def words(options: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the options that differ from their defaults, in words."""
    found = []
    for group in groups(options, rare=True):
        for field in group.fields:
            if options.get(field.key, DEFAULTS[field.key]) != DEFAULTS[field.key]:
                found.append((field.label, _say(field)))
    return found


def _say(field: Field) -> str:
    if field.kind == "flag":
        return "yes" if field.value else "no"
    if field.kind == "choice":
        return CHOICES.get(field.value, str(field.value))
    if field.kind == "page":
        return f"{len(field.value)} characters of HTML"
    return ", ".join(str(field.value).splitlines())
