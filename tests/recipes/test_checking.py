"""Everything that is wrong with a recipe is found before it is uploaded."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from ims.recipes import archive, checking
from ims.recipes.checking import Built, find_problems

CONFIG = """\
<?xml version="1.0" encoding="utf-8"?>
<image schemaversion="7.4" name="site">
  <description type="system"><author>a</author><contact>a</contact><specification>a</specification></description>
  <preferences><version>1.0.0</version><packagemanager>dnf4</packagemanager><type image="tbz"/></preferences>
  <repository type="rpm-md"><source path="{{ REPOSITORY }}"/></repository>
  <packages type="bootstrap"><package name="filesystem"/></packages>
</image>
"""
WITH_KIWI = ("test_good_recipe", "test_missing_variables_and_schema", "test_description")
GIVEN = {"REPOSITORY": "http://repository.example/x"}


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """A recipe with a template that needs one variable."""
    folder = tmp_path / "recipe"
    (folder / "root").mkdir(parents=True)
    (folder / "config.xml").write_text(CONFIG)
    (folder / ".ims_recipe_template.yaml").write_text("template_files: [config.xml]\n")
    return folder


@pytest.fixture(autouse=True)
def without_kiwi(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only some tests need the second that kiwi takes."""
    if request.node.name not in WITH_KIWI:
        monkeypatch.setattr(checking, "KIWI", Path("/nonexistent"))


def problems(recipe: Path, variables: Mapping[str, str], max_bytes: int = 10**6) -> list[str]:
    """What is wrong with a recipe."""
    packed = recipe.with_name("recipe.tar.gz")
    archive.pack(recipe, packed)
    return find_problems(recipe, packed, variables, Built(), max_bytes=max_bytes, max_files=100).problems


def templates(recipe: Path, text: str) -> None:
    """Make config.sh a template."""
    (recipe / "config.sh").write_text(text)
    (recipe / ".ims_recipe_template.yaml").write_text("template_files: [config.xml, config.sh]\n")


def test_good_recipe(recipe: Path) -> None:
    """No problem is found, and the recipe is not changed."""
    assert problems(recipe, GIVEN) == []
    assert (recipe / "config.xml").read_text() == CONFIG


def test_secrets(recipe: Path) -> None:
    """Only the service knows their values. A reference without a name is a problem."""
    assert problems(recipe, {"REPOSITORY": "secret:nexus.address"}) == []
    assert problems(recipe, {**GIVEN, "TOKEN": "secret:"}) == [
        "the template variable TOKEN: '' is not the name of a secret. "
        "A name has letters, digits, dots, hyphens and underscores"
    ]


def test_everything_at_once(recipe: Path) -> None:
    """Templates, links, functions and references: one sentence for each."""
    (recipe / "link").symlink_to("/etc/passwd")
    (recipe / "other").symlink_to("../outside")
    templates(recipe, "baseGetProfilesUsed\necho {{ SITE }}\nsuseRemoveYaST\nsuseConfig\n")
    found = problems(recipe, {"TOKEN": "secret:"})
    assert [text.split(":")[0] for text in found] == [
        "the template variable TOKEN",
        "config.sh, line 1",
        "config.sh, line 3",
        "the archive's entry 'link' cannot be unpacked safely",
        "the archive's entry 'other' cannot be unpacked safely",
        "config.xml, line 5",
        "config.sh, line 2",
    ]


def test_missing_variables_and_schema(recipe: Path) -> None:
    """The description is checked although a variable is missing. What only the variable causes is not reported."""
    (recipe / "config.xml").write_text(CONFIG.replace("<packagemanager>", "<nonsense/><packagemanager>"))
    found = problems(recipe, {})
    assert found[0] == "config.xml, line 5: the template variable REPOSITORY has no value: set --var REPOSITORY=VALUE"
    assert "nonsense" in found[1]
    (recipe / "config.xml").write_text(CONFIG.replace("1.0.0", "{{ VERSION }}"))
    assert len(problems(recipe, GIVEN)) == 1


def test_optional_variables(recipe: Path) -> None:
    """A variable that a template does not need may be missing."""
    tested = "{% if C is defined %}{{ C }}{% endif %}{{ D if D else 'x' }}{% if E == 'x' %}{{ E }}{% endif %}"
    templates(recipe, "{{ A | default('x') }}{{ B | d }}" + tested)
    assert problems(recipe, GIVEN) == []
    assert len(problems(recipe, {"OTHER": ""})) == 1


def test_templates_without_a_dictionary(recipe: Path) -> None:
    """The service wants at least one variable for a recipe with templates."""
    (recipe / "config.xml").write_text(CONFIG.replace("{{ REPOSITORY }}", "http://repository.example/x"))
    (found,) = problems(recipe, {})
    assert "no template_dictionary" in found


BROKEN = {
    "syntax": ("{% if %}", "the template config.sh cannot be rendered"),
    "undefined filter": ("{{ 1 | nothing }}", "the template config.sh cannot be rendered"),
    "nested": ("{{ " + "(" * 3000 + "1" + ")" * 3000 + " }}", "the template config.sh cannot be rendered"),
}


@pytest.mark.parametrize(("text", "reason"), BROKEN.values(), ids=BROKEN)
def test_broken_template(recipe: Path, text: str, reason: str) -> None:
    """The reason is that of the service."""
    templates(recipe, text)
    (found,) = problems(recipe, GIVEN)
    assert reason in found


def test_template_list(recipe: Path) -> None:
    """A template that does not exist, or a list that is no YAML."""
    (recipe / ".ims_recipe_template.yaml").write_text("template_files: [gone.sh]\n")
    assert problems(recipe, GIVEN) == [".ims_recipe_template.yaml names 'gone.sh', which is not a file of the recipe"]
    (recipe / ".ims_recipe_template.yaml").write_text("[")
    assert ".ims_recipe_template.yaml cannot be read" in problems(recipe, GIVEN)[0]


def test_description(recipe: Path) -> None:
    """kiwi's reason is in the sentence."""
    (recipe / "config.xml").write_text(CONFIG.replace('image="tbz"', 'image="none"'))
    assert "kiwi-ng does not accept config.xml" in problems(recipe, GIVEN)[0]
    (recipe / "config.xml").write_text("<image>")
    assert "config.xml is not XML" in problems(recipe, GIVEN)[0]


def test_limits(recipe: Path) -> None:
    """A recipe that the service would not unpack."""
    (recipe / "root/large").write_bytes(bytes(2000))
    assert "unpacks to more than 2000 bytes" in problems(recipe, GIVEN, max_bytes=2000)[0]
