"""Visits: where visitors are sent back to, whatever an address said, and what they are known by."""

import pytest

from towline.control.routes.visits import answers_for
from towline.gateway.headers import OWN_COOKIES
from towline.gateway.route_policy import visit_cookie


@pytest.mark.parametrize("host", ["a.apps.test", "x-1.apps.test"])
def test_wildcard_route_answers_for_names_of_one_label(host: str) -> None:
    assert answers_for("*.apps.test", host)


@pytest.mark.parametrize(
    "host",
    [
        "16909060/.apps.test", "[::1]/.apps.test", "a@16909060/.apps.test", "evil#.apps.test", "evil?.apps.test",
        "evil\\.apps.test", "evil:1.apps.test", ".apps.test", "a.b.apps.test", "apps.test", "A\n.apps.test",
    ],
)  # fmt: skip
def test_what_is_no_host_name_is_no_place_to_send_a_ticket(host: str) -> None:
    assert not answers_for("*.apps.test", host)


def test_visits_of_two_routes_on_one_host_stand_beside_each_other() -> None:
    one, other = visit_cookie("rte_1"), visit_cookie("rte_2")
    assert one != other
    assert one.startswith(OWN_COOKIES) and other.startswith(OWN_COOKIES)
