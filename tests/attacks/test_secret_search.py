"""Attacks on the secrets of a site: recipes print them, scripts look for them, and everything that is left is searched.

The jobs of this module use secrets of every documented kind. Beside them, each job has a text that is no secret and
takes the same ways: a search that does not find this text has looked in the wrong places.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.api.conftest import client, mint
from tests.attacks.test_logins import PRIVATE
from tests.attacks.traces import Traces, Watch
from tests.flows.conftest import RECIPES
from tests.flows.rpm_repository import RepositoryServer
from tests.flows.shells import Key, make_key, ssh
from tests.service import Service

USER = "planted-user"
VALUES = {"USER": "secret:planted.login", "PASSWORD": "secret:planted.password", "TOKEN": "secret:token"}
WRONG = {**VALUES, "USER": VALUES["PASSWORD"], "PASSWORD": VALUES["USER"]}
"""The variables of recipes, and those of a recipe that mixes up the login."""
SOURCE = '<source path="{{ REPOSITORY }}"/>'
ADDRESS = "{{ REPOSITORY | replace('://', '://' ~ USER ~ ':' ~ PASSWORD ~ '@') | e }}"
PRINT = """\
#!/bin/sh
set -x
echo 'the login is {{ USER }}:{{ PASSWORD }}, the token {{ TOKEN }}, the text {{ TEXT }}'
echo '{{ TEXT }}' > /etc/text
"""
STEAL = """\
#!/bin/sh
echo {text}
find /etc /home /mnt /opt /root /tmp /usr/lib /var -xdev -type f -size -64k -exec cat {{}} +
cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline | tr '\\0' '\\n'
env
"""


@dataclass
class Planted:
    """The secrets of this module, and what its jobs did with them."""

    secrets: Traces
    text: Traces
    watch: Watch
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    plan: dict[str, Any] = field(default_factory=dict)
    workspace: set[str] = field(default_factory=set)
    mode: int = 0
    shell: str = ""


def store(service: Service, password: str, token: str) -> None:
    """Store the secrets as an administrator does."""
    connection = {"connection_id": "ims_secret_planted", "conn_type": "generic", "login": USER, "password": password}
    service.http.post("/api/v2/connections", json=connection).raise_for_status()
    service.http.post("/api/v2/variables", json={"key": "ims_secret_token", "value": token}).raise_for_status()


def forget(service: Service) -> None:
    """Remove the secrets."""
    for path in ("connections/ims_secret_planted", "variables/ims_secret_token"):
        service.http.delete(f"/api/v2/{path}").raise_for_status()


def push(
    service: Service, folder: Path, url: str, text: str, more: str = "", values: Mapping[str, str] = VALUES
) -> str:
    """Push a recipe that uses all secrets and prints them; returns its id. `more` is appended to its script."""
    shutil.copytree(RECIPES / "zypper", folder)
    description = (folder / "config.xml").read_text()
    assert SOURCE in description
    (folder / "config.xml").write_text(description.replace(SOURCE, f'<source path="{ADDRESS}"/>'))
    (folder / "config.sh").write_text(PRINT + more)
    (folder / ".ims_recipe_template.yaml").write_text("template_files: [config.xml, config.sh]\n")
    return str(service.push(folder, "sles15", REPOSITORY=url, TEXT=text, **values)["id"])


def debug(service: Service, recipe_id: str, key: Key, planted: Planted) -> dict[str, Any]:
    """Build a recipe whose script fails, look at what its debug shell shows, and give the job up; returns the job."""
    job = service.create(recipe_id, enable_debug=True, public_key_id=key.identity)
    job = service.wait(job["id"], until=("waiting_on_user", "error"))
    assert job["status"] == "waiting_on_user", job["reason"]
    workspace = service.workspace(job["id"])
    planted.workspace = planted.secrets.in_files(workspace)
    planted.mode = workspace.stat().st_mode
    planted.shell = ssh(job, key, "cat /mnt/image/kiwi.log; cat /proc/[0-9]*/environ | tr '\\0' '\\n'")
    service.client.create(f"jobs/{job['id']}/shell", operation="fail")
    return service.wait(job["id"])


def customize(service: Service, image_id: str, script: str) -> dict[str, Any]:
    """Run a script in an image; returns the job."""
    fields = {"artifact_id": image_id, "public_key_id": service.public_key(), "image_root_archive_name": "stolen"}
    job = service.client.create("jobs", job_type="customize", script=script, **fields)
    return service.wait(job["id"])


@pytest.fixture(scope="module")
def planted(service: Service, repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Planted]:
    """Jobs of every kind with the secrets: a build, a customization, a plan, and builds that fail."""
    password, token, text = f"planted-{uuid4().hex}+&x", f'{uuid4().hex}"<&', f"text{uuid4().hex}"
    secrets, folder = Traces(service, password, token), tmp_path_factory.mktemp("recipes")
    found = Planted(secrets, Traces(service, text), Watch(secrets))
    store(service, password, token)
    with RepositoryServer(repository, login=f"{USER}:{password}") as server, found.watch:
        recipe = push(service, folder / "good", server.url, text)
        refused = service.create(push(service, folder / "refused", server.url, text, values=WRONG))
        found.jobs["create"] = job = service.wait(service.create(recipe)["id"])
        assert job["status"] == "success", job["reason"]
        found.jobs["refused"] = service.wait(refused["id"])
        found.jobs["customize"] = customize(service, job["resultant_image_id"], STEAL.format(text=text))
        found.plan = service.client.call("POST", f"recipes/{recipe}/plan")
        failing = push(service, folder / "failing", server.url, text, "echo '{{ TOKEN }}' >&2; exit 7\n")
        found.jobs["failing"] = debug(service, failing, make_key(service, folder), found)
    yield found
    forget(service)


def test_jobs_use_the_secrets(planted: Planted) -> None:
    """The jobs got as far as they should. A reason that would contain a secret hides it."""
    states = {name: (job["status"], job["failed_step"]) for name, job in planted.jobs.items()}
    assert states["create"] == states["customize"] == ("success", None), planted.jobs["customize"]["reason"]
    assert states["failing"] == ("error", "build_image"), planted.jobs["failing"]["reason"]
    assert states["refused"] == ("error", "fetch_recipe")
    assert "refuse access" in planted.jobs["refused"]["reason"]
    assert planted.plan["verdict"] == "skip", planted.plan


def test_processes(planted: Planted) -> None:
    """No process outside of a sandbox has them in its arguments or its environment; in a sandbox only zypper has."""
    assert planted.watch.found == set()
    assert {Path(words.split()[0]).name for words in planted.watch.in_sandbox} <= {"zypper"}, planted.watch.in_sandbox


def test_watch_sees_processes(planted: Planted) -> None:
    """It finds a secret in the arguments of a program, and in its environment."""
    for arguments, environment in (([f"{USER}-x"], {}), ([], {"X": f"{USER}-x"})):
        with Watch(Traces(planted.secrets.service, f"{USER}-x")) as watch:
            subprocess.run(["sh", "-c", "sleep 1; :", *arguments], env=environment, check=True)
        assert watch.found


def test_workspace_of_a_failed_build(planted: Planted) -> None:
    """While its debug shell is open, only the parts of the workspace that need them have them, and only for root."""
    assert planted.workspace
    private = (*PRIVATE, "image-root.changes/upper/image")
    assert {name for name in planted.workspace if not name.startswith(private)} == set()
    assert planted.mode & 0o077 == 0
    assert not planted.secrets.in_bytes(planted.shell.encode())
    assert planted.text.in_bytes(planted.shell.encode())


def test_files(planted: Planted) -> None:
    """No file has them: logs, caches with package roots, workspaces, the databases' own files, temporary files."""
    assert planted.secrets.in_installation() == set()
    assert planted.secrets.on_machine() == set()
    places = {name.partition("/")[0].partition("-")[0] for name in planted.text.in_installation()}
    assert places >= {"logs", "postgres", "ims.db"}


def test_databases(planted: Planted) -> None:
    """No table has them, not even that of the Variables and connections, which Airflow encrypts."""
    assert planted.secrets.in_databases() == set()
    assert planted.text.in_databases() >= {"records", "airflow.dag_run"}


def test_objects(planted: Planted) -> None:
    """No object has them: recipes, manifests, lists of files, and the files inside of images."""
    assert planted.secrets.in_objects() == set()
    found = planted.text.in_objects()
    image = planted.jobs["create"]["resultant_image_id"]
    assert f"{planted.secrets.service.settings.images_bucket}/{image}/rootfs" in found


@pytest.fixture
def viewer(service: Service) -> Iterator[httpx.Client]:
    """The client of a user who may only read."""
    with client(service, mint(service, "viewer")) as looker:
        yield looker


def test_answers(planted: Planted, viewer: httpx.Client) -> None:
    """No record, run, rendered field, result or log that a viewer can read has them."""
    assert planted.secrets.in_answers(viewer) == set()
    found = planted.text.in_answers(viewer)
    assert "/apis/ims/v3/recipes" in found
    assert [path for path in found if "/taskInstances/run_script/logs/" in path]
