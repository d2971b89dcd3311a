"""Waiting for what a job, a pod or a page comes to."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any


def wait_for(condition: Callable[[], Any], timeout: float = 120, pause: float = 0.2) -> Any:
    """What `condition` gives as soon as that is true; between two looks there is a `pause` in seconds."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(pause)
    raise TimeoutError
