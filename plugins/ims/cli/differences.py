"""The differences between two images, as rows of a table."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

Row = dict[str, str | None]
_KINDS = ("added", "removed", "changed")


def difference_rows(found: dict[str, Any]) -> Iterator[Row]:
    """Yield a row for each package, each file and the rootfs, or one that says what is unknown about the images."""
    yield from _packages(found["packages"])
    yield from _files(found["files"])
    if (rootfs := found["rootfs"]) is not None:
        yield _row("size", "rootfs", rootfs["before"], rootfs["after"])


def _packages(found: dict[str, Any] | None) -> Iterator[Row]:
    if found is None:
        yield _row("packages", "not known for both images")
        return
    for kind in _KINDS:
        for package in found[kind]:
            name = f"{package['name']} ({package['arch']})"
            yield _row(f"package {kind}", name, package["before"], package["after"])


def _files(found: dict[str, Any] | None) -> Iterator[Row]:
    if found is None:
        yield _row("files", "not known for both images")
        return
    for kind in _KINDS:
        for file in found[kind]["first"]:
            yield _row(f"file {kind}", file["path"], file["before"], file["after"])
        rest = found[kind]["count"] - len(found[kind]["first"])
        if rest:
            yield _row(f"file {kind}", f"and {rest} more")
    for folder in found["grown"]:
        yield _row(
            "folder grown" if folder["size"] > 0 else "folder shrunk", folder["path"], after=f"{folder['size']:+}"
        )


def _row(what: str, name: str, before: Any = None, after: Any = None) -> Row:
    shown = {"before": before, "after": after}
    return {"what": what, "name": name, **{key: None if value is None else str(value) for key, value in shown.items()}}
