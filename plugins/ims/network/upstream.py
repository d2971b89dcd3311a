"""The proxy of the site, which the environment names: http_proxy, https_proxy and no_proxy."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

from ims.errors import ConfigurationError

DEFAULT_PORT = 3128


@dataclass(frozen=True)
class SiteProxy:
    """The address of the site's proxy, and the value of Proxy-Authorization if it needs a login."""

    host: str
    port: int
    authorization: bytes | None


def site_proxy(scheme: str, host: str, port: int) -> SiteProxy | None:
    """The proxy for requests to a host; None if the site has none for it.

    Raises ConfigurationError if the variable is not the address of an http proxy.
    """
    proxies = getproxies()
    url = proxies.get(scheme) or proxies.get("all")
    if not url or proxy_bypass(f"{host}:{port}"):
        return None
    parts = urlsplit(url if "://" in url else f"http://{url}")
    if parts.scheme != "http" or not parts.hostname:
        raise ConfigurationError(
            f"the {scheme} proxy of the site must be an address such as http://proxy.example:3128",
            "Change the variables http_proxy and https_proxy of the service",
        )
    login = f"{unquote(parts.username)}:{unquote(parts.password or '')}" if parts.username else ""
    authorization = b"Basic " + base64.b64encode(login.encode()) if login else None
    return SiteProxy(parts.hostname, parts.port or DEFAULT_PORT, authorization)
