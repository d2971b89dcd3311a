"""`ims …`: the words of `cray ims …`, and some for what that has none for. Imports are late where they cost time."""

from __future__ import annotations

from ims.cli.app import main

__all__ = ["main"]
