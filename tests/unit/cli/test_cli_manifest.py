"""How `cluster manifest` reads what people write."""

import pytest

from towline.cli.commands.manifest import _toleration
from towline.cli.errors import CliError


@pytest.mark.parametrize(
    ("text", "key", "operator", "value", "effect"),
    [
        ("dedicated", "dedicated", "Exists", "", ""),
        ("dedicated:NoSchedule", "dedicated", "Exists", "", "NoSchedule"),
        ("dedicated=infra:NoExecute", "dedicated", "Equal", "infra", "NoExecute"),
        ("dedicated=infra", "dedicated", "Equal", "infra", ""),
        (":NoSchedule", "", "Exists", "", "NoSchedule"),
    ],
)
def test_a_toleration_is_written_as_taints_are(text: str, key: str, operator: str, value: str, effect: str) -> None:
    assert _toleration(text) == {"key": key, "operator": operator, "value": value, "effect": effect}


def test_an_unknown_effect_is_a_usage_error() -> None:
    with pytest.raises(CliError):
        _toleration("dedicated:Never")
