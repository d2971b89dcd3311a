"""Conditions on which a task runs."""

from __future__ import annotations

from typing import Any


class Condition:
    """A condition on parameters of the run, which are known before the task starts."""

    template_fields = ("values",)

    def __init__(self, values: tuple[Any, ...], *, expected: bool) -> None:
        self.values = values
        self.expected = expected

    @property
    def holds(self) -> bool:
        """Whether the task runs."""
        return any(self.values) is self.expected

    def serialize(self) -> dict[str, Any]:
        """What the Airflow UI shows."""
        return {"any" if self.expected else "none": list(self.values)}


def any_of(*values: Any) -> Condition:
    """The task runs if one of the values is true or not empty."""
    return Condition(values, expected=True)


def none_of(*values: Any) -> Condition:
    """The task runs if all values are false or empty."""
    return Condition(values, expected=False)
