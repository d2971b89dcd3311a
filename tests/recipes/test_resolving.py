"""Resolving package requests with the solvers of the package managers, against real repositories."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from ims.recipes.package_request import MissingPackagesError, PackageRequest, Source, UnknownPackagesError
from ims.recipes.resolving import resolve
from tests.flows.deb_repository import SUITE, Deb, write_repository
from tests.flows.rpm_repository import Package, PrivateCA, RepositoryServer, address, build_repository

pytestmark = pytest.mark.system

APT = [
    Deb("base", essential=True),
    Deb("apt", "2.6.1"),
    Deb("tool", "2:1.4-1~rc1", depends="library (>= 1)"),
    Deb("library", "1.1-1"),
    Deb("unrelated"),
]
RPM = [
    Package("tool", version="1.4", requires=("library",)),
    Package("library", version="1.1"),
    Package("unrelated"),
]


def deb_source(url: str) -> Source:
    """An apt repository."""
    return Source(url, f"{url}/dists/{SUITE}/InRelease", 0, SUITE, "main")


def rpm_source(url: str) -> Source:
    """An rpm repository."""
    return Source(url, f"{url}/repodata/repomd.xml", 0, None, "main")


def names(
    request: PackageRequest, folder: Path, bundle: Path = Path("/etc/ssl/certs/ca-certificates.crt")
) -> dict[str, str]:
    """The resolved versions by name."""
    return {package.name: package.version for package in resolve(request, folder, bundle)}


def test_apt(tmp_path: Path) -> None:
    """Essential and requested packages with their dependencies. New versions and other content are noticed."""
    served = tmp_path / "served"
    write_repository(served, APT)
    with RepositoryServer(served) as server:
        request = PackageRequest("apt", (deb_source(server.url),), ("tool",), frozenset(), False)
        first = resolve(request, tmp_path / "indexes", Path("/dev/null"))
        assert {package.name: package.version for package in first} == {
            "base": "1.0-1",
            "apt": "2.6.1",
            "tool": "2:1.4-1~rc1",
            "library": "1.1-1",
        }
        write_repository(served, [*APT[:-1], Deb("unrelated", "2.0-1")])
        assert resolve(request, tmp_path / "indexes", Path("/dev/null")) == first
        write_repository(served, [*APT[:3], Deb("library", "1.2-1")])
        assert names(request, tmp_path / "indexes")["library"] == "1.2-1"
        write_repository(served, [*APT[:3], replace(APT[3], content="built again")])
        again = resolve(request, tmp_path / "indexes", Path("/dev/null"))
        assert [package.version for package in again] == [package.version for package in first]
        assert again != first


@pytest.mark.parametrize("manager", ["zypper", "dnf4"])
def test_rpm(tmp_path: Path, manager: str, private_ca: PrivateCA) -> None:
    """The same with rpm, over https with the site's CA."""
    served = build_repository(tmp_path / "served", RPM)
    with RepositoryServer(served, private_ca.issue(address())) as server:
        request = PackageRequest(manager, (rpm_source(server.url),), ("tool",), frozenset(), False)
        first = resolve(request, tmp_path / "indexes", private_ca.certificate)
        assert {package.name: package.version for package in first} == {"tool": "1.4-1", "library": "1.1-1"}
        build_repository(served, [Package("unrelated", version="2.0")])
        assert resolve(request, tmp_path / "indexes", private_ca.certificate) == first
        build_repository(served, [Package("library", version="1.2")])
        assert names(request, tmp_path / "indexes", private_ca.certificate)["library"] == "1.2-1"


def test_untrusted_server(tmp_path: Path, private_ca: PrivateCA) -> None:
    """A server whose certificate is not trusted is rejected."""
    served = build_repository(tmp_path / "served", RPM[1:2])
    write_repository(served, APT)
    with RepositoryServer(served, private_ca.issue(address())) as server:
        for manager, source in (("apt", deb_source(server.url)), ("dnf4", rpm_source(server.url))):
            request = PackageRequest(manager, (source,), ("library",), frozenset(), False)
            with pytest.raises(UnknownPackagesError, match=r"certificate|All mirrors were tried"):
                names(request, tmp_path / manager)
            assert names(request, tmp_path / manager, private_ca.certificate)["library"]


@pytest.mark.parametrize("manager", ["apt", "dnf4"])
def test_missing_package_or_repository(tmp_path: Path, manager: str) -> None:
    """The error names all packages that no repository has, or states the server's answer."""
    served = build_repository(tmp_path / "served", RPM[1:2])
    write_repository(served, APT)
    with RepositoryServer(served) as server:
        source = deb_source(server.url) if manager == "apt" else rpm_source(server.url)
        wanted = ("nothing-like-it", "library", "nor-this")
        request = PackageRequest(manager, (source,), wanted, frozenset(), False)
        with pytest.raises(MissingPackagesError, match=r"the packages: nothing-like-it, nor-this$"):
            names(request, tmp_path / "indexes")
        server.fail(404)
        with pytest.raises(UnknownPackagesError, match=r"404|All mirrors were tried"):
            names(request, tmp_path / "others")
