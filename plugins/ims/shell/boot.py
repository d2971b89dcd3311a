"""Files in /boot that a job needs: sessions hear about missing ones while these can still be made."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence

from ims.files import write_atomically
from ims.shell import paths, sessions

# In a shell that is not jailed, an absolute link of the image leads elsewhere, so a link counts as a file.
_FIND = """\
boot=${{IMS_IMAGE_ROOT%/}}/boot
{skip}
for name in {names}; do
    [ -f "$boot/$name" ] {or_link} || echo "$name"
done
{after}
"""
_SKIP = '[ -d "$boot" ] || [ ! -L "$boot" ] || exit 0'
_OR_LINK = '|| [ -L "$boot/$name" ]'
_REOPEN = 'rm -f "$IMS_MARKERS/complete"'


def missing(names: Sequence[str], *, jail: bool, reopen: bool = False) -> list[str]:
    """Look for files in the image's /boot in a session; returns the names of those that are missing.

    With `reopen`, also remove the marker `complete`. The image's own shell looks, and its user may have changed it:
    returns an empty list if it fails, and the step that packs the image looks again.
    """
    skip, or_link = ("", "") if jail else (_SKIP, _OR_LINK)
    quoted = " ".join(map(shlex.quote, names))
    command = _FIND.format(names=quoted, skip=skip, or_link=or_link, after=_REOPEN if reopen else "")
    code, output = sessions.ask(command)
    found = set(output.splitlines()) if code == 0 else set()
    return [name for name in names if os.fsencode(name) in found]


def tell(absent: Sequence[str]) -> None:
    """Show a warning to sessions that open from now on, or none if nothing is absent."""
    notice = paths.INSTALLED_TOOLS / paths.NOTICE.name
    write_atomically(notice, f"{warning(absent)}\n" if absent else "")


def warning(absent: Sequence[str]) -> str:
    """A sentence that names the missing files."""
    files = ", ".join(f"/boot/{name}" for name in absent)
    return f"The image has no {files}. The job needs them: make these files or links to them before you finish."
