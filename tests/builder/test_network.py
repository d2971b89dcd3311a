"""The network of a build, and what of its use no plan observes."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from ims.builder.network import NetworkUse, build_network, network_use
from ims.network.policy import Policy
from ims.sandbox.network import SCRIPTS_PROXY, SandboxNetwork
from ims.workspace import Workspace
from tests.network.serving import WebServer, allowing, web_server

pytestmark = pytest.mark.system
APT = "Debian APT-HTTP/1.3 (2.6.1)"


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """A workspace with a folder for notes."""
    made = Workspace(tmp_path)
    made.notes.mkdir()
    return made


def request(network: SandboxNetwork, url: str, agent: str, proxy: str | None = None) -> None:
    """Request a URL in a network, as a program that calls itself `agent`, by the usual proxy or another."""
    command = ["nsenter", f"--net=/proc/self/fd/{network.namespace}", "curl", "-s", "-m", "9", "-A", agent, url]
    variables = network.environment if proxy is None else {"http_proxy": proxy, "https_proxy": proxy}
    subprocess.run(command, env={**os.environ, **variables}, pass_fds=(network.namespace,), check=False)


def test_hosts_are_recorded(workspace: Workspace) -> None:
    """Only those of this build. What hostile code puts in place of the file is replaced, not followed."""
    assert network_use(workspace) == NetworkUse(hosts=None, downloads=None)
    victim = workspace.root / "victim"
    victim.write_text("unchanged")
    with build_network(workspace, Policy("repositories"), "packages") as network:
        assert network.namespace > 0
        workspace.network_use.symlink_to(victim)
        victim.write_text(NetworkUse().model_dump_json())
    assert network_use(workspace) == NetworkUse(hosts=(), downloads=())
    assert victim.read_text() == NetworkUse().model_dump_json()


def test_package_managers_are_observed_and_others_are_not(workspace: Workspace) -> None:
    """While packages are installed, only requests of the package manager are in the indexes that plans observe."""
    with web_server() as repository, web_server() as other:
        policy = allowing("repositories", repository.endpoint, other.endpoint)
        with build_network(workspace, policy, "packages") as network:
            request(network, repository.url, APT)
        assert network_use(workspace) == NetworkUse(hosts=(repository.endpoint,), downloads=())
        with build_network(workspace, policy, "packages") as network:
            request(network, repository.url, "curl")
            request(network, other.url, APT, SCRIPTS_PROXY)
    assert network_use(workspace) == NetworkUse(
        hosts=tuple(sorted((repository.endpoint, other.endpoint))),
        downloads=(
            f"a program that is not the package manager contacted {repository.endpoint} in the last build",
            f"post_bootstrap.sh contacted {other.endpoint} in the last build",
        ),
    )


def gone() -> WebServer:
    """A server that has ended."""
    with web_server() as server:
        return server


@pytest.mark.parametrize(
    "url",
    ["http://169.254.1.1/", "http://nothing.invalid/", gone().url],
    ids=["address", "name", "port"],
)
def test_a_host_that_does_not_answer_is_not_observed_either(workspace: Workspace, url: str) -> None:
    """It may answer in the next build, so the script would do something else."""
    networks = () if "169.254" in url else ("127.0.0.0/8",)
    with build_network(workspace, Policy("open", allowed_networks=networks), "scripts") as network:
        request(network, url, "curl")
    use = network_use(workspace)
    assert use.hosts == ()
    assert [phrase.split()[:4] for phrase in use.downloads or ()] == [["config.sh", "or", "images.sh", "contacted"]]


def test_scripts_do_not_get_more_by_asking_for_what_nobody_allows(workspace: Workspace) -> None:
    """A refusal depends on the recipe alone, so the plan observes it."""
    with build_network(workspace, Policy("repositories"), "scripts") as network:
        request(network, "http://evil.example/", "curl")
    assert network_use(workspace) == NetworkUse(hosts=(), downloads=())


def test_phrases_are_bounded(workspace: Workspace) -> None:
    """A script can contact any number of hosts."""
    with build_network(workspace, allowing("open"), "scripts") as network:
        for number in range(30):
            request(network, f"http://127.0.0.{number + 1}:1/", "curl")
    assert len(network_use(workspace).downloads or ()) == 20
