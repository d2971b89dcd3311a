"""Archives, templates, YAML and trees of files that are made to fill, to block or to break the service."""

from __future__ import annotations

import gzip
import io
import os
import subprocess
import tarfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from ims.errors import InputError
from ims.images.files import MAX_FILES, read_lines
from ims.runtime.local.runtime import LocalRuntime
from ims.stack import postgres
from tests.api.offline import offline_api
from tests.api.wire import assert_problem
from tests.flows.leftovers import Leftovers
from tests.service import Service
from tests.stack.test_home import PASSED, readable
from tests.test_removal import make_deep

CONFIG = """\
<image schemaversion="8.0" name="attack"><description type="system"><author>a</author><contact>a</contact>
<specification>a</specification></description><preferences><version>1.0.0</version>
<packagemanager>zypper</packagemanager><type image="tbz"/></preferences></image>
"""


def archive(files: dict[str, str], *others: tarfile.TarInfo) -> bytes:
    """A gzip tar archive with these files and entries without content."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as opened:
        for name, text in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(text.encode())
            opened.addfile(info, io.BytesIO(text.encode()))
        for info in others:
            opened.addfile(info)
    return data.getvalue()


def entry(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    """An entry without content."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def huge_header() -> bytes:
    """The header of a file of a terabyte."""
    info = tarfile.TarInfo("zeros")
    info.size = 1024**4
    return info.tobuf(tarfile.GNU_FORMAT)


def template(text: str) -> bytes:
    """A recipe with a template."""
    return archive(
        {"config.xml": CONFIG, "config.sh": text, ".ims_recipe_template.yaml": "template_files: [config.sh]"}
    )


def laughs() -> str:
    """Entities that would become two billion characters."""
    references = [f"&a{number};" for number in range(10)]
    entities = "".join(f'<!ENTITY a{n} "{references[n - 1] * 10}">' for n in range(1, 10))
    return f'<!DOCTYPE image [<!ENTITY a0 "ha">{entities}]>{CONFIG.replace("attack", "&a9;")}'


@dataclass(frozen=True)
class Attack:
    """An archive, and a part of the reason for which its job ends."""

    archive: Callable[[], bytes]
    reason: str


ATTACKS = {
    "1,600 nested folders": Attack(
        lambda: archive({"config.xml": CONFIG}, entry("d/" * 1600, tarfile.DIRTYPE)),
        "its name has 3199 bytes, more than 2048",
    ),
    "1,000 nested folders": Attack(
        lambda: archive({"config.xml": CONFIG, "d/" * 1000 + "f": ""}), "in 1000 nested folders, more than 100"
    ),
    "a terabyte of zeros": Attack(
        lambda: gzip.compress(huge_header() + bytes(1024 * 1024)), "unpacks to more than 1073741824 bytes: with 'zeros'"
    ),
    "2,000 extended headers": Attack(
        lambda: gzip.compress(entry("x", tarfile.XHDTYPE).tobuf(tarfile.USTAR_FORMAT) * 2000),
        "the headers of an entry of the archive are larger than 65536 bytes",
    ),
    "a device": Attack(
        lambda: archive({"config.xml": CONFIG}, entry("sda", tarfile.BLKTYPE)),
        "'sda' cannot be unpacked safely: it is neither a file nor a folder nor a link",
    ),
    "a hard link to the secrets": Attack(
        lambda: archive({"config.xml": CONFIG}, entry("k", tarfile.LNKTYPE, "../../../secrets/credentials.json")),
        "'k' cannot be unpacked safely: the name '../../../secrets/credentials.json' leads out of the archive",
    ),
    "a file in place of a link": Attack(
        lambda: archive({"config.xml": CONFIG}, entry("d", tarfile.SYMTYPE, "."), entry("d", tarfile.REGTYPE)),
        "'d' cannot be unpacked safely: the archive has it twice",
    ),
    "3,000 lists": Attack(
        lambda: archive({"config.xml": CONFIG, ".ims_recipe_template.yaml": "[" * 3000}),
        ".ims_recipe_template.yaml cannot be read: it is nested deeper than 20 levels",
    ),
    "nested ranges": Attack(
        lambda: template("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"),
        "the templates (config.sh) cannot be rendered with 10 s of processor time",
    ),
    "a gigabyte of text": Attack(
        lambda: template("{{ 'x' * 10 ** 9 }}"), "config.sh cannot be rendered: it needs more than 536870912 bytes"
    ),
    "endless output": Attack(
        lambda: template("{% for a in range(99999) %}{{ 'x' * 9999 }}{% endfor %}"),
        "config.sh cannot be rendered: the rendered templates have more than 16777216 characters",
    ),
    "a billion laughs": Attack(lambda: archive({"config.xml": laughs()}), "config.xml"),
}


