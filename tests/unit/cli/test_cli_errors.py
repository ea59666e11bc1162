import pytest

from towline.cli.errors import AWAY, FAILED, NOT_ALLOWED, NOT_FOUND, USAGE, from_answer, from_close


def body(message: str, **detail: object) -> dict[str, object]:
    return {"error": {"code": "x", "message": message, "hint": "", "detail": detail}}


@pytest.mark.parametrize(
    ("status", "code"),
    [(400, FAILED), (401, NOT_ALLOWED), (403, NOT_ALLOWED), (404, NOT_FOUND), (422, USAGE), (503, AWAY), (504, AWAY)],
)
def test_each_status_has_its_exit_code(status: int, code: int) -> None:
    assert from_answer(status, body("no"), request="GET /").code == code
    assert from_answer(status, None, request="GET /").code == code


def test_what_the_hosts_policy_forbids_is_not_allowed() -> None:
    assert from_answer(502, body("the policy", reason="forbidden"), request="GET /").code == NOT_ALLOWED
    assert from_answer(502, body("refused", reason="unreachable"), request="GET /").code == FAILED


def test_a_problem_that_is_the_message_is_said_once() -> None:
    problems = [{"line": 2, "message": "no image", "path": "web"}, {"line": 3, "message": "no key", "path": "web.x"}]
    error = from_answer(422, body("line 2: no image", problems=problems), request="POST /")
    assert error.message == "line 2: no image"
    assert error.problems == ("line 3: no key (web.x)",)


@pytest.mark.parametrize(
    ("code", "exit_code"), [(4400, USAGE), (4403, NOT_ALLOWED), (4502, FAILED), (4503, AWAY), (1006, AWAY)]
)
def test_each_close_code_has_its_exit_code(code: int, exit_code: int) -> None:
    assert from_close(code, "why").code == exit_code
    assert from_close(code, "").message == "the connection through the cluster broke"
