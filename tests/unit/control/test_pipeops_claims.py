"""From what PipeOps agents say of their ingresses to claims of routes. Time is given."""

import pytest
from tests.support.pipeops_traces import recorded

from towline.control.protocols.pipeops import claims
from towline.wire import pipeops_messages as messages
from towline.wire import pipeops_routes as rest
from towline.wire import streams

CONTROLLER = streams.KubeService(namespace="ingress-nginx", name="ingress-nginx-controller", port="80")


def recorded_registrations() -> list[rest.RegisterRoute]:
    found = [entry for entry in recorded("pipeops-routes") if entry.get("path") == rest.REGISTER_PATH]
    return [rest.REGISTER_ROUTE.read(entry["body"].encode()) for entry in found]


def route(path: str, **changes: object) -> rest.RegisterRoute:
    fields: dict[str, object] = {
        "hostname": "shop.example.com", "cluster_uuid": "c", "namespace": "ingress-nginx", "service_port": 80,
        "service_name": "ingress-nginx-controller", "ingress_name": "shop", "path_type": "Prefix", "tls": True,
    }  # fmt: skip
    return rest.RegisterRoute(path=path, **{**fields, **changes})


def paths(book: claims.Book) -> list[str]:
    return sorted(claim.path for claim in book.listing().claims)


def test_a_registered_path_leads_to_the_controller_with_its_host() -> None:
    (claim,) = claims.Book().registered(recorded_registrations()[0], 0.0).claims
    assert (claim.host, claim.path, claim.path_type, claim.tls) == ("shop.example.com", "/api", "prefix", True)
    assert claim.target == CONTROLLER
    assert claim.ref == "ingress/ingress-nginx/shop/shop.example.com/prefix/api"


def test_a_changed_path_takes_the_place_of_the_one_before() -> None:
    book = claims.Book()
    first, second = recorded_registrations()
    book.registered(first, 0.0)
    book.registered(second, 6.0)
    assert book.settle(6.0) is None
    changed = book.settle(6.0 + claims.BURST_TIMEOUT)
    assert changed == claims.Changed(removed=("ingress/ingress-nginx/shop/shop.example.com/prefix/api",))
    assert paths(book) == ["/v2"]


def test_the_paths_of_one_ingress_that_follow_each_other_all_stay() -> None:
    book = claims.Book()
    for begin in (0.0, 300.0):
        for number, path in enumerate(("/a", "/b", "/c")):
            book.registered(route(path), begin + number)
        assert book.settle(begin + 10) is None
    assert paths(book) == ["/a", "/b", "/c"]


def test_another_ingress_with_the_same_host_is_not_touched() -> None:
    book = claims.Book()
    book.registered(route("/a", ingress_name="one"), 0.0)
    book.registered(route("/b", ingress_name="two"), 10.0)
    book.settle(20.0)
    assert paths(book) == ["/a", "/b"]


def test_an_unregistered_host_takes_all_of_its_routes_with_it() -> None:
    book = claims.Book()
    book.registered(route("/a"), 0.0)
    book.registered(route("/b", ingress_name="other"), 0.0)
    book.registered(route("/c", hostname="else.example.com"), 0.0)
    assert len(book.unregistered("SHOP.example.com.").removed) == 2
    assert paths(book) == ["/c"]


def listing(*hosts: str) -> rest.SyncIngresses:
    path = rest.RulePath(path="/", path_type="Exact", service_name="ingress-nginx-controller", service_port=80)
    rules = tuple(rest.Rule(host=host, tls=False, paths=(path,)) for host in hosts)
    controller = rest.IngressController(
        name="ingress-nginx-controller", namespace="ingress-nginx", port=80, type="nginx"
    )
    ingress = rest.SyncedIngress(namespace="default", ingress_name="shop", rules=rules)
    return rest.SyncIngresses(cluster_uuid="c", ingresses=(ingress,), ingress_controller=controller)


def test_a_full_list_replaces_everything() -> None:
    book = claims.Book()
    book.registered(route("/old"), 0.0)
    changed = book.synced(listing("a.example.com", "b.example.com"), 1.0)
    assert changed.full
    assert [claim.host for claim in changed.claims] == ["a.example.com", "b.example.com"]
    assert changed.claims[0].target == CONTROLLER
    assert changed.claims[0].path_type == "exact"
    assert changed.claims[0].ref == "ingress/default/shop/a.example.com/exact/"


def ws(action: str, **fields: object) -> messages.IngressRoutes:
    entry = messages.IngressRoute(host="a.example.com", service="web", namespace="default", port=80, **fields)
    return messages.IngressRoutes(action=action, cluster_uuid="c", routes=(entry,))


def test_routes_told_over_the_socket_are_added_updated_and_deleted() -> None:
    book = claims.Book()
    (claim,) = book.told(ws("add", path="/x")).claims
    assert claim.target == streams.KubeService(namespace="default", name="web", port="80")
    assert book.told(ws("update", path="/x", tls=True)).claims[0].tls
    assert len(book) == 1
    assert book.told(ws("delete", path="/x")).removed == (claim.ref,)
    assert len(book) == 0


def test_a_deletion_without_a_path_ends_the_host() -> None:
    book = claims.Book()
    book.told(ws("add", path="/x"))
    book.told(ws("add", path="/y"))
    assert len(book.told(ws("delete")).removed) == 2


def test_any_other_action_is_a_full_list() -> None:
    book = claims.Book()
    book.told(ws("add", path="/x"))
    assert book.told(ws("sync", path="/y")).full
    assert paths(book) == ["/y"]


@pytest.mark.parametrize(
    ("path", "prefix"),
    [("/api/(.*)", "/api"), ("/a|b", "/"), ("/v[12]/x", "/"), ("api", "/api"), ("", "/"), ("/shop/.*$", "/shop")],
)
def test_a_regular_expression_becomes_the_prefix_before_it(path: str, prefix: str) -> None:
    (claim,) = claims.Book().registered(route(path), 0.0).claims
    assert claim.path == prefix
    assert bool(claim.notes) == (path not in ("api", ""))


def test_a_route_without_a_port_is_kept_with_its_problem() -> None:
    (claim,) = claims.Book().registered(route("/", service_port=0), 0.0).claims
    assert "no service or port" in claim.problem


def test_claims_beyond_what_is_kept_are_counted() -> None:
    book = claims.Book()
    book.synced(listing(*(f"h{number}.example.com" for number in range(claims.MOST_KEPT + 3))), 0.0)
    assert (len(book), book.left_out) == (claims.MOST_KEPT, 3)


def test_a_long_list_is_told_in_messages_that_follow_each_other() -> None:
    book = claims.Book()
    changed = book.synced(listing(*(f"h{number}.example.com" for number in range(450))), 0.0)
    told = list(claims.messages_of(changed, 7))
    assert [message.sequence for message in told] == [8, 9, 10]
    assert [message.more for message in told] == [True, True, False]
    assert sum(len(message.claims) for message in told) == 450


def test_an_empty_full_list_is_told_too() -> None:
    (message,) = claims.messages_of(claims.Changed(full=True), 0)
    assert message.full
    assert not message.more


def test_the_end_of_a_host_nobody_claims_is_nothing() -> None:
    assert claims.Book().unregistered("a.example.com") == claims.Changed()
