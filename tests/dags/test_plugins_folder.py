"""The folder of plugins as Airflow searches it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PLUGINS = Path(__file__).parents[2] / "plugins"

SEARCH = """
import sys, warnings
from airflow.sdk._shared.module_loading import find_path_from_directory
if sys.argv[2] == "regexp":
    warnings.simplefilter("error")
print(*(path for path in find_path_from_directory(sys.argv[1], ".airflowignore", sys.argv[2]) if path.endswith(".py")))
"""


@pytest.mark.parametrize("syntax", ["regexp", "glob"])
def test_only_the_plugin_is_loaded(syntax: str, tmp_path: Path) -> None:
    """The package is not, whatever the syntax. Ours, regexp, causes no warning, which every task would log."""
    environment = {"PATH": "/usr/bin:/bin", "AIRFLOW_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", SEARCH, PLUGINS, syntax], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == str(PLUGINS / "ims_plugin.py")
