"""Writing files atomically: a reader sees the old content or the new content, but never a part of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path next to `path`, and rename it to `path` at the end, unless an error is raised."""
    partial = path.with_name(f"{path.name}.partial")
    partial.unlink(missing_ok=True)
    yield partial
    partial.replace(path)


def write_atomically(path: Path, text: str, mode: int | None = None) -> None:
    """Write `text` to `path` in one step, with the permissions `mode` if given."""
    with replacing(path) as partial:
        if mode is not None:
            partial.touch(mode=mode)
        partial.write_text(text)


def write_private(path: Path, text: str) -> None:
    """Write `text` to `path` in one step, readable only by its owner."""
    write_atomically(path, text, mode=0o600)
