"""The box: what root in it sees and may do, and that nothing else of the host can be read or changed."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ims.sandbox import box
from ims.sandbox.view import View
from tests.sandbox.scripts import run_in_box

pytestmark = pytest.mark.system

SECRET = "the host's secret"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder that the box may write to."""
    path = tmp_path / "workspace"
    path.mkdir()
    return path


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A file of the host that nobody in the box must read or change."""
    path = tmp_path / "secret"
    path.write_text(SECRET)
    return path


@pytest.fixture
def abstract() -> Iterator[str]:
    """The name of an abstract socket of the host that accepts connections."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(f"\0ims-test-{os.getpid()}")
        listening.listen()
        yield listening.getsockname()[1:].decode()


def test_root_of_the_box_does_what_package_managers_do(folder: Path) -> None:
    """Files get their true owners, modes and capabilities on the disk."""
    script = """
        touch plain owned; chown 12:34 owned; chmod 4755 owned
        cp /usr/bin/true capable; setcap cap_net_raw+ep capable
        mkdir mounted && mount -t tmpfs tmpfs mounted && touch mounted/x && umount mounted
        chroot / true && echo gone > /dev/null && useradd -R / nobody2 2>/dev/null; id -u
    """
    code, output = run_in_box(folder, script)
    assert (code, output.split()[-1]) == (0, "0"), output
    assert (folder / "plain").stat().st_uid == 0
    owned = (folder / "owned").stat()
    assert (owned.st_uid, owned.st_gid, owned.st_mode & 0o7777) == (12, 34, 0o4755)
    assert os.getxattr(folder / "capable", "security.capability")[:1] == b"\x01"
    assert len(os.getxattr(folder / "capable", "security.capability")) == 20, "not of the host's format"


