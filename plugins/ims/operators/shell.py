"""The tasks that open and close the shell of a job."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk import Context
from airflow.sdk.exceptions import AirflowSkipException

from ims.connections import api_client
from ims.errors import MissingError
from ims.jobs import job_id
from ims.operators.base import ImsOperator, workspace_of
from ims.params.boot_files import default_kernel
from ims.runtime.base import ShellRequest
from ims.runtime.choice import runtime


class StartShellOperator(ImsOperator):
    """Opens an SSH shell on an image and tells the API how to reach it.

    `rootfs` is the squashfs of the image; None for the image root that a build left in the workspace. The task skips
    itself if the build left none. `lease` is in seconds. With `initrd`, the marker `complete` ends the shell only if
    the image has this file and `kernel`, or the default kernel, in /boot.
    """

    template_fields = (
        *ImsOperator.template_fields,
        *("workspace", "arch", "rootfs", "public_key_id", "name", "jail", "network", "lease", "kernel", "initrd"),
    )

    def __init__(
        self,
        *,
        workspace: Any,
        arch: Any,
        rootfs: Any = None,
        public_key_id: Any,
        name: Any,
        jail: Any,
        network: Any = "open",
        lease: Any,
        kernel: Any = None,
        initrd: Any = None,
        **arguments: Any,
    ) -> None:
        super().__init__(**arguments)
        self.workspace = workspace
        self.arch = arch
        self.rootfs = rootfs
        self.public_key_id = public_key_id
        self.name = name
        self.jail = jail
        self.network = network
        self.lease = lease
        self.kernel = kernel
        self.initrd = initrd

    def perform(self, context: Context) -> dict[str, Any]:
        """Returns host, port, fingerprint and the command that logs in."""
        client = api_client()
        shell = self._open(client.record("public-keys", self.public_key_id)["public_key"])
        until = datetime.now(UTC) + timedelta(seconds=self.lease)
        lease = {
            "name": self.name,
            "jail": self.jail,
            "until": until.isoformat(),
            "dag_id": context["dag"].dag_id,
            "dag_run_id": str(context["run_id"]),
        }
        client.call("PUT", f"jobs/{job_id(str(context['run_id']))}/shell", json={**lease, **shell})
        self.log.info("log in with: %s", shell["command"])
        self.log.info("host key: %s; the lease ends at %s", shell["fingerprint"], until.isoformat())
        return shell

    def _open(self, public_key: str) -> dict[str, Any]:
        request = ShellRequest(
            workspace=self.workspace,
            rootfs=self.rootfs,
            public_key=public_key,
            jail=self.jail,
            network=self.network,
            name=self.name,
            arch=self.arch,
            boot=(self.kernel or default_kernel(self.arch), self.initrd) if self.initrd else (),
        )
        try:
            return runtime().open_shell(request).model_dump()
        except MissingError as error:
            raise AirflowSkipException(str(error)) from None


class StopShellOperator(ImsOperator):
    """Ends the shell and all processes in it."""

    def perform(self, context: Context) -> None:
        """Succeeds if there is no shell."""
        runtime().close_shell(workspace_of(context))
        try:
            api_client().delete(f"jobs/{job_id(str(context['run_id']))}/shell")
        except MissingError:
            self.log.info("there was no shell")


def withdraw_request(context: Context) -> None:
    """Record that the shell of a job was not finished, although a user of the API asked for it. Raises ImsError."""
    api_client().delete(f"jobs/{job_id(str(context['run_id']))}/shell/operation")
