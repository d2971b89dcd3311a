"""The network that the builds of a recipe have."""

from __future__ import annotations

from typing import Literal
from urllib.parse import urlsplit

from lxml import etree
from pydantic import BaseModel

from ims.network.policy import DEFAULT_PORTS, Policy
from ims.network.site import policy_of
from ims.recipes.description import Description
from ims.recipes.registration import Registration


class RecipeNetwork(BaseModel):
    """What a recipe says: the access, the URLs of its repositories and of their keys, and further hosts."""

    access: Literal["repositories", "open"]
    urls: list[str]
    hosts: list[str]

    def policy(self) -> Policy:
        """The policy for builds with this site's settings. Raises InputError if a URL or a host is invalid."""
        return policy_of(self.access, self.urls, self.hosts)


def read_network(registration: Registration, description: Description, root: etree._Element) -> RecipeNetwork:
    """The network of a recipe, given its `.ims_recipe.yaml` and its expanded description."""
    urls = [repository.metadata_url for repository in description.repositories]
    return RecipeNetwork(access=registration.network, urls=[*urls, *_key_urls(root)], hosts=registration.network_hosts)


def _key_urls(root: etree._Element) -> list[str]:
    """The addresses from which kiwi fetches the keys of repositories."""
    keys = [element.get("key", "").strip() for element in root.iterfind("repository/source/signing")]
    return [key for key in keys if urlsplit(key).scheme in DEFAULT_PORTS]
