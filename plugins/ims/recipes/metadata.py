"""Digests of repository indexes. If the digest is the same, so is the content of the repository."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from pathlib import Path

import httpx

from ims.errors import UnavailableError
from ims.network.client import checked_client
from ims.recipes.availability import REQUEST_SECONDS, tls_context
from ims.recipes.description import Repository
from ims.recipes.indexes import open_index

MAX_BYTES = 64 * 1024 * 1024
INDEX_SECONDS = 120
"""How long the download of an index may take, with all its redirects."""


def index_digests(repositories: Sequence[Repository], ca_certificate: Path) -> dict[str, str]:
    """The SHA-256 of the index of each repository, by the address of the index without a login.

    Raises UnavailableError if a repository does not answer with its index, and RefusedError if its address, or that of
    a redirect, must not be reached.
    """
    return asyncio.run(_all(repositories, ca_certificate))


async def _all(repositories: Sequence[Repository], ca_certificate: Path) -> dict[str, str]:
    async with checked_client(tls_context(ca_certificate), REQUEST_SECONDS) as client:
        digests = await asyncio.gather(*(_digest(client, repository) for repository in repositories))
    # Not the address of the repository: with apt, several distributions have the same.
    return {_index(repository): digest for repository, digest in zip(repositories, digests, strict=True)}


def _index(repository: Repository) -> str:
    return Repository(repository.metadata_url, "").name


async def _digest(client: httpx.AsyncClient, repository: Repository) -> str:
    total, size = hashlib.sha256(), 0
    try:
        async with asyncio.timeout(INDEX_SECONDS), open_index(client, repository) as answer:
            if answer.status_code != 200:
                raise UnavailableError(
                    f"the repository {repository.name} answered {answer.status_code} {answer.reason_phrase}"
                )
            async for chunk in answer.aiter_bytes():
                total.update(chunk)
                size += len(chunk)
                if size > MAX_BYTES:
                    raise UnavailableError(
                        f"the index of the repository {repository.name} is larger than {MAX_BYTES} bytes"
                    )
    except TimeoutError:
        raise UnavailableError(
            f"the repository {repository.name} did not send its index within {INDEX_SECONDS} s"
        ) from None
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        raise UnavailableError(
            f"the repository {repository.name} does not answer: {error or type(error).__name__}"
        ) from None
    return total.hexdigest()
