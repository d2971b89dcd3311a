"""A gateway for CFS and BOS, which call `http://cray-ims/…` without the prefix of the API and without a token.

It adds both, and lets through only the requests that these programs send. Whoever reaches it needs no login, so
access to it must be limited in the network. Run it with `python -m ims.gateway`; `IMS_GATEWAY` is the address to listen
on.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from ims.errors import ConfigurationError
from ims.settings import GATEWAY_USER, Settings, settings

log = logging.getLogger(__name__)

PREFIX = "/apis/ims"
MAX_BODY = 1024 * 1024
SILENT_SECONDS = 120
"""How long the service may send nothing."""
MAX_CONNECTIONS = 100

_VERSION = r"(/v[23])?"
_ID = r"[0-9A-Za-z-]+"
RIGHTS: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("GET", re.compile(r"/(version|healthz/(live|ready))")),
    ("GET", re.compile(rf"{_VERSION}/(images|recipes|public-keys|jobs)(/{_ID})?")),
    ("PATCH", re.compile(rf"{_VERSION}/images/{_ID}")),
    ("POST", re.compile(rf"{_VERSION}/(public-keys|jobs)")),
    ("DELETE", re.compile(rf"{_VERSION}/public-keys/{_ID}")),
)
"""The requests that pass. BOS reads images and tags them; CFS starts customizations with a key of its own."""
_SENT = ("accept", "content-type", "idempotency-key")
"""The headers of a request that are passed on. Tokens and cookies of callers are not."""
_ANSWERED = ("content-type", "allow", "link", "retry-after")


class Upstream:
    """The service, as the user of the gateway."""

    def __init__(self, own: Settings, transport: httpx.AsyncBaseTransport | None = None) -> None:
        timeout = httpx.Timeout(SILENT_SECONDS, connect=10)
        limits = httpx.Limits(max_connections=MAX_CONNECTIONS)
        self.http = httpx.AsyncClient(
            base_url=own.airflow_url, timeout=timeout, limits=limits, transport=transport, trust_env=False
        )
        self._own = own
        self._token = ""
        self._login = asyncio.Lock()

    async def send(self, request: Request, body: bytes) -> httpx.Response:
        """Passes a request on; returns the response, whose body has not been read. Logs in if necessary."""
        token = self._token or await self._renew("")
        response = await self._send(request, body, token)
        if response.status_code == httpx.codes.UNAUTHORIZED:
            await response.aclose()
            response = await self._send(request, body, await self._renew(token))
        return response

    async def _send(self, request: Request, body: bytes, token: str) -> httpx.Response:
        headers = {name: request.headers[name] for name in _SENT if name in request.headers}
        url = httpx.URL(PREFIX + request.scope["path"], query=request.scope["query_string"] or None)
        sent = self.http.build_request(request.method, url, content=body, headers=headers)
        sent.headers["Authorization"] = f"Bearer {token}"
        return await self.http.send(sent, stream=True)

    async def _renew(self, token: str) -> str:
        """Returns another token than this one, which has expired. Raises httpx.HTTPError, OSError."""
        async with self._login:
            if self._token == token:
                login = {"username": GATEWAY_USER, "password": self._own.gateway_password.read_text().strip()}
                answer = await self.http.post("/auth/token", json=login)
                answer.raise_for_status()
                self._token = str(answer.json()["access_token"])
            return self._token


def build_app(upstream: Upstream) -> Starlette:
    """Returns the gateway as an ASGI application."""

    async def handle(request: Request) -> Response:
        try:
            body = await _body(request)
            if body is None:
                return _problem(413, f"the body is larger than {MAX_BODY} bytes")
            # Not request.url: a client chooses the Host header, from which that is made.
            if (reason := refusal(request.method, request.scope["path"], body)) is not None:
                return _problem(403, reason)
            return _passed_on(await upstream.send(request, body))
        except ClientDisconnect:
            return Response(status_code=400)
        except (httpx.HTTPError, OSError, ValueError, KeyError) as error:
            log.error("%s %s: %s", request.method, request.scope["path"], error or type(error).__name__)
            return _problem(503, "the service does not answer; the log of the gateway has the reason")

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        async with upstream.http:
            yield

    async def no_route(_request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return _problem(error.status_code, error.detail)

    route = Route("/{path:path}", handle, methods=["GET", "POST", "PATCH", "PUT", "DELETE"])
    return Starlette(routes=[route], exception_handlers={HTTPException: no_route}, lifespan=lifespan)


def refusal(method: str, path: str, body: bytes) -> str | None:
    """Returns why a request does not pass, or None if it does."""
    method = "GET" if method == "HEAD" else method
    if not any(method == allowed and pattern.fullmatch(path) for allowed, pattern in RIGHTS):
        return f"the gateway does not pass on {method} {path}; log in at the service itself"
    if method == "POST" and path.endswith("/jobs") and _document(body).get("job_type") != "customize":
        return "the gateway starts only jobs of the type customize"
    if method == "PATCH" and set(_document(body)) != {"metadata"}:
        return "the gateway changes only the metadata of an image"
    return None


def _document(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


async def _body(request: Request) -> bytes | None:
    """Returns the body of a request, or None if it is too large."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY:
            return None
    return body


def _passed_on(response: httpx.Response) -> Response:
    headers = {name: response.headers[name] for name in _ANSWERED if name in response.headers}
    if "link" in headers:
        # The next page is at the gateway, too.
        headers["link"] = re.sub(rf"<[^>]*?{PREFIX}/", "</", headers["link"])
    content = response.aiter_bytes()
    return StreamingResponse(content, response.status_code, headers, background=BackgroundTask(response.aclose))


def _problem(status: int, detail: str) -> Response:
    title = httpx.codes.get_reason_phrase(status)
    content = {"status": status, "title": title, "detail": detail}
    return JSONResponse(content, status, media_type="application/problem+json")


def main() -> None:
    """Serves until the process is ended. Raises ConfigurationError if there is no address to listen on."""
    own = settings()
    if own.gateway_address is None:
        raise ConfigurationError("IMS_GATEWAY is empty", "Set it to the address to listen on, such as 10.1.1.1:80")
    host, port = own.gateway_address
    uvicorn.run(
        build_app(Upstream(own)),
        host=host,
        port=port,
        log_level="warning",
        proxy_headers=False,
        server_header=False,
        limit_concurrency=MAX_CONNECTIONS,
    )


if __name__ == "__main__":
    main()
