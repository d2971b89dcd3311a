"""The packages that a description requests. Descriptions that only kiwi understands are rejected."""

from __future__ import annotations

import pytest

from ims.recipes.expansion.xml import parse
from ims.recipes.package_request import PackageRequest, UnknownPackagesError, read_package_request

HEAD = "<preferences><packagemanager>{manager}</packagemanager></preferences>"
RPM = '<repository type="rpm-md" priority="4"><source path="https://nexus/repo"/></repository>'
DEB = '<repository type="apt-deb" distribution="bookworm" components="main contrib"><source path="http://m/d/"/></repository>'
PACKAGES = '<packages type="image"><package name="bash"/></packages>'


def request_of(body: str, manager: str = "zypper") -> PackageRequest:
    """The request of a description with these elements."""
    text = f"<image>{HEAD.format(manager=manager)}{body}</image>"
    return read_package_request(parse(text.encode(), "config.xml"))


def test_rpm() -> None:
    """All sections that install, and names that are removed again."""
    found = request_of(
        RPM
        + '<packages type="bootstrap"><package name="filesystem"/></packages>'
        + '<packages type="image"><package name="gtk+"/></packages>'
        + '<packages type="delete"><package name="cracklib"/></packages>',
    )
    assert found.packages == ("filesystem", "gtk+")
    assert found.removed == {"cracklib"}
    assert not found.recommended
    (source,) = found.sources
    assert (source.metadata_url, source.priority) == ("https://nexus/repo/repodata/repomd.xml", 4)


def test_apt() -> None:
    """Distributions and components are part of the request."""
    found = request_of(DEB + '<packages type="image" patternType="plusRecommended"/>', "apt")
    (source,) = found.sources
    assert (source.distribution, source.components) == ("bookworm", "main contrib")
    assert found.recommended


DOUBTFUL = {
    "pattern": '<packages type="image"><namedCollection name="base"/></packages>',
    "product": '<packages type="image"><product name="SLES"/></packages>',
    "ignored": '<packages type="image"><ignore name="bash"/></packages>',
    "archive": '<packages type="image"><archive name="more.tar"/></packages>',
    "option": '<packages type="image"><package name="--root=/"/></packages>',
    "removed by a suffix": '<packages type="image"><package name="bash-"/></packages>',
    "capability": '<packages type="image"><package name="perl(Encode)"/></packages>',
    "two pattern types": PACKAGES + '<packages type="bootstrap" patternType="plusRecommended"/>',
    "local": '<repository><source path="dir:///srv/repo"/></repository>',
    "metalink": '<repository sourcetype="metalink"><source path="http://x"/></repository>',
    "script": '<repository customize="x.sh"><source path="http://x"/></repository>',
    "line break": '<repository><source path="http://x/&#10;Trusted: yes"/></repository>',
    "blank": '<repository><source path="http://x/a b"/></repository>',
    "components": '<repository distribution="a&#10;b"><source path="http://x"/></repository>',
    "family": '<repository type="apt-deb"><source path="http://x"/></repository>',
}


@pytest.mark.parametrize("name", DOUBTFUL)
def test_unpredictable_description_is_rejected(name: str) -> None:
    """The result is unknown, or the name could be a hostile option of a package manager."""
    with pytest.raises(UnknownPackagesError):
        request_of(DOUBTFUL[name])
