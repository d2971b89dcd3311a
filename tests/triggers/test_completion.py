"""What the triggerer does while a shell is open."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ims.errors import UnavailableError
from ims.triggers import completion
from ims.triggers.completion import CompletionTrigger


class Api:
    """Our API, which can be away."""

    logins = 0
    away = False

    def __init__(self) -> None:
        self.until = datetime.now(UTC) + timedelta(hours=1)

    def login(self) -> Api:
        """A new client."""
        self.logins += 1
        return self

    def get(self, _path: str) -> dict[str, Any]:
        """The shell."""
        if self.away:
            raise UnavailableError("away")
        return {"operation": None, "until": self.until.isoformat()}


def test_one_login_while_it_works(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shells stay open for days and are asked for every few seconds; what was refused is asked with a new login."""
    api = Api()
    monkeypatch.setattr(completion, "api_client", api.login)
    trigger = CompletionTrigger("job")
    assert [trigger._asked() for _ in range(3)] == [None] * 3
    assert api.logins == 1
    api.away = True
    assert trigger._asked() is None
    api.away, api.until = False, datetime.now(UTC) - timedelta(seconds=1)
    assert trigger._asked() == "expired"
    assert api.logins == 2
