"""Finds secrets in an image root before the image is registered: whoever may read an image may read all its files."""

from __future__ import annotations

import hashlib
import mmap
import os
import re
import shutil
import stat
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ims.images.root import printable, resolve_inside
from ims.images.tree import walk

HOST_KEY = "a private host key of SSH"
MAX_TEXT = 1024 * 1024
"""Bytes. A longer list of repositories is not read."""
_MACHINE_ID = re.compile(rb"[0-9a-f]{32}\s*")
_LOGIN = re.compile(rb"(?<=://)[^/@\s\"'<>\]]+@")
# The logins in the files of dnf: `username=`, `password = `.
_FIELD = re.compile(rb"^(username|password|proxy_username|proxy_password)[ \t]*=.*\n?", re.MULTILINE)


@dataclass(frozen=True)
class Credential:
    """A file of an image root with a secret. `name` is its path in the image, `remove` takes the secret out of it."""

    path: Path
    name: str
    kind: str
    remove: Callable[[], None]

    def __str__(self) -> str:
        return f"{self.name} ({self.kind})"


@dataclass(frozen=True)
class _Place:
    """Files of a folder whose names match a pattern. `edit` returns the content without secrets; None removes them."""

    folder: str
    names: str
    kind: str
    edit: Callable[[bytes], bytes] | None = None


def _without_id(text: bytes) -> bytes:
    """An empty machine-id: systemd writes a new one when a node boots."""
    return b"" if _MACHINE_ID.fullmatch(text) else text


def _without_logins(text: bytes) -> bytes:
    return _FIELD.sub(b"", _LOGIN.sub(b"", text))


_PLACES = (
    _Place("etc/ssh", r"ssh_host_.*key", HOST_KEY),
    _Place("etc", "machine-id", "the id of a machine", _without_id),
    _Place("var/lib/dbus", "machine-id", "the id of a machine"),
    _Place("etc/apt", r"auth\.conf", "a login of apt"),
    _Place("etc/apt/auth.conf.d", ".*", "a login of apt"),
    _Place("etc/zypp", r"credentials\.cat", "a login of zypper"),
    _Place("etc/zypp/credentials.d", ".*", "a login of zypper"),
    _Place("etc/apt", r"sources\.list", "the login of a repository", _without_logins),
    _Place("etc/apt/sources.list.d", ".*", "the login of a repository", _without_logins),
    _Place("etc/yum.repos.d", ".*", "the login of a repository", _without_logins),
    _Place("etc/zypp/repos.d", ".*", "the login of a repository", _without_logins),
    _Place("etc/zypp/services.d", ".*", "the login of a repository", _without_logins),
)
_HOME_PLACES = (
    _Place("", r"\.[a-z0-9]*_?history", "the history of a shell"),
    _Place("", r"\.netrc|\.git-credentials|\.pypirc", "a login"),
    _Place(".aws", "credentials", "a login of a cloud"),
    _Place(".aws/sso/cache", ".*", "a login of a cloud"),
    _Place(".aws/cli/cache", ".*", "a login of a cloud"),
    _Place(".azure", r".*token.*|.*cred.*|service_principal_entries\..*", "a login of a cloud"),
    _Place(".config/gcloud", r".*\.(db|json)", "a login of a cloud"),
    _Place(".docker", r"config\.json", "a login of a registry"),
    _Place(".config/containers", r"auth\.json", "a login of a registry"),
    _Place(".kube", "config", "a login of a cluster"),
)
# Images may have these on purpose. But if a job removes one, it must not stay in the bytes of the image.
_KEY_PLACES = (
    _Place("etc", r"krb5\.keytab", "a keytab of Kerberos"),
    _Place("etc/munge", r".*\.key", "a key of munge"),
    _Place("etc/pki/tls/private", ".*", "a private key of TLS"),
    _Place("etc/slurm", r".*\.key|slurmdbd\.conf", "a secret of Slurm"),
    _Place("etc/ssl/private", ".*", "a private key of TLS"),
    _Place("etc/wireguard", r".*\.(conf|key)", "a private key of WireGuard"),
)
_HOME_KEY_PLACES = (_Place(".ssh", r"id_.*(?<!\.pub)", "a private key of SSH"),)
_PASSWORDS = ("etc/shadow", "etc/shadow-", "etc/gshadow", "etc/gshadow-")
_HASH = re.compile(rb"^[^:\n]+:!*([^:!*\n][^:\n]*):", re.MULTILINE)


