"""What a cluster offers to publish: ports of containers and of Kubernetes services, no more than a form takes."""

from towline.control.routes import offers
from towline.control.routes.offers import Offer, Offers


def test_ports_are_those_inside_the_container() -> None:
    assert offers.inner_ports(["0.0.0.0:8080->80/tcp", "443/tcp", "[::]:9->53/udp", "nonsense"]) == [80, 443]


def test_a_service_offers_each_of_its_tcp_ports() -> None:
    ports = [{"name": "http", "port": 80}, {"port": 53, "protocol": "UDP"}, {"port": 443, "protocol": "TCP"}]
    service = {"metadata": {"name": "web", "namespace": "shop"}, "spec": {"ports": ports}}
    assert offers.of_object(service) == [
        Offer("service/shop/web:80", "web, port 80 (http)"),
        Offer("service/shop/web:443", "web, port 443"),
    ]


def test_a_service_that_stands_for_a_name_elsewhere_offers_nothing() -> None:
    service = {
        "metadata": {"name": "db", "namespace": "shop"},
        "spec": {"type": "ExternalName", "ports": [{"port": 1}]},
    }
    assert offers.of_object(service) == []


def test_a_target_without_a_port_gets_the_first_that_is_known() -> None:
    found = Offers({"a": [Offer("service/shop/web:80", ""), Offer("service/shop/web:443", "")]})
    assert found.best("service/shop/web:") == "service/shop/web:80"
    assert found.best("service/shop/other:") == "service/shop/other:"
    assert found.best("service/shop/web:443") == "service/shop/web:443"
    assert found.best("") == ""


def test_no_more_is_offered_than_a_form_takes() -> None:
    found = Offers()
    found.add("one", (Offer(f"compose/a/b:{n}", "") for n in range(1, offers.MOST_OFFERS + 2)))
    assert found.is_cut
    assert len(found.groups["one"]) == offers.MOST_OFFERS
