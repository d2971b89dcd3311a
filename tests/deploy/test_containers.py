"""The Dockerfiles of containers/, checked without building them; `make containers` builds the images."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = {path.parent.name: path.read_text() for path in (ROOT / "containers").glob("*/Dockerfile")}


def versions(name: str) -> dict[str, str]:
    """The packages of a lock file and their versions."""
    return dict(re.findall(r"(?m)^([\w.-]+)==(\S+) \\$", (ROOT / name).read_text()))


def requirements(name: str) -> set[str]:
    """The packages of a requirements file, spelled as in the lock file."""
    return set(re.findall(r"(?m)^([a-z][\w.-]*)", (ROOT / name).read_text()))


@pytest.mark.parametrize("name", ["airflow", "steps"])
def test_versions_match_the_tested_ones(name: str) -> None:
    """The images contain what the tests run with."""
    lock, tested = versions(f"requirements-{name}.lock"), versions("requirements.lock")
    assert requirements(f"requirements-{name}.txt") <= set(lock)
    assert {package: version for package, version in lock.items() if tested.get(package, version) != version} == {}


def test_airflow_image_has_the_requirements_of_the_service() -> None:
    """These are the lines of requirements.txt above the stack on one machine."""
    service = (ROOT / "requirements.txt").read_text().split("\n# The stack on one machine")[0]
    names = set(re.findall(r"(?m)^([a-z][\w.-]*)", service)) - {"rich", "typer"}  # the command line
    assert names <= requirements("requirements-airflow.txt")


@pytest.mark.parametrize("name", FILES)
def test_image(name: str) -> None:
    """It runs as an ordinary user, and .dockerignore admits the files that it copies."""
    text = FILES[name]
    assert re.findall(r"(?m)^FROM (.*)$", text) == ["debian:bookworm-slim"]
    assert re.findall(r"(?m)^USER (.*)$", text)[-1] in ("1000:1000", "50000:0")
    admitted = re.findall(r"(?m)^!(.*)$", (ROOT / ".dockerignore").read_text())
    for source in re.findall(r"(?m)^COPY (\S+) ", text):
        assert (ROOT / source).exists()
        assert any(source == name or source.startswith(f"{name}/") for name in admitted)
