"""Hides secrets in what a step prints: its log, the logs of its programs, and its errors.

A step knows the secrets of its job from a file that `fetch_recipe` writes; see `ims.recipes.secrets`.
"""

from __future__ import annotations

import base64
import json
import os
import stat
import threading
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import quote, quote_plus

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ims.errors import InputError
from ims.files import write_private

MASK = "***"
MIN_LENGTH = 5
"""Characters. A shorter secret is not hidden: it would hide parts of ordinary words, too."""
MAX_FILE = 4 * 1024 * 1024


class Secrets(BaseModel):
    """The secrets of a job. `users` are the names in logins: they are hidden, but may occur in an image."""

    model_config = ConfigDict(extra="forbid")

    passwords: list[str] = Field(default_factory=list)
    users: list[str] = Field(default_factory=list)

    def hide(self) -> None:
        """Make `masked` hide them from now on, in this process."""
        hide([*self.passwords, *self.users])


_hidden: list[str] = []
_lock = threading.Lock()


def hide(secrets: Iterable[str]) -> None:
    """Make `masked` hide these secrets from now on, in this process."""
    parts = {part for secret in secrets for part in (secret, *secret.splitlines())}  # a log has single lines
    forms = {form for part in parts if len(part) >= MIN_LENGTH for form in spellings(part)}
    with _lock:
        _hidden[:] = sorted({*_hidden, *forms}, key=len, reverse=True)


def masked(text: str) -> str:
    """The text without the secrets of this process."""
    for form in tuple(_hidden):
        text = text.replace(form, MASK)
    return text


def spellings(secret: str) -> set[str]:
    """A secret as programs write it: as it is, in a URL, in JSON, in XML, and in base64, alone or in more text."""
    quoted = {quote(secret, safe=""), quote(secret), quote_plus(secret), json.dumps(secret)[1:-1]}
    quoted |= {form.replace("%2F", "%2f") for form in quoted}
    escaped = secret.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    encoded = {text for offset in range(3) if len(text := _base64(secret.encode(), offset)) >= MIN_LENGTH}
    attribute = escaped.replace('"', "&#34;").replace("'", "&#39;")  # as the filter `e` of a template writes it
    return {secret, *quoted, escaped, escaped.replace('"', "&quot;"), attribute, *encoded}


def _base64(secret: bytes, offset: int) -> str:
    """The characters that a secret has in every base64 text in which it starts after 3n + `offset` bytes."""
    text = base64.b64encode(bytes(offset) + secret).decode().rstrip("=")
    start = (offset * 8 + 5) // 6
    return text[start : (offset + len(secret)) * 8 // 6]


def save(path: Path, secrets: Secrets) -> None:
    """Write secrets to a file that only its owner can read."""
    path.parent.mkdir(exist_ok=True)
    write_private(path, secrets.model_dump_json())


def load(path: Path) -> Secrets:
    """The secrets in a file that `save` wrote; none if there is no file. Raises InputError if it is something else."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return Secrets()
    except OSError as error:
        raise _damaged(path) from error
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise _damaged(path)
        with open(descriptor, "rb", closefd=False) as file:
            data = file.read(MAX_FILE)
        return Secrets.model_validate_json(data)
    except ValidationError:
        raise _damaged(path) from None
    finally:
        os.close(descriptor)


def _damaged(path: Path) -> InputError:
    return InputError(f"{path} does not list the secrets of the job: a script of the recipe changed it", "Start again")
