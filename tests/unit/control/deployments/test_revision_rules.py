"""Small rules of making revisions: what stays scaled, what is the same request, what fits an order."""

from typing import Any

import pytest

from towline.control.deployments import intents
from towline.control.deployments.models import Deployment, Revision
from towline.control.deployments.revisions import (
    MAX_ORDER_BYTES,
    checked_name,
    fingerprint,
    kept_scales,
    require_fitting,
)
from towline.control.deployments.schemas import RevisionRequest
from towline.control.errors import ApiError, ErrorCode

WEB = "services: {web: {image: a}}"


def request(**more: Any) -> RevisionRequest:
    return RevisionRequest(compose=WEB, **more)


def services(**replicas: int) -> list[dict[str, Any]]:
    return [{"name": name, "replicas": count} for name, count in replicas.items()]


def test_what_scale_set_stays_while_the_file_says_the_same() -> None:
    assert kept_scales({"web": 3}, services(web=1), services(web=1)) == {"web": 3}


def test_a_new_number_in_the_file_wins_over_scale() -> None:
    assert kept_scales({"web": 3}, services(web=1), services(web=2)) == {}


def test_a_service_that_is_gone_is_scaled_no_more() -> None:
    assert kept_scales({"web": 3, "db": 2}, services(web=1, db=1), services(web=1)) == {"web": 3}


def test_requests_are_the_same_when_everything_but_secret_values_is() -> None:
    assert fingerprint(request(secrets={"key": "one"})) == fingerprint(request(secrets={"key": "two"}))
    for other in (request(), request(secrets={}), request(secrets={"key": None}), request(secrets={"other": "one"})):
        assert fingerprint(other) != fingerprint(request(secrets={"key": "one"}))
    assert fingerprint(request(message="a")) != fingerprint(request(message="b"))


def test_what_does_not_fit_one_message_is_refused_with_its_size() -> None:
    require_fitting(request(), secrets=0)
    with pytest.raises(ApiError) as caught:
        require_fitting(request(), secrets=MAX_ORDER_BYTES)
    assert caught.value.code is ErrorCode.TOO_LARGE
    with pytest.raises(ApiError):
        require_fitting(RevisionRequest(compose='"' * 500_000), secrets=0)


def test_a_name_outside_the_grammar_is_refused() -> None:
    assert checked_name("shop-1") == "shop-1"
    for name in ("", "..", "-rf", "Shop", "a" * 64, "shop\n"):
        with pytest.raises(ApiError):
            checked_name(name)


def test_a_secret_is_in_no_repr_of_a_request() -> None:
    assert "hunter2" not in repr(request(secrets={"key": "hunter2"}))


def test_an_intent_comes_back_from_the_database_as_it_went_in() -> None:
    deployment = Deployment(id="dep_1", cluster_id="clu_1", name="shop", auto_rollback=True, settle_seconds=5.0)
    revision = Revision(id="rev_1", number=4)
    job = intents.deploy(deployment, revision, action="rollback", pinned=True, auto_rollback=False)
    intent = intents.read_deploy(job.payload)
    assert (intent.revision_id, intent.revision, intent.action, intent.pinned) == ("rev_1", 4, "rollback", True)
    assert (intent.auto_rollback, intent.settle_seconds) == (False, 5.0)
    assert (job.serial_key, job.supersede) == ("project/clu_1/shop", True)
