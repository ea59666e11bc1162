"""Parameters: converted as declared, refused when unknown, twice, out of bounds, or a token in disguise."""

from typing import Any

import pytest

from towline.agent.surface import parameters
from towline.agent.surface.endpoints import Kind, Parameter
from towline.agent.surface.errors import SurfaceError

DECLARED = (
    Parameter("namespace", "Namespace."),
    Parameter("tailLines", "Lines.", Kind.WHOLE, default=10, least=0, most=1000),
    Parameter("since", "Seconds.", Kind.NUMBER, least=-1, most=60),
    Parameter("follow", "Go on.", Kind.FLAG, default=False),
    Parameter("kind", "Kind.", choices=("pod", "node")),
)


def read(*query: tuple[str, str], **path: str) -> dict[str, Any]:
    return parameters.read(DECLARED, query, path)


def test_what_is_left_out_has_its_default() -> None:
    assert read() == {"namespace": None, "tailLines": 10, "since": None, "follow": False, "kind": None}


def test_values_are_converted() -> None:
    values = read(("namespace", "shop"), ("tailLines", "0"), ("since", "-0.5"), ("follow", ""), ("kind", "pod"))

    assert values == {"namespace": "shop", "tailLines": 0, "since": -0.5, "follow": True, "kind": "pod"}


def test_parameters_of_the_path_need_no_declaration() -> None:
    assert read(pod="web-1")["pod"] == "web-1"


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ((("tail", "1"),), "unknown parameter 'tail'; known are: follow, kind, namespace, since, tailLines"),
        ((("follow", "1"), ("follow", "1")), "follow is given twice"),
        ((("tailLines", "ten"),), "tailLines must be a whole number"),
        ((("tailLines", "1.5"),), "tailLines must be a whole number"),
        ((("tailLines", "1_0"),), "tailLines must be a whole number"),
        ((("tailLines", "٣"),), "tailLines must be a whole number"),
        ((("tailLines", ""),), "tailLines must be a whole number"),
        ((("tailLines", "1001"),), "tailLines must be between 0 and 1000"),
        ((("tailLines", "-1"),), "tailLines must be between 0 and 1000"),
        ((("tailLines", "9" * 5000),), "tailLines must be"),
        ((("since", "nan"),), "since must be a number"),
        ((("since", "1e3"),), "since must be a number"),
        ((("follow", "yes"),), "follow must be true or false"),
        ((("kind", "secret"),), "kind must be one of pod, node"),
        ((("namespace", "x" * 1001),), "namespace is longer than 1000 characters"),
        ((("namespace", "a\x00b"),), "namespace holds characters that cannot be printed"),
    ],
)
def test_unusable_one_is_refused_by_name(query: tuple[tuple[str, str], ...], words: str) -> None:
    with pytest.raises(SurfaceError, match="(?s)" + words) as caught:
        read(*query)

    assert caught.value.status == 400


def test_path_is_not_overruled_by_the_query() -> None:
    with pytest.raises(SurfaceError, match="unknown parameter 'namespace'"):
        read(("namespace", "other"), namespace="shop")


@pytest.mark.parametrize("name", ["token", "Token", "access_token", "key"])
def test_token_in_the_query_is_refused_with_the_reason(name: str) -> None:
    with pytest.raises(SurfaceError, match="ends up in histories and logs") as caught:
        parameters.refuse_tokens([name])

    assert caught.value.status == 401
    assert "POST /api/tickets" in caught.value.hint
