"""Hostile programs and recipes try to reach what they must not, by the proxy or by the service's own requests."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from ims.errors import ImsError, InputError
from ims.network.addresses import RefusedError
from ims.network.policy import Policy
from ims.network.proxy import Limits
from ims.network.report import MAX_ENTRIES
from ims.recipes.availability import ask_all, missing
from ims.recipes.description import Repository
from ims.recipes.metadata import index_digests
from ims.sandbox.nat import provide_nat
from ims.sandbox.network import enter, in_thread
from tests.network.serving import Client, WebServer, allowing, proxy, web_server

NO_CA = Path("/nonexistent/ca.pem")
LOOPBACK_SPELLINGS = (
    *("127.0.0.1", "localhost", "LOCALHOST.", "127.1", "127.0.1", "2130706433", "0x7f000001", "0x7f.1", "0177.0.0.1"),
    *("017700000001", "127.255.255.254", "0", "0.0.0", "[::1]", "[0:0:0:0:0:0:0:1]", "[::]", "[::127.0.0.1]"),
    *("[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::ffff:0:127.0.0.1]", "[64:ff9b::127.0.0.1]", "[2002:7f00:1::1]"),
)
METADATA = (
    *("169.254.169.254", "2852039166", "0xa9fea9fe", "[::ffff:169.254.169.254]", "[fd00:ec2::254]", "100.100.100.200"),
    *("[fe80::a9fe:a9fe%25lo]", "[fe80::a9fe:a9fe%lo]"),
)


@pytest.fixture
def victim() -> Iterator[WebServer]:
    """A service of this machine that nobody may reach."""
    with web_server() as started:
        yield started
    assert not started.requests


@pytest.fixture
def open_proxy() -> Iterator[Client]:
    """The proxy of a program that may reach everything but refused addresses."""
    with proxy(Policy("open")) as client:
        yield client


def is_refused(answer: bytes) -> bool:
    """Whether a proxy does not forward a request: forbidden, malformed, or a name without an address."""
    return answer.startswith((b"HTTP/1.1 403 ", b"HTTP/1.1 400 ", b"HTTP/1.1 502 ")) and b"hello" not in answer


@pytest.mark.parametrize("host", LOOPBACK_SPELLINGS)
def test_loopback(open_proxy: Client, victim: WebServer, host: str) -> None:
    """In every spelling, by http and through a tunnel."""
    assert is_refused(open_proxy.get(f"http://{host}:{victim.port}/"))
    assert is_refused(open_proxy.connect(f"{host}:{victim.port}", "GET / HTTP/1.0\r\n\r\n"))


@pytest.mark.parametrize("host", METADATA)
def test_metadata_services(open_proxy: Client, host: str) -> None:
    """They give credentials of the machine to everybody who asks."""
    assert is_refused(open_proxy.get(f"http://{host}/latest/meta-data/"))
    assert is_refused(open_proxy.connect(f"{host}:80"))


def test_other_addresses_of_the_machine(open_proxy: Client) -> None:
    """Services that listen on all addresses are not reached by the one of the network card."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.254", 9))
        own = probe.getsockname()[0]
    with socket.create_server((own, 0)) as listener:
        answer = open_proxy.connect(f"{own}:{listener.getsockname()[1]}")
        assert answer.startswith(b"HTTP/1.1 403 ")
        assert b" is an address of this machine" in answer


def test_ports_of_s3(victim: WebServer) -> None:
    """S3 is refused on all its ports, declared as a repository or not."""
    policy = Policy("repositories", ("192.0.2.7:8333",), ("127.0.0.0/8",), ("192.0.2.7",))
    with proxy(policy) as client:
        for port in (8333, 18333, 9300):
            assert client.connect(f"192.0.2.7:{port}").startswith(b"HTTP/1.1 403 ")
    assert list(client.report.forbidden) == ["192.0.2.7:8333"]


def test_declared_repository_on_loopback(victim: WebServer) -> None:
    """To declare it does not help: only the setting of the site allows it."""
    with proxy(Policy("repositories", (victim.endpoint,))) as client:
        assert client.get(victim.url).startswith(b"HTTP/1.1 403 ")
        assert client.connect(victim.endpoint).startswith(b"HTTP/1.1 403 ")


