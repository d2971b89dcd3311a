"""The headers that protect the pages, and the pages under hostile names."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from html.parser import HTMLParser
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest

from ims.ui.templating import templates
from tests.api.offline import Offline, offline_api

NONCE = "the-nonce"
HOSTILE = (
    """</script><script>alert(1)</script><img src=x onerror=alert(1)>"' onmouseover=alert(1) {{7*7}} """
    "javascript:alert(1)"
)
ANSWERS = ["/v3/images", "/v3/nothing", "/version", "/openapi.json", "/docs/swagger-ui-bundle.js"]


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> Iterator[Offline]:
    """The API without Airflow."""
    with offline_api(monkeypatch) as api:
        yield api


class Page(HTMLParser):
    """The tags of a page with their attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keeps a tag."""
        self.tags.append((tag, dict(attrs)))


@pytest.mark.parametrize("user", ["viewer", "nobody"])
@pytest.mark.parametrize("path", ANSWERS)
def test_data(offline: Offline, path: str, user: str) -> None:
    """A browser neither guesses the type of an answer, nor runs it, nor frames it."""
    headers = offline.request(user, "GET", path).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["content-security-policy"].startswith("default-src 'none'; base-uri 'none'")
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert headers["x-frame-options"] == "DENY"


def test_page(offline: Offline) -> None:
    """A page runs only its own scripts, which carry a nonce, and only Airflow's UI can frame it."""
    answers = [offline.request("viewer", "GET", "/docs") for _time in range(2)]
    nonces = [re.findall("'nonce-([^']+)'", answer.headers["content-security-policy"]) for answer in answers]
    assert len({nonce for found in nonces for nonce in found}) == 2
    for answer, found in zip(answers, nonces, strict=True):
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'self'" in policy
        assert "unsafe" not in policy
        assert answer.headers["x-frame-options"] == "SAMEORIGIN"
        scripts = [attributes for tag, attributes in Page(answer.text).tags if tag == "script"]
        assert scripts
        assert {attributes["nonce"] for attributes in scripts} == set(found)


def hostile_page() -> str:
    """The page *Images* with a hostile text wherever a user or a job decides about one."""
    record = {"id": HOSTILE, "name": HOSTILE, "arch": HOSTILE, "created": datetime.now(UTC), "link_path": HOSTILE}
    recipe = {**record, "linux_distribution": HOSTILE, "nightly": True}
    shell = {
        **dict.fromkeys(("job_id", "name", "command", "fingerprint", "run_url"), HOSTILE),
        "until": datetime.now(UTC),
        "jail": False,
        "operation": None,
    }
    failed = SimpleNamespace(name=HOSTILE, outcome="failed", reason=HOSTILE)
    night = {"created": datetime.now(UTC), "status": "error", "built": 1, "unchanged": 1, "failed": 1}
    content: dict[str, Any] = {
        "shells": [
            SimpleNamespace(shell=SimpleNamespace(**shell), image=HOSTILE, source=HOSTILE, run_url=url)
            for url in (None, f"http://localhost/dags/x/runs/{uuid4()}")
        ],
        "recipes": [SimpleNamespace(**recipe)],
        "images": [SimpleNamespace(**record)],
        "public_keys": [SimpleNamespace(**record)],
        "nights": [SimpleNamespace(**night, paused=[failed], recipes=[failed], log_url="http://localhost/dags/x")],
        "create_url": "http://localhost/dags/x",
        "customize_url": "http://localhost/dags/x",
        "max_records": 1,
        "request": SimpleNamespace(state=SimpleNamespace(nonce=NONCE)),
    }
    return templates.get_template("images.html").render(content)


def test_hostile_names_are_text() -> None:
    """Markup in names, addresses and reasons is shown as it is."""
    text = hostile_page()
    page, friendly = Page(text), Page(text.replace(HOSTILE, "x"))
    assert "&lt;script&gt;" in text
    assert text.count("{{7*7}}") == text.count("onmouseover")
    assert [tag for tag, _ in page.tags] == [tag for tag, _ in friendly.tags]
    for tag, attributes in page.tags:
        assert not [name for name in attributes if name.startswith("on") or name == "style"]
        assert tag != "img"
        if tag in ("script", "style"):
            assert attributes["nonce"] == NONCE


def test_links_lead_to_the_ui() -> None:
    """The address of a run comes from its ids. Without a known run there is no link."""
    links = [attributes["href"] for tag, attributes in Page(hostile_page()).tags if tag == "a"]
    assert len(links) == 4
    assert all(link is not None and link.startswith("http://localhost/dags/") for link in links)
