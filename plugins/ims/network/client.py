"""The HTTP client with which the service itself requests addresses that come from a recipe."""

from __future__ import annotations

import ssl

import httpx

from ims.network.addresses import AddressRules, in_brackets
from ims.network.policy import DEFAULT_PORTS
from ims.network.resolution import Endpoint, resolve
from ims.network.site import service_policy
from ims.network.upstream import SiteProxy, site_proxy

MAX_REDIRECTS = 10


def checked_client(tls: ssl.SSLContext, timeout: float) -> httpx.AsyncClient:
    """A client that checks the address of each request and of each redirect, by the rules of this site.

    Requests raise RefusedError if the address must not be reached.
    """
    transport = CheckedTransport(tls, service_policy().rules)
    return httpx.AsyncClient(transport=transport, timeout=timeout, max_redirects=MAX_REDIRECTS)


class CheckedTransport(httpx.AsyncBaseTransport):
    """Resolves the host of each request, and connects to exactly the address that was checked.

    The name of the host still decides about the certificate. Connections serve one request: a connection that is kept
    would be found by its address, although its certificate was checked for another name.
    """

    def __init__(self, tls: ssl.SSLContext, rules: AddressRules) -> None:
        self._tls = tls
        self._rules = rules
        self._limits = httpx.Limits(max_keepalive_connections=0)
        self._direct = httpx.AsyncHTTPTransport(verify=tls, limits=self._limits)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request. Raises RefusedError, and the errors of httpx."""
        host, scheme = request.url.host, request.url.scheme
        if scheme not in DEFAULT_PORTS or not host:
            raise httpx.UnsupportedProtocol("the address is neither http nor https", request=request)
        port = request.url.port or DEFAULT_PORTS[scheme]
        proxy = site_proxy(scheme, host, port)
        try:
            endpoints = await resolve(host, port, self._rules)
        except OSError as error:
            if proxy is None:
                raise httpx.ConnectError(f"{host} has no address: {error}", request=request) from error
        return await (self._send_to_first(request, endpoints) if proxy is None else self._send_by(proxy, request))

    async def aclose(self) -> None:
        """Close the connections."""
        await self._direct.aclose()

    async def _send_to_first(self, request: httpx.Request, endpoints: list[Endpoint]) -> httpx.Response:
        """Send the request to the first address that accepts a connection."""
        error: httpx.TransportError = httpx.ConnectError("there is no address", request=request)
        for endpoint in endpoints:
            try:
                return await self._direct.handle_async_request(_pinned(request, endpoint))
            except (httpx.ConnectError, httpx.ConnectTimeout) as caught:
                error = caught
        raise error

    async def _send_by(self, proxy: SiteProxy, request: httpx.Request) -> httpx.Response:
        headers = {b"Proxy-Authorization": proxy.authorization} if proxy.authorization is not None else {}
        url = f"http://{in_brackets(proxy.host)}:{proxy.port}"
        transport = httpx.AsyncHTTPTransport(
            verify=self._tls, limits=self._limits, proxy=httpx.Proxy(url, headers=headers)
        )
        return await transport.handle_async_request(request)


def _pinned(request: httpx.Request, endpoint: Endpoint) -> httpx.Request:
    """The request with the address in place of the name, which stays in the header Host and in the TLS handshake."""
    return httpx.Request(
        request.method,
        request.url.copy_with(host=endpoint.host),
        headers=request.headers,
        stream=request.stream,
        extensions={**request.extensions, "sni_hostname": request.url.host},
    )
