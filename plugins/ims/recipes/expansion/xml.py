"""Parses descriptions, which strangers wrote."""

from __future__ import annotations

from pathlib import Path

from lxml import etree

from ims.errors import InputError
from ims.recipes.archive import description_file

MAX_CONFIG = 4 * 1024 * 1024


def read_xml(folder: Path) -> etree._Element:
    """The root element of the description in a folder. Raises the errors of `parse`."""
    name = description_file(folder)
    path = folder / name
    if path.stat().st_size > MAX_CONFIG:
        raise InputError(f"{name} is larger than {MAX_CONFIG} bytes")
    return parse(path.read_bytes(), name)


def parse(data: bytes, name: str) -> etree._Element:
    """The root element of the description `name`, without comments. The parser reads nothing outside of it.

    Raises InputError if it is not XML, if it is not an image description, or if it has a document type declaration,
    which kiwi does not use.
    """
    parser = etree.XMLParser(
        resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False, remove_comments=True
    )
    try:
        root = etree.fromstring(data, parser)
    except etree.XMLSyntaxError as error:
        raise InputError(f"{name} is not XML: {error.msg}") from None
    tree = root.getroottree()
    if tree.docinfo.internalDTD is not None or tree.docinfo.doctype:
        raise InputError(f"{name} has a document type declaration", "Remove the <!DOCTYPE …>")
    if root.tag != "image":
        raise InputError(f"{name} is not a kiwi description: its root is <{root.tag}>")
    return root
