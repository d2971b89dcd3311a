"""The runtime that the setting `runtime` names.

No other module selects an implementation by this setting. One other module reads it: `ims.api.runs.job_checks` rejects
images of another architecture if the runtime is `local`.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any

from ims.runtime.base import Runtime
from ims.settings import settings


@dataclass(frozen=True)
class RuntimeChoice:
    """One value of the setting: the class that implements `Runtime`, and the Airflow operator that runs its steps.

    Both are dotted names, because the client of Kubernetes and its operator take seconds to import.
    """

    implementation: str
    operator: str


RUNTIMES = {
    "local": RuntimeChoice("ims.runtime.local.runtime.LocalRuntime", "ims.operators.local.LocalStepOperator"),
    "kubernetes": RuntimeChoice(
        "ims.runtime.kubernetes.runtime.KubernetesRuntime", "ims.operators.pod.PodStepOperator"
    ),
}


def runtime() -> Runtime:
    """Returns the runtime of this installation."""
    implementation: type[Runtime] = _load(_chosen().implementation)
    return implementation()


def step_operator() -> Any:
    """Returns the operator class that runs steps in this installation."""
    return _load(_chosen().operator)


def _chosen() -> RuntimeChoice:
    return RUNTIMES[settings().runtime]


def _load(name: str) -> Any:
    module, _, attribute = name.rpartition(".")
    return getattr(importlib.import_module(module), attribute)
