"""What the commands send to the service, with a service in memory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.cli.fake_service import FakeService, Program, connect_to

IMAGE = "aaaa1111-0000-4000-8000-000000000001"
OTHER = "bbbb2222-0000-4000-8000-000000000002"


@pytest.fixture
def fake() -> FakeService:
    """A service with one image."""
    fake = FakeService()
    fake.add("images", "site", id=IMAGE)
    return fake


@pytest.fixture
def program(fake: FakeService, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Program:
    """The program, connected to the service."""
    return connect_to(fake, monkeypatch, tmp_path)


def query(fake: FakeService) -> dict[str, list[str]]:
    """Return the parameters of the last request."""
    parameters = fake.requests[-1].url.params
    return {name: parameters.get_list(name) for name in parameters}


def test_create_a_recipe(program: Program, fake: FakeService) -> None:
    """All options of `cray` are sent as fields."""
    program.json(
        *("recipes", "create", "--name", "x", "--recipe-type", "kiwi-ng", "--linux-distribution", "sles15"),
        *("--link-type", "s3", "--link-path", "s3://a/b", "--link-etag", "e", "--arch", "aarch64"),
        *("--require-dkms", "false", "--nightly", "True", "--profiles", "Base,Lab"),
        *("--template-dictionary-key", "A,B", "--template-dictionary-value", "1,2"),
    )
    assert fake.sent("POST") == [
        {
            "name": "x",
            "recipe_type": "kiwi-ng",
            "linux_distribution": "sles15",
            "link": {"path": "s3://a/b", "type": "s3", "etag": "e"},
            "arch": "aarch64",
            "require_dkms": False,
            "nightly": True,
            "profiles": ["Base", "Lab"],
            "template_dictionary": [{"key": "A", "value": "1"}, {"key": "B", "value": "2"}],
        }
    ]


def test_update_sends_only_what_was_given(program: Program, fake: FakeService) -> None:
    """Other fields keep their values."""
    fake.add("recipes", "x")
    program.json("recipes", "update", "x", "--nightly", "False")
    program.json("recipes", "update", "x", "--template-dictionary-key", "")
    program.json("images", "update", "site", "--pinned", "True", "--nightly", "false", "--name", "new")
    assert fake.sent("PATCH") == [
        {"nightly": False},
        {"template_dictionary": []},
        {"name": "new", "pinned": True, "nightly": False},
    ]


def test_update_without_fields(program: Program, fake: FakeService) -> None:
    """Nothing is sent."""
    for kind in ("images", "recipes"):
        refused = program.refused(kind, "update", "x")
        assert refused == f"there is nothing to change. List the options with ims {kind} update --help"
    assert fake.requests == []


def test_labels_of_an_image(program: Program, fake: FakeService) -> None:
    """A new image has one label at most. An update sets or removes one."""
    program.json("images", "create", "--name", "x", "--metadata-key", "a")
    program.json("images", "update", "x", "--metadata-operation", "set", "--metadata-key", "a", "--metadata-value", "1")
    program.json("images", "update", "x", "--metadata-operation", "remove", "--metadata-key", "a")
    assert fake.sent("POST") == [{"name": "x", "metadata": {"key": "a", "value": ""}}]
    assert fake.sent("PATCH") == [
        {"metadata": {"operation": "set", "key": "a", "value": "1"}},
        {"metadata": {"operation": "remove", "key": "a"}},
    ]
    assert "--metadata-operation" in program.refused("images", "update", "x", "--metadata-key", "a")


def test_filters_of_images(program: Program, fake: FakeService) -> None:
    """They are parameters of the request."""
    program.json("images", "list", "--package", "openssl", "--package-below", "3.0", "--name", "site")
    assert query(fake) == {"name": ["site"], "package": ["openssl"], "package_below": ["3.0"]}


@pytest.mark.parametrize(
    ("count", "note"),
    [
        ("0", ""),
        ("1", "1 image could not be read: it is unknown which packages it has\n"),
        ("3", "3 images could not be read: it is unknown which packages they have\n"),
    ],
)
def test_images_that_could_not_be_read(program: Program, fake: FakeService, count: str, note: str) -> None:
    """A note says of how many images the packages are unknown, and programs get only the list."""
    headers = {"IMS-Unknown-Images": count}
    fake.answers["images"] = httpx.Response(200, json=[], headers=headers)
    done = program.run("images", "list", "--package", "openssl", "-o", "json")
    assert (done.code, done.stdout, done.stderr) == (0, "[]\n", note)
    fake.answers = {f"images/{IMAGE}/packages": httpx.Response(200, json=[], headers=headers)}
    assert program.run("images", "packages", IMAGE).stderr == note


def test_contents_of_an_image(program: Program, fake: FakeService) -> None:
    """Packages and differences are shown as tables for people and as they are for programs."""
    fake.add("images", "other", id=OTHER)
    package = {"name": "bash", "version": "5", "arch": "amd64", "type": "deb", "source": "bash", "license": "GPL"}
    fake.answers[f"images/{IMAGE}/packages"] = [package]
    assert program.json("images", "packages", "site") == [package]
    found: dict[str, Any] = {"packages": None, "files": None, "rootfs": {"before": 1, "after": 2}}
    fake.answers[f"images/{IMAGE}/diff/{OTHER}"] = found
    assert program.json("images", "diff", "site", "bbbb") == found
    assert program.run("images", "diff", "site", "other").stdout.splitlines()[-1].split() == [
        "size",
        "rootfs",
        "1",
        "2",
    ]


def test_an_image_without_a_manifest_cannot_be_pulled(program: Program, tmp_path: Path) -> None:
    """The error names the command that sets the manifest."""
    refused = program.refused("images", "pull", "site", tmp_path / "x")
    assert refused.startswith(f"the image {IMAGE} has no manifest. ")
    assert f"ims images update {IMAGE} --link-path" in refused
    assert not (tmp_path / "x").exists()


def test_undelete(program: Program, fake: FakeService) -> None:
    """A deleted record can be named as well."""
    fake.add("deleted/images", "gone", id=OTHER)
    assert program.run("deleted", "images", "update", "gone", "--operation", "undelete").code == 0
    assert fake.sent("PATCH") == [{"operation": "undelete"}]
    assert fake.requests[-1].url.path.endswith(f"/deleted/images/{OTHER}")


def test_delete_all(program: Program, fake: FakeService) -> None:
    """A dry run shows what the command would delete."""
    assert [record["id"] for record in program.json("images", "deleteall", "--dry-run")] == [IMAGE]
    assert fake.ids("images") == [IMAGE]
    assert program.run("images", "deleteall").stdout == ""
    assert fake.ids("images") == []


@pytest.mark.parametrize("identity", ["../recipes", "?limit=1", "a/b", "%2e%2e", "#"])
def test_ids_are_not_paths(program: Program, fake: FakeService, identity: str) -> None:
    """An id with special characters does not address another resource."""
    for kind in ("images", "jobs"):
        assert program.run(kind, "delete", identity).code == 2
    assert {request.method for request in fake.requests} == {"GET"}


def test_create_a_job(program: Program, fake: FakeService, tmp_path: Path) -> None:
    """All options are sent as fields; the content of a script is sent, not its name."""
    key = fake.add("public-keys", "me")
    script = tmp_path / "change.sh"
    script.write_text("true\n")
    fake.answers["jobs"] = lambda request: {"id": OTHER, "steps": [], **json.loads(request.content)}
    program.json(
        *("jobs", "create", "--job-type", "customize", "--image-root-archive-name", "new", "--artifact-id", "site"),
        *("--public-key-id", "me", "--enable-debug", "FALSE", "--build-env-size", "20", "--job-mem-size", "4"),
        *("--kernel-file-name", "k", "--initrd-file-name", "i", "--kernel-parameters-file-name", "p"),
        *("--require-dkms", "true", "--ssh-containers-name", "s", "--ssh-containers-jail", "True", "--lease", "60"),
        *("--script", script, "--playbook", "s3://a/b", "--network", "none", "--pack-in-full"),
    )
    assert fake.sent("POST") == [
        {
            "job_type": "customize",
            "image_root_archive_name": "new",
            "artifact_id": IMAGE,
            "public_key_id": key,
            "enable_debug": False,
            "build_env_size": 20,
            "job_mem_size": 4,
            "kernel_file_name": "k",
            "initrd_file_name": "i",
            "kernel_parameters_file_name": "p",
            "require_dkms": True,
            "ssh_containers": [{"name": "s", "jail": True}],
            "lease": 60,
            "network": "none",
            "pack_in_full": True,
            "script": "true\n",
            "playbook": "s3://a/b",
        }
    ]


@pytest.mark.parametrize(
    ("options", "shells"),
    [
        ((), None),
        (("--ssh-containers-name", "s"), [{"name": "s"}]),
        (("--ssh-containers-jail", "False"), [{"name": "customize", "jail": False}]),
    ],
)
def test_the_shell_of_a_job(
    program: Program, fake: FakeService, options: tuple[str, ...], shells: list[dict[str, Any]] | None
) -> None:
    """A shell that has any option has a name."""
    fake.add("public-keys", "me")
    fake.answers["jobs"] = {"id": OTHER, "steps": []}
    names = ("--image-root-archive-name", "x", "--artifact-id", "site", "--public-key-id", "me")
    program.json("jobs", "create", "--job-type", "customize", *names, *options)
    assert fake.sent("POST")[0].get("ssh_containers") == shells


def test_filters_of_jobs(program: Program, fake: FakeService) -> None:
    """The same options list and delete jobs."""
    options = ("--status", "error", "--status", "success", "--job-type", "create", "--age", "2d")
    expected = {"status": ["error", "success"], "job_type": ["create"], "age": ["2d"]}
    program.json("jobs", "list", *options)
    assert query(fake) == expected
    program.json("jobs", "deleteall", "--dry-run", *options)
    assert query(fake) == {**expected, "dry_run": ["true"]}


STEPS = [
    {"name": "fetch_recipe", "state": "success", "try_number": 1, "started": None, "ended": None},
    {"name": "upload_artifacts[0]", "state": "success", "try_number": 1, "started": None, "ended": None},
    {"name": "start_debug_shell", "state": "skipped", "try_number": 0, "started": None, "ended": None},
]


def job(fake: FakeService, **fields: Any) -> str:
    """Add a job; returns its id."""
    return fake.add("jobs", "new", image_root_archive_name="new", steps=STEPS, **fields)


def test_describe_a_job(program: Program, fake: FakeService) -> None:
    """People see the steps in a table below the job."""
    identity = job(fake, status="success")
    lines = program.run("jobs", "describe", identity).stdout.splitlines()
    assert lines[lines.index("") + 1].split() == ["NAME", "STATE", "STARTED", "ENDED"]
    assert lines[lines.index("") + 2].split() == ["fetch_recipe", "success"]


def test_logs(program: Program, fake: FakeService) -> None:
    """The logs of all steps that have run stand under their names. One log stands alone."""
    identity = job(fake)
    for step, text in {"fetch_recipe": "one\n\x1b[1mtwo\x07\n", "upload_artifacts[0]": "three\n"}.items():
        fake.answers[f"jobs/{identity}/logs/{step}"] = lambda _request, text=text: httpx.Response(200, text=text)
    assert program.run("jobs", "logs", identity).stdout.splitlines() == [
        "==> fetch_recipe <==",
        "one",
        "two\\x07",
        "",
        "==> upload_artifacts[0] <==",
        "three",
    ]
    assert query(fake) == {"follow": ["true"]}
    assert program.run("jobs", "logs", identity, "upload_artifacts[0]").stdout == "three\n"


def night(status: str, *outcomes: str, **fields: Any) -> dict[str, Any]:
    """Return a night with a recipe for each outcome."""
    recipes = [{"name": f"r{number}", "outcome": outcome} for number, outcome in enumerate(outcomes)]
    counts = {"built": outcomes.count("built"), "unchanged": 0, "failed": outcomes.count("failed")}
    return {
        "id": OTHER,
        "status": status,
        "recipes": recipes,
        "paused": [],
        "log_url": "http://log",
        **counts,
        **fields,
    }


def test_a_night_is_followed(program: Program, fake: FakeService, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each change is one line. The recipes are named by id or name."""
    monkeypatch.setattr("ims.cli.nights.time.sleep", lambda _seconds: None)
    recipes = [fake.add("recipes", "r0") for _ in range(2)]
    states = [night("building", "building"), night("building", "building"), night("success", "built")]
    fake.answers["nights"] = night("building")
    fake.answers[f"nights/{OTHER}"] = lambda _request: states.pop(0)
    done = program.run("nights", "create", "--recipe", "r0", "--force", "--follow", "--format", "json")
    assert (done.code, json.loads(done.stdout)["built"]) == (0, 1)
    assert fake.sent("POST") == [{"recipes": [recipes[-1]], "force": True}]
    assert done.stderr.splitlines() == [
        f"night {OTHER} is building: 0 built, 0 unchanged, 0 failed, 0 being built",
        f"night {OTHER} is building: 0 built, 0 unchanged, 0 failed, 1 being built",
    ]


