"""How long tests with random input search: briefly in `make test`, much longer in `make fuzz`.

`make fuzz` loads this module as a plugin of pytest: tests without a number of examples of their own get that of the
profile, the others ask `examples`.
"""

from __future__ import annotations

from hypothesis import settings

PROFILE = "fuzz"
TIMES = 20
"""How many times more examples `make fuzz` tries."""

settings.register_profile(PROFILE, max_examples=100 * TIMES, deadline=None, print_blob=True)


def examples(count: int) -> int:
    """How many examples a test tries that tries `count` in `make test`."""
    return count * TIMES if settings.get_current_profile_name() == PROFILE else count
