"""The commands of docs/create-an-image.md, run as they stand against a running service."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

from tests.flows.conftest import RECIPES
from tests.flows.rpm_repository import RepositoryServer
from tests.service import PUBLIC_KEY, Service

PROJECT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
PAGE = PROJECT / "docs" / "create-an-image.md"


def test_create_an_image(service: Service, http_server: RepositoryServer, tmp_path: Path) -> None:
    """A reader who copies the commands of the page, one after the other, gets images."""
    commands = "\n".join(re.findall(r"```bash\n(.*?)```", PAGE.read_text(), re.DOTALL))
    for here, there in (("make -s env", f"make -C {PROJECT} -s env"), ("$PWD/.venv/bin", str(BIN))):
        assert here in commands
        commands = commands.replace(here, there)
    (tmp_path / "key.pub").write_text(PUBLIC_KEY)
    environment = {
        **os.environ,
        "RECIPE": str(RECIPES / "zypper"),
        "REPOSITORY": http_server.url,
        "PUBLIC_KEY": str(tmp_path / "key.pub"),
    }
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", commands],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    job = service.client.get(f"jobs/{json.loads((tmp_path / 'job.json').read_text())['id']}")
    assert job["status"] == "success", job["reason"]
    assert {path.name for path in (tmp_path / "my-image").iterdir()} >= {"rootfs", "kernel", "initrd", "manifest.yaml"}
