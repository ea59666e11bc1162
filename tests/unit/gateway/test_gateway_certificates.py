"""Which certificate a handshake gets: two ends of TLS in memory."""

import ssl
from datetime import UTC, datetime

import pytest
from cryptography import x509

from towline.control.authority import certificates
from towline.gateway.certificates import ALPN_CHALLENGE, Certificates, Material, context_of
from towline.wire.client_hello import ClientHello

NOW = datetime.now(UTC)
root_key = certificates.new_key()
root = certificates.new_authority(root_key, NOW)


def material(*names: str, serial: str = "1") -> Material:
    key = certificates.new_key()
    made = certificates.new_server(key, names, root, root_key, NOW)
    return Material(f"{names[0]}/{serial}", names, certificates.chain_pem(made), certificates.key_pem(key))


def store(*materials: Material, own: str = "towline.test", max_contexts: int = 10) -> Certificates:
    context = context_of(material(own))
    made = Certificates(lambda: context, max_contexts=max_contexts)
    made.own_names = frozenset({own})
    made.replace(materials)
    return made


def shown(server: Certificates, name: str | None, context: ssl.SSLContext | None = None, alpn: str = "") -> list[str]:
    """Shake hands in memory. Returns: the names of the certificate that the client is shown."""
    trust = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trust.check_hostname = False
    trust.load_verify_locations(cadata=certificates.chain_pem(root).decode())
    if alpn:
        trust.set_alpn_protocols([alpn])
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = trust.wrap_bio(to_client, to_server, server_hostname=name)
    end = (context or server.context()).wrap_bio(to_server, to_client, server_side=True)
    for _ in range(4):
        for side in (client, end):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    der = client.getpeercert(binary_form=True)
    assert der is not None
    found = x509.load_der_x509_certificate(der).extensions.get_extension_for_class(x509.SubjectAlternativeName)
    return found.value.get_values_for_type(x509.DNSName)


def test_an_exact_name_comes_before_a_wildcard() -> None:
    server = store(material("*.shop.test"), material("one.shop.test"))
    assert shown(server, "one.shop.test") == ["one.shop.test"]
    assert shown(server, "two.shop.test") == ["*.shop.test"]


def test_a_wildcard_covers_one_label() -> None:
    server = store(material("*.shop.test"))
    assert shown(server, "a.b.shop.test") == ["towline.test"]
    assert shown(server, "shop.test") == ["towline.test"]


def test_the_case_of_a_name_does_not_matter() -> None:
    assert shown(store(material("one.shop.test")), "ONE.Shop.test") == ["one.shop.test"]


def test_who_names_nobody_is_shown_the_servers_own() -> None:
    server = store(material("one.shop.test"))
    server.is_strict = True
    assert shown(server, None) == ["towline.test"]


def test_an_unknown_name_gets_none_when_strict_and_is_counted() -> None:
    server = store(material("one.shop.test"))
    server.is_strict = True
    with pytest.raises(ssl.SSLError):
        shown(server, "nobody.test")
    assert server.refused["unknown_name"] == 1
    assert shown(server, "towline.test") == ["towline.test"]


def test_ten_thousand_random_names_leave_no_trace() -> None:
    server = store(material("one.shop.test"))
    server.is_strict = True
    for number in range(10_000):
        assert server.find(f"random-{number}.test") is None
    assert repr(server) == "<Certificates 1 names, 0 contexts>"


def test_a_renewed_certificate_is_shown_at_the_next_handshake() -> None:
    server = store(material("one.shop.test"))
    shown(server, "one.shop.test")
    server.replace([material("one.shop.test", "two.shop.test", serial="2")])
    assert shown(server, "one.shop.test") == ["one.shop.test", "two.shop.test"]


def test_contexts_are_bounded_and_made_anew() -> None:
    names = [f"app-{number}.test" for number in range(5)]
    server = store(*(material(name) for name in names), max_contexts=2)
    for name in (*names, *names):
        assert shown(server, name) == [name]
    assert repr(server) == "<Certificates 5 names, 2 contexts>"


def test_a_challenge_is_shown_to_who_asks_for_it_alone() -> None:
    server = store(material("one.shop.test"))
    challenge = material("one.shop.test", "challenge.test")
    server.challenge("one.shop.test", challenge)
    chosen = server.choose(ClientHello("One.shop.test", (ALPN_CHALLENGE,)))
    assert chosen is not None
    assert "challenge.test" in shown(server, "one.shop.test", chosen, ALPN_CHALLENGE)
    assert server.choose(ClientHello("one.shop.test", ("http/1.1", ALPN_CHALLENGE))) is None
    assert server.choose(ClientHello("two.shop.test", (ALPN_CHALLENGE,))) is None
    assert server.choose(ClientHello(None, (ALPN_CHALLENGE,))) is None
    server.end_challenge("one.shop.test")
    assert not server.wants_hello


def test_keys_are_in_no_repr() -> None:
    assert "PRIVATE" not in repr(material("one.shop.test"))
