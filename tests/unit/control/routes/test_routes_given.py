"""Secret options are sealed, shown by name alone, kept when they come back masked, and no list needs to open them."""

import os
from typing import Any

import pytest

from towline.control.errors import ApiError, ErrorCode
from towline.control.routes.entries import open_secrets
from towline.control.routes.given import MASK, options_of, set_options, users_of
from towline.control.routes.models import PublishedRoute
from towline.control.sealing.ring import KeyRing
from towline.control.sealing.service import Sealer

HEADERS = {"Authorization": "Bearer planted-4711", "X-Team": "shop"}
USERS = ["vera:$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$aGFzaGhhc2hoYXNoaGFzaA"]
MASKED = {"Authorization": MASK, "X-Team": MASK}


def new_sealer() -> Sealer:
    return Sealer(KeyRing({"k": os.urandom(32)}))


def published(sealer: Sealer, users: list[str] | None = None, **options: Any) -> PublishedRoute:
    row = PublishedRoute(id="rte_1", org_id="org_1", name="web", path="/", path_type="prefix", options={}, sealed=None)
    set_options(sealer, row, options, users)
    return row


def test_headers_for_the_target_are_sealed_and_shown_by_name() -> None:
    sealer = new_sealer()
    row = published(sealer, set_request_headers=HEADERS, hsts=9)
    assert row.options == {"hsts": 9} and b"planted" not in (row.sealed or b"")
    assert options_of(sealer, row) == {"hsts": 9, "set_request_headers": MASKED}


def test_headers_of_a_row_that_was_stored_in_clear_are_not_shown_and_sealed_by_the_next_change() -> None:
    sealer = new_sealer()
    row = PublishedRoute(
        id="rte_1",
        org_id="org_1",
        name="web",
        path="/",
        path_type="prefix",
        options={"set_request_headers": HEADERS},
        sealed=None,
    )
    assert options_of(sealer, row) == {"set_request_headers": MASKED}
    set_options(sealer, row, {"hsts": 9}, None)
    assert row.options == {"hsts": 9} and open_secrets(sealer, row) == {"set_request_headers": HEADERS}


@pytest.mark.parametrize("given", [MASKED, f"authorization: {MASK}\nX-Team: {MASK}"])
def test_headers_that_come_back_masked_keep_their_values(given: object) -> None:
    sealer = new_sealer()
    row = published(sealer, set_request_headers=HEADERS)
    set_options(sealer, row, {"set_request_headers": given}, None)
    kept = open_secrets(sealer, row)["set_request_headers"]
    assert isinstance(kept, dict) and list(kept.values()) == list(HEADERS.values())


def test_headers_are_changed_added_and_taken_back_one_by_one() -> None:
    sealer = new_sealer()
    row = published(sealer, USERS, set_request_headers=HEADERS)
    set_options(sealer, row, {"set_request_headers": {"Authorization": MASK, "X-New": "1"}}, None)
    wanted = {"Authorization": HEADERS["Authorization"], "X-New": "1"}
    assert open_secrets(sealer, row) == {"basic_auth": USERS, "set_request_headers": wanted}
    set_options(sealer, row, {"set_request_headers": None}, None)
    assert open_secrets(sealer, row) == {"basic_auth": USERS}


def test_a_mask_without_a_stored_value_is_refused() -> None:
    sealer = new_sealer()
    with pytest.raises(ApiError, match="X-Other has no value"):
        published(sealer, set_request_headers={"X-Other": MASK})


def test_a_row_that_cannot_be_opened_is_shown_without_its_secrets() -> None:
    row = published(new_sealer(), USERS, set_request_headers=HEADERS, hsts=9)
    other = new_sealer()
    assert users_of(other, row) == () and options_of(other, row) == {"hsts": 9}


def test_a_row_that_cannot_be_opened_changes_only_when_all_its_secrets_are_given_anew() -> None:
    row = published(new_sealer(), USERS, set_request_headers=HEADERS)
    other = new_sealer()
    with pytest.raises(ApiError) as refused:
        set_options(other, row, {"hsts": 9}, None)
    assert refused.value.code is ErrorCode.CONFLICT
    set_options(other, row, {"set_request_headers": {"X-New": "1"}}, USERS)
    assert open_secrets(other, row) == {"basic_auth": USERS, "set_request_headers": {"X-New": "1"}}
