"""When an image is built again. A property test states that a skip is never wrong."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ims.recipes.build_inputs import BuildInputs, Package
from ims.recipes.package_request import UnknownPackagesError
from ims.recipes.plan import decide, describe_inputs, package_delta

BASH = Package(name="bash", version="5.1-1", arch="amd64", checksum="a")
CURL = Package(name="curl", version="8.0-1", arch="amd64", checksum="b")
BEFORE = BuildInputs(
    description="1",
    bootstrap_script="",
    files="1",
    arch="x86_64",
    builder={"kiwi": "11.1.6"},
    ca_certificate="1",
    boot_files={"initrd_file_name": "initrd"},
    repositories={"http://one": "1"},
    downloads=(),
).with_packages([CURL, BASH])
OTHERS: dict[str, Any] = {
    "description": "2",
    "bootstrap_script": "2",
    "arch": "aarch64",
    "builder": {"kiwi": "11.2.0"},
    "ca_certificate": "2",
    "boot_files": {"initrd_file_name": "other"},
}
NEWER = BASH.model_copy(update={"version": "5.2-1", "checksum": "c"})
OTHER_CONTENT = BASH.model_copy(update={"checksum": "c"})


def other(**fields: Any) -> BuildInputs:
    """Build inputs with other values in some fields."""
    return BEFORE.without_packages("").model_copy(update=fields)


def never() -> list[Package]:
    """Fails the test: for decisions that do not depend on the packages."""
    raise AssertionError("the packages must not be resolved")


def unknown() -> list[Package]:
    """For packages that cannot be predicted."""
    raise UnknownPackagesError("the recipe has <product>")


def test_nothing_changed() -> None:
    """The verdict is skip, without resolving packages."""
    decision = decide(BEFORE, other(), never)
    assert (decision.verdict, decision.reason, decision.differs) == ("skip", "nothing changed", [])


def test_no_image() -> None:
    """There is nothing to compare with, so the verdict is build."""
    assert decide(None, other(), never).verdict == "build"


@pytest.mark.parametrize("field", OTHERS)
def test_decisive_field(field: str) -> None:
    """The verdict is build, and the reason names the field, whatever else differs."""
    decision = decide(BEFORE, other(**{field: OTHERS[field], "files": "2", "repositories": {}}), never)
    assert decision.verdict == "build"
    assert decision.differs == [field, "files", "repositories"]
    assert decision.reason == f"{field.replace('_', ' ')} changed"


def test_files() -> None:
    """The verdict is repack: the packages stay the same."""
    decision = decide(BEFORE, other(files="2"), never)
    assert (decision.verdict, decision.differs) == ("repack", ["files"])


CHANGED = {"repositories": {"http://one": "2"}}


def test_index_changed_packages_did_not() -> None:
    """The verdict is skip, or repack if files changed, too."""
    assert decide(BEFORE, other(**CHANGED), lambda: [BASH, CURL]).verdict == "skip"
    assert decide(BEFORE, other(**CHANGED, files="2"), lambda: [CURL, BASH]).verdict == "repack"


@pytest.mark.parametrize(
    ("now", "line"),
    [
        ([NEWER, CURL], "bash.amd64 5.1-1 -> 5.2-1"),
        ([OTHER_CONTENT, CURL], "bash.amd64 5.1-1 -> 5.1-1 (other content)"),
        ([BASH], "curl.amd64 8.0-1 -> none"),
        ([BASH, NEWER, CURL], "bash.amd64 5.1-1 -> 5.1-1, 5.2-1"),
        ([BASH, CURL, Package(name="zsh", version="5", arch="all", checksum="d")], "zsh.all none -> 5"),
    ],
)
def test_packages_changed(now: list[Package], line: str) -> None:
    """The verdict is build, with the packages that differ."""
    decision = decide(BEFORE, other(**CHANGED), lambda: now)
    assert (decision.verdict, decision.differs, decision.packages) == ("build", ["repositories"], [line])
    assert package_delta(BEFORE.packages or (), BEFORE.packages or ()) == []


def test_unpredictable_packages_or_other_repositories() -> None:
    """The verdict is build if the packages of the last or of a new build are unknown, or the repositories differ."""
    assert "the recipe has <product>" in decide(BEFORE, other(**CHANGED), unknown).reason
    for now in (other(), other(**CHANGED), other(files="2")):
        doubted = decide(BEFORE.without_packages("a script"), now, never)
        assert (doubted.verdict, "a script" in doubted.reason) == ("build", True)
    more = other(repositories={"http://one": "1", "http://two": "1"})
    assert decide(BEFORE, more, never).reason == "the recipe has other repositories"


OPAQUE = ("the repository obs://site cannot be observed",)


def test_inputs_that_nobody_observes() -> None:
    """The verdict is build, with the reason, also if nothing else changed. A change that is known is named first."""
    decision = decide(BEFORE, other(opaque=OPAQUE), never)
    assert (decision.verdict, decision.reason) == ("build", f"it is unknown what changed: {OPAQUE[0]}")
    assert decide(BEFORE, other(opaque=OPAQUE, files="2"), never).verdict == "build"
    assert decide(BEFORE, other(opaque=OPAQUE, arch="aarch64"), never).reason == "arch changed"
    assert decide(BEFORE.model_copy(update={"opaque": OPAQUE}), other(), never).verdict == "skip"


def test_what_scripts_downloaded() -> None:
    """The verdict is build if scripts of the last build used the network, or if that is unknown. The plan lists it."""
    phrase = "config.sh or images.sh contacted repo.example:80 in the last build"
    for downloads, reason in (((phrase,), phrase), (None, "did not state what scripts downloaded")):
        before = BEFORE.model_copy(update={"downloads": downloads})
        for now in (other(), other(files="2"), other(**CHANGED)):
            decision = decide(before, now, never)
            assert (decision.verdict, reason in decision.reason) == ("build", True)
            opaque = [item.opaque for item in describe_inputs(before, now, decision) if item.name == "not observed"]
            assert reason in "".join(opaque)


WORDS = st.sampled_from(["1", "2"])
PACKAGES = st.lists(
    st.builds(Package, name=st.sampled_from(["bash", "curl"]), version=WORDS, arch=st.just("amd64"), checksum=WORDS),
    max_size=3,
)
PROVENANCES = st.builds(
    BuildInputs,
    description=WORDS,
    bootstrap_script=WORDS,
    files=WORDS,
    arch=WORDS,
    builder=st.dictionaries(WORDS, WORDS, max_size=2),
    ca_certificate=WORDS,
    boot_files=st.dictionaries(WORDS, st.none() | WORDS, max_size=2),
    repositories=st.dictionaries(WORDS, WORDS, max_size=2),
    packages=st.none(),
    downloads=st.sampled_from([(), ("a file",), None]),
)
SAME = ("description", "bootstrap_script", "arch", "builder", "ca_certificate", "boot_files")


@given(
    before=PROVENANCES | st.just(BEFORE),
    then=st.none() | PACKAGES,
    changes=st.fixed_dictionaries({}, optional=dict.fromkeys(("files", "description", "arch"), WORDS)),
    opaque=st.just(()) | st.just(OPAQUE),
    repositories=st.none() | st.dictionaries(WORDS | st.just("http://one"), WORDS, max_size=2),
    packages=st.none() | PACKAGES,
)
def test_a_skip_is_never_wrong(
    before: BuildInputs,
    then: list[Package] | None,
    changes: dict[str, str],
    opaque: tuple[str, ...],
    repositories: dict[str, str] | None,
    packages: list[Package] | None,
) -> None:
    """A skip implies that all was observed, that only indexes differ, and that the packages are known to be equal."""
    before = before.without_packages("unknown") if then is None else before.with_packages(then)
    more = {} if repositories is None else {"repositories": repositories}
    now = before.without_packages("").model_copy(update={**changes, **more, "opaque": opaque})
    decision = decide(before, now, unknown if packages is None else lambda: packages)
    same_packages = before.packages is not None and (
        before.repositories == now.repositories
        or (packages is not None and before.packages == now.with_packages(packages).packages)
    )
    observed = not opaque and before.downloads == ()
    reusable = observed and same_packages and all(getattr(before, name) == getattr(now, name) for name in SAME)
    if decision.verdict == "skip":
        assert reusable
        assert before.files == now.files
    if decision.verdict == "repack":
        assert reusable


def test_build_inputs_are_read_as_they_were_written() -> None:
    """Other data is rejected."""
    assert BuildInputs.read(BEFORE.model_dump_json().encode()) == BEFORE
    with pytest.raises(Exception, match="cannot be read"):
        BuildInputs.read(b"{}")
