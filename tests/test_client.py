"""The client of the IMS API, with simulated responses."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial

import httpx
import pytest

from ims.client import ImsClient
from ims.errors import (
    ConfigurationError,
    ImsError,
    InputError,
    LoginError,
    MissingError,
    PermanentError,
    UnavailableError,
)

Answer = Callable[[httpx.Request], httpx.Response]


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Callable[[Answer | httpx.Response], ImsClient]:
    """Return a function that creates a client from a response, or from a function that returns one."""

    def make(answer: Answer | httpx.Response) -> ImsClient:
        transport = httpx.MockTransport(answer if callable(answer) else lambda _request: answer)
        monkeypatch.setattr("ims.client.httpx.Client", partial(httpx.Client, transport=transport))
        return ImsClient("http://ims.example.com", "a-token")

    return make


Make = Callable[[Answer | httpx.Response], ImsClient]


def test_requests(client: Make) -> None:
    """Each method sends its fields to the address of the API, with the token."""
    seen: list[tuple[str, str, object]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        assert request.headers["Authorization"] == "Bearer a-token"
        seen.append((request.method, request.url.raw_path.decode(), json.loads(request.content or "null")))
        return httpx.Response(204) if request.method == "DELETE" else httpx.Response(200, json={"id": "an-id"})

    ims = client(answer)
    assert ims.get("images", name="site", limit=2) == {"id": "an-id"}
    assert ims.create("images", name="site") == {"id": "an-id"}
    assert ims.update("images/an-id", arch="aarch64") == {"id": "an-id"}
    ims.delete("images/an-id")
    assert seen == [
        ("GET", "/apis/ims/v3/images?name=site&limit=2", None),
        ("POST", "/apis/ims/v3/images", {"name": "site"}),
        ("PATCH", "/apis/ims/v3/images/an-id", {"arch": "aarch64"}),
        ("DELETE", "/apis/ims/v3/images/an-id", None),
    ]


def test_login(client: Make) -> None:
    """The token that the service returns is sent from then on."""

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/auth/token":
            assert json.loads(request.content) == {"username": "admin", "password": "secret"}
            return httpx.Response(201, json={"access_token": "new"})
        assert request.headers["Authorization"] == "Bearer new"
        return httpx.Response(200, json=[])

    client(answer)
    assert ImsClient.login("http://ims.example.com", "admin", "secret").get("images") == []


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, InputError),
        (401, LoginError),
        (403, ConfigurationError),
        (404, MissingError),
        (408, UnavailableError),
        (409, PermanentError),
        (422, InputError),
        (429, UnavailableError),
        (500, UnavailableError),
        (503, UnavailableError),
    ],
)
def test_errors(client: Make, status: int, kind: type[ImsError]) -> None:
    """The status decides the kind of the error. A note has the request."""
    response = httpx.Response(status, json={"title": "A title", "detail": "a detail"})
    with pytest.raises(kind, match="A title: a detail") as caught:
        client(response).get("images/x")
    assert type(caught.value) is kind
    assert caught.value.__notes__ == [f"GET /apis/ims/v3/images/x: {status}"]


@pytest.mark.parametrize(
    ("problem", "text"),
    [
        ({"title": "T", "detail": "name: too long", "errors": {"name": ["too long"]}}, "T: name: too long"),
        (
            {"title": "T", "detail": "wrong", "errors": {"a": ["one", "two"], "b": ["three"]}},
            "T: wrong; a: one, two; b: three",
        ),
        ({"title": "T"}, "T: GET /apis/ims/v3/images"),
        ({}, "Bad Request: GET /apis/ims/v3/images"),
        (["no object"], "Bad Request: GET /apis/ims/v3/images"),
    ],
)
def test_message_of_a_problem(client: Make, problem: object, text: str) -> None:
    """Messages of fields are added if the detail lacks them. Without a detail, the request is named."""
    with pytest.raises(InputError) as caught:
        client(httpx.Response(400, json=problem)).get("images")
    assert str(caught.value) == text


def test_error_without_json(client: Make) -> None:
    """If a proxy answers with an HTML page, the error has the status."""
    with pytest.raises(UnavailableError, match="Bad Gateway: GET /apis/ims/v3/images"):
        client(httpx.Response(502, text="<html>")).get("images")


def test_forbidden(client: Make) -> None:
    """The hint says what the user can do."""
    with pytest.raises(ConfigurationError, match=r"no\. Ask an administrator for a role that allows it"):
        client(httpx.Response(403, json={"detail": "no"})).get("images")


def test_redirect_is_not_followed(client: Make) -> None:
    """The error names the address, and the token is sent once."""
    requests: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        return httpx.Response(307, headers={"location": "http://other.example.com/"})

    with pytest.raises(InputError, match=r"redirects to http://other\.example\.com/"):
        client(answer).get("images")
    assert len(requests) == 1


@pytest.mark.parametrize("body", [b"<html>", b"\xff"])
def test_success_without_json(client: Make, body: bytes) -> None:
    """A web page is not an IMS API."""
    with pytest.raises(ConfigurationError, match="is not an IMS API"):
        client(httpx.Response(200, content=body)).get("images")


def failing(message: str) -> Answer:
    """Return a function that fails to connect."""

    def answer(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError(message, request=request)

    return answer


@pytest.mark.parametrize(
    ("message", "hint"),
    [
        ("refused", "make up, or systemctl start ims.target"),
        ("[SSL: CERTIFICATE_VERIFY_FAILED]", "Set IMS_CA_CERTIFICATE"),
    ],
)
def test_no_connection(client: Make, message: str, hint: str) -> None:
    """The hint depends on whether the certificate is the problem."""
    with pytest.raises(UnavailableError, match=hint):
        client(failing(message)).get("images")
    with pytest.raises(UnavailableError, match=hint):
        list(client(failing(message)).lines("jobs/x/logs/y"))


def test_deleted_record(client: Make) -> None:
    """A record that is not found is looked up among the deleted ones."""

    def answer(request: httpx.Request) -> httpx.Response:
        found = request.url.path == "/apis/ims/v3/deleted/images/x"
        return httpx.Response(200, json={"id": "x"}) if found else httpx.Response(404, json={"detail": "no image"})

    assert client(answer).record("images", "x") == {"id": "x"}
    with pytest.raises(MissingError):
        client(answer).record("images", "y")


def test_lines(client: Make) -> None:
    """Lines may be split between chunks."""

    def chunks() -> Iterator[bytes]:
        yield b"one\ntw"
        yield b"o\nthree"

    assert list(client(lambda _: httpx.Response(200, content=chunks())).lines("x")) == ["one", "two", "three"]


def test_lines_that_do_not_exist(client: Make) -> None:
    """The message of the service is read before the error is raised."""
    with pytest.raises(MissingError, match="no step nix"):
        list(client(httpx.Response(404, json={"title": "Not Found", "detail": "no step nix"})).lines("x"))
