"""The Debian mirrors of this machine, from its apt sources: the demo and the tests build from these."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path
from urllib.parse import urlsplit

from ims.errors import ConfigurationError
from ims.recipes.description import redact

APT = Path("/etc/apt")
_ONE_LINE = re.compile(r"\s*deb\s+(\[[^\]]*\]\s*)?(?P<uri>\S+)\s+(?P<suite>\S+)")


def debian_mirrors(folder: Path = APT) -> dict[str, str]:
    """Returns the template variables of the Debian recipes.

    Raises ConfigurationError if the apt sources name no mirror of Debian 12.
    """
    sources = [*_deb822(folder), *_one_line(folder)]
    mirrors: dict[str, str] = {}
    for uri, suite in sources:
        if urlsplit(uri).scheme in ("http", "https"):
            mirrors.setdefault(suite, uri)
    if "bookworm" not in mirrors:
        others = [redact(uri) for uri, suite in sources if suite == "bookworm"]
        raise ConfigurationError(
            f"the apt source {others[0]} is not an http or https mirror"
            if others
            else f"the apt sources in {folder} name no mirror of Debian 12 (bookworm)",
            "Add one, or push the recipe by hand",
        )
    main = mirrors["bookworm"]
    return {"DEBIAN_MIRROR": main, "DEBIAN_SECURITY_MIRROR": mirrors.get("bookworm-security", f"{main}-security")}


def _deb822(folder: Path) -> list[tuple[str, str]]:
    """Returns (URI, suite) of the sources in `*.sources` files, in the format DEB822 of sources.list(5)."""
    found = []
    for path in sorted((folder / "sources.list.d").glob("*.sources")):
        for stanza in re.split(r"\n\s*\n", path.read_text()):
            fields = _fields(stanza)
            if "deb" in fields["types"] and fields["enabled"] != ["no"]:
                found += [(uri.rstrip("/"), suite) for uri in fields["uris"] for suite in fields["suites"]]
    return found


def _fields(stanza: str) -> defaultdict[str, list[str]]:
    """Returns the words of each field; a line that begins with a space continues the field above it."""
    fields, name = defaultdict[str, list[str]](list), ""
    for line in stanza.splitlines():
        if line.startswith("#"):
            continue
        if not line[:1].isspace():
            name, _, line = line.partition(":")
        fields[name.strip().lower()] += line.split()
    return fields


def _one_line(folder: Path) -> list[tuple[str, str]]:
    """Returns (URI, suite) of the sources in `*.list` files."""
    found = []
    for path in (folder / "sources.list", *sorted((folder / "sources.list.d").glob("*.list"))):
        for line in path.read_text().splitlines() if path.is_file() else []:
            if match := _ONE_LINE.match(line.split("#")[0]):
                found.append((match["uri"].rstrip("/"), match["suite"]))
    return found
