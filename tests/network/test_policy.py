"""The policies of recipes and of the service."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from ims.errors import InputError
from ims.network.addresses import parse
from ims.network.permissions import Permissions, UndeclaredError
from ims.network.policy import Policy, endpoint_of
from ims.network.site import policy_of, service_policy


@pytest.mark.parametrize(
    ("url", "endpoint"),
    [
        ("http://Nexus.Example/repository", "nexus.example:80"),
        ("https://user:secret@nexus.example./x", "nexus.example:443"),
        ("https://nexus.example:8443", "nexus.example:8443"),
        ("http://[2001:DB8::1]:81/", "[2001:db8::1]:81"),
    ],
)
def test_endpoint_has_one_spelling(url: str, endpoint: str) -> None:
    """Case, dots at the end and default ports do not matter."""
    assert endpoint_of(url) == endpoint


@pytest.mark.parametrize("url", ["", "ftp://nexus.example", "http://", "http://nexus:port/", "nexus.example"])
def test_other_addresses_have_no_endpoint(url: str) -> None:
    """The error shows the address."""
    with pytest.raises(InputError, match="is not the address of an http or https server"):
        endpoint_of(url)


def test_policy_of_a_recipe() -> None:
    """Further hosts have the ports of http and https unless they name one."""
    policy = policy_of("repositories", ["http://nexus.example/a"], ["cdn.example", "other.example:8080"])
    assert policy.endpoints == ("cdn.example:443", "cdn.example:80", "nexus.example:80", "other.example:8080")
    assert Policy.from_dict(json.loads(json.dumps(policy.as_dict()))) == policy


@pytest.mark.parametrize("host", ["", "host:port", "host:99999", "a b", "host:80/path", "http://host", "user@host"])
def test_wrong_hosts_are_rejected(host: str) -> None:
    """Hosts come from the files of a recipe."""
    with pytest.raises(InputError):
        policy_of("repositories", [], [host])


def test_policy_has_the_site_s_networks_and_services(configure: Callable[..., None]) -> None:
    """S3 is refused wherever it runs."""
    configure(allowed_networks="192.0.2.0/24, 198.51.100.0/24", s3_endpoint_url="http://203.0.113.5:9000")
    policy = service_policy()
    assert (policy.access, policy.allowed_networks) == ("open", ("192.0.2.0/24", "198.51.100.0/24"))
    assert policy.rules.refusal(parse("203.0.113.5")) == "an address of this service"


def test_only_declared_hosts_are_permitted() -> None:
    """Each with its port."""
    permissions = Permissions(Policy("repositories", ("nexus.example:80",)))
    permissions.check("NEXUS.example.", 80)
    for host, port in (("nexus.example", 443), ("evil.example", 80), ("nexus.example.evil.example", 80)):
        with pytest.raises(UndeclaredError):
            permissions.check(host, port)


def test_targets_of_redirects_are_permitted() -> None:
    """Also relative ones; what is no http URL is ignored."""
    permissions = Permissions(Policy("repositories", ("nexus.example:80",)))
    for location in ("/elsewhere", "https://mirror.example/x", "file:///etc/passwd", "http://[", ""):
        permissions.add_redirect("http://nexus.example/a", location)
    permissions.check("mirror.example", 443)
    with pytest.raises(UndeclaredError):
        permissions.check("mirror.example", 80)


def test_without_network_nothing_is_permitted() -> None:
    """And `open` permits every host; its address is checked later."""
    with pytest.raises(UndeclaredError):
        Permissions(Policy("none", ("nexus.example:80",))).check("nexus.example", 80)
    Permissions(Policy("open")).check("anything.example", 1)
