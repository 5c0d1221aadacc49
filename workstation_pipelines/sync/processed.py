"""Processed documents under their owner's rules: what rules may ask of them, and rules applied anew to what is stored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row

from workstation_pipelines.db import documents, processing, rulings
from workstation_pipelines.db.engine import Database
from workstation_pipelines.db.rulings import FILTERED, Ruling
from workstation_pipelines.errors import FilteredError, SkipItemError
from workstation_pipelines.model import Extracted, Item, ItemType, NewId, UserId
from workstation_pipelines.sources.local_folder import names
from workstation_pipelines.sync.budget import Allowance
from workstation_pipelines.sync.intake import storable, storable_title
from workstation_pipelines.sync.reapply import Reapplier, Work, headings_of
from workstation_pipelines.sync.rules import Ruled, SourceRules
from workstation_pipelines.sync.vectorize import Vectorizer


def item_of(
    origin: str,
    *,
    title: str,
    mime_type: str,
    size_bytes: int,
    modified_at: datetime | None,
    external_url: str | None,
    parent_path: str | None = None,
) -> Item:
    """Return a processed document as rules see it. `title` is its own, or else that of its file, before any rule.

    What was found inside lies below `parent_path`; an upload has no path but its title.
    """
    return Item(
        external_id=origin,
        external_path=path_of(origin, title) if parent_path is None else f"{parent_path}/{title}",
        external_hash="",
        item_type=ItemType.FILE,
        title=title,
        mime_type=mime_type,
        size_bytes=size_bytes,
        external_modified_at=modified_at,
        external_created_at=None,
        external_url=external_url,
        parent_external_id=None,
    )


def path_of(origin: str, title: str) -> str:
    """Return the path or URL that an origin names, the title where it names none."""
    kind, _, name = origin.partition(":")
    return name if kind in ("file", "url") and not name.startswith("b2:") else title


class ProcessedReapplier(Reapplier):
    """Brings a user's processed documents under the rules that are for everything. Nothing can be fetched again.

    What is kept of a document whose original is forgotten is its original from then on, but for its title.
    """

    def __init__(
        self,
        database: Database,
        vectorizer: Vectorizer,
        allowance: Allowance,
        source_rules: SourceRules,
        *,
        user_id: UserId,
        new_id: NewId,
        job_id: UUID | None = None,
    ) -> None:
        super().__init__(
            database, vectorizer, allowance, source_rules, None, user_id=user_id, new_id=new_id, job_id=job_id
        )
        self._hidden: dict[UUID, bool] = {}

    def _clean_names(self) -> None:
        """Nothing: paths and URLs are all by which these documents are found again."""

    def _outdated(self, connection: Connection, after: UUID | None, limit: int) -> Sequence[Row[Any]]:
        rows = rulings.outdated_processed(
            connection, user_id=self._user_id, rules_hash=self._rules.hash, after=after, limit=limit
        )
        if after is None and rows and self._rules.redacts:
            processing.clean_messages(connection, user_id=self._user_id, clean=self._rules.shown_words)
        return rows

    def _judged(self, rows: Sequence[Row[Any]]) -> Work:
        work = Work()
        for row in rows:
            if row.deleted_at is not None and row.deleted_reason != FILTERED:
                self._hold(row, work)
            elif self._hidden.get(row.parent_document_id, row.is_parent_filtered):
                self._leave_out(row, "", work)
            else:
                self._judge(row, work, is_live=row.deleted_at is None)
        return work

    def _judge(self, row: Row[Any], work: Work, *, is_live: bool) -> None:
        try:
            ruled = self._ruled(row)
        except FilteredError as left_out:
            self._leave_out(row, left_out.rule, work)
        except SkipItemError as problem:
            work.failed.append((row, problem))
        else:
            self._hidden[row.id] = False
            self._take(row, ruled, work)

    def _leave_out(self, row: Row[Any], rule: str, work: Work) -> None:
        self._hidden[row.id] = True
        work.left_out.append((row, rule))
        self._hold(row, work)

    def _ruled(self, row: Row[Any]) -> Ruled:
        item = _stored_item(row)
        if not row.is_original_forgotten:
            return self._rules.apply(item, _original(row), had_rules=True)
        kept = Extracted(row.text, row.title, row.language, headings=headings_of(row))
        if not self._rules.hash:
            return Ruled(kept, row.title, item.external_url, Ruling("", row.language, kept.headings, is_forgotten=True))
        ruled = self._rules.apply(item, kept, had_rules=True)
        if ruled.ruling is None:
            raise AssertionError("rules without a ruling")
        return replace(ruled, ruling=replace(ruled.ruling, original=None, is_forgotten=True))

    def _settle(self, connection: Connection, work: Work, still: set[UUID]) -> set[str]:
        rows = (*(row for row, _, _ in work.writes), *(row for row, _ in work.left_out))
        return {row.external_id for row in rows if row.id in still}

    def _hide(self, connection: Connection, rows: Sequence[Row[Any]]) -> None:
        live = [row.id for row in rows if row.deleted_at is None]
        inside = rulings.inside_processed(connection, user_id=self._user_id, document_ids=live)
        documents.tombstone(connection, user_id=self._user_id, document_ids=[*live, *inside], reason=FILTERED)

    def _record(self, connection: Connection, failed: Sequence[tuple[Row[Any], SkipItemError]]) -> None:
        """Nothing: what a rule fails on stays as it is, and a check names it."""


def _original(row: Row[Any]) -> Extracted:
    text = row.text if row.extracted_text is None else row.extracted_text
    if row.extracted is None:
        return Extracted(text, row.item_title, row.language, headings=headings_of(row))
    kept = row.extracted.get("headings")
    headings = headings_of(row) if kept is None else headings_of(row, kept)
    return Extracted(text, row.item_title, row.extracted["language"], headings=headings)


def _stored_item(row: Row[Any]) -> Item:
    parent_path = None
    outer = row.parent_origin or row.origin
    if row.parent_origin is not None:
        parent_path = path_of(row.parent_origin, row.parent_title)
    path = path_of(outer, "")
    known_url = names.file_url(path) if path and outer.startswith("file:") else path
    return item_of(
        row.origin,
        title=row.item_title,
        mime_type=row.mime_type,
        size_bytes=row.size_bytes,
        modified_at=row.source_modified_at,
        external_url=known_url or row.external_url,
        parent_path=parent_path,
    )


def own_title(extracted: str | None, name: str) -> str:
    """Return the title that a processed document has before any rule."""
    return storable_title(extracted or storable(name))
