"""The policies that follow from the settings of this site."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable
from dataclasses import replace
from typing import get_args
from urllib.parse import urlsplit

from ims.errors import InputError
from ims.network.addresses import Address, parse
from ims.network.policy import MAX_ENDPOINTS, Access, Policy, endpoint_of, endpoints_of
from ims.settings import Settings, settings


def policy_of(access: Access, urls: Iterable[str] = (), hosts: Iterable[str] = ()) -> Policy:
    """The policy for a recipe with repositories at `urls`, which may also reach `hosts`, with this site's settings.

    A host is HOST:PORT, or HOST for the ports of http and https. Raises InputError if one of them is invalid.
    """
    if access not in get_args(Access):
        raise InputError(f"the network access {access!r} is unknown", f"Use {', '.join(get_args(Access))}")
    endpoints = {endpoint_of(url) for url in urls} | {name for host in hosts for name in endpoints_of(host)}
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


def _service_urls(own: Settings) -> list[str]:
    """The addresses of the components of the service, on whatever machine they run."""
    urls = [own.airflow_url, own.ui_url, own.endpoint_url, own.records_url]
    if own.gateway:
        urls.append(f"http://{own.gateway}")
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
