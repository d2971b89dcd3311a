"""The Airflow UI as an administrator uses it: a job from the trigger form, its graph, its log.

With IMS_TEST_SCREENSHOTS set to a folder the pages are kept there as pictures, for the docs.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from playwright.sync_api import Locator, Page, sync_playwright

from tests.flows.conftest import RECIPES
from tests.flows.rpm_repository import RepositoryServer
from tests.flows.shells import Key
from tests.flows.waiting import wait_for
from tests.service import Service

FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update")


@pytest.fixture
def page(service: Service) -> Iterator[Page]:
    """A browser page, logged in as the administrator."""
    bearer = service.client.token(service.settings.admin_user, service.credentials.admin_password)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=list(FLAGS))
        context = browser.new_context(viewport={"width": 1400, "height": 900})
        context.add_cookies([{"name": "_token", "value": bearer, "url": service.settings.airflow_url}])
        context.set_default_timeout(60_000)
        yield context.new_page()
        browser.close()


def keep(page: Page, name: str) -> None:
    """Keep a picture of the page, if pictures are wanted."""
    if folder := os.environ.get("IMS_TEST_SCREENSHOTS"):
        page.wait_for_timeout(1500)
        page.screenshot(path=Path(folder) / f"{name}.png")


def open_form(service: Service, page: Page, workflow: str) -> Locator:
    """The trigger form of a workflow, its first section open."""
    page.goto(f"{service.settings.airflow_url}/dags/{workflow}")
    page.get_by_role("button", name="Trigger").first.click()
    dialog = page.locator("[role=dialog][data-state=open]")
    dialog.get_by_role("button", name="Image", exact=False).first.click()
    return dialog


def fill(dialog: Locator, **values: str) -> None:
    """Write into the fields of a form."""
    for field, value in values.items():
        dialog.locator(f"[name=element_{field}]").fill(value)


def send(dialog: Locator) -> None:
    """Start the run."""
    dialog.get_by_role("button", name="Trigger", exact=True).last.click()


def job_named(service: Service, name: str) -> dict[str, Any]:
    """The job that makes the image of a name."""
    return next(job for job in service.client.get("jobs") if job["image_root_archive_name"] == name)


def test_trigger_form(service: Service, page: Page, http_server: RepositoryServer) -> None:
    """The form alone is enough to make an image; the run's graph then shows every task green."""
    recipe = service.push(RECIPES / "zypper", "sles15", REPOSITORY=http_server.url)
    name = f"from-the-form-{uuid4().hex[:8]}"
    dialog = open_form(service, page, "create_image")
    for section in ("Image", "Build", "Boot files"):
        assert dialog.get_by_role("button", name=section, exact=False).first.is_visible()
    fill(dialog, artifact_id=recipe["id"], image_root_archive_name=name, public_key_id=service.public_key())
    keep(page, "create-image-form")
    send(dialog)
    dialog.wait_for(state="hidden")
    job = job_named(service, name)
    ended = service.wait(job["id"])
    assert ended["status"] == "success", ended["reason"]
    assert service.client.get(f"images/{ended['resultant_image_id']}")["name"] == name

    page.goto(job["log_url"])
    page.get_by_text("save_image_record").first.wait_for()
    page.get_by_label("Show Graph").first.click()
    page.locator(".react-flow__node").first.wait_for()
    assert page.locator(".react-flow__node").count() >= len({step["name"].split("[")[0] for step in ended["steps"]})
    keep(page, "create-image-graph")


def test_wrong_value_in_the_form(service: Service, page: Page) -> None:
    """A recipe that does not exist is refused in the form, which says which field; no run is made."""
    runs = len(service.client.get("jobs"))
    dialog = open_form(service, page, "create_image")
    fill(dialog, artifact_id=str(uuid4()), image_root_archive_name="x", public_key_id=service.public_key())
    send(dialog)
    page.get_by_text("there is no recipe with the id").first.wait_for()
    keep(page, "refused-form")
    assert len(service.client.get("jobs")) == runs


def test_shell_on_the_images_page(service: Service, page: Page, small: dict[str, Any], key: Key) -> None:
    """A shell that the form opens is listed with how to log in; it is kept and finished with a click, and then gone."""
    name = f"from-the-form-{uuid4().hex[:8]}"
    dialog = open_form(service, page, "customize_image")
    fill(dialog, artifact_id=small["id"], image_root_archive_name=name, public_key_id=key.identity)
    send(dialog)
    dialog.wait_for(state="hidden")
    job = service.wait(job_named(service, name)["id"], until=("waiting_on_user", "error"))
    assert job["status"] == "waiting_on_user", job["reason"]
    page.goto(f"{service.settings.airflow_url}/plugin/images")
    frame = page.frame_locator("iframe")
    row = frame.get_by_role("row").filter(has_text=job["ssh_containers"][0]["command"])
    row.wait_for()
    assert frame.get_by_text(job["ssh_containers"][0]["fingerprint"]).is_visible()
    keep(page, "open-shells")
    shell = f"jobs/{job['id']}/shell"
    before = service.client.get(shell)["until"]
    row.get_by_role("button", name="Keep a day more").click()
    wait_for(lambda: service.client.get(shell)["until"] > before)
    row.get_by_role("button", name="Finish").click()
    assert service.wait(job["id"])["status"] == "success"
    page.reload()
    frame.get_by_text(name).first.wait_for()
    assert row.count() == 0


def test_images_page(service: Service, page: Page) -> None:
    """The page in the UI's navigation lists what there is, with ids, and shows names as text, whatever is in them."""
    name = f"<b>recipe</b> {uuid4().hex[:8]}"
    fields = {"name": name, "recipe_type": "kiwi-ng", "linux_distribution": "sles15"}
    recipe = service.client.create("recipes", **fields)
    page.goto(f"{service.settings.airflow_url}/plugin/images")
    frame = page.frame_locator("iframe")
    frame.get_by_text(name, exact=True).wait_for()
    assert frame.get_by_text(recipe["id"]).is_visible()
    keep(page, "images-page")