def test_a_night_that_fails(program: Program, fake: FakeService) -> None:
    """The exit code is 1, and the error has the reason and the address of the log."""
    fake.answers["nights"] = night("error", "failed", reason="r0: no space")
    done = program.run("nights", "create")
    assert done.code == 1
    assert done.stderr == "Error: the night failed: r0: no space. Read its log: http://log\n"


def test_a_paused_recipe(program: Program, fake: FakeService) -> None:
    """The note names the command that resumes it."""
    paused = [{"name": "r0", "failures": 3, "recipe_id": IMAGE}]
    fake.answers[f"nights/{OTHER}"] = night("success", "built", paused=paused)
    done = program.run("nights", "describe", OTHER)
    assert f"r0 is paused because it failed 3 nights in a row. To resume it: ims recipes update {IMAGE}" in done.stderr
    assert done.stdout.splitlines()[-1].split() == ["r0", "built"]


def test_maintenance(program: Program, fake: FakeService) -> None:
    """The service gets an hour. The table lists what was freed."""
    freed = [{"kind": "objects", "count": 2, "bytes": 10, "items": ["a", "b"]}]
    fake.answers["maintenance"] = {"freed": freed, "failed": []}
    done = program.run("maintenance", "--dry-run", "--orphan-hours", "0")
    assert [line.split() for line in done.stdout.splitlines()] == [["KIND", "COUNT", "BYTES"], ["objects", "2", "10"]]
    assert fake.sent("POST") == [{"dry_run": True, "orphan_hours": 0}]
    assert fake.requests[-1].extensions["timeout"]["read"] == 3600


@pytest.mark.parametrize(
    ("status", "code", "hint"),
    [
        (401, 77, 'Renew IMS_TOKEN: eval "$(make -s env)"'),
        (403, 2, "Ask an administrator for a role that allows it"),
        (404, 2, "List what exists: ims recipes list, ims images list, ims jobs list"),
        (409, 2, "Conflict: a detail"),
        (503, 69, "Service Unavailable: a detail"),
    ],
)
def test_exit_codes(program: Program, fake: FakeService, status: int, code: int, hint: str) -> None:
    """An error of the service is one line, with a hint if there is a next step."""
    fake.answers["images"] = httpx.Response(status, json={"detail": "a detail"})
    assert program.refused("images", "list", code=code).endswith(hint)


def test_a_defect(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unexpected error is one line that asks for a report."""
    monkeypatch.setattr("ims.cli.images.connect", lambda: 1 / 0)
    refused = program.refused("images", "list", code=70)
    assert refused.startswith("ims has a defect: ZeroDivisionError: division by zero. Report it")


def test_interrupt(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C gives the exit code of a program that SIGINT ends."""

    def interrupt() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("ims.cli.images.connect", interrupt)
    assert program.run("images", "list").code == 130
