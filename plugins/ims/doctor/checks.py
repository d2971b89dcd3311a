"""The table of checks. A new check is a function and a line here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass

from ims.doctor import cluster, installation, machine, s3
from ims.doctor.finding import Finding, missing
from ims.errors import ImsError
from ims.settings import Settings


@dataclass(frozen=True)
class Check:
    """A check, and the runtime in which it matters; None means in all."""

    name: str
    run: Callable[[Settings], Finding]
    runtime: str | None = None


CHECKS = (
    Check("kernel", machine.kernel, "local"),
    Check("user namespaces", machine.user_namespaces, "local"),
    Check("idmapped mounts", machine.idmapped_mounts, "local"),
    Check("overlay", machine.overlay, "local"),
    Check("squashfs", machine.squashfs, "local"),
    Check("loop devices", machine.loop_devices, "local"),
    Check("tun", machine.tun, "local"),
    Check("sandbox", machine.sandbox, "local"),
    Check("cgroups", machine.cgroups, "local"),
    Check("programs", machine.programs, "local"),
    Check("home", installation.home, "local"),
    Check("disk", installation.disk, "local"),
    Check("CA certificate", installation.ca_certificate),
    Check("API", installation.api, "local"),
    Check("images", installation.images, "local"),
    Check("S3", s3.reachable),
    Check("S3 rights", s3.rights),
    Check("S3 rights of steps", s3.rights_of_steps),
    Check("S3 session tokens", s3.session_tokens),
    Check("S3 internal ports", s3.internal_ports),
    Check("clock", s3.clock),
    Check("Kubernetes", cluster.version, "kubernetes"),
    Check("Kubernetes storage class", cluster.storage_class, "kubernetes"),
    Check("Kubernetes rights", cluster.rights, "kubernetes"),
)


def examine(settings: Settings) -> Iterator[dict[str, str]]:
    """Runs every check that matters here; yields check, status, value and next_step. No check stops the others."""
    for check in CHECKS:
        if check.runtime in (None, settings.runtime):
            yield {"check": check.name, **asdict(_finding(check, settings))}


def _finding(check: Check, settings: Settings) -> Finding:
    try:
        return check.run(settings)
    except ImsError as error:
        return missing(error.reason, error.hint)
    except OSError as error:
        return missing(str(error), "Run ims doctor on the machine of the service, as root")
