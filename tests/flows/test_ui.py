"""The Airflow UI as an administrator uses it: a job from the trigger form, its graph, its log.

With IMS_TEST_SCREENSHOTS set to a folder the pages are kept there as pictures, for the docs.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from playwright.sync_api import Page, sync_playwright

from ims.stack.lifecycle import token
from tests.flows.conftest import RECIPES
from tests.flows.rpm_repository import RepositoryServer
from tests.flows.shells import Key, customize
from tests.flows.test_interrupted import wait_for
from tests.service import Service

FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update")


@pytest.fixture
def page(service: Service) -> Iterator[Page]:
    """A browser page, logged in as the administrator."""
    bearer = token(service.settings, service.settings.admin_user, service.credentials.admin_password)
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


def test_trigger_form(service: Service, page: Page, http_server: RepositoryServer) -> None:
    """The form alone is enough to make an image; the run's graph then shows every task green."""
    recipe = service.push(RECIPES / "zypper", "sles15", REPOSITORY=http_server.url)
    name = f"from-the-form-{uuid4().hex[:8]}"
    page.goto(f"{service.settings.airflow_url}/dags/create_image")
    page.get_by_role("button", name="Trigger").first.click()
    dialog = page.locator("[role=dialog][data-state=open]")
    for section in ("Image", "Build", "Boot files"):
        assert dialog.get_by_role("button", name=section, exact=False).first.is_visible()
    dialog.get_by_role("button", name="Image", exact=False).first.click()
    fields = {"artifact_id": recipe["id"], "image_root_archive_name": name, "public_key_id": service.public_key()}
    for field, value in fields.items():
        dialog.locator(f"[name=element_{field}]").fill(value)
    keep(page, "create-image-form")
    dialog.get_by_role("button", name="Trigger", exact=True).last.click()
    dialog.wait_for(state="hidden")
    job = next(job for job in service.client.get("jobs") if job["image_root_archive_name"] == name)
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
    page.goto(f"{service.settings.airflow_url}/dags/create_image")
    page.get_by_role("button", name="Trigger").first.click()
    dialog = page.locator("[role=dialog][data-state=open]")
    dialog.get_by_role("button", name="Image", exact=False).first.click()
    fields = {"artifact_id": str(uuid4()), "image_root_archive_name": "x", "public_key_id": service.public_key()}
    for field, value in fields.items():
        dialog.locator(f"[name=element_{field}]").fill(value)
    dialog.get_by_role("button", name="Trigger", exact=True).last.click()
    page.get_by_text("there is no recipe with the id").first.wait_for()
    keep(page, "refused-form")
    assert len(service.client.get("jobs")) == runs


def test_shell_on_the_images_page(service: Service, page: Page, small: dict[str, Any], key: Key) -> None:
    """An open shell is listed with how to log in; it is kept and finished with a click, and then gone."""
    job = customize(service, small, key, jail=True, lease=3600)
    page.goto(f"{service.settings.airflow_url}/plugin/images")
    frame = page.frame_locator("iframe")
    row = frame.get_by_role("row").filter(has_text=job["ssh_containers"][0]["command"])
    row.wait_for()
    assert frame.get_by_text(job["ssh_containers"][0]["fingerprint"]).is_visible()
    keep(page, "open-shells")
    row.get_by_role("button", name="Keep a day more").click()
    tomorrow = datetime.now(UTC) + timedelta(hours=23)
    wait_for(lambda: datetime.fromisoformat(service.client.get(f"jobs/{job['id']}/shell")["until"]) > tomorrow)
    row.get_by_role("button", name="Finish").click()
    assert service.wait(job["id"])["status"] == "success"
    page.reload()
    frame.get_by_text("customized-").first.wait_for()
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
