"""Selects the parts of a description that apply to a build, by the same rules as kiwi."""

from __future__ import annotations

from collections.abc import Sequence

from lxml import etree

ROOT_TYPES = ("tbz", "squashfs")
"""The types of images that are an image root and nothing else, best first."""
TRUE = ("true", "1")
_KINDS = ("bootstrap", "image", "delete", "uninstall")
"""The package sections that apply to all types."""


def select(root: etree._Element, arch: str, profiles: Sequence[str]) -> None:
    """Remove from an expanded description what does not apply to an architecture and to these profiles.

    What is left is a description of one type, whose profiles are all imported.
    """
    for section in list(root):
        if not (_is_in(section.get("profiles"), profiles) and _is_in(section.get("arch"), [arch])):
            root.remove(section)
    for element in [*root.iterfind("packages/*"), *root.iterfind("profiles/profile")]:
        if not _is_in(element.get("arch"), [arch]):
            _remove(element)
    _select_profiles(root, profiles)
    _select_type(root)


def _is_in(names: str | None, used: Sequence[str]) -> bool:
    return not names or not set(used).isdisjoint(names.split(","))


def _select_profiles(root: etree._Element, profiles: Sequence[str]) -> None:
    for profile in list(root.iterfind("profiles/profile")):
        for requirement in list(profile):
            profile.remove(requirement)
        profile.set("import", "true")
        if profile.get("name") not in profiles:
            _remove(profile)
    for section in [section for section in root.iterfind("profiles") if len(section) == 0]:
        root.remove(section)


def _select_type(root: etree._Element) -> None:
    """Keep one type and the package sections that apply to it."""
    chosen = _choose_type(list(root.iterfind("preferences/type")))
    for other in list(root.iterfind("preferences/type")):
        if other is not chosen:
            _remove(other)
    for section in [section for section in root.iterfind("preferences") if len(section) == 0]:
        root.remove(section)
    kinds = (*_KINDS, chosen.get("image")) if chosen is not None else _KINDS
    for section in list(root.iterfind("packages")):
        if section.get("type") not in kinds:
            root.remove(section)


def _choose_type(types: Sequence[etree._Element]) -> etree._Element | None:
    """The type that kiwi builds, unless only another one is an image root."""
    primary = [item for item in types if item.get("primary") in TRUE]
    by_default = [*primary, *types][:1]
    roots = [item for name in ROOT_TYPES for item in types if item.get("image") == name]
    if by_default and by_default[0].get("image") in ROOT_TYPES:
        return by_default[0]
    return next(iter([*roots, *by_default]), None)


def _remove(element: etree._Element) -> None:
    parent = element.getparent()
    assert parent is not None
    parent.remove(element)
