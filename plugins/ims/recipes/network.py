"""The network that the builds of a recipe have."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from ims.network.policy import DEFAULT_PORTS, Policy
from ims.network.site import policy_of
from ims.recipes.description import read_description, read_xml
from ims.recipes.registration import read_registration


def read_policy(folder: Path) -> Policy:
    """The policy for builds of a rendered recipe: it reaches the repositories, their keys, and the hosts it names.

    Raises InputError if `config.xml` or `.ims_recipe.yaml` is invalid.
    """
    registration = read_registration(folder)
    urls = [repository.metadata_url for repository in read_description(folder).repositories]
    return policy_of(registration.network, [*urls, *_key_urls(folder)], registration.network_hosts)


def _key_urls(folder: Path) -> list[str]:
    """The addresses from which kiwi fetches the keys of repositories."""
    keys = [element.get("key", "").strip() for element in read_xml(folder).iterfind("repository/source/signing")]
    return [key for key in keys if urlsplit(key).scheme in DEFAULT_PORTS]
