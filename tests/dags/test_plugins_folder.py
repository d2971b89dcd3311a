"""The folder of plugins as Airflow searches it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PLUGINS = Path(__file__).parents[2] / "plugins"

SEARCH = """
import sys
from airflow.sdk._shared.module_loading import find_path_from_directory
print(*(path for path in find_path_from_directory(sys.argv[1], ".airflowignore") if path.endswith(".py")))
"""


def test_only_the_plugin_is_loaded(tmp_path: Path) -> None:
    """The modules of the package are imported when they are needed, not loaded one by one in every process."""
    environment = {"PATH": "/usr/bin:/bin", "AIRFLOW_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", SEARCH, PLUGINS], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == str(PLUGINS / "ims_plugin.py")
