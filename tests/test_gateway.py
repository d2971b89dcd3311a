"""The gateway for CFS and BOS: what it adds, what passes, and what does not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from pydantic import ValidationError
from starlette.testclient import TestClient

from ims.gateway import MAX_BODY, Upstream, build_app
from ims.settings import GATEWAY_USER, Settings

ID = str(uuid4())


class Service:
    """The service: it knows the user of the gateway, and remembers the requests."""

    def __init__(self) -> None:
        self.requests: list[httpx.Request] = []
        self.logins = 0
        self.token = "unknown"
        self.answer = httpx.Response(200, json=[])
        self.is_up = True

    def handle(self, request: httpx.Request) -> httpx.Response:
        """Answers a request."""
        if not self.is_up:
            raise httpx.ConnectError("refused", request=request)
        if request.url.path == "/auth/token":
            if json.loads(request.content) != {"username": GATEWAY_USER, "password": "secret"}:
                return httpx.Response(401)
            self.logins += 1
            self.token = f"token-{self.logins}"
            return httpx.Response(201, json={"access_token": self.token})
        if request.headers["authorization"] != f"Bearer {self.token}":
            return httpx.Response(401)
        self.requests.append(request)
        return httpx.Response(self.answer.status_code, headers=self.answer.headers, content=self.answer.content)


@pytest.fixture
def service() -> Service:
    """The service behind the gateway."""
    return Service()


@pytest.fixture
def own(tmp_path: Path) -> Settings:
    """The settings of the gateway."""
    made = Settings(home=tmp_path, gateway="127.0.0.1:80", host="192.0.2.1", port=8080)
    made.secrets.mkdir()
    made.gateway_password.write_text("secret\n")
    return made


@pytest.fixture
def gateway(service: Service, own: Settings) -> Iterator[TestClient]:
    """A client of the gateway."""
    app = build_app(Upstream(own, httpx.MockTransport(service.handle)))
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


CUSTOMIZE = {"job_type": "customize", "image_root_archive_name": "x", "artifact_id": ID, "public_key_id": ID}
# What CFS and BOS send.
PASSED: dict[str, tuple[str, str, Any]] = {
    "probe of CFS": ("GET", "/images", None),
    "image": ("GET", f"/v3/images/{ID}", None),
    "images by name": ("GET", "/v3/images?name=a%20b&limit=1", None),
    "recipes": ("GET", "/v2/recipes", None),
    "key": ("POST", "/public-keys", {"name": "cfs", "public_key": "ssh-ed25519 AAAA"}),
    "job": ("POST", "/jobs", CUSTOMIZE),
    "job of version 3": ("POST", "/v3/jobs", CUSTOMIZE),
    "state of the job": ("GET", f"/jobs/{ID}", None),
    "key that is no longer needed": ("DELETE", f"/public-keys/{ID}", None),
    "tag": ("PATCH", f"/v3/images/{ID}", {"metadata": {"operation": "set", "key": "a", "value": "b"}}),
    "version": ("GET", "/version", None),
    "ready": ("GET", "/healthz/ready", None),
    "head": ("HEAD", "/images", None),
}


@pytest.mark.parametrize("name", PASSED)
def test_passed(gateway: TestClient, service: Service, name: str) -> None:
    """The service gets the same request with the prefix and the token of the gateway, and its answer comes back."""
    method, path, body = PASSED[name]
    service.answer = httpx.Response(201, json=[] if method == "HEAD" else {"id": ID}, headers={"Set-Cookie": "a=b"})
    answer = gateway.request(method, path, json=body, headers={"Authorization": "Bearer theirs", "Cookie": "c=d"})
    assert (answer.status_code, answer.headers["content-type"]) == (201, "application/json")
    assert method == "HEAD" or answer.json() == {"id": ID}
    assert "set-cookie" not in answer.headers
    (sent,) = service.requests
    assert (sent.method, str(sent.url)) == (method, f"http://192.0.2.1:8080/apis/ims{path}")
    assert sent.content == b"" if body is None else json.loads(sent.content) == body
    assert "cookie" not in sent.headers


# Requests that the gateway refuses.
REFUSED: dict[str, tuple[str, str, Any]] = {
    "build": ("POST", "/v3/jobs", {**CUSTOMIZE, "job_type": "create"}),
    "job of two types": ("POST", "/jobs", '{"job_type": "customize", "job_type": "create"}'),
    "no job": ("POST", "/jobs", "[]"),
    "cancel": ("PATCH", f"/jobs/{ID}", {"status": "error"}),
    "delete jobs": ("DELETE", "/jobs", None),
    "delete a job": ("DELETE", f"/v3/jobs/{ID}", None),
    "delete an image": ("DELETE", f"/images/{ID}", None),
    "delete images": ("DELETE", "/v3/images", None),
    "delete keys": ("DELETE", "/public-keys", None),
    "delete keys with an empty id": ("DELETE", "/public-keys/", None),
    "rename": ("PATCH", f"/images/{ID}", {"name": "x", "metadata": {}}),
    "unpin": ("PATCH", f"/images/{ID}", {"pinned": False}),
    "new image": ("POST", "/images", {"name": "x"}),
    "recipe": ("POST", "/recipes", {"name": "x"}),
    "record with an id": ("PUT", f"/v3/images/{ID}", {"name": "x"}),
    "shell": ("POST", f"/v3/jobs/{ID}/shell", {"operation": "complete"}),
    "log": ("GET", f"/v3/jobs/{ID}/logs/build_image", None),
    "purge": ("DELETE", f"/v3/deleted/images/{ID}", None),
    "maintenance": ("POST", "/v3/maintenance", {"dry_run": False}),
    "pages": ("GET", "/overview", None),
    "S3": ("PUT", "/apis/sts/token", None),
    "Airflow": ("GET", "/api/v2/dags", None),
    "dots": ("GET", "/images/..%2f..%2f..%2fapi%2fv2%2fdags", None),
    "escaped dots": ("GET", "/v3/images/%2e%2e/%2e%2e/%2e%2e/auth/token", None),
    "host in the path": ("GET", "http://gateway//evil.example/images", None),
    "at sign": ("GET", "/images/@evil.example", None),
    "line end": ("GET", "/images%0d%0aX:y", None),
    "line end at the end": ("GET", "/images%0a", None),
    "query in the path": ("GET", "/images%3fname=x", None),
    "options": ("OPTIONS", "/images", None),
    "root": ("GET", "/", None),
    "version 1": ("GET", "/v1/images", None),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(gateway: TestClient, service: Service, name: str) -> None:
    """It is answered by the gateway; the service gets no request, and the gateway needs no login."""
    method, path, body = REFUSED[name]
    content = body if isinstance(body, str) else json.dumps(body) if body is not None else None
    answer = gateway.request(method, path, content=content, headers={"Content-Type": "application/json"})
    assert answer.status_code in (403, 404, 405), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert set(answer.json()) == {"status", "title", "detail"}
    assert service.requests == []
    assert service.logins == 0


@pytest.mark.parametrize("host", ["x/v3/images?", "x/images#", "a/auth/token", "@evil.example"])
def test_host_header(gateway: TestClient, service: Service, host: str) -> None:
    """It decides neither what passes nor where it goes."""
    assert gateway.get("/overview", headers={"Host": host}).status_code == 403
    assert gateway.get("/images", headers={"Host": host}).status_code == 200
    assert [str(request.url) for request in service.requests] == ["http://192.0.2.1:8080/apis/ims/images"]


def test_the_last_of_two_values_counts(gateway: TestClient, service: Service) -> None:
    """It does for the service, too."""
    body = '{"job_type": "create", "job_type": "customize"}'
    assert gateway.post("/jobs", content=body).status_code == 200
    assert json.loads(service.requests[0].content) == {"job_type": "customize"}


def test_login(gateway: TestClient, service: Service) -> None:
    """The gateway logs in once, and again when its token has expired."""
    for _ in range(3):
        assert gateway.get("/images").status_code == 200
    assert service.logins == 1
    service.token = "another"
    assert gateway.post("/jobs", json=CUSTOMIZE).status_code == 200
    assert service.logins == 2
    assert json.loads(service.requests[-1].content) == CUSTOMIZE


def test_wrong_password(gateway: TestClient, service: Service, own: Settings) -> None:
    """The answer tells nothing about it. When the file is corrected, the gateway works without a restart."""
    for text in ("wrong", None):
        own.gateway_password.write_text(text) if text else own.gateway_password.unlink()
        answer = gateway.get("/images")
        assert (answer.status_code, answer.json()["title"]) == (503, "Service Unavailable")
    own.gateway_password.write_text("secret")
    assert gateway.get("/images").status_code == 200
    assert service.logins == 1


def test_service_is_down(gateway: TestClient, service: Service) -> None:
    """The client may try again."""
    service.is_up = False
    assert gateway.get("/images").status_code == 503
    service.is_up = True
    assert gateway.get("/images").status_code == 200


@pytest.mark.parametrize("size", [MAX_BODY, MAX_BODY + 1])
def test_size(gateway: TestClient, service: Service, size: int) -> None:
    """A larger body than the service takes is not passed on."""
    assert gateway.post("/public-keys", content=b"x" * size).status_code == (200 if size == MAX_BODY else 413)
    assert len(service.requests) == (size == MAX_BODY)


@pytest.mark.parametrize("status", [400, 404, 409, 422, 503])
def test_problem(gateway: TestClient, service: Service, status: int) -> None:
    """The refusals of the service reach the client unchanged."""
    problem = {"status": status, "title": "x", "detail": "y", "errors": {"z": ["w"]}}
    media = {"Content-Type": "application/problem+json"}
    service.answer = httpx.Response(status, content=json.dumps(problem), headers=media)
    answer = gateway.get("/v3/images")
    assert (answer.status_code, answer.headers["content-type"], answer.json()) == (
        *(status, media["Content-Type"], problem),
    )


def test_next_page(gateway: TestClient, service: Service) -> None:
    """Its address leads to the gateway."""
    link = '<http://192.0.2.1:8080/apis/ims/v3/images?limit=1&after=x>; rel="next"'
    service.answer = httpx.Response(200, json=[], headers={"Link": link})
    assert gateway.get("/v3/images?limit=1").headers["link"] == '</v3/images?limit=1&after=x>; rel="next"'


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("", None),
        ("127.0.0.1:80", ("127.0.0.1", 80)),
        ("gateway.example:8000", ("gateway.example", 8000)),
        ("[::1]:80", ("::1", 80)),
    ],
)
def test_address(text: str, address: tuple[str, int] | None) -> None:
    """There is a gateway only if it has an address."""
    assert Settings(gateway=text).gateway_address == address


@pytest.mark.parametrize(
    "text", ["80", "127.0.0.1", "127.0.0.1:0", "127.0.0.1:99999", "a b:80", ":80x", "http://a:80/"]
)
def test_wrong_address(text: str) -> None:
    """The setting is refused."""
    with pytest.raises(ValidationError):
        Settings(gateway=text)