CALL = "python3 -c 'import ctypes; exit(ctypes.CDLL(None).syscall({}) < 0)'"
SOCKET = "python3 -c 'import socket; socket.socket({})'"
# exit(20), which is getpid for programs of 32 bits: mov eax, 20; int 0x80; ret
OLD_CALL = """python3 -c '
import ctypes, mmap
code = mmap.mmap(-1, 4096, prot=7)
code.write(bytes.fromhex("b814000000cd80c3"))
exit(ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(code)))() < 0)
'"""
ATTACKS = {
    "files of the host": "cat {secret}",
    "root of the first process": "cat /proc/1/root{secret} || chroot /proc/1/root cat {secret}",
    "roots of all processes": "for p in /proc/[0-9]*; do cat $p/root{secret} $p/cwd/../secret; done 2>/dev/null; false",
    "chroot breakout": (
        'python3 -c \'import os; os.mkdir("d"); os.chroot("d"); [os.chdir("..") for _ in range(99)]; '
        'os.chroot("."); print(open("{secret}").read())\''
    ),
    "parent of the workspace": "cat ../secret || ls ../secret",
    "unmount the programs": "umount /usr || umount -l /usr || umount -f /proc || umount /sys || umount .",
    "make the programs writable": "mount -o remount,rw /usr && touch /usr/attacked",
    "make programs set-id": "cp /usr/bin/id /usr/bin/id2",
    "a second bind of programs": "mkdir u && mount --bind /usr u && mount -o remount,bind,rw,dev,suid u && touch u/x",
    "devices in a new bind": "mkdir u && mount --bind . u && mount -o remount,bind,dev u",
    "a new proc": "mkdir m && mount -t proc proc m",
    "a new sysfs": "mkdir m && mount -t sysfs sysfs m",
    "a new control group": "mkdir m && (mount -t cgroup2 none m || mount -t cgroup -o memory none m)",
    "a devtmpfs": "mkdir m && mount -t devtmpfs devtmpfs m",
    "a debugfs": "mkdir m && (mount -t debugfs none m || mount -t tracefs none m || mount -t securityfs none m)",
    "a file system in a file": "truncate -s 9M f && mkfs.ext4 -qF f && mkdir m && mount -o loop f m",
    "a block device": "mknod disk b 254 0 && head -c 1 disk",
    "memory": "mknod memory c 1 1 && head -c 1 memory",
    "user namespaces": "unshare -U true || unshare -Ur true",
    "other namespaces": "unshare -n true || unshare -pf true || unshare -u true || unshare -i true || unshare -C true",
    "the first process's namespaces": "nsenter -t 1 -m cat {secret} && nsenter -t 1 -U true",
    "core pattern": "echo '|/bin/sh' > /proc/sys/kernel/core_pattern",
    "sysrq": "echo b > /proc/sysrq-trigger",
    "kernel parameters": "echo 1 > /proc/sys/vm/drop_caches || sysctl -w kernel.panic=1 || echo 1 > /sys/power/state",
    "kernel memory": "head -c 1 /proc/kcore",
    "kernel log": "dmesg",
    "kernel keys": 'python3 -c \'import ctypes; exit(ctypes.CDLL(None).syscall(248, b"user", b"x", b"y", 1, -4) < 0)\'',
    "bpf": CALL.format("321, 0, None, 0"),
    "io_uring": CALL.format('425, 1, b"\\\\0" * 120'),
    "userfaultfd": CALL.format("323, 1"),
    "performance counters": CALL.format('298, b"\\\\0" * 120, 0, -1, -1, 0'),
    "handles of files": CALL.format('304, -100, b"\\\\0" * 99, 0'),
    "ptrace": "python3 -c 'import ctypes; exit(ctypes.CDLL(None).ptrace(0, 0, 0, 0) < 0)'",
    "modules": CALL.format('313, 0, b"", 0'),
    "the clock": "date -s 2000-01-01",
    "restart": "python3 -c 'import ctypes; exit(ctypes.CDLL(None).reboot(0x1234567) < 0)'",
    "packet sockets": SOCKET.format("17, socket.SOCK_RAW"),
    "crypto sockets": SOCKET.format("38, socket.SOCK_SEQPACKET"),
    "virtual machine sockets": SOCKET.format("40, socket.SOCK_STREAM"),
    "addresses of the host": "ip link add d0 type dummy || ip addr add 192.0.2.1/24 dev lo",
    "the host's name": 'test "$(hostname)" = {hostname}',
    "kill processes of the host": "kill -9 {pid}",
    "programs of 32 bits": OLD_CALL,
    "priorities": "chrt -f 50 true || renice -n -20 -p 1",
    "limits": "prlimit --nofile=9999999 true",
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_attack_fails(folder: Path, secret: Path, attack: str) -> None:
    """The attack ends with an error, and nothing of the host is shown or changed."""
    pattern = Path("/proc/sys/kernel/core_pattern").read_text()
    script = ATTACKS[attack].replace("{secret}", str(secret)).replace("{pid}", str(os.getpid()))
    code, output = run_in_box(folder, script.replace("{hostname}", socket.gethostname()))
    assert code != 0, output
    assert "command not found" not in output, "the machine lacks the program that the attack needs"
    assert SECRET not in output
    assert secret.read_text() == SECRET
    assert Path("/proc/sys/kernel/core_pattern").read_text() == pattern


def test_what_is_seen_of_the_host(folder: Path, secret: Path) -> None:
    """Programs and a few files of /etc. No accounts' passwords, no data, no other processes, no disks."""
    code, output = run_in_box(folder, "find / -xdev -path /proc -prune -o -print; ls /dev; ps -e | wc -l")
    assert code == 0
    seen = set(output.splitlines())
    assert "/etc/passwd" in seen
    assert "/etc/shadow" not in seen
    assert not {name for name in seen if name.startswith(("/home/", "/boot", "/etc/ssh", "/var/lib/ims"))}
    assert str(secret) not in seen
    assert not {name for name in seen if name.startswith(("vd", "sd", "loop", "mem", "kmsg", "fuse", "kvm"))}
    assert int(output.splitlines()[-1]) < 10


def test_boxes_have_different_users(folder: Path) -> None:
    """Two boxes at the same time are different users for the kernel."""
    processes = [_start(folder, "cat /proc/self/uid_map; sleep 60") for _ in range(2)]
    try:
        firsts = {process.stdout.readline().split()[1] for process in processes if process.stdout is not None}
    finally:
        for process in processes:
            process.kill()
            process.wait()
    assert len(firsts) == 2
    assert all(int(first) >= 0x80000000 for first in firsts)


def test_killed_box_leaves_nothing(folder: Path) -> None:
    """All its processes end with the process that made it, whatever they ignore."""
    process = _start(folder, "trap '' TERM HUP INT; (while :; do echo x >> alive; sleep 0.05; done) & echo up; wait")
    assert process.stdout is not None
    assert process.stdout.readline() == b"up\n"
    time.sleep(0.3)
    process.kill()
    process.wait()
    time.sleep(0.3)
    size = (folder / "alive").stat().st_size
    assert size > 0
    time.sleep(0.3)
    assert (folder / "alive").stat().st_size == size


def test_exit_code_and_signal_are_those_of_the_program(folder: Path) -> None:
    """A box ends like the program in it."""
    assert run_in_box(folder, "exit 42")[0] == 42
    # The first process of a PID namespace is safe from most signals of its own.
    assert run_in_box(folder, "bash -c 'kill -9 $$'; exit $?")[0] == 128 + signal.SIGKILL


def test_hidden_and_fixed_parts_of_a_folder(folder: Path) -> None:
    """A hidden folder appears empty, a readable one cannot be changed, replaced or unmounted."""
    for name in ("hidden", "fixed"):
        (folder / name).mkdir()
        (folder / name / "file").write_text(name)
    view = View((folder,), readable=(folder / "fixed",), hidden=(folder / "hidden",))
    script = """
        ls hidden/ | wc -l; cat fixed/file; echo
        for name in hidden fixed; do
            rm -rf $name; mv $name other; umount $name; umount -l $name; mount -o remount,rw $name; touch $name/new
        done; true
    """
    done = subprocess.run(
        box.command(view, ["bash", "-c", script]), cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.stdout.split()[:2] == ["0", "fixed"]
    assert {path.name for path in folder.rglob("*")} == {"hidden", "fixed", "file"}
    assert (folder / "hidden/file").read_text() == "hidden"


def _start(folder: Path, script: str) -> subprocess.Popen[bytes]:
    command = box.command(View((folder,)), ["bash", "-c", script])
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE)
