"""The exit code that the last message of an exec names."""

import pytest

from towline.cli.errors import FAILED, NOT_ALLOWED, CliError
from towline.cli.kube.shell import exit_code


def test_success_is_zero_and_a_named_code_is_that_code() -> None:
    failed = {
        "status": "Failure", "reason": "NonZeroExitCode",
        "details": {"causes": [{"reason": "ExitCode", "message": "7"}]},
    }  # fmt: skip
    assert (exit_code({"metadata": {}, "status": "Success"}), exit_code(failed)) == (0, 7)


@pytest.mark.parametrize(("status", "code"), [({"code": 403, "message": "no"}, NOT_ALLOWED), ({}, FAILED)])
def test_a_command_that_could_not_be_run_is_an_error(status: dict[str, object], code: int) -> None:
    with pytest.raises(CliError) as caught:
        exit_code({"status": "Failure", **status})
    assert caught.value.code == code
