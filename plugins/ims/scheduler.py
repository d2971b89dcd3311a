"""`python -m ims.scheduler`: Airflow's scheduler, which has already imported what every task needs.

The LocalExecutor forks the process of each task from the scheduler. A task that had to import Airflow's operators, the
workflows and the S3 client itself would need more processor time for that than for most of its work.
"""

from __future__ import annotations

import sys

from airflow.__main__ import main
from airflow.dag_processing.dagbag import DagBag

from ims.runtime.local import fork_server
from ims.runtime.local.process import step_environment
from ims.storage import clients


def preload() -> None:
    """Import the modules of all workflows, and those that operators import only when they run."""
    import airflow.providers.amazon.aws.hooks.base_aws
    import airflow.sdk.execution_time.task_runner  # noqa: F401

    clients.preload()
    DagBag(load_op_links=False)


if __name__ == "__main__":
    fork_server.start(step_environment())
    preload()
    sys.argv = ["airflow", "scheduler", "-s"]
    main()
