"""What real clients of IMS send, beside what the contract of each resource demands: a row for each request."""

from __future__ import annotations

import base64
import json
import re
import struct
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from ims.api.runs.trigger_guard import check_trigger
from ims.jobs import shell_port, workspace_id
from ims.records.models import Image
from ims.settings import Settings
from ims.storage.manifest import ROOTFS
from ims.workflows import CREATE_IMAGE
from tests.api.offline import TASKS, Offline
from tests.api.offline_airflow import MemoryAirflow
from tests.api.wire import assert_deleted, assert_problem
from tests.service import PUBLIC_KEY

PRIVATE = ed25519.Ed25519PrivateKey.generate()
KEY_TYPE, BLOB, _ = PUBLIC_KEY.split()


def registered(offline: Offline, kind: str, **fields: Any) -> dict[str, Any]:
    """Registers a record as a user; returns it."""
    required = {
        "recipes": {"name": "x", "recipe_type": "kiwi-ng", "linux_distribution": "sles15"},
        "images": {"name": "x"},
        "public-keys": {"name": "x", "public_key": PUBLIC_KEY},
    }
    answer = offline.request("user", "POST", f"/v3/{kind}", {**required[kind], **fields})
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


# Public keys


KEPT = {
    "as in the file": f"{PUBLIC_KEY}\n",
    "from Windows": f"{PUBLIC_KEY}\r\n",
    "without line end": PUBLIC_KEY,
    "with spaces around": f"\n  {PUBLIC_KEY} \n\n",
    "without comment": f"{KEY_TYPE} {BLOB}\n",
}


@pytest.mark.parametrize("name", KEPT)
def test_key_is_kept_as_sent(offline: Offline, name: str) -> None:
    """SAT looks for the key whose text equals the whole file."""
    record = registered(offline, "public-keys", public_key=KEPT[name])
    assert record["public_key"] == KEPT[name]
    assert record in offline.request("viewer", "GET", "/v3/public-keys").json()


def key_line(kind: str, *parts: bytes) -> str:
    """Returns a line in the format of OpenSSH, with any contents."""
    blob = b"".join(struct.pack(">I", len(part)) + part for part in (kind.encode(), *parts))
    return f"{kind} {base64.b64encode(blob).decode()} test\n"


def rsa_line(bits: int) -> str:
    """Returns an RSA key of a size that takes no time to make."""
    return key_line("ssh-rsa", b"\1\0\1", b"\0" + ((1 << (bits - 1)) + 1).to_bytes(bits // 8, "big"))


CERTIFICATE = Path(__file__).with_name("id-cert.pub").read_text()
REFUSED_KEYS = {
    "certificate": (CERTIFICATE, "-cert"),
    "certificate of RSA": (key_line("ssh-rsa-cert-v01@openssh.com", b"x"), "-cert"),
    "DSA": (key_line("ssh-dss", b"\1", b"\1", b"\1", b"\1"), "must begin with"),
    "RSA that is too short": (rsa_line(512), "512 bits"),
    "RSA that is too long": (rsa_line(20_000), "20000 bits"),
    "private": (PRIVATE.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode(), "private key"),
    "two keys": (f"{PUBLIC_KEY}\n{PUBLIC_KEY}\n", "one line"),
    "options": (f"no-pty {PUBLIC_KEY}\n", "must begin with"),
    "PEM": (PRIVATE.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode(), "one line"),
    "white space": (" \n", "must begin with"),
    "cut off": (f"{KEY_TYPE} {BLOB[:-8]}\n", "not an OpenSSH public key"),
}


@pytest.mark.parametrize("name", REFUSED_KEYS)
def test_key_is_refused(offline: Offline, name: str) -> None:
    """A key that allows no login is refused; the answer says why and does not repeat the key."""
    before = offline.everything()
    text, reason = REFUSED_KEYS[name]
    answer = offline.request("user", "POST", "/v3/public-keys", {"name": "x", "public_key": text})
    assert_problem(answer, 422, "public_key")
    assert reason in answer.json()["detail"]
    assert text.strip() == "" or text.strip() not in answer.json()["detail"]
    assert offline.everything() == before


# Records


NEW: dict[str, Any] = {
    "recipes": ({"name": "x", "recipe_type": "kiwi-ng", "linux_distribution": "sles15"}, {"arch": "aarch64"}),
    "images": ({"name": "x", "metadata": {"a": "b"}}, {"name": "y"}),
    "public-keys": ({"name": "x", "public_key": f"{PUBLIC_KEY}\n"}, {"public_key": PUBLIC_KEY}),
}


@pytest.mark.parametrize("version", ["v3", "v2"])
@pytest.mark.parametrize("kind", NEW)
def test_site_keeps_its_ids(offline: Offline, kind: str, version: str) -> None:
    """PUT as the user of the tasks registers a record with its id; it can be repeated, and never changes a record."""
    body, other = NEW[kind]
    identity = str(uuid4())
    path = f"/{version}/{kind}/{identity}"
    first = offline.request(TASKS, "PUT", path, body)
    assert first.status_code == 200, first.text
    assert has(first.json(), {**body, "id": identity})
    assert offline.request(TASKS, "PUT", path, body).json() == first.json()
    assert offline.request("viewer", "GET", path).json() == first.json()
    before = offline.everything()
    assert_problem(offline.request(TASKS, "PUT", path, {**body, **other}), 409)
    for user in ("user", "admin"):
        assert_problem(offline.request(user, "PUT", path, body), 403, "id")
        assert_problem(offline.request(user, "PUT", f"/v3/{kind}/{uuid4()}", body), 403, "id")
    assert_problem(offline.request(TASKS, "PUT", f"/v3/{kind}/zzz", body), 422, "id")
    assert_problem(offline.request(TASKS, "PUT", f"/v3/{kind}/{uuid4()}", {**body, "colour": "red"}), 422, "colour")
    assert offline.everything() == before
    offline.request("user", "DELETE", f"/v3/{kind}/{identity}")
    assert_problem(offline.request(TASKS, "PUT", path, body), 409)


@pytest.mark.parametrize("kind", ["recipes", "images"])
def test_record_with_an_id_is_linked(offline: Offline, kind: str) -> None:
    """PUT checks the link as POST does, and the link is part of what makes a record the same."""
    body, _ = NEW[kind]
    archive, manifest = offline.store.put(f"s3://ims/{uuid4()}/recipe.tar.gz"), offline.store.put_image()
    link = {"path": archive if kind == "recipes" else manifest}
    path = f"/v3/{kind}/{uuid4()}"
    assert_problem(offline.request(TASKS, "PUT", path, {**body, "link": {"path": "s3://ims/gone"}}), 422, "link")
    answer = offline.request(TASKS, "PUT", path, {**body, "link": link})
    assert answer.json()["link"]["path"] == link["path"]
    assert_problem(offline.request(TASKS, "PUT", path, body), 409)


@pytest.mark.parametrize("kind", ["recipes", "images"])
def test_linked_record_decides_before_s3(offline: Offline, kind: str) -> None:
    """PATCH with the same link changes nothing, with another it is a conflict, whatever S3 holds."""
    first, second = (
        offline.store.put_image() if kind == "images" else offline.store.put(f"s3://ims/{uuid4()}/recipe.tar.gz")
        for _ in range(2)
    )
    record = registered(offline, kind, link={"path": first})
    path, link = f"/v3/{kind}/{record['id']}", record["link"]
    offline.store.content.clear()
    offline.store.asked.clear()
    for same in (link, {"path": link["path"]}):
        answer = offline.request("user", "PATCH", path, {"link": same})
        assert (answer.status_code, answer.json()) == (200, record)
    for other in ("s3://ims/gone", "s3://secrets/key", second):
        offline.store.asked.clear()
        assert_problem(offline.request("user", "PATCH", path, {"link": {"path": other}}), 409)
    assert offline.store.asked == []
    assert offline.request("viewer", "GET", path).json() == record


SECOND = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d"


@pytest.mark.parametrize("kind", [*NEW, "jobs"])
@pytest.mark.parametrize("version", ["v3", "v2", ""])
def test_times(
    offline: Offline, inputs: dict[str, str], monkeypatch: pytest.MonkeyPatch, kind: str, version: str
) -> None:
    """Version 3 names the time zone, version 2 writes times as IMS does; they are the same times."""
    monkeypatch.setattr("ims.api.catalog.listing.CHUNK", 1)  # long lists are streamed
    body = NEW[kind][0] if kind in NEW else job_of(inputs, "create")
    zone = "Z" if version == "v3" else ""
    made = offline.request("user", "POST", f"/v3/{kind}", body).json()
    path = f"/{version}/{kind}".replace("//", "/")
    one = offline.request("viewer", "GET", f"{path}/{made['id']}").json()
    (listed,) = (item for item in offline.request("viewer", "GET", path).json() if item["id"] == made["id"])
    new = offline.request("user", "POST", path, body).json()
    for record in (one, listed, new):
        assert re.fullmatch(rf"{SECOND}(\.\d{{6}})?{zone}", record["created"])
    assert made["created"] == one["created"] + ("" if zone else "Z")
    assert listed["created"] == one["created"]


READ = ("/v3/images", "/v2/recipes", "/public-keys", "/v3/jobs", "/v3/deleted/images", "/version", "/openapi.json")


@pytest.mark.parametrize("path", READ)
def test_head(offline: Offline, path: str) -> None:
    """HEAD answers as GET does, without the body."""
    full, head = (offline.request("viewer", method, path) for method in ("GET", "HEAD"))
    assert (full.status_code, head.status_code, head.content) == (200, 200, b"")
    for name in ("content-type", "content-length"):
        assert head.headers[name] == full.headers[name]


def test_head_of_what_cannot_be_read(offline: Offline, monkeypatch: pytest.MonkeyPatch) -> None:
    """HEAD needs a token, does nothing where there is no GET, and stops a long list."""
    assert offline.request("nobody", "HEAD", "/v3/images").status_code == 401
    assert offline.request("viewer", "HEAD", f"/v3/images/{uuid4()}").status_code == 404
    assert offline.request("viewer", "HEAD", "/v3/images?colour=red").status_code == 400
    monkeypatch.setattr("ims.api.catalog.listing.CHUNK", 1)
    for _ in range(2):
        registered(offline, "images")
    answer = offline.request("viewer", "HEAD", "/v3/images?name=x")
    assert (answer.status_code, answer.content) == (200, b"")


NODES: dict[str, tuple[str, str, Any, int]] = {
    "list": ("GET", "", None, 200),
    "statuses": ("GET", "/status", None, 200),
    "add": ("POST", "", {"xname": "x1000c0s0b0n0"}, 400),
    "add nothing": ("POST", "", {}, 400),
    "add with more": ("POST", "", {"xname": "x1000c0s0b0n0", "arch": "aarch64"}, 422),
    "get": ("GET", "/x1000c0s0b0n0", None, 404),
    "status": ("GET", "/status/x1000c0s0b0n0", None, 404),
    "delete": ("DELETE", "/x1000c0s0b0n0", None, 404),
    "delete all": ("DELETE", "", None, 400),
}


@pytest.mark.parametrize("name", NODES)
def test_remote_build_nodes(offline: Offline, name: str) -> None:
    """There are none: lists are empty, and everything else is a problem."""
    method, path, body, status = NODES[name]
    answer = offline.request("admin", method, f"/v3/remote-build-nodes{path}", body)
    if status == 200:
        assert (answer.status_code, answer.json()) == (200, [])
    else:
        assert answer.status_code == status, answer.text
        assert answer.headers["content-type"] == "application/problem+json"
        assert name in ("add nothing", "add with more") or "node" in answer.json()["detail"] or "cluster" in answer.text


# Recipes and images


# A field of a recipe, as a client sends it.
RECIPES: dict[str, dict[str, Any]] = {
    "template keys of any text": {
        "template_dictionary": [
            {"key": key, "value": "x"} for key in ("repo.url", "repo-url", "1st", "größe", "a b", "self", "{{ x }}")
        ]
    },
}


@pytest.mark.parametrize("name", RECIPES)
def test_recipe(offline: Offline, name: str) -> None:
    """The record has what was sent."""
    assert has(registered(offline, "recipes", **RECIPES[name]), RECIPES[name])


LONG_NAME = "compute" + "_cfs_nightly-2026-11-27" * 44
# What a client sends to register an image, what it changes, and what the record says.
IMAGES: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "metadata without value": ({"metadata": {"key": "a"}}, {}, {"metadata": {"a": ""}}),
    "tag removed with the value null": (
        {"metadata": {"a": "1", "b": "2"}},
        {"metadata": {"operation": "remove", "key": "a", "value": None}},
        {"metadata": {"b": "2"}},
    ),
    "long name": ({"name": LONG_NAME}, {}, {"name": LONG_NAME}),
    "name that grows": ({}, {"name": LONG_NAME}, {"name": LONG_NAME}),
    "name that uses all its bytes": ({"name": "é" * 1024}, {}, {"name": "é" * 1024}),
}


@pytest.mark.parametrize("name", IMAGES)
def test_image(offline: Offline, name: str) -> None:
    """The record has these values; a filter finds it by its name."""
    sent, change, expected = IMAGES[name]
    image = registered(offline, "images", **sent)
    if change:
        answer = offline.request("user", "PATCH", f"/v3/images/{image['id']}", change)
        assert answer.status_code == 200, answer.text
    found = offline.http.get(
        "/v3/images", params={"name": {**image, **expected}["name"]}, headers={"Authorization": "Bearer viewer"}
    )
    (shown,) = (item for item in found.json() if item["id"] == image["id"])
    assert has(shown, expected), shown
    assert image["metadata"] == shown["metadata"] or change


ROOTFS_LINK = {"type": "s3", "path": "<rootfs>", "etag": "x"}
ROOTFS_ENTRY = {"type": ROOTFS, "md5": "0" * 32, "link": ROOTFS_LINK}
MANIFESTS: dict[str, str] = {
    "null etag": json.dumps({"version": "1.0", "artifacts": [{**ROOTFS_ENTRY, "link": {**ROOTFS_LINK, "etag": None}}]}),
    "null md5": json.dumps({"version": "1.0", "artifacts": [{**ROOTFS_ENTRY, "md5": None}]}),
    "version as a number in YAML": (
        "version: 1.0\ncreated: 2025-01-01 10:00:00\nartifacts:\n"
        f"- type: {ROOTFS}\n  md5: MD5\n  link: {{type: s3, path: '<rootfs>'}}\n"
    ),
    "version as a number in JSON": json.dumps({"version": 1.0, "artifacts": [ROOTFS_ENTRY]}),
}


@pytest.mark.parametrize("name", MANIFESTS)
def test_manifest(offline: Offline, name: str) -> None:
    """An image can link a manifest that other programs wrote."""
    folder = f"s3://boot-images/{uuid4()}"
    rootfs = offline.store.put(f"{folder}/rootfs")
    path = offline.store.put(f"{folder}/manifest.json", MANIFESTS[name].replace("<rootfs>", rootfs).encode())
    assert registered(offline, "images", link={"path": path})["link"]["path"] == path


# Jobs


@pytest.fixture
def inputs(offline: Offline) -> dict[str, str]:
    """The ids of a recipe, an image and a key that a job can use."""
    archive = offline.store.put(f"s3://ims/recipes/{uuid4()}/recipe.tar.gz")
    return {
        "create": registered(offline, "recipes", link={"path": archive})["id"],
        "customize": registered(offline, "images", link={"path": offline.store.put_image()})["id"],
        "key": registered(offline, "public-keys")["id"],
    }


def job_of(inputs: dict[str, str], job_type: str, **fields: Any) -> dict[str, Any]:
    """Returns the body of a new job."""
    ids = {"artifact_id": inputs[job_type], "public_key_id": inputs["key"]}
    return {"job_type": job_type, "image_root_archive_name": "x", **ids, **fields}


# What a client sends for a job of which type, and what the record says.
JOBS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "jail without name": (
        "customize",
        {"ssh_containers": [{"jail": True}]},
        {"ssh_containers": [{"name": "customize", "jail": True}]},
    ),
    "shell without anything": (
        "customize",
        {"ssh_containers": [{}]},
        {"ssh_containers": [{"name": "customize", "jail": False}]},
    ),
    "shell with name": (
        "customize",
        {"ssh_containers": [{"name": "cfs", "jail": True}]},
        {"ssh_containers": [{"name": "cfs", "jail": True}]},
    ),
    "no shell": ("create", {}, {"ssh_containers": None}),
    "no sizes": ("create", {}, {"build_env_size": 60, "job_mem_size": 8}),
    "sizes": ("customize", {"build_env_size": 5, "job_mem_size": 3}, {"build_env_size": 5, "job_mem_size": 3}),
    "empty file names": (
        "create",
        {"kernel_file_name": "", "initrd_file_name": "", "kernel_parameters_file_name": ""},
        {
            "kernel_file_name": "vmlinuz",
            "initrd_file_name": "initrd",
            "kernel_parameters_file_name": "kernel-parameters",
        },
    ),
    "file names with spaces and a tilde": (
        "create",
        {
            "kernel_file_name": "vmlinuz-6.1~rc1",
            "initrd_file_name": " initrd of ours",
            "kernel_parameters_file_name": "-",
        },
        {"kernel_file_name": "vmlinuz-6.1~rc1", "initrd_file_name": " initrd of ours"},
    ),
    "long image name": ("customize", {"image_root_archive_name": LONG_NAME}, {"image_root_archive_name": LONG_NAME}),
    "empty list of shells": ("create", {"ssh_containers": []}, {"ssh_containers": None}),
}


REFUSED_JOBS: dict[str, tuple[str, dict[str, Any], int, str]] = {
    **{
        f"file name {name!r}": ("create", {"initrd_file_name": name}, 422, "initrd_file_name")
        for name in ("a/b", "/initrd", ".", "..", "...", "a\nb", "a\x7f")
    },
    "image name that is too long": ("create", {"image_root_archive_name": "x" * 1025}, 422, "image_root_archive_name"),
    "image name of many bytes": ("create", {"image_root_archive_name": "€" * 1000}, 422, "image_root_archive_name"),
}


@pytest.mark.parametrize("name", REFUSED_JOBS)
def test_job_is_refused(offline: Offline, airflow: MemoryAirflow, inputs: dict[str, str], name: str) -> None:
    """The answer names the field, and nothing is started."""
    job_type, sent, status, field = REFUSED_JOBS[name]
    answer = offline.request("user", "POST", "/v3/jobs", job_of(inputs, job_type, **sent))
    assert_problem(answer, status, field)
    assert airflow.changes == []


@pytest.mark.parametrize("run_id", ["", "mine"])
@pytest.mark.usefixtures("offline")
def test_empty_file_names_in_the_trigger_form(
    inputs: dict[str, str], monkeypatch: pytest.MonkeyPatch, run_id: str
) -> None:
    """Airflow starts the run with the defaults."""
    monkeypatch.setattr("ims.api.runs.trigger_guard.dags_with_run", lambda _run_id: [])
    conf = {"artifact_id": inputs["create"], "image_root_archive_name": "x"}
    body = {"dag_run_id": run_id, "conf": {**conf, "kernel_file_name": "", "initrd_file_name": ""}}
    checked = json.loads(check_trigger(CREATE_IMAGE, json.dumps(body).encode()))
    assert checked["conf"] == conf
    assert checked["dag_run_id"] == run_id or not run_id


