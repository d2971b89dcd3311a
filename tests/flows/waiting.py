"""Waits for conditions of jobs, pods and pages."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any


def wait_for(condition: Callable[[], Any], timeout: float = 120, pause: float = 0.2) -> Any:
    """Call `condition` every `pause` seconds until its result is true; returns the result. Raises TimeoutError."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(pause)
    raise TimeoutError
