"""What a push of a checkout leaves out."""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from ims.errors import ConfigurationError, ImsError
from ims.recipes import archive, version_control

TOKEN = "glpat-secret"
FILES = ("config.xml", "config.sh", "root/etc/motd", "root/usr/bin/tool", "root/etc/site.key", "build/out.iso")


def git(folder: Path, *arguments: str) -> None:
    """Run git without the user's configuration."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "GIT_CONFIG_NOSYSTEM": "1"}
    subprocess.run(["git", "-C", str(folder), *arguments], env=environment, check=True, capture_output=True)


def checkout(folder: Path) -> Path:
    """A repository with a recipe in a folder; returns the folder of the recipe."""
    recipe = folder / "recipes" / "site"
    for name in FILES:
        (recipe / name).parent.mkdir(parents=True, exist_ok=True)
        (recipe / name).write_text(name)
        (recipe / name).chmod(0o644)
    (recipe / "root/usr/bin/tool").chmod(0o755)
    (folder / ".gitignore").write_text("*.key\nbuild/\n")
    git(folder, "init", "--quiet")
    git(folder, "remote", "add", "origin", f"https://oauth2:{TOKEN}@git.example.com/site.git")
    return recipe


def packed_names(recipe: Path) -> list[str]:
    """The names in the archive of a recipe."""
    archive.pack(recipe, recipe.with_name("made.tar.gz"))
    with tarfile.open(recipe.with_name("made.tar.gz")) as made:
        return made.getnames()


def test_checkout(tmp_path: Path) -> None:
    """Ignored files are left out, also if nothing is committed yet."""
    recipe = checkout(tmp_path)
    assert archive.pack(recipe, tmp_path / "made.tar.gz") == ["build", "root/etc/site.key"]
    assert [name for name in packed_names(recipe) if name in FILES] == [
        *("config.sh", "config.xml", "root/etc/motd", "root/usr/bin/tool"),
    ]


def test_repository_as_recipe(tmp_path: Path) -> None:
    """The folder `.git`, with the token of its remote, is left out, and so is the file `.git` of a submodule."""
    recipe = checkout(tmp_path)
    shutil.move(tmp_path / ".git", recipe / ".git")
    (recipe / "root/opt/.git").parent.mkdir()
    (recipe / "root/opt/.git").write_text("gitdir: /elsewhere")
    assert not [name for name in packed_names(recipe) if ".git" in name]
    assert set(archive.pack(recipe, tmp_path / "made.tar.gz")) == {".git", "root/opt/.git"}
    with tarfile.open(tmp_path / "made.tar.gz") as made:
        assert all(TOKEN.encode() not in made.extractfile(item).read() for item in made if item.isfile())  # type: ignore[union-attr]


def test_tracked_but_ignored(tmp_path: Path) -> None:
    """A file that was committed although a pattern ignores it belongs to the recipe."""
    recipe = checkout(tmp_path)
    git(tmp_path, "add", "--force", "recipes/site/root/etc/site.key")
    assert "root/etc/site.key" in packed_names(recipe)


def test_recipe_in_an_ignored_folder(tmp_path: Path) -> None:
    """All of it is packed: somebody who pushes it means it."""
    recipe = checkout(tmp_path)
    (tmp_path / ".gitignore").write_text("recipes/\n")
    assert set(FILES) <= set(packed_names(recipe))


def test_clones(tmp_path: Path) -> None:
    """Clones of the same commit give the same bytes, whatever their umask permits to the group."""
    checkout(tmp_path / "one")
    git(tmp_path / "one", "add", ".")
    git(tmp_path / "one", "-c", "user.name=a", "-c", "user.email=a@example.com", "commit", "--quiet", "-m", "x")
    made = []
    for umask in (0o022, 0o002):
        before = os.umask(umask)
        clone = tmp_path / f"clone-{umask}"
        git(tmp_path, "clone", "--quiet", str(tmp_path / "one"), str(clone))
        os.umask(before)
        archive.pack(clone / "recipes/site", tmp_path / "made.tar.gz")
        made.append((tmp_path / "made.tar.gz").read_bytes())
    assert made[0] == made[1]


def test_modes_in_a_checkout(tmp_path: Path) -> None:
    """Modes that somebody set on purpose are kept."""
    recipe = checkout(tmp_path)
    (recipe / "root/tmp").mkdir()
    wanted = {"root/tmp": 0o1777, "root/etc": 0o750, "root/usr/bin/tool": 0o4755, "root/etc/motd": 0o440}
    for name, mode in wanted.items():
        (recipe / name).chmod(mode)
    packed_names(recipe)
    with tarfile.open(recipe.with_name("made.tar.gz")) as made:
        assert {name: made.getmember(name).mode for name in wanted} == wanted


def test_hooks_do_not_run(tmp_path: Path) -> None:
    """A push runs no program that the configuration of the checkout names."""
    recipe = checkout(tmp_path)
    git(tmp_path, "config", "core.fsmonitor", f"touch {tmp_path}/ran; false")
    packed_names(recipe)
    assert not (tmp_path / "ran").exists()


@pytest.mark.system
def test_checkout_of_another_user(tmp_path: Path) -> None:
    """Root may push the checkout of an ordinary user."""
    recipe = checkout(tmp_path)
    for path in (tmp_path, *tmp_path.rglob("*")):
        os.chown(path, 12345, 12345)
    assert archive.pack(recipe, tmp_path / "made.tar.gz") == ["build", "root/etc/site.key"]


def test_git_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is packed if it is unknown what git ignores."""
    recipe = checkout(tmp_path)
    (tmp_path / ".git/config").write_text("[")
    with pytest.raises(ImsError, match=r"git cannot say what it ignores in .*bad config"):
        packed_names(recipe)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigurationError, match="git is not installed"):
        packed_names(recipe)
    assert not recipe.with_name("made.tar.gz").exists()


def test_copy_of_a_worktree(tmp_path: Path) -> None:
    """Its repository is elsewhere, so git ignores nothing. `.git` is left out all the same."""
    recipe = checkout(tmp_path)
    shutil.rmtree(tmp_path / ".git")
    (recipe / ".git").write_text(f"gitdir: {tmp_path}/gone/.git/worktrees/site\n")
    names = packed_names(recipe)
    assert ".git" not in names
    assert set(FILES) <= set(names)


def test_no_checkout(tmp_path: Path) -> None:
    """Without git, everything belongs to the recipe."""
    (tmp_path / ".gitignore").write_text("*\n")
    assert version_control.ignored(tmp_path) == frozenset()
