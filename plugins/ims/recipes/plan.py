"""Decides whether an image has to be built again, and why.

In doubt it is built: an unnecessary build costs time, but a skipped build would leave an outdated image.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Literal

from pydantic import BaseModel

from ims.recipes.build_inputs import BuildInputs, Package
from ims.recipes.package_request import UnknownPackagesError

Verdict = Literal["skip", "repack", "build"]
Resolve = Callable[[], Sequence[Package]]

_DECISIVE = ("description", "bootstrap_script", "arch", "builder", "ca_certificate", "boot_files")
"""The fields that must all be equal to use anything of the last build again."""
_DIGESTS = ("description", "bootstrap_script", "files", "ca_certificate")
_ALGORITHM = "sha256:"
SHOWN = 200
"""How many lines of a package delta a plan contains."""


class Decision(BaseModel):
    """A verdict and its reason, the fields that differ, and the packages that differ."""

    verdict: Verdict
    reason: str
    differs: list[str] = []
    packages: list[str] = []


def decide(before: BuildInputs | None, now: BuildInputs, resolve: Resolve) -> Decision:
    """Compare the build inputs of the last image with those of a new build.

    `resolve` predicts the packages of a new build. It is called only if the verdict depends on them.
    """
    if before is None:
        return Decision(verdict="build", reason="there is no image with known build inputs")
    differs = [name for name in (*_DECISIVE, "files", "repositories") if getattr(before, name) != getattr(now, name)]
    if decisive := [name for name in differs if name in _DECISIVE]:
        return Decision(verdict="build", reason=f"{_words(decisive)} changed", differs=differs)
    if opaque := _opaque(before, now):
        return Decision(verdict="build", reason=f"it is unknown what changed: {'; '.join(opaque[:3])}", differs=differs)
    if before.packages is None:
        return Decision(
            verdict="build", reason=f"the packages of the last build are unknown: {before.unknown}", differs=differs
        )
    if set(before.repositories) != set(now.repositories):
        return Decision(verdict="build", reason="the recipe has other repositories", differs=differs)
    if "repositories" in differs:
        return _by_packages(before.packages, now, resolve, differs)
    return _unchanged(differs)


def _opaque(before: BuildInputs, now: BuildInputs) -> Sequence[str]:
    """What is not observed: as long as nothing else changes, scripts use the network as they did in the last build."""
    unknown = ("the last build did not state what scripts downloaded",)
    return (*now.opaque, *(unknown if before.downloads is None else before.downloads))


def _by_packages(before: Sequence[Package], now: BuildInputs, resolve: Resolve, differs: list[str]) -> Decision:
    try:
        delta = package_delta(before, now.with_packages(resolve()).packages or ())
    except UnknownPackagesError as error:
        return Decision(
            verdict="build",
            reason=f"repositories changed, and the packages cannot be predicted: {error}",
            differs=differs,
        )
    if delta:
        return Decision(
            verdict="build", reason=f"{len(delta)} packages changed", differs=differs, packages=delta[:SHOWN]
        )
    return _unchanged(differs)


def _unchanged(differs: list[str]) -> Decision:
    """The decision if the packages are the same: files of the recipe may differ."""
    rest = "repositories changed, the packages did not" if "repositories" in differs else "nothing else changed"
    if "files" in differs:
        return Decision(verdict="repack", reason=f"overlay files or scripts changed; {rest}", differs=differs)
    reason = "repositories changed, but no package of the image" if "repositories" in differs else "nothing changed"
    return Decision(verdict="skip", reason=reason, differs=differs)


def package_delta(before: Sequence[Package], now: Sequence[Package]) -> list[str]:
    """One line for each package that is new, removed, of another version, or of the same version with other content."""
    old, new = _by_name(before), _by_name(now)
    lines = []
    for name in sorted(old.keys() | new.keys()):
        first, second = old.get(name, []), new.get(name, [])
        if first == second:
            continue
        texts = [", ".join(package.version for package in found) or "none" for found in (first, second)]
        lines.append(f"{name} {texts[0]} -> {texts[1]}" + (" (other content)" if texts[0] == texts[1] else ""))
    return lines


def _by_name(packages: Sequence[Package]) -> dict[str, list[Package]]:
    found: dict[str, list[Package]] = {}
    for package in packages:
        found.setdefault(f"{package.name}.{package.arch}", []).append(package)
    return {name: sorted(items, key=lambda item: (item.version, item.checksum)) for name, items in found.items()}


def _words(names: Sequence[str]) -> str:
    return ", ".join(name.replace("_", " ") for name in names)


class PlannedInput(BaseModel):
    """An input of a build. `observed` is its digest or value now, `before` that of the newest image, if there is one.

    If it cannot be observed, `opaque` says why, and `changed` is null: it is unknown whether it changed.
    """

    name: str
    observed: str | None = None
    before: str | None = None
    changed: bool | None = None
    opaque: str = ""


def describe_inputs(before: BuildInputs, now: BuildInputs, decision: Decision) -> list[PlannedInput]:
    """All inputs of a build, given those of the newest image and the decision that follows from them."""
    old, new = dict(_observed(before)), dict(_observed(now))
    observed = [
        PlannedInput(name=name, observed=new.get(name), before=old.get(name), changed=old.get(name) != new.get(name))
        for name in {**new, **old}
    ]
    opaque = [PlannedInput(name="not observed", opaque=reason) for reason in _opaque(before, now)]
    return [*observed, _packages(before, now, decision), *opaque]


def _observed(inputs: BuildInputs) -> Iterator[tuple[str, str | None]]:
    for name in _DIGESTS:
        digest = getattr(inputs, name)
        yield name, f"{_ALGORITHM}{digest}" if digest else None
    yield "arch", inputs.arch
    groups: dict[str, Mapping[str, str | None]] = {"boot_files": inputs.boot_files, "builder": inputs.builder}
    for group, values in groups.items():
        for name, value in sorted(values.items()):
            yield f"{group}: {name}", value
    for address, digest in sorted(inputs.repositories.items()):
        yield f"repository: {address}", f"{_ALGORITHM}{digest}"


def _packages(before: BuildInputs, now: BuildInputs, decision: Decision) -> PlannedInput:
    """The packages. If the repositories are the same, so are they: the solver is not asked."""
    known = before.packages_digest and f"{_ALGORITHM}{before.packages_digest}"
    if before.packages is None:
        return PlannedInput(name="packages", opaque=before.unknown or "the packages of the newest image are unknown")
    if before.repositories == now.repositories or decision.verdict != "build":
        return PlannedInput(name="packages", observed=known, before=known, changed=False)
    if decision.packages:
        return PlannedInput(name="packages", observed=f"{len(decision.packages)} others", before=known, changed=True)
    return PlannedInput(name="packages", before=known, opaque="they were not compared: see the reason of the verdict")
