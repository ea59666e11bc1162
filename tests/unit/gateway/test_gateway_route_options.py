"""Options of routes: what is taken, what is refused, and that nothing of a secret is repeated."""

import json

import pytest

from towline.gateway.route_options import (
    OptionError,
    RouteOptions,
    all_as_json,
    check_place,
    options_as_json,
    parse_options,
)

HASH = "$argon2id$v=19$m=65536,t=3,p=4$c29tZXNhbHRzb21lc2FsdA$" + "A" * 43


def test_nothing_given_is_every_default() -> None:
    assert parse_options({}) == RouteOptions()
    assert options_as_json(RouteOptions()) == {}


def test_options_survive_json() -> None:
    options = parse_options(
        {
            "allow": ["10.0.0.1/8", "2001:db8::/32"],
            "basic_auth": [f"ann:{HASH}"],
            "set_request_headers": {"X-Team": "shop"},
            "remove_answer_headers": ["Server"],
            "rate_limit": 2.5,
            "hsts": 31536000,
            "https_redirect": False,
        }
    )
    assert options.allow == ("10.0.0.0/8", "2001:db8::/32")
    assert parse_options(json.loads(json.dumps(options_as_json(options)))) == options
    assert parse_options(json.loads(json.dumps(all_as_json(options)))) == options


def test_labels_say_the_same_in_texts() -> None:
    options = parse_options(
        {
            "allow": "10.0.0.0/8, 192.0.2.7",
            "sign_in": "yes",
            "request_timeout": "90s",
            "set_answer_headers": "X-Frame-Options: DENY\nX-A: b:c",
        }
    )
    assert options.allow == ("10.0.0.0/8", "192.0.2.7/32")
    assert options.sign_in is True
    assert options.request_timeout == 90
    assert options.set_answer_headers == (("X-Frame-Options", "DENY"), ("X-A", "b:c"))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("unheard", 1),
        ("request_timeout", -1),
        ("request_timeout", True),
        ("request_timeout", float("nan")),
        ("request_timeout", "soon"),
        ("body_limit", 1.5),
        ("rate_limit", 1e9),
        ("allow", ["10.0.0.0/33"]),
        ("allow", ["10.0.0.0/8"] * 1001),
        ("deny", 5),
        ("basic_auth", ["ann:secret"]),
        ("rate_limit", 10**400),
        ("rate_limit", float("nan")),
        ("set_request_headers", ["abc"]),
        ("set_request_headers", [1]),
        ("set_request_headers", [[[], "x"]]),
        ("basic_auth", [f"a\nb:{HASH}"]),
        ("set_request_headers", {"X A": "b"}),
        ("set_request_headers", {"X-A": "b\r\nX-B: c"}),
        ("set_request_headers", {"Host": "other"}),
        ("set_request_headers", {"X-Towline-Peer": "::1"}),
        ("set_answer_headers", {"Transfer-Encoding": "chunked"}),
        ("remove_request_headers", ["Connection"]),
        ("host", "a b"),
        ("host", "evil/x"),
        ("error_page", "x" * 70_000),
        ("sample", 2),
        ("balance", "random"),
        ("health_path", "health"),
        ("health_interval", 0.01),
        ("sign_in", "perhaps"),
    ],
)
def test_what_is_none_is_refused_by_name(key: str, value: object) -> None:
    with pytest.raises(OptionError) as refused:
        parse_options({key: value})
    assert refused.value.key == key
    assert "secret" not in str(refused.value)


def test_hashes_and_pages_stay_out_of_the_representation() -> None:
    assert "argon2" not in repr(parse_options({"basic_auth": [f"ann:{HASH}"]}))


@pytest.mark.parametrize(
    "cost", ["m=4194304,t=1,p=1", "m=65536,t=9999,p=4", "m=8192,t=1,p=500", "m=0,t=1,p=1", "t=3,m=65536"]
)
def test_hash_that_would_cost_seconds_or_gigabytes_to_verify_is_none(cost: str) -> None:
    with pytest.raises(OptionError) as caught:
        parse_options({"basic_auth": [f"ann:$argon2id$v=19${cost}$c29tZXNhbHRzb21lc2FsdA${'A' * 43}"]})
    assert caught.value.key == "basic_auth"


def test_pass_through_is_refused_for_a_part_of_a_name() -> None:
    with pytest.raises(OptionError, match="needs the path `/`"):
        check_place(parse_options({"tls_passthrough": True}), "/api", "prefix")
    check_place(parse_options({"tls_passthrough": True}), "/", "prefix")
    check_place(parse_options({}), "/api", "prefix")


def test_sign_in_is_refused_for_one_path_alone() -> None:
    with pytest.raises(OptionError, match="needs a route of kind prefix"):
        check_place(parse_options({"sign_in": True}), "/report", "exact")
    check_place(parse_options({"sign_in": True}), "/report", "prefix")
