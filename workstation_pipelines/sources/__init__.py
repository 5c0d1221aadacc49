"""The sources, by type. Adding one is a file, a line here and a fake."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from workstation_pipelines.errors import InvalidRequestError
from workstation_pipelines.model import Clock, NewId, SourceType
from workstation_pipelines.sources.contract import Source
from workstation_pipelines.sources.credentials import CredentialProvider
from workstation_pipelines.sources.pacing import Pacer, Unpaced


@dataclass(frozen=True, slots=True)
class SourceContext:
    """What a source is given from outside.

    `detect` tells a MIME type from a name and the first bytes of a file, `has_text` whether a MIME type can be read at all.
    `folder_roots` are the folders an operator allows to read: None allows any, an empty tuple none. For vendors: `urls` are
    base URLs that replace the vendor's own ("api", "content"), `account` names the buckets that pace calls, `rates` are
    calls a second by `<source type>.<call>` where an operator knows better.
    """

    clock: Clock
    new_id: NewId
    detect: Callable[[str, bytes], str]
    has_text: Callable[[str], bool] = lambda _mime_type: True
    folder_roots: tuple[Path, ...] | None = None
    credentials: CredentialProvider | None = None
    account: str = ""
    urls: Mapping[str, str] = field(default_factory=dict)
    rates: Mapping[str, float] = field(default_factory=dict)
    pacer: Pacer = field(default_factory=Unpaced)


SOURCES: Mapping[SourceType, str] = {
    SourceType.GOOGLE_DRIVE: "google_drive.connector:GoogleDrive",
    SourceType.GMAIL: "gmail.connector:Gmail",
    SourceType.NOTION: "notion.connector:Notion",
    SourceType.SLACK: "slack.connector:Slack",
    SourceType.DROPBOX: "dropbox.connector:Dropbox",
    SourceType.ONEDRIVE: "onedrive.connector:OneDrive",
    SourceType.LOCAL_FOLDER: "local_folder.connector:LocalFolder",
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
