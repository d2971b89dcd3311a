"""A small RPM repository, built in one or two seconds, and a server that simulates faults.

rpmbuild builds the packages, createrepo_c their index. The packages contain just enough to build an image with
kiwi-ng and the package managers (a static busybox, a trust store, a fake kernel), so the flow tests need no mirror.
`build_stand_in` does the same for a recipe of a real distribution: it reads the package names and the repository
paths of the recipe, and builds a tree that replaces the Nexus of the recipe.
"""

from __future__ import annotations

import gzip
import ipaddress
import os
import shutil
import ssl
import stat
import tempfile
import threading
import time
from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from lxml import etree

from tests.running import quietly

TOOLS = ("rpmbuild", "createrepo_c", "busybox")
KERNEL_VERSION = "6.4.0-150600.21-default"
# The programs that zypper runs, and those with which update-ca-certificates makes the hashed links for libzypp.
PACKAGE_MANAGERS = ("zypper", "rpm", "rpmdb", "rpmkeys", "repo2solv", "rpmdb2solv", "openssl")

# Applets that kiwi would mistake for the real programs.
_NOT_APPLETS = frozenset({"busybox", "dpkg", "dpkg-deb", "linuxrc", "rpm", "rpm2cpio"})

_UPDATE_CA = """#!/bin/sh
# Every anchor of every distribution's folders into every distribution's bundle.
set -e
mkdir -p /var/lib/ca-certificates /etc/ssl/certs /etc/pki/tls/certs
bundle=/var/lib/ca-certificates/ca-bundle.pem
: > $bundle
for anchor in /usr/share/pki/trust/anchors/* /etc/pki/trust/anchors/* /etc/pki/ca-trust/source/anchors/* \\
    /usr/share/pki/ca-trust-source/anchors/* /usr/local/share/ca-certificates/*.crt; do
    [ -f "$anchor" ] || continue
    cat "$anchor" >> $bundle
    cp "$anchor" "/etc/ssl/certs/$(basename "$anchor").pem"
done
ln -sf $bundle /etc/ssl/ca-bundle.pem
ln -sf $bundle /etc/ssl/certs/ca-bundle.pem
ln -sf $bundle /etc/ssl/certs/ca-certificates.crt
ln -sf $bundle /etc/pki/tls/certs/ca-bundle.crt
[ ! -x /usr/bin/openssl ] || /usr/bin/openssl rehash /etc/ssl/certs
"""

_DRACUT = """#!/bin/sh
# Stands in for dracut: an initrd that holds a busybox, at the first absolute path among the arguments.
set -e
for argument; do
    case "$argument" in /*) image=$argument; break;; esac
done
: "${image:?no image named}"
cd / && echo usr/bin/busybox | cpio -o -H newc | gzip -1 > "$image"
"""


class MissingToolError(RuntimeError):
    """A program that builds the repository is not installed on this machine."""


@dataclass(frozen=True)
class Package:
    """The content of an RPM. Paths are absolute, as in the image."""

    name: str
    version: str = "1.0"
    release: str = "1"
    files: Mapping[str, bytes | Path] = field(default_factory=dict)
    programs: Mapping[str, bytes | Path] = field(default_factory=dict)
    links: Mapping[str, str] = field(default_factory=dict)
    directories: Mapping[str, int] = field(default_factory=dict)
    provides: Sequence[str] = ()
    requires: Sequence[str] = ()
    post: str = ""

    def spec(self) -> str:
        """Return the part of the spec file for this package."""
        head = [f"%package -n {self.name}", f"Version: {self.version}", f"Release: {self.release}"]
        head += ["Summary: For tests", "AutoReqProv: no"]
        head += [f"Provides: {item}" for item in self.provides]
        head += [f"Requires: {item}" for item in self.requires]
        body = [f"%description -n {self.name}", f"The {self.name} package of the flow tests."]
        post = [f"%post -n {self.name}", self.post] if self.post else []
        paths = [f"%dir {path}" for path in self.directories]
        paths += [*self.files, *self.programs, *self.links]
        return "\n".join([*head, *body, *post, f"%files -n {self.name}", "%defattr(-,root,root)", *paths, ""])

    def stage(self, root: Path) -> None:
        """Write the files below the build root."""
        for path, mode in self.directories.items():
            _below(root, path).mkdir(parents=True, exist_ok=True)
            _below(root, path).chmod(mode)
        for mode, contents in ((0o644, self.files), (0o755, self.programs)):
            for path, content in contents.items():
                target = _below(root, path)
                target.parent.mkdir(parents=True, exist_ok=True)
                if isinstance(content, Path):
                    shutil.copyfile(content, target)
                else:
                    target.write_bytes(content)
                target.chmod(mode)
        for path, destination in self.links.items():
            _below(root, path).parent.mkdir(parents=True, exist_ok=True)
            _below(root, path).symlink_to(destination)


