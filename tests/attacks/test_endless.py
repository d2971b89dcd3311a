"""Scripts that never end, on the whole stack: the limits of tasks end them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from ims import supervisord
from ims.stack import supervision
from tests.flows.leftovers import Leftovers
from tests.flows.shells import Key, customize
from tests.flows.waiting import wait_for
from tests.service import Service

ENDLESS = """\
#!/bin/sh
trap '' TERM INT HUP
setsid sh -c 'trap "" TERM; while :; do sleep {mark}; done' &
while :; do sleep {mark}; done
"""
SCRIPTS = "/api/v2/pools/scripts"
LIMIT = 40
"""Seconds that a script may run in the test of the limit."""


def new_mark() -> str:
    """How many seconds the programs of a test sleep, a number that no other test uses."""
    return str(10**8 + uuid4().int % 10**8)


def sleeping(mark: str) -> list[str]:
    """The programs of a test that run."""
    commands = (_read(path) for path in Path("/proc").glob("[0-9]*/cmdline"))
    return [command for command in commands if command == f"sleep {mark} "]


def _read(path: Path) -> str:
    try:
        return path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:  # it has just gone
        return ""


def start_script(service: Service, image: dict[str, Any], script: str) -> dict[str, Any]:
    """Start a job that runs a script in an image; returns the job."""
    fields = {"artifact_id": image["id"], "public_key_id": service.public_key(), "image_root_archive_name": "endless"}
    return dict(service.client.create("jobs", job_type="customize", script=script, **fields))


@contextmanager
def scheduler_with(service: Service, setting: str, value: str) -> Iterator[None]:
    """Restart only the scheduler, whose tasks read the limits, with a setting; at the end without it."""
    path = supervision.write_configuration(service.settings)
    head = "[program:scheduler]\n"
    text = path.read_text()
    assert head in text
    path.write_text(text.replace(head, f"{head}environment={setting}='{value}'\n"))
    try:
        restart(service)
        yield
    finally:
        supervision.write_configuration(service.settings)
        restart(service)


def restart(service: Service) -> None:
    """Let supervisord read its configuration, and start the scheduler with it."""
    supervisord.update(service.settings, "scheduler")
    supervisord.start_all(service.settings)
    wait_for(lambda: supervisord.states(service.settings)["scheduler"] == "RUNNING")


def test_step_seconds(service: Service, small: dict[str, Any], leftovers: Leftovers) -> None:
    """A script whose job would allow it a day is ended after IMS_STEP_SECONDS with all its processes.

    It ignores signals and has a process in a session of its own. The job is not tried again, and leaves nothing.
    """
    mark = new_mark()
    with scheduler_with(service, "IMS_STEP_SECONDS", f'{{"run_script": {LIMIT}}}'):
        job = start_script(service, small, ENDLESS.format(mark=mark))
        wait_for(lambda: len(sleeping(mark)) == 2)
        ended = service.wait(job["id"])
        assert (ended["status"], ended["failed_step"]) == ("error", "run_script")
        assert ended["reason"] == (
            f"run_script: it took longer than its limit of {LIMIT} s and was ended. "
            "IMS_STEP_SECONDS sets the limits of tasks"
        )
        assert next(step for step in ended["steps"] if step["name"] == "run_script")["try_number"] == 1
        assert sleeping(mark) == []
        leftovers.assert_none(job["id"])


@contextmanager
def one_slot_for_scripts(service: Service) -> Iterator[None]:
    """Only one script can run at a time."""
    slots = service.http.get(SCRIPTS).json()["slots"]
    try:
        set_slots(service, 1)
        yield
    finally:
        set_slots(service, slots)


def set_slots(service: Service, slots: int) -> None:
    """Change how many scripts can run at the same time."""
    fields = {"pool": "scripts", "slots": slots, "include_deferred": False}
    answer = service.http.patch(SCRIPTS, params={"update_mask": "slots"}, json=fields)
    assert answer.status_code == 200, answer.text


def test_all_slots_of_scripts_are_in_use(service: Service, small: dict[str, Any], key: Key) -> None:
    """A shell opens, ends and becomes an image while a script that never ends occupies the only slot of scripts."""
    mark = new_mark()
    with one_slot_for_scripts(service):
        script = start_script(service, small, ENDLESS.format(mark=mark))
        try:
            wait_for(lambda: len(sleeping(mark)) == 2)
            shell = customize(service, small, key, jail=True)
            assert shell["status"] == "waiting_on_user", shell["reason"]
            service.client.create(f"jobs/{shell['id']}/shell", operation="complete")
            ended = service.wait(shell["id"], timeout=120)
            assert ended["status"] == "success", ended["reason"]
            states = {step["name"]: (step["state"], step["try_number"]) for step in ended["steps"]}
            assert states["run_script"] == ("skipped", 0)
            assert len(sleeping(mark)) == 2
        finally:
            service.client.delete(f"jobs/{script['id']}")
            service.wait(script["id"])
    assert sleeping(mark) == []
