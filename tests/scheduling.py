"""Which of the workers of `make test` runs what."""

from __future__ import annotations

from xdist.scheduler import LoadScopeScheduling

# Files that need a running service, in two parts: the first and all other files take about as long as the second.
SERVED = {
    "first": (
        "tests/api/",
        "tests/cli/",
        *(f"tests/flows/test_{name}" for name in ("docs", "interrupted", "maintenance", "nightly")),
        "tests/steps/test_fetch_image",
        "tests/storage/",
    ),
    "second": ("tests/flows/",),
}


class Scheduling(LoadScopeScheduling):  # type: ignore[misc]
    """Each group of SERVED runs on one worker, so that a worker starts one stack at most; other files run anywhere."""

    def _split_scope(self, nodeid: str) -> str:
        path = nodeid.partition("::")[0]
        return next((part for part, names in SERVED.items() if path.startswith(names)), path)
