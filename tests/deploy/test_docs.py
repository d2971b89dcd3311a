"""Runs the commands of docs/deploy.md that need no cluster. tests/test_docs.py checks the others."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

from cryptography.fernet import Fernet

from ims.workflows import WORKFLOWS

ROOT = Path(__file__).parents[2]
BLOCKS: list[str] = re.findall(r"```bash\n(.*?)```", (ROOT / "docs" / "deploy.md").read_text(), re.DOTALL)


def run(block: str, folder: Path, **variables: str) -> None:
    """Runs commands of the page in a folder."""
    environment = {"PATH": "/usr/bin:/bin", **variables}
    command = ["bash", "-euo", "pipefail", "-c", block]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def variables(path: Path) -> dict[str, str]:
    """Returns the variables in a file of `NAME=value` lines, as kubectl and Compose read it."""
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


def block(text: str) -> str:
    """Returns the block of commands that contains a text."""
    (found,) = [item for item in BLOCKS if text in item]
    return found


def test_secrets(tmp_path: Path) -> None:
    """The commands create keys and connections that Airflow and S3 clients accept, and remove the files afterwards."""
    given = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "se/cr+et", "AWS_ENDPOINT_URL": "https://rgw.example"}
    run(block("cat >connections.env"), tmp_path, DATABASE="ims:a%40b@db.example", **given)
    connections = {name: json.loads(value) for name, value in variables(tmp_path / "connections.env").items()}
    assert connections["AIRFLOW_CONN_IMS_S3"]["extra"]["endpoint_url"] == given["AWS_ENDPOINT_URL"]
    assert connections["AIRFLOW_CONN_IMS_S3"]["password"] == given["AWS_SECRET_ACCESS_KEY"]
    assert connections["AIRFLOW_CONN_IMS_API"]["login"] == "ims"
    assert variables(tmp_path / "s3.env") == {name: given[name] for name in list(given)[:2]}
    keys = variables(tmp_path / "keys.env")
    Fernet(keys.pop("fernet-key"))
    assert {name: len(value) for name, value in keys.items()} == {"api-secret-key": 64, "jwt-secret": 128}
    urls = [urlsplit(next(iter(variables(tmp_path / f"{name}.env").values()))) for name in ("metadata", "records")]
    assert [(url.scheme, url.hostname, url.path) for url in urls] == [
        ("postgresql+psycopg", "db.example", "/airflow"),
        ("postgresql", "db.example", "/ims"),
    ]
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}
    (removed,) = re.findall(r"(?m)^rm (.*)$", "\n".join(BLOCKS))
    assert {path.name for path in tmp_path.iterdir()} == set(removed.split())


def test_compose(tmp_path: Path) -> None:
    """The commands fill in every value of .env."""
    shutil.copy(ROOT / ".env.example", tmp_path)
    run(block(".env.example >.env"), tmp_path, SITE_CA="/etc/ssl/site-ca.pem")
    made = variables(tmp_path / ".env")
    assert made.pop("SITE_CA") == "/etc/ssl/site-ca.pem"
    Fernet(made.pop("FERNET_KEY"))
    assert len(made) > 5
    assert {len(value) for value in made.values()} == {64}
    assert len(set(made.values())) == len(made)


def test_time_limits() -> None:
    """The page has the limit of every task."""
    page = (ROOT / "docs" / "deploy.md").read_text()
    rows = re.findall(r"(?m)^\| (`\w+`(?:, `\w+`)*|all others) \| (\d+)", page)
    limits = {task.strip("`"): int(limit) for tasks, limit in rows for task in tasks.split(", ")}
    others = limits.pop("all others")
    tasks = {task.id: task.seconds for workflow in WORKFLOWS for task in workflow.tasks}
    assert tasks == {task: limits.get(task, others) for task in tasks}
    assert limits.keys() <= tasks.keys()
