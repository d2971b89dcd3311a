"""Checks whether the repositories of a recipe are available, by requesting what a package manager requests first."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx

from ims.errors import ConfigurationError, ImsError, InputError, UnavailableError
from ims.network.addresses import RefusedError
from ims.network.client import checked_client
from ims.recipes.description import Repository
from ims.recipes.indexes import open_index

REQUEST_SECONDS = 10
"""How long a server may send nothing."""
ANSWER_SECONDS = 30
"""How long a request may take, with all its redirects. A server that drips bytes is never silent."""
_LOGIN_NEEDED = {401, 403}
_FINAL = {400, 401, 410, 414, 451}
"""Answers that will not change. 403 is not among them: object stores answer it for what is not published yet."""
_NO_SUCH_NAME = {socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)}


@dataclass(frozen=True)
class Answer:
    """The answer of a repository. A `final` answer will not change later.

    `by_site` is whether the recipe is not to blame for it: a certificate or a login has expired, for example.
    """

    repository: Repository
    ready: bool
    text: str
    final: bool = False
    by_site: bool = False

    def __str__(self) -> str:
        return f"{self.repository.name} ({self.text})"


def tls_context(ca_certificate: Path) -> ssl.SSLContext:
    """A TLS context that trusts the system's certificates and the site's CA.

    Raises ConfigurationError if the site's certificate cannot be read.
    """
    context = ssl.create_default_context()
    if ca_certificate.exists():
        try:
            context.load_verify_locations(ca_certificate)
        except OSError as error:
            raise ConfigurationError(
                f"the site's root CA certificate {ca_certificate} cannot be read: {error}",
                "Set IMS_CA_CERTIFICATE to a PEM file",
            ) from None
    return context


async def ask(client: httpx.AsyncClient, repository: Repository) -> Answer:
    """Request the index of one repository."""
    try:
        async with asyncio.timeout(ANSWER_SECONDS), open_index(client, repository) as answer:
            code, text = answer.status_code, f"{answer.status_code} {answer.reason_phrase}"
    except TimeoutError:
        return Answer(repository, ready=False, text=f"no answer within {ANSWER_SECONDS} s")
    except RefusedError as error:
        return Answer(repository, ready=False, text=f"{error.reason}; {error.hint}", final=True)
    except httpx.TransportError as error:
        return _no_answer(repository, error)
    except (httpx.InvalidURL, httpx.TooManyRedirects, ValueError) as error:
        return Answer(repository, ready=False, text=str(error), final=True)
    # Who asks without the recipe's login only learns that the server is there and wants one.
    is_ready = code == 200 or (code in _LOGIN_NEEDED and repository.lacks_login)
    is_final = code in _FINAL or (code in _LOGIN_NEEDED and repository.needs_login)
    is_final = is_final and not is_ready
    return Answer(repository, ready=is_ready, text=text, final=is_final, by_site=is_final and code in _LOGIN_NEEDED)


async def ask_all(repositories: Sequence[Repository], ca_certificate: Path) -> list[Answer]:
    """Request the indexes of all repositories concurrently."""
    async with checked_client(tls_context(ca_certificate), REQUEST_SECONDS) as client:
        return await asyncio.gather(*(ask(client, repository) for repository in repositories))


def missing(answers: Sequence[Answer]) -> str:
    """The names of the repositories that are not available, with reasons. Empty if all are available.

    Raises InputError if an answer is final: waiting will not change it. Raises ConfigurationError if that is never the
    fault of the recipe.
    """
    if refused := [answer for answer in answers if answer.final]:
        kind = ConfigurationError if all(answer.by_site for answer in refused) else InputError
        raise kind(
            f"repositories that refuse access: {', '.join(map(str, refused))}",
            "Check the address, the credentials in it, and IMS_CA_CERTIFICATE",
        )
    return ", ".join(str(answer) for answer in answers if not answer.ready)


async def wait_for_all(
    repositories: Sequence[Repository], ca_certificate: Path, *, until: float, interval: float
) -> None:
    """Wait until all repositories are available, requesting their indexes every `interval` seconds.

    `until` is in seconds since the epoch, so that a wait can continue after a restart.
    Raises UnavailableError if they are not available by then, and the errors of `missing`.
    """
    while text := missing(await ask_all(repositories, ca_certificate)):
        if time.time() + interval > until:
            raise not_available(text)
        await asyncio.sleep(interval)


def not_available(text: str) -> ImsError:
    """The error for repositories that did not become available in time."""
    return UnavailableError(
        f"repositories that are not available: {text}",
        "Check that they exist and that the server runs. repository_timeout sets how long to wait",
    )


def _no_answer(repository: Repository, error: httpx.TransportError) -> Answer:
    """The answer for a request that failed. It is final if the certificate is wrong or the name does not exist."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return Answer(repository, ready=False, text=cause.verify_message, final=True, by_site=True)
        if isinstance(cause, socket.gaierror) and cause.errno in _NO_SUCH_NAME:
            return Answer(repository, ready=False, text="no such host name", final=True)
        cause = cause.__cause__ or cause.__context__
    return Answer(repository, ready=False, text=str(error) or type(error).__name__)
