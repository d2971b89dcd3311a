"""The workflows as Airflow sees them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

DAGS = Path(__file__).parents[2] / "dags"

SERIALIZE = """
import json, sys
from airflow.dag_processing.dagbag import DagBag
from airflow.serialization.serialized_objects import DagSerialization
bag = DagBag(sys.argv[1])
assert not bag.import_errors, bag.import_errors
print(json.dumps({name: DagSerialization.to_dict(dag) for name, dag in bag.dags.items()}, sort_keys=True, default=str))
"""


def test_workflows_are_the_same_whenever_they_are_read(tmp_path: Path) -> None:
    """Else Airflow keeps a new version of a workflow at every look, and runs change under way."""
    environment = {"PATH": "/usr/bin:/bin", "AIRFLOW_HOME": str(tmp_path), "AIRFLOW__CORE__LOAD_EXAMPLES": "False"}
    read = [
        subprocess.run(
            [sys.executable, "-c", SERIALIZE, DAGS], env=environment, capture_output=True, text=True, check=True
        ).stdout.splitlines()[-1]
        for _ in range(2)
    ]
    for name in ("create_image", "customize_image", "nightly_images"):
        assert f'"{name}"' in read[0]
    assert read[0] == read[1]
    assert "object at 0x" not in read[0]
