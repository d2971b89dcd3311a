"""The Airflow UI in a browser: the trigger forms, the graph of a run, and the pages of the service.

If IMS_TEST_SCREENSHOTS names a folder, the tests write screenshots of the pages there.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from playwright.sync_api import FrameLocator, Locator, Page, Route, sync_playwright

from ims import __version__
from tests.flows.conftest import RECIPES
from tests.flows.rpm_repository import RepositoryServer
from tests.flows.shells import Key, customize
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
        violations: list[str] = []
        context.on("console", lambda message: violations.extend(_violation(message.text)))
        yield context.new_page()
        browser.close()
        assert not violations


def _violation(text: str) -> list[str]:
    """The message in which a browser reports that a page broke its own content security policy."""
    return [text] if "Content Security Policy" in text else []


def keep(page: Page, name: str) -> None:
    """Write a screenshot of the page if screenshots are enabled."""
    if folder := os.environ.get("IMS_TEST_SCREENSHOTS"):
        page.wait_for_timeout(1500)
        page.screenshot(path=Path(folder) / f"{name}.png")


def open_form(service: Service, page: Page, workflow: str) -> Locator:
    """Open the trigger form of a workflow and its first section."""
    page.goto(f"{service.settings.airflow_url}/dags/{workflow}")
    page.get_by_role("button", name="Trigger").first.click()
    dialog = page.locator("[role=dialog][data-state=open]")
    dialog.get_by_role("button", name="Image", exact=False).first.click()
    return dialog


def fill(dialog: Locator, **values: str) -> None:
    """Fill in fields of a form."""
    for field, value in values.items():
        dialog.locator(f"[name=element_{field}]").fill(value)


def send(dialog: Locator) -> None:
    """Submit the form, which starts the run."""
    dialog.get_by_role("button", name="Trigger", exact=True).last.click()


def job_named(service: Service, name: str) -> dict[str, Any]:
    """Return the job that creates the image with this name."""
    return next(job for job in service.client.get("jobs") if job["image_root_archive_name"] == name)


def test_trigger_form(service: Service, page: Page, http_server: RepositoryServer) -> None:
    """The form takes names and needs no key without a shell; afterwards the graph of the run shows every task."""
    recipe = service.push(RECIPES / "zypper", "sles15", REPOSITORY=http_server.url)
    name = f"from-the-form-{uuid4().hex[:8]}"
    dialog = open_form(service, page, "create_image")
    for section in ("Image", "Build", "Boot files"):
        assert dialog.get_by_role("button", name=section, exact=False).first.is_visible()
    fill(dialog, artifact_id=recipe["name"], image_root_archive_name=name)
    keep(page, "create-image-form")
    send(dialog)
    dialog.wait_for(state="hidden")
    job = job_named(service, name)
    assert (job["artifact_id"], job["public_key_id"], job["started_by"]) == (recipe["id"], None, "admin")
    ended = service.wait(job["id"])
    assert ended["status"] == "success", ended["reason"]
    assert service.client.get(f"images/{ended['resultant_image_id']}")["name"] == name

    page.goto(job["log_url"])
    page.get_by_text("save_image_record").first.wait_for()
    page.get_by_label("Show Graph").first.click()
    page.locator(".react-flow__node").first.wait_for()
    assert page.locator(".react-flow__node").count() >= len({step["name"].split("[")[0] for step in ended["steps"]})
    keep(page, "create-image-graph")


@pytest.mark.parametrize("recipe", [str(uuid4()), "no such recipe"], ids=["id", "name"])
def test_unknown_recipe_in_the_form(service: Service, page: Page, recipe: str) -> None:
    """The form shows the error, and no run is created."""
    runs = len(service.client.get("jobs"))
    dialog = open_form(service, page, "create_image")
    fill(dialog, artifact_id=recipe, image_root_archive_name="x", public_key_id=service.public_key())
    send(dialog)
    page.get_by_text(recipe).first.wait_for()
    page.get_by_text("no recipe").first.wait_for()
    keep(page, "refused-form")
    assert len(service.client.get("jobs")) == runs


def open_images(service: Service, page: Page) -> FrameLocator:
    """Open the page *Images*, which Airflow shows in a frame."""
    page.goto(f"{service.settings.airflow_url}/plugin/images")
    return page.frame_locator("iframe")


def open_shell(service: Service, page: Page, image: dict[str, Any], key: Key) -> dict[str, Any]:
    """Start a customization with the trigger form; returns the job when its shell is open."""
    name = f"from-the-form-{uuid4().hex[:8]}"
    dialog = open_form(service, page, "customize_image")
    fill(dialog, artifact_id=image["id"], image_root_archive_name=name, public_key_id=key.identity)
    send(dialog)
    dialog.wait_for(state="hidden")
    job = service.wait(job_named(service, name)["id"], until=("waiting_on_user", "error"))
    assert job["status"] == "waiting_on_user", job["reason"]
    return job


def check_links(service: Service, page: Page, job: dict[str, Any]) -> None:
    """A link opens its target in place of the page, or in a new tab, although Airflow's frame is sandboxed."""
    open_images(service, page).get_by_role("link", name=job["image_root_archive_name"]).click()
    page.wait_for_url(f"**/dags/customize_image/runs/{job['dag_run_id']}**")
    open_images(service, page).get_by_role("link", name="create an image").click()
    page.wait_for_url("**/dags/create_image**")
    with page.context.expect_page() as opened:
        open_images(service, page).get_by_role("link", name="customize an image").click(modifiers=["Control"])
    opened.value.wait_for_url("**/dags/customize_image**")
    opened.value.close()


