"""Splits a recipe into two descriptions for kiwi: the first installs the packages, the second does everything else.

The first stays the same if only scripts, users or overlay files of the recipe change.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from lxml import etree

from ims.recipes.archive import CONFIG
from ims.recipes.expansion import Expansion
from ims.recipes.expansion.selection import TRUE
from ims.recipes.overlay import ATTRIBUTES, apply_attributes

# Files that kiwi uses after all packages are installed.
LATE_FILES = ("README.md", "config.sh", "images.sh", "root", "root.tar.gz", ATTRIBUTES)
# Files that kiwi uses before that.
_EARLY_FILES = ("post_bootstrap.sh",)
_REMOVALS = ("delete", "uninstall")
# kiwi's checks of the packages in a description. The first description passes them; the second has no packages.
PACKAGE_CHECKS = (
    "check_consistent_kernel_in_boot_and_system_image",
    *(
        f"check_dracut_module_for_{kind}_in_package_list"
        for kind in ("disk_oem", "disk_overlay", "live_iso", "oem_install")
    ),
)
_WHOLE = "config.whole.xml"


def write_package_part(recipe: Path, folder: Path, expansion: Expansion) -> None:
    """Write to `folder` the description that only installs the packages of a rendered recipe and its expansion.

    It includes all files of the recipe that may have an effect on the packages.
    """
    config = expansion.root
    for element in [*config.iterfind("users"), *_packages(config, lambda kind: kind in _REMOVALS)]:
        config.remove(element)
    _drop(config.iterfind("packages/file"))
    # kiwi writes the repositories of the image when all packages are installed.
    _drop([element for element in config.iterfind("repository") if element.get("imageonly") in TRUE])
    for repository in config.iterfind("repository"):
        repository.attrib.pop("imageinclude", "")
    late = {*LATE_FILES, *_profile_overlays(config)} - _mentioned(config)
    _write(recipe, folder, config, exclude={expansion.file, *late})


def write_image_part(recipe: Path, folder: Path, expansion: Expansion) -> None:
    """Write to `folder` the description of everything that happens after the packages are installed.

    Scripts find the recipe's own file as `/image/config.xml`, as they do if there is only one description.
    """
    config = expansion.root
    for section in _packages(config, lambda kind: kind not in _REMOVALS):
        _drop(element for element in section if element.tag != "file")
        section.set("type", "image")
        if len(section) == 0:
            config.remove(section)
    whole = etree.SubElement(config, "packages", type="image")
    etree.SubElement(whole, "file", name=_WHOLE, target=f"/image/{CONFIG}")
    _write(recipe, folder, config, exclude=(expansion.file, ATTRIBUTES, *_EARLY_FILES))
    apply_attributes(recipe, folder)
    os.link(recipe / expansion.file, folder / _WHOLE)


def _profile_overlays(config: etree._Element) -> Iterator[str]:
    """The folders with further overlays: they have the names of profiles."""
    return (str(profile.get("name")) for profile in config.iterfind("profiles/profile"))


def _mentioned(config: etree._Element) -> set[str]:
    """The names of files and folders that a description mentions, as far as can be known."""
    values = (
        str(value)
        for element in config.iter()
        for name, value in element.attrib.items()
        if name != "profiles" and element.tag != "profile"
    )
    return {part for value in values for part in re.split("[/:]+", value)}


def _packages(config: etree._Element, is_selected: Callable[[str], bool]) -> list[etree._Element]:
    return [section for section in config.iterfind("packages") if is_selected(section.get("type", ""))]


def _drop(elements: Iterable[etree._Element]) -> None:
    for element in list(elements):
        parent = element.getparent()
        assert parent is not None
        parent.remove(element)


def _write(recipe: Path, folder: Path, config: etree._Element, exclude: Iterable[str]) -> None:
    """Link the files of the recipe, which never change, and write the description without comments and white space."""
    names = {CONFIG, *exclude}

    def ignored(place: str, _: list[str]) -> set[str]:
        return names if Path(place) == recipe else set()

    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(recipe, folder, symlinks=True, copy_function=os.link, ignore=ignored)
    (folder / CONFIG).write_text(etree.canonicalize(etree.tostring(config, encoding="unicode"), strip_text=True))
