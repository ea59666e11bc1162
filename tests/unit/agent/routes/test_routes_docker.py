"""Which containers' labels count."""

from typing import Any

import msgspec

from towline.agent.docker.containers import Inspected
from towline.agent.policy import GatewayRules, LocalPolicy
from towline.agent.routes.docker import ComposeRoutes
from towline.agent.routes.telling import RouteTeller
from towline.aio.clock import SimulatedClock
from towline.wire.streams import Service


def container(state: str = "running", ports: tuple[str, ...] = ("80/tcp",), **labels: str) -> Inspected:
    marks = {
        "com.docker.compose.project": "shop",
        "com.docker.compose.service": "web",
        "towline.route.main.host": "shop.example.com",
        **{key.replace("__", "."): value for key, value in labels.items()},
    }
    value: dict[str, Any] = {
        "Id": "c1",
        "Config": {"Labels": {key: text for key, text in marks.items() if text}},
        "State": {"Status": state},
        "NetworkSettings": {"Ports": dict.fromkeys(ports)},
    }
    return msgspec.convert(value, Inspected)


class Play:
    def __init__(self, policy: LocalPolicy | None = None) -> None:
        self.teller = RouteTeller(clock=SimulatedClock())
        self.routes = ComposeRoutes(self.teller, lambda: policy or LocalPolicy())

    def claims(self, *found: Inspected) -> list[str]:
        self.routes.seen(found)
        message = self.teller.book.take({"compose"})
        return [claim.ref for claim in message.claims] if message is not None else []


def test_running_service_claims_its_label_at_its_only_port():
    play = Play()
    play.routes.seen([container(ports=("80/tcp", "53/udp"))])
    message = play.teller.book.take({"compose"})
    assert message is not None
    assert message.claims[0].target == Service(project="shop", service="web", port=80)


def test_states_that_count():
    for state in ("running", "paused", "restarting"):
        assert Play().claims(container(state)) == ["compose/shop/web/main"]
    for state in ("created", "exited", "dead", "removing"):
        assert Play().claims(container(state)) == []


def test_containers_outside_of_compose_and_one_off_ones_do_not_count():
    assert Play().claims(container(com__docker__compose__project="")) == []
    assert Play().claims(container(com__docker__compose__oneoff="True")) == []


def test_policy_that_forbids_the_source_is_obeyed():
    policy = LocalPolicy(gateway=GatewayRules(sources=("ingress",)))
    assert Play(policy).claims(container()) == []


def test_service_that_stops_is_missing_from_a_list_and_not_removed():
    play = Play()
    play.claims(container())
    play.routes.seen([container("exited")])
    message = play.teller.book.take({"compose"})
    assert message is not None
    assert (message.full, message.removed, message.claims) == (True, (), ())
