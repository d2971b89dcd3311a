"""Collects the build inputs of an image that a script or a playbook makes."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

from ims.builder import programs
from ims.builder.inputs import certificate_digest
from ims.files import file_digest
from ims.replays.customization import Customization, Environment, Parameters
from ims.settings import settings
from ims.workspace import Workspace


def environment() -> Environment:
    """What this installation adds to customized images."""
    own = settings()
    return Environment(
        ca_certificate=certificate_digest(own.ca_certificate_path, own.further_ca_files),
        builder={**programs.versions(programs.NO_MANAGER), "ansible-core": version("ansible-core")},
    )


def collect(parent: str, parameters: Parameters, playbook: Path) -> Customization:
    """The build inputs. `parent` identifies the rootfs; `playbook` is read unless the parameters have a script."""
    return Customization(
        parent=parent,
        parameters=parameters,
        playbook=file_digest(playbook) if parameters.script is None else None,
        environment=environment(),
    )


def note(workspace: Workspace, found: Customization) -> None:
    """Keep the build inputs where programs of the job cannot change them."""
    workspace.notes.mkdir(exist_ok=True)
    workspace.customization.write_text(found.model_dump_json())
