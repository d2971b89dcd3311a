"""Secrets that template variables refer to."""

from __future__ import annotations

from pathlib import Path

import pytest

from ims.errors import InputError
from ims.masking import Secrets
from ims.recipes import secrets
from ims.recipes.secrets import TemplateValues, has_login, secret_name, secret_names


def test_references_are_resolved() -> None:
    """Plain values stay as they are."""
    values = TemplateValues(
        dictionaries={"r1": {"URL": "http://h", "USER": "secret:nexus.login", "PASSWORD": "secret:nexus.password"}},
        secrets={"nexus.login": "ci", "nexus.password": "planted"},
    )
    variables = {"URL": "http://h", "USER": "ci", "PASSWORD": "planted"}
    assert values.resolve("r1") == (variables, Secrets(passwords=["planted"], users=["ci"]))
    assert values.resolve("r2") == ({}, Secrets())
    assert "planted" not in repr(values)


def test_unknown_secret() -> None:
    """The error names the field, the variable and the next step."""
    values = TemplateValues(dictionaries={"r1": {"PASSWORD": "secret:gone"}})
    with pytest.raises(InputError) as caught:
        values.resolve("r1")
    assert caught.value.reason == "template_dictionary: PASSWORD refers to the secret gone, which does not exist"
    assert "An administrator provides secrets" in caught.value.hint


def test_mounted_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a pod each secret is a file; the line end that editors add does not belong to it."""
    monkeypatch.setattr(secrets, "MOUNTED", tmp_path)
    (tmp_path / "token").write_text("planted\n")
    values = TemplateValues(dictionaries={"r1": {"TOKEN": "secret:token"}})
    assert values.resolve("r1") == ({"TOKEN": "planted"}, Secrets(passwords=["planted"]))


@pytest.mark.parametrize("name", ["", " ", "a b", "../ims_s3", "a/b", ".hidden", "a\n", "x" * 201])
def test_bad_names(name: str) -> None:
    """A name cannot lead out of the folder of secrets."""
    with pytest.raises(InputError, match="is not the name of a secret"):
        secret_name(f"secret:{name}")
    assert secret_names([{"A": f"secret:{name}"}]) == set()


def test_names() -> None:
    """A value is a reference only if it starts with the prefix."""
    assert secret_name("secret:nexus.password") == "nexus.password"
    assert secret_name("no secret:x") is None
    assert secret_names([{"A": "secret:x", "B": "plain"}, {"C": "secret:x", "D": "secret:y"}]) == {"x", "y"}


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("http://u:p@h/x", True),
        ("mirrors: a https://u:p@h:8081", True),
        ("https://u:p@ss@h", True),
        ("https://:token@h", True),
        ("https://h:8081/a@b", False),
        ("https://user@h", False),
        ("a:b@c", False),
        ("https://h https://x/y:z@", False),
    ],
)
def test_values_with_a_login(value: str, found: bool) -> None:
    """A password in a URL is recognized wherever the URL is."""
    assert has_login(value) is found
