"""A client of our API, for the tasks, the CLI and everything else outside the API's process."""

from __future__ import annotations

from typing import Any

import httpx

from ims.errors import ConfigurationError, ImsError, InputError, MissingError, UnavailableError

_BY_STATUS: dict[int, type[ImsError]] = {
    400: InputError,
    401: ConfigurationError,
    403: ConfigurationError,
    404: MissingError,
    409: InputError,
    422: InputError,
}


class ImsClient:
    """Speaks IMS v3 to the service at `airflow_url`, with a token that it gets for a user and a password."""

    def __init__(self, airflow_url: str, user: str, password: str) -> None:
        self.http = httpx.Client(base_url=airflow_url, timeout=120)
        self.http.headers["Authorization"] = f"Bearer {self._token(user, password)}"

    def get(self, path: str, **query: Any) -> Any:
        """GET `/apis/ims/v3/<path>`. Raises ImsError, as all methods do."""
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
        answer = self._send(method, f"/apis/ims/v3/{path}", **arguments)
        return answer.json() if answer.content else None

    def _token(self, user: str, password: str) -> str:
        answer = self._send("POST", "/auth/token", json={"username": user, "password": password})
        return str(answer.json()["access_token"])

    def _send(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        try:
            answer = self.http.request(method, path, **arguments)
        except httpx.TransportError as error:
            raise UnavailableError(
                f"the service at {self.http.base_url} does not answer: {error}", "Is it up? make up"
            ) from None
        if answer.is_success:
            return answer
        raise _BY_STATUS.get(answer.status_code, UnavailableError)(_problem(answer))


def _problem(answer: httpx.Response) -> str:
    try:
        body = answer.json()
    except ValueError:
        body = {}
    text = f"{answer.request.method} {answer.request.url.path}: {answer.status_code} "
    text += str(body.get("detail") or body.get("title") or answer.reason_phrase)
    fields = [f"{field}: {', '.join(messages)}" for field, messages in body.get("errors", {}).items()]
    return f"{text} ({'; '.join(fields)})" if fields else text
