"""The first process of a node: prepares the namespaces, starts the daemons, and restarts those that end.

When it ends, the kernel ends all other processes of the node and removes its mounts and its network.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import httpx

from tests.flows.rpm_repository import PrivateCA
from tests.node import ADDRESS, MIRROR_PORT, NAME, PROGRAMS, STATE, UNAVAILABLE
from tests.node.daemons import API, commands, write_configuration

CONTROLLERS = ("cpu", "cpuacct", "cpuset", "memory", "devices", "freezer", "blkio", "pids")
CGROUPS = Path("/sys/fs/cgroup")
# The kubelet sets these for the whole machine. In the node, files with the values that it wants are mounted over them.
SYSCTLS = {"vm/overcommit_memory": "1", "kernel/panic": "10", "kernel/panic_on_oops": "1"}
SOURCES = """\
Types: deb
URIs: http://{address}:{port}/{place}
Suites: {suites}
Components: main
"""
START_SECONDS = 90


def main() -> None:
    """Run the node until SIGTERM."""
    signal.signal(signal.SIGTERM, _end)
    for name in ("held", "log"):
        (STATE / name).mkdir(parents=True)
    try:
        _mount_cgroups()
        _hide_the_machine()
        _make_network()
    except (OSError, subprocess.CalledProcessError) as error:
        sys.exit(_unavailable(error))
    certificate = PrivateCA(STATE / "pki", "node").issue(ADDRESS, "127.0.0.1", "10.96.0.1", NAME)
    write_configuration(certificate)
    daemons = Daemons(commands(certificate))
    daemons.start("etcd", "containerd", "kube-apiserver")
    _wait(_answers, daemons)
    for archive in sorted(STATE.glob("images/*.tar")):
        command = ("ctr", "--address", "/run/containerd.sock", "--namespace", "k8s.io", "images", "import", archive)
        subprocess.run(command, check=True)
    daemons.start("kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy")
    _wait(_is_ready, daemons)
    (STATE / "ready").touch()
    while True:
        daemons.tend()
        time.sleep(0.5)


def _unavailable(error: Exception) -> int:
    print(f"the kernel lacks what a node needs: {error}", flush=True)
    return UNAVAILABLE


class Daemons:
    """The daemons. They are restarted when they end, unless tests hold them."""

    def __init__(self, commands: dict[str, list[str]]) -> None:
        self._commands = commands
        self._pids: dict[str, int] = {}

    def start(self, *names: str) -> None:
        """Start daemons and tend them from now on."""
        for name in names:
            output = (
                os.POSIX_SPAWN_OPEN,
                1,
                str(STATE / "log" / f"{name}.log"),
                os.O_WRONLY | os.O_CREAT | os.O_APPEND,
                0o644,
            )
            actions = [output, (os.POSIX_SPAWN_DUP2, 1, 2)]
            self._pids[name] = os.posix_spawnp(
                self._commands[name][0], self._commands[name], os.environ, file_actions=actions
            )

    def tend(self) -> None:
        """Reap processes that ended, stop daemons that are held, and start those that are not."""
        held = {path.name for path in (STATE / "held").iterdir()}
        with suppress(ChildProcessError):
            while (pid := os.waitpid(-1, os.WNOHANG)[0]) != 0:
                self._pids |= {name: 0 for name, own in self._pids.items() if own == pid}
        for name, pid in self._pids.items():
            if pid and name in held:
                os.kill(pid, signal.SIGKILL)
            elif not pid and name not in held:
                self.start(name)


def _mount_cgroups() -> None:
    """Mount the controllers of cgroups version 1, each at the group of this process."""
    _run("umount", "--recursive", str(CGROUPS))
    _run("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", str(CGROUPS))
    for name in CONTROLLERS:
        (CGROUPS / name).mkdir()
        _run("mount", "-t", "cgroup", "-o", name, "cgroup", str(CGROUPS / name))
    (CGROUPS / "systemd").mkdir()
    _run("mount", "-t", "cgroup", "-o", "none,name=systemd", "cgroup", str(CGROUPS / "systemd"))
    _remove_groups()


def _remove_groups() -> None:
    """Remove the groups of pods, which outlive their processes."""
    for group in (group for name in ("kubepods", "k8s.io") for group in CGROUPS.glob(f"*/{name}")):
        for place, _, _ in os.walk(group, topdown=False):
            with suppress(OSError):
                Path(place).rmdir()


def _hide_the_machine() -> None:
    for name, value in SYSCTLS.items():
        _show(f"/proc/sys/{name}", value)
    _run("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run")
    Path("/run/lock").mkdir()
    _show("/etc/hosts", f"127.0.0.1 localhost {NAME}\n")
    sources = STATE / "files" / "sources.list.d"
    sources.mkdir(parents=True)
    for place, suites in (("debian", "bookworm bookworm-updates"), ("debian-security", "bookworm-security")):
        text = SOURCES.format(address=ADDRESS, port=MIRROR_PORT, place=place, suites=suites)
        (sources / f"{place}.sources").write_text(text)
    _run("mount", "--bind", str(sources), "/etc/apt/sources.list.d")
    if Path("/etc/apt/sources.list").exists():
        _show("/etc/apt/sources.list", "")
    # Containers must see the volumes that the kubelet mounts.
    _run("mount", "--make-rshared", "/")


def _show(path: str, text: str) -> None:
    """Mount a file with this text over a file of the machine."""
    file = STATE / "files" / path.replace("/", "_")
    file.parent.mkdir(exist_ok=True)
    file.write_text(text)
    _run("mount", "--bind", str(file), path)


def _make_network() -> None:
    """Create a bridge as the network card of the node."""
    _run("ip", "link", "set", "lo", "up")
    _run("ip", "link", "add", "node0", "type", "bridge")
    _run("ip", "address", "add", f"{ADDRESS}/24", "dev", "node0")
    _run("ip", "link", "set", "node0", "up")
    _run("ip", "route", "add", "default", "via", ADDRESS, "dev", "node0")
    for name in ("ip_forward", "conf/all/route_localnet"):
        Path(f"/proc/sys/net/ipv4/{name}").write_text("1")
    Path("/proc/sys/net/bridge/bridge-nf-call-iptables").write_text("1")


def _wait(ready: Callable[[], bool], daemons: Daemons) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not ready():
        if time.monotonic() > deadline:
            raise TimeoutError(f"the node is not ready; see {STATE}/log")
        daemons.tend()
        time.sleep(0.5)


def _answers() -> bool:
    try:
        return httpx.get(f"{API}/readyz", verify=str(STATE / "pki/ca.pem")).text == "ok"
    except httpx.HTTPError:
        return False


def _is_ready() -> bool:
    """Whether the node accepts pods and a namespace has its service account."""
    return _says(
        "get", "node", NAME, "--output", "jsonpath={.status.conditions[?(@.type=='Ready')].status}"
    ) == "True" and (_says("get", "serviceaccount", "default", "--output", "name") != "")


def _says(*question: str) -> str:
    command = [str(PROGRAMS / "kubectl"), f"--kubeconfig={STATE}/admin.conf", *question]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def _run(*command: str) -> None:
    subprocess.run(command, check=True)


def _end(*_: object) -> None:
    """End all other processes, so that their groups can be removed."""
    os.kill(-1, signal.SIGKILL)
    with suppress(ChildProcessError):
        while True:
            os.wait()
    _remove_groups()
    os._exit(0)


if __name__ == "__main__":
    main()
