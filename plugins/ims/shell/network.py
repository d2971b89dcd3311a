"""The network of sessions."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from itertools import islice
from pathlib import Path

from ims.errors import InputError
from ims.images.root import read_inside, resolve_inside
from ims.network.policy import JOB_HINT, Access, endpoint_of
from ims.network.site import policy_of
from ims.sandbox.nat import provide_nat
from ims.sandbox.network import SandboxNetwork, provide
from ims.shell import paths

_SOURCES = "etc/apt/sources.list"
_SOURCE_FOLDERS = ("etc/apt/sources.list.d", "etc/zypp/repos.d", "etc/yum.repos.d")
MAX_FILES = 200
MAX_BYTES = 64 * 1024
MAX_URLS = 300
_URL = re.compile(r"https?://[^\s\"',;\]]+")


@contextmanager
def session_network(access: Access, root: Path) -> Iterator[SandboxNetwork]:
    """Provide the network of all sessions of a step in the image root `root`.

    Sessions get its name resolution. With `repositories`, they reach the package sources that the image configures.
    Must be called after `host_mounts.prepare`, and before `sessions.open_sessions`.
    Raises ConfigurationError if this machine cannot provide it.
    """
    urls = package_sources(root) if access == "repositories" else []
    policy = replace(policy_of(access, urls), hint=JOB_HINT)
    with (provide_nat if access == "open" else provide)(policy) as network:
        host = paths.RESOLV_CONF.read_text(errors="replace").splitlines(keepends=True)
        search = [line for line in host if line.startswith("search ")]
        paths.RESOLV_CONF.write_text("".join([network.resolv_conf, *search]))
        yield network


def package_sources(root: Path) -> list[str]:
    """The addresses of the package sources of an image. Others than http and https are left out."""
    texts = (read_inside(root, name, MAX_BYTES) or "" for name in islice(_source_files(root), MAX_FILES))
    urls = (match.group() for text in texts for match in _URL.finditer(text))
    return list(islice(filter(_is_valid, urls), MAX_URLS))


def _source_files(root: Path) -> Iterator[str]:
    yield _SOURCES
    for folder in _SOURCE_FOLDERS:
        path = resolve_inside(root, folder)
        if path is not None and path.is_dir():
            yield from (f"{folder}/{entry.name}" for entry in path.iterdir())


def _is_valid(url: str) -> bool:
    with suppress(InputError):
        endpoint_of(url)
        return True
    return False
