"""The command line `ims`: the commands of `cray ims`, and more. Slow modules are imported only where they are used."""

from __future__ import annotations

from ims.cli.app import main

__all__ = ["main"]
