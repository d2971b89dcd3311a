"""What a kiwi description says: name, repositories, packages. kiwi itself checks it, run as a program."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from lxml import etree

from ims.errors import InputError
from ims.recipes.archive import CONFIG
from ims.recipes.kiwi_log import schema_reason

APT = "apt"
MAX_CONFIG = 16 * 1024 * 1024


@dataclass(frozen=True)
class Repository:
    """A package repository of a recipe."""

    url: str
    metadata_url: str

    @property
    def name(self) -> str:
        """The address without a password, to be shown."""
        return redact(self.url)


@dataclass(frozen=True)
class Description:
    """The parts of `config.xml` that the workflow needs."""

    name: str
    version: str
    package_manager: str
    repositories: tuple[Repository, ...]
    packages: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """The description as JSON can carry it."""
        return asdict(self)


def redact(url: str) -> str:
    """The address without user and password."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def read_description(folder: Path) -> Description:
    """Read `config.xml` with a parser that takes nothing from outside the file.

    Raises InputError: it is not XML, not an image description, or it has a document type, which kiwi does not use.
    """
    path = folder / CONFIG
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False)
    if path.stat().st_size > MAX_CONFIG:
        raise InputError(f"{CONFIG} is larger than {MAX_CONFIG} bytes")
    try:
        tree = etree.parse(path, parser)
    except etree.XMLSyntaxError as error:
        raise InputError(f"{CONFIG} is not XML: {error.msg}") from None
    if tree.docinfo.internalDTD is not None or tree.docinfo.doctype:
        raise InputError(f"{CONFIG} has a document type declaration", "Remove the <!DOCTYPE …>")
    root = tree.getroot()
    if root.tag != "image":
        raise InputError(f"{CONFIG} is not a kiwi description: its root is <{root.tag}>")
    manager = (root.findtext("preferences/packagemanager") or "").strip()
    if not manager:
        raise InputError(f"{CONFIG} names no <packagemanager>", "Add one to <preferences>")
    return Description(
        name=root.get("name", ""),
        version=(root.findtext("preferences/version") or "").strip(),
        package_manager=manager,
        repositories=tuple(_repositories(root, manager)),
        packages=tuple(element.get("name", "") for element in root.iterfind("packages/package")),
    )


def check_description(folder: Path) -> None:
    """Have kiwi check the description against its schema. Raises InputError: what kiwi says of it."""
    kiwi = Path(sys.executable).with_name("kiwi-ng")
    with TemporaryDirectory() as temporary:
        done = subprocess.run(
            [kiwi, "--debug", "--temp-dir", temporary, "image", "info", "--description", folder],
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": temporary, "LANG": "C.UTF-8"},
        )
    if done.returncode != 0:
        raise InputError(f"kiwi-ng does not accept {CONFIG}: {schema_reason(done.stdout + done.stderr)}")


def _repositories(root: etree._Element, manager: str) -> list[Repository]:
    """The repositories that are reached over the network and can be asked for."""
    found = []
    for repository in root.iterfind("repository"):
        source = repository.find("source")
        url = (source.get("path", "") if source is not None else "").strip()
        if urlsplit(url).scheme not in ("http", "https"):
            continue
        found.append(Repository(url, _metadata_url(url.rstrip("/"), manager, repository.get("distribution"))))
    return found


def _metadata_url(url: str, manager: str, distribution: str | None) -> str:
    """What a repository must answer before it can be used: the index that its package manager reads first."""
    if manager != APT:
        parts = urlsplit(url)
        return urlunsplit(parts._replace(path=f"{parts.path}/repodata/repomd.xml", fragment=""))
    return f"{url}/dists/{distribution}/InRelease" if distribution else f"{url}/Release"
