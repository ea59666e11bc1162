"""What is wrong with one claim is that claim's problem: the database takes all of them."""

import json
from typing import Any

import pytest

from towline.control.domains.names import Ownership
from towline.control.routes.claims import LONGEST_REF, Claimed, claimed, ref_of
from towline.wire import link
from towline.wire.streams import KubeService

OWNERSHIP = Ownership("", frozenset())


def read(**changes: Any) -> Claimed:
    values: dict[str, Any] = {
        "ref": "ingress/shop/web/0/0", "source": "ingress", "host": "a.example.net",
        "target": KubeService(namespace="shop", name="web", port="80"),
    }  # fmt: skip
    return claimed(link.RouteClaim(**{**values, **changes}), "clu_1", "edge-1", OWNERSHIP)


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"ref": f"ingress/{'n' * 64}/web/0/0"}, "namespace"),
        ({"ref": "ingress/sh\0op/web/0/0"}, "namespace"),
        ({"options": {"error_page": "a\0b"}}, "NUL"),
        (
            {"problem": "no such port", "target": KubeService(namespace="s" * 64, name="a\0b", port="\0")},
            "no such port",
        ),
    ],
)
def test_what_no_database_takes_is_the_claims_problem(changes: dict[str, Any], word: str) -> None:
    found = read(**changes)
    assert word in found.columns["problem"]
    assert "\\u0000" not in json.dumps([found.ref, found.columns, found.places])
    assert all(len(namespace) <= 63 and len(project) <= 255 for _, project, namespace in found.places)


def test_a_sound_claim_has_no_problem_and_its_place() -> None:
    found = read()
    assert found.columns["problem"] == "" and found.places == (("clu_1", "", "shop"),)


def test_refs_fit_an_index_and_no_two_become_one() -> None:
    refs = ["é" * 999 + "a", "é" * 999 + "b", "x\0y", "xy", "short"]
    kept = [ref_of(ref) for ref in refs]
    assert len(set(kept)) == len(refs) and kept[-2:] == ["xy", "short"]
    assert all(len(ref.encode()) <= LONGEST_REF and "\0" not in ref for ref in kept)