@pytest.fixture(scope="module")
def jobs(service: Service) -> dict[str, tuple[dict[str, Any], Leftovers]]:
    """The ended jobs of all archives, run at the same time, with the state before the first of them."""
    before = Leftovers(service)
    started = {}
    for name, attack in ATTACKS.items():
        record = service.register(service.upload_recipe(attack.archive()), VARIABLE="x")
        started[name] = service.create(record["id"])["id"]
    return {name: (service.wait(job_id), before) for name, job_id in started.items()}


@pytest.mark.parametrize("name", ATTACKS)
def test_recipe(name: str, jobs: dict[str, tuple[dict[str, Any], Leftovers]]) -> None:
    """The job is refused when it fetches the recipe, with the reason, and leaves nothing."""
    job, leftovers = jobs[name]
    assert (job["status"], job["failed_step"]) == ("error", "fetch_recipe"), job["reason"]
    assert ATTACKS[name].reason in job["reason"]
    assert "Traceback" not in job["reason"]
    leftovers.assert_none(job["id"])


MANIFESTS = {
    "100,000 lists": "[" * 100_000,
    "aliases of aliases": "\n".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}' if n else '1'] * 10)}]" for n in range(9)),
    "many items": "- 1\n" * 100_000,
    "a long number": "version: " + ":".join("1" * 100_000),
}


@pytest.mark.parametrize("text", MANIFESTS.values(), ids=MANIFESTS)
def test_manifest(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """An image with a hostile manifest is not registered."""
    with offline_api(monkeypatch) as api:
        path = api.store.put("s3://boot-images/x/manifest.yaml", text.encode())
        begin, before = time.process_time(), api.everything()
        answer = api.request("user", "POST", "/v3/images", {"name": "x", "link": {"type": "s3", "path": path}})
        assert_problem(answer, 422, "link")
        assert "is neither JSON nor YAML: " in answer.text
        assert time.process_time() - begin < 5
        assert api.everything() == before


def test_large_archive(monkeypatch: pytest.MonkeyPatch, configure: Callable[..., None]) -> None:
    """An archive that is larger than what it may unpack to is refused before anybody downloads it."""
    configure(recipe_max_mib=1)
    with offline_api(monkeypatch) as api:
        path = api.store.put("s3://ims/recipes/large.tar.gz", bytes(1024 * 1024 + 1))
        before = api.everything()
        recipe = {"name": "x", "recipe_type": "kiwi-ng", "linux_distribution": "debian12"}
        answer = api.request("user", "POST", "/v3/recipes", {**recipe, "link": {"type": "s3", "path": path}})
        assert_problem(answer, 422, "link")
        assert "has 1048577 bytes, more than the 1048576 of IMS_RECIPE_MAX_MIB" in answer.text
        assert api.everything() == before


def test_users_of_the_machine(service: Service) -> None:
    """They can read nothing of the installation: no database, no secret, no image root with a set-id program."""
    assert readable(service.settings.home, "ordinary") == []
    readable_files = [Path(path) for path in readable(service.settings.home, postgres.USER)]
    # Tests of the API without a service keep databases there.
    found = [path.relative_to(service.settings.home) for path in readable_files if not path.name.startswith("offline-")]
    assert {path.parts[0] for path in found} <= PASSED | {"site-ca"}  # the CA of the tests


@pytest.mark.system
def test_everything_in_a_workspace(tmp_path: Path, configure: Callable[..., None]) -> None:
    """Whatever a job leaves in its workspace, the workspace goes, and what it links to stays."""
    configure(home=tmp_path / "home")
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").touch()
    workspace = LocalRuntime().open_workspace(str(uuid4()), 0)
    make_deep(workspace / "deep", 2500)
    for name in (b"-rf", b"a\nb", b"\xff", b"n" * 255):
        (workspace / os.fsdecode(name)).mkdir()
    (workspace / "link").symlink_to(outside)
    os.mkfifo(workspace / "run" / "0.fifo")
    os.mknod(workspace / "device", 0o060666, os.makedev(7, 200))
    (workspace / "n" / "immutable").mkdir(parents=True)
    (workspace / "n" / "immutable" / "file").touch()
    subprocess.run(["chattr", "-R", "+i", workspace / "n"], check=True)
    subprocess.run(["chattr", "+a", workspace], check=True)
    LocalRuntime().close_workspace(workspace.name)
    assert not workspace.exists()
    assert (outside / "kept").exists()


def test_list_of_files_with_many_short_lines() -> None:
    """A list of a few MB, which a user uploads and a viewer compares, does not keep the API busy for minutes."""
    packed = gzip.compress(b"{}\n" * (MAX_FILES + 1_000_000), 1)
    with pytest.raises(InputError, match="too long"):
        for _ in read_lines([packed], "x"):
            pass
