"""Titles with places in braces that an item's metadata fills."""

from __future__ import annotations

import re

from workstation_pipelines.errors import InvalidRequestError
from workstation_pipelines.text.rules.expressions import FIELDS, Metadata

_PLACE = re.compile(r"\{([^{}]*)\}")


def checked(template: str) -> str:
    """Return the template. Raises InvalidRequestError for a place that nothing fills."""
    unknown = sorted({name for name in _PLACE.findall(template) if name not in FIELDS})
    if unknown:
        raise InvalidRequestError(
            f"nothing fills {', '.join(f'{{{name}}}' for name in unknown)}: there are {', '.join(FIELDS)}"
        )
    return template


def filled(template: str, metadata: Metadata, title: str) -> str:
    """Return the template with its places filled, on one line; {title} is the title that the document has so far."""
    values = {**metadata, "title": title}
    return " ".join(_PLACE.sub(lambda match: str(values[match[1]]), template).split())
