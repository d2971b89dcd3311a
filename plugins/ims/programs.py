"""Running programs whose output is logged while they run."""

from __future__ import annotations

import collections
import logging
import os
import subprocess
import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from ims.errors import PermanentError
from ims.masking import masked
from ims.recipes import kiwi_log

log = logging.getLogger(__name__)

KEPT_LINES = 4000
"""How many of its last lines `run_logged` returns."""
MAX_OUTPUT = 256 * 1024 * 1024
"""Characters that a program may print. A long build prints ten million."""
LINE_LENGTH = 65536
"""Characters. Longer lines of a program are split, so that no program fills the memory."""


def run_logged(
    command: Iterable[str | Path],
    environment: Mapping[str, str],
    *,
    copy: Path | None = None,
    parse: Callable[[str], tuple[int, str]] = lambda line: (logging.INFO, line),
    seconds: float | None = None,
    descriptors: Iterable[int] = (),
    kill: Callable[[], None] | None = None,
    limit: Callable[[Callable[[], None]], AbstractContextManager[None]] = lambda _kill: nullcontext(),
) -> tuple[int, collections.deque[str]]:
    """Run a program and log each line of its output; returns its exit code and its last lines.

    All lines are also appended to the file `copy`. `parse` returns the level and the text with which a line is logged.
    Secrets are masked. After `seconds` the program is killed, and its exit code is negative; `kill` also ends the
    processes that it started, which may keep the output open. The program inherits `descriptors`. It runs in a context
    that `limit` makes, which may kill it, too. Raises PermanentError if it prints more than MAX_OUTPUT characters.
    """
    last: collections.deque[str] = collections.deque(maxlen=KEPT_LINES)
    arguments = [str(part) for part in command]
    with (
        subprocess.Popen(
            arguments,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            pass_fds=tuple(descriptors),
        ) as process,
        (copy or Path(os.devnull)).open("a") as file,
        limit(kill or process.kill),
    ):
        assert process.stdout is not None
        timer = threading.Timer(seconds, kill or process.kill) if seconds is not None else None
        if timer is not None:
            timer.daemon = True
            timer.start()
        size = 0
        while raw := process.stdout.readline(LINE_LENGTH):
            if (size := size + len(raw)) > MAX_OUTPUT:
                (kill or process.kill)()
                raise PermanentError(f"{arguments[0]} printed more than {MAX_OUTPUT} characters", "See the log")
            for line in map(masked, kiwi_log.clean(raw)):
                level, text = parse(line)
                log.log(level, "%s", text)
                file.write(line + "\n")
                last.append(line)
        code = process.wait()
        if timer is not None:
            timer.cancel()
    return code, last
