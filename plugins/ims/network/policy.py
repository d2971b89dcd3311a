"""What a program may reach: the input of the proxy."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from ipaddress import ip_network
from typing import Any, Literal
from urllib.parse import urlsplit

from ims.errors import InputError
from ims.network.addresses import AddressRules, in_brackets, parse
from ims.network.routes import is_local

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


def endpoints_of(host: str) -> list[str]:
    """The HOST:PORT that a HOST with or without a port stands for. Raises InputError if it is invalid."""
    if not (match := _HOST.fullmatch(host)):
        raise InputError(f"{host[:255]!r} is not a host", "Use HOST or HOST:PORT")
    if match["port"]:
        return [endpoint_of(f"http://{host}")]
    return [endpoint_of(f"{scheme}://{host}") for scheme in DEFAULT_PORTS]
