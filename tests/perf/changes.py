"""Measure a customization that changes one file, from `complete` to the registered image, task by task."""

from __future__ import annotations

import re
import statistics
import threading
import time
from bisect import bisect_left
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from ims.settings import settings
from tests.flows import shells
from tests.perf.measure import busy_of, table
from tests.service import Service

ROUNDS = 3
HEAD = ("task", "wall s", "CPU s")
_INTERVAL = 0.1
_SENT = re.compile(r"uploaded \S+: (\d+) bytes(?:, (\d+) of them copied by S3)?")


class Processors:
    """The processor time of an installation at any moment of a measurement."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._moments, self._busy = list[float](), list[float]()

    @contextmanager
    def sampled(self) -> Iterator[None]:
        """Take samples during a block of code."""
        ended = threading.Event()
        thread = threading.Thread(target=self._sample, args=(ended,))
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def between(self, start: float, end: float) -> float:
        """The seconds that its processes were busy."""
        return self._at(end) - self._at(start)

    def _sample(self, ended: threading.Event) -> None:
        while not ended.wait(_INTERVAL):
            self._moments.append(time.time())
            self._busy.append(busy_of(self._home))

    def _at(self, moment: float) -> float:
        return self._busy[min(bisect_left(self._moments, moment), len(self._busy) - 1)]


def changes_table(service: Service, image: dict[str, Any], folder: Path, what: str) -> str:
    """Change one file of an image, several times. Returns the cost of each task, and what was sent to S3."""
    folder.mkdir()
    key = shells.make_key(service, folder)
    _change(service, image, key)  # This caches the rootfs.
    costs, sent = dict[str, list[tuple[float, float]]](), list[tuple[int, int]]()
    for _ in range(ROUNDS):
        processors = Processors(settings().home)
        with processors.sampled():
            job, completed = _change(service, image, key)
        for name, start, end in _spans(job, completed):
            costs.setdefault(name, []).append((end - start, processors.between(start, end)))
        sent.append(_sent(service, job))
    rows = [
        [name, *(f"{statistics.median(each):.1f}" for each in zip(*found, strict=True))]
        for name, found in costs.items()
    ]
    of_all, size = sent[-1]
    rows.append([f"MB sent, of {size / 1e6:.0f}", f"{of_all / 1e6:.1f}", f"{100 * of_all / size:.1f} %"])
    return f"\n### one file changed, {what}, median of {ROUNDS}\n\n" + table(HEAD, rows)


def _change(service: Service, image: dict[str, Any], key: shells.Key) -> tuple[dict[str, Any], float]:
    job = shells.customize(service, image, key, jail=True)
    shells.ssh(job, key, "echo changed > /etc/motd")
    completed = time.time()
    shells.ssh(job, key, "touch /tmp/complete")
    job = service.wait(job["id"])
    assert job["status"] == "success", job["reason"]
    return job, completed


def _spans(job: dict[str, Any], completed: float) -> Iterator[tuple[str, float, float]]:
    """The tasks after the shell, and the time between them."""
    ran = [
        (step["name"], _moment(step["started"]), _moment(step["ended"]))
        for step in job["steps"]
        if step["started"] and step["ended"]
    ]
    registered = next(end for name, _, end in ran if name == "save_image_record")
    yield "from `complete` to the registered image", completed, registered
    last = completed
    for name, start, end in sorted(ran, key=lambda item: item[1]):
        if completed < end <= registered:
            if start > last:
                yield f"before {name}", last, start
            yield name, max(start, completed), end
            last = max(last, end)


def _sent(service: Service, job: dict[str, Any]) -> tuple[int, int]:
    """The bytes that were sent to S3, and those of all artifacts."""
    names = [step["name"] for step in job["steps"] if step["name"].startswith("upload_artifacts")]
    logs = [service.http.get(f"/apis/ims/v3/jobs/{job['id']}/logs/{name}").text for name in names]
    found = [match for log in logs for match in _SENT.finditer(log)]
    size, copied = sum(int(match[1]) for match in found), sum(int(match[2] or 0) for match in found)
    return size - copied, size


def _moment(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