def has(value: Any, expected: Any) -> bool:
    """Whether the value has what is expected; mappings may have more."""
    if isinstance(expected, dict):
        return isinstance(value, dict) and all(has(value.get(name), item) for name, item in expected.items())
    if isinstance(expected, list):
        same = isinstance(value, list) and len(value) == len(expected)
        return same and all(map(has, value, expected))
    return bool(value == expected)


@pytest.mark.parametrize("name", JOBS)
def test_job(offline: Offline, inputs: dict[str, str], name: str) -> None:
    """The answer to POST and to GET has these values."""
    job_type, sent, expected = JOBS[name]
    answer = offline.request("user", "POST", "/v3/jobs", job_of(inputs, job_type, **sent))
    assert answer.status_code == 201, answer.text
    assert has(answer.json(), expected), answer.json()
    later = offline.request("viewer", "GET", f"/v3/jobs/{answer.json()['id']}")
    assert has(later.json(), expected), later.json()


WITH_SHELL: dict[str, tuple[str, dict[str, Any]]] = {
    "customization": ("customize", {}),
    "jail": ("customize", {"ssh_containers": [{"jail": True}]}),
    "debug shell": ("create", {"enable_debug": True}),
}


@pytest.mark.parametrize("runtime", ["local", "kubernetes"])
@pytest.mark.parametrize("name", WITH_SHELL)
def test_addresses_of_a_new_job(
    offline: Offline, inputs: dict[str, str], monkeypatch: pytest.MonkeyPatch, name: str, runtime: Any
) -> None:
    """Both are in the answer to POST, where the administrator notes them; a job that has ended has none."""
    own = Settings(runtime=runtime, host="192.0.2.7", kubernetes_namespace="jobs")
    for module in ("views", "start"):
        monkeypatch.setattr(f"ims.api.jobs.{module}.settings", lambda: own)
    job_type, sent = WITH_SHELL[name]
    job = offline.request("user", "POST", "/v3/jobs", job_of(inputs, job_type, **sent)).json()
    workspace = workspace_id(f"{job_type}_image", job["id"])
    expected = {
        "local": {"host": "192.0.2.7", "port": shell_port(workspace, own.shell_port_range)},
        "kubernetes": {"host": f"shell-{workspace}.jobs.svc.cluster.local", "port": 22},
    }[runtime]
    (shell,) = job["ssh_containers"]
    assert shell["connection_info"] == {"customer_access": expected, "cluster.local": expected}
    assert shell["status"] == "pending"
    offline.request("user", "DELETE", f"/v3/jobs/{job['id']}")
    (shell,) = offline.request("user", "GET", f"/v3/jobs/{job['id']}").json()["ssh_containers"]
    assert shell["connection_info"] == {}


