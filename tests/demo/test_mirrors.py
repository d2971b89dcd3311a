"""The Debian mirrors of this machine, read from its apt sources."""

from __future__ import annotations

from pathlib import Path

import pytest

from ims.demo.mirrors import debian_mirrors
from ims.errors import ConfigurationError

MAIN = "http://mirror.example/debian"
SECURITY = "http://mirror.example/debian-security"
DEB822 = f"""\
Types: deb
# The main archive
URIs: {MAIN}
Suites: bookworm bookworm-updates
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: {SECURITY}/
Suites: bookworm-security
Components: main
"""
KEY_INSIDE = f"""\
Types: deb
URIs: {MAIN}
Suites: bookworm
Components: main
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 Version: GnuPG
 .
 URIs: http://key.example
 -----END PGP PUBLIC KEY BLOCK-----
"""


OFF = """\
Types: deb
URIs: http://off.example
Suites: bookworm bookworm-security
Components: main
Enabled: no
"""


def apt(folder: Path, **files: str) -> Path:
    """A folder like /etc/apt. `list_` is sources.list; other names, with `_` for the dot, are in sources.list.d."""
    (folder / "sources.list.d").mkdir()
    for name, content in files.items():
        path = folder / "sources.list" if name == "list_" else folder / "sources.list.d" / name.replace("_", ".")
        path.write_text(content)
    return folder


SOURCES: dict[str, tuple[dict[str, str], str, str]] = {
    "deb822": ({"debian_sources": DEB822}, MAIN, SECURITY),
    "deb822, field names in any case": ({"debian_sources": DEB822.replace("URIs", "uris")}, MAIN, SECURITY),
    "deb822, no security": ({"a_sources": DEB822.split("\n\n")[0]}, MAIN, f"{MAIN}-security"),
    "deb822, a field over several lines": (
        {"a_sources": DEB822.replace("Suites: bookworm ", "Suites:\n bookworm\n ")},
        MAIN,
        SECURITY,
    ),
    "deb822, a key in the file": ({"a_sources": KEY_INSIDE}, MAIN, f"{MAIN}-security"),
    "deb822, disabled": ({"a_sources": OFF, "b_sources": DEB822}, MAIN, SECURITY),
    "deb822, sources only": (
        {"a_sources": OFF.replace("Enabled: no", "").replace(": deb\n", ": deb-src\n"), "b_sources": DEB822},
        MAIN,
        SECURITY,
    ),
    "one line": (
        {"list_": f"deb {MAIN} bookworm main\ndeb {SECURITY} bookworm-security main\n"},
        MAIN,
        SECURITY,
    ),
    "one line, options": (
        {"list_": f"deb [arch=amd64 trusted=yes signed-by=/x.gpg] {MAIN}/ bookworm main contrib\n"},
        MAIN,
        f"{MAIN}-security",
    ),
    "one line, comments": (
        {"list_": f"# deb http://off.example/debian bookworm main\n\n  deb {MAIN} bookworm main # deb http://x y\n"},
        MAIN,
        f"{MAIN}-security",
    ),
    "one line, sources and other suites": (
        {"list_": f"deb-src http://s.example bookworm main\ndeb http://t.example sid main\ndeb {MAIN} bookworm main"},
        MAIN,
        f"{MAIN}-security",
    ),
    "one line, its own file": ({"debian_list": f"deb {MAIN} bookworm main"}, MAIN, f"{MAIN}-security"),
    "a CD-ROM first": (
        {"list_": f"deb cdrom:[Debian 12.0.0 _Bookworm_ amd64]/ bookworm main\ndeb {MAIN} bookworm main\n"},
        MAIN,
        f"{MAIN}-security",
    ),
    "a folder first": (
        {"list_": f"deb file:/srv/debian bookworm main\ndeb {MAIN} bookworm main\n"},
        MAIN,
        f"{MAIN}-security",
    ),
    "other files": (
        {"off_disabled": "deb http://off.example bookworm main\n", "debian_sources": DEB822},
        MAIN,
        SECURITY,
    ),
}


@pytest.mark.parametrize(("files", "main", "security"), SOURCES.values(), ids=SOURCES)
def test_mirrors_of_the_sources(tmp_path: Path, files: dict[str, str], main: str, security: str) -> None:
    """The URLs have no slash at the end. If no source names security updates, they are next to the main archive."""
    assert debian_mirrors(apt(tmp_path, **files)) == {"DEBIAN_MIRROR": main, "DEBIAN_SECURITY_MIRROR": security}


NONE = {
    "nothing": {},
    "empty": {"list_": "", "a_sources": ""},
    "another release": {"list_": "deb http://mirror.example/debian trixie main\n"},
    "all comments": {"list_": "#deb http://mirror.example/debian bookworm main\n", "a_sources": "# Types: deb\n"},
    "no address": {"list_": "deb\ndeb bookworm\n", "a_sources": "Types: deb\nSuites: bookworm\n"},
    "no suite": {"a_sources": "Types: deb\nURIs: http://mirror.example/debian\n"},
}


@pytest.mark.parametrize("files", NONE.values(), ids=NONE)
def test_machine_without_a_debian_12_mirror(tmp_path: Path, files: dict[str, str]) -> None:
    """The error names the folder that was read, and says what to do."""
    with pytest.raises(ConfigurationError, match=f"{tmp_path} name no mirror of Debian 12.*push the recipe by hand"):
        debian_mirrors(apt(tmp_path, **files))


def test_only_http_mirrors_count(tmp_path: Path) -> None:
    """The error about another protocol does not contain the password."""
    with pytest.raises(ConfigurationError, match="not an http or https mirror") as caught:
        debian_mirrors(apt(tmp_path, list_="deb ftp://user:secret@mirror.example/debian bookworm main"))
    assert "secret" not in str(caught.value)
    assert "mirror.example/debian" in str(caught.value)


def test_this_machine_has_mirrors() -> None:
    """The demo needs them."""
    assert all(mirror.startswith(("http://", "https://")) for mirror in debian_mirrors().values())
