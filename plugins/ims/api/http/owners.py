"""Owners of fields. A field of a request belongs to users, unless its model marks it with `SERVICE`.

Fields of the service say where a record comes from and what the tasks found out about it. If users could set them, a
forged `job_id` would become the result of a job, and a forged origin would decide what a night builds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, GetJsonSchemaHandler
from pydantic_core import CoreSchema
from starlette.requests import Request

from ims.api.http.body import parameters


@dataclass(frozen=True)
class Owner:
    """Marks a field as one that only its owner sets: `job_id: Annotated[Identity | None, SERVICE] = None`."""

    name: str

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Returns the schema of the field, which names the owner."""
        return {**handler(schema), "description": f"only the {self.name} sets this field"}


SERVICE = Owner("service")
"""The tasks of the workflows, which log in as the user of the connection `ims_api`."""


def service_fields(model: type[BaseModel]) -> set[str]:
    """Returns the names of the fields that only the service sets."""
    return {name for name, field in model.model_fields.items() if SERVICE in field.metadata}


async def service_fields_in(request: Request) -> list[str]:
    """Returns the fields in the body of a request that only the service sets.

    A field with its default value claims nothing: users can register what GET returned.
    """
    owned: dict[str, Any] = {}
    for param in parameters(request).body_params:
        model = param.field_info.annotation
        if isinstance(model, type) and issubclass(model, BaseModel):
            owned |= {name: model.model_fields[name].default for name in service_fields(model)}
    sent = await request.json() if owned and await request.body() else None
    if not isinstance(sent, dict):
        return []
    return sorted(name for name, default in owned.items() if name in sent and sent[name] != default)
