"""What `fetch_recipe` notes of a recipe, for tests of later steps."""

from __future__ import annotations

import platform

from ims.recipes.reading import read_recipe
from ims.workspace import Workspace


def note_recipe(workspace: Workspace) -> None:
    """Read the rendered recipe of a workspace, and note what it says."""
    workspace.notes.mkdir(exist_ok=True)
    read_recipe(workspace.recipe, platform.machine()).save(workspace.recipe_summary)
