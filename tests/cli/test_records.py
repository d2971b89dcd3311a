"""Recipes, images and public keys against a running stack: every verb, with the options of `cray`."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

import pytest

from tests.api.test_inventory import debs, link_to, listed, sbom_of
from tests.cli.conftest import PLAIN_RECIPE, Cli, Key
from tests.service import PUBLIC_KEY, Service


@pytest.fixture
def name() -> str:
    """A name that no record has."""
    return f"cli-{uuid4().hex[:8]}"


@pytest.fixture
def archive(service: Service) -> str:
    """The address of an object in S3."""
    return service.upload_recipe(b"an archive")


def test_recipe(cli: Cli, name: str, archive: str) -> None:
    """A recipe can be created, changed, deleted and undeleted."""
    made = cli.json(
        *("recipes", "create", "--name", name, "--recipe-type", "kiwi-ng", "--linux-distribution", "sles15"),
        *("--link-type", "s3", "--link-path", archive, "--link-etag", "x", "--arch", "aarch64"),
        *("--template-dictionary-key", "A,B", "--template-dictionary-value", "1,", "--require-dkms", "False"),
    )
    assert made["link"] == {"path": archive, "type": "s3", "etag": "x"}
    assert made["template_dictionary"] == [{"key": "A", "value": "1"}, {"key": "B", "value": ""}]
    assert (made["arch"], made["require_dkms"]) == ("aarch64", False)
    assert cli.json("recipes", "describe", name) == made
    assert cli.json("recipes", "list", "--name", name) == [made]
    assert made in cli.json("recipes", "list")
    changed = cli.json("recipes", "update", "--arch", "x86_64", made["id"], "--require-dkms", "true")
    assert changed == {**made, "arch": "x86_64", "require_dkms": True}
    assert cli.json("recipes", "update", name, "--template-dictionary-key", "")["template_dictionary"] == []
    assert [doomed["id"] for doomed in cli.json("recipes", "delete", name, "--dry-run")] == [made["id"]]
    assert cli.ok("recipes", "delete", name) == ""
    assert f"no recipe has the id or name {name}" in cli.refused("recipes", "describe", name)
    assert cli.json("deleted", "recipes", "describe", name)["id"] == made["id"]
    assert cli.ok("deleted", "recipes", "update", made["id"], "--operation", "undelete") == ""
    assert cli.json("recipes", "describe", made["id"])["name"] == name


def test_recipe_gets_its_link_later(cli: Cli, name: str, archive: str) -> None:
    """A recipe can get its link after it was registered, but only once."""
    made = cli.json("recipes", "create", "--name", name, "--recipe-type", "kiwi-ng", "--linux-distribution", "sles15")
    linked = cli.json("recipes", "update", made["id"], "--link-type", "s3", "--link-path", archive)
    assert linked["link"]["path"] == archive
    error = cli.refused("recipes", "update", made["id"], "--link-path", "s3://ims/another")
    assert error.startswith(("Conflict: ", "Unprocessable Entity: "))
    assert "--link-path" in cli.refused("recipes", "update", made["id"], "--link-etag", "x")


def test_image(cli: Cli, name: str) -> None:
    """An image can be created, labeled, pinned, deleted and purged."""
    made = cli.json("images", "create", "--name", name, "--metadata-key", "project", "--metadata-value", "csm")
    assert made["metadata"] == {"project": "csm"}
    change = ("images", "update", made["id"], "--metadata-operation")
    assert cli.json(*change, "set", "--metadata-key", "a", "--metadata-value", "b=c")["metadata"] == {
        "project": "csm",
        "a": "b=c",
    }
    assert cli.json(*change, "remove", "--metadata-key", "project")["metadata"] == {"a": "b=c"}
    assert "--metadata-operation" in cli.refused("images", "update", name, "--metadata-key", "a")
    assert cli.json("images", "update", name, "--arch", "aarch64")["arch"] == "aarch64"
    assert cli.json("images", "update", name, "--pinned", "True")["pinned"] is True
    assert cli.json("images", "update", name, "--pinned", "False")["pinned"] is False
    assert "nothing to change" in cli.refused("images", "update", name)
    cli.ok("images", "delete", made["id"])
    assert [image["id"] for image in cli.json("deleted", "images", "list", "--name", name)] == [made["id"]]
    cli.ok("deleted", "images", "delete", name)
    assert cli.json("deleted", "images", "list", "--name", name) == []


def test_packages_and_differences(cli: Cli, service: Service, name: str) -> None:
    """Images can be listed by package and compared by id or name."""
    names = [f"{name}-1", f"{name}-2"]
    ids = []
    for image, version in zip(names, ("3.0.9-1", "3.0.15-1"), strict=True):
        link = link_to(service, sbom_of(debs(**{name: version})), files=listed((f"/{version}", 1)))["path"]
        ids.append(cli.json("images", "create", "--name", image, "--link-path", link)["id"])
    assert [image["id"] for image in cli.json("images", "list", "--package", name)] == ids
    below = ("images", "list", "--package", name, "--package-below", "3.0.15")
    assert [image["id"] for image in cli.json(*below)] == ids[:1]
    assert "package_below" in cli.refused("images", "list", "--package-below", "3.0.15")
    assert cli.json("images", "packages", names[0])[0]["version"] == "3.0.9-1"
    assert cli.ok("images", "packages", ids[0]).splitlines()[1].split() == [
        name,
        "3.0.9-1",
        "amd64",
        "deb",
        name,
        "MIT",
    ]
    assert cli.json("images", "diff", names[0], ids[1])["rootfs"]["difference"] == 0
    assert [line.split() for line in cli.ok("images", "diff", *names).splitlines()] == [
        ["WHAT", "NAME", "BEFORE", "AFTER"],
        ["package", "changed", name, "(amd64)", "3.0.9-1", "3.0.15-1"],
        ["file", "added", "/3.0.15-1", "1"],
        ["file", "removed", "/3.0.9-1", "1"],
        ["size", "rootfs", "6", "6"],
    ]


def test_public_key(cli: Cli, name: str, tmp_path: Path) -> None:
    """A public key can be registered, deleted and undeleted. The service refuses an invalid key."""
    path = tmp_path / "id.pub"
    path.write_text(f"{PUBLIC_KEY}\n")
    made = cli.json("public-keys", "create", "--name", name, "--public-key", path)
    assert made["public_key"] == f"{PUBLIC_KEY}\n"
    assert cli.json("public-keys", "describe", name) == made
    cli.ok("public-keys", "delete", name)
    cli.ok("deleted", "public-keys", "update", "--operation", "undelete", made["id"])
    assert cli.json("public-keys", "describe", name)["id"] == made["id"]
    path.write_text("ssh-ed25519 no key")
    assert "public_key" in cli.refused("public-keys", "create", "--name", name, "--public-key", path)


def test_names(cli: Cli, name: str) -> None:
    """A name means the newest record, the beginning of an id means one record, and an unknown id is an error."""
    ids = [cli.json("images", "create", "--name", name)["id"] for _ in range(3)]
    assert cli.json("images", "describe", name)["id"] == ids[2]
    cli.ok("images", "delete", ids[2].upper())
    assert cli.json("images", "describe", name)["id"] == ids[1]
    assert cli.json("images", "describe", ids[0][:13])["id"] == ids[0]
    assert ids[1] in cli.run("images", "delete", name).stderr
    assert [image["id"] for image in cli.json("images", "list", "--name", name)] == ids[:1]
    assert cli.refused("images", "describe", f"{name}x").endswith("List them with ims images list")
    unknown = cli.refused("images", "describe", str(uuid4()))
    assert unknown.startswith("Not Found: ")
    assert "ims images list" in unknown


def test_delete_all(cli: Cli, service: Service, recipe: object, key: Key) -> None:
    """A dry run shows all records of a kind, and the command deletes them.

    The test undeletes them because later tests need them.
    """
    for kind in ("recipes", "public-keys"):
        before = cli.json(kind, "list")
        assert before
        doomed = cli.json(kind, "deleteall", "--dry-run")
        assert {record["id"] for record in doomed} == {record["id"] for record in before}
        assert cli.json(kind, "list") == before
        assert cli.ok(kind, "deleteall") == ""
        assert cli.json(kind, "list") == []
        for record in before:
            cli.ok("deleted", kind, "update", record["id"], "--operation", "undelete")
        assert cli.json(kind, "list") == before


def test_push(cli: Cli, service: Service, name: str) -> None:
    """A folder is packed, uploaded and registered. Pushing it again creates another record, which the name then means.

    The template variables of the first push stay unless they are given again.
    """
    push = ("recipes", "push", PLAIN_RECIPE, "--name", name, "--distribution", "sles15", "--var", "A=1=2,3")
    first = cli.json(*push, "--var", "B=")
    assert first["template_dictionary"] == [{"key": "A", "value": "1=2,3"}, {"key": "B", "value": ""}]
    assert (first["name"], first["recipe_type"], first["linux_distribution"]) == (name, "kiwi-ng", "sles15")
    again = cli.run(*push)
    assert again.returncode == 0, again.stderr
    assert "kept template variables of the last push: B\n" in again.stderr
    records = cli.json("recipes", "list", "--name", name)
    assert len({record["link"]["path"] for record in records}) == 2
    assert cli.json("recipes", "describe", name) == records[-1]
    assert records[-1]["template_dictionary"] == first["template_dictionary"]
    assert cli.json("recipes", "push", PLAIN_RECIPE)["name"] == "recipe"


def test_push_without_credentials_for_s3(cli: Cli, name: str) -> None:
    """The service issues temporary credentials for S3 to users that may push."""
    alone = cli.with_variables(**{variable: None for variable in cli.environment if variable.startswith("AWS_")})
    made = alone.json("recipes", "push", PLAIN_RECIPE, "--name", name)
    assert cli.json("recipes", "describe", name) == made


def test_failed_push(cli: Cli, tmp_path: Path) -> None:
    """A push that fails registers nothing and prints the reason in one line."""
    before = cli.json("recipes", "list")
    assert "config.xml" in cli.refused("recipes", "push", tmp_path)
    assert "KEY=VALUE" in cli.refused("recipes", "push", PLAIN_RECIPE, "--var", "A")
    assert "S3 refuses" in cli.with_variables(AWS_SECRET_ACCESS_KEY="x").refused("recipes", "push", PLAIN_RECIPE)
    assert "linux_distribution" in cli.refused("recipes", "push", PLAIN_RECIPE, "--distribution", "beos")
    assert cli.json("recipes", "list") == before
