"""The proxy forwards what its policy allows."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator

import pytest

from ims.errors import PermanentError
from ims.network.policy import RECIPE_HINT, Policy
from ims.network.process import run_proxy
from ims.network.proxy import Limits
from ims.network.report import MAX_BYTES, MAX_ENTRIES, Report
from tests.network.serving import WebServer, allowing, proxy, web_server


@pytest.fixture
def server() -> Iterator[WebServer]:
    """A server that the policies of these tests allow."""
    with web_server() as started:
        yield started


def test_request_is_forwarded(server: WebServer) -> None:
    """With the host of its URL, without what concerns only the connection to the proxy."""
    with proxy(allowing("repositories", server.endpoint)) as client:
        answer = client.get(
            f"{server.url}a?b=c", "Proxy-Authorization: secret", "Connection: x-hop", "x-hop: 1", "x: 2"
        )
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.endswith(b"\r\n\r\nhello")
    assert server.requests == ["GET /a?b=c"]
    assert server.headers == [{"host": server.endpoint, "x": "2", "connection": "close"}]
    assert client.report.fetched[server.endpoint].requests == 1
    assert client.report.fetched[server.endpoint].bytes == 5


def test_body_is_forwarded(server: WebServer) -> None:
    """Also if the client waits for 100 Continue."""
    with proxy(allowing("open")) as client:
        request = f"POST {server.url} HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n"
        assert client.send(f"{request}\r\nbody").endswith(b"\r\n\r\nbody")
        assert client.send(f"{request}Expect: 100-continue\r\n\r\nbody").endswith(b"\r\n\r\nbody")


def test_tunnel_is_opened(server: WebServer) -> None:
    """What the client sends with its request goes through the tunnel."""
    with proxy(allowing("repositories", server.endpoint)) as client:
        answer = client.connect(server.endpoint, "GET / HTTP/1.0\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.endswith(b"\r\n\r\nhello")
    assert client.report.fetched[server.endpoint].bytes > len("GET / HTTP/1.0\r\n\r\nhello")


def test_undeclared_host_is_refused(server: WebServer) -> None:
    """The answer and the report name the field that would allow it."""
    with proxy(allowing("repositories", "nexus.example:80")) as client:
        answers = [client.get(server.url), client.connect(server.endpoint)]
    for answer in answers:
        assert answer.startswith(b"HTTP/1.1 403 ")
        assert b"network: open in .ims_recipe.yaml" in answer
    assert list(client.report.refused) == [server.endpoint]
    assert not server.requests


def test_redirect_extends_the_declared_hosts(server: WebServer) -> None:
    """A repository may send its clients to mirrors."""
    with web_server() as mirror, proxy(allowing("repositories", server.endpoint)) as client:
        assert client.get(mirror.url).startswith(b"HTTP/1.1 403 ")
        assert client.get(f"{server.url}to?{mirror.url}").startswith(b"HTTP/1.1 302 ")
        assert client.get(mirror.url).startswith(b"HTTP/1.1 200 ")


def test_server_that_is_down_gives_502() -> None:
    """The answer names it."""
    with web_server() as gone:
        pass
    with proxy(allowing("open")) as client:
        for answer in (client.get(gone.url), client.connect(gone.endpoint)):
            assert answer.startswith(b"HTTP/1.1 502 ")
            assert gone.endpoint.encode() in answer


def test_name_that_does_not_exist_gives_502() -> None:
    """Like any other proxy."""
    with proxy(Policy("open")) as client:
        assert client.get("http://nothing.invalid/").startswith(b"HTTP/1.1 502 ")


def test_idle_connection_is_closed(server: WebServer) -> None:
    """A tunnel in which nothing moves ends."""
    started = time.monotonic()
    with proxy(allowing("open"), Limits(idle_seconds=0.5)) as client:
        assert client.connect(server.endpoint).startswith(b"HTTP/1.1 200 ")
    assert time.monotonic() - started < 10


def use_site_proxy(monkeypatch: pytest.MonkeyPatch, port: int, *direct: str) -> None:
    """Set the variables of the site's proxy, which needs a login."""
    for scheme in ("http", "https"):
        monkeypatch.setenv(f"{scheme}_proxy", f"http://me:secret@127.0.0.1:{port}")
    monkeypatch.setenv("no_proxy", ",".join(direct))