def basic_packages() -> list[Package]:
    """Return the packages of the smallest test system: about 2 MB with busybox, a trust store and a kernel."""
    return [_filesystem(), _busybox(), _ca_certificates(), kernel()]


def build_repository(dest: Path, packages: Iterable[Package] | None = None) -> Path:
    """Build the packages and their index below dest; returns the folder to serve."""
    require_tools()
    wanted = list(basic_packages() if packages is None else packages)
    dest.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=dest.parent, prefix=".rpmbuild-") as folder:
        work = Path(folder)
        stage = work / "stage"
        stage.mkdir(mode=0o755)
        for package in wanted:
            package.stage(stage)
        spec = work / "tests.spec"
        spec.write_text(_spec(wanted, stage))
        quietly(["rpmbuild", "-bb", "--quiet", "--nodeps", *_defines(work, dest), str(spec)])
    quietly(["createrepo_c", "--quiet", "--general-compress-type=gz", str(dest)])
    return dest


def build_stand_in(dest: Path, description: Path) -> Path:
    """Build the repositories that a rendered recipe needs; returns a folder to serve in place of their host.

    Every package the recipe names exists: as the real programs of this machine for the package manager, as a
    small imitation for the kernel, dracut and the trust store, and as an empty package for the rest.
    """
    require_tools(*PACKAGE_MANAGERS)
    recipe = etree.parse(description / "config.xml", etree.XMLParser(resolve_entities=False, no_network=True))
    packages = [_filesystem(), _busybox(), _ca_certificates(), kernel(initrd=False), _dracut()]
    packages.append(_package_manager())
    names = {str(element.get("name")) for element in recipe.iterfind(".//packages/package")}
    empty = names - {package.name for package in packages}
    packages += [Package(name, requires=("busybox",)) for name in sorted(empty)]
    repository = build_repository(dest / ".packages", packages)
    for source in recipe.iterfind("repository/source"):
        place = dest / urlsplit(str(source.get("path"))).path.strip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(repository.resolve(), target_is_directory=True)
    return dest


def require_tools(*more: str) -> None:
    """Raise MissingToolError with what must be installed, before anything is built."""
    missing = [tool for tool in (*TOOLS, *more) if shutil.which(tool) is None]
    if missing:
        hint = "apt-get install rpm createrepo-c busybox-static zypper libsolv-tools openssl"
        raise MissingToolError(f"not installed: {', '.join(missing)} ({hint})")


def kernel(version: str = KERNEL_VERSION, *, initrd: bool = True) -> Package:
    """Return a kernel-default with the files and links of the real one. Its vmlinuz has a magic number and no code."""
    image = bytearray(64 * 1024)
    image[0x1FE:0x200] = b"\x55\xaa"
    image[0x202:0x206] = b"HdrS"
    files: dict[str, bytes | Path] = {
        f"/boot/vmlinuz-{version}": bytes(image),
        f"/usr/lib/modules/{version}/modules.dep": b"",
    }
    links = {"/boot/vmlinuz": f"vmlinuz-{version}"}
    if initrd:
        files[f"/boot/initrd-{version}"] = _initrd()
        links["/boot/initrd"] = f"initrd-{version}"
    number, release = version.removesuffix("-default").split("-")
    return Package("kernel-default", number, release, files=files, links=links, requires=("filesystem",))


