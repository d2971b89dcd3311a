"""Shell functions of older kiwi versions. kiwi still has them, but they end the script with an error.

Builds provide those that have nothing left to do. Calls of the others are found before a recipe is built.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from pathlib import Path

SCRIPTS = ("config.sh", "images.sh", "post_bootstrap.sh", "disk.sh", "config-overlay.sh", "config-host-overlay.sh")
_KIWI_DOES_IT = "remove the line: kiwi does it"
_EXCLUDE_DOCS = "remove the line, and set <rpm-excludedocs>true</rpm-excludedocs> in the description"
_NO_INITRD = "remove the line: images have no initrd of kiwi"
PROVIDED = {
    "baseCleanMount": _KIWI_DOES_IT,
    "baseCleanup": _KIWI_DOES_IT,
    "baseMount": _KIWI_DOES_IT,
    "baseSetupUserPermissions": _KIWI_DOES_IT,
    "debianStripInitrd": _NO_INITRD,
    "debianStripKernel": _NO_INITRD,
    "rhelSplashToGrub": "remove the line",
    "rhelStripInitrd": _NO_INITRD,
    "rhelStripKernel": _NO_INITRD,
    "suseCleanup": _KIWI_DOES_IT,
    "suseConfig": "remove the line: SuSEconfig no longer exists. Set locale, keytable and timezone in <preferences>",
}
"""The functions that have nothing left to do, and what to write instead of each."""
REPLACEMENTS = PROVIDED | {
    "Rpm": "call rpm",
    "baseGetPackagesForDeletion": "use the variable kiwi_delete",
    "baseGetProfilesUsed": "use the variable kiwi_profiles",
    "baseStripDocs": _EXCLUDE_DOCS,
    "baseStripInfos": _EXCLUDE_DOCS,
    "baseStripMans": _EXCLUDE_DOCS,
    "suseActivateDefaultServices": "enable the services that you need: baseInsertService NAME",
    "suseRemoveYaST": 'list the packages in <packages type="uninstall">',
    "suseSetupProductInformation": "use suseSetupProduct",
}
"""What to write instead of each function."""
MAX_SCRIPT = 4 * 1024 * 1024
_NAMES = "|".join(REPLACEMENTS)
# Where a command begins: after a separator or a word of the shell.
_START = r"(?:^|[;&|(!`{]|\b(?:if|then|else|elif|do|while|until|time)\s)\s*"
_CALL = re.compile(rf"{_START}(?P<name>{_NAMES})(?![\w=-])(?!\s*\()")
_DEFINITION = re.compile(rf"\b(?P<name>{_NAMES})\s*\(\s*\)|\bfunction\s+(?P<other>{_NAMES})(?![\w-])")
_COMMENT = re.compile(r"(^|\s)#.*")


def provided_functions() -> str:
    """The definitions of the functions that builds provide. They warn and do nothing."""
    return "".join(
        f"function {name} {{\n    echo '{name} does nothing: {PROVIDED[name]}' >&2\n}}\n" for name in PROVIDED
    )


def find_legacy_functions(folder: Path, names: Collection[str] = REPLACEMENTS) -> Iterator[str]:
    """One sentence for each call of a function in the scripts of a recipe, with its line and what to write instead."""
    for name in SCRIPTS:
        path = folder / name
        if path.is_file() and path.stat().st_size <= MAX_SCRIPT:
            yield from _find(name, path.read_text(errors="replace"), names)


def _find(script: str, text: str, names: Collection[str]) -> Iterator[str]:
    lines = [_COMMENT.sub("", line) for line in text.splitlines()]
    own = {match["name"] or match["other"] for line in lines for match in _DEFINITION.finditer(line)}
    for number, line in enumerate(lines, 1):
        for match in _CALL.finditer(line):
            if (name := match["name"]) in names and name not in own:
                yield f"{script}, line {number}: kiwi no longer has {name}: {REPLACEMENTS[name]}"
