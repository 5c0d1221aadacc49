"""Types of config fields that several blocks have, and how their values are read."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import AfterValidator

from workstation_pipelines.errors import InvalidRequestError
from workstation_pipelines.workflow_model import Json
from workstation_pipelines.workflows.expressions import JmesPath, evaluate


def _in_utc(moment: datetime) -> datetime:
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


Moment = Annotated[datetime, AfterValidator(_in_utc)]
"""A date or a time in ISO 8601; without a zone it is in UTC."""

Items = JmesPath | list[Any]
"""A list, or an expression that selects one."""


def items_of(given: str | list[Any], scope: Mapping[str, Any]) -> list[Json]:
    """Return the list that is given or selected. Raises InvalidRequestError for anything else."""
    found = evaluate(given, scope) if isinstance(given, str) else given
    if not isinstance(found, list):
        kind = "null" if found is None else type(found).__name__
        raise InvalidRequestError(f"`items` are {kind} and no list: select one, or add `|| `[]`` for none")
    return found
