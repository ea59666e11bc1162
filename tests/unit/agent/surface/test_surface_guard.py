"""Host and Origin of a request: what a page of somebody else must not reach."""

import pytest

from towline.agent.surface import guard
from towline.agent.surface.errors import SurfaceError


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:8080", "127.0.0.1", "127.0.0.1:8080", "127.3.2.1:1", "[::1]:8080", "[::1]"]
)
def test_names_of_this_machine_are_taken_on_loopback(host: str) -> None:
    guard.require_loopback_name(host)


@pytest.mark.parametrize(
    "host",
    ["", "evil.example", "evil.example:8080", "localhost.evil.example", "127.0.0.1.evil.example", "10.0.0.1:8080",
     "[::2]:80", "localhost:80:80", "0.0.0.0:8080", "169.254.169.254"],
)  # fmt: skip
def test_every_other_name_is_refused_on_loopback(host: str) -> None:
    with pytest.raises(SurfaceError) as caught:
        guard.require_loopback_name(host)

    assert caught.value.status == 403


def test_page_of_the_surface_itself_may_ask() -> None:
    guard.require_same_origin("http://localhost:8080", "localhost:8080")
    guard.require_same_origin(None, "localhost:8080")


@pytest.mark.parametrize(
    "origin", ["null", "", "http://evil.example", "http://localhost:3000", "https://localhost:8080.evil.example"]
)
def test_page_of_another_origin_is_refused(origin: str) -> None:
    with pytest.raises(SurfaceError) as caught:
        guard.require_same_origin(origin, "localhost:8080")

    assert caught.value.code == "cross_site"
