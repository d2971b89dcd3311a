"""Checksums of objects and files, computed while the bytes are read."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from ims.errors import InputError, UnavailableError

CHUNK = 4 * 1024 * 1024


@dataclass(frozen=True)
class Digests:
    """Size in bytes, and MD5 and SHA-256 as hexadecimal text. Clients of IMS compare the MD5, we verify the SHA-256."""

    size: int
    md5: str
    sha256: str

    def check(self, name: object, size: int, checksums: Iterable[tuple[str, str]]) -> None:
        """Compares these digests of `name` with its size in S3 and with (kind, checksum) pairs. Skips empty ones.

        Raises InputError if a checksum differs, UnavailableError if bytes are missing.
        """
        for kind, expected in checksums:
            actual = getattr(self, kind)
            if expected and expected.lower() != actual:
                reason = f"{name} is damaged: its {kind} is {actual}, its record in S3 says {expected}"
                raise InputError(reason, "Upload it again")
        if size != self.size:
            raise UnavailableError(f"{name} ended after {self.size} of {size} bytes")


def read_chunks(path: Path) -> Iterator[bytes]:
    """The content of a file in chunks of 4 MiB."""
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            yield chunk


def digest(chunks: Iterable[bytes]) -> Digests:
    """Consumes a stream and returns its digests."""
    md5, sha256, size = hashlib.md5(usedforsecurity=False), hashlib.sha256(), 0
    with ThreadPoolExecutor(1) as executor:  # hashlib releases the GIL
        for chunk in chunks:
            done = executor.submit(sha256.update, chunk)
            md5.update(chunk)
            size += len(chunk)
            done.result()
    return Digests(size, md5.hexdigest(), sha256.hexdigest())


def append(path: Path, rest: Iterable[bytes], on_progress: Callable[[int], object]) -> Digests:
    """Appends the rest of an object to a file that has what comes before; returns the digests of all."""
    with path.open("ab") as file:
        chunks = chain(read_chunks(path), _tee(rest, file.write))
        found = digest(_tee(chunks, lambda chunk: on_progress(len(chunk))))
        file.flush()
        os.fsync(file.fileno())
    return found


def _tee(chunks: Iterable[bytes], write: Callable[[bytes], object]) -> Iterator[bytes]:
    for chunk in chunks:
        write(chunk)
        yield chunk


def digest_sha256(chunks: Iterable[bytes]) -> str:
    """Consumes a stream and returns its SHA-256, in a third of the time that all digests take."""
    sha256 = hashlib.sha256()
    for chunk in chunks:
        sha256.update(chunk)
    return sha256.hexdigest()


def digest_file(path: Path) -> Digests:
    """The digests of a file."""
    return digest(read_chunks(path))
