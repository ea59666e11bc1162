"""Server names are host names, or there is no handshake."""

import ssl
from types import SimpleNamespace

import pytest

from towline.gateway.tls import remember_server_name

CONTEXT = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)


@pytest.mark.parametrize("name", ["app.example.test", "APP.Example.Test", "localhost", "xn--bcher-kva.test", "a1.b"])
def test_host_name_is_remembered_in_lower_case(name: str) -> None:
    connection = SimpleNamespace()
    assert remember_server_name(connection, name, CONTEXT) is None
    assert connection.towline_server_name == name.lower()


def test_missing_name_is_allowed() -> None:
    connection = SimpleNamespace()
    assert remember_server_name(connection, None, CONTEXT) is None
    assert not hasattr(connection, "towline_server_name")


@pytest.mark.parametrize(
    "name",
    ["", "a\x00b", "a_b.test", "*.test", "a.test.", "1.2.3.4", "::1", "[::1]", "a" * 64, "a." * 150, "-a", "a..b", "ä"],
)
def test_anything_else_ends_the_handshake(name: str) -> None:
    connection = SimpleNamespace()
    alert = remember_server_name(connection, name, CONTEXT)
    assert alert == ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME
