"""The contents of images, which the service reads from the SBOM when an image is registered."""

from __future__ import annotations

import gzip
import json
from typing import Any
from uuid import uuid4

import httpx
import pytest

from ims.images.inventory import Inventory
from ims.images.packages import Package
from ims.images.sbom import write_sbom
from ims.storage.manifest import FILES, ROOTFS, SBOM
from tests.api.records import put
from tests.api.test_images import IMAGES, artifact, get, make, manifest, patch, store
from tests.api.wire import V3, assert_deleted, assert_problem
from tests.service import Service

KERNELS = ["6.1.0-40-amd64"]


def debs(**versions: str) -> list[Package]:
    """Returns packages of Debian, by name."""
    return [Package(name, version, "amd64", "deb", name, "MIT") for name, version in sorted(versions.items())]


def rpms(**versions: str) -> list[Package]:
    """Returns packages of rpm, by name."""
    return [Package(name, version, "x86_64", "rpm", name, "MIT") for name, version in sorted(versions.items())]


def link_to(service: Service, *sboms: bytes, rootfs: bytes = b"rootfs", files: bytes | None = None) -> dict[str, str]:
    """Uploads a manifest with SBOMs and a list of files; returns a link to it."""
    folder = f"s3://boot-images/{uuid4()}"
    artifacts = [artifact(ROOTFS, put(service, f"{folder}/rootfs", rootfs))]
    artifacts += [artifact(SBOM, put(service, f"{folder}/sbom{n}", data)) for n, data in enumerate(sboms)]
    if files is not None:
        artifacts.append(artifact(FILES, put(service, f"{folder}/files", files)))
    return {"path": store(service, json.dumps(manifest(*artifacts)).encode())}


def sbom_of(packages: list[Package]) -> bytes:
    """Returns an SBOM as the workflows write it."""
    return write_sbom(Inventory(packages, KERNELS, "debian", "12")).encode()


def holding(api: httpx.Client, service: Service, packages: list[Package], **fields: Any) -> dict[str, Any]:
    """Creates an image with the given packages."""
    return make(api, **{"link": link_to(service, sbom_of(packages)), **fields})


def test_sbom_is_read(api: httpx.Client, tasks: httpx.Client, service: Service) -> None:
    """POST, PUT and PATCH read the SBOM, which overrides the fields of the request."""
    packages = debs(bash="5.2", openssl="3.0.15-1")
    put_answer = tasks.put(f"{IMAGES}/{uuid4()}", json={"name": "x", "link": link_to(service, sbom_of(packages))})
    later = make(tasks, package_count=7)
    assert (later["package_count"], later["kernels"]) == (7, None)
    patched = patch(api, later, link=link_to(service, sbom_of(packages))).json()
    for image in (holding(tasks, service, packages, package_count=7), put_answer.json(), patched):
        assert (image["package_count"], image["kernels"]) == (2, KERNELS)
        assert get(api, image) == image
    assert patch(api, patched, link=patched["link"]).json() == patched


