"""Logging in, and where the token goes."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from ssl import SSLContext

import pytest

from ims.cli.login import expiry, service_url
from ims.errors import ConfigurationError
from tests.api.conftest import mint
from tests.cli.conftest import Cli
from tests.flows.rpm_repository import PrivateCA
from tests.service import Service


@dataclass
class Stranger:
    """A web server that is not the service; it remembers what it is told."""

    url: str = ""
    tokens: list[str | None] = field(default_factory=list)


@contextmanager
def stranger(status: int, body: bytes, location: str = "", tls: SSLContext | None = None) -> Iterator[Stranger]:
    """Serve the same answer to everything."""
    found = Stranger()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found.tokens.append(self.headers["Authorization"])
            self.send_response(status)
            if location:
                self.send_header("Location", location)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        found.url = f"http{'s' if tls else ''}://127.0.0.1:{server.server_address[1]}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield found
        server.shutdown()


@pytest.fixture
def home(offline: Cli, tmp_path: Path) -> Cli:
    """The program with a configuration folder of its own."""
    return offline.but(XDG_CONFIG_HOME=str(tmp_path))


def log_in(home: Cli, service: Service) -> str:
    """Log in as the administrator; returns the address that was given."""
    url = f"{service.settings.airflow_url}/apis/ims"
    password = service.credentials.admin_password
    home.ok("auth", "login", "--url", url, "--username", service.settings.admin_user, IMS_PASSWORD=password)
    return url


def test_log_in_and_out(home: Cli, service: Service, tmp_path: Path) -> None:
    """Log in once, work without any variable, log out."""
    log_in(home, service)
    kept = tmp_path / "ims" / "token"
    assert [path.name for path in kept.parent.iterdir()] == ["token"]
    assert (kept.stat().st_mode & 0o777, kept.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    assert service.credentials.admin_password not in kept.read_text()
    assert home.ok("images", "list").startswith("ID")
    home.ok("auth", "logout")
    assert not kept.exists()
    assert home.refused("images", "list", code=77) == "nobody is logged in. Log in: ims auth login"
    home.ok("auth", "logout")


def test_password_from_standard_input(home: Cli, service: Service) -> None:
    """For scripts; and again without naming the service and the user."""
    log_in(home, service)
    done = home.run("auth", "login", stdin=f"{service.credentials.admin_password}\n")
    assert done.returncode == 0, done.stderr
    assert "password" not in done.stderr.lower()


def test_wrong_password(home: Cli, service: Service, tmp_path: Path) -> None:
    """It is refused and nothing is kept."""
    url = service.settings.airflow_url
    said = home.refused("auth", "login", "--url", url, "--username", "admin", code=77, IMS_PASSWORD="wrong")
    assert "wrong" not in said
    assert "ims auth login" in said
    assert not (tmp_path / "ims").exists()


def test_login_that_ended(home: Cli, service: Service, tmp_path: Path) -> None:
    """It says when, and how to go on, without asking the service."""
    log_in(home, service)
    kept = tmp_path / "ims" / "token"
    login = json.loads(kept.read_text())
    kept.write_text(json.dumps({**login, "token": mint(service, expires=-60)}))
    said = home.refused("images", "list", code=77)
    assert re.search(r"ended at 20\d\d-\d\d-\d\d \d\d:\d\d\. Log in again: ims auth login$", said)


def test_token_that_is_not_taken(home: Cli, service: Service, tmp_path: Path) -> None:
    """The service's own words, and what to do about it."""
    log_in(home, service)
    kept = tmp_path / "ims" / "token"
    kept.write_text(json.dumps({**json.loads(kept.read_text()), "token": mint(service, secret="x" * 64)}))
    assert home.refused("images", "list", code=77).endswith("Log in: ims auth login")


def test_environment_goes_first(home: Cli, service: Service) -> None:
    """A bad token in IMS_TOKEN is used although a good one is kept, and the error says so."""
    url = log_in(home, service)
    said = home.but(IMS_URL=url, IMS_TOKEN="bad").refused("images", "list", code=77)
    assert "IMS_TOKEN" in said
    assert "IMS_URL is not" in home.but(IMS_TOKEN="bad").refused("images", "list")


