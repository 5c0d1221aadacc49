"""What one rule would make of one stored document; nothing is written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import UUID

from sqlalchemy import Connection

from workstation_pipelines.db import rulings
from workstation_pipelines.errors import InvalidRequestError, SkipItemError
from workstation_pipelines.model import Extracted, UserId
from workstation_pipelines.sync.reapply import headings_of, item_of
from workstation_pipelines.text.rules import ruleset
from workstation_pipelines.text.rules.expressions import metadata_of

if TYPE_CHECKING:
    from workstation_pipelines.text.rules.ruleset import Rule


@dataclass(frozen=True, slots=True)
class Preview:
    """A document as it is and as it would be. `forgets_original` tells that its source would have to be asked again."""

    title_before: str
    title: str
    url_before: str | None
    url: str | None
    language_before: str | None
    language: str | None
    text_before: str
    text: str
    project: str | None
    tags: Sequence[str]
    dropped_by: str | None
    forgets_original: bool


def preview(connection: Connection, rule: Rule, *, user_id: UserId, document_id: UUID) -> Preview:
    """Apply `rule` to a document as it is stored. Raises InvalidRequestError when it cannot be applied to it."""
    row = rulings.document(connection, user_id=user_id, document_id=document_id)
    shown = Extracted(row.text, row.title, row.language, headings=headings_of(row))
    metadata = metadata_of(item_of(row), source_name=row.source_name, source_type=row.source_type)
    try:
        made = ruleset.apply(ruleset.Ruleset([rule], "preview"), shown, metadata)
    except SkipItemError as error:
        raise InvalidRequestError(error.message) from None
    return Preview(
        title_before=row.title,
        title=made.title,
        url_before=row.document_url,
        url=made.url or row.document_url,
        language_before=row.language,
        language=made.language,
        text_before=row.text,
        text=made.text,
        project=made.project,
        tags=made.tags,
        dropped_by=made.dropped_by,
        forgets_original=made.forget_original,
    )
