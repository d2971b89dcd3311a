"""The build inputs of a customized image."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from ims.errors import InputError
from ims.replays.customization import Customization, Environment, Parameters

HERE = Environment(ca_certificate="ca", builder={"ims": "1"})
PARAMETERS = Parameters(
    script="true",
    network="none",
    lease=60,
    build_env_size=None,
    kernel_file_name=None,
    initrd_file_name="initrd",
    kernel_parameters_file_name="kernel-parameters",
)
MADE = Customization(parent="p", parameters=PARAMETERS, playbook=None, environment=HERE)

CASES: dict[str, tuple[dict[str, Any], str | None]] = {
    "nothing": ({}, None),
    "parent": ({"parent": "other"}, "its parent changed"),
    "certificate": ({"environment": HERE.model_copy(update={"ca_certificate": "x"})}, "the CA certificate of the site"),
    "programs": ({"environment": HERE.model_copy(update={"builder": {}})}, "the programs that build images changed"),
    "open": ({"parameters": PARAMETERS.model_copy(update={"network": "open"})}, "(network: open)"),
    "repositories": ({"parameters": PARAMETERS.model_copy(update={"network": "repositories"})}, "may download"),
}


@pytest.mark.parametrize("name", CASES)
def test_difference(name: str) -> None:
    """A script is repeated if anything changed that decides the image, or if that is unknown."""
    changed, reason = CASES[name]
    found = MADE.model_copy(update=changed).difference("p", HERE)
    assert found is None if reason is None else reason in str(found)


def test_replaced_object() -> None:
    """Users can write to the bucket of images: an object is used only if the record has its digest."""
    data = MADE.model_dump_json().encode()
    assert Customization.read(data, hashlib.sha256(data).hexdigest()) == MADE
    with pytest.raises(InputError, match="was replaced in S3"):
        Customization.read(data.replace(b"true", b"evil"), hashlib.sha256(data).hexdigest())
    with pytest.raises(InputError, match="cannot be read"):
        Customization.read(b"{}", hashlib.sha256(b"{}").hexdigest())
