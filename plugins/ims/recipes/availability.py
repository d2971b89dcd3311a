"""Whether the repositories of a recipe can be used, asked as a package manager would ask."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx

from ims.errors import ConfigurationError, ImsError, InputError, UnavailableError
from ims.recipes.description import Repository

REQUEST_SECONDS = 10
# Answers that time does not change: the repository is there and refuses us.
_REFUSED = {401, 403}


@dataclass(frozen=True)
class Answer:
    """What a repository said. `final`: it will not say anything else later."""

    repository: Repository
    ready: bool
    text: str
    final: bool = False

    def __str__(self) -> str:
        return f"{self.repository.name} ({self.text})"


def trust(ca_certificate: Path) -> ssl.SSLContext:
    """Verify servers by the system's certificates and the site's own.

    Raises ConfigurationError: the site's cannot be read.
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
    """Ask one repository for its index."""
    try:
        async with client.stream("GET", repository.metadata_url, follow_redirects=True) as answer:
            code, text = answer.status_code, f"{answer.status_code} {answer.reason_phrase}"
    except httpx.TransportError as error:
        return _no_answer(repository, error)
    except (httpx.InvalidURL, httpx.TooManyRedirects, ValueError) as error:
        return Answer(repository, ready=False, text=str(error), final=True)
    return Answer(repository, ready=code == 200, text=text, final=code in _REFUSED)


async def ask_all(repositories: Sequence[Repository], ca_certificate: Path) -> list[Answer]:
    """Ask all repositories at once."""
    async with httpx.AsyncClient(verify=trust(ca_certificate), timeout=REQUEST_SECONDS) as client:
        return await asyncio.gather(*(ask(client, repository) for repository in repositories))


def missing(answers: Sequence[Answer]) -> str:
    """The repositories that cannot be used and why; empty if all can.

    Raises InputError: one refuses us, and waiting will not change that.
    """
    refused = [str(answer) for answer in answers if answer.final]
    if refused:
        raise InputError(
            f"repositories that refuse access: {', '.join(refused)}",
            "Check the address, the credentials in it, and IMS_CA_CERTIFICATE",
        )
    return ", ".join(str(answer) for answer in answers if not answer.ready)


async def wait_for_all(
    repositories: Sequence[Repository], ca_certificate: Path, *, until: float, interval: float
) -> None:
    """Ask again and again until all repositories can be used.

    `until` is a moment in seconds since the epoch, so that a wait goes on after a restart where it was.
    Raises UnavailableError: they could not be used by then; InputError: see `missing`.
    """
    while text := missing(await ask_all(repositories, ca_certificate)):
        if time.time() + interval > until:
            raise not_available(text)
        await asyncio.sleep(interval)


def not_available(text: str) -> ImsError:
    """The error for repositories that were waited for in vain."""
    return UnavailableError(
        f"repositories that are not available: {text}",
        "Check that they exist and that the server runs; repository_timeout sets how long to wait",
    )


def _no_answer(repository: Repository, error: httpx.TransportError) -> Answer:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return Answer(repository, ready=False, text=cause.verify_message, final=True)
        cause = cause.__cause__ or cause.__context__
    return Answer(repository, ready=False, text=str(error) or type(error).__name__)
