"""`-o json|yaml|wide|name`, `-h` and `--version`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ims import __version__
from tests.cli.fake_service import FakeService, Program, connect_to


@pytest.fixture
def fake() -> FakeService:
    """A recipe and the image that was built from it, another image, and a job that failed."""
    fake = FakeService()
    recipe, gone = fake.add("recipes", "sles"), fake.add("deleted/recipes", "old")
    for name, source in (("site", recipe), ("former", gone), ("lost", "0c7d1a52-gone"), ("registered", None)):
        pinned = name == "site"
        fields = {"size": 25 * 2**19 if pinned else None, "pinned": pinned, "kernels": ["6.4.0"]}
        fake.add("images", name, source_recipe_id=source, package_count=167, **fields)
    fake.add(
        "jobs", "x", status="error", reason="build_image: no space left", started_by="ada", image_root_archive_name="x"
    )
    return fake


@pytest.fixture
def program(fake: FakeService, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Program:
    """The program, connected to the service."""
    return connect_to(fake, monkeypatch, tmp_path)


def test_images(program: Program, fake: FakeService) -> None:
    """The table names the recipe, even a deleted one, and shows what is pinned; programs get what the API returned."""
    head, *rows = program.run("images", "list").stdout.splitlines()
    assert head.split() == ["ID", "NAME", "CREATED", "RECIPE", "SIZE", "PACKAGES", "PINNED"]
    assert [row.split()[4:] for row in rows] == [
        ["sles", "12.5", "MiB", "167", "yes"],
        ["old", "167"],
        ["0c7d1a52-gone", "167"],
        ["167"],
    ]
    assert program.json("images", "list") == fake.records["images"]


def test_versions_of_a_package(program: Program, fake: FakeService, monkeypatch: pytest.MonkeyPatch) -> None:
    """The table shows which versions the images contain. Programs get what the API returned."""
    for number, identity in enumerate(fake.ids("images")):
        versions = ["3.0.1", "3.0.2"] if number == 0 else ["3.0.3"]
        found = [{"name": "openssl", "version": version} for version in versions] + [{"name": "bash", "version": "5"}]
        fake.answers[f"images/{identity}/packages"] = found
    for words in (("--package-below", "openssl=3.1"), ("--package", "openssl", "--package-below", "openssl=3.1")):
        head, *rows = program.run("images", "list", *words).stdout.splitlines()
        assert fake.requests[0].url.params["package"] == "openssl"
        assert fake.requests[0].url.params["package_below"] == "3.1"
        assert head.split()[-1] == "VERSIONS"
        assert [row.partition("167")[2].replace("yes", "").strip() for row in rows] == ["3.0.1, 3.0.2", *["3.0.3"] * 3]
        fake.requests.clear()
    assert program.json("images", "list", "--package", "openssl") == fake.records["images"]
    monkeypatch.setattr("ims.cli.images.MAX_LOOKUPS", 1)
    done = program.run("images", "list", "--package", "openssl")
    assert (done.stdout.count("3.0.1"), done.stdout.count("3.0.3")) == (1, 0)
    assert "the first 1 images" in done.stderr
    refused = program.refused("images", "list", "--package", "bash", "--package-below", "openssl=3.1")
    assert refused == "--package names bash, --package-below openssl. Name one package"


def test_wide(program: Program) -> None:
    """There are more columns."""
    head, first, *_ = program.run("images", "list", "-o", "wide").stdout.splitlines()
    assert head.split()[7:9] == ["ARCH", "KERNELS"]
    assert first.split()[9:11] == ["x86_64", "6.4.0"]
    head, first = program.run("-o", "wide", "jobs", "list").stdout.splitlines()
    assert first.split()[-1] == "ada"


def test_reason(program: Program) -> None:
    """A list of jobs says why they failed."""
    assert "build_image: no space left" in program.run("jobs", "list").stdout


def test_names(program: Program, fake: FakeService) -> None:
    """Each line is an id, which other commands take."""
    assert program.run("images", "list", "-o", "name").stdout.split() == fake.ids("images")
    assert program.run("images", "describe", "site", "-o", "name").stdout.split() == fake.ids("images")[:1]
    assert program.run("images", "delete", "lost", "--dry-run", "-o", "name").stdout.split() == fake.ids("images")[2:3]


@pytest.mark.parametrize("words", [("-o", "json", "recipes", "list"), ("recipes", "list", "-o", "json")])
def test_short_option(program: Program, words: tuple[str, ...]) -> None:
    """It is the same as `--format`."""
    assert json.loads(program.run(*words).stdout)[0]["name"] == "sles"


@pytest.mark.parametrize("words", [(), ("images",), ("images", "list"), ("deleted", "images", "update")])
def test_help(program: Program, words: tuple[str, ...]) -> None:
    """`-h` is short for `--help`."""
    short, long = (program.run(*words, option) for option in ("-h", "--help"))
    assert (short.code, short.stdout) == (0, long.stdout)
    assert "Usage" in short.stdout


def test_version(program: Program, fake: FakeService) -> None:
    """That of the program needs no service."""
    assert program.run("--version").stdout == f"ims {__version__}\n"
    assert fake.requests == []


def test_filters_of_images(program: Program, fake: FakeService) -> None:
    """Every filter of the API is an option; the service checks the values."""
    options = {
        "arch": ["aarch64"],
        "metadata": ["owner=ada", "rack=7"],
        "created_after": ["2026-01-01"],
        "created_before": ["2026-12-01T08:00"],
        "package": ["openssl"],
        "package_below": ["3.0"],
    }
    words = [
        part for name, values in options.items() for value in values for part in (f"--{name.replace('_', '-')}", value)
    ]
    program.json("images", "list", *words)
    sent = fake.requests[-1].url.params
    assert {name: sent.get_list(name) for name in sent} == options
