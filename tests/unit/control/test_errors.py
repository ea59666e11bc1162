"""The table of error codes is whole, and an error carries all that the caller needs."""

from towline.control.errors import STATUSES, ApiError, ErrorCode, not_found


def test_every_code_has_a_status() -> None:
    assert set(STATUSES) == set(ErrorCode)
    assert all(400 <= status < 600 for status in STATUSES.values())


def test_the_body_has_every_field_of_the_contract() -> None:
    error = ApiError(ErrorCode.CONFLICT, "taken", hint="choose another", detail={"name": "x"})
    assert error.body("req_1") == {
        "error": {
            "code": "conflict",
            "message": "taken",
            "hint": "choose another",
            "detail": {"name": "x"},
            "request_id": "req_1",
        }
    }


def test_a_missing_thing_has_a_code_of_its_own_kind() -> None:
    assert not_found("cluster", "shop").code is ErrorCode.CLUSTER_NOT_FOUND
    assert not_found("join token", "x").code is ErrorCode.JOIN_TOKEN_NOT_FOUND
    assert not_found("unicorn", "x").code is ErrorCode.NOT_FOUND
