"""The network that the builds of a recipe have."""

from __future__ import annotations

from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from pydantic import BaseModel

from ims.network.policy import DEFAULT_PORTS, Policy
from ims.network.site import policy_of
from ims.recipes.description import read_description, read_xml
from ims.recipes.registration import read_registration


class RecipeNetwork(BaseModel):
    """What a recipe says: the access, the URLs of its repositories and of their keys, and further hosts."""

    access: Literal["repositories", "open"]
    urls: list[str]
    hosts: list[str]

    def policy(self) -> Policy:
        """The policy for builds with this site's settings. Raises InputError if a URL or a host is invalid."""
        return policy_of(self.access, self.urls, self.hosts)


def read_network(folder: Path) -> RecipeNetwork:
    """Read the network of a rendered recipe. Raises InputError if `config.xml` or `.ims_recipe.yaml` is invalid."""
    registration = read_registration(folder)
    urls = [repository.metadata_url for repository in read_description(folder).repositories]
    return RecipeNetwork(
        access=registration.network, urls=[*urls, *_key_urls(folder)], hosts=registration.network_hosts
    )


def _key_urls(folder: Path) -> list[str]:
    """The addresses from which kiwi fetches the keys of repositories."""
    keys = [element.get("key", "").strip() for element in read_xml(folder).iterfind("repository/source/signing")]
    return [key for key in keys if urlsplit(key).scheme in DEFAULT_PORTS]
