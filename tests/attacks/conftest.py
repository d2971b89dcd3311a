"""What attacks on the whole product need."""

from tests.flows.conftest import http_server, kept_records, key, leftovers, repository, small

__all__ = ["http_server", "kept_records", "key", "leftovers", "repository", "small"]
