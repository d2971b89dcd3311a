"""Opening and closing the shell of a job."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk import BaseOperator, Context
from airflow.sdk.exceptions import AirflowSkipException

from ims.connections import api_client
from ims.errors import MissingError
from ims.jobs import job_id
from ims.operators.base import architecture
from ims.operators.errors import task_errors
from ims.runtime.base import ShellRequest
from ims.runtime.choice import runtime
from ims.settings import settings


class StartShellOperator(BaseOperator):
    """Opens an SSH shell on the image and tells our API how to reach it; without a `rootfs`, on what a build left.

    It is skipped where it is not `wanted`, where one of `instead` does the work, and where the build left nothing.
    """

    template_fields = ("workspace", "rootfs", "public_key_id", "name", "jail", "lease", "wanted", "instead")

    def __init__(
        self,
        *,
        workspace: Any,
        rootfs: Any = None,
        public_key_id: Any,
        name: Any,
        jail: Any,
        lease: Any,
        wanted: Any = True,
        instead: Sequence[Any] = (),
        **arguments: Any,
    ) -> None:
        super().__init__(**arguments)
        self.workspace = workspace
        self.rootfs = rootfs
        self.public_key_id = public_key_id
        self.name = name
        self.jail = jail
        self.lease = lease
        self.wanted = wanted
        self.instead = instead

    def execute(self, context: Context) -> dict[str, Any]:
        """Returns host, port, fingerprint and the command that logs in."""
        if not self.wanted or any(self.instead):
            raise AirflowSkipException("the job does not ask for a shell")
        with task_errors(context):
            client = api_client()
            key = client.record("public-keys", self.public_key_id)["public_key"]
            request = ShellRequest(
                workspace=self.workspace,
                rootfs=self.rootfs,
                public_key=key,
                jail=self.jail,
                name=self.name,
                arch=architecture(context),
            )
            try:
                shell = runtime().open_shell(request).model_dump()
            except MissingError as error:
                raise AirflowSkipException(str(error)) from None
            until = datetime.now(UTC) + timedelta(seconds=self.lease)
            run_url = settings().run_url(context["dag"].dag_id, str(context["run_id"]))
            known = {"name": self.name, "jail": self.jail, "until": until.isoformat(), "run_url": run_url}
            client.call("PUT", f"jobs/{job_id(str(context['run_id']))}/shell", json={**known, **shell})
        self.log.info("log in with: %s", shell["command"])
        self.log.info("host key: %s; the shell stays until %s", shell["fingerprint"], until.isoformat())
        return shell


class StopShellOperator(BaseOperator):
    """Ends the shell and everything that was started in it."""

    def execute(self, context: Context) -> None:
        """Not open is no error."""
        job = job_id(str(context["run_id"]))
        with task_errors(context):
            runtime().close_shell(job)
            try:
                api_client().delete(f"jobs/{job}/shell")
            except MissingError:
                self.log.info("there was no shell")
