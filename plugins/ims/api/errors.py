"""Errors of the API's rooms, beside those of `ims.errors`. `ims.api.http.problems` maps them to HTTP statuses."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Self

from pydantic import ValidationError

from ims.errors import ImsError, InputError, PermanentError


class ConflictError(PermanentError):
    """The state of a record or job does not allow what the request asks for."""


class FieldError(InputError):
    """Fields of the request are invalid; `fields` has the messages of each."""

    def __init__(self, fields: Mapping[str, Sequence[str]]) -> None:
        super().__init__("; ".join(f"{field}: {', '.join(messages)}" for field, messages in fields.items()))
        self.fields = fields

    @classmethod
    def of(cls, field: str, message: str) -> Self:
        """Returns the error of one field."""
        return cls({field: [message]})

    @classmethod
    def from_validation(cls, error: ValidationError, whole: str = "body") -> Self:
        """Returns the error for what Pydantic found; `whole` names what the fields belong to."""
        fields: dict[str, list[str]] = {}
        for item in error.errors(include_url=False):
            fields.setdefault(".".join(str(part) for part in item["loc"]) or whole, []).append(item["msg"])
        return cls(fields)


class UnusableError(FieldError):
    """A field is well formed, but names something that does not exist or cannot be used."""


class OwnerError(FieldError):
    """Fields of the request belong to the service, and the caller is a user."""

    @classmethod
    def of_all(cls, fields: Iterable[str], hint: str = "leave it out") -> Self:
        """Returns the error of these fields; the hint says what to do instead."""
        return cls({field: [f"only the service sets this field; {hint}"] for field in fields})


class AirflowError(ImsError):
    """Airflow's API refused a call; `status` is the HTTP status of its answer."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status