def test_open_shells(service: Service, page: Page, small: dict[str, Any], key: Key) -> None:
    """Each open shell is listed with its names; a user can extend, finish and give up shells, and open their runs."""
    finished, given_up = open_shell(service, page, small, key), customize(service, small, key, jail=True)
    check_links(service, page, given_up)
    frame = open_images(service, page)
    row, other = (
        frame.get_by_role("row").filter(has_text=job["image_root_archive_name"]) for job in (finished, given_up)
    )
    for shown, job in ((row, finished), (other, given_up)):
        shown.get_by_text(f"from the image {small['name']}").wait_for()
        assert shown.get_by_text(job["ssh_containers"][0]["command"]).is_visible()
        assert shown.get_by_text(job["ssh_containers"][0]["fingerprint"]).is_visible()
    keep(page, "open-shells")

    shell = f"jobs/{finished['id']}/shell"
    before = service.client.get(shell)["until"]
    with page.expect_response("**/apis/ims/overview"):  # a page that loads again closes the dialog
        row.get_by_role("button", name="Keep a day more").click()
    wait_for(lambda: service.client.get(shell)["until"] > before)

    question = frame.get_by_role("dialog")
    other.get_by_role("button", name="Give up").click()
    keep(page, "give-up-shell")
    question.get_by_role("button", name="Keep the shell").click()
    question.wait_for(state="hidden")
    assert service.client.get(f"jobs/{given_up['id']}/shell")["operation"] is None
    other.get_by_role("button", name="Give up").click()
    question.get_by_role("button", name="Give up").click()
    wait_for(lambda: service.client.get(f"jobs/{given_up['id']}/shell")["operation"] == "fail")
    assert service.wait(given_up["id"])["status"] == "error"

    row.get_by_role("button", name="Finish").click()
    assert service.wait(finished["id"])["status"] == "success"
    frame = open_images(service, page)
    frame.get_by_text(finished["image_root_archive_name"]).first.wait_for()
    assert frame.get_by_role("button", name="Finish").count() == 0


def test_images_page(service: Service, page: Page) -> None:
    """The page lists records with their ids, and escapes their names."""
    name = f"<b>recipe</b> {uuid4().hex[:8]}"
    fields = {"name": name, "recipe_type": "kiwi-ng", "linux_distribution": "sles15"}
    recipe = service.client.create("recipes", **fields)
    frame = open_images(service, page)
    frame.get_by_text(name, exact=True).wait_for()
    assert frame.get_by_text(recipe["id"]).is_visible()
    keep(page, "images-page")


def test_api_docs(service: Service, page: Page) -> None:
    """The documentation of the API needs nothing but the service, and its requests reach the service."""
    blocked = []

    def block(route: Route) -> None:
        if route.request.url.startswith((service.settings.airflow_url, "data:")):
            route.continue_()
        else:
            blocked.append(route.request.url)
            route.abort()

    page.context.route("**/*", block)
    page.goto(f"{service.settings.airflow_url}/apis/ims/docs")
    operation = page.locator(".opblock").filter(has=page.locator("[data-path='/version']"))
    operation.get_by_role("button").first.click()
    operation.get_by_role("button", name="Try it out").click()
    operation.get_by_role("button", name="Execute").click()
    operation.locator(".live-responses-table").get_by_text(__version__).first.wait_for()
    keep(page, "api-docs")
    assert blocked == []


def test_link_to_the_api_docs(service: Service, page: Page) -> None:
    """The menu *Docs* of Airflow has a link to the documentation of the API."""
    page.goto(service.settings.airflow_url)
    page.get_by_role("button", name="Docs").click()
    assert page.get_by_role("menuitem", name="IMS API").get_attribute("href") == "/apis/ims/docs"
