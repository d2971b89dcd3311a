"""What this machine knows that the demo needs: where it gets its own Debian packages from."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from ims.errors import ConfigurationError
from ims.recipes.description import redact

APT = Path("/etc/apt")


def debian_mirrors(folder: Path = APT) -> dict[str, str]:
    """The template variables of the Debian recipes, read from the machine's apt sources.

    Raises ConfigurationError: they name no Debian 12 mirror.
    """
    sources = [*_deb822(folder), *_one_line(folder)]
    main = next((uri for uri, suite in sources if suite == "bookworm"), None)
    if main is None:
        raise ConfigurationError(
            f"the apt sources in {folder} name no mirror of Debian 12 (bookworm)", "Add one, or push the recipe by hand"
        )
    security = next((uri for uri, suite in sources if suite == "bookworm-security"), f"{main}-security")
    for uri in (main, security):
        if urlsplit(uri).scheme not in ("http", "https"):
            raise ConfigurationError(f"the apt source {redact(uri)} is not an http or https mirror")
    return {"DEBIAN_MIRROR": main, "DEBIAN_SECURITY_MIRROR": security}


def _deb822(folder: Path) -> list[tuple[str, str]]:
    """(URI, suite) of the sources in `*.sources` files, whose format is sources.list(5)'s DEB822."""
    found = []
    for path in sorted((folder / "sources.list.d").glob("*.sources")):
        for stanza in path.read_text().split("\n\n"):
            lines = [line for line in stanza.splitlines() if not line.startswith("#")]
            fields = {name.strip().lower(): value.split() for name, _, value in (line.partition(":") for line in lines)}
            if "deb" in fields.get("types", []):
                found += [(uri.rstrip("/"), suite) for uri in fields["uris"] for suite in fields["suites"]]
    return found


def _one_line(folder: Path) -> list[tuple[str, str]]:
    """(URI, suite) of the sources in `*.list` files."""
    found = []
    for path in (folder / "sources.list", *sorted((folder / "sources.list.d").glob("*.list"))):
        lines = path.read_text().splitlines() if path.is_file() else []
        for line in lines:
            words = line.split("#")[0].split("]")[-1].split()
            words = words[1:] if words[:1] == ["deb"] else words
            if line.lstrip().startswith("deb") and not line.lstrip().startswith("deb-src") and len(words) > 1:
                found.append((words[0].rstrip("/"), words[1]))
    return found
