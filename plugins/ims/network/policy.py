"""What a program may reach: the input of the proxy."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from ipaddress import ip_network
from typing import Any, Literal, get_args
from urllib.parse import urlsplit

from ims.errors import InputError
from ims.network.addresses import Address, AddressRules, parse
from ims.network.resolution import in_brackets
from ims.network.routes import is_local
from ims.settings import Settings, settings

Access = Literal["none", "repositories", "open"]
"""What a program may reach: nothing, the repositories of its recipe, or every address that is not refused."""
DEFAULT_PORTS = {"http": 80, "https": 443}
MAX_ENDPOINTS = 1000
RECIPE_HINT = "Set network: open in .ims_recipe.yaml, or name the host in its field network_hosts"
JOB_HINT = "Set network to open in the job"
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]{1,45}\]|[A-Za-z0-9._-]{1,253})(?P<port>:[0-9]{1,5})?")


@dataclass(frozen=True)
class Policy:
    """`endpoints` are the HOST:PORT that `repositories` allows.

    `allowed_networks` and `services` are those of `AddressRules`, as text. `hint` tells how to allow another host.
    """

    access: Access
    endpoints: tuple[str, ...] = ()
    allowed_networks: tuple[str, ...] = ()
    services: tuple[str, ...] = ()
    hint: str = RECIPE_HINT

    def as_dict(self) -> dict[str, Any]:
        """The policy as JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Policy:
        """Read the result of `as_dict`."""
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in data.items()
        }
        return cls(**values)

    @property
    def rules(self) -> AddressRules:
        """The rules for addresses, which hold whatever the access."""
        return AddressRules(
            tuple(map(ip_network, self.allowed_networks)), frozenset(map(parse, self.services)), is_local
        )


def policy_of(access: Access, urls: Iterable[str] = (), hosts: Iterable[str] = ()) -> Policy:
    """The policy for a recipe with repositories at `urls`, which may also reach `hosts`, with this site's settings.

    A host is HOST:PORT, or HOST for the ports of http and https. Raises InputError if one of them is invalid.
    """
    if access not in get_args(Access):
        raise InputError(f"the network access {access!r} is unknown", f"Use {', '.join(get_args(Access))}")
    endpoints = {endpoint_of(url) for url in urls} | {name for host in hosts for name in _endpoints_of(host)}
    if len(endpoints) > MAX_ENDPOINTS:
        raise InputError(f"the recipe names {len(endpoints)} hosts", f"At most {MAX_ENDPOINTS} are allowed")
    return replace(service_policy(), access=access, endpoints=tuple(sorted(endpoints)))


def service_policy() -> Policy:
    """The policy for requests of the service itself: everything but the addresses that are refused."""
    own = settings()
    return Policy(
        "open",
        allowed_networks=tuple(map(str, own.networks)),
        services=tuple(sorted({str(address) for url in _service_urls(own) for address in _addresses(url)})),
    )


def endpoint_of(url: str) -> str:
    """The HOST:PORT of an http or https URL. Raises InputError if it is invalid."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port or DEFAULT_PORTS[parts.scheme]
    except (KeyError, ValueError):
        host = None
    if not host:
        raise InputError(f"{url[:255]!r} is not the address of an http or https server")
    return join(host, port)


def join(host: str, port: int) -> str:
    """HOST:PORT in the only spelling that is compared: lower case, without a dot at the end."""
    return f"{in_brackets(host.lower().rstrip('.'))}:{port}"


def _endpoints_of(host: str) -> list[str]:
    if not (match := _HOST.fullmatch(host)):
        raise InputError(f"{host[:255]!r} is not a host", "Use HOST or HOST:PORT")
    if match["port"]:
        return [endpoint_of(f"http://{host}")]
    return [endpoint_of(f"{scheme}://{host}") for scheme in DEFAULT_PORTS]


def _service_urls(own: Settings) -> list[str]:
    """The addresses of the components of the service, on whatever machine they run."""
    urls = [own.airflow_url, own.ui_url, own.endpoint_url, own.records_url]
    if "KUBERNETES_SERVICE_HOST" in os.environ:
        urls.append(f"https://{os.environ['KUBERNETES_SERVICE_HOST']}")
    return urls


def _addresses(url: str) -> set[Address]:
    """The addresses of the host of a URL; empty if it has none now."""
    host = urlsplit(url).hostname
    if not host:
        return set()
    try:
        return {parse(str(entry[4][0])) for entry in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)}
    except (OSError, UnicodeError):
        return set()
