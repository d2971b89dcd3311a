"""A client of the IMS API, for the tasks, the CLI and all other code outside the API's process."""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterator
from typing import Any

import httpx

from ims.errors import (
    ConfigurationError,
    ImsError,
    InputError,
    LoginError,
    MissingError,
    PermanentError,
    UnavailableError,
)

ROOT = "/apis/ims"
UNKNOWN_IMAGES = "IMS-Unknown-Images"
"""The header of answers about packages that counts the images whose packages are unknown."""
SILENT_SECONDS = 120
"""How long the service may send nothing."""
BODY_SECONDS = 600
"""How long the service may send the body of a response."""
MAX_BYTES = 256 * 1024 * 1024
_OF_ENCODED_BODY = ("content-encoding", "content-length", "transfer-encoding")
_BY_STATUS: dict[int, type[ImsError]] = {
    401: LoginError,
    403: ConfigurationError,
    404: MissingError,
    408: UnavailableError,
    409: PermanentError,
    429: UnavailableError,
}


class ImsClient:
    """A client of version 3 of the IMS API at `airflow_url`.

    All methods raise ImsError. Redirects are not followed, because the token must not reach another service.
    """

    def __init__(self, airflow_url: str, token: str = "", tls: ssl.SSLContext | bool = True) -> None:
        self.http = httpx.Client(base_url=airflow_url, timeout=SILENT_SECONDS, verify=tls)
        if token:
            self.http.headers["Authorization"] = f"Bearer {token}"

    @classmethod
    def login(cls, airflow_url: str, user: str, password: str) -> ImsClient:
        """Return a client that is logged in with a user name and a password."""
        return cls(airflow_url, cls(airflow_url).token(user, password))

    def token(self, user: str, password: str) -> str:
        """Return a new token for a user."""
        response = self.send("POST", "/auth/token", json={"username": user, "password": password})
        return str(response.json()["access_token"])

    def get(self, path: str, **query: Any) -> Any:
        """GET `/apis/ims/v3/<path>`."""
        return self.call("GET", path, params=query)

    def record(self, kind: str, identity: str) -> Any:
        """Return a record of `recipes`, `images` or `public-keys`, even a deleted one.

        A job continues if somebody deletes the records that it uses.
        """
        try:
            return self.get(f"{kind}/{identity}")
        except MissingError:
            return self.get(f"deleted/{kind}/{identity}")

    def create(self, path: str, **fields: Any) -> Any:
        """Create a record or job with POST; returns it."""
        return self.call("POST", path, json=fields)

    def update(self, path: str, **fields: Any) -> Any:
        """Change a record with PATCH; returns it."""
        return self.call("PATCH", path, json=fields)

    def delete(self, path: str) -> None:
        """Delete a record or job with DELETE."""
        self.call("DELETE", path)

    def query_packages(self, path: str, **query: Any) -> tuple[Any, int]:
        """GET `/apis/ims/v3/<path>`; returns the body, and the number of images whose packages are unknown."""
        response = self.send("GET", f"{ROOT}/v3/{path}", params=query)
        unknown = response.headers.get(UNKNOWN_IMAGES, "")
        return _body(response), int(unknown) if unknown.isdecimal() else 0

    def call(self, method: str, path: str, **arguments: Any) -> Any:
        """Send a request; returns the body of the response."""
        return _body(self.send(method, f"{ROOT}/v3/{path}", **arguments))

    def send(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        """Send a request to any path of the service; returns the response if it is a success."""
        try:
            with self.http.stream(method, path, **arguments) as response:
                return _checked(_complete(response))
        except httpx.TransportError as error:
            raise self._unavailable(error) from None

    def lines(self, path: str, **query: Any) -> Iterator[str]:
        """Yield the lines of a text at `/apis/ims/v3/<path>` as they arrive, without a timeout between them."""
        timeout = httpx.Timeout(SILENT_SECONDS, read=None)
        try:
            with self.http.stream("GET", f"{ROOT}/v3/{path}", params=query, timeout=timeout) as response:
                if not response.is_success:
                    response.read()
                yield from _checked(response).iter_lines()
        except httpx.TransportError as error:
            raise self._unavailable(error) from None

    def _unavailable(self, error: httpx.TransportError) -> UnavailableError:
        unknown_ca = "CERTIFICATE_VERIFY_FAILED" in str(error)
        start = "Check its address, or start the service there: make up, or systemctl start ims.target"
        hint = "Set IMS_CA_CERTIFICATE to its CA certificate" if unknown_ca else start
        return UnavailableError(f"the service at {self.http.base_url} does not answer: {error}", hint)


def _body(response: httpx.Response) -> Any:
    try:
        return response.json() if response.content else None
    except ValueError:
        raise ConfigurationError(
            f"{response.request.url} is not an IMS API", "Correct the address of the service"
        ) from None


def _complete(response: httpx.Response) -> httpx.Response:
    """Return a response whose body was read.

    Raises UnavailableError: the body takes too long or is too large, whatever the service sends meanwhile.
    """
    body, until = bytearray(), time.monotonic() + BODY_SECONDS
    for chunk in response.iter_bytes():
        body += chunk
        if len(body) > MAX_BYTES or time.monotonic() > until:
            raise UnavailableError(
                f"the response of {response.request.url} has more than {MAX_BYTES} bytes or takes more than "
                f"{BODY_SECONDS} s"
            )
    headers = [(name, value) for name, value in response.headers.items() if name not in _OF_ENCODED_BODY]
    return httpx.Response(response.status_code, headers=headers, content=bytes(body), request=response.request)


def _checked(response: httpx.Response) -> httpx.Response:
    if response.is_success:
        return response
    status = response.status_code
    kind = _BY_STATUS.get(status, UnavailableError if response.is_server_error else InputError)
    error = kind(_problem(response), _hint(response))
    error.add_note(f"{response.request.method} {response.request.url.path}: {status}")
    raise error


def _hint(response: httpx.Response) -> str:
    if response.has_redirect_location:
        return "If you trust that address, use it as the address of the service"
    return "Ask an administrator for a role that allows it" if response.status_code == httpx.codes.FORBIDDEN else ""


def _problem(response: httpx.Response) -> str:
    """Return the message of a response as `<title>: <detail>`, with the messages of fields that the detail lacks."""
    request = response.request
    if response.has_redirect_location:
        return f"{request.url} redirects to {response.headers['location']}"
    try:
        body = response.json()
    except ValueError:
        body = None
    problem = body if isinstance(body, dict) else {}
    detail = str(problem.get("detail", ""))
    fields = [f"{field}: {', '.join(messages)}" for field, messages in problem.get("errors", {}).items()]
    parts = [detail, *(text for text in fields if text not in detail)]
    message = "; ".join(filter(None, parts)) or f"{request.method} {request.url.path}"
    return f"{problem.get('title') or response.reason_phrase}: {message}"
