"""The layout of a workspace: every file and folder that the steps of a job share.

Each entry has one writer. The runtime makes the workspace before the first step runs and removes it after the last.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ims.errors import PermanentError


@dataclass(frozen=True)
class Workspace:
    """The workspace in the folder `root`, which is named after its job."""

    root: Path

    @property
    def job_id(self) -> str:
        """The job that the workspace belongs to."""
        return self.root.name

    def refuse_links(self) -> None:
        """Raises PermanentError if a link is directly in the workspace. We make none; a program of the job could."""
        linked = [path.name for path in self.root.iterdir() if path.is_symlink()] if self.root.is_dir() else []
        if linked:
            raise PermanentError(
                f"{linked[0]} in the workspace of the job is a link", "A script of the recipe or the image made it"
            )

    def open_to_all(self) -> None:
        """Let steps that run as another user write to the workspace, and read the secrets that they hide in logs."""
        self.root.chmod(0o1777)
        if self.secrets.exists():
            self.secrets.chmod(0o644)

    # Written by the runtime.

    @property
    def run(self) -> Path:
        """What the runtime notes about running steps: their processes, results and services."""
        return self.root / "run"

    def result(self, label: str) -> Path:
        """The result or the error of the step run `label`, as JSON. The step writes it for the runtime."""
        return self.run / f"{label}.json"

    def pid_file(self, label: str) -> Path:
        """The process ID of the step run `label`."""
        return self.run / f"{label}.pid"

    def pid_files(self) -> Iterator[Path]:
        """The process IDs of all step runs, past and present."""
        return self.run.glob("*.pid")

    def service(self, step_name: str) -> Path:
        """The command line and the input of a step that runs as a service, as JSON."""
        return self.run / f"{step_name}.service.json"

    @property
    def space(self) -> Path:
        """How much space the job asked for, in GiB. Absent if the workspace is a volume of a cluster."""
        return self.run / "space"

    @property
    def shell_requests(self) -> Path:
        """The folder in which the runtime creates the markers of users of the API, and the shell answers."""
        return self.run / "shell-requests"

    @property
    def notes(self) -> Path:
        """What steps note for later steps. Programs in a sandbox cannot change it."""
        return self.root / "notes"

    # Written by ims.cache.

    def claim(self, kind: str) -> Path:
        """A link to the cached file of a kind that this job uses. See `ims.cache`."""
        return self.notes / f"{kind}.claim"

    def claims(self) -> Iterator[Path]:
        """All claims of this job."""
        return self.notes.glob("*.claim")

    # Written by fetch_recipe.

    @property
    def recipe_archive(self) -> Path:
        """The recipe archive while `fetch_recipe` unpacks it."""
        return self.root / "recipe.tar.gz"

    @property
    def secrets(self) -> Path:
        """The secrets of the recipe, which the steps of the job hide in what they print, as JSON."""
        return self.notes / "secrets.json"

    @property
    def recipe(self) -> Path:
        """The recipe with its templates rendered. `build_image` sets the times of its files."""
        return self.root / "recipe"

    @property
    def recipe_summary(self) -> Path:
        """What the service knows of the rendered recipe, with the logins of its repositories, as JSON."""
        return self.notes / "recipe.json"

    # Written by resolve_packages and plan_images.

    @property
    def build_inputs(self) -> Path:
        """What decides the image, as `resolve_packages` predicts it."""
        return self.notes / "provenance.json"

    @property
    def solver(self) -> Path:
        """Solutions and indexes of repositories, if the solver cannot use the shared ones."""
        return self.notes / "solver"

    def plan(self, number: int) -> Workspace:
        """A workspace inside this one, in which `plan_images` compares one recipe with its newest image."""
        return Workspace(self.root / "plans" / str(number))

    # Written by build_ca_package.

    @property
    def ca_package(self) -> Path:
        """The folder in which the package with the site's CA certificate is built."""
        return self.root / "ca"

    # Written by build_image.

    @property
    def package_description(self) -> Path:
        """The first part of the recipe: it installs the packages."""
        return self.root / "recipe-packages"

    @property
    def image_description(self) -> Path:
        """The second part of the recipe: it does everything else."""
        return self.root / "recipe-image"

    @property
    def image_root(self) -> Path:
        """The image root. `build_image` fills it; for a changed image it is where a step mounts the overlay."""
        return self.root / "image-root"

    @property
    def image_root_changes(self) -> Path:
        """What a build changes in a package root."""
        return self.root / "image-root.changes"

    @property
    def package_root(self) -> Path:
        """The package root as a folder. Absent if the one of an earlier build is mounted."""
        return self.root / "package-root"

    @property
    def kept_root(self) -> Path:
        """What becomes part of the cache. Programs of the recipe do not see it."""
        return self.root / "kept-root"

    @property
    def packed_root(self) -> Path:
        """The package root as a squashfs, on its way to the cache."""
        return self.kept_root / "package-root.squashfs"

    @property
    def package_mismatch(self) -> Path:
        """Why the installed packages are not those that `resolve_packages` predicted. Absent if they are."""
        return self.notes / "package-mismatch.txt"

    @property
    def network_use(self) -> Path:
        """What the build reached, and what plans do not observe of that, as JSON."""
        return self.notes / "network-use.json"

    @property
    def package_cache(self) -> Path:
        """Downloaded packages, if another job uses the cache of the lineage."""
        return self.root / "cache"

    @property
    def replaced_files(self) -> Path:
        """Copies of the image's files that kiwi replaces with the host's during a build."""
        return self.root / "kept"

    @property
    def kiwi_config(self) -> Path:
        """The configuration of kiwi itself."""
        return self.root / "kiwi.yml"

    @property
    def kiwi_temporary(self) -> Path:
        """The folder for kiwi's temporary files."""
        return self.root / "tmp"

    @property
    def kiwi_home(self) -> Path:
        """The home folder of kiwi and of the programs that it runs."""
        return self.root / "home"

    @property
    def kiwi_log(self) -> Path:
        """The complete output of kiwi."""
        return self.root / "kiwi.log"

    # Written by fetch_image, and `old_files` also by build_image.

    @property
    def old_files(self) -> Path:
        """The list of the files of what is changed: an image or a package root. Absent if this service has none."""
        return self.notes / "old-files.jsonl.gz"

    @property
    def origin(self) -> Path:
        """What S3 has of the image that is customized, as JSON."""
        return self.notes / "origin.json"

    @property
    def playbook_archive(self) -> Path:
        """The archive of the Ansible playbook that customizes the image."""
        return self.root / "playbook.tar.gz"

    # Written by run_script.

    @property
    def customization(self) -> Path:
        """The build inputs of the new image, as JSON. Absent if a shell customizes the image."""
        return self.notes / "customization.json"

    # Written by serve_shell or run_script, whichever customizes the image.

    @property
    def playbook(self) -> Path:
        """The Ansible playbook that customizes the image."""
        return self.root / "playbook"

    @property
    def changes(self) -> Path:
        """The overlay on the image that is customized."""
        return self.root / "changes"

    @property
    def base(self) -> Path:
        """The image that is customized, read-only, while the overlay is mounted."""
        return self.changes / "lower"

    @property
    def changed_files(self) -> Path:
        """The upper folder of that overlay: the files that were added, changed and removed."""
        return self.changes / "upper"

    @property
    def shell(self) -> Path:
        """Files of the SSH server that no session sees."""
        return self.root / "shell"

    @property
    def host_key(self) -> Path:
        """The private host key of the SSH server. The public key is next to it."""
        return self.shell / "host_key"

    @property
    def session_scratch(self) -> Path:
        """The folders /tmp and /root of unjailed sessions."""
        return self.shell / "scratch"

    @property
    def unjailed(self) -> Path:
        """The folder that unjailed sessions see as /mnt/image. Their markers are in it. Boxes do not see it."""
        return self.shell / "image"

    @property
    def shell_address(self) -> Path:
        """Where the shell listens and how to log in, as JSON. Exists if the shell accepts connections."""
        return self.run / "shell-address.json"

    def markers(self, *, jail: bool) -> Path:
        """The folder in which the user of a shell creates the markers, as seen while the image is not mounted."""
        return self.changed_files / "tmp" if jail else self.unjailed

    # Written by list_changes and package_artifacts.

    @property
    def change_list(self) -> Path:
        """All changes to the image that was customized, as `list_changes` found them."""
        return self.root / "changes.txt"

    @property
    def capture(self) -> Path:
        """The same changes as a script and the files that it writes. Absent if `list_changes` could not write it."""
        return self.root / "capture.tar.gz"

    @property
    def artifacts(self) -> Path:
        """The files that become the artifacts of the image."""
        return self.root / "artifacts"
