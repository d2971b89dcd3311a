"""Logging in, and which services receive the token."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from ims.cli.login import expiry, service_url
from ims.errors import ConfigurationError
from tests.api.conftest import mint
from tests.cli.conftest import Cli
from tests.cli.web_server import constant, serve
from tests.flows.rpm_repository import PrivateCA
from tests.service import Service


@pytest.fixture
def with_token(offline: Cli) -> Cli:
    """The program with a token in its environment but without the address of a service."""
    return offline.with_variables(IMS_TOKEN="a-token")


@pytest.fixture
def home(offline: Cli, tmp_path: Path) -> Cli:
    """The program with its own configuration folder."""
    return offline.with_variables(XDG_CONFIG_HOME=str(tmp_path))


def log_in(home: Cli, service: Service) -> str:
    """Log in as the administrator; returns the address of the service."""
    url = f"{service.settings.airflow_url}/apis/ims"
    password = service.credentials.admin_password
    home.ok("auth", "login", "--url", url, "--username", service.settings.admin_user, IMS_PASSWORD=password)
    return url


def test_log_in_and_out(home: Cli, service: Service, tmp_path: Path) -> None:
    """After a login, commands need no variables until the logout."""
    log_in(home, service)
    kept = tmp_path / "ims" / "token"
    assert [path.name for path in kept.parent.iterdir()] == ["token"]
    assert (kept.stat().st_mode & 0o777, kept.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    assert service.credentials.admin_password not in kept.read_text()
    assert home.ok("images", "list").startswith("ID")
    home.ok("auth", "logout")
    assert not kept.exists()
    assert home.refused("images", "list", code=77) == "you are not logged in. Log in: ims auth login"
    home.ok("auth", "logout")


def test_password_from_standard_input(home: Cli, service: Service) -> None:
    """A second login uses the service and the user of the first one."""
    log_in(home, service)
    done = home.run("auth", "login", stdin=f"{service.credentials.admin_password}\n")
    assert done.returncode == 0, done.stderr
    assert "password" not in done.stderr.lower()


def test_wrong_password(home: Cli, service: Service, tmp_path: Path) -> None:
    """A wrong password is refused, and no login is stored."""
    url = service.settings.airflow_url
    error = home.refused("auth", "login", "--url", url, "--username", "admin", code=77, IMS_PASSWORD="wrong")
    assert "wrong" not in error
    assert "ims auth login" in error
    assert not (tmp_path / "ims").exists()


def test_expired_login(home: Cli, service: Service, tmp_path: Path) -> None:
    """The error says when the login expired and what to do, without a request to the service."""
    log_in(home, service)
    kept = tmp_path / "ims" / "token"
    login = json.loads(kept.read_text())
    kept.write_text(json.dumps({**login, "token": mint(service, expires=-60)}))
    error = home.refused("images", "list", code=77)
    assert re.search(r"expired at 20\d\d-\d\d-\d\d \d\d:\d\d\. Log in again: ims auth login$", error)


def test_invalid_token(home: Cli, service: Service, tmp_path: Path) -> None:
    """The error has the message of the service and the command that logs in again."""
    log_in(home, service)
    kept = tmp_path / "ims" / "token"
    kept.write_text(json.dumps({**json.loads(kept.read_text()), "token": mint(service, secret="x" * 64)}))
    assert home.refused("images", "list", code=77).endswith("Log in: ims auth login")


def test_environment_overrides_the_login(home: Cli, service: Service) -> None:
    """A bad token in IMS_TOKEN is used even if a good one is stored, and the error names the variable."""
    url = log_in(home, service)
    error = home.with_variables(IMS_URL=url, IMS_TOKEN="bad").refused("images", "list", code=77)
    assert "IMS_TOKEN" in error
    assert "IMS_URL is not" in home.with_variables(IMS_TOKEN="bad").refused("images", "list")


def test_damaged_login(home: Cli, tmp_path: Path) -> None:
    """The error names the file."""
    (tmp_path / "ims").mkdir()
    (tmp_path / "ims" / "token").write_text("{")
    assert str(tmp_path / "ims" / "token") in home.refused("images", "list")


def test_token_is_sent_to_its_service_only(home: Cli, service: Service) -> None:
    """Another address does not receive the stored token."""
    log_in(home, service)
    with serve(constant(200, b"[]")) as other:
        error = home.with_variables(IMS_URL=other.url).refused("images", "list", code=77)
    assert other.url in error
    assert other.tokens == []


def test_redirect_is_not_followed(with_token: Cli) -> None:
    """The target of a redirect does not receive the token."""
    with serve(constant(200, b"[]")) as other, serve(constant(307, b"", location=f"{other.url}/x")) as first:
        error = with_token.with_variables(IMS_URL=first.url).refused("images", "list")
    assert other.url in error
    assert (len(first.tokens), other.tokens) == (1, [])


@pytest.mark.parametrize("body", [b"<html>hello</html>", b"\xff"])
def test_other_web_server(with_token: Cli, body: bytes) -> None:
    """A web page is not an IMS API."""
    with serve(constant(200, body)) as other:
        assert "is not an IMS API" in with_token.with_variables(IMS_URL=other.url).refused("images", "list")


def test_service_that_is_down(with_token: Cli) -> None:
    """The error names the address, and the exit code is that of an unavailable service."""
    error = with_token.with_variables(IMS_URL="http://127.0.0.1:1").refused("images", "list", code=69)
    assert "http://127.0.0.1:1" in error


def test_tls_is_verified(with_token: Cli, site_ca: PrivateCA) -> None:
    """A certificate of the site's CA is trusted only if a variable names the CA."""
    with serve(constant(200, b"[]"), tls=site_ca.issue("127.0.0.1").context()) as other:
        there = with_token.with_variables(IMS_URL=other.url)
        error = there.refused("images", "list", code=69)
        assert "CERTIFICATE_VERIFY_FAILED" in error
        assert "IMS_CA_CERTIFICATE" in error
        assert other.tokens == []
        assert there.with_variables(IMS_CA_CERTIFICATE=str(site_ca.certificate)).json("images", "list") == []
        assert there.with_variables(SSL_CERT_FILE=str(site_ca.certificate)).json("images", "list") == []
        assert "IMS_CA_CERTIFICATE" in there.with_variables(IMS_CA_CERTIFICATE="/not/there").refused("images", "list")


def test_viewer(cli: Cli, service: Service) -> None:
    """A viewer may not create records."""
    error = cli.with_variables(IMS_TOKEN=mint(service, "viewer")).refused("images", "create", "--name", "x")
    assert error.startswith("Forbidden: ")
    assert error.endswith("Ask an administrator for a role that allows it")


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
    """The address may include the path of the API."""
    assert service_url(given) == root


@pytest.mark.parametrize(
    "text",
    ["", "host", "host:8080", "ftp://host", "http://", "https://user:secret@host", "http://[::1", "http://host:port"],
)
def test_invalid_service_url(text: str) -> None:
    """An address that is not http or https, or that contains a password, is refused."""
    with pytest.raises(ConfigurationError):
        service_url(text)


@pytest.mark.parametrize("token", ["", "x", "a.b.c", "a.e30.c", "a.bnVsbA.c"])
def test_token_without_an_expiry(token: str) -> None:
    """A token in an unknown format has no known expiry. The service decides whether it is valid."""
    assert expiry(token) is None
