"""Files that systems and editors leave in folders. They are not part of a recipe."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import PurePath

PATTERNS = (
    *("._*", ".DS_Store", "__MACOSX"),  # macOS; tar adds AppleDouble files
    *("Thumbs.db", "desktop.ini"),  # Windows
    *("*~", "#*#", ".#*", ".*.sw[opx]"),  # Emacs and Vim
)
_SHOWN = 20


def is_litter(path: PurePath) -> bool:
    """Whether a file or one of its folders has the name of such a file."""
    return any(fnmatchcase(part, pattern) for part in path.parts for pattern in PATTERNS)


def listed(names: Sequence[str]) -> str:
    """The first names, for messages. Names that are not UTF-8 are escaped."""
    shown = [name.encode(errors="backslashreplace").decode() for name in sorted(names)[:_SHOWN]]
    more = [f"and {len(names) - _SHOWN} more"] if len(names) > _SHOWN else []
    return ", ".join([*(name if name.isprintable() else repr(name) for name in shown), *more])
