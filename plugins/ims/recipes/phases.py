"""A recipe in two: what decides which packages an image has, and what is done once they are installed.

Both parts are descriptions that kiwi takes. The first stays the same when only scripts, users or overlay files change.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from lxml import etree

from ims.recipes.archive import CONFIG
from ims.recipes.description import read_xml

# kiwi imports and runs these when all packages are installed.
LATER = ("README.md", "config.sh", "images.sh", "root", "root.tar.gz")
# It runs these before, or has them removed after.
_EARLIER = ("post_bootstrap.sh",)
_REMOVED_LATER = ("delete", "uninstall")
# What kiwi wants of a description's packages, by the names of its settings; true of the first part when it is built.
PACKAGE_CHECKS = (
    "check_consistent_kernel_in_boot_and_system_image",
    *(
        f"check_dracut_module_for_{kind}_in_package_list"
        for kind in ("disk_oem", "disk_overlay", "live_iso", "oem_install")
    ),
)
_WHOLE = "config.whole.xml"


def write_package_part(recipe: Path, folder: Path) -> None:
    """Make in `folder` the description that installs the packages of a rendered recipe, and does no more.

    Files whose part in it is not known stay: they may count.
    """
    config = read_xml(recipe, comments=False)
    for element in [*config.iterfind("users"), *_packages(config, lambda kind: kind in _REMOVED_LATER)]:
        config.remove(element)
    _drop(config.iterfind("packages/file"))
    mentioned = {part for element in config.iter() for value in element.attrib.values() for part in _parts(str(value))}
    _write(recipe, folder, config, leave_out=set(LATER) - mentioned)


def write_image_part(recipe: Path, folder: Path) -> None:
    """Make in `folder` the description of what follows when the packages are there.

    Scripts find the whole `config.xml` in `/image`, as if there had been one description.
    """
    config = read_xml(recipe, comments=False)
    for section in _packages(config, lambda kind: kind not in _REMOVED_LATER):
        _drop(element for element in section if element.tag != "file")
        section.set("type", "image")
        if len(section) == 0:
            config.remove(section)
    whole = etree.SubElement(config, "packages", type="image")
    etree.SubElement(whole, "file", name=_WHOLE, target=f"/image/{CONFIG}")
    _write(recipe, folder, config, leave_out=_EARLIER)
    os.link(recipe / CONFIG, folder / _WHOLE)


def _packages(config: etree._Element, wanted: Callable[[str], bool]) -> list[etree._Element]:
    return [section for section in config.iterfind("packages") if wanted(section.get("type", ""))]


def _drop(elements: Iterable[etree._Element]) -> None:
    for element in list(elements):
        parent = element.getparent()
        assert parent is not None
        parent.remove(element)


def _parts(value: str) -> Iterator[str]:
    """The words between the slashes of an attribute that may be a path."""
    yield from re.split("[/:]+", value)


def _write(recipe: Path, folder: Path, config: etree._Element, leave_out: Iterable[str]) -> None:
    """Link the recipe's files, which nobody changes, and write its description without comments and white space."""
    names = {CONFIG, *leave_out}

    def ignored(place: str, _: list[str]) -> set[str]:
        return names if Path(place) == recipe else set()

    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(recipe, folder, symlinks=True, copy_function=os.link, ignore=ignored)
    (folder / CONFIG).write_text(etree.canonicalize(etree.tostring(config, encoding="unicode"), strip_text=True))
