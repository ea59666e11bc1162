"""The local policy's `[commands]`."""

import pytest

from towline.agent.errors import PolicyRefused, SettingsError
from towline.agent.policy import DENY_ALL, LocalPolicy, parse


def test_commands_are_allowed_unless_the_owner_says_otherwise() -> None:
    for program in ("kubectl", "docker", "compose"):
        LocalPolicy().require_command(program, writes=True)


@pytest.mark.parametrize(
    ("rules", "writes"),
    [({"enabled": False}, False), ({"programs": ["docker"]}, False), ({"read_only": True}, True)],
)
def test_the_owner_switches_commands_off(rules: dict[str, object], writes: bool) -> None:
    policy = parse({"commands": rules}, "policy.toml")
    with pytest.raises(PolicyRefused):
        policy.require_command("kubectl", writes=writes)


def test_reading_goes_on_where_nothing_may_be_changed() -> None:
    parse({"commands": {"read_only": True}}, "policy.toml").require_command("kubectl", writes=False)


def test_a_policy_that_cannot_be_read_allows_no_program() -> None:
    with pytest.raises(PolicyRefused):
        DENY_ALL.require("kubernetes")
    with pytest.raises(PolicyRefused):
        DENY_ALL.require("compose")


def test_unknown_programs_and_keys_are_errors() -> None:
    with pytest.raises(SettingsError, match=r"unknown commands\.programs"):
        parse({"commands": {"programs": ["sh"]}}, "policy.toml")
    with pytest.raises(SettingsError, match="unknown field"):
        parse({"commands": {"readonly": True}}, "policy.toml")
