"""Which addresses may be reached."""

from __future__ import annotations

import subprocess
from ipaddress import ip_network

import pytest

from ims.errors import PermanentError
from ims.network.addresses import AddressRules, RefusedError, parse
from ims.network.resolution import Endpoint, choose
from ims.network.routes import is_local

REFUSED = {
    "127.0.0.1": "a loopback address",
    "127.255.1.2": "a loopback address",
    "::1": "a loopback address",
    "0.0.0.0": "an unspecified address",  # noqa: S104
    "::": "an unspecified address",
    "169.254.169.254": "a link-local address",
    "fe80::1": "a link-local address",
    "fe80::1%eth0": "a link-local address",
    "224.0.0.1": "a multicast address",
    "ff02::1": "a multicast address",
    "255.255.255.255": "a reserved address",
    "100.100.100.200": "the address of a metadata service",
    "fd00:ec2::254": "the address of a metadata service",
    "::ffff:127.0.0.1": "a loopback address",
    "::127.0.0.1": "a loopback address",
    "::ffff:0:7f00:1": "a loopback address",
    "64:ff9b::7f00:1": "a loopback address",
    "64:ff9b:1::a9fe:a9fe": "a link-local address",
    "2002:7f00:1::": "a loopback address",
    "2001:db8::5efe:7f00:1": "a loopback address",
    "2001:0:4136:e378:8000:63bf:80ff:fffe": "a loopback address",
}


@pytest.mark.parametrize(("address", "reason"), REFUSED.items())
def test_special_addresses_are_refused(address: str, reason: str) -> None:
    """In every form that IPv6 has for an IPv4 address."""
    assert AddressRules().refusal(parse(address)) == reason


@pytest.mark.parametrize("address", ["192.0.2.1", "10.0.0.1", "192.168.1.1", "fd00::1", "2600::1", "64:ff9b::808:808"])
def test_other_addresses_are_allowed(address: str) -> None:
    """Private networks, too: the package mirror of a site is there."""
    assert AddressRules().refusal(parse(address)) is None


def test_a_network_can_be_allowed() -> None:
    """It allows its addresses in all their forms, and no others."""
    rules = AddressRules(allowed=(ip_network("127.0.0.1/32"), ip_network("169.254.1.0/24")))
    for address in ("127.0.0.1", "::ffff:127.0.0.1", "64:ff9b::7f00:1", "169.254.1.9"):
        assert rules.refusal(parse(address)) is None
    for address in ("127.0.0.2", "169.254.169.254", "::1", "::ffff:127.0.0.2"):
        assert rules.refusal(parse(address)) is not None


def test_addresses_of_the_service_are_refused() -> None:
    """Wherever they are."""
    rules = AddressRules(services=frozenset({parse("192.0.2.7")}))
    assert rules.refusal(parse("::ffff:192.0.2.7")) == "an address of this service"
    assert rules.refusal(parse("192.0.2.8")) is None


def test_addresses_of_the_machine_are_refused() -> None:
    """By the rule that the caller gives."""
    rules = AddressRules(is_local=lambda address: str(address) == "192.0.2.7")
    assert rules.refusal(parse("192.0.2.7")) == "an address of this machine"
    assert rules.refusal(parse("192.0.2.8")) is None


def test_the_kernel_knows_its_addresses() -> None:
    """Loopback is local; documentation networks are not."""
    assert is_local(parse("127.1.2.3"))
    assert not is_local(parse("198.51.100.7"))
    assert not is_local(parse("2001:db8::7"))


@pytest.mark.system
def test_addresses_of_all_interfaces_are_local() -> None:
    """Also those that were added a moment ago."""
    listed = subprocess.run(["ip", "-oneline", "address"], capture_output=True, text=True, check=True).stdout
    addresses = [line.split()[3].partition("/")[0] for line in listed.splitlines()]
    assert addresses
    assert all(is_local(parse(address)) for address in addresses)


def test_allowed_addresses_of_a_name_are_used() -> None:
    """A name that has a refused address as well is reached at the others only."""
    found = choose("mirror.example", 443, ["127.0.0.1", "192.0.2.1", "::1"], AddressRules())
    assert found == [Endpoint("192.0.2.1", 443)]


def test_refusal_names_the_address() -> None:
    """And the setting that would allow it. Another try cannot help."""
    with pytest.raises(RefusedError) as caught:
        choose("s3.example", 8333, ["127.0.0.1"], AddressRules())
    assert caught.value.reason == "s3.example:8333 is refused: 127.0.0.1 is a loopback address"
    assert "IMS_ALLOWED_NETWORKS" in caught.value.hint
    assert isinstance(caught.value, PermanentError)
