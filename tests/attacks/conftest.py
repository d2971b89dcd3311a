"""What attacks on the whole product need."""

from tests.flows.conftest import http_server, repository, small

__all__ = ["http_server", "repository", "small"]
