"""The table of runtimes."""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import Callable
from typing import Any, get_args

import pytest

from ims.errors import ConfigurationError
from ims.operators.base import StepTask
from ims.runtime.base import Runtime
from ims.runtime.choice import RUNTIMES, runtime
from ims.settings import Settings


def load(name: str) -> Any:
    """Import what a dotted name refers to."""
    module, _, attribute = name.rpartition(".")
    return getattr(importlib.import_module(module), attribute)


def test_every_value_of_the_setting_has_a_runtime() -> None:
    """There is no runtime without a value either."""
    assert set(get_args(Settings.model_fields["runtime"].annotation)) == set(RUNTIMES)


@pytest.mark.parametrize("name", RUNTIMES)
def test_runtime_is_complete(name: str) -> None:
    """It implements every method of the protocol, and its operator can take the place of the others."""
    implementation = load(RUNTIMES[name].implementation)
    assert Runtime in implementation.__mro__
    assert implementation.__abstractmethods__ == frozenset()
    assert issubclass(load(RUNTIMES[name].operator), StepTask)


def test_setting_chooses_the_runtime(configure: Callable[..., None]) -> None:
    """The default is this machine."""
    assert type(runtime()).__name__ == "LocalRuntime"
    configure(runtime="kubernetes", kubernetes_config="/none")
    with pytest.raises(ConfigurationError, match="the kubeconfig /none cannot be used"):
        runtime()


def test_local_runtime_imports_nothing_heavy() -> None:
    """Every task on one machine would pay for the client of Kubernetes."""
    program = "import sys\nfrom ims.runtime.choice import runtime\nruntime()\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert not {"airflow", "kubernetes"} & set(done.stdout.split())
