"""What attacks on the whole product need."""

from tests.flows.conftest import http_server, leftovers, repository, small

__all__ = ["http_server", "leftovers", "repository", "small"]
