"""A client of our API, for the tasks, the CLI and everything else outside the API's process."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from typing import Any

import httpx

from ims.errors import ConfigurationError, ImsError, InputError, LoginError, MissingError, UnavailableError

ROOT = "/apis/ims"
_BY_STATUS: dict[int, type[ImsError]] = {
    401: LoginError,
    403: ConfigurationError,
    404: MissingError,
    408: UnavailableError,
    429: UnavailableError,
}


class ImsClient:
    """Speaks IMS v3 to the service at `airflow_url`. It follows no redirect: the token is for this service alone."""

    def __init__(self, airflow_url: str, token: str = "", tls: ssl.SSLContext | bool = True) -> None:
        self.http = httpx.Client(base_url=airflow_url, timeout=120, verify=tls)
        if token:
            self.http.headers["Authorization"] = f"Bearer {token}"

    @classmethod
    def login(cls, airflow_url: str, user: str, password: str) -> ImsClient:
        """A client with a token that it gets for a user and a password."""
        return cls(airflow_url, cls(airflow_url).token(user, password))

    def token(self, user: str, password: str) -> str:
        """A new token for a user. Raises ImsError, as all methods do."""
        answer = self.send("POST", "/auth/token", json={"username": user, "password": password})
        return str(answer.json()["access_token"])

    def get(self, path: str, **query: Any) -> Any:
        """GET `/apis/ims/v3/<path>`."""
        return self.call("GET", path, params=query)

    def record(self, kind: str, identity: str) -> Any:
        """A record of `recipes`, `images` or `public-keys`, also if it was deleted: who works with it goes on."""
        try:
            return self.get(f"{kind}/{identity}")
        except MissingError:
            return self.get(f"deleted/{kind}/{identity}")

    def create(self, path: str, **fields: Any) -> Any:
        """POST a new record or job; returns it."""
        return self.call("POST", path, json=fields)

    def update(self, path: str, **fields: Any) -> Any:
        """PATCH a record; returns it."""
        return self.call("PATCH", path, json=fields)

    def delete(self, path: str) -> None:
        """DELETE a record or job."""
        self.call("DELETE", path)

    def call(self, method: str, path: str, **arguments: Any) -> Any:
        """Send a request; returns the body of the answer."""
        answer = self.send(method, f"{ROOT}/v3/{path}", **arguments)
        try:
            return answer.json() if answer.content else None
        except ValueError:
            raise ConfigurationError(
                f"{answer.request.url} does not speak IMS", "Check the service's address"
            ) from None

    def send(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        """Send a request to any path of the service; returns the answer, which is a success."""
        try:
            return _checked(self.http.request(method, path, **arguments))
        except httpx.TransportError as error:
            raise self._silent(error) from None

    def lines(self, path: str, **query: Any) -> Iterator[str]:
        """The lines of a text at `/apis/ims/v3/<path>` as they come; waits for them as long as it takes."""
        timeout = httpx.Timeout(120, read=None)
        try:
            with self.http.stream("GET", f"{ROOT}/v3/{path}", params=query, timeout=timeout) as answer:
                if not answer.is_success:
                    answer.read()
                yield from _checked(answer).iter_lines()
        except httpx.TransportError as error:
            raise self._silent(error) from None

    def _silent(self, error: httpx.TransportError) -> UnavailableError:
        unknown_ca = "CERTIFICATE_VERIFY_FAILED" in str(error)
        hint = "Name its CA certificate in IMS_CA_CERTIFICATE" if unknown_ca else "Is it up? make up"
        return UnavailableError(f"the service at {self.http.base_url} does not answer: {error}", hint)


def _checked(answer: httpx.Response) -> httpx.Response:
    if answer.is_success:
        return answer
    kind = _BY_STATUS.get(answer.status_code)
    if kind is None:
        kind = UnavailableError if answer.is_server_error else InputError
    error = kind(_problem(answer), "Your role does not allow it" if answer.status_code == 403 else "")
    error.add_note(f"{answer.request.method} {answer.request.url.path}: {answer.status_code}")
    raise error


def _problem(answer: httpx.Response) -> str:
    """What an answer says, as `<title>: <detail>`; a field's message only where the detail has it not."""
    if answer.has_redirect_location:
        return f"{answer.request.url} is at {answer.headers['location']}, which may be another service"
    try:
        body = answer.json()
    except ValueError:
        body = None
    problem = body if isinstance(body, dict) else {}
    detail = str(problem.get("detail", ""))
    fields = [f"{field}: {', '.join(messages)}" for field, messages in problem.get("errors", {}).items()]
    rest = [text for text in fields if text not in detail]
    said = "; ".join(filter(None, [detail, *rest])) or f"{answer.request.method} {answer.request.url.path}"
    return f"{problem.get('title') or answer.reason_phrase}: {said}"
