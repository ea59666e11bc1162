"""No log line and no audit detail holds a secret."""

import logging

from towline.control.access import secrets
from towline.control.logging import is_no_denial, redact_text, redact_value


def test_a_token_with_valid_check_digits_is_blotted_out_wherever_it_stands() -> None:
    token = secrets.mint("twl")
    assert token not in redact_text(f"GET /x?t={token}&y=1 {token}.")
    assert "twl_[redacted]" in redact_text(token)


def test_text_that_only_looks_like_a_token_stays() -> None:
    word = "twl_" + "a" * 42
    assert redact_text(word) == word


def test_values_are_hidden_by_the_name_of_their_key_at_any_depth() -> None:
    given = {"a": [{"password": "hunter2"}], "Authorization": "Basic eA==", "db_passwd": "x", "API_TOKEN": "y"}
    shown = str(redact_value(given))
    assert all(secret not in shown for secret in ("hunter2", "eA==", "'x'", "'y'"))


def test_ids_of_tokens_and_empty_values_are_shown() -> None:
    assert redact_value({"token_id": "tok_1", "password": ""}) == {"token_id": "tok_1", "password": ""}


def test_what_is_nested_too_deeply_is_hidden_whole() -> None:
    value: object = "secret"
    for _ in range(30):
        value = [value]
    assert "secret" not in str(redact_value(value))


def test_a_refused_websocket_is_no_error_of_the_server() -> None:
    def record(text: str) -> logging.LogRecord:
        return logging.LogRecord("uvicorn.error", logging.ERROR, "", 0, text, None, None)

    assert not is_no_denial(record("ASGI callable returned without completing handshake."))
    assert is_no_denial(record("Exception in ASGI application"))
