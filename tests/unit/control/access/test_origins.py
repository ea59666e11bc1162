"""Which pages may act with a browser's cookie."""

import pytest

from towline.control.access.origins import is_ours
from towline.control.settings import load

SETTINGS = load({}, public_url="https://towline.example", allowed_origins=["https://console.example"])


@pytest.mark.parametrize(
    "origin",
    [
        "https://host:8443",
        "http://host:8443",
        "https://HOST:8443",
        "https://towline.example",
        "https://console.example",
    ],
)
def test_our_own_pages_may(origin: str) -> None:
    assert is_ours(origin, "host:8443", SETTINGS)


@pytest.mark.parametrize(
    "origin",
    [
        "null",
        "",
        "https://evil",
        "https://host",
        "https://host:8443.evil",
        "https://evil/host:8443",
        "http://towline.example",
        "https://towline.example.evil",
        "https://user@host:8443",
        "file://host:8443",
        "https://[::1",
    ],
)
def test_other_pages_may_not(origin: str) -> None:
    assert not is_ours(origin, "host:8443", SETTINGS)
