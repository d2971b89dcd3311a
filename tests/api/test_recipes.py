"""The contract of `/recipes`."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import httpx
import pytest

from ims.storage.objects import ObjectName
from tests.api.wire import (
    BAD_BODIES,
    NOBODY,
    UNKNOWN_IDS,
    V3,
    Refused,
    assert_bad_body,
    assert_deleted,
    assert_new,
    assert_problem,
)
from tests.service import Service

RECIPES = f"{V3}/recipes"
REQUIRED = {"name": "barebones", "recipe_type": "kiwi-ng", "linux_distribution": "sles15"}
DEFAULTS: dict[str, Any] = {
    "link": None,
    "template_dictionary": [],
    "require_dkms": True,
    "arch": "x86_64",
    "nightly": False,
    "nightly_failures": 0,
    "profiles": [],
    "kernel_file_name": None,
    "initrd_file_name": None,
    "kernel_parameters_file_name": None,
}
DISTRIBUTIONS = ("sles12", "sles15", "centos7", "debian12", "debian13", "opensuse-leap15", "rocky9")
VARIABLES = [{"key": "REPOSITORY", "value": "https://example.org/a?b=c"}, {"key": "_x1", "value": ""}]

BAD_FIELDS = {
    "unknown": Refused({**REQUIRED, "colour": "red"}, 422, ("colour",)),
    "id": Refused({**REQUIRED, "id": str(uuid4())}, 422, ("id",)),
    "created": Refused({**REQUIRED, "created": "2026-01-01T00:00:00Z"}, 422, ("created",)),
    "name empty": Refused({**REQUIRED, "name": ""}, 422, ("name",)),
    "name null": Refused({**REQUIRED, "name": None}, 422, ("name",)),
    "name NUL": Refused({**REQUIRED, "name": "a\0b"}, 422, ("name",)),
    "recipe_type": Refused({**REQUIRED, "recipe_type": "docker"}, 422, ("recipe_type",)),
    "distribution": Refused({**REQUIRED, "linux_distribution": "amiga"}, 422, ("linux_distribution",)),
    "arch": Refused({**REQUIRED, "arch": "riscv64"}, 422, ("arch",)),
    "profile empty": Refused({**REQUIRED, "profiles": [""]}, 422, ("profiles.0",)),
    "profile option": Refused({**REQUIRED, "profiles": ["--debug"]}, 422, ("profiles.0",)),
    "two profiles in one": Refused({**REQUIRED, "profiles": ["a,b"]}, 422, ("profiles.0",)),
    "many profiles": Refused({**REQUIRED, "profiles": ["a"] * 21}, 422, ("profiles",)),
    "kernel path": Refused({**REQUIRED, "kernel_file_name": "../vmlinuz"}, 422, ("kernel_file_name",)),
    "initrd long": Refused({**REQUIRED, "initrd_file_name": "x" * 256}, 422, ("initrd_file_name",)),
    "arch null": Refused({**REQUIRED, "arch": None}, 422, ("arch",)),
    "dkms null": Refused({**REQUIRED, "require_dkms": None}, 422, ("require_dkms",)),
    "dkms word": Refused({**REQUIRED, "require_dkms": "perhaps"}, 422, ("require_dkms",)),
    "dictionary null": Refused({**REQUIRED, "template_dictionary": None}, 422, ("template_dictionary",)),
    "dictionary mapping": Refused({**REQUIRED, "template_dictionary": {"A": "1"}}, 422, ("template_dictionary",)),
    "variable without value": Refused(
        {**REQUIRED, "template_dictionary": [{"key": "A"}]}, 422, ("template_dictionary.0.value",)
    ),
    "variable without key": Refused(
        {**REQUIRED, "template_dictionary": [{"value": "1"}]}, 422, ("template_dictionary.0.key",)
    ),
    "variable with an empty key": Refused(
        {**REQUIRED, "template_dictionary": [*VARIABLES, {"key": "", "value": "1"}]},
        422,
        ("template_dictionary.2.key",),
    ),
    "variable with more": Refused(
        {**REQUIRED, "template_dictionary": [{"key": "A", "value": "1", "type": "x"}]},
        422,
        ("template_dictionary.0.type",),
    ),
    "value number": Refused(
        {**REQUIRED, "template_dictionary": [{"key": "A", "value": 1}]}, 422, ("template_dictionary.0.value",)
    ),
    "value NUL": Refused(
        {**REQUIRED, "template_dictionary": [{"key": "A", "value": "\0"}]}, 422, ("template_dictionary.0.value",)
    ),
}

BAD_LINKS = {
    "text": Refused("s3://ims/recipe.tar.gz", fields=("link",)),
    "no path": Refused({"type": "s3"}, fields=("link.path",)),
    "path null": Refused({"path": None}, fields=("link.path",)),
    "path empty": Refused({"path": ""}, fields=("link.path",)),
    "path NUL": Refused({"path": "s3://ims/a\0b"}, fields=("link.path",)),
    "type": Refused({"path": "s3://ims/recipe.tar.gz", "type": "http"}, fields=("link.type",)),
    "etag null": Refused({"path": "s3://ims/recipe.tar.gz", "etag": None}, fields=("link.etag",)),
    "unknown": Refused({"path": "s3://ims/recipe.tar.gz", "size": 1}, fields=("link.size",)),
    "not S3": Refused({"path": "https://example.org/recipe.tar.gz"}, fields=("link",)),
    "no key": Refused({"path": "s3://ims"}, fields=("link",)),
    "no bucket": Refused({"path": "s3:///recipe.tar.gz"}, fields=("link",)),
    "bucket that is not there": Refused({"path": "s3://no-such-bucket/recipe.tar.gz"}, fields=("link",)),
    "object that is not there": Refused({"path": f"s3://ims/{uuid4()}"}, fields=("link",)),
    "key that S3 refuses": Refused({"path": "s3://ims/../recipe.tar.gz"}, fields=("link",)),
}

BAD_CHANGES = {
    "name empty": Refused({"name": ""}, 422, ("name",)),
    "name null": Refused({"name": None}, 422, ("name",)),
    "recipe_type": Refused({"recipe_type": "packer"}, 422, ("recipe_type",)),
    "linux_distribution": Refused({"linux_distribution": "sles12"}, 422, ("linux_distribution",)),
    "unknown beside a good one": Refused({"arch": "aarch64", "colour": "red"}, 422, ("colour",)),
    "arch": Refused({"arch": "riscv64"}, 422, ("arch",)),
    "arch null": Refused({"arch": None}, 422, ("arch",)),
    "dkms null": Refused({"require_dkms": None}, 422, ("require_dkms",)),
    "failures below none": Refused({"nightly_failures": -1}, 422, ("nightly_failures",)),
    "dictionary null": Refused({"template_dictionary": None}, 422, ("template_dictionary",)),
    "link null": Refused({"link": None}, 422, ("link",)),
    "variable": Refused({"template_dictionary": [{"key": "A"}]}, 422, ("template_dictionary.0.value",)),
    "good change, bad link": Refused({"arch": "aarch64", "link": {"path": f"s3://ims/{uuid4()}"}}, 422, ("link",)),
}

CHANGE = {"PATCH": {"arch": "aarch64"}}


def make(api: httpx.Client, **fields: Any) -> dict[str, Any]:
    """Creates a recipe."""
    answer = api.post(RECIPES, json={**REQUIRED, **fields})
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


def get(api: httpx.Client, recipe: dict[str, Any]) -> dict[str, Any]:
    """Returns a recipe."""
    answer = api.get(f"{RECIPES}/{recipe['id']}")
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def patch(api: httpx.Client, recipe: dict[str, Any], **fields: Any) -> httpx.Response:
    """Changes a recipe."""
    return api.patch(f"{RECIPES}/{recipe['id']}", json=fields)


def linked(path: str, etag: str = "") -> dict[str, str]:
    """Returns a link as answers have it."""
    return {"path": path, "type": "s3", "etag": etag}


@pytest.fixture
def archive(service: Service) -> str:
    """Creates an object in S3 that no record links."""
    return service.upload_recipe(b"archive")


def test_defaults(api: httpx.Client) -> None:
    """POST with the required fields creates a record with the fields of the contract; GET and the list return it."""
    recipe = make(api)
    assert_new(recipe, (*REQUIRED, *DEFAULTS))
    assert {**recipe, **REQUIRED, **DEFAULTS} == recipe
    assert get(api, recipe) == recipe
    listed = api.get(RECIPES)
    assert listed.status_code == 200
    assert listed.json().count(recipe) == 1


def test_every_field(api: httpx.Client, tasks: httpx.Client, archive: str) -> None:
    """All given fields are stored."""
    given = {
        "name": "größer / ein Rezept",
        "recipe_type": "packer",
        "linux_distribution": "centos7",
        "link": linked(archive, "0123456789abcdef0123456789abcdef"),
        "template_dictionary": VARIABLES,
        "require_dkms": False,
        "arch": "aarch64",
        "nightly": True,
        "nightly_failures": 2,
        "profiles": ["Base", "Lab"],
        "kernel_file_name": "vmlinuz-6.1~rc1",
        "initrd_file_name": "initramfs.img",
        "kernel_parameters_file_name": "cmdline",
    }
    recipe = make(tasks, **given)
    assert_new(recipe, given)
    assert get(api, recipe) == {**given, "id": recipe["id"], "created": recipe["created"]}


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_distributions(api: httpx.Client, distribution: str) -> None:
    """The distributions of IMS and those that can be built here are accepted."""
    assert make(api, linux_distribution=distribution)["linux_distribution"] == distribution


@pytest.mark.parametrize("name", BAD_FIELDS)
def test_bad_fields(api: httpx.Client, name: str) -> None:
    """The answer names unknown, missing and invalid fields, and no record is created."""
    before = api.get(RECIPES).json()
    case = BAD_FIELDS[name]
    assert_problem(api.post(RECIPES, json=case.sent), case.status, *case.fields)
    assert api.get(RECIPES).json() == before


@pytest.mark.parametrize("name", BAD_BODIES)
def test_bad_body(api: httpx.Client, name: str) -> None:
    """POST and PATCH refuse a body that is not a JSON object."""
    assert_bad_body(api, "POST", RECIPES, BAD_BODIES[name])
    assert_bad_body(api, "PATCH", f"{RECIPES}/{make(api)['id']}", BAD_BODIES[name])


@pytest.mark.parametrize("method", ["GET", "PATCH", "DELETE"])
@pytest.mark.parametrize("identity", UNKNOWN_IDS)
def test_unknown_id(api: httpx.Client, method: str, identity: str) -> None:
    """Unknown ids answer 404 with a problem."""
    assert_problem(api.request(method, f"{RECIPES}/{identity}", json=CHANGE.get(method)), 404)


@pytest.mark.parametrize(("method", "path"), [("PUT", ""), ("PATCH", ""), ("POST", f"/{NOBODY}")])
def test_no_such_method(api: httpx.Client, method: str, path: str) -> None:
    """Other methods answer 405 with a problem."""
    assert_problem(api.request(method, RECIPES + path, json=REQUIRED), 405)


@pytest.mark.parametrize("name", BAD_LINKS)
def test_bad_link(api: httpx.Client, name: str) -> None:
    """POST and PATCH refuse a link to an object that does not exist, and store nothing."""
    recipe, before = make(api), api.get(RECIPES).json()
    case = BAD_LINKS[name]
    assert_problem(api.post(RECIPES, json={**REQUIRED, "link": case.sent}), case.status, *case.fields)
    assert_problem(patch(api, recipe, link=case.sent), case.status, *case.fields)
    assert [item for item in api.get(RECIPES).json() if item["id"] != recipe["id"]] == before[:-1]
    assert get(api, recipe) == recipe


def test_link_without_type(api: httpx.Client, archive: str) -> None:
    """Only the path is required."""
    assert make(api, link={"path": archive})["link"] == linked(archive)


def test_link_with_another_etag(api: httpx.Client, service: Service, archive: str) -> None:
    """A different etag is only a warning in the log; the record has the given one."""
    assert service.store.stat(ObjectName.parse(archive)).etag != "different"
    assert make(api, link={"path": archive, "etag": "different"})["link"] == linked(archive, "different")


def test_link_is_set_once(api: httpx.Client, service: Service, archive: str) -> None:
    """PATCH sets a link and accepts the same link again; another link is a conflict, and no field changes."""
    recipe = make(api)
    for _time in range(2):
        answer = patch(api, recipe, link={"path": archive, "type": "s3"})
        assert answer.status_code == 200, answer.text
        assert answer.json() == {**recipe, "link": linked(archive)}
    another = service.upload_recipe(b"another")
    assert_problem(patch(api, recipe, link={"path": another}, arch="aarch64"), 409)
    assert get(api, recipe) == {**recipe, "link": linked(archive)}


def test_link_given_at_first_cannot_be_changed(api: httpx.Client, service: Service, archive: str) -> None:
    """A link that POST has set cannot change, either."""
    recipe = make(api, link={"path": archive})
    assert_problem(patch(api, recipe, link={"path": service.upload_recipe(b"another")}), 409)
    assert patch(api, recipe, link={"path": archive}).status_code == 200


def test_link_is_unique(api: httpx.Client, archive: str) -> None:
    """No two recipes can link the same object, unless the first one is deleted."""
    first, second = make(api, link={"path": archive}), make(api)
    assert_problem(api.post(RECIPES, json={**REQUIRED, "link": {"path": archive}}), 422, "link")
    assert_problem(patch(api, second, link={"path": archive}), 422, "link")
    assert get(api, second) == second
    assert_deleted(api.delete(f"{RECIPES}/{first['id']}"))
    assert patch(api, second, link={"path": archive}).status_code == 200


def test_link_is_unique_at_the_same_moment(api: httpx.Client, archive: str) -> None:
    """If many requests link an object at once, one succeeds and the others get a conflict."""
    body = {**REQUIRED, "link": {"path": archive}}
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _number: api.post(RECIPES, json=body), range(8)))
    refused = [answer for answer in answers if answer.status_code != 201]
    assert len(refused) == 7
    for answer in refused:
        assert_problem(answer, 422, "link")


CHANGES: dict[str, dict[str, Any]] = {
    "name": {"name": "another"},
    "arch": {"arch": "aarch64"},
    "dkms": {"require_dkms": False},
    "dictionary": {"template_dictionary": [{"key": "OTHER", "value": "1"}]},
    "nightly": {"nightly": True},
    "profiles": {"profiles": ["Lab"]},
    "boot files": {"kernel_file_name": "bzImage", "initrd_file_name": "initramfs.img"},
    "failures": {"nightly_failures": 2},
    "no dictionary": {"template_dictionary": []},
    "all": {"arch": "aarch64", "require_dkms": False, "template_dictionary": VARIABLES[:1]},
}


@pytest.mark.parametrize("name", CHANGES)
def test_change(api: httpx.Client, tasks: httpx.Client, name: str) -> None:
    """PATCH changes the given fields, a dictionary as a whole, and returns the record."""
    recipe = make(api, template_dictionary=VARIABLES)
    answer = patch(tasks if name == "failures" else api, recipe, **CHANGES[name])
    assert answer.status_code == 200, answer.text
    assert answer.json() == {**recipe, **CHANGES[name]}
    assert get(api, recipe) == answer.json()


def test_empty_names_of_boot_files(api: httpx.Client) -> None:
    """They stand for the defaults, as in jobs."""
    recipe = make(api, kernel_file_name="", initrd_file_name="initramfs.img")
    assert (recipe["kernel_file_name"], recipe["initrd_file_name"]) == (None, "initramfs.img")
    assert patch(api, recipe, initrd_file_name="").json()["initrd_file_name"] is None


def test_nightly_again(api: httpx.Client, tasks: httpx.Client) -> None:
    """Setting `nightly` resets the count of failed nights."""
    recipe = make(api, nightly=True)
    assert patch(tasks, recipe, nightly_failures=3).json()["nightly_failures"] == 3
    assert patch(api, recipe, nightly=True).json() == recipe


@pytest.mark.parametrize("name", BAD_CHANGES)
def test_bad_change(api: httpx.Client, tasks: httpx.Client, name: str) -> None:
    """The answer names fields that cannot be changed, and no field changes."""
    recipe = make(api, template_dictionary=VARIABLES)
    case = BAD_CHANGES[name]
    assert_problem(patch(tasks, recipe, **case.sent), case.status, *case.fields)
    assert get(api, recipe) == recipe


def test_delete(api: httpx.Client, service: Service, archive: str) -> None:
    """DELETE deletes one record and no other; its object stays."""
    one, other = make(api, link={"path": archive}), make(api)
    assert_deleted(api.delete(f"{RECIPES}/{one['id']}"))
    for method in ("GET", "PATCH", "DELETE"):
        assert_problem(api.request(method, f"{RECIPES}/{one['id']}", json=CHANGE.get(method)), 404)
    listed = api.get(RECIPES).json()
    assert one["id"] not in {item["id"] for item in listed}
    assert other in listed
    assert service.store.stat(ObjectName.parse(archive)).size == len(b"archive")


def test_delete_all(api: httpx.Client) -> None:
    """DELETE of the collection deletes all records."""
    recipe = make(api)
    assert_deleted(api.delete(RECIPES))
    assert api.get(RECIPES).json() == []
    assert_problem(api.get(f"{RECIPES}/{recipe['id']}"), 404)
