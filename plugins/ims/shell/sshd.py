"""The SSH server of one shell: only public keys, only root, a host key of its own, no forwarding."""

from __future__ import annotations

import errno
import shlex
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ims.errors import ConfigurationError, ImsError, InputError, UnavailableError
from ims.files import replacing
from ims.sandbox.limits import Limits, control_groups
from ims.shell import paths, sessions

SSHD = "/usr/sbin/sshd"
KEY_TYPES = ("ssh-", "ecdsa-", "sk-")
_AUTHORIZED_KEYS = paths.PRIVATE / "authorized_keys"
_CONFIG = paths.PRIVATE / "sshd_config"
_START_TIMEOUT = 10.0
LIMITS = Limits(processes=256)
"""Of the server: a process for each session, two for each connection. The box of the sessions has limits of its own."""

_CONFIG_LINES = """\
AuthenticationMethods publickey
AllowUsers root
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
# Disables the forwarding of agents, ports, sockets and X11. Tunnels have a separate option.
DisableForwarding yes
PermitTunnel no
PermitUserEnvironment no
PermitUserRC no
PrintMotd no
PrintLastLog no
PidFile none
UseDNS no
LogLevel INFO
LoginGraceTime 30
# An agent may offer many keys before it offers the right one.
MaxAuthTries 20
MaxSessions 100
MaxStartups 100
# Disconnects clients that have not answered for two minutes.
ClientAliveInterval 30
ClientAliveCountMax 4
"""


def make_key(key: Path) -> str:
    """Make a key pair unless it exists; returns its fingerprint, `SHA256:…`."""
    if not key.exists():
        with replacing(key) as partial:
            _run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(partial))
            Path(f"{partial}.pub").replace(f"{key}.pub")
    return _run("ssh-keygen", "-l", "-E", "sha256", "-f", str(key)).split()[1]


def free_port(host: str) -> int:
    """A port of an address on which nothing listens at the moment."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def is_free(host: str, port: int) -> bool:
    """Whether nothing listens on a port of an address at the moment. Raises OSError if nothing can listen there."""
    try:
        _bind(host, port)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        return False
    return True


def configure(host: str, port: int, host_key: Path, public_key: str) -> None:
    """Write the configuration. Every login with `public_key` starts a session, whatever the client asks for.

    Raises InputError if `public_key` is not a public key.
    """
    key = public_key.strip()
    if not key.isprintable() or not key.startswith(KEY_TYPES):
        raise InputError("the public key is not one line of an OpenSSH public key", "Give the contents of a .pub file")
    _AUTHORIZED_KEYS.write_text(key + "\n")
    _CONFIG.write_text(
        f"ListenAddress {host}\nPort {port}\n"
        f'HostKey "{host_key}"\nAuthorizedKeysFile {_AUTHORIZED_KEYS}\n'
        f"{_CONFIG_LINES}"
        f"Subsystem sftp {paths.SFTP_SERVER}\n"
        f"ForceCommand exec {shlex.join(sessions.COMMAND)}\n"
    )


@contextmanager
def serving(host: str, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """Start sshd and wait until it answers; yields its process. At the end, all its processes are killed.

    Its users can start as many processes of the host as `LIMITS` allows. Raises the errors of `start`.
    """
    with control_groups(LIMITS) as groups:
        server = start(host, port)
        try:
            for group in groups:
                group.write_text(str(server.pid))
            yield server
        finally:
            server.kill()


def start(host: str, port: int) -> subprocess.Popen[bytes]:
    """Start sshd and wait until it answers.

    Raises UnavailableError if the port is in use, ConfigurationError if sshd is not installed, and ImsError if sshd
    does not start.
    """
    address, family = _resolve(host, port)
    try:
        _bind(host, port)
    except OSError as error:
        raise UnavailableError(f"the shell cannot listen on {host} port {port}: {error.strerror}") from None
    try:
        process = subprocess.Popen([SSHD, "-D", "-e", "-f", str(_CONFIG)], stdin=subprocess.DEVNULL)
    except FileNotFoundError:
        raise ConfigurationError(f"there is no {SSHD}", "Install openssh-server") from None
    deadline = time.monotonic() + _START_TIMEOUT
    while not _answers(address, family):
        if process.poll() is not None or time.monotonic() > deadline:
            raise ImsError(f"sshd does not answer on {host} port {port}", "See its messages in the log above")
        time.sleep(0.02)
    return process


def await_answer(host: str, port: int, seconds: float) -> None:
    """Wait until an SSH server answers, but at most about `seconds`: it may not be reachable from this host."""
    deadline = time.monotonic() + seconds
    with suppress(ConfigurationError):
        address, family = _resolve(host, port)
        while not _answers(address, family) and time.monotonic() < deadline:
            time.sleep(0.2)


def _resolve(host: str, port: int) -> tuple[tuple[str, int], socket.AddressFamily]:
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise ConfigurationError(
            f"{host} is not an address of this machine: {error}", "Set IMS_HOST to an address of this machine"
        ) from None
    return (str(address[0]), port), family


def _bind(host: str, port: int) -> None:
    """Bind to a port, and release it at once. Raises OSError if that is not possible."""
    address, family = _resolve(host, port)
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(address)


def _answers(address: tuple[str, int], family: socket.AddressFamily) -> bool:
    with socket.socket(family) as probe:
        probe.settimeout(5)
        try:
            probe.connect(address)
            return probe.recv(4) == b"SSH-"
        except OSError:
            return False


def command(host: str, port: int, alias: str) -> str:
    """The command with which the user logs in.

    A later shell may use the same port with another host key. ssh therefore remembers the host key under `alias`.
    """
    reachable = socket.getfqdn() if host in ("0.0.0.0", "::") else host  # noqa: S104
    return shlex.join(["ssh", "-p", str(port), "-o", f"HostKeyAlias={alias}", f"root@{reachable}"])


def _run(*arguments: str) -> str:
    try:
        return subprocess.run(arguments, capture_output=True, text=True, check=True).stdout
    except subprocess.CalledProcessError as error:
        raise ImsError(f"{arguments[0]} failed: {error.stderr.strip()}") from None
