"""Options in a form: every one is there, and what is shown reads back as what it was."""

from dataclasses import fields
from typing import Any

import pytest

from towline.control.errors import ApiError
from towline.control.forms import Form
from towline.control.routes import option_fields
from towline.gateway.route_options import RouteOptions, options_as_json, parse_options

SET: dict[str, Any] = {
    "request_timeout": 12.5, "idle_timeout": 90.0, "body_limit": 1572864, "rate_limit": 0.25, "rate_burst": 7,
    "allow": ["10.0.0.0/8", "192.0.2.0/24"], "deny": ["10.1.0.0/16"], "sign_in": True,
    "set_request_headers": {"X-Team": "shop", "X-Time": "12:30"}, "remove_request_headers": ["Cookie"],
    "set_answer_headers": {"X-Robots-Tag": "none"}, "remove_answer_headers": ["Server"], "host": "inner.test",
    "https_redirect": False, "hsts": 31536000, "compression": True, "maintenance": True, "error_page": "<p>{code}</p>",
    "sample": 0.05, "balance": "least_connections", "health_path": "/healthz", "health_interval": 5.0,
    "tcp_port": 4222,
}  # fmt: skip


def sent(options: dict[str, Any], *, rare: bool = True) -> Form:
    """What a browser sends of a form that shows some options."""
    found: dict[str, list[str]] = {}
    for group in option_fields.groups(options, rare=rare):
        for field in group.fields:
            if field.kind != "flag":
                found[field.name] = [str(field.value).replace("\n", "\r\n")]
            elif field.value:
                found[field.name] = ["1"]
    return Form(found, {})


def given(options: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in options.items() if value is not None}


def test_every_option_has_a_field_but_passwords_which_have_their_own() -> None:
    keys = {field.key for group in option_fields.GROUPS for field in group.fields}
    assert keys == {field.name for field in fields(RouteOptions)} - {"basic_auth"}


def test_what_a_form_shows_reads_back_as_what_it_was() -> None:
    assert options_as_json(parse_options(given(option_fields.typed(sent(SET))))) == SET


def test_defaults_read_back_as_defaults() -> None:
    assert options_as_json(parse_options(given(option_fields.typed(sent({}))))) == {}


def test_an_option_that_the_form_does_not_show_stays_as_it_is() -> None:
    assert "tcp_port" not in option_fields.typed(sent(SET, rare=False))


def test_an_emptied_field_takes_its_option_back() -> None:
    form = sent(SET)
    form._fields["option-allow"] = [""]
    assert option_fields.typed(form)["allow"] is None


@pytest.mark.parametrize("text", ["many", "inf", "1e999"])
def test_a_number_that_is_none_is_named(text: str) -> None:
    form = sent({})
    form._fields["option-body_limit"] = [text]
    with pytest.raises(ApiError, match="Largest request body"):
        option_fields.typed(form)


def test_changed_options_are_said_in_words() -> None:
    assert option_fields.words({"allow": ["10.0.0.0/8"], "maintenance": True, "balance": "least_connections"}) == [
        ("Only these networks", "10.0.0.0/8"),
        ("Answer with a maintenance page", "yes"),
        ("Who gets the next request", "Who has the fewest open"),
    ]
