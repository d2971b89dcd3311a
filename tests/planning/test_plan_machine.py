"""Random sequences of changes: whenever a plan says skip, a build would make the same image."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from ims.storage.objects import ObjectStore
from tests.flows.rpm_repository import RepositoryServer
from tests.fuzzing import examples
from tests.planning.site import Site
from tests.planning.world import KERNELS, World
from tests.seaweedfs import running

pytestmark = [pytest.mark.system, pytest.mark.hypothesis]

ONE_OR_TWO = st.sampled_from(["one", "two"])


class Machine(RuleBasedStateMachine):
    """The recipe and everything around it change, and each change is planned as a night would.

    If the plan does not say skip, the recipe is built. What a plan promised is checked when the next build ends it: the
    newest image must be the one that a build would have made just before.
    """

    site: Site

    @initialize()
    def build_first_image(self) -> None:
        """The recipe was built."""
        self.world = self.promised = World()
        self.image = self.site.register(self.world)
        self.is_damaged = False

    @rule(tool=st.sampled_from(["1.0", "1.0 again", "1.1"]))
    def publish(self, tool: Any) -> None:
        """The repository gets another version of a package of the image, or another build of the same version."""
        self.change(tool=tool)

    @rule(unrelated=st.booleans())
    def publish_unrelated_package(self, unrelated: bool) -> None:
        """The index changes, but no package of the image."""
        self.change(unrelated=unrelated)

    @rule(priority=st.sampled_from(["", "1", "199"]))
    def add_repository(self, priority: str) -> None:
        """The recipe gets a repository with a newer package, or another priority for it."""
        self.change(has_second=True, priority=priority)

    @rule()
    def remove_repository(self) -> None:
        """The recipe loses it."""
        self.change(has_second=False, priority="")

    @rule(is_there=st.booleans())
    def stop_or_start_repository(self, is_there: bool) -> None:
        """The repositories go away, or come back."""
        self.change(is_there=is_there)

    @rule(extra=st.booleans())
    def change_packages(self, extra: bool) -> None:
        """The recipe gets or loses a package."""
        self.change(extra=extra)

    @rule(content=ONE_OR_TWO)
    def change_content(self, content: str) -> None:
        """A file of the overlay has other content."""
        self.change(content=content)

    @rule(mode=st.sampled_from([0o644, 0o600, 0o4755]))
    def change_mode(self, mode: int) -> None:
        """A file of the overlay has another mode."""
        self.change(mode=mode)

    @rule(folder_mode=st.sampled_from([0o755, 0o700, 0o1777]))
    def change_mode_of_folder(self, folder_mode: int) -> None:
        """A folder of the overlay has another mode."""
        self.change(folder_mode=folder_mode)

    @rule(destination=st.sampled_from(["motd", "hosts", "/etc/motd"]))
    def change_link(self, destination: str) -> None:
        """A link of the overlay leads elsewhere."""
        self.change(target=destination)

    @rule(time=st.sampled_from([1_600_000_000, 1_650_000_000, 1_800_000_000]))
    def change_times(self, time: int) -> None:
        """All files of the recipe have another time."""
        self.change(time=time)

    @rule(variable=ONE_OR_TWO)
    def change_variable(self, variable: str) -> None:
        """A template variable has another value."""
        self.change(variable=variable)

    @rule(script=ONE_OR_TWO)
    def change_script(self, script: str) -> None:
        """A script does something else."""
        self.change(script=script)

    @rule(fetching=st.sampled_from(["images.sh", "post_bootstrap.sh"]), stays=st.booleans())
    def publish_file(self, fetching: Any, stays: bool) -> None:
        """A script downloads a file from the host of the repository. It changes, and the index does not."""
        self.change(fetching=fetching)
        self.change(published="one" if self.world.published == "two" else "two")
        if not stays:
            self.change(fetching="")

    @rule(profiles=st.sampled_from([(), ("Lab",)]), lab_mode=st.sampled_from([0o644, 0o600]))
    def change_profile(self, profiles: tuple[str, ...], lab_mode: int) -> None:
        """A profile is built or not, and a file of its overlay has another mode."""
        self.change(profiles=profiles, lab_mode=lab_mode)

    @rule(gpgcheck=st.sampled_from(["", "false"]), comment=st.sampled_from(["", "new"]))
    def change_description(self, gpgcheck: str, comment: str) -> None:
        """The description has other settings for signatures, or another comment."""
        self.change(gpgcheck=gpgcheck, comment=comment)

    @rule(network=st.sampled_from(["repositories", "open"]))
    def change_network(self, network: str) -> None:
        """Scripts may reach everything, or only the repositories."""
        self.change(network=network)

    @rule(certificate=st.sampled_from([0, 1]))
    def change_certificate(self, certificate: int) -> None:
        """The site has another CA."""
        self.change(certificate=certificate)

    @rule(kernel=st.sampled_from(KERNELS), parameters=st.sampled_from(["kernel-parameters", "other-parameters"]))
    def change_boot_files(self, kernel: str | None, parameters: str) -> None:
        """Jobs look up other files in /boot."""
        self.change(kernel=kernel, parameters=parameters)

    @rule(squashfs_level=st.sampled_from([6, 9]), library=st.sampled_from(["1", "2"]))
    def change_builder(self, squashfs_level: int, library: str) -> None:
        """The builder has other settings, or another version of a library of the package manager."""
        self.change(squashfs_level=squashfs_level, library=library)

    @rule(is_deleted=st.booleans())
    def damage_image(self, is_deleted: bool) -> None:
        """An object of the image is deleted or overwritten."""
        (self.site.delete if is_deleted else self.site.overwrite)(self.image.rootfs)
        self.is_damaged = True
        self.change()

    def change(self, **fields: Any) -> None:
        """Change something, and do what a night does. If nothing changes, nothing is to be seen."""
        world = replace(self.world, **fields)
        if world == self.world and fields:
            return
        self.world = world
        plan = self.site.plan(world, self.image)
        if plan.verdict == "skip":
            self.check_is_possible()
            self.promised = world
            return
        self.check_promise()
        if world.is_there:  # otherwise the job fails
            self.image, self.promised, self.is_damaged = self.site.register(world), world, False

    def check_is_possible(self) -> None:
        """A skip is wrong whatever a build would make, if the image is damaged, or if that cannot be known."""
        assert not self.is_damaged
        assert self.world.is_there
        assert self.world.network == self.image.world.network == "repositories"
        assert not self.world.fetching
        assert self.world.library == self.image.world.library

    def check_promise(self) -> None:
        """The newest image is what a build would have made when the last plan said skip."""
        if self.promised == self.image.world:
            return
        stated, made = self.site.build(self.image.world), self.site.build(self.promised)
        assert stated.artifacts == made.artifacts, (self.image.world, self.promised)
        # The skip was based on these.
        assert stated.inputs.downloads == ()
        unknown = {"hosts": None, "downloads": None}
        assert stated.inputs.model_copy(update=unknown) == self.site.predicted(self.image.world)

    def teardown(self) -> None:
        """The last promise counts, too."""
        if hasattr(self, "promised"):
            self.check_promise()


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """A site with its own S3 and repositories."""
    from ims.settings import settings as own_settings

    home = tmp_path / "s3"
    home.mkdir()
    with running(home) as s3, RepositoryServer(tmp_path) as server:
        monkeypatch.setattr(ObjectStore, "from_environment", lambda: s3.store)
        yield Site(tmp_path, s3.store, server, monkeypatch)
    monkeypatch.undo()
    own_settings.cache_clear()


def test_changed_download(site: Site) -> None:
    """The machine sees that a plan is right about a file that a script downloads, and that the file decides the image.

    Random sequences seldom end with these changes.
    """
    Machine.site = site
    machine = Machine()
    machine.build_first_image()
    machine.publish_file("images.sh", stays=True)
    one, two = (site.build(replace(machine.world, published=published)) for published in ("one", "two"))
    assert one.artifacts != two.artifacts
    assert one.inputs.model_copy(update={"hosts": None}) == two.inputs.model_copy(update={"hosts": None})


def test_a_skip_is_never_wrong_after_any_sequence_of_changes(site: Site) -> None:
    """Hypothesis chooses the changes and their order."""
    Machine.site = site
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=examples(20),
            stateful_step_count=6,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate],  # a sequence of six changes is short enough, and each try takes seconds
        ),
    )
    print(f"{site.plans} plans, {site.builds} builds")
