"""A job's fields as params, so that the UI's trigger form and the REST API check them."""

from __future__ import annotations

from airflow.sdk import Param
from pydantic import BaseModel

from ims.params import field_schemas


def job_params(job: type[BaseModel]) -> dict[str, Param]:
    """The params of a workflow, made from its job's schema."""
    return {
        name: Param(**schema) if "default" in schema else Param(None, **schema)
        for name, schema in field_schemas(job).items()
    }
