"""Records the changes of a customization as an archive: a script, a playbook that runs it, and an overlay folder."""

from __future__ import annotations

import gzip
import io
import os
import posixpath
import tarfile
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ims.images.capture.accounts import added_accounts, removed_accounts
from ims.images.capture.files import MAX_ENTRIES, MOUNTED, TOO_MANY, UNPRINTABLE, Entry, Reader, made_by_programs
from ims.images.capture.owners import Owned, owned_files
from ims.images.capture.package_commands import changed_labels, package_section
from ims.images.capture.script import LeftOut, Section, render
from ims.images.capture.services import service_section
from ims.images.changes import Difference
from ims.images.credentials import known_credentials

ARCHIVE = "capture.tar.gz"
SCRIPT = "customize.sh"
PLAYBOOK = "site.yml"
NOT_CAPTURED = "NOT-CAPTURED.txt"
OVERLAY = "root"
MAX_LEFT_OUT = 10_000
"""How many changes are listed that the script does not repeat."""
_PLAYBOOK = f"- hosts: image\n  gather_facts: false\n  tasks:\n    - ansible.builtin.script: {SCRIPT}\n"
_OVERLAY_KINDS = ("file", "link", "folder")


@dataclass(frozen=True)
class Captured:
    """A script, the files that it writes, and the changes that it does not repeat."""

    script: str
    files: list[Entry] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)

    def notes(self) -> str:
        """The changes that are not repeated, as lines `what: reason`."""
        lines = [f"{what}: {reason}\n" for what, reason in self.left_out[:MAX_LEFT_OUT]]
        if (rest := len(self.left_out) - MAX_LEFT_OUT) > 0:
            lines.append(f"and {rest} more\n")
        return "".join(lines)


def capture(found: Difference, lower: Path, merged: Path, mounted: Collection[str] = ()) -> Captured:
    """The changes that lead from the image root `lower` to `merged`. Scripts cannot write the files in `mounted`."""
    packages = package_section(found, merged)
    owned, owned_before = _owners(found, lower, merged) if packages.commands else ({}, {})
    reader = Reader(merged, owned, {credential.name for credential in known_credentials(merged)}, mounted)
    paths = sorted({path.rstrip("/") for path in (*found.files_added, *found.files_changed)})
    entries, left_out = _divided(item for path in paths for item in reader.read(path))
    removed, kept = _removed(found.files_removed, Removal(lower, merged, owned_before, mounted))
    services, explained = service_section(_new_links(entries), _old_links(lower, removed), lower, merged)
    entries = [entry for entry in entries if entry.path not in explained]
    sections = [
        added_accounts(lower, merged),
        _sources([entry for entry in entries if entry.is_source], lower),
        packages,
        _removal(path for path in removed if path not in explained),
        _written("Files", (entry for entry in entries if not entry.is_source)),
        services,
        removed_accounts(lower, merged),
    ]
    left_out += kept + [item for section in sections for item in section.left_out]
    files = [entry for entry in entries if entry.kind in _OVERLAY_KINDS]
    return Captured(render(sections), files, sorted(dict.fromkeys(left_out)))


def _owners(found: Difference, lower: Path, merged: Path) -> tuple[dict[str, Owned], dict[str, Owned]]:
    """The files of the packages that the image has got, and of those that it had."""
    before, after = changed_labels(found)
    return owned_files(merged, after), owned_files(lower, before)


def _divided(items: Iterable[Entry | LeftOut]) -> tuple[list[Entry], list[LeftOut]]:
    entries: list[Entry] = []
    left_out: list[LeftOut] = []
    for item in items:
        if isinstance(item, Entry):
            entries.append(item)
        else:
            left_out.append(item)
    return entries, left_out