def _filesystem() -> Package:
    usual = "boot dev etc home mnt opt proc run srv sys usr usr/bin usr/lib usr/lib64 usr/sbin usr/share var"
    modes = {f"/{name}": 0o755 for name in (*usual.split(), "var/cache", "var/lib", "var/log")}
    modes |= {"/tmp": 0o1777, "/var/tmp": 0o1777, "/root": 0o700}
    etc: dict[str, bytes | Path] = {
        "/etc/passwd": b"root:x:0:0:root:/root:/bin/bash\n",
        "/etc/group": b"root:x:0:\nshadow:x:15:\n",
        "/etc/shadow": b"root:*:20000::::::\n",
        "/etc/os-release": b'NAME="Flow test"\nID=flow-test\nVERSION_ID="1"\nPRETTY_NAME="Flow test 1"\n',
    }
    merged = {f"/{name}": f"usr/{name}" for name in ("bin", "lib", "lib64", "sbin")}
    return Package("filesystem", files=etc, links=merged, directories=modes)


def _busybox() -> Package:
    busybox = Path(shutil.which("busybox") or "/bin/busybox")
    applets = [name for name in quietly([str(busybox), "--list"]).split() if name not in _NOT_APPLETS]
    programs: dict[str, bytes | Path] = {
        "/usr/bin/busybox": busybox,
        "/usr/bin/bash": b'#!/usr/bin/busybox ash\nexec /usr/bin/busybox ash "$@"\n',
    }
    links = {f"/usr/bin/{applet}": "busybox" for applet in applets}
    provides = ("/bin/sh", "/bin/bash", "/usr/bin/sh", "/usr/bin/bash", "bash", "coreutils")
    return Package("busybox", programs=programs, links=links, provides=provides, requires=("filesystem",))


def _ca_certificates() -> Package:
    anchors = ("/usr/share/pki/trust/anchors", "/etc/pki/trust/anchors", "/etc/pki/ca-trust/source/anchors")
    return Package(
        "ca-certificates",
        programs={"/usr/sbin/update-ca-certificates": _UPDATE_CA.encode()},
        links={"/usr/sbin/update-ca-trust": "update-ca-certificates"},
        directories=dict.fromkeys((*anchors, "/etc/ssl", "/etc/ssl/certs"), 0o755),
        requires=("busybox",),
        post="/usr/sbin/update-ca-certificates",
    )


def _dracut() -> Package:
    return Package("dracut", programs={"/usr/bin/dracut": _DRACUT.encode()}, requires=("busybox",))


def _package_manager() -> Package:
    """Return zypper and rpm of this machine with their libraries, so that kiwi's second phase uses real programs."""
    found = [Path(shutil.which(name) or name) for name in PACKAGE_MANAGERS]
    linked = quietly(["ldd", *map(str, found)]).split()
    libraries = sorted({word for word in linked if word.startswith("/") and not word.endswith(":")})
    programs: dict[str, bytes | Path] = {f"/usr/bin/{path.name}": path.resolve() for path in found}
    programs |= {_merged(path): Path(path).resolve() for path in libraries}
    settings = [path for path in Path("/usr/lib/rpm").rglob("*") if path.name in ("macros", "rpmrc")]
    files: dict[str, bytes | Path] = {str(path): path for path in settings}
    files["/etc/rpm/macros"] = b"%_dbpath /var/lib/rpm\n"
    provides = ("rpm", "openssl", "libzypp")
    return Package("zypper", programs=programs, files=files, provides=provides, requires=("busybox",))


