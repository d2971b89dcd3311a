"""The values for Airflow's Helm chart: settings, images, accounts and Secrets."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from ims import __version__
from ims.pools import total_slots
from ims.settings import Settings

ROOT = Path(__file__).parents[2]
HELM = ROOT / "deploy" / "helm"
VALUES: dict[str, Any] = yaml.safe_load((HELM / "values.yaml").read_text())
VARIANTS = {
    name: yaml.safe_load((HELM / f"{name}.yaml").read_text()) for name in ("celery-executor", "kubernetes-executor")
}
ALL = {"values": VALUES, **VARIANTS}
PAGE = (ROOT / "docs" / "deploy.md").read_text()


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every value with its path."""
    if isinstance(value, dict):
        for name, below in value.items():
            yield from leaves(below, f"{path}.{name}")
    elif isinstance(value, list):
        for below in value:
            yield from leaves(below, path)
    else:
        yield path, value


def environment(items: list[dict[str, Any]]) -> dict[str, str]:
    """The variables that have a literal value."""
    return {item["name"]: item["value"] for item in items if "value" in item}


def test_every_file_is_tested() -> None:
    """A new variant must be added to this module."""
    assert {path.stem for path in HELM.iterdir()} == set(ALL)


def test_all_pools_fit_into_airflow() -> None:
    """Full pools leave the slots of the others free."""
    own = Settings(parallelism=int(environment(VALUES["env"])["IMS_PARALLELISM"]))
    assert VALUES["config"]["core"]["parallelism"] >= total_slots(own)


def test_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """The IMS_* variables are settings with valid values."""
    given = {name: value for name, value in environment(VALUES["env"]).items() if name.startswith("IMS_")}
    known = {f"IMS_{name.upper()}" for name in Settings.model_fields}
    assert set(given) <= known
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    settings = Settings()
    assert settings.runtime == "kubernetes"
    assert settings.ui_url == VALUES["config"]["api"]["base_url"]
    assert settings.endpoint_url == environment(VALUES["env"])["AWS_ENDPOINT_URL"]


def test_versions() -> None:
    """Airflow has the version of the lock file, the images have that of the project."""
    lock = (ROOT / "requirements-airflow.lock").read_text()
    assert f"\napache-airflow=={VALUES['airflowVersion']} " in lock
    assert VALUES["defaultAirflowTag"] == __version__
    assert environment(VALUES["env"])["IMS_KUBERNETES_IMAGE"].endswith(f"/ims-builder:{__version__}")


def test_connection() -> None:
    """Pods start in the namespace of the jobs."""
    given = environment(VALUES["env"])
    extra = json.loads(given["AIRFLOW_CONN_KUBERNETES_DEFAULT"])["extra"]
    assert extra["namespace"] == given["IMS_KUBERNETES_NAMESPACE"]


@pytest.mark.parametrize("name", ALL)
def test_file_contains_no_secret(name: str) -> None:
    """Secrets are references."""
    for path, value in leaves(ALL[name]):
        last = path.rpartition(".")[2]
        if re.search(r"(?i)password|passwd|secret|token|fernet|connection$|url$|key$", last):
            assert re.search(r"(?i)secretName$|secretKeyRef\.key$|_url$", path), f"{path} contains {value!r}"
        assert not re.search(r"://[^/@ ]*:[^/@ ]*@", str(value)), f"{path} contains a password"


def test_only_the_api_server_can_reach_the_records() -> None:
    """Tasks use the API."""
    everybody = {item["name"] for item in VALUES["env"]}
    assert "IMS_DATABASE_URL" not in everybody
    assert "IMS_DATABASE_URL" in {item["name"] for item in VALUES["apiServer"]["env"]}
    assert {path for path, value in leaves(ALL) if value == "ims-records"} == {
        ".values.apiServer.env.valueFrom.secretKeyRef.name"
    }


def test_accounts() -> None:
    """They are the accounts that the role of the jobs is bound to."""
    documents = yaml.safe_load_all((ROOT / "deploy" / "rbac.yaml").read_text())
    (binding,) = [item for item in documents if item["kind"] == "RoleBinding"]
    bound = {subject["name"] for subject in binding["subjects"] if subject["namespace"] == "airflow"}
    assert {value for path, value in leaves(VALUES) if path.endswith("serviceAccount.name")} == bound


@pytest.mark.parametrize("name", VARIANTS)
def test_variants(name: str) -> None:
    """A variant is named after its executor and overrides no common value."""
    variant = VARIANTS[name]
    assert variant["executor"].lower() == name.replace("-", "")
    assert not dict(leaves(variant)).keys() & dict(leaves(VALUES)).keys()


def test_secrets_are_created() -> None:
    """docs/deploy.md creates every Secret and ConfigMap that the values name."""
    named = {
        str(value)
        for path, value in leaves(ALL)
        if re.search(r"SecretName$|secretKeyRef\.name$|configMap\.name$", path)
    }
    named |= set(re.findall(r"name: (\S+)", VALUES["extraEnvFrom"]))
    assert len(named) > 5
    made = set(re.findall(r"-n airflow create (?:secret generic|configmap) (\S+)", PAGE))
    assert named - made == set()
