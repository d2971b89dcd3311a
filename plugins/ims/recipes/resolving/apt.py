"""Resolves package requests with apt-get."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from urllib.parse import unquote, urlsplit

from ims.recipes.build_inputs import Package
from ims.recipes.package_request import PackageRequest, Source, UnknownPackagesError
from ims.recipes.resolving.programs import run

# What kiwi installs first: the packages that every Debian system has, and apt.
_ALWAYS = ("?essential", "apt")
_CONFIGURATION = """\
Dir::State "{folder}";
Dir::State::lists "{folder}/lists";
Dir::State::status "{folder}/status";
Dir::Cache "{folder}";
Dir::Etc::sourcelist "/dev/null";
Dir::Etc::sourceparts "{folder}/sources";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "{folder}/preferences";
APT::Sandbox::User "";
APT::Install-Recommends "{recommended}";
Acquire::Languages "none";
Acquire::ForceHash "SHA256";
Acquire::Retries "2";
Acquire::https::CaInfo "{certificates}";
"""
# Signatures are verified by the build. Nothing is installed here.
_SOURCE = """\
Types: deb
URIs: {url}
Suites: {suites}
Trusted: yes
Check-Valid-Until: no
"""
_RECENT = 3600  # seconds; more than the difference between the clocks of two machines
_MISSING = re.compile(r"E: Unable to locate package (\S+)")
_LINE = re.compile(r"'\S+' (?P<file>\S+)\.deb \d+ SHA256:(?P<checksum>[0-9a-f]{64})")


def resolve(request: PackageRequest, folder: Path, certificates: Path) -> list[Package]:
    """See `ims.recipes.resolving.resolve`."""
    for name in ("sources", "preferences"):
        shutil.rmtree(folder / name, ignore_errors=True)
    for name in ("sources", "preferences", "lists/partial", "archives/partial"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / "status").write_text("")
    for number, source in enumerate(request.sources):
        _write_source(source, folder, f"{number:03}")
    configuration = folder / "apt.conf"
    recommended = str(request.recommended).lower()
    configuration.write_text(_CONFIGURATION.format(folder=folder, certificates=certificates, recommended=recommended))
    _remove_recent(folder / "lists")
    apt = ["apt-get", "-c", str(configuration), "-q"]
    run([*apt, "-o", "APT::Update::Error-Mode=any", "update"], folder)
    install = [*apt, "-q", "-y", "--print-uris", "install", "--", *_ALWAYS, *request.packages]
    output = run(install, folder, missing=_MISSING)
    return [_parse(line) for line in output.splitlines() if line.startswith("'")]


def _remove_recent(lists: Path) -> None:
    """Remove indexes that were published shortly before they were fetched, so that they are fetched again.

    HTTP states times in seconds: the server would not report a change within the same second.
    """
    for path in lists.glob("*Release"):
        published, fetched = path.stat().st_mtime, path.stat().st_ctime
        if fetched - published < _RECENT:
            path.unlink()


def _write_source(source: Source, folder: Path, name: str) -> None:
    url = source.metadata_url.partition("/dists/")[0] if source.distribution else source.metadata_url.rpartition("/")[0]
    text = _SOURCE.format(url=url, suites=source.distribution or "./")
    if source.distribution:
        text += f"Components: {source.components}\n"
    (folder / "sources" / f"{name}.sources").write_text(text)
    if source.priority:
        pin = f'Package: *\nPin: origin "{urlsplit(source.url).hostname or ""}"\nPin-Priority: {source.priority}\n'
        (folder / "preferences" / f"{name}.pref").write_text(pin)


def _parse(line: str) -> Package:
    """Parse a line `'URI' NAME_VERSION_ARCH.deb SIZE SHA256:…`, in which a colon of the version is written as %3a."""
    match = _LINE.fullmatch(line.strip())
    parts = match["file"].split("_") if match is not None else ()
    if match is None or len(parts) != 3:
        raise UnknownPackagesError(f"apt-get printed an unknown line: {line[:200]}")
    name, version, arch = (unquote(part) for part in parts)
    return Package(name=name, version=version, arch=arch, checksum=match["checksum"])
