"""Checksums of what is stored, computed while the bytes go by."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

CHUNK = 4 * 1024 * 1024


@dataclass(frozen=True)
class Digests:
    """Size in bytes, MD5 (what IMS clients compare) and SHA-256 (what we verify), both as hexadecimal text."""

    size: int
    md5: str
    sha256: str


def read_chunks(path: Path) -> Iterator[bytes]:
    """The bytes of a file in pieces of 4 MiB."""
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            yield chunk


def digest(chunks: Iterable[bytes]) -> Digests:
    """The digests of a stream, which is used up."""
    md5, sha256, size = hashlib.md5(usedforsecurity=False), hashlib.sha256(), 0
    with ThreadPoolExecutor(1) as beside:  # hashlib lets other threads work meanwhile
        for chunk in chunks:
            done = beside.submit(sha256.update, chunk)
            md5.update(chunk)
            size += len(chunk)
            done.result()
    return Digests(size, md5.hexdigest(), sha256.hexdigest())


def digest_sha256(chunks: Iterable[bytes]) -> str:
    """The SHA-256 of a stream, which is used up: a third of the work of all digests."""
    sha256 = hashlib.sha256()
    for chunk in chunks:
        sha256.update(chunk)
    return sha256.hexdigest()


def digest_file(path: Path) -> Digests:
    """The digests of a file."""
    return digest(read_chunks(path))
