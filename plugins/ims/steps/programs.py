"""Programs whose output is worth reading while they run."""

from __future__ import annotations

import collections
import logging
import os
import subprocess
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path

from ims.recipes import kiwi_log

log = logging.getLogger(__name__)

KEPT_LINES = 4000


def run_logged(
    command: Iterable[str | Path],
    environment: Mapping[str, str],
    *,
    copy: Path | None = None,
    seconds: float | None = None,
    descriptors: Iterable[int] = (),
) -> tuple[int, collections.deque[str]]:
    """Run a program, its output line by line to the log and to the end of `copy`; returns exit code and last lines.

    After `seconds` it is killed, and the exit code is negative. It inherits `descriptors`.
    """
    last: collections.deque[str] = collections.deque(maxlen=KEPT_LINES)
    with (
        subprocess.Popen(
            list(command),
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            pass_fds=tuple(descriptors),
        ) as process,
        (copy or Path(os.devnull)).open("a") as file,
    ):
        assert process.stdout is not None
        limit = threading.Timer(seconds, process.kill) if seconds is not None else None
        if limit is not None:
            limit.daemon = True
            limit.start()
        for raw in process.stdout:
            for line in kiwi_log.clean(raw):
                log.info("%s", line)
                file.write(line + "\n")
                last.append(line)
        code = process.wait()
        if limit is not None:
            limit.cancel()
    return code, last
