"""Where what organisations configure may lead: public addresses, and networks that the operator listed."""

import pytest

from towline.control.alerts.outgoing import Outgoing, OutgoingRefused


def going(*found: str, networks: tuple[str, ...] = ()) -> Outgoing:
    async def ask(host: str, port: int) -> list[str]:
        return list(found)

    return Outgoing(networks, ask)


@pytest.mark.parametrize("address", ["93.184.215.14", "2606:2800:21f:cb07:6820:80da:af6b:8b2c"])
async def test_a_public_address_is_allowed(address: str) -> None:
    found = await going(address).allowed("hooks.test", 443)
    assert found.address == address and not found.is_listed


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "::1", "10.1.2.3", "192.168.1.1", "172.16.0.1", "100.64.0.1", "169.254.169.254", "fe80::1%eth0",
        "fd00:ec2::254", "fd12::1", "0.0.0.0", "::", "224.0.0.1", "ff02::1", "::ffff:10.0.0.1",
        "::ffff:169.254.169.254", "64:ff9b::a00:1", "2002:a00:1::", "255.255.255.255", "no address",
    ],
)  # fmt: skip
async def test_any_other_address_is_refused(address: str) -> None:
    with pytest.raises(OutgoingRefused, match="outgoing_networks"):
        await going(address).allowed("hooks.test", 443)


async def test_a_listed_network_is_allowed_and_said_to_be_listed() -> None:
    found = await going("10.1.2.3", networks=("10.0.0.0/8",)).allowed("hooks.test", 443)
    assert found.address == "10.1.2.3" and found.is_listed


@pytest.mark.parametrize("address", ["169.254.169.254", "fe80::1", "fd00:ec2::254"])
async def test_metadata_services_are_refused_whatever_is_listed(address: str) -> None:
    with pytest.raises(OutgoingRefused):
        await going(address, networks=("0.0.0.0/0", "::/0")).allowed("hooks.test", 443)


async def test_of_several_addresses_one_that_is_allowed_is_dialled() -> None:
    found = await going("10.0.0.1", "93.184.215.14").allowed("hooks.test", 443)
    assert found.address == "93.184.215.14"


async def test_a_name_that_is_not_known_is_said_to_be_that() -> None:
    async def ask(host: str, port: int) -> list[str]:
        raise OSError("no such host")

    with pytest.raises(OutgoingRefused, match=r"nowhere\.test cannot be resolved"):
        await Outgoing((), ask).allowed("nowhere.test", 443)
