"""How long a change of a cluster may be gathered on its way to a page."""

from __future__ import annotations

from towline.agent.kubernetes.telling import Teller
from towline.control.kubernetes.inventory_intake import FLUSH_INTERVAL
from towline.wire.link import LinkSettings

MOST = 0.4
"""Seconds: what is left of half a second is for the ways between, and for the page that asks again."""


def test_change_is_gathered_for_less_than_half_a_second_at_both_ends_together() -> None:
    assert LinkSettings().kube_inventory_interval + FLUSH_INTERVAL <= MOST


def test_agent_gathers_no_longer_before_a_server_has_said_for_how_long() -> None:
    assert Teller(lambda: None).interval <= LinkSettings().kube_inventory_interval
