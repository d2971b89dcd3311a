"""What a session sees, jailed or not, and the program that makes the sandbox of all sessions: `-m ims.shell.jail VIEW`.

    jailed      /             the image root
    unjailed    /             the host's programs, read-only; none of its data, secrets and processes
                /mnt/image    the folder image-root, and next to it the markers

Both have /proc, /dev, /sys, /run and terminals of their own, and the network of `ims.shell.network`. In the image root,
everything is mounted before the first session starts: the user of a shell can put a link at any path in it.
"""

from __future__ import annotations

import errno
import json
import os
import re
import sys
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath

from ims.errors import ConfigurationError, ImsError, InputError
from ims.images.root import follow_links, read_inside, resolve_inside
from ims.removal import remove
from ims.sandbox import box, kernel, shared, users
from ims.sandbox.limits import Limits
from ims.sandbox.overlay import Layers
from ims.sandbox.view import place
from ims.shell import mounts, package_managers, paths

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_NO_SHELLS = ("false", "nologin")
_ACCOUNTS_BYTES = 1024 * 1024
_IMAGE = paths.IMAGE.relative_to("/")
_IMAGE_ROOT = paths.IMAGE_ROOT.relative_to("/")


@dataclass(frozen=True)
class SessionView:
    """Describes the sandbox of all sessions.

    The image is that of `layers` or, without them, the folder `image_root`. In a session that is not jailed, the folder
    `outside` is /mnt/image, and `scratch` has its /tmp and /root. `name` becomes the host name. `network` is the
    descriptor of a network namespace, and `proxies` are the variables that belong to it.
    """

    jail: bool
    name: str
    image_root: Path
    layers: Layers | None
    outside: Path
    scratch: Path
    network: int
    proxies: dict[str, str]
    limits: Limits

    def to_json(self) -> str:
        """The description as text, for the program that makes the sandbox."""
        return json.dumps(asdict(self), default=str)

    @classmethod
    def from_json(cls, text: str) -> SessionView:
        """The description that `to_json` wrote."""
        data = json.loads(text)
        folders = {name: Path(data[name]) for name in ("image_root", "outside", "scratch")}
        layers = Layers.from_dict(data["layers"]) if data["layers"] else None
        return cls(**{**data, **folders, "layers": layers, "limits": Limits(**data["limits"])})

    @property
    def image(self) -> Path:
        """The image root, relative to the root of the sandbox."""
        return Path() if self.jail else _IMAGE_ROOT

    def frame(self) -> box.Frame:
        """What the sandbox is made of."""
        return box.Frame(
            self.make,
            self.limits,
            self.network,
            hostname=re.sub(r"[^A-Za-z0-9]+", "-", self.name).strip("-")[:63] or "image",
            images=() if self.jail else (str(_IMAGE_ROOT),),
            terminals=False,
            capabilities=frozenset(box.SESSION_CAPABILITIES.values()),
        )

    def environment(self) -> dict[str, str]:
        """The variables of all sessions. The image must be mounted."""
        markers, image_root = ("/tmp", "/") if self.jail else (str(paths.IMAGE), str(paths.IMAGE_ROOT))  # noqa: S108
        return {
            "HOME": "/root",
            "PATH": f"{PATH}:{paths.TOOLS}/bin",
            "SHELL": login_shell(self.image_root) if self.jail else "/bin/bash",
            "IMS_IMAGE_ROOT": image_root,
            "IMS_MARKERS": markers,
            **self.proxies,
        }

    def make(self, owner: int, user_namespace: int) -> Path:
        """Make the root of the sandbox. Raises InputError if the image has a link or a file where a folder must be."""
        root = place((self.image_root, self.outside, self.scratch))
        image = self._open_image(owner, user_namespace)
        if self.jail:
            kernel.attach_mount(image, root)
            users.call_as(owner, lambda: mounts.make_mount_points(root))
            mounts.mount_private_folders(root, owner, find_resolv_conf(self.image_root))
            return root
        mounts.mount_host(root, owner)
        if not package_managers.can_write(self.image_root):
            mounts.replace_programs(root, package_managers.PROGRAMS, paths.INSTALLED_TOOLS / package_managers.NAME)
        for source, target in self._folders():
            kernel.attach_mount(kernel.clone_mount(source, kernel.NO_DEVICES, user_namespace), root / target)
        kernel.attach_mount(image, root / _IMAGE_ROOT)
        users.call_as(owner, lambda: mounts.make_mount_points(root / _IMAGE_ROOT))
        mounts.mount_private_folders(root, owner, find_resolv_conf(self.image_root), root / _IMAGE_ROOT)
        mounts.make_read_only(root)
        return root

    def _open_image(self, owner: int, user_namespace: int) -> int:
        """Mount the image; returns the descriptor of a detached mount."""
        if self.layers is None:
            return kernel.clone_mount(self.image_root, kernel.NO_DEVICES, user_namespace)
        (_, lower), (_, image) = self.layers.open(owner, user_namespace)
        os.close(lower)
        return image

    def _folders(self) -> list[tuple[Path, Path]]:
        """The folders on the disk of a session that is not jailed, with their places."""
        for folder in ("home", "tmp"):
            (self.scratch / folder).mkdir(parents=True, exist_ok=True)
        (self.scratch / "tmp").chmod(0o1777)
        # Earlier sessions may have put links at these paths.
        macros, mount_point = self.scratch / "home/.rpmmacros", self.outside / paths.IMAGE_ROOT.name
        remove(macros)
        macros.write_text(package_managers.rpm_macros(self.image_root))
        if mount_point.is_symlink():
            mount_point.unlink()
        mount_point.mkdir(parents=True, exist_ok=True)
        log = self.outside / paths.LOG.name
        remove(log)
        if paths.LOG.exists():
            log.symlink_to(Path("/run", log.name))
        temporary = [(self.scratch / "tmp", Path(name)) for name in ("tmp", "var/tmp")]
        return [(self.outside, _IMAGE), (self.scratch / "home", Path("root")), *temporary]


def find_resolv_conf(root: Path) -> PurePosixPath:
    """The path in the image that /etc/resolv.conf refers to. The file need not exist.

    Raises InputError if the links form a loop or lead to a folder.
    """
    try:
        found = follow_links(root, "/etc/resolv.conf")
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        raise InputError("/etc/resolv.conf of the image is a link to itself", "Make it a file") from None
    if found.is_dir():
        raise InputError("/etc/resolv.conf of the image is a folder", "Make it a file")
    return PurePosixPath("/", found.relative_to(root))


def login_shell(root: Path) -> str:
    """The login shell of root in an image; /bin/sh if the image has no usable one."""
    accounts = read_inside(root, "/etc/passwd", _ACCOUNTS_BYTES) or ""
    shells = [line.rpartition(":")[2] for line in accounts.splitlines() if line.startswith("root:")]
    for shell in shells:
        if Path(shell).name not in ("", *_NO_SHELLS) and resolve_inside(root, shell):
            return shell
    return "/bin/sh"


def main(text: str) -> int:
    """Make the sandbox that a `SessionView` describes, and wait until it ends."""
    view = SessionView.from_json(text)
    try:
        shared.hold(view.frame(), view.environment)
    except ImsError as error:
        shared.report_error(error)
    except OSError as error:
        shared.report_error(ConfigurationError(f"the sandbox cannot be made: {error}", "Run: ims doctor"))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
