"""The state of everything that may decide an image: the recipe, its repositories, the settings, the CA, the builder."""

from __future__ import annotations

import io
import os
import shutil
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from tests.flows.conftest import RECIPES
from tests.flows.rpm_repository import KERNEL_VERSION, Package, basic_packages, build_repository
from tests.running import quietly

Tool = Literal["1.0", "1.0 again", "1.1"]
TOOLS: tuple[Tool, ...] = get_args(Tool)
Fetching = Literal["", "images.sh", "post_bootstrap.sh"]
"""The script that downloads a file from the host of the repository, which is no package."""


@dataclass(frozen=True)
class World:
    """One state. Two images that are built in equal states are equal."""

    tool: Tool = "1.0"
    unrelated: bool = False
    has_second: bool = False
    priority: str = ""
    is_there: bool = True
    extra: bool = False
    content: str = "one"
    mode: int = 0o644
    folder_mode: int = 0o755
    target: str = "motd"
    time: int = 1_600_000_000
    variable: str = "one"
    script: str = "one"
    fetching: Fetching = ""
    published: str = "one"
    profiles: tuple[str, ...] = ()
    lab_mode: int = 0o644
    gpgcheck: str = ""
    comment: str = ""
    network: str = "repositories"
    certificate: int = 0
    parameters: str = "kernel-parameters"
    kernel: str | None = None
    squashfs_level: int = 6
    library: str = "1"

    @property
    def boot_files(self) -> dict[str, str | None]:
        """The names of the files that a job looks up in /boot."""
        return {
            "kernel_file_name": self.kernel,
            "initrd_file_name": "initrd",
            "kernel_parameters_file_name": self.parameters,
        }

    def archive(self) -> bytes:
        """The recipe as somebody could pack it: with the times and modes of its files."""
        stream = io.BytesIO()
        with tarfile.open(fileobj=stream, mode="w:gz") as tar:
            for name in ("root", "root/etc", "root/etc/site.d", "root/boot", "Lab", "Lab/etc"):
                self._add(tar, name, kind=tarfile.DIRTYPE, mode=self.folder_mode if name.endswith(".d") else 0o755)
            for name, text in self._texts().items():
                modes = {"root/etc/motd": self.mode, "Lab/etc/lab": self.lab_mode}
                self._add(tar, name, text, mode=modes.get(name, 0o755 if name.endswith(".sh") else 0o644))
            self._add(tar, "root/etc/alias", kind=tarfile.SYMTYPE, target=self.target)
        return stream.getvalue()

    def _texts(self) -> dict[str, str]:
        scripts = {"images.sh": "#!/bin/bash\necho {{ VARIABLE }} > /etc/variable\n"}
        if self.fetching:
            before = scripts.get(self.fetching, "#!/bin/bash\n")
            scripts[self.fetching] = f"{before}wget -O /etc/published {{{{ REPOSITORY }}}}/published.txt\n"
        return {
            **scripts,
            "config.xml": self._description(),
            ".ims_recipe.yaml": f"network: {self.network}\n",
            ".ims_recipe_template.yaml": f"template_files: [config.xml, {', '.join(scripts)}]\n",
            "config.sh": f"#!/bin/bash\necho {self.script} > /etc/script\n",
            "root/etc/motd": self.content,
            "root/boot/kernel-parameters": "quiet",
            "root/boot/other-parameters": "debug",
            "Lab/etc/lab": "lab",
        }

    def _description(self) -> str:
        text = (RECIPES / "dnf" / "config.xml").read_text()
        second = f'<repository alias="second"{_attribute("priority", self.priority)}><source path="{{{{ SECOND }}}}"/>'
        checked = text.replace('alias="flow-test"', f'alias="flow-test"{_attribute("package_gpgcheck", self.gpgcheck)}')
        names = ["tool", *(["extra"] if self.extra else [])]
        more = "".join(f'<package name="{name}"/>' for name in names) + "</packages>"
        profiles = '<profiles><profile name="Lab" description="lab"/></profiles><preferences>'
        texts = checked.replace("</packages>", more).replace("<preferences>", profiles)
        texts = texts.replace("</repository>", f"</repository>{second}</repository>") if self.has_second else texts
        return texts + (f"<!-- {self.comment} -->" if self.comment else "")

    def _add(
        self, tar: tarfile.TarFile, name: str, text: str = "", *, kind: bytes = tarfile.REGTYPE, **fields: int | str
    ) -> None:
        member = tarfile.TarInfo(name)
        member.type, member.size, member.mtime = kind, len(text.encode()), self.time
        member.mode, member.linkname = int(fields.get("mode", 0o777)), str(fields.get("target", ""))
        tar.addfile(member, io.BytesIO(text.encode()))


def _attribute(name: str, value: str) -> str:
    return f' {name}="{value}"' if value else ""


class Repositories:
    """The repositories `main` and `second` in every state. A state that comes back has the same index."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        plain = Package("unrelated"), Package("extra", files={"/usr/share/extra": b"extra"}, requires=("filesystem",))
        self._basic = build_repository(folder / "basic", [*basic_packages(), plain[1]])
        self._unrelated = build_repository(folder / "unrelated", [plain[0]])
        self._second = build_repository(folder / "second", [_tool("1.2")])
        self._tools = {name: build_repository(folder / name.replace(" ", "-"), [_tool(name)]) for name in TOOLS}

    def folder(self, world: World) -> Path:
        """The folder to serve in a state."""
        index = self._index(world)
        served = self._folder / f"served-{index.name}-{world.published}"
        if not served.exists():
            shutil.copytree(index, served / "main", copy_function=os.link)
            (served / "main/published.txt").write_text(world.published)
            (served / "second").symlink_to(self._second)
        return served

    def _index(self, world: World) -> Path:
        """The repository `main` without the file that is no package."""
        folder = self._folder / f"index-{world.tool.replace(' ', '-')}-{world.unrelated}"
        if not folder.exists():
            pools = [self._basic, self._tools[world.tool], *([self._unrelated] if world.unrelated else [])]
            folder.mkdir()
            for path in (path for pool in pools for path in pool.rglob("*.rpm")):
                os.link(path, folder / path.name)
            quietly(["createrepo_c", "--quiet", "--general-compress-type=gz", folder])
        return folder


def _tool(name: str) -> Package:
    files = {"/usr/share/tool": name.encode()}
    return Package("tool", version=name.split(" ")[0], files=files, requires=("filesystem",))


KERNELS = (None, f"vmlinuz-{KERNEL_VERSION}")
