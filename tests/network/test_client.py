"""The HTTP client for addresses that come from a recipe."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from ims.network.addresses import RefusedError
from ims.network.client import checked_client
from tests.flows.rpm_repository import PrivateCA, RepositoryServer
from tests.network.serving import WebServer, web_server


@pytest.fixture
def server() -> Iterator[WebServer]:
    """A server on this machine."""
    with web_server() as started:
        yield started


def get(url: str, tls: ssl.SSLContext | None = None) -> httpx.Response:
    """Request a URL and follow redirects."""

    async def request() -> httpx.Response:
        async with checked_client(tls or ssl.create_default_context(), 10) as client:
            return await client.get(url, follow_redirects=True)

    return asyncio.run(request())


@pytest.fixture
def no_networks(configure: Callable[..., None]) -> None:
    """The default of the setting: nothing on this machine may be reached."""
    configure(allowed_networks="")


def resolve_to(monkeypatch: pytest.MonkeyPatch, **names: list[str]) -> list[str]:
    """Give names addresses; returns the names that are resolved."""
    asked, real = [], socket.getaddrinfo

    def getaddrinfo(host: Any, port: Any, *arguments: Any, **options: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else host
        asked.append(name)
        found = names.get(name.replace(".", "_"), [name])
        return [entry for address in found for entry in real(address, port, *arguments, **options)]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return asked


def test_allowed_address_is_requested(server: WebServer) -> None:
    """With the name of the host, also after a redirect."""
    assert get(f"{server.url}to?/next").text == "hello"
    assert server.requests == ["GET /to?/next", "GET /next"]
    assert server.headers[1]["host"] == server.endpoint


def test_name_is_resolved_once(server: WebServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The address that was checked is the address of the connection."""
    asked = resolve_to(monkeypatch, mirror_example=["127.0.0.1"])
    assert get(f"http://mirror.example:{server.port}/").text == "hello"
    assert asked.count("mirror.example") == 1
    assert server.headers[0]["host"] == f"mirror.example:{server.port}"


def test_next_address_is_tried(server: WebServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mirror often has several."""
    resolve_to(monkeypatch, mirror_example=["127.0.0.99", "127.0.0.1"])
    assert get(f"http://mirror.example:{server.port}/").text == "hello"


def test_certificate_is_checked_for_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Although the connection is to an address."""
    ca = PrivateCA(tmp_path / "ca")
    tls = ssl.create_default_context(cafile=ca.certificate)
    resolve_to(monkeypatch, mirror_example=["127.0.0.1"], other_example=["127.0.0.1"])
    (tmp_path / "served").mkdir()
    with RepositoryServer(tmp_path / "served", ca.issue("mirror.example")) as server:
        port = server.url.rpartition(":")[2]
        assert get(f"https://mirror.example:{port}/", tls).status_code == 200
        with pytest.raises(httpx.ConnectError, match=r"other\.example"):
            get(f"https://other.example:{port}/", tls)


@pytest.mark.usefixtures("no_networks")
def test_refused_address_is_not_requested(server: WebServer) -> None:
    """The error names it."""
    with pytest.raises(RefusedError, match=r"^127\.0\.0\.1:\d+ is refused: 127.0.0.1 is a loopback address\. "):
        get(server.url)
    assert not server.requests


def test_redirect_to_a_refused_address_is_not_followed(server: WebServer) -> None:
    """Although the server that answers it may be reached."""
    with pytest.raises(RefusedError, match=r"169\.254\.169\.254 is a link-local address"):
        get(f"{server.url}to?http://169.254.169.254/latest/")
    assert len(server.requests) == 1


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://mirror.example/", "http:///x"])
def test_only_http_is_requested(url: str) -> None:
    """Whatever a recipe or a redirect says."""
    with pytest.raises(httpx.UnsupportedProtocol):
        get(url)


def test_the_site_s_proxy_is_used(server: WebServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """With its login. Names that this machine cannot resolve are left to it; refused addresses are not."""
    monkeypatch.setenv("http_proxy", f"http://me:secret@127.0.0.1:{server.port}")
    monkeypatch.delenv("no_proxy", raising=False)
    assert get("http://mirror.invalid/a").text == "hello"
    assert server.requests == ["GET http://mirror.invalid/a"]
    assert server.headers[0]["proxy-authorization"] == "Basic bWU6c2VjcmV0"
    with pytest.raises(RefusedError):
        get("http://169.254.169.254/")
