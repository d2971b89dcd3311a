"""Recipes that cannot become images: each job ends with a reason that names the fault, and leaves nothing."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.flows.conftest import RECIPES
from tests.flows.leftovers import Leftovers
from tests.flows.rpm_repository import RepositoryServer
from tests.service import Service

CONFIG = (RECIPES / "zypper" / "config.xml").read_text()
TEMPLATES = (RECIPES / "zypper" / ".ims_recipe_template.yaml").read_text()

Members = dict[str, str]


def tar(members: Members, *extra: tarfile.TarInfo) -> bytes:
    """Return a gzip tar archive of text files and other members."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as archive:
        for name, text in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(text.encode())
            archive.addfile(info, io.BytesIO(text.encode()))
        for info in extra:
            archive.addfile(info)
    return data.getvalue()


def recipe(**changes: str) -> Members:
    """Return the zypper recipe of the tests with parts of its description replaced."""
    config = CONFIG
    for old, new in changes.items():
        config = config.replace({"package": '"busybox"', "url": "{{ REPOSITORY }}", "version": "<version>"}[old], new)
    return {"config.xml": config, ".ims_recipe_template.yaml": TEMPLATES}


def link(name: str, target: str) -> tarfile.TarInfo:
    """Return a symbolic link as a member of an archive."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname = tarfile.SYMTYPE, target
    return info


def bomb() -> bytes:
    """Return a small archive whose header declares a file of 2 GiB."""
    import gzip

    info = tarfile.TarInfo("zeros")
    info.size = 2 * 1024**3
    return gzip.compress(info.tobuf() + bytes(1024 * 1024))


@dataclass(frozen=True)
class Case:
    """A recipe that cannot be built, the step that fails, and a part of the reason."""

    archive: Callable[[], bytes]
    step: str
    reason: str
    variables: bool = True
    metadata: tuple[tuple[str, str], ...] = ()
    fields: tuple[tuple[str, Any], ...] = ()


CASES = {
    "not a tar": Case(
        lambda: b"this is no archive",
        "fetch_recipe",
        "is not a gzip tar archive",
        fields=(("enable_debug", True),),  # there is nothing that a debug shell could show
    ),
    "no config.xml": Case(
        lambda: tar({"image/config.xml": CONFIG}), "fetch_recipe", "no config.xml at its root, but image/config.xml"
    ),
    "schema": Case(
        lambda: tar(recipe(version="<flavour>x</flavour><version>")), "fetch_recipe", 'element "flavour" not allowed'
    ),
    "path with ..": Case(lambda: tar({"../outside": "x", **recipe()}), "fetch_recipe", "outside"),
    "absolute link": Case(lambda: tar(recipe(), link("shadow", "/etc/shadow")), "fetch_recipe", "shadow"),
    "too large": Case(bomb, "fetch_recipe", "unpacks to more than"),
    "no dictionary": Case(lambda: tar(recipe()), "fetch_recipe", "has no template_dictionary", variables=False),
    "checksum": Case(lambda: tar(recipe()), "fetch_recipe", "is damaged: its md5", metadata=(("md5sum", "0" * 32),)),
    "unknown package": Case(
        lambda: tar(recipe(package='"no-such-thing"')), "resolve_packages", "no repository has a package no-such-thing"
    ),
    "dead repository": Case(
        lambda: tar(recipe(url="http://127.0.0.1:9/gone")),
        "wait_for_repositories",
        "http://127.0.0.1:9/gone",
        # With less, Airflow may end the task before the end of the wait on a busy machine.
        fields=(("repository_timeout", 15),),
    ),
    "missing kernel": Case(
        lambda: tar(recipe()),
        "package_artifacts",
        "the image has no /boot/bzImage; /boot has",
        fields=(("kernel_file_name", "bzImage"),),
    ),
}


@pytest.fixture(scope="module")
def bad_jobs(
    service: Service, repository: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, tuple[dict[str, Any], Leftovers]]:
    """The jobs of all cases, run at the same time, with the state before the first of them."""
    before = Leftovers(service)
    with RepositoryServer(repository) as server:
        started = {}
        for name, case in CASES.items():
            path = service.upload_recipe(case.archive())
            if case.metadata:
                spoil(service, path, dict(case.metadata))
            variables = {"REPOSITORY": server.url} if case.variables else {}
            record = service.register(path, **variables)
            started[name] = service.create(record["id"], **dict(case.fields))["id"]
        return {name: (service.wait(job_id), before) for name, job_id in started.items()}


def spoil(service: Service, path: str, metadata: dict[str, str]) -> None:
    """Replace the checksums of an object by wrong ones."""
    from ims.storage.objects import ObjectName

    name = ObjectName.parse(path)
    data = service.store.read_bytes(name, limit=10**6)
    service.store._client.put_object(Bucket=name.bucket, Key=name.key, Body=data, Metadata=metadata)


@pytest.mark.parametrize("name", CASES)
def test_bad_recipe(name: str, bad_jobs: dict[str, tuple[dict[str, Any], Leftovers]]) -> None:
    """The job ends in error at the right step, once, with the reason. No debug shell opens, and nothing is left."""
    job, leftovers = bad_jobs[name]
    assert job["status"] == "error"
    assert job["failed_step"] == CASES[name].step, job["reason"]
    assert CASES[name].reason in job["reason"]
    assert "Traceback" not in job["reason"]
    failed = next(step for step in job["steps"] if step["name"] == job["failed_step"])
    assert failed["try_number"] == 1, "trying again could not have helped"
    assert failed["log_url"] == job["log_url"]
    states = {step["name"]: step["state"] for step in job["steps"]}
    assert (states["start_debug_shell"], states["wait_for_completion"]) == ("skipped", "skipped")
    assert [shell["status"] for shell in job["ssh_containers"] or ()] == ["pending"] * job["enable_debug"]
    leftovers.assert_none(job["id"])
