"""The output of a block as it is stored: JSON of bounded size, without secrets, the same whoever reads it later."""

from __future__ import annotations

import json
import re
from collections.abc import Collection

from workstation_pipelines.errors import InvalidRequestError
from workstation_pipelines.workflow_model import Json
from workstation_pipelines.workflows.redaction import redacted

MOST_BYTES = 1_000_000

_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


def stored_output(output: object, secrets: Collection[str]) -> Json:
    """Return what is stored of an output; what comes after it in the workflow is given the same.

    Characters that PostgreSQL cannot store become U+FFFD. Raises InvalidRequestError for what JSON cannot say, and for too
    much of it.
    """
    try:
        text = json.dumps(output, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else _reason(error)
        raise InvalidRequestError(f"the output of the block is no JSON: {reason}") from None
    if len(text) > MOST_BYTES or len(text.encode("utf-8", "surrogatepass")) > MOST_BYTES:
        raise InvalidRequestError(
            f"the output of the block has more than {MOST_BYTES:,} bytes: select what is needed, or save it as documents"
        )
    value = json.loads(text)
    if "\\u0000" in text or _UNSTORABLE.search(text):
        value = _storable(value)
    return redacted(value, secrets)


def _reason(error: TypeError | ValueError) -> str:
    is_number = isinstance(error, ValueError) and "float" in str(error)
    return "it holds NaN or Infinity" if is_number else str(error).partition("\n")[0][:200]


def _storable(value: Json) -> Json:
    if isinstance(value, str):
        return _UNSTORABLE.sub("\ufffd", value)
    if isinstance(value, list):
        return [_storable(each) for each in value]
    if isinstance(value, dict):
        return {_storable(name): _storable(inner) for name, inner in value.items()}
    return value