def test_the_site_s_proxy_is_used(server: WebServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """With its login and whole URLs. Hosts in no_proxy are reached directly."""
    with web_server() as near, proxy(allowing("open")) as client:
        use_site_proxy(monkeypatch, server.port, near.endpoint)
        assert client.get("http://mirror.invalid/a").endswith(b"hello")
        assert client.get(near.url).endswith(b"hello")
    assert server.requests == ["GET http://mirror.invalid/a"]
    assert server.headers[0]["proxy-authorization"] == "Basic bWU6c2VjcmV0"
    assert near.requests == ["GET /"]


def test_tunnels_lead_through_the_site_s_proxy(server: WebServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """It connects; what the client sends goes through both."""
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    with run_proxy(allowing("open"), listener) as report, proxy(allowing("open")) as client:
        use_site_proxy(monkeypatch, port)
        assert client.connect(server.endpoint, "GET / HTTP/1.0\r\n\r\n").endswith(b"hello")
    assert list(report.fetched) == [server.endpoint]


def test_addresses_are_checked_before_the_site_s_proxy(server: WebServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may reach what nobody else should."""
    use_site_proxy(monkeypatch, server.port)
    with proxy(Policy("open")) as client:
        assert client.get("http://127.0.0.1:1/").startswith(b"HTTP/1.1 403 ")
        assert client.connect("localhost:443").startswith(b"HTTP/1.1 403 ")
    assert not server.requests


def test_refusal_of_the_site_s_proxy_is_passed_on(server: WebServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """With its status."""
    with web_server() as site, proxy(allowing("open")) as client:
        use_site_proxy(monkeypatch, site.port)
        answer = client.connect(server.endpoint)
    assert answer.startswith(b"HTTP/1.1 502 ")
    assert b"answered 501" in answer


def test_report_is_bounded() -> None:
    """A program can request any number of names."""
    report = Report()
    for number in range(MAX_ENTRIES + 1):
        report.refuse(f"{number}.example:80", "x" * 1000, is_forbidden=False)
        report.traffic(f"{number}.example:80")
        report.contact("script", f"{number}.example:80")
    assert (len(report.refused), len(report.fetched), report.is_complete) == (MAX_ENTRIES, MAX_ENTRIES, False)
    assert len(report.contacted["script"]) == MAX_ENTRIES
    assert Report.from_json(json.dumps(report.as_dict()).encode()) == report


@pytest.mark.parametrize(
    "changes",
    [
        {"fetched": {"a:80": {"requests": "many"}}},
        {"fetched": ["a:80"]},
        {"refused": {"a:80": ["reason"]}},
        {"contacted": {"somebody": ["a:80"]}},
        {"contacted": {"script": "a:80"}},
        {"is_complete": "?"},
        {"refused": {"a:80": "x" * MAX_BYTES}},
    ],
)
def test_report_is_checked(changes: dict[str, object]) -> None:
    """Strangers talk to the process that writes it."""
    with pytest.raises(ValueError, match=r"validation error|too long"):
        Report.from_json(json.dumps({**Report().as_dict(), **changes}).encode())


def test_error_names_refused_hosts() -> None:
    """And the field or the setting that would allow them."""
    report = Report()
    report.refuse("evil.example:443", "undeclared", is_forbidden=False)
    report.refuse("127.0.0.1:8333", "loopback", is_forbidden=True)
    error = PermanentError("config.sh failed", "See the log")
    report.explain(error, RECIPE_HINT)
    assert str(error) == (
        "config.sh failed; connections refused: evil.example:443; connections refused: 127.0.0.1:8333. "
        "An administrator can allow its network with IMS_ALLOWED_NETWORKS. Set network: open in .ims_recipe.yaml, "
        "or name the host in its field network_hosts. See the log"
    )