@dataclass(frozen=True)
class Removal:
    """What decides whether the script removes a path: the image before and after, and the files of old packages."""

    lower: Path
    merged: Path
    owned: Collection[str]
    mounted: Collection[str]

    def is_needed(self, path: str) -> bool:
        """Whether the path is gone and was not removed with its package, which may leave configuration files."""
        return not _exists(self.merged, path) and (path not in self.owned or path.startswith("/etc/"))

    def obstacle(self, path: str) -> LeftOut | None:
        """Why the script does not remove the path; None if it can."""
        if not _exists(self.lower, path):
            return LeftOut(path, UNPRINTABLE)
        return LeftOut(path, MOUNTED) if path in self.mounted else made_by_programs(path)


def _removed(paths: Iterable[str], removal: Removal) -> tuple[list[str], list[LeftOut]]:
    """The paths that the script removes, and those that it leaves. A folder stands for everything in it."""
    removed: list[str] = []
    kept: list[LeftOut] = []
    for path in sorted(path.rstrip("/") for path in paths):
        if (obstacle := removal.obstacle(path)) is not None:
            kept.append(obstacle)
        elif removal.is_needed(path) and not (removed and path.startswith(f"{removed[-1]}/")):
            if len(removed) < MAX_ENTRIES:
                removed.append(path)
            else:
                kept.append(LeftOut(path, TOO_MANY))
    return removed, kept


def _exists(root: Path, path: str) -> bool:
    return os.path.lexists(root / path.lstrip("/"))


def _new_links(entries: Iterable[Entry]) -> dict[str, str]:
    return {entry.path: entry.target for entry in entries if entry.kind == "link"}


def _old_links(lower: Path, paths: Iterable[str]) -> dict[str, str]:
    links = ((path, lower / path.lstrip("/")) for path in paths)
    return {path: str(link.readlink()) for path, link in links if link.is_symlink()}


def _removal(paths: Iterable[str]) -> Section:
    section = Section("Removed files")
    for path in paths:
        section.add("rm", "-rf", path)
    return section


def _sources(entries: list[Entry], lower: Path) -> Section:
    """Writes the configuration of package managers. A package that is installed later may bring its folder."""
    section, folders = Section("Package sources"), {entry.path for entry in entries if entry.kind == "folder"}
    for entry in entries:
        folder = posixpath.dirname(entry.path)
        if folder not in folders and not _exists(lower, folder):
            section.add("mkdir", "-p", folder)
            folders.add(folder)
        entry.add_to(section)
    return section


def _written(title: str, entries: Iterable[Entry]) -> Section:
    section = Section(title)
    for entry in entries:
        entry.add_to(section)
    return section


def write_archive(captured: Captured, target: Path) -> None:
    """Write what was captured as a `.tar.gz` file. The same changes give the same bytes."""
    with (
        target.open("wb") as file,
        gzip.GzipFile("", "wb", 6, file, mtime=0) as zipped,
        tarfile.open(fileobj=zipped, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for name, mode, text in (
            (SCRIPT, 0o755, captured.script),
            (PLAYBOOK, 0o644, _PLAYBOOK),
            (NOT_CAPTURED, 0o644, captured.notes()),
        ):
            _add(tar, name, mode, text.encode())
        for member, content in _overlay(captured.files):
            tar.addfile(member, io.BytesIO(content))


def _add(tar: tarfile.TarFile, name: str, mode: int, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.mode, member.size = mode, len(content)
    tar.addfile(member, io.BytesIO(content))


def _overlay(entries: Iterable[Entry]) -> Iterator[tuple[tarfile.TarInfo, bytes]]:
    for entry in entries:
        member = tarfile.TarInfo(f"{OVERLAY}{entry.path}")
        member.mode, member.size = int(entry.mode, 8), len(entry.content)
        if entry.kind == "folder":
            member.type = tarfile.DIRTYPE
        elif entry.kind == "link":
            member.type, member.linkname = tarfile.SYMTYPE, entry.target
            if _leads_out(entry):
                continue  # an archive cannot hold it; the script makes it
        yield member, entry.content


def _leads_out(link: Entry) -> bool:
    """Whether a relative link has so many `..` that it would leave the overlay folder."""
    folder = posixpath.dirname(f"{OVERLAY}{link.path}")
    return posixpath.normpath(posixpath.join(folder, link.target)).split("/")[0] == ".."