def test_redirect_to_loopback(victim: WebServer) -> None:
    """A declared repository sends the client to a refused address: the redirect is seen, the next request refused."""
    with (
        web_server("127.0.0.5") as repository,
        proxy(Policy("repositories", (repository.endpoint,), ("127.0.0.5/32",))) as client,
    ):
        assert client.get(f"{repository.url}to?{victim.url}").startswith(b"HTTP/1.1 302 ")
        assert client.get(victim.url).startswith(b"HTTP/1.1 403 ")


def rebind(monkeypatch: pytest.MonkeyPatch, *answers: str) -> list[str]:
    """Have a hostile name server answer differently each time; returns its answers."""
    given: list[str] = []
    real = socket.getaddrinfo

    def getaddrinfo(host: Any, port: Any, *arguments: Any, **options: Any) -> Any:
        if host in ("rebinding.example", b"rebinding.example"):
            given.append(answers[min(len(given), len(answers) - 1)])
            host = given[-1]
        return real(host, port, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return given


def test_rebinding(victim: WebServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The name has an allowed address when it is checked, and a refused one afterwards."""
    with web_server("127.0.0.5") as allowed:
        given = rebind(monkeypatch, "127.0.0.5", "127.0.0.1")
        with proxy(Policy("open", (), ("127.0.0.5/32",))) as client:
            assert client.get(f"http://rebinding.example:{allowed.port}/").endswith(b"hello")
            assert given == ["127.0.0.5"]
            assert client.get(f"http://rebinding.example:{victim.port}/").startswith(b"HTTP/1.1 403 ")
        assert len(allowed.requests) == 1


SMUGGLED = "GET {victim} HTTP/1.1\r\nHost: v\r\n\r\n"
REQUESTS = {
    "pipelining": "GET {url} HTTP/1.1\r\nHost: x\r\n\r\n" + SMUGGLED,
    "two lengths": "POST {url} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nContent-Length: 9\r\n\r\n" + SMUGGLED,
    "length and chunks": "POST {url} HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n"
    "0\r\n\r\n" + SMUGGLED,
    "unknown coding": "POST {url} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: x, chunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "space before colon": "POST {url} HTTP/1.1\r\nHost: x\r\nContent-Length : 4\r\n\r\n" + SMUGGLED,
    "folded header": "GET {url} HTTP/1.1\r\nHost: x\r\nX: a\r\n " + SMUGGLED,
    "upgrade": "GET {url} HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n" + SMUGGLED,
    "dropped length": "POST {url} HTTP/1.1\r\nHost: x\r\nConnection: content-length\r\nContent-Length: 4\r\n\r\nbody"
    + SMUGGLED,
}


@pytest.mark.parametrize("request_text", REQUESTS.values(), ids=REQUESTS)
def test_smuggled_request(victim: WebServer, request_text: str) -> None:
    """The server sees at most the one request that was checked, and the proxy forwards nothing to the victim."""
    with web_server() as server, proxy(allowing("repositories", server.endpoint)) as client:
        client.send(request_text.format(url=server.url, victim=victim.url))
    assert len(server.requests) <= 1
    assert not any(victim.url in request for request in server.requests)


TARGETS = {
    "login that looks like a host": "GET http://{allowed}@{victim}/ HTTP/1.1",
    "host in the header": "GET / HTTP/1.1",
    "other scheme": "GET ftp://{victim}/ HTTP/1.1",
    "file": "GET file:///etc/passwd HTTP/1.1",
    "backslash": "GET http://{victim}\\@{allowed}/ HTTP/1.1",
    "fragment": "GET http://{victim}#@{allowed}/ HTTP/1.1",
    "tunnel with a path": "CONNECT {victim}/{allowed} HTTP/1.1",
    "tunnel with a login": "CONNECT {allowed}@{victim} HTTP/1.1",
    "tunnel without a port": "CONNECT 127.0.0.1 HTTP/1.1",
    "tunnel to port 0": "CONNECT 127.0.0.1:0 HTTP/1.1",
    "port out of range": "CONNECT 127.0.0.1:99999 HTTP/1.1",
    "null byte": "GET http://{victim}%00.{allowed}/ HTTP/1.1",
    "no host": "GET http:/// HTTP/1.1",
    "long host": f"CONNECT {'a' * 300}:80 HTTP/1.1",
}


@pytest.mark.parametrize("line", TARGETS.values(), ids=TARGETS)
def test_ambiguous_target(victim: WebServer, line: str) -> None:
    """The host that is checked is the host that is reached."""
    with web_server() as server, proxy(allowing("repositories", server.endpoint)) as client:
        text = line.format(allowed=server.endpoint, victim=victim.endpoint)
        assert is_refused(client.send(f"{text}\r\nHost: {victim.endpoint}\r\n\r\n"))
    assert not server.requests


def test_other_virtual_host(victim: WebServer) -> None:
    """The header Host follows the URL, so a server is not asked for what it serves under other names."""
    with web_server() as server, proxy(allowing("repositories", server.endpoint)) as client:
        client.get(server.url, "X-Forwarded-Host: internal.example")
    assert server.headers[0]["host"] == server.endpoint


@pytest.mark.parametrize("bomb", ["X: " + "a" * (1 << 20), "\r\n".join(f"X-{n}: a" for n in range(100_000))])
def test_header_bomb(bomb: str) -> None:
    """The proxy reads no more than a head may have, and serves the next request."""
    with web_server() as server, proxy(allowing("open")) as client:
        try:
            answer = client.send(f"GET {server.url} HTTP/1.1\r\nHost: x\r\n{bomb}\r\n\r\n")
        except (BrokenPipeError, ConnectionResetError):
            answer = b""
        assert b"hello" not in answer
        assert not server.requests
        assert client.get(server.url).endswith(b"hello")


def test_response_bomb() -> None:
    """A hostile server sends a head without an end."""
    with socket.create_server(("127.0.0.1", 0)) as listener, proxy(allowing("open")) as client:

        def answer() -> None:
            connection, _ = listener.accept()
            with connection, suppress(OSError):
                connection.sendall(b"HTTP/1.1 200 OK\r\nX: " + b"a" * (1 << 22))

        thread = threading.Thread(target=answer)
        thread.start()
        assert client.get(f"http://127.0.0.1:{listener.getsockname()[1]}/").startswith(b"HTTP/1.1 502 ")
        thread.join()


def test_slow_client() -> None:
    """A head that drips, byte by byte, is cut off in time; others are served meanwhile."""
    with web_server() as server, proxy(allowing("open"), Limits(head_seconds=1)) as client:
        started = time.monotonic()
        with socket.create_connection(("127.0.0.1", client.port)) as slow:
            slow.setblocking(False)
            while not is_closed(slow) and time.monotonic() - started < 20:
                with suppress(OSError):
                    slow.send(b"G")
                assert client.get(server.url).endswith(b"hello")
        assert time.monotonic() - started < 10


def is_closed(connection: socket.socket) -> bool:
    """Whether the peer has answered or closed the connection."""
    try:
        connection.recv(4096)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def test_many_connections() -> None:
    """More than the limit are closed at once; the proxy serves again when the others end."""
    with web_server() as server, proxy(allowing("open"), Limits(connections=5)) as client:
        with ExitStack() as stack:
            for _ in range(5):
                stack.enter_context(socket.create_connection(("127.0.0.1", client.port)))
            time.sleep(0.2)
            assert client.get(server.url) == b""
        deadline = time.monotonic() + 10
        while not client.get(server.url).endswith(b"hello"):
            assert time.monotonic() < deadline


def test_connection_that_lasts_for_ever() -> None:
    """A total time bounds it, even if something moves all the time."""
    with web_server() as server, proxy(allowing("open"), Limits(total_seconds=1)) as client:
        started = time.monotonic()
        with socket.create_connection(("127.0.0.1", client.port)) as connection, suppress(OSError):
            connection.sendall(f"CONNECT {server.endpoint} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            while time.monotonic() - started < 20:
                connection.sendall(b"G")
                time.sleep(0.05)
        assert time.monotonic() - started < 10


def test_flood_of_names() -> None:
    """The report stays small."""
    with proxy(Policy("repositories")) as client:
        for number in range(MAX_ENTRIES + 50):
            client.get(f"http://{number}.{'a' * 200}.example/")
    assert len(client.report.refused) == MAX_ENTRIES
    assert not client.report.is_complete


@pytest.fixture
def strict(configure: Callable[..., None]) -> None:
    """The default of the setting: nothing on this machine may be reached."""
    configure(allowed_networks="")


def availability_of(url: str) -> str:
    """What the wait for a repository says about it."""
    return missing(asyncio.run(ask_all([Repository(url, url)], NO_CA)))


@pytest.mark.usefixtures("strict")
@pytest.mark.parametrize("host", [*LOOPBACK_SPELLINGS, *METADATA])
def test_repository_or_mirrorlist_at_a_refused_address(victim: WebServer, host: str) -> None:
    """The service does not ask on behalf of a recipe what the recipe may not ask."""
    repository = Repository("mirrorlist", f"http://{host}:{victim.port}/mirrorlist")
    (answer,) = asyncio.run(ask_all([repository], NO_CA))
    assert not answer.ready
    with pytest.raises(ImsError, match=r"is refused|does not answer"):
        index_digests([repository], NO_CA)


def test_repository_that_redirects_to_a_refused_address() -> None:
    """The redirect is not followed, and waiting does not help."""
    with web_server() as repository:
        url = f"{repository.url}to?http://169.254.169.254/latest/"
        with pytest.raises(InputError, match=r"169\.254\.169\.254 is a link-local address.*IMS_ALLOWED_NETWORKS"):
            availability_of(url)
        with pytest.raises(RefusedError, match="is a link-local address"):
            index_digests([Repository(url, url)], NO_CA)


def test_rebinding_of_a_repository(
    victim: WebServer, monkeypatch: pytest.MonkeyPatch, configure: Callable[..., None]
) -> None:
    """The connection is to the address that was checked."""
    configure(allowed_networks="127.0.0.5/32")
    with web_server("127.0.0.5") as allowed:
        given = rebind(monkeypatch, "127.0.0.5", "127.0.0.1")
        assert availability_of(f"http://rebinding.example:{allowed.port}/") == ""
        assert given == ["127.0.0.5"]
        with pytest.raises(InputError, match="is a loopback address"):
            availability_of(f"http://rebinding.example:{victim.port}/")


BYPASS = """\
import socket, sys
host, port = sys.argv[1], int(sys.argv[2])
def attempt(prepare, kind=socket.SOCK_STREAM):
    with socket.socket(socket.AF_INET, kind) as s:
        s.settimeout(2)
        try:
            prepare(s)
            s.connect((host, port))
            s.send(b"GET /bypass HTTP/1.0\\r\\n\\r\\n")
            print("sent")
        except OSError as error:
            print(error)
attempt(lambda s: None)
attempt(lambda s: s.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"net0"))
attempt(lambda s: s.setsockopt(socket.SOL_SOCKET, socket.SO_DONTROUTE, 1))
attempt(lambda s: s.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, 1))
attempt(lambda s: s.setsockopt(socket.IPPROTO_IP, 19, 1))  # IP_TRANSPARENT
attempt(lambda s: None, socket.SOCK_DGRAM)
for family, kind in ((socket.AF_PACKET, socket.SOCK_RAW), (socket.AF_INET, socket.SOCK_RAW)):
    try:
        socket.socket(family, kind, 255)
        print("sent")
    except OSError as error:
        print(error)
