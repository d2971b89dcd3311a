"""Waiting for repositories whose servers are slow, stopped or missing."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ims.errors import ConfigurationError, ImsError, InputError, UnavailableError
from ims.recipes import availability
from ims.recipes.availability import Answer, ask_all, missing, wait_for_all
from ims.recipes.description import Repository
from tests.flows.rpm_repository import PrivateCA, RepositoryServer

INDEX = "repodata/repomd.xml"
NO_CA = Path("/nonexistent/ca.pem")


def repository(url: str, index: str = INDEX) -> Repository:
    """A repository as a description would define it."""
    return Repository(url, f"{url}/{index}")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The files that a repository serves, as far as they are requested."""
    for name in (f"one/{INDEX}", f"two/{INDEX}", "debian/dists/bookworm/InRelease"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text("index")
    return tmp_path


@pytest.fixture
def server(folder: Path) -> Iterator[RepositoryServer]:
    """A server that works until a test makes it fail."""
    with RepositoryServer(folder) as started:
        yield started


def wait(*repositories: Repository, seconds: float = 60, interval: float = 0.05, ca: Path = NO_CA) -> None:
    """Wait for repositories like the triggerer does."""
    asyncio.run(wait_for_all(repositories, ca, until=time.time() + seconds, interval=interval))


def ask(one: Repository, ca: Path = NO_CA) -> Answer:
    """Check a repository once."""
    (answer,) = asyncio.run(ask_all([one], ca))
    return answer


def test_ready_repositories_are_not_waited_for(server: RepositoryServer) -> None:
    """Each is requested once, by the file that its package manager reads first."""
    apt = repository(f"{server.url}/debian", "dists/bookworm/InRelease")
    wait(repository(f"{server.url}/one"), repository(f"{server.url}/two"), apt, seconds=0)
    assert sorted(server.requests) == [
        "GET /debian/dists/bookworm/InRelease 200",
        f"GET /one/{INDEX} 200",
        f"GET /two/{INDEX} 200",
    ]


def test_server_that_is_starting_is_waited_for(server: RepositoryServer) -> None:
    """Nexus answers 503 while it starts."""
    server.fail(503, requests=3)
    wait(repository(f"{server.url}/one"))
    assert [line.split()[-1] for line in server.requests] == ["503", "503", "503", "200"]


def test_server_that_is_down_is_waited_for(folder: Path) -> None:
    """A refused connection is detected at once and tried again."""
    with RepositoryServer(folder) as server:
        gone = repository(f"{server.url}/one")
        assert ask(gone).ready
    started = time.monotonic()
    answer = ask(gone)
    assert time.monotonic() - started < availability.REQUEST_SECONDS / 2
    assert (answer.ready, answer.final) == (False, False)
    with pytest.raises(UnavailableError, match=r"/one \(All connection attempts failed"):
        wait(gone, seconds=0.2)


def test_missing_repository_is_named(server: RepositoryServer) -> None:
    """It is requested until the time is over. The error does not name the repositories that are available."""
    with pytest.raises(UnavailableError) as caught:
        wait(repository(f"{server.url}/one"), repository(f"{server.url}/gone"), seconds=1.5)
    assert caught.value.reason == f"repositories that are not available: {server.url}/gone (404 File not found)"
    assert server.requests.count(f"GET /gone/{INDEX} 404") > 1


def test_password_is_not_in_the_error(server: RepositoryServer) -> None:
    """The password is sent, but the error does not show it."""
    url = server.url.replace("://", "://user:secret@")
    with pytest.raises(UnavailableError) as caught:
        wait(repository(f"{url}/gone"), seconds=0)
    assert "/gone (404 File not found)" in caught.value.reason
    assert "secret" not in str(caught.value)


def test_repository_whose_login_is_elsewhere(server: RepositoryServer) -> None:
    """Without the login of the recipe, a refusal says that the server is there; with it, the login is wrong."""
    server.fail(401)
    url = server.url.replace("://", "://user:secret@")
    whole = Repository(f"{url}/one", f"{url}/one/{INDEX}", needs_login=True)
    wait(whole.without_login(), seconds=0)
    with pytest.raises(ConfigurationError, match="refuse access"):
        wait(whole, seconds=0)
    server.fail(403)
    wait(whole.without_login(), seconds=0)
    with pytest.raises(ConfigurationError, match="refuse access"):
        wait(whole, seconds=0)


@pytest.mark.parametrize(("status", "kind"), [(400, InputError), (401, ConfigurationError), (410, InputError)])
def test_refusal_is_final(server: RepositoryServer, status: int, kind: type[ImsError]) -> None:
    """Waiting does not help if access is denied. A login that has expired is no fault of the recipe."""
    server.fail(status)
    with pytest.raises(kind, match=rf"refuse access: {server.url}/one \({status} "):
        wait(repository(f"{server.url}/one"), repository(f"{server.url}/two"))
    assert len(server.requests) == 2


@pytest.mark.parametrize("status", [403, 404, 429, 500, 502, 503])
def test_other_errors_are_not_final(server: RepositoryServer, status: int) -> None:
    """A repository that is being created may not exist yet."""
    server.fail(status)
    answer = ask(repository(f"{server.url}/one"))
    assert (answer.ready, answer.final) == (False, False)
    assert answer.text.startswith(str(status))


def test_server_that_never_answers_costs_one_time_out(
    server: RepositoryServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other repositories do not have to wait for it."""
    monkeypatch.setattr(availability, "REQUEST_SECONDS", 1)
    server.hang(under="/one")
    started = time.monotonic()
    with pytest.raises(UnavailableError, match=rf"{server.url}/one \(ReadTimeout\)"):
        wait(repository(f"{server.url}/one"), repository(f"{server.url}/two"), seconds=0)
    assert time.monotonic() - started < 8


def test_recipe_to_blame_beside_the_site(server: RepositoryServer) -> None:
    """The recipe is to blame if one of its repositories cannot be as it names it, whatever the others answer."""
    server.fail(401)
    with pytest.raises(InputError, match="refuse access"):
        wait(repository(f"{server.url}/one"), Repository("http://h:port/one", f"http://h:port/one/{INDEX}"))


def test_invalid_address_is_final() -> None:
    """No server can ever answer there."""
    answer = ask(Repository("http://h:port/one", f"http://h:port/one/{INDEX}"))
    assert (answer.ready, answer.final) == (False, True)


def test_object_store_until_the_repository_is_published(server: RepositoryServer) -> None:
    """It answers 403 for what does not exist. The error names that answer."""
    server.fail(403, requests=3)
    wait(repository(f"{server.url}/one"))
    assert [line.split()[-1] for line in server.requests] == ["403", "403", "403", "200"]
    server.fail(403)
    with pytest.raises(UnavailableError, match=rf"not available: {server.url}/one \(403 "):
        wait(repository(f"{server.url}/one"), seconds=0.2)


def test_name_that_does_not_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not waited for, unlike a resolver that fails for now."""
    error = socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    one = repository("http://no-such-name.example/one")
    with pytest.raises(InputError, match=r"no-such-name.example/one \(no such host name\)"):
        wait(one)
    error = socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
    assert not ask(one).final


def test_redirect_is_followed(folder: Path, server: RepositoryServer) -> None:
    """Many servers redirect the address of a folder without a slash at the end."""
    assert ask(Repository(f"{server.url}/one", f"{server.url}/one/repodata")).ready
    assert server.requests[0].endswith(" 301")


def test_https_with_the_site_s_ca_is_trusted(folder: Path, tmp_path: Path) -> None:
    """The build trusts it, too."""
    ca = PrivateCA(tmp_path / "ca")
    with RepositoryServer(folder, ca.issue("127.0.0.1")) as server:
        wait(repository(f"{server.url}/one"), seconds=0, ca=ca.certificate)


UNTRUSTED = {"another CA": ("127.0.0.1", False), "another host's certificate": ("nexus.example", True)}


@pytest.mark.parametrize(("host", "trusted"), UNTRUSTED.values(), ids=UNTRUSTED)
def test_untrusted_server_is_final(folder: Path, tmp_path: Path, host: str, trusted: bool) -> None:
    """Its certificate will not change. That is no fault of the recipe."""
    ca, other = PrivateCA(tmp_path / "ca"), PrivateCA(tmp_path / "other")
    with RepositoryServer(folder, ca.issue(host)) as server:
        known = ca.certificate if trusted else other.certificate
        with pytest.raises(ConfigurationError, match=r"refuse access: .*/one \(.*(certificate|IP address)"):
            wait(repository(f"{server.url}/one"), ca=known)


def test_ca_that_is_not_a_certificate_is_reported(server: RepositoryServer, tmp_path: Path) -> None:
    """The error is about the installation, not about the recipe."""
    broken = tmp_path / "ca.pem"
    broken.write_text("not a certificate")
    with pytest.raises(ConfigurationError, match=str(broken)):
        ask(repository(f"{server.url}/one"), broken)


def test_wait_continues_after_a_restart(server: RepositoryServer) -> None:
    """`until` is a point in time, so a restart does not extend the wait."""
    server.fail(503)
    with pytest.raises(UnavailableError):
        wait(repository(f"{server.url}/one"), seconds=-100)
    assert len(server.requests) == 1


def test_no_repositories_are_ready() -> None:
    """A recipe may have no repositories."""
    wait(seconds=0)
    assert missing([]) == ""
