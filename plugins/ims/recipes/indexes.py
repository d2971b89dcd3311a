"""Finds the index of a repository like its package manager: by the names that apt tries, and through mirror lists."""

from __future__ import annotations

import html
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import httpx

from ims.network.addresses import RefusedError
from ims.recipes.description import Repository

MAX_LIST = 1024 * 1024
"""Bytes of a list of mirrors."""
MAX_MIRRORS = 5
"""How many mirrors of a list are asked."""
_SIGNED, _UNSIGNED = "/InRelease", "/Release"
_MISSING = {403, 404, 410}
_REPOMD = "repodata/repomd.xml"
# Strangers write metalinks, and this runs outside of a sandbox: no XML parser reads them.
_URL_ELEMENT = re.compile(r"<(?:\w+:)?url(?:\s[^<>]*)?>([^<>]*)</")


@asynccontextmanager
async def open_index(
    client: httpx.AsyncClient, repository: Repository, headers: Mapping[str, str] | None = None
) -> AsyncIterator[httpx.Response]:
    """The answer with the index of a repository, or the answer that says why there is none. Its body is not read yet.

    `headers` of the request may ask for an index only if it has changed.

    Raises RefusedError if the address must not be reached, and the errors of httpx.
    """
    answer = await (_through_list(client, repository) if repository.is_list else _by_name(client, repository, headers))
    try:
        yield answer
    finally:
        await answer.aclose()


async def _by_name(
    client: httpx.AsyncClient, repository: Repository, headers: Mapping[str, str] | None
) -> httpx.Response:
    """Like apt, tries `InRelease`, then `Release`. Other package managers have one name for the index."""
    url = repository.metadata_url
    for ending in (_SIGNED, _UNSIGNED):
        if url.endswith(ending):
            first = await _get(client, f"{url.removesuffix(ending)}{_SIGNED}", headers)
            if first.status_code not in _MISSING:
                return first
            await first.aclose()
            return await _get(client, f"{url.removesuffix(ending)}{_UNSIGNED}", headers)
    return await _get(client, url, headers)


async def _through_list(client: httpx.AsyncClient, repository: Repository) -> httpx.Response:
    """The index of the first mirror that has it, else the answer of the last one that was asked."""
    listing = await _get(client, repository.metadata_url)
    if listing.status_code != 200:
        return listing
    try:
        mirrors = mirrors_in(await _read(listing))[:MAX_MIRRORS]
    finally:
        await listing.aclose()
    if not mirrors:
        raise httpx.RemoteProtocolError("its list names no mirror with an http or https address")
    for mirror in mirrors[:-1]:
        try:
            answer = await _get(client, mirror)
        except (httpx.TransportError, RefusedError):
            continue
        if answer.status_code == 200:
            return answer
        await answer.aclose()
    return await _get(client, mirrors[-1])


async def _get(client: httpx.AsyncClient, url: str, headers: Mapping[str, str] | None = None) -> httpx.Response:
    return await client.send(client.build_request("GET", url, headers=headers), stream=True, follow_redirects=True)


async def _read(answer: httpx.Response) -> bytes:
    data = b""
    async for chunk in answer.aiter_bytes():
        data += chunk
        if len(data) > MAX_LIST:
            raise httpx.RemoteProtocolError(f"its list of mirrors is larger than {MAX_LIST} bytes")
    return data


def mirrors_in(data: bytes) -> list[str]:
    """The addresses of the index that a mirror list or a metalink names."""
    text = data.decode(errors="replace")
    if text.lstrip("\ufeff\t\r\n ").startswith("<"):
        return _in_metalink(text)
    lines = (line.strip() for line in text.splitlines())
    return [f"{line.rstrip('/')}/{_REPOMD}" for line in lines if _is_remote(line)]


def _in_metalink(text: str) -> list[str]:
    addresses = [html.unescape(found).strip() for found in _URL_ELEMENT.findall(text)]
    return [address for address in addresses if _is_remote(address) and address.endswith(_REPOMD)]


def _is_remote(address: str) -> bool:
    try:
        parts = urlsplit(address)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname)
