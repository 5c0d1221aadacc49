"""The sources, by type. Adding one is a file, a line here and a fake."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from workstation_pipelines.errors import InvalidRequestError
from workstation_pipelines.model import Clock, NewId, SourceType
from workstation_pipelines.sources.contract import Source


@dataclass(frozen=True, slots=True)
class SourceContext:
    """What a source is given from outside.

    `detect` tells a MIME type from a name and the first bytes of a file. `folder_roots` are the folders an operator
    allows to read: None allows any, an empty tuple none.
    """

    clock: Clock
    new_id: NewId
    detect: Callable[[str, bytes], str]
    folder_roots: tuple[Path, ...] | None = None


SOURCES: Mapping[SourceType, str] = {
    SourceType.LOCAL_FOLDER: "local_folder:LocalFolder",
}
"""Source type -> module below this package and class; a module is imported when its first source is opened."""


def source_class(source_type: SourceType) -> type[Any]:
    """Return the class of a source type, for its class attributes. Raises InvalidRequestError."""
    if source_type not in SOURCES:
        raise InvalidRequestError(
            f"Source type {source_type} is not available here: choose one of {', '.join(sorted(SOURCES))}."
        )
    module_name, _, class_name = SOURCES[source_type].partition(":")
    found: type[Any] = getattr(import_module(f"{__name__}.{module_name}"), class_name)
    return found


def open_source(source_type: SourceType, config: Mapping[str, Any], context: SourceContext) -> Source:
    """Open a source with its stored config; nothing is contacted yet. Raises InvalidRequestError."""
    source: Source = source_class(source_type).open(config, context)
    return source
