"""How a user names a record: by its id, the beginning of its id, or its name."""

from __future__ import annotations

from pathlib import Path

import pytest

from ims.recipes import checking
from tests.cli.conftest import PLAIN_RECIPE
from tests.cli.fake_service import FakeService, Program, connect_to

FIRST = "aaaa1111-0000-4000-8000-000000000001"
SECOND = "aaaa2222-0000-4000-8000-000000000002"
THIRD = "bbbb3333-0000-4000-8000-000000000003"


@pytest.fixture
def fake() -> FakeService:
    """Two images of one name and one of another."""
    fake = FakeService()
    for identity, name in ((FIRST, "site"), (SECOND, "site"), (THIRD, "other")):
        fake.add("images", name, id=identity)
    return fake


@pytest.fixture
def program(fake: FakeService, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Program:
    """The program, connected to the service. It does not run kiwi, which takes a second."""
    monkeypatch.setattr(checking, "KIWI", Path("/nonexistent"))
    return connect_to(fake, monkeypatch, tmp_path)


@pytest.mark.parametrize(
    ("text", "identity"),
    [
        ("site", SECOND),
        ("other", THIRD),
        (FIRST, FIRST),
        (FIRST.upper(), FIRST),
        ("aaaa1", FIRST),
        ("AAAA1", FIRST),
        ("bbbb", THIRD),
        (SECOND[:-1], SECOND),
    ],
)
def test_a_record_is_found(program: Program, text: str, identity: str) -> None:
    """A name means the newest record; an id and a unique beginning of an id mean one record."""
    assert program.json("images", "describe", text)["id"] == identity


def test_the_newest_record_is_the_one_created_last(program: Program, fake: FakeService) -> None:
    """The order of the list does not matter."""
    fake.records["images"].reverse()
    assert program.json("images", "describe", "site")["id"] == SECOND


def test_a_name_takes_precedence_over_the_beginning_of_an_id(program: Program, fake: FakeService) -> None:
    """A record can be named like the beginning of another record's id."""
    named = fake.add("images", "aaaa1")
    assert program.json("images", "describe", "aaaa1")["id"] == named


def test_an_ambiguous_beginning_lists_the_candidates(program: Program) -> None:
    """The user can copy one of them."""
    refused = program.refused("images", "describe", "aaaa")
    assert refused == f"the ids of 2 images begin with aaaa. Give one of them: {FIRST}, {SECOND}"


@pytest.mark.parametrize("text", ["bbb", "nothing", "Site", "cccc", ""])
def test_nothing_is_found(program: Program, text: str) -> None:
    """Fewer than four characters of an id are not enough. The error names the command that lists the records."""
    refused = program.refused("images", "describe", text)
    assert refused == f"no image has the id or name {text}. List them with ims images list"


def test_a_full_id_needs_no_search(program: Program, fake: FakeService) -> None:
    """The program asks for the record at once."""
    program.json("images", "describe", THIRD)
    assert [request.url.path for request in fake.requests] == [f"/apis/ims/v3/images/{THIRD}"]


def test_delete_says_which_record_it_deleted(program: Program, fake: FakeService) -> None:
    """And how to undo it, because a name may mean another record than the user thinks."""
    done = program.run("images", "delete", "site")
    assert (done.code, done.stdout) == (0, "")
    undo = f"ims deleted images update {SECOND} --operation undelete"
    assert done.stderr == f"deleted the image {SECOND}. To undo this: {undo}\n"
    assert fake.ids("images") == [FIRST, THIRD]


def test_purge_says_which_record_it_purged(program: Program, fake: FakeService) -> None:
    """A purge cannot be undone."""
    fake.add("deleted/images", "site", id=FIRST)
    assert program.run("deleted", "images", "delete", "site").stderr == f"purged the deleted image {FIRST}\n"


def test_a_dry_run_deletes_nothing(program: Program, fake: FakeService) -> None:
    """It shows the record that the name means."""
    assert [record["id"] for record in program.json("images", "delete", "site", "--dry-run")] == [SECOND]
    assert fake.ids("images") == [FIRST, SECOND, THIRD]


def test_a_job_takes_names(program: Program, fake: FakeService) -> None:
    """The newest recipe and the newest key of their names are sent as ids."""
    recipes = [fake.add("recipes", "compute") for _ in range(2)]
    keys = [fake.add("public-keys", "me") for _ in range(2)]
    fake.answers["jobs"] = {"id": FIRST, "steps": []}
    words = ("--artifact-id", "compute", "--public-key-id", "me", "--image-root-archive-name", "compute-1")
    program.json("jobs", "create", "--job-type", "create", *words)
    (job,) = fake.sent("POST")
    assert (job["artifact_id"], job["public_key_id"]) == (recipes[-1], keys[-1])


def test_a_job_has_options_for_packages(program: Program, fake: FakeService) -> None:
    """How long it waits for repositories, and that it installs everything again; otherwise the service decides."""
    fake.add("recipes", "compute")
    fake.add("public-keys", "me")
    fake.answers["jobs"] = {"id": FIRST, "steps": []}
    words = ("--artifact-id", "compute", "--public-key-id", "me", "--image-root-archive-name", "compute-1")
    for more in ((), ("--repository-timeout", "30", "--force")):
        program.json("jobs", "create", "--job-type", "create", *words, *more)
    assert [(job.get("repository_timeout"), job.get("force")) for job in fake.sent("POST")] == [
        (None, None),
        (30, True),
    ]


def test_a_job_is_named_by_its_image(program: Program, fake: FakeService) -> None:
    """Jobs have no name of their own."""
    fake.records["jobs"] = [
        {"id": FIRST, "created": "2026-11-01", "image_root_archive_name": "compute", "name": "compute", "steps": []},
        {"id": SECOND, "created": "2026-11-02", "image_root_archive_name": "compute", "name": "compute", "steps": []},
    ]
    assert program.json("jobs", "describe", "compute")["id"] == SECOND


def push(program: Program, *options: str) -> list[dict[str, str]]:
    """Push a recipe without templates; returns its template variables."""
    record = program.json("recipes", "push", PLAIN_RECIPE, "--name", "site", *options)
    return list(record["template_dictionary"])


def test_a_second_push_keeps_the_template_variables(program: Program, fake: FakeService) -> None:
    """The name means the second push, which has the variables of the first unless they are given again."""
    push(program, "--var", "A=1", "--var", "B=2")
    assert push(program, "--var", "B=3", "--var", "C=") == [
        {"key": "A", "value": "1"},
        {"key": "B", "value": "3"},
        {"key": "C", "value": ""},
    ]
    assert len(set(fake.ids("recipes"))) == 2
    assert program.json("recipes", "describe", "site")["id"] == fake.ids("recipes")[-1]


def test_a_push_says_which_variables_it_kept(program: Program) -> None:
    """Only if it kept some."""
    command = ("recipes", "push", PLAIN_RECIPE, "--name", "site", "--var")
    assert program.run(*command, "A=1").stderr == ""
    assert program.run(*command, "B=2").stderr == "kept template variables of the last push: A\n"
    assert program.run(*command, "A=1", "--var", "B=2").stderr == ""


def test_a_push_keeps_how_nights_build_the_recipe(program: Program, fake: FakeService) -> None:
    """The mark and the names of files in /boot stay, unless they are set again."""
    push(program, "--nightly", "True")
    program.json("recipes", "update", "site", "--initrd-file-name", "initramfs.img")
    done = program.run("recipes", "push", PLAIN_RECIPE, "--name", "site")
    assert done.stderr == "kept fields of the last push: nightly, initrd_file_name\n"
    kept = fake.records["recipes"][-1]
    assert (kept["nightly"], kept["initrd_file_name"]) == (True, "initramfs.img")
    done = program.run("recipes", "push", PLAIN_RECIPE, "--name", "site", "--nightly", "False")
    assert done.stderr == "kept fields of the last push: initrd_file_name\n"
    assert fake.records["recipes"][-1]["nightly"] is False


def test_a_push_for_another_architecture_keeps_nothing(program: Program) -> None:
    """Its repositories have other addresses."""
    push(program, "--var", "A=1")
    assert push(program, "--arch", "aarch64") == []
    assert push(program) == [{"key": "A", "value": "1"}]
