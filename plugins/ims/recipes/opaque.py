"""The inputs of a build that are not observed. With one of them, it is unknown whether an image would be the same."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain, islice
from urllib.parse import urlsplit

from lxml import etree

OBSERVED = ("http", "https")
_PART_OF_THE_RECIPE = "this"
_SHOWN = 200
MAX_INPUTS = 20
"""How many inputs are named. One is enough to build."""


def opaque_inputs(root: etree._Element, addresses: list[str], network: str, hosts: Iterable[str]) -> tuple[str, ...]:
    """One phrase for each such input of a recipe.

    `root` is its expanded description, `addresses` are those of the repositories that kiwi uses, without logins, and
    `network` is the network of its builds, which may also reach `hosts`.
    """
    found = chain(
        _repositories(addresses), _signing_keys(root), _containers(root), _base_images(root), _network(network, hosts)
    )
    return tuple(islice(found, MAX_INPUTS))


def _repositories(addresses: list[str]) -> Iterator[str]:
    for address in addresses:
        if urlsplit(address).scheme not in (*OBSERVED, _PART_OF_THE_RECIPE):
            yield f"the repository {address[:_SHOWN]} cannot be observed"


def _signing_keys(root: etree._Element) -> Iterator[str]:
    for element in root.iterfind("repository/source/signing"):
        key = urlsplit(element.get("key", ""))
        if key.scheme in OBSERVED:
            yield f"the signing key at {key.scheme}://{(key.hostname or '')}{key.path[:_SHOWN]} cannot be observed"


def _base_images(root: etree._Element) -> Iterator[str]:
    for element in root.iterfind("preferences/type"):
        if base := element.get("derived_from"):
            yield f"the base image {base[:_SHOWN]} cannot be observed"


def _containers(root: etree._Element) -> Iterator[str]:
    for element in root.iterfind("containers/container"):
        yield f"the container {element.get('name', '')[:_SHOWN]} cannot be observed"


def _network(network: str, hosts: Iterable[str]) -> Iterator[str]:
    if network == "open":
        yield "scripts may download anything (network: open)"
        return
    for host in hosts:
        yield f"scripts may download anything from {host[:_SHOWN]} (network_hosts)"
