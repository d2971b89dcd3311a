"""The templates of the pages."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from fastapi.templating import Jinja2Templates


def utc(time: datetime) -> str:
    """A time as the pages show it. Records and runs have times in UTC."""
    return time.strftime("%Y-%m-%d %H:%M")


templates = Jinja2Templates(Path(__file__).with_name("templates"))
templates.env.filters["utc"] = utc
