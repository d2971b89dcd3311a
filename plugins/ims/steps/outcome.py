"""What a step in a pod returns to its task: the last message of its container. Kubernetes keeps 4096 bytes of it.

The message is the outcome as JSON, compressed if it is longer. If this is still too long, the last lines of the log
contain the outcome, and the message has their number and digest, so that no other lines can replace them.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ims.errors import PermanentError, UnavailableError

MAX_MESSAGE = 4096
MAX_OUTCOME = 4 * 1024 * 1024
MARK = "ims-outcome: "
"""The prefix of the lines with parts of an outcome."""
PART = 8000
"""Characters of an outcome in a line. Container runtimes split lines of more than 16 KiB."""
OTHER_LINES = 20
"""The most lines that follow the outcome in the log."""

ReadLog = Callable[[int], str]
"""Returns so many of the last lines of a log."""


class _Message(BaseModel):
    model_config = ConfigDict(strict=True)

    packed: str | None = None
    parts: int = Field(default=0, ge=0, le=MAX_OUTCOME // PART)
    sha256: str = ""


def write(outcome: Mapping[str, Any], file: Path) -> None:
    """Write the message to a file, and an outcome that is too long for it to standard output.

    Raises PermanentError if the outcome is too large.
    """
    message = json.dumps(outcome)
    if len(message) > MAX_OUTCOME:
        raise PermanentError(f"the result of the step has {len(message)} bytes, more than {MAX_OUTCOME}")
    if len(message) > MAX_MESSAGE:
        message = _shortened(base64.b64encode(zlib.compress(message.encode())).decode())
    file.write_text(message)


def _shortened(packed: str) -> str:
    message = json.dumps({"packed": packed})
    if len(message) <= MAX_MESSAGE:
        return message
    parts = [packed[start : start + PART] for start in range(0, len(packed), PART)]
    print(*(MARK + part for part in parts), sep="\n", flush=True)
    return json.dumps({"parts": len(parts), "sha256": _digest(packed)})


def read(message: str, read_log: ReadLog) -> dict[str, Any]:
    """Returns the outcome that a message describes; empty if the message is invalid.

    Raises UnavailableError if the log lacks a part, PermanentError if the outcome is too large.
    """
    try:
        found = _Message.model_validate_json(message)
        packed = found.packed if not found.parts else _collect(found, read_log(found.parts + OTHER_LINES))
        outcome = json.loads(message if packed is None else _unpack(packed))
    except (ValidationError, ValueError, binascii.Error, zlib.error):
        return {}
    return outcome if isinstance(outcome, dict) else {}


def _collect(found: _Message, log: str) -> str:
    lines = [line.removeprefix(MARK) for line in log.splitlines() if line.startswith(MARK)]
    packed = "".join(lines[-found.parts :])
    if _digest(packed) != found.sha256:
        hint = "The node may have rotated the log: increase containerLogMaxSize of its kubelet"
        raise UnavailableError("the log of the pod lacks the result of the step", hint)
    return packed


def _unpack(packed: str) -> bytes:
    reader = zlib.decompressobj()
    outcome = reader.decompress(base64.b64decode(packed, validate=True), MAX_OUTCOME)
    if reader.unconsumed_tail or not reader.eof:
        raise PermanentError(f"the result of the step has more than {MAX_OUTCOME} bytes")
    return outcome


def _digest(packed: str) -> str:
    return hashlib.sha256(packed.encode()).hexdigest()
