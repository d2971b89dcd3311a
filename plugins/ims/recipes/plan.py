"""Whether an image has to be built again, and why.

Doubt means: build. A wrong skip would be a defect, a wrong build is only a cost.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

from pydantic import BaseModel

from ims.recipes.provenance import Package, Provenance
from ims.recipes.wanted import UnknownPackagesError

Verdict = Literal["skip", "repack", "build"]
Resolve = Callable[[], Sequence[Package]]

_DECISIVE = ("description", "bootstrap_script", "arch", "builder", "ca_certificate", "boot_files")
"""Fields of which none may differ if anything of the last build is to be used again."""
SHOWN = 200
"""Lines of a package delta that a plan has room for."""


class Decision(BaseModel):
    """A verdict, the fields that differ, and which packages do."""

    verdict: Verdict
    reason: str
    differs: list[str] = []
    packages: list[str] = []


def decide(before: Provenance | None, now: Provenance, resolve: Resolve) -> Decision:
    """Compare what decided the last image with what would decide one now.

    `resolve` tells the packages that would be installed now; it is asked only if the answer hangs on it.
    """
    if before is None:
        return Decision(verdict="build", reason="there is no image of it whose provenance is known")
    differs = [name for name in (*_DECISIVE, "files", "repositories") if getattr(before, name) != getattr(now, name)]
    if decisive := [name for name in differs if name in _DECISIVE]:
        return Decision(verdict="build", reason=f"{_words(decisive)} changed", differs=differs)
    if "repositories" in differs:
        return _by_packages(before, now, resolve, differs)
    return _unchanged(differs)


def _by_packages(before: Provenance, now: Provenance, resolve: Resolve, differs: list[str]) -> Decision:
    if set(before.repositories) != set(now.repositories):
        return Decision(verdict="build", reason="it has other repositories", differs=differs)
    if before.packages is None:
        return Decision(
            verdict="build",
            reason=f"repositories changed, and what the image was built from is not known: {before.unknown}",
            differs=differs,
        )
    try:
        delta = package_delta(before.packages, now.with_packages(resolve()).packages or ())
    except UnknownPackagesError as error:
        return Decision(
            verdict="build", reason=f"repositories changed, and the packages cannot be told: {error}", differs=differs
        )
    if delta:
        return Decision(
            verdict="build", reason=f"{len(delta)} packages changed", differs=differs, packages=delta[:SHOWN]
        )
    return _unchanged(differs)


def _unchanged(differs: list[str]) -> Decision:
    """The packages are the same; what kiwi does with them may not be."""
    same = "repositories changed, the packages did not" if "repositories" in differs else "nothing else changed"
    if "files" in differs:
        return Decision(verdict="repack", reason=f"overlay files or scripts changed; {same}", differs=differs)
    reason = "repositories changed, but no package of it" if "repositories" in differs else "nothing changed"
    return Decision(verdict="skip", reason=reason, differs=differs)


def package_delta(before: Sequence[Package], now: Sequence[Package]) -> list[str]:
    """Lines that say what became of packages: new, gone, another version, or the same version with other content."""
    old, new = _by_name(before), _by_name(now)
    lines = []
    for name in sorted(old.keys() | new.keys()):
        was, becomes = old.get(name, []), new.get(name, [])
        if was == becomes:
            continue
        texts = [", ".join(package.version for package in found) or "none" for found in (was, becomes)]
        lines.append(f"{name} {texts[0]} -> {texts[1]}" + (" (other content)" if texts[0] == texts[1] else ""))
    return lines


def _by_name(packages: Sequence[Package]) -> dict[str, list[Package]]:
    found: dict[str, list[Package]] = {}
    for package in packages:
        found.setdefault(f"{package.name}.{package.arch}", []).append(package)
    return {name: sorted(items, key=lambda item: (item.version, item.checksum)) for name, items in found.items()}


def _words(names: Sequence[str]) -> str:
    return ", ".join(name.replace("_", " ") for name in names)
