"""What is said in containers/, without building: the images are built by `make containers`."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = {path.parent.name: path.read_text() for path in (ROOT / "containers").glob("*/Dockerfile")}


def versions(name: str) -> dict[str, str]:
    """Packages and versions of a lock."""
    return dict(re.findall(r"(?m)^([\w.-]+)==(\S+) \\$", (ROOT / name).read_text()))


def wanted(name: str) -> set[str]:
    """Packages of a list, in the lock's spelling."""
    return set(re.findall(r"(?m)^([a-z][\w.-]*)", (ROOT / name).read_text()))


@pytest.mark.parametrize("name", ["airflow", "steps"])
def test_versions_are_those_of_the_tests(name: str) -> None:
    """What is tested is what is in the images."""
    lock, tested = versions(f"requirements-{name}.lock"), versions("requirements.lock")
    assert wanted(f"requirements-{name}.txt") <= set(lock)
    assert {package: version for package, version in lock.items() if tested.get(package, version) != version} == {}


def test_airflow_has_what_the_service_has() -> None:
    """All of requirements.txt above the stack on one machine."""
    service = (ROOT / "requirements.txt").read_text().split("\n# The stack on one machine")[0]
    names = set(re.findall(r"(?m)^([a-z][\w.-]*)", service)) - {"rich", "typer"}  # the command line
    assert names <= wanted("requirements-airflow.txt")


@pytest.mark.parametrize("name", FILES)
def test_image(name: str) -> None:
    """Non-root, and made of files that .dockerignore lets in."""
    text = FILES[name]
    assert re.findall(r"(?m)^FROM (.*)$", text) == ["debian:bookworm-slim"]
    assert re.findall(r"(?m)^USER (.*)$", text)[-1] in ("1000:1000", "50000:0")
    let_in = re.findall(r"(?m)^!(.*)$", (ROOT / ".dockerignore").read_text())
    for source in re.findall(r"(?m)^COPY (\S+) ", text):
        assert (ROOT / source).exists()
        assert any(source == name or source.startswith(f"{name}/") for name in let_in)