def _merged(path: str) -> str:
    """Return the path of a library in an image whose /lib and /lib64 are links into /usr."""
    return path if path.startswith("/usr/") else f"/usr{path}"


def _initrd() -> bytes:
    """Return a gzipped newc archive with one script."""
    script = b"#!/bin/sh\nexec /bin/sh\n"
    entries = ((b"init", stat.S_IFREG | 0o755, script), (b"TRAILER!!!", 0, b""))
    archive = b""
    for inode, (name, mode, content) in enumerate(entries, start=1):
        fields = (inode, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name) + 1, 0)
        archive += _padded(b"070701" + b"".join(b"%08X" % number for number in fields) + name + b"\0")
        archive += _padded(content)
    return gzip.compress(archive, mtime=0)


def _padded(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % 4)


def _below(root: Path, path: str) -> Path:
    return root / path.lstrip("/")


def _spec(packages: Sequence[Package], stage: Path) -> str:
    head = "Name: tests\nVersion: 1.0\nRelease: 1\nSummary: Tests\nLicense: MIT\n%description\nTests.\n"
    install = f"%install\ncp -a {stage}/. %{{buildroot}}/\n"
    return "\n".join([head, *(package.spec() for package in packages), install])


def _defines(work: Path, dest: Path) -> list[str]:
    """Return options of rpmbuild: no compression, no scans of foreign binaries, no files outside the folder."""
    settings = {
        "_topdir": work / "top",
        "_rpmdir": dest,
        "_dbpath": work / "db",
        "_binary_payload": "w0.gzdio",
        "_build_id_links": "none",
        "_unpackaged_files_terminate_build": 0,
        "debug_package": "%{nil}",
        "__os_install_post": "%{nil}",
        "__arch_install_post": "%{nil}",
    }
    return [word for name, value in settings.items() for word in ("--define", f"{name} {value}")]


@dataclass(frozen=True)
class ServerCertificate:
    """A certificate and its key, both PEM files."""

    certificate: Path
    key: Path

    def context(self) -> ssl.SSLContext:
        """Return the TLS settings of a server with this certificate."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, self.key)
        return context


class PrivateCA:
    """The certificate authority of a site. Clients must trust its `certificate`."""

    def __init__(self, dest: Path, name: str = "Flow test CA") -> None:
        dest.mkdir(parents=True, exist_ok=True)
        self._dest = dest
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        usage = x509.KeyUsage(
            digital_signature=True,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            key_cert_sign=True,
            crl_sign=True,
            encipher_only=False,
            decipher_only=False,
        )
        builder = self._builder(self._name, self._key.public_key()).add_extension(usage, critical=True)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        self.certificate = dest / "ca.pem"
        self.certificate.write_bytes(_pem(builder.sign(self._key, hashes.SHA256())))

    def issue(self, host: str, *others: str) -> ServerCertificate:
        """Issue a certificate for names or addresses, for servers and clients."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
        builder = self._builder(subject, key.public_key())
        names = x509.SubjectAlternativeName([_general_name(name) for name in (host, *others)])
        builder = builder.add_extension(names, critical=False)
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        purpose = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
        builder = builder.add_extension(purpose, critical=False)
        issued = ServerCertificate(self._dest / f"{host}.pem", self._dest / f"{host}.key")
        issued.certificate.write_bytes(_pem(builder.sign(self._key, hashes.SHA256())))
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        issued.key.write_bytes(private)
        issued.key.chmod(0o600)
        return issued

    def _builder(self, subject: x509.Name, public_key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(days=2))
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


@dataclass
class Fault:
    """A fault of the server: an error status, or no answer, for some requests or for some time."""

    status: HTTPStatus | None
    under: str = "/"
    requests: int | None = None
    until: float | None = None

    def takes(self, path: str) -> bool:
        """Return whether the fault applies to this request, and count the request if so."""
        if not path.startswith(self.under) or (self.until is not None and time.monotonic() >= self.until):
            return False
        if self.requests is None:
            return True
        self.requests -= 1
        return self.requests >= 0


