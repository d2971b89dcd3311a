"""docker-compose.yaml, as far as it can be checked without Docker."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from secrets import token_hex
from typing import Any

import httpx
import pytest
import yaml

from ims import __version__
from ims.errors import ConfigurationError
from ims.pools import total_slots
from ims.settings import EMBEDDED_ROLE, Settings
from ims.stack.seaweedfs import EXPECTS_TLS
from ims.storage.objects import ObjectName, ObjectStore
from ims.storage.sessions import session_credentials, token_client, writing
from ims.supervisord import BIN
from tests.seaweedfs import await_s3

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docker-compose.yaml").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load(TEXT)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
ONCE = {name for name in SERVICES if name.endswith("-init")}
EXAMPLE = re.findall(r"(?m)^([A-Z0-9_]+)=(.*)$", (ROOT / ".env.example").read_text())


def test_every_secret_is_required() -> None:
    """No variable has a default, and .env.example has all of them, empty."""
    used = re.findall(r"(?<!\$)\$\{(\w+)(:\?[^}]*)?\}", TEXT)
    assert {name for name, required in used if not required} == set()
    assert {name for name, _ in used} == {name for name, _ in EXAMPLE}
    assert {value for _, value in EXAMPLE} == {""}


def test_file_contains_no_secret() -> None:
    """Every variable that is named like a secret comes from .env."""
    for name, service in SERVICES.items():
        for variable, value in service.get("environment", {}).items():
            if re.search(r"PASSWORD|SECRET|TOKEN|FERNET|ACCESS_KEY", variable):
                assert re.fullmatch(r"\$\{\w+:\?\}", value), f"{name}: {variable}"


def test_all_pools_fit_into_airflow() -> None:
    """Full pools leave the slots of the others free."""
    environment = SERVICES["scheduler"]["environment"]
    own = Settings(parallelism=int(environment["IMS_PARALLELISM"]))
    assert int(environment["AIRFLOW__CORE__PARALLELISM"]) >= total_slots(own)


@pytest.mark.parametrize("name", SERVICES)
def test_image_is_pinned(name: str) -> None:
    """Each has a full version; our own images have that of the project."""
    image, _, tag = SERVICES[name]["image"].rpartition(":")
    assert re.match(r"v?\d+\.\d+", tag)
    if image.startswith("localhost/"):
        assert tag == __version__


@pytest.mark.parametrize("name", sorted(SERVICES.keys() - ONCE))
def test_health(name: str) -> None:
    """Every permanent service has a health check and restarts with the host."""
    assert SERVICES[name]["healthcheck"]["test"][0] in ("CMD", "CMD-SHELL")
    assert SERVICES[name]["restart"] == "unless-stopped"


@pytest.mark.parametrize("name", SERVICES)
def test_rights(name: str) -> None:
    """Only k3s is privileged; Airflow has no capabilities; only the ports of shells are public."""
    service = SERVICES[name]
    assert service.get("privileged", False) is (name == "k3s")
    if "ims-airflow" in service["image"]:
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges"]
    if name != "k3s":
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))


def test_only_the_api_server_can_reach_the_records() -> None:
    """Tasks use the API."""
    assert [name for name in SERVICES if "IMS_DATABASE_URL" in SERVICES[name].get("environment", {})] == ["api-server"]


def test_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """The IMS_* variables are settings with valid values, and the connections are JSON."""
    given = SERVICES["api-server"]["environment"]
    for name, value in given.items():
        if name.startswith("IMS_"):
            assert name.removeprefix("IMS_").lower() in Settings.model_fields
            monkeypatch.setenv(name, value)
        if name.startswith("AIRFLOW_CONN_"):
            assert "conn_type" in json.loads(value)
    settings = Settings()
    assert settings.runtime == "kubernetes"
    kubernetes = json.loads(given["AIRFLOW_CONN_KUBERNETES_DEFAULT"])["extra"]
    assert kubernetes["kube_config_path"] == str(settings.kubernetes_config)
    addresses = {service["networks"]["ims"]["ipv4_address"] for service in (SERVICES["s3"],)}
    assert settings.step_role_arn == EMBEDDED_ROLE
    assert settings.endpoint_url in {f"http://{address}:8333" for address in addresses}


@pytest.mark.system
def test_s3(tmp_path: Path) -> None:
    """S3 issues temporary credentials, and nobody can use its internal ports."""
    address, home = "127.0.0.77", tmp_path / "config"
    keys = {"AWS_ACCESS_KEY_ID": token_hex(32), "AWS_SECRET_ACCESS_KEY": token_hex(32)}
    init = {**os.environ, **keys, "IMS_HOME": str(home), "IMS_HOST": address}
    home.mkdir()
    subprocess.run([sys.executable, *SERVICES["s3-init"]["command"][1:]], env=init, check=True)
    options = [
        option.replace("172.30.0.10", address).replace("/data", str(tmp_path)).replace("/config", str(home))
        for option in SERVICES["s3"]["command"]
    ]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [BIN / "weed", *options], cwd=home / "s3", env={**os.environ, **keys}, stdout=log, stderr=log
        )
    try:
        url, secrets = f"http://{address}:8333", tuple(keys.values())
        await_s3(ObjectStore.connect(url, *secrets, attempts=1))
        role = SERVICES["worker"]["environment"]["IMS_STS_ROLE"]
        given = session_credentials(role, "step", 900, [writing("boot-images", "a")], token_client(url, *secrets))
        step = ObjectStore.connect(url, given["AccessKeyId"], given["SecretAccessKey"], given["SessionToken"])
        step.write_bytes(ObjectName("boot-images", "a/b"), b"x")
        with pytest.raises(ConfigurationError, match="refuses access"):
            step.write_bytes(ObjectName("boot-images", "b/b"), b"x")
        for port in (9333, 8888, 9340):
            assert httpx.get(f"http://{address}:{port}/").text == EXPECTS_TLS
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("name", sorted(name for name in ONCE if name != "s3-init"))
def test_script(name: str) -> None:
    """The set-up scripts have valid syntax."""
    script = SERVICES[name]["command"][-1].replace("$$", "$")
    done = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_dependencies_can_be_fulfilled() -> None:
    """A service can wait for the end of an -init service, and for the health of all others."""
    for name, service in SERVICES.items():
        for other, how in service.get("depends_on", {}).items():
            ends = "service_completed_successfully" if other in ONCE else "service_healthy"
            assert how["condition"] == ends, f"{name} waits for {other}"
