"""Ask dnf's library what it would install into an empty root.

Run by the distribution's Python, apart from this project.
Reads the question as JSON from its input, writes the packages as JSON to its output.
"""

import json
import sys

import dnf


def configure(base: dnf.Base, question: dict) -> None:  # type: ignore[type-arg]
    """Nothing of this machine's configuration; what is kept lies in the folder."""
    conf, folder = base.conf, question["folder"]
    conf.installroot = f"{folder}/root"
    conf.cachedir = f"{folder}/cache"
    conf.persistdir = f"{folder}/persist"
    conf.logdir = folder
    conf.reposdir = []
    conf.releasever = ""
    conf.plugins = False
    conf.install_weak_deps = question["recommended"]
    conf.sslcacert = question["certificates"]
    conf.gpgcheck = False
    conf.best = False


def add_repositories(base: dnf.Base, question: dict) -> None:  # type: ignore[type-arg]
    """The repositories, none of which may be missing."""
    for number, item in enumerate(question["repositories"]):
        repository = base.repos.add_new_repo(f"r{number}", base.conf, baseurl=[item["url"]])
        repository.skip_if_unavailable = False
        repository.load_metadata_other = False
        if item["priority"]:
            repository.priority = item["priority"]
        repository._repo.expire()  # an age of 0 would still believe what was fetched within this second


def main() -> None:
    """Answer one question."""
    question = json.load(sys.stdin)
    with dnf.Base() as base:
        configure(base, question)
        add_repositories(base, question)
        base.fill_sack(load_system_repo=False)
        for name in question["packages"]:
            base.install_specs([name])
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