def test_file_that_is_no_login(home: Cli, tmp_path: Path) -> None:
    """A damaged file is named."""
    (tmp_path / "ims").mkdir()
    (tmp_path / "ims" / "token").write_text("{")
    assert str(tmp_path / "ims" / "token") in home.refused("images", "list")


def test_token_stays_with_its_service(home: Cli, service: Service) -> None:
    """Another address does not get the kept token."""
    log_in(home, service)
    with stranger(200, b"[]") as other:
        said = home.but(IMS_URL=other.url).refused("images", "list", code=77)
    assert other.url in said
    assert other.tokens == []


def test_redirect_is_not_followed(cli: Cli) -> None:
    """A service that sends elsewhere does not send the token there."""
    with stranger(200, b"[]") as other, stranger(307, b"", f"{other.url}/apis/ims/v3/images") as first:
        said = cli.but(IMS_URL=first.url).refused("images", "list")
    assert other.url in said
    assert (len(first.tokens), other.tokens) == (1, [])


@pytest.mark.parametrize("body", [b"<html>hello</html>", b"\xff"])
def test_something_else_answers(cli: Cli, body: bytes) -> None:
    """A web page is not IMS."""
    with stranger(200, body) as other:
        assert "does not speak IMS" in cli.but(IMS_URL=other.url).refused("images", "list")


def test_nothing_answers(cli: Cli) -> None:
    """One line, with the code of a service that is not there."""
    said = cli.but(IMS_URL="http://127.0.0.1:1").refused("images", "list", code=69)
    assert "http://127.0.0.1:1" in said


def test_tls_is_verified(cli: Cli, site_ca: PrivateCA) -> None:
    """A certificate of the site's CA is trusted when the CA is named, and only then."""
    with stranger(200, b"[]", tls=site_ca.issue("127.0.0.1").context()) as other:
        there = cli.but(IMS_URL=other.url)
        said = there.refused("images", "list", code=69)
        assert "CERTIFICATE_VERIFY_FAILED" in said
        assert "IMS_CA_CERTIFICATE" in said
        assert other.tokens == []
        assert there.but(IMS_CA_CERTIFICATE=str(site_ca.certificate)).json("images", "list") == []
        assert there.but(SSL_CERT_FILE=str(site_ca.certificate)).json("images", "list") == []
    assert "IMS_CA_CERTIFICATE" in cli.but(IMS_CA_CERTIFICATE="/not/there").refused("images", "list")


def test_viewer(cli: Cli, service: Service) -> None:
    """Who may only look is told so."""
    said = cli.but(IMS_TOKEN=mint(service, "viewer")).refused("images", "create", "--name", "x")
    assert said.startswith("Forbidden: ")
    assert said.endswith("Your role does not allow it")


@pytest.mark.parametrize(
    ("given", "root"),
    [
        ("http://host:8080", "http://host:8080"),
        ("http://host:8080/", "http://host:8080"),
        ("https://Host/apis/ims", "https://host"),
        ("https://host/apis/ims/v3/", "https://host"),
        ("https://host/airflow/apis/ims", "https://host/airflow"),
    ],
)
def test_service_url(given: str, root: str) -> None:
    """With or without the path of the API."""
    assert service_url(given) == root


@pytest.mark.parametrize(
    "text",
    ["", "host", "host:8080", "ftp://host", "http://", "https://user:secret@host", "http://[::1", "http://host:port"],
)
def test_no_service_url(text: str) -> None:
    """Anything else is refused."""
    with pytest.raises(ConfigurationError):
        service_url(text)


@pytest.mark.parametrize("token", ["", "x", "a.b.c", "a.e30.c", "a.bnVsbA.c"])
def test_token_without_an_end(token: str) -> None:
    """A token that is not as Airflow's is left to the service to judge."""
    assert expiry(token) is None