BROKEN: dict[str, tuple[bytes, ...]] = {
    "no JSON": (b"<bom/>",),
    "another format": (b'{"spdxVersion": "SPDX-2.3"}',),
    "nested too deep": (b"[" * 100_000,),
    "larger than any": (b" " * (16 * 1024 * 1024 + 1),),
    "two": (sbom_of([]), sbom_of([])),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_sbom(api: httpx.Client, tasks: httpx.Client, service: Service, name: str) -> None:
    """An invalid SBOM is refused, and no record is created or changed."""
    link, image, before = link_to(service, *BROKEN[name]), make(api), len(api.get(IMAGES).json())
    assert_problem(api.post(IMAGES, json={"name": "x", "link": link}), 422, "link")
    assert_problem(patch(api, image, link=link), 422, "link")
    assert_problem(tasks.put(f"{IMAGES}/{uuid4()}", json={"name": "x", "link": link}), 422, "link")
    assert get(api, image) == image
    assert len(api.get(IMAGES).json()) == before


def found(api: httpx.Client, **query: Any) -> list[str]:
    """Returns the ids of the images in a list."""
    answer = api.get(IMAGES, params=query)
    assert answer.status_code == 200, answer.text
    return [image["id"] for image in answer.json()]


def test_packages(api: httpx.Client, service: Service) -> None:
    """Packages have all fields of the SBOM; they disappear and return with the image."""
    image = holding(api, service, debs(openssl="3.0.15-1", bash="5.2"))
    packages = f"{IMAGES}/{image['id']}/packages"
    shown = api.get(packages).json()
    assert shown == [package._asdict() for package in debs(bash="5.2", openssl="3.0.15-1")]
    assert_deleted(api.delete(f"{IMAGES}/{image['id']}"))
    assert_problem(api.get(packages), 404)
    undelete = api.patch(f"{V3}/deleted/images/{image['id']}", json={"operation": "undelete"})
    assert_deleted(undelete)
    assert api.get(packages).json() == shown
    assert get(api, image) == image
    assert api.get(f"{IMAGES}/{make(api)['id']}/packages").json() == []
    assert_problem(api.get(f"{IMAGES}/zzz/packages"), 404)


def test_images_that_hold_a_package(api: httpx.Client, service: Service) -> None:
    """Images can be filtered by package and version, as each package manager compares versions, also in pages."""
    name = f"lib{uuid4().hex[:8]}"
    held = [
        *(debs(**{name: "3.0.9-1"}), debs(**{name: "3.0.15~rc1-1"}), debs(**{name: "3.0.15-1"})),
        *(rpms(**{name: "3.0.14-2"}), rpms(**{name: "1:3.0.1-1"}), debs(**{f"{name}x": "1"})),
    ]
    made = [holding(api, service, packages, name=name)["id"] for packages in held]
    assert found(api, package=name) == made[:5]
    assert found(api, package=name, package_below="3.0.15") == [made[0], made[1], made[3]]
    assert found(api, package=name, package_below="1:3.0.15") == made[:5]
    assert found(api, package=name, package_below="3.0.15", arch="aarch64") == []
    assert found(api, package=f"{name}y") == []
    assert found(api, package=f"{name}y", package_below="1") == []
    page = api.get(IMAGES, params={"package": name, "package_below": "3.0.15", "limit": 2})
    pages = [image["id"] for image in page.json()]
    while "next" in page.links:
        page = api.get(page.links["next"]["url"])
        pages += [image["id"] for image in page.json()]
    assert pages == [made[0], made[1], made[3]]
    assert_deleted(api.delete(f"{IMAGES}/{made[0]}"))
    assert found(api, package=name) == made[1:5]
    deleted = api.get(f"{V3}/deleted/images", params={"package": name, "package_below": "3.0.10"}).json()
    assert [image["id"] for image in deleted] == made[:1]


@pytest.mark.parametrize("query", [{"package": "a"}, {}, {"package": "nothing-holds-it"}], ids=["held", "none", "else"])
@pytest.mark.parametrize("version", ["", "no version", "1:", "-", "a:1", "1" * 256, "é"])
def test_version_that_is_none(api: httpx.Client, service: Service, query: dict[str, str], version: str) -> None:
    """`package_below` needs a package and a valid version, even if no image has the package."""
    if query.get("package") == "a" and not found(api, package="a"):
        holding(api, service, [*debs(a="1"), *rpms(a="2")])
    answer = api.get(IMAGES, params={**query, "package_below": version})
    assert_problem(answer, 422, "package_below")


def test_images_that_could_not_be_read(api: httpx.Client, service: Service) -> None:
    """A question for a package also says how many images it could not be answered for, on each page."""
    name = f"lib{uuid4().hex[:8]}"
    holding(api, service, debs(**{name: "1"}), name=name)
    holding(api, service, debs(**{name: "2"}), name=name)
    unread = write_sbom(Inventory(None, KERNELS, unknown="damaged")).encode()
    image = make(api, name=name, link=link_to(service, unread))
    assert (image["package_count"], image["kernels"]) == (None, KERNELS)
    make(api, name=name)  # no manifest yet
    queries: list[tuple[dict[str, str | int], str | None]] = [
        ({"package": name, "name": name}, "2"),
        ({"package": name, "package_below": "2", "name": name, "limit": 1}, "2"),
        ({"package": name, "name": name, "arch": "aarch64"}, "0"),
        ({"name": name}, None),
    ]
    for query, unknown in queries:
        assert api.get(IMAGES, params=query).headers.get("IMS-Unknown-Images") == unknown
    page = api.get(IMAGES, params={"package": name, "name": name, "limit": 1})
    assert api.get(page.links["next"]["url"]).headers["IMS-Unknown-Images"] == "2"
    answer = api.get(f"{IMAGES}/{image['id']}/packages")
    assert (answer.json(), answer.headers["IMS-Unknown-Images"]) == ([], "1")
    assert_deleted(api.delete(f"{IMAGES}/{image['id']}"))
    deleted = api.get(f"{V3}/deleted/images", params={"package": name, "name": name})
    assert (deleted.json(), deleted.headers["IMS-Unknown-Images"]) == ([], "1")


def listed(*files: tuple[str, int]) -> bytes:
    """Returns a list of files as the workflows write it."""
    lines = [
        {"path": path, "type": "file", "mode": "0644", "uid": 0, "gid": 0, "size": size, "sha256": str(size)}
        for path, size in files
    ]
    return gzip.compress("".join(f"{json.dumps(line)}\n" for line in lines).encode())


def test_diff(api: httpx.Client, service: Service) -> None:
    """A comparison lists different packages, files and sizes, and leaves out equal ones."""
    left = link_to(
        service,
        sbom_of(debs(bash="5.1", ed="1", gone="2")),
        rootfs=bytes(10),
        files=listed(("/a", 1), ("/b", 2), ("/b/c", 3), ("/b-c", 4)),
    )
    right = link_to(
        service,
        sbom_of(debs(bash="5.2", ed="1", new="3")),
        rootfs=bytes(25),
        files=listed(("/a", 1), ("/b", 20), ("/b-c", 4), ("/d", 5)),
    )
    before, after = make(api, link=left)["id"], make(api, link=right)["id"]
    answer = api.get(f"{IMAGES}/{before}/diff/{after}")
    assert answer.status_code == 200, answer.text
    deb = {"arch": "amd64", "type": "deb"}
    assert answer.json() == {
        "before": before,
        "after": after,
        "packages": {
            "added": [{"name": "new", **deb, "before": None, "after": "3"}],
            "removed": [{"name": "gone", **deb, "before": "2", "after": None}],
            "changed": [{"name": "bash", **deb, "before": "5.1", "after": "5.2"}],
        },
        "files": {
            "added": {"count": 1, "size": 5, "first": [{"path": "/d", "before": None, "after": 5}]},
            "removed": {"count": 1, "size": -3, "first": [{"path": "/b/c", "before": 3, "after": None}]},
            "changed": {"count": 1, "size": 18, "first": [{"path": "/b", "before": 2, "after": 20}]},
            "grown": [{"path": "/", "size": 23}, {"path": "/b", "size": -3}],
        },
        "rootfs": {"before": 10, "after": 25, "difference": 15},
    }
    same = api.get(f"{IMAGES}/{after}/diff/{after}").json()
    assert same["packages"] == {"added": [], "removed": [], "changed": []}
    assert [same["files"][kind]["count"] for kind in ("added", "removed", "changed")] == [0, 0, 0]


def test_diff_of_what_is_not_known(api: httpx.Client, tasks: httpx.Client, service: Service) -> None:
    """Unknown parts are null; an error names a damaged list; an unknown image is a 404."""
    plain, bare = make(api, link=link_to(service))["id"], make(tasks, package_count=7)["id"]
    answer = api.get(f"{IMAGES}/{plain}/diff/{plain}").json()
    assert (answer["packages"], answer["files"]) == (None, None)
    assert answer["rootfs"]["difference"] == 0
    assert api.get(f"{IMAGES}/{bare}/diff/{bare}").json()["packages"] is None
    for data in (b"no gzip", gzip.compress(b"no JSON\n"), gzip.compress(b"{}\n\n")):
        damaged = make(api, link=link_to(service, files=data))["id"]
        other = make(api, link=link_to(service, files=listed(("/a", 1))))["id"]
        answer = api.get(f"{IMAGES}/{other}/diff/{damaged}")
        assert_problem(answer, 422)
        assert "list of files" in answer.json()["detail"]
    assert_problem(api.get(f"{IMAGES}/{plain}/diff/zzz"), 404)
    assert_problem(api.get(f"{IMAGES}/zzz/diff/{plain}"), 404)
