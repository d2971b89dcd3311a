"""Which hosts the proxy lets a program reach, before their addresses are looked at."""

from __future__ import annotations

from urllib.parse import urljoin

from ims.errors import InputError
from ims.network.policy import MAX_ENDPOINTS, Policy, endpoint_of, join


class UndeclaredError(Exception):
    """The policy does not allow the host."""


class Permissions:
    """The endpoints of a policy, and those to which they redirect."""

    def __init__(self, policy: Policy) -> None:
        self._access = policy.access
        self._endpoints = set(policy.endpoints)

    def check(self, host: str, port: int) -> None:
        """Raises UndeclaredError if the policy does not allow the host."""
        if self._access == "none":
            raise UndeclaredError("this program has no network")
        if self._access == "repositories" and join(host, port) not in self._endpoints:
            raise UndeclaredError("the recipe declares no repository there")

    def add_redirect(self, url: str, location: str) -> None:
        """Allow the target of a redirect, which a repository at `url` answered: mirrors are reached so.

        Redirects inside of https cannot be seen.
        """
        if len(self._endpoints) >= 2 * MAX_ENDPOINTS:
            return
        try:
            self._endpoints.add(endpoint_of(urljoin(url, location)))
        except (InputError, ValueError):
            return  # not an http or https URL: the client cannot follow it through the proxy
