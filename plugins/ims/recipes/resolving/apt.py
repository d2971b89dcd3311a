"""What apt-get would install, asked of apt-get itself."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from urllib.parse import unquote, urlsplit

from ims.recipes.provenance import Package
from ims.recipes.resolving.programs import run
from ims.recipes.wanted import Source, UnknownPackagesError, Wanted

# As kiwi installs first: what every Debian system has, and apt.
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
# The signature is the build's affair: what is compared here is not installed.
_SOURCE = """\
Types: deb
URIs: {url}
Suites: {suites}
Trusted: yes
Check-Valid-Until: no
"""
_FRESH = 3600  # seconds, more than the clocks of two machines differ
_LINE = re.compile(r"'\S+' (?P<file>\S+)\.deb \d+ SHA256:(?P<checksum>[0-9a-f]{64})")


def resolve(wanted: Wanted, folder: Path, certificates: Path) -> list[Package]:
    """See `ims.recipes.resolving.resolve`."""
    for name in ("sources", "preferences"):
        shutil.rmtree(folder / name, ignore_errors=True)
    for name in ("sources", "preferences", "lists/partial", "archives/partial"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / "status").write_text("")
    for number, source in enumerate(wanted.sources):
        _write_source(source, folder, f"{number:03}")
    configuration = folder / "apt.conf"
    recommended = str(wanted.recommended).lower()
    configuration.write_text(_CONFIGURATION.format(folder=folder, certificates=certificates, recommended=recommended))
    _forget_fresh(folder / "lists")
    apt = ["apt-get", "-c", str(configuration), "-q"]
    run([*apt, "-o", "APT::Update::Error-Mode=any", "update"], folder)
    said = run([*apt, "-q", "-y", "--print-uris", "install", "--", *_ALWAYS, *wanted.packages], folder)
    return [_package(line) for line in said.splitlines() if line.startswith("'")]


def _forget_fresh(lists: Path) -> None:
    """Ask anew for what had just been published when it was fetched: for servers, a second is one moment."""
    for path in lists.glob("*Release"):
        published, fetched = path.stat().st_mtime, path.stat().st_ctime
        if fetched - published < _FRESH:
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


def _package(line: str) -> Package:
    """A line `'URI' NAME_VERSION_ARCH.deb SIZE SHA256:…`, in which the version's colon is written as %3a."""
    match = _LINE.fullmatch(line.strip())
    parts = match["file"].split("_") if match is not None else ()
    if match is None or len(parts) != 3:
        raise UnknownPackagesError(f"apt-get answered something unknown: {line[:200]}")
    name, version, arch = (unquote(part) for part in parts)
    return Package(name=name, version=version, arch=arch, checksum=match["checksum"])
