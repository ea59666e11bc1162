"""Certificates of our own authority: what they say, and when they are renewed."""

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509

from towline.control.authority import certificates
from towline.control.authority.names import is_name, server_names

NOW = datetime(2026, 1, 1, tzinfo=UTC)
NAMES = ["towline.example", "192.0.2.1", "::1"]


@pytest.fixture(scope="module")
def made() -> tuple[x509.Certificate, x509.Certificate]:
    key = certificates.new_key()
    authority = certificates.new_authority(key, NOW)
    return authority, certificates.new_server(certificates.new_key(), NAMES, authority, key, NOW)


def test_the_authority_may_sign_servers_only(made: tuple[x509.Certificate, x509.Certificate]) -> None:
    constraints = made[0].extensions.get_extension_for_class(x509.BasicConstraints)
    assert constraints.critical and constraints.value.ca and constraints.value.path_length == 0


def test_the_server_has_its_names_and_is_issued_by_the_authority(
    made: tuple[x509.Certificate, x509.Certificate],
) -> None:
    authority, server = made
    server.verify_directly_issued_by(authority)
    names = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["towline.example"]
    assert [str(address) for address in names.get_values_for_type(x509.IPAddress)] == ["192.0.2.1", "::1"]


@pytest.mark.parametrize(
    ("days", "names", "renewed"),
    [
        (0, NAMES, False),
        (58, NAMES, False),
        (61, NAMES, True),
        (400, NAMES, True),
        (-3, NAMES, True),
        (0, NAMES[:1], False),
        (0, [*NAMES, "new.example"], True),
    ],
)
def test_it_is_renewed_at_two_thirds_of_its_life_and_for_a_new_name(
    made: tuple[x509.Certificate, x509.Certificate], days: int, names: list[str], renewed: bool
) -> None:
    authority, server = made
    assert certificates.needs_renewal(server, names, authority, NOW + timedelta(days=days)) is renewed


def test_it_is_renewed_for_another_authority(made: tuple[x509.Certificate, x509.Certificate]) -> None:
    other = certificates.new_authority(certificates.new_key(), NOW)
    assert certificates.needs_renewal(made[1], NAMES, other, NOW)


def test_it_is_valid_for_a_machine_whose_clock_is_an_hour_behind(
    made: tuple[x509.Certificate, x509.Certificate],
) -> None:
    assert all(one.not_valid_before_utc < NOW - timedelta(hours=25) for one in made)


def test_pins_have_the_shape_that_agents_and_curl_take(made: tuple[x509.Certificate, x509.Certificate]) -> None:
    assert certificates.fingerprint(made[0]).startswith("sha256:") and len(certificates.fingerprint(made[0])) == 71
    assert certificates.spki_pin(made[1]).startswith("sha256//") and certificates.spki_pin(made[1]).endswith("=")


@pytest.mark.parametrize("text", ["a", "a.b", "192.0.2.1", "::1", "xn--caf-dma.example"])
def test_names_and_addresses_are_names(text: str) -> None:
    assert is_name(text)


@pytest.mark.parametrize("text", ["", "-a", "a-", "a..b", "a b", "é", "a/b", "x" * 64, "a." * 130, "*.a", "a_b"])
def test_other_text_is_no_name(text: str) -> None:
    assert not is_name(text)


def test_the_names_of_the_settings_come_first_and_loopback_is_always_there(pytestconfig: pytest.Config) -> None:
    import pytest_socket

    pytest_socket.enable_socket()  # asks the kernel for its own addresses; nothing is sent
    names = server_names(["Towline.Example", "towline.example", "bad name"])
    assert names[0] == "towline.example" and names.count("towline.example") == 1
    assert {"localhost", "127.0.0.1", "::1"} <= set(names)
