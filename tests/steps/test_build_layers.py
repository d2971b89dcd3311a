"""What programs of a recipe leave in the workspace while they change the image root."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ims.errors import ImsError
from ims.steps import build_image
from ims.steps.build_image import Work
from ims.workspace import Workspace


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Work:
    """A build whose recipe makes a folder with the name of the package root, and then fails."""
    workspace = Workspace(tmp_path)

    def finish(*_arguments: Any) -> None:
        workspace.package_root.mkdir(exist_ok=True)
        (workspace.package_root / "file").touch()
        raise ImsError("config.sh failed")

    monkeypatch.setattr(build_image, "call", finish)
    monkeypatch.setattr(build_image, "_view", lambda *_: None)
    fields: dict[str, Any] = {"workspace": workspace}
    return Work.model_construct(**fields)


@pytest.mark.parametrize("is_cached", [True, False])
def test_recipe_makes_no_package_root(work: Work, is_cached: bool) -> None:
    """Later steps would take it for the cached one, and keep a copy for other recipes."""
    if not is_cached:
        work.workspace.package_root.mkdir()
    network: Any = None
    with pytest.raises(ImsError, match=r"config\.sh failed"):
        build_image.finish_root(work, network, [])
    assert work.workspace.package_root.exists() is not is_cached
