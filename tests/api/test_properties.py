"""Properties of all records: they survive deleting and undeleting, exporting and importing."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.api.records import REQUIRED, make, store_archive, store_image
from tests.api.wire import V3, assert_deleted
from tests.fuzzing import examples
from tests.service import Service

TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=60)
NAME = TEXT.filter(bool)
ARCH = st.sampled_from(["x86_64", "aarch64"])
VARIABLE = st.fixed_dictionaries({"key": NAME, "value": TEXT})
# The mappings that mean something else: the pair that `cray ims` sends, and its key alone.
METADATA = st.dictionaries(TEXT, TEXT, max_size=5).filter(lambda labels: set(labels) | {"value"} != {"key", "value"})
FIELDS: dict[str, st.SearchStrategy[dict[str, Any]]] = {
    "public-keys": st.fixed_dictionaries({"name": NAME}),
    "recipes": st.fixed_dictionaries(
        {"name": NAME},
        optional={
            "arch": ARCH,
            "require_dkms": st.booleans(),
            "linux_distribution": st.sampled_from(["sles12", "debian13", "rocky9"]),
            "template_dictionary": st.lists(VARIABLE, max_size=4),
        },
    ),
    "images": st.fixed_dictionaries(
        {"name": NAME}, optional={"arch": ARCH, "metadata": METADATA, "pinned": st.booleans()}
    ),
}
FEW = settings(
    max_examples=examples(20),
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.mark.parametrize("kind", REQUIRED)
def test_undelete_gives_the_same_back(api: httpx.Client, kind: str) -> None:
    """Undeleting restores every field."""

    @FEW
    @given(fields=FIELDS[kind])
    def check(fields: dict[str, Any]) -> None:
        record = make(api, kind, **fields)
        assert {**record, **fields} == record
        assert_deleted(api.delete(f"{V3}/{kind}/{record['id']}"))
        assert_deleted(api.patch(f"{V3}/deleted/{kind}/{record['id']}", json={"operation": "undelete"}))
        assert api.get(f"{V3}/{kind}/{record['id']}").json() == record

    check()


@pytest.mark.parametrize("kind", REQUIRED)
def test_import_gives_the_same_again(api: httpx.Client, service: Service, kind: str) -> None:
    """POST accepts the answer of GET without id and time, and creates a record with the same fields."""

    @FEW
    @given(fields=FIELDS[kind], linked=st.booleans())
    def check(fields: dict[str, Any], linked: bool) -> None:
        if linked and kind != "public-keys":
            fields = {**fields, "link": {"path": store_archive(service)}}
            if kind == "images":
                fields["link"] = {"path": store_image(service)[0]}
        record = make(api, kind, **fields)
        exported = api.get(f"{V3}/{kind}/{record['id']}").json()
        assert_deleted(api.delete(f"{V3}/{kind}/{record['id']}"))  # only one record can link an object
        body = {name: value for name, value in exported.items() if name not in ("id", "created")}
        answer = api.post(f"{V3}/{kind}", json=body)
        assert answer.status_code == 201, answer.text
        imported = answer.json()
        assert {**imported, "id": record["id"], "created": record["created"]} == record

    check()
