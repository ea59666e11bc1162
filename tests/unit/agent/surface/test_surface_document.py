"""The OpenAPI document says of each endpoint what the guard does with it."""

import re

import pytest
import schemathesis

from towline.agent.surface.catalogue import ENDPOINTS
from towline.agent.surface.document import document
from towline.agent.surface.endpoints import Endpoint, Right


def name_of(endpoint: Endpoint) -> str:
    return f"{endpoint.method} {endpoint.path}"


def test_no_two_endpoints_share_method_and_path_or_name() -> None:
    made = document(ENDPOINTS)
    operations = [one["operationId"] for path in made["paths"].values() for one in path.values()]

    assert len(operations) == len(set(operations)) == len(ENDPOINTS)


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=name_of)
def test_endpoint_is_described_with_an_example_that_fits(endpoint: Endpoint) -> None:
    made = document(ENDPOINTS)["paths"][endpoint.path][endpoint.method.lower()]

    assert endpoint.summary.endswith(".")
    assert "$URL" in endpoint.curl
    assert ("$TOKEN" in endpoint.curl) is (endpoint.right is not Right.OPEN)
    assert "token=" not in endpoint.curl
    names = {one["name"] for one in made.get("parameters", []) if one["in"] == "path"}
    assert names == set(re.findall(r"\{(\w+)\}", endpoint.path))
    assert bool(made["security"]) is (endpoint.right is not Right.OPEN)
    assert {"400", "503"} <= made["responses"].keys()


def test_document_is_openapi() -> None:
    schemathesis.openapi.from_dict(document(ENDPOINTS)).validate()


def test_open_paths_are_health_and_the_empty_page_alone() -> None:
    assert {each.path for each in ENDPOINTS if each.right is Right.OPEN} == {"/", "/health", "/ready"}
