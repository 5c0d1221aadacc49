"""What a person may set for a data source at a vendor: checked key by key, unknown keys refused."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import timedelta
from hashlib import blake2b
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from workstation_pipelines.errors import InvalidRequestError

MIB = 1024 * 1024


class VendorConfig(BaseModel):
    """The settings that every vendor has; each adds the pickers of its own scope."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    max_file_bytes: int = Field(50 * MIB, ge=1, le=2**31)
    """Larger files are listed and refused at fetch."""

    reconcile_days: float | None = Field(None, gt=0, le=3650)
    """List everything once more after so many days; None leaves it to the source."""

    @classmethod
    def parse(cls, raw: Mapping[str, Any]) -> Self:
        """Check a decoded JSON object. Raises InvalidRequestError that names the keys, never their values."""
        try:
            return cls.model_validate_json(json.dumps(dict(raw)))
        except ValidationError as error:
            allowed = ", ".join(sorted(cls.model_fields))
            found = error.errors(include_input=False)
            # What is wrong with one member makes Pydantic say that the list is too short besides.
            deepest = max(len(one["loc"]) for one in found)
            found = [one for one in found if one["type"] != "too_short" or deepest == 1]
            problems = "; ".join(_problem(one, allowed) for one in found)
            raise InvalidRequestError(f"config cannot be used: {problems}.") from None

    def scope(self) -> str:
        """A digest of everything that decides what is listed; defaults left out and written out are the same."""
        chosen = self.model_dump(mode="json", exclude={"reconcile_days"})
        return blake2b(json.dumps(chosen, sort_keys=True).encode(), digest_size=12).hexdigest()

    def reconciled_every(self, default: timedelta | None) -> timedelta | None:
        return default if self.reconcile_days is None else timedelta(days=self.reconcile_days)


def _problem(found: Any, allowed: str) -> str:
    # Below a key only numbers are the caller's own; other parts are Pydantic's.
    key = ".".join(str(part) for at, part in enumerate(found["loc"]) if at == 0 or isinstance(part, int))
    if found["type"] == "extra_forbidden":
        return f"`{key}` is not a setting of this source; use one of {allowed}"
    said = found["msg"].removeprefix("Value error, ").removeprefix("Input ").removeprefix("String ")
    said = said.replace("valid array", "valid list, such as [...]")
    return f"`{key}` {said[0].lower()}{said[1:]}"
