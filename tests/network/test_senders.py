"""Who sends a request to the proxy of a build."""

from __future__ import annotations

import pytest

from ims.network.senders import PROGRAMS_ADDRESS, SCRIPTS_ADDRESS, Sender, sender_of

AGENTS: dict[str, Sender] = {
    "ZYpp 17.25.7 (curl 7.88.1) ": "package manager",
    "ZYpp 17.37.17 (curl 8.14.1) openSUSE-Leap-15.6-x86_64": "package manager",
    "libdnf (Rocky Linux 9.4; generic; Linux.x86_64)": "package manager",
    "Debian APT-HTTP/1.3 (2.6.1)": "package manager",
    "Debian APT-HTTP/1.3 (2.4.13) non-interactive": "package manager",
    "curl/7.88.1": "program",
    "Wget": "program",
    "Python-urllib/3.11": "program",
    "Mozilla/5.0 libdnf": "program",
    "": "program",
}


@pytest.mark.parametrize(("agent", "sender"), AGENTS.items())
def test_user_agents(agent: str, sender: Sender) -> None:
    """Package managers are known by their names. All else is another program, and so is who gives no name."""
    assert sender_of(agent.encode(), PROGRAMS_ADDRESS) == sender


@pytest.mark.parametrize("agent", AGENTS)
@pytest.mark.parametrize("address", [SCRIPTS_ADDRESS, "127.9.9.9", ""])
def test_scripts_have_other_addresses(agent: str, address: str) -> None:
    """Also the package managers that they start. An address that is not known is not that of a package manager."""
    assert sender_of(agent.encode(), address) == "script"
