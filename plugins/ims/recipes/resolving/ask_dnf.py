"""Prints what the library of dnf would install into an empty root.

The Python of the distribution runs this file, which imports nothing of this project. It reads the request as JSON from
standard input and writes the packages as JSON to standard output.
"""

import json
import sys

import dnf
import hawkey


def configure(base: dnf.Base, request: dict) -> None:  # type: ignore[type-arg]
    """Keep all state in the folder, and use no configuration of the host."""
    conf, folder = base.conf, request["folder"]
    conf.installroot = f"{folder}/root"
    conf.cachedir = f"{folder}/cache"
    conf.persistdir = f"{folder}/persist"
    conf.logdir = folder
    conf.reposdir = []
    conf.releasever = ""
    conf.plugins = False
    conf.install_weak_deps = request["recommended"]
    conf.sslcacert = request["certificates"]
    conf.gpgcheck = False
    conf.best = False


def add_repositories(base: dnf.Base, request: dict) -> None:  # type: ignore[type-arg]
    """Add the repositories, all of which must be available."""
    for number, item in enumerate(request["repositories"]):
        repository = base.repos.add_new_repo(f"r{number}", base.conf, baseurl=[item["url"]])
        repository.skip_if_unavailable = False
        repository.load_metadata_other = False
        if item["priority"]:
            repository.priority = item["priority"]
        repository._repo.expire()  # a maximum age of 0 would still accept what was fetched in the same second


def can_install(base: dnf.Base, name: str) -> bool:
    """Request a package; returns whether a repository has it."""
    try:
        base.install_specs([name])
    except dnf.exceptions.MarkingErrors:
        # Packages of modules may be hidden here, and not in a build.
        everything = base.sack.query(flags=hawkey.IGNORE_EXCLUDES)
        if everything.filter(name=name) or everything.filter(provides=name):
            raise
        return False
    return True


def main() -> None:
    """Resolve one request. Prints a list of packages, or the names of those that no repository has."""
    request = json.load(sys.stdin)
    with dnf.Base() as base:
        configure(base, request)
        add_repositories(base, request)
        base.fill_sack(load_system_repo=False)
        if missing := [name for name in request["packages"] if not can_install(base, name)]:
            json.dump({"missing": missing}, sys.stdout)
            return
        base.resolve()
        found = [item.pkg for item in base.transaction]
        answer = [
            {"name": package.name, "version": package.evr, "arch": package.arch, "checksum": package.chksum[1].hex()}
            for package in found
        ]
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    try:
        main()
    except dnf.exceptions.Error as error:
        sys.exit(f"E: {' '.join(str(error).split())}")
