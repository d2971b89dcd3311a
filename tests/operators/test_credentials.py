"""The S3 credentials of steps."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from ims.errors import InputError
from ims.operators import credentials
from ims.operators.local import LocalStepOperator
from ims.operators.pod import PodStepOperator
from ims.runtime.kubernetes import pods
from ims.runtime.local.process import StepProcess
from ims.steps.step import load_step
from tests.operators.ended_pods import succeeds
from tests.operators.fakes import RUN_ID, make_context

INPUT = {
    "workspace": f"/mnt/workspaces/{RUN_ID}",
    "image_id": "9b7d",
    "image_name": "sles",
    "job_id": RUN_ID,
    "each": {"artifacts": []},
}
ROLE = "arn:aws:iam:::role/ims"
ISSUED = {"AccessKeyId": "temporary", "SecretAccessKey": "not for others", "SessionToken": "token"}


class TokenService:
    """Issues the same credentials to everybody, and keeps the requests."""

    def __init__(self) -> None:
        self.requests: list[dict[str, Any]] = []

    def assume_role(self, **request: Any) -> dict[str, Any]:
        """Issue credentials."""
        self.requests.append(request)
        return {"Credentials": ISSUED}


@pytest.fixture
def tokens(monkeypatch: pytest.MonkeyPatch, configure: Callable[..., None]) -> TokenService:
    """A store that issues temporary credentials."""
    service = TokenService()
    monkeypatch.setattr(credentials, "token_service", lambda: service)
    monkeypatch.setattr(credentials, "object_store", lambda: None)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "of the service")
    configure(s3_endpoint_url="https://s3.example", sts_role=ROLE, sts_seconds=900, images_bucket="boot-images")
    return service


def test_request(tokens: TokenService) -> None:
    """The policy names the prefix of the image, and the credentials expire."""
    given = credentials.temporary_credentials(load_step("upload_artifacts"), INPUT)
    assert given["AWS_SESSION_TOKEN"] == "token"
    assert given["AWS_ENDPOINT_URL"] == "https://s3.example"
    (request,) = tokens.requests
    assert (request["RoleArn"], request["DurationSeconds"]) == (ROLE, 900)
    (statement,) = json.loads(request["Policy"])["Statement"]
    assert statement["Resource"] == ["arn:aws:s3:::boot-images/9b7d/*"]
    assert "s3:DeleteObject" not in statement["Action"]


@pytest.mark.parametrize("image", ["*", "a?", "${aws:username}"])
def test_pattern_is_no_image(tokens: TokenService, image: str) -> None:
    """A policy would read it as many images."""
    with pytest.raises(InputError, match="patterns"):
        credentials.temporary_credentials(load_step("upload_artifacts"), {**INPUT, "image_id": image})
    assert tokens.requests == []


def test_wrong_input(tokens: TokenService) -> None:
    """The reason is the one that the step would give."""
    with pytest.raises(InputError, match="the input of upload_artifacts is invalid: image_id"):
        credentials.temporary_credentials(load_step("upload_artifacts"), {"workspace": "/work"})


@pytest.mark.parametrize("settings", [{"sts": "false"}, {"sts_role": ""}], ids=str)
def test_store_without_token_service(
    tokens: TokenService, configure: Callable[..., None], settings: dict[str, str]
) -> None:
    """Steps then use the credentials of the service."""
    configure(**settings)
    step = load_step("upload_artifacts")
    assert credentials.temporary_credentials(step, INPUT) == {}
    assert credentials.service_credentials(step)["AWS_SECRET_ACCESS_KEY"] == "of the service"
    assert credentials.service_credentials(load_step("build_image")) == {}
    assert tokens.requests == []


def test_local_step(tokens: TokenService, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process gets only the temporary credentials."""
    seen: list[dict[str, str]] = []
    monkeypatch.setattr(StepProcess, "run", lambda *arguments: seen.append(arguments[-1]))
    LocalStepOperator(task_id="upload_artifacts", inputs=INPUT).execute(make_context())
    assert [given["AWS_ACCESS_KEY_ID"] for given in seen] == ["temporary"]
    assert "of the service" not in json.dumps(seen)


def test_pod(tokens: TokenService, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pod refers to the Secret of the step, and contains no credentials itself."""
    from ims.operators import pod

    stored: list[Any] = []

    def store(*arguments: Any) -> str:
        stored.append(arguments)
        return "ims-1-s3-x"

    monkeypatch.setattr(pod, "await_cluster", lambda: None)
    monkeypatch.setattr(pod, "core_api", lambda: None)
    monkeypatch.setattr(pod, "store_credentials", store)
    succeeds(monkeypatch, "execute", '{"result": null}')
    task = PodStepOperator(task_id="upload_artifacts", inputs=INPUT, arch="x86_64")
    task.execute(make_context())
    ((_, job_id, step_name, given),) = stored
    assert (job_id, step_name, given["AWS_SECRET_ACCESS_KEY"]) == (RUN_ID, "upload_artifacts", "not for others")
    assert task.full_pod_spec is not None
    references = [
        item.value_from.secret_key_ref for item in task.full_pod_spec.spec.containers[0].env if item.value_from
    ]
    assert {(reference.name, reference.key) for reference in references} == {
        ("ims-1-s3-x", key) for key in pods.S3_KEYS
    }
    assert "not for others" not in str(task.full_pod_spec.to_dict())
