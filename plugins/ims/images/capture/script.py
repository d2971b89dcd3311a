"""The parts of a shell script. Everything that comes from the image is quoted: its names and its files are not trusted.

The script needs only what every image has: a shell, and the programs of coreutils or busybox.
"""

from __future__ import annotations

import base64
import shlex
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

HEAD = """\
#!/bin/sh
# Repeats the changes that a job made to an image. Run it on the same parent, or on a newer one.
set -eu
umask 022

put() {         # PATH MODE OWNER: give the new file its attributes and its name
    chown "$3" "${1%/*}/.ims-new"
    chmod "$2" "${1%/*}/.ims-new"
    if [ -d "$1" ]; then rm -rf "$1"; fi
    mv -f "${1%/*}/.ims-new" "$1"
}
text() {        # PATH MODE OWNER <CONTENT
    cat >"${1%/*}/.ims-new"
    put "$@"
}
binary() {      # PATH MODE OWNER <BASE64
    base64 -d >"${1%/*}/.ims-new"
    put "$@"
}
folder() {      # PATH MODE OWNER
    if [ ! -d "$1" ] || [ -L "$1" ]; then
        rm -rf "$1"
        mkdir "$1"
    fi
    attributes "$@"
}
link() {        # PATH TARGET OWNER
    rm -rf "$1"
    ln -s -- "$2" "$1"
    chown -h "$3" "$1"
}
attributes() {  # PATH MODE OWNER
    chown "$3" "$1"
    chmod "$2" "$1"
}
is_known() {    # FILE NAME: whether an account exists
    cut -d: -f1 "$1" | grep -qxF -- "$2"
}
"""
_END = "END"


class LeftOut(NamedTuple):
    """A change that the script does not repeat. A path that ends in a slash means everything below it, too."""

    what: str
    reason: str


@dataclass
class Section:
    """A part of the script, and the changes of its kind that it does not repeat."""

    title: str
    commands: list[str] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)

    def add(self, *words: str) -> None:
        """Add a command."""
        self.commands.append(shlex.join(words))

    def leave_out(self, what: str, reason: str) -> None:
        """Note a change that the script does not repeat."""
        self.left_out.append(LeftOut(what, reason))


def render(sections: Iterable[Section]) -> str:
    """The script. Sections without commands are left out."""
    parts = [f"\n# {section.title}\n" + "\n".join(section.commands) + "\n" for section in sections if section.commands]
    return HEAD + "".join(parts)


def file_command(path: str, mode: str, owner: str, content: bytes) -> str:
    """The command that writes a file. Its content is readable if it is plain text, else it is encoded."""
    text = _plain_text(content)
    name, body = ("binary", base64.encodebytes(content).decode()) if text is None else ("text", text)
    end, lines = _END, set(body.split("\n"))
    while end in lines:
        end += "_"
    return f"{shlex.join([name, path, mode, owner])} <<'{end}'\n{body}{end}"


def _plain_text(content: bytes) -> str | None:
    """The content as text, if it consists of whole lines and has nothing that could control a terminal."""
    try:
        text = content.decode()
    except UnicodeDecodeError:
        return None
    is_plain = text.replace("\n", "").replace("\t", "").isprintable()
    return text if is_plain and (not text or text.endswith("\n")) else None