def test_every_job_has_a_port_of_its_own(
    offline: Offline, airflow: MemoryAirflow, inputs: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No two jobs that have not ended have the same port; a job that ended gives its port back."""
    own = Settings(shell_ports="10000-10007")
    for module in ("views", "start"):
        monkeypatch.setattr(f"ims.api.jobs.{module}.settings", lambda: own)

    def start() -> tuple[str, int]:
        job = offline.request("user", "POST", "/v3/jobs", job_of(inputs, "customize")).json()
        return job["id"], job["ssh_containers"][0]["connection_info"]["cluster.local"]["port"]

    jobs = dict(start() for _ in range(8))
    assert sorted(jobs.values()) == list(own.shell_port_range)
    for ended in list(jobs)[::3]:
        del airflow.runs[f"dags/customize_image/dagRuns/{ended}"]
        assert start()[1] == jobs[ended]


# How S3 changes after the records were made; the job type, the status and what the answer says.
GONE: dict[str, tuple[str, str, Any, int, str]] = {
    "archive": ("create", "link", None, 422, "no object"),
    "manifest": ("customize", "link", None, 422, "no object"),
    "manifest that is none": ("customize", "link", b"\xff", 422, "neither JSON nor YAML"),
    "rootfs": ("customize", "rootfs", None, 422, "no object"),
    "other version": ("customize", "link", b'{"version": "1.1", "artifacts": []}', 400, "version"),
    "no version": ("customize", "link", b'{"artifacts": []}', 400, "version"),
    "no rootfs": ("customize", "link", b'{"version": "1.0", "artifacts": []}', 400, "0 artifacts"),
    "rootfs elsewhere": (
        "customize",
        "link",
        json.dumps(
            {"version": "1.0", "artifacts": [{"type": ROOTFS, "link": {"path": "s3://secrets/rootfs"}}]}
        ).encode(),
        422,
        "secrets",
    ),
}


@pytest.mark.parametrize("name", GONE)
def test_job_looks_at_s3(offline: Offline, airflow: MemoryAirflow, inputs: dict[str, str], name: str) -> None:
    """A job whose archive, manifest or rootfs is gone is refused, and nothing is started."""
    job_type, what, content, status, reason = GONE[name]
    kind = "recipes" if job_type == "create" else "images"
    path = offline.request("viewer", "GET", f"/v3/{kind}/{inputs[job_type]}").json()["link"]["path"]
    path = path if what == "link" else path.replace("manifest.yaml", "rootfs")
    if content is None:
        del offline.store.content[path]
    else:
        offline.store.put(path, content)
    answer = offline.request("user", "POST", "/v3/jobs", job_of(inputs, job_type))
    assert_problem(answer, status, "artifact_id")
    assert reason in answer.json()["detail"]
    assert airflow.changes == []
    assert "s3://secrets/rootfs" not in offline.store.asked


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_filter_in_any_case(offline: Offline, airflow: MemoryAirflow, inputs: dict[str, str], method: str) -> None:
    """Statuses and types are found in any case; unknown ones are refused, and nothing is deleted."""
    job = offline.request("user", "POST", "/v3/jobs", job_of(inputs, "create")).json()
    for query in ("status=bogus", "status=creating&status=", "job_type=bogus", "status=CREATING&job_type=x"):
        answer = offline.request("admin", method, f"/v3/jobs?{query}")
        assert answer.status_code == 400, answer.text
    assert len(airflow.changes) == 1
    answer = offline.request("admin", method, "/v3/jobs?status=Creating&status=SUCCESS&job_type=Create")
    if method == "GET":
        assert [item["id"] for item in answer.json()] == [job["id"]]
    else:
        assert_deleted(answer)
        assert airflow.changes[1][0] == "PATCH"


def test_job_of_a_paused_workflow_is_deleted(offline: Offline, airflow: MemoryAirflow, inputs: dict[str, str]) -> None:
    """The first DELETE cancels the job, which would never end; the second one deletes it."""
    for path in ("/v3/jobs/{}", "/v2/jobs/{}", "/v3/jobs?status=error"):
        job = offline.request("user", "POST", "/v3/jobs", job_of(inputs, "create")).json()
        assert_deleted(offline.request("user", "DELETE", f"/v3/jobs/{job['id']}"))
        assert offline.request("user", "GET", f"/v3/jobs/{job['id']}").json()["status"] == "error"
        assert_deleted(offline.request("user", "DELETE", path.format(job["id"])))
        assert_problem(offline.request("user", "GET", f"/v3/jobs/{job['id']}"), 404)
    assert airflow.runs == {}


# The states of the steps of a job that runs when its workflow is paused, and how many requests delete it.
PAUSED: dict[str, tuple[dict[str, str], int]] = {
    "builds": ({"open_workspace": "success", "build_image": "running"}, 2),
    "waits between two steps": ({"open_workspace": "success"}, 2),
    "was cancelled, and cleans up": ({"build_image": "failed", "close_workspace": "running"}, 0),
    "will clean up later": ({"build_image": "failed", "stop_shell": "success", "close_workspace": "up_for_retry"}, 2),
}


@pytest.mark.parametrize("name", PAUSED)
@pytest.mark.parametrize("paused", [True, False])
def test_running_job_of_a_paused_workflow_is_deleted(
    offline: Offline, airflow: MemoryAirflow, inputs: dict[str, str], name: str, *, paused: bool
) -> None:
    """DELETE cancels the job; Airflow never starts its clean-up, so another one deletes it. Otherwise, it cleans up."""
    job = offline.request("user", "POST", "/v3/jobs", job_of(inputs, "create")).json()
    steps, requests = PAUSED[name]
    run = airflow.runs[f"dags/create_image/dagRuns/{job['id']}"]
    run["state"], run["steps"] = "running", {**run["steps"], **steps}
    airflow.is_paused = paused
    for _ in range(requests or 3):
        assert airflow.runs
        assert_deleted(offline.request("user", "DELETE", f"/v3/jobs/{job['id']}"))
    assert bool(airflow.runs) == (requests == 0 or not paused)


def test_architecture_of_a_job_without_recipe(offline: Offline, airflow: MemoryAirflow, inputs: dict[str, str]) -> None:
    """A job keeps its architecture when its recipe is purged, whether it made an image or not."""
    for arch in ("aarch64", None):
        job = offline.request("user", "POST", "/v3/jobs", job_of(inputs, "create")).json()
        assert job["arch"] == "x86_64"
        conf = airflow.runs[f"dags/create_image/dagRuns/{job['id']}"]["conf"]
        conf["artifact_id"] = str(uuid4())  # purged
        if arch is not None:
            offline.records.add(Image(name="x", arch=arch, job_id=job["id"]))
        else:
            airflow.archs[job["id"]] = "x86_64"
        shown = offline.request("user", "GET", f"/v3/jobs/{job['id']}").json()
        assert shown["arch"] == (arch or "x86_64")
        assert shown["kernel_file_name"] == ("Image" if arch == "aarch64" else "vmlinuz")
        assert shown in offline.request("user", "GET", f"/v3/jobs?arch={shown['arch']}").json()