def address() -> str:
    """Return the address at which builds reach the servers of tests. Pods cannot reach 127.0.0.1."""
    return os.environ.get("IMS_HOST", "127.0.0.1")


class RepositoryServer:
    """Serves a folder on a free port, over https if it has a certificate, and simulates faults.

    `requests` lists the requests, each as "METHOD path status". With a `login`, it refuses all others.
    """

    def __init__(self, folder: Path, certificate: ServerCertificate | None = None, login: str | None = None) -> None:
        self.folder = folder
        self.authorization = login and f"Basic {b64encode(login.encode()).decode()}"
        self.requests: list[str] = []
        self._faults: list[Fault] = []
        self._lock = threading.Lock()
        self._released = threading.Event()
        self._http = _Server(self)
        self._scheme = "http"
        if certificate is not None:
            self._scheme = "https"
            self._http.socket = certificate.context().wrap_socket(
                self._http.socket, server_side=True, do_handshake_on_connect=False
            )
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True)

    @property
    def url(self) -> str:
        """The address of the folder, without a slash at its end."""
        return f"{self._scheme}://{address()}:{self._http.server_port}"

    def fail(
        self,
        status: int = HTTPStatus.SERVICE_UNAVAILABLE,
        *,
        under: str = "/",
        requests: int | None = None,
        seconds: float | None = None,
    ) -> None:
        """Answer with an error below a path: for the first requests, for some seconds, or until `recover`."""
        until = None if seconds is None else time.monotonic() + seconds
        self._add(Fault(HTTPStatus(status), under, requests, until))

    def hang(self, *, under: str = "/", requests: int | None = None) -> None:
        """Accept requests and never answer, until `recover` or the end."""
        self._add(Fault(None, under, requests))

    def recover(self) -> None:
        """End all faults, and close the connections of requests that hang."""
        with self._lock:
            self._faults.clear()
            self._released.set()

    def fault_for(self, path: str) -> Fault | None:
        """Return the first fault that applies to a request."""
        with self._lock:
            return next((fault for fault in self._faults if fault.takes(path)), None)

    def wait_released(self) -> None:
        """Wait until hanging requests are released."""
        self._released.wait()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.recover()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def _add(self, fault: Fault) -> None:
        with self._lock:
            self._released.clear()
            self._faults.append(fault)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, owner: RepositoryServer) -> None:
        super().__init__((address(), 0), _Handler)
        self.owner = owner

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignore clients that close the connection or do not trust the certificate."""


class _Handler(SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 30
    server: _Server

    def __init__(self, request: ssl.SSLSocket, client_address: tuple[str, int], server: _Server) -> None:
        super().__init__(request, client_address, server, directory=os.fspath(server.owner.folder))

    def do_GET(self) -> None:
        if not self._spoiled():
            super().do_GET()

    def do_HEAD(self) -> None:
        if not self._spoiled():
            super().do_HEAD()

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        self.server.owner.requests.append(f"{self.command} {self.path} {int(code)}")

    def log_message(self, _format: str, *args: object) -> None:
        """Log nothing, because `requests` lists the requests."""

    def _spoiled(self) -> bool:
        wanted = self.server.owner.authorization
        if wanted is not None and self.headers["Authorization"] != wanted:
            self.send_response(HTTPStatus.UNAUTHORIZED)
            self.send_header("WWW-Authenticate", 'Basic realm="test"')
            self.send_header("Content-Length", "0")
            self.end_headers()
            return True
        fault = self.server.owner.fault_for(self.path)
        if fault is None:
            return False
        self.close_connection = True
        if fault.status is None:
            self.server.owner.wait_released()
        else:
            self.send_error(fault.status)
        return True