def known_credentials(root: Path) -> list[Credential]:
    """The files of an image root in which programs keep secrets, sorted by name."""
    return _find(root, _PLACES, _HOME_PLACES)


def private_keys(root: Path) -> list[Credential]:
    """The files of an image root with keys that an image may contain on purpose, sorted by name."""
    return _find(root, _KEY_PLACES, _HOME_KEY_PLACES)


def password_hashes(root: Path) -> dict[bytes, str]:
    """The hashes of passwords in an image root, with the path of a file that contains them.

    Of a file that is too large for a search, the SHA-256 takes their place.
    """
    found = dict[bytes, str]()
    for name in _PASSWORDS:
        path = resolve_inside(root, name)
        if path is not None and path.is_file():
            found |= dict.fromkeys(_hashes(path), f"/{name}")
    return found


def _hashes(path: Path) -> list[bytes]:
    if path.stat().st_size > MAX_TEXT:
        with path.open("rb") as file:
            return [hashlib.file_digest(file, "sha256").digest()]
    return _HASH.findall(path.read_bytes())


def files_with(root: Path, texts: Collection[bytes], excluded: Collection[str]) -> Iterator[str]:
    """The names of the regular files that contain one of the texts. Top-level files in `excluded` are not read."""
    for path in walk(root, excluded, volatile=False):
        if stat.S_ISREG(path.lstat().st_mode) and _contains(path, texts):
            yield _name(root, path)


def _find(root: Path, places: Iterable[_Place], home_places: Collection[_Place]) -> list[Credential]:
    homes = ["root", *(f"home/{path.name}" for path in _entries(root, "home"))]
    everywhere = [*places, *(_below(home, place) for home in homes for place in home_places)]
    return sorted((item for place in everywhere for item in _in_place(root, place)), key=lambda item: item.name)


def _below(home: str, place: _Place) -> _Place:
    return _Place(f"{home}/{place.folder}".rstrip("/"), place.names, place.kind, place.edit)


def _in_place(root: Path, place: _Place) -> Iterator[Credential]:
    for path in _entries(root, place.folder):
        if re.fullmatch(place.names, path.name) and stat.S_ISREG(path.lstat().st_mode) and _is_secret(path, place):
            yield Credential(path, _name(root, path), place.kind, partial(_take_out, path, place))


def _entries(root: Path, folder: str) -> Iterable[Path]:
    """What is in a folder of an image, whose links lead to paths inside the image."""
    found = resolve_inside(root, folder)
    return sorted(found.iterdir()) if found is not None and found.is_dir() else ()


def _is_secret(path: Path, place: _Place) -> bool:
    size = path.stat().st_size
    if place.edit is None:
        return size > 0
    return size <= MAX_TEXT and place.edit(content := path.read_bytes()) != content


def _take_out(path: Path, place: _Place) -> None:
    """Remove a file, or the secret in it. Times stay as they are, so that equal builds give equal bytes."""
    folder, times = path.parent, path.parent.stat()
    if place.edit is None:
        path.unlink()
    else:
        # Not in place: other files may be hard links to it.
        new = path.with_name(f"{path.name}.ims-new")
        new.unlink(missing_ok=True)
        new.write_bytes(place.edit(path.read_bytes()))
        shutil.copystat(path, new)
        os.chown(new, path.stat().st_uid, path.stat().st_gid)
        new.chmod(stat.S_IMODE(path.stat().st_mode))
        new.replace(path)
    os.utime(folder, ns=(times.st_atime_ns, times.st_mtime_ns))


def _contains(path: Path, texts: Collection[bytes]) -> bool:
    with path.open("rb") as file:
        if os.fstat(file.fileno()).st_size == 0:
            return False
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return any(content.find(text) >= 0 for text in texts)


def _name(root: Path, path: Path) -> str:
    return f"/{printable(str(path.relative_to(root)))}"
