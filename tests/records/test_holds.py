"""Which holds keep a record from being deleted."""

from __future__ import annotations

import pytest

from ims.records.holds import UNUSED, HeldError, Holds
from ims.records.models import AnyRecord, Image, PublicKey, Recipe

ARCHIVE = "s3://ims/recipes/1/recipe.tar.gz"
KEY, RECIPE = PublicKey(id="key"), Recipe(id="recipe", link_path=ARCHIVE)
IMAGE, PINNED = Image(id="image", pinned=False), Image(id="pinned", pinned=True)
ALL = (KEY, RECIPE, IMAGE, PINNED)


def test_record_in_use_has_a_strict_hold() -> None:
    """The hold names the job, and applies only to the record that the job uses."""
    holds = Holds({"image": "job-1", "key": "job-2"})
    assert [bool(holds.strict(record)) for record in ALL] == [True, False, True, False]
    (hold,) = holds.of(IMAGE)
    assert (hold.reason, hold.strict) == ("the job job-1 is using image", True)


def test_record_whose_object_is_in_use_has_a_strict_hold() -> None:
    """A job refers to a playbook by the address of its archive."""
    (hold,) = Holds({ARCHIVE: "job"}).of(RECIPE)
    assert hold.strict
    assert ARCHIVE in hold.reason


@pytest.mark.parametrize(
    ("record", "holds"),
    [(PINNED, UNUSED), (RECIPE, Holds({}, {"recipe", None})), (IMAGE, Holds({}, (), {"image", None}))],
)
def test_hold_that_a_user_may_override(record: AnyRecord, holds: Holds) -> None:
    """The clean-up keeps pinned images, recipes of images and sources of nightly images. A user may delete them."""
    (hold,) = holds.of(record)
    assert not hold.strict
    holds.check([record])


def test_unused_record_has_no_hold() -> None:
    """Images without a recipe do not hold any recipe."""
    holds = Holds({"other": "job"}, {None, "another"})
    assert [holds.of(record) for record in (KEY, RECIPE, IMAGE)] == [[], [], []]


def test_check_names_the_job_and_the_next_step() -> None:
    """One strict hold is enough to refuse all records."""
    with pytest.raises(HeldError) as caught:
        Holds({"pinned": "job"}).check(ALL)
    assert str(caught.value) == "the job job is using pinned. Wait until it ends, or cancel it"
