"""Which record leads to this server, and names that need none."""

import pytest

from towline.control.domains.resolver import Resolver, Whereabouts, record_to


@pytest.mark.parametrize(
    ("place", "record"),
    [
        ("towline.example.com", ("CNAME", "towline.example.com")),
        ("192.0.2.7", ("A", "192.0.2.7")),
        ("2001:db8::7", ("AAAA", "2001:db8::7")),
    ],
)
def test_an_address_is_no_alias(place: str, record: tuple[str, str]) -> None:
    assert record_to(place) == record


async def test_names_below_localhost_lead_to_this_machine_without_dns() -> None:
    here = Whereabouts(Resolver(("192.0.2.53",)), lambda: "127.0.0.1", lambda: ("127.0.0.1",))
    assert await here.leads_here("shop.apps.localhost") == (
        True,
        "shop.apps.localhost resolves to 127.0.0.1, ::1",
    )
