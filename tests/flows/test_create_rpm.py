"""Images from RPM recipes, with jobs that are started in different ways."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from jinja2 import Template

from tests.flows.artifacts import fetch, unpack
from tests.flows.conftest import RECIPES
from tests.flows.leftovers import Leftovers
from tests.flows.rpm_repository import KERNEL_VERSION, PrivateCA, RepositoryServer, address, build_stand_in
from tests.flows.waiting import wait_for
from tests.service import Service

pytestmark = pytest.mark.kubernetes

SHIPPED = Path(__file__).parents[2] / "include" / "recipes" / "sles15-barebones"
CA_FILE = "usr/share/pki/trust/anchors/site-root-ca.crt"


def check_image(service: Service, job_id: str, folder: Path, site_ca: PrivateCA) -> Path:
    """Assert that the image of a job is complete and trusts the site CA; returns its unpacked root."""
    job = service.wait(job_id)
    assert job["status"] == "success", job["reason"]
    image = service.client.get(f"images/{job['resultant_image_id']}")
    assert image["name"] == job["image_root_archive_name"]
    files = fetch(service, image, folder)
    assert set(files) >= {"rootfs", "kernel", "initrd", "sbom.cdx.json", "files.jsonl.gz"}
    assert image["size"] == sum(path.stat().st_size for path in files.values())
    assert image["package_count"] >= 5  # the four of the recipe, and the site CA
    assert image["kernels"] == [KERNEL_VERSION]
    root = unpack(files["rootfs"], folder / "root")
    assert (root / CA_FILE).read_bytes() == site_ca.certificate.read_bytes()
    bundle = (root / "var/lib/ca-certificates/ca-bundle.pem").read_text()
    assert site_ca.certificate.read_text().strip() in bundle
    assert not service.workspace(job_id).exists()
    for name in ("image", ".profile", ".kconfig"):
        assert not (root / name).exists()
    return root


def test_zypper_over_http_by_the_rest_api(
    service: Service, http_server: RepositoryServer, tmp_path: Path, site_ca: PrivateCA, leftovers: Leftovers
) -> None:
    """A run that Airflow's API starts is a job. Both scripts of the recipe run, and only the image is left.

    The job waits for a Nexus that answers 503 while it starts. Meanwhile, it occupies no worker.
    """
    http_server.fail(503)
    recipe = service.push(RECIPES / "zypper", "sles15", REPOSITORY=http_server.url)
    run_id = f"by-hand-{uuid4()}"
    answer = service.http.post(
        "/api/v2/dags/create_image/dagRuns",
        json={"dag_run_id": run_id, "logical_date": None, "conf": service.job_fields(recipe["id"])},
    )
    assert answer.status_code == 200, answer.text
    job = next(job for job in service.client.get("jobs") if job["dag_run_id"] == run_id)
    waiting = await_deferral(service, job["id"])
    assert waiting["status"] == "waiting_for_repos"
    assert waiting["reason"].startswith("wait_for_repositories: waiting up to 120 s for ")
    assert waiting["reason"].endswith(" (503 Service Unavailable)")
    http_server.recover()
    root = check_image(service, job["id"], tmp_path, site_ca)
    assert (root / "etc/flow-test-config").read_text() == "config.sh\n"
    assert (root / "etc/flow-test-images").read_text() == "images.sh\n"
    after = Leftovers(service).before
    assert after["mounts"] == leftovers.before["mounts"]
    assert after["processes"] == set()
    assert after["uploads"] == set()


def await_deferral(service: Service, job_id: str) -> dict[str, Any]:
    """Wait until a step of a job waits without a worker; returns the job."""

    def deferred() -> dict[str, Any] | None:
        job: dict[str, Any] = service.client.get(f"jobs/{job_id}")
        return job if any(step["state"] == "deferred" for step in job["steps"]) else None

    return dict(wait_for(deferred, pause=1))


def test_dnf_over_https_by_post_jobs(
    service: Service, https_server: RepositoryServer, tmp_path: Path, site_ca: PrivateCA
) -> None:
    """The build trusts the site CA when it downloads packages."""
    recipe = service.push(RECIPES / "dnf", "rocky9", REPOSITORY=https_server.url)
    root = check_image(service, service.create(recipe["id"])["id"], tmp_path, site_ca)
    assert (root / "etc/flow-test-images").exists()


def test_the_shipped_sles_recipe(
    service: Service, tmp_path: Path, site_ca: PrivateCA, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """It builds over https from a stand-in for its Nexus. zypper also runs in the image, where it trusts the CA."""
    certificate = site_ca.issue(address())
    description = tmp_path / "config.xml"
    description.write_text(Template((SHIPPED / "config.xml").read_text()).render(NEXUS_URL="https://nexus"))
    with RepositoryServer(build_stand_in(tmp_path_factory.mktemp("nexus"), tmp_path), certificate) as nexus:
        recipe = service.push(SHIPPED, "sles15", NEXUS_URL=nexus.url)
        check_image(service, service.create(recipe["id"])["id"], tmp_path, site_ca)
