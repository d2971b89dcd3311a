"""The file `.ims_recipe.yaml` of a recipe folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from ims.errors import InputError
from ims.recipes.registration import Registration, read_registration

SHIPPED = Path(__file__).parents[2] / "include" / "recipes"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", Registration()),
        ("# nothing\n", Registration()),
        ("nightly: true\n", Registration(nightly=True)),
        ("network: open\n", Registration(network="open")),
        ("network_hosts: [cdn.example, 'h:8080']\n", Registration(network_hosts=["cdn.example", "h:8080"])),
        ("name: a b\nlinux_distribution: sles15\n", Registration(name="a b", linux_distribution="sles15")),
    ],
)
def test_read(tmp_path: Path, text: str, expected: Registration) -> None:
    """All keys are optional."""
    (tmp_path / ".ims_recipe.yaml").write_text(text)
    assert read_registration(tmp_path) == expected


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("colour: red\n", "colour"),
        ("nightly: perhaps\n", "nightly"),
        ("nightly: 1\n", "nightly"),
        ("name: ''\n", "name"),
        ("name: [x]\n", "name"),
        ("network: none\n", "network"),
        ("network: true\n", "network"),
        ("network_hosts: cdn.example\n", "network_hosts"),
        ("network_hosts: [1]\n", "network_hosts.0"),
        (f"network_hosts: [{'h, ' * 101}]\n", "network_hosts"),
        ("- nightly\n", "the file: "),
        ("nightly\n", "the file: "),
        ("nightly: {\n", "not YAML"),
        ("name: !!python/object/apply:os.system [id]\n", "not YAML"),
        ("\x00", "not YAML"),
        ("[" * 10000, "not YAML"),
    ],
)
def test_refused(tmp_path: Path, text: str, named: str) -> None:
    """The error names the file and the problem."""
    (tmp_path / ".ims_recipe.yaml").write_text(text)
    with pytest.raises(InputError, match=r"\.ims_recipe\.yaml") as error:
        read_registration(tmp_path)
    assert named in str(error.value)


def test_record_does_not_have_the_network(tmp_path: Path) -> None:
    """It is a property of the recipe archive: a changed network is another recipe."""
    (tmp_path / ".ims_recipe.yaml").write_text("name: a\nnetwork: open\nnetwork_hosts: [cdn.example]\n")
    assert read_registration(tmp_path).record_fields == {"name": "a"}


def test_no_file(tmp_path: Path) -> None:
    """Without the file, all fields are unset."""
    assert read_registration(tmp_path) == Registration()


@pytest.mark.parametrize("recipe", sorted(SHIPPED.iterdir()), ids=lambda path: path.name)
def test_shipped(recipe: Path) -> None:
    """Shipped recipes are pushed under the names of their folders, and are not built nightly by default."""
    registration = read_registration(recipe)
    assert (registration.name, registration.nightly) == (recipe.name, None)