"""
COMMANDS = ("nft flush ruleset", "ip route add 192.0.2.0/24 dev net0", "ip link set net0 down", "ip address flush net0")


def run_as_root_of_a_box(namespace: int, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a program as root of a user namespace of its own in a network namespace, like the box does."""

    def run() -> subprocess.CompletedProcess[str]:
        enter(namespace)
        line = ["unshare", "--user", "--map-root-user", "--", *command]
        return subprocess.run(line, capture_output=True, text=True, check=False, timeout=60)

    return in_thread(run)


@pytest.mark.system
def test_bypasses_of_the_nat() -> None:
    """Options of sockets and raw packets do not lead to an address of the machine."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.254", 9))
        own = probe.getsockname()[0]
    with web_server(own) as machine, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
        datagrams.bind((own, machine.port))
        datagrams.settimeout(0.5)
        with provide_nat(Policy("open")) as network:
            done = run_as_root_of_a_box(network.namespace, "python3", "-c", BYPASS, own, str(machine.port))
        assert len(done.stdout.splitlines()) == 8, done
        assert "sent" not in done.stdout
        assert not machine.requests
        with pytest.raises(TimeoutError):
            datagrams.recv(100)


@pytest.mark.system
@pytest.mark.parametrize("command", COMMANDS)
def test_filter_cannot_be_removed(command: str) -> None:
    """The network belongs to another user namespace than root of the box."""
    with provide_nat(Policy("open")) as network:
        done = run_as_root_of_a_box(network.namespace, *command.split())
    assert done.returncode != 0
    assert "not permitted" in done.stderr
