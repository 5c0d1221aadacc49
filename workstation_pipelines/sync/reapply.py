"""Rules applied anew to what is stored, without asking any source, so that the result is that of a sync from nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row

from workstation_pipelines.db import data_sources, documents, metering, rulings, sync_failures, vectors
from workstation_pipelines.db.data_sources import DataSource, Lease
from workstation_pipelines.db.documents import DocumentWrite
from workstation_pipelines.db.engine import Database
from workstation_pipelines.db.filing import Filing, file
from workstation_pipelines.db.rulings import FILTERED, ItemRuling, Redacted
from workstation_pipelines.db.wire import TsvectorPacker
from workstation_pipelines.errors import BudgetReachedError, FilteredError, SkipItemError
from workstation_pipelines.identity import Uuid7
from workstation_pipelines.model import (
    Counts,
    DocumentId,
    Extracted,
    Heading,
    IndexConfigId,
    Item,
    ItemFailure,
    ItemType,
    NewId,
    SyncJobId,
    SyncStatus,
    Usage,
    UserId,
)
from workstation_pipelines.sync import rules
from workstation_pipelines.sync.budget import Allowance, Wanted
from workstation_pipelines.sync.rules import Ruled, SourceRules
from workstation_pipelines.sync.vectorize import Cut, Vectorized, Vectorizer, content_hash
from workstation_pipelines.text.lexemes import lexer_for

DOCUMENTS_A_BATCH = 100
NAMES_A_BATCH = 1000

Within = Callable[[Connection, Counts, Sequence[Usage]], None]
"""Called in each transaction with what it embedded and what that cost, before it commits."""


Vectors = Mapping[IndexConfigId, Mapping[bytes, bytes]]
"""Index config -> text hash -> vector, of those that are there already."""


@dataclass(frozen=True, slots=True)
class Reapplied:
    """What one transaction did: documents looked at, and what of them was embedded."""

    documents: int
    counts: Counts


@dataclass(slots=True)
class Work:
    """What is to become of a batch of documents."""

    writes: list[tuple[Row[Any], DocumentWrite, list[Cut] | None]] = field(default_factory=list)
    left_out: list[tuple[Row[Any], str]] = field(default_factory=list)
    failed: list[tuple[Row[Any], SkipItemError]] = field(default_factory=list)
    hidden: list[tuple[Row[Any], Redacted | None]] = field(default_factory=list)

    def cuts(self) -> dict[IndexConfigId, dict[UUID, list[Cut]]]:
        """Return the chunks that are to have vectors, by index config and document."""
        found: dict[IndexConfigId, dict[UUID, list[Cut]]] = {}
        for _, write, cuts in self.writes:
            if cuts and write.index_config_id is not None:
                found.setdefault(write.index_config_id, {})[write.id] = cuts
        return found


class Reapplier:
    """Brings the documents of one source under its rules. A document that changes meanwhile is left to whoever changed it."""

    def __init__(
        self,
        database: Database,
        vectorizer: Vectorizer,
        allowance: Allowance,
        source_rules: SourceRules,
        data_source: DataSource | None,
        *,
        new_id: NewId,
        user_id: UserId | None = None,
        job_id: UUID | None = None,
    ) -> None:
        self._database = database
        self._vectorizer = vectorizer
        self._allowance = allowance
        self._rules = source_rules
        owner = data_source.user_id if data_source is not None else user_id
        if owner is None:
            raise AssertionError("documents of no source need an owner")
        self._user_id = owner
        self._source_id = data_source.id if data_source is not None else None
        self._default_project = data_source.project_id if data_source is not None else None
        self._data_source = data_source
        self._new_id = new_id
        self._job_id = job_id
        self._packer = TsvectorPacker()

    def run(self, within: Within | None = None) -> Iterator[Reapplied]:
        """Work what is outdated, some documents a transaction; yields what each embedded. Idempotent.

        What nothing is kept of is marked for the next sync to fetch. Raises BudgetReachedError behind what fits.
        """
        self._clean_names()
        after: UUID | None = None
        while True:
            with self._database.transaction_with_rls(self._user_id) as connection:
                rows = self._outdated(connection, after, DOCUMENTS_A_BATCH)
            if not rows:
                return
            after = rows[-1].id
            work = self._judged(rows)
            known = self._embedded_before(work)
            over = self._keep_affordable(work, known)
            yield Reapplied(len(rows), self._rework(work, known, within))
            if over is not None:
                raise over

    def _outdated(self, connection: Connection, after: UUID | None, limit: int) -> Sequence[Row[Any]]:
        source_id, rules_hash = self._source.id, self._rules.hash
        if after is None:
            rulings.mark_for_refetch(connection, user_id=self._user_id, data_source_id=source_id, rules_hash=rules_hash)
        return rulings.outdated(
            connection,
            user_id=self._user_id,
            data_source_id=source_id,
            rules_hash=rules_hash,
            after=after,
            limit=limit,
        )

    def _keep_affordable(self, work: Work, known: Vectors) -> BudgetReachedError | None:
        """Take out of the work what the budgets do not allow, and return why."""
        limits = self._allowance.limits()
        if not limits:
            return None
        wanted = []
        seen = {(config_id, key) for config_id, each in known.items() for key in each}
        for _, write, cuts in work.writes:
            new = {(write.index_config_id, cut.text_hash): cut.chunk.token_count for cut in cuts or ()}
            wanted.append(Wanted(sum(new[key] for key in new.keys() - seen), self._source_id))
            seen |= {(config_id, key) for config_id, key in new if config_id is not None}
        number, over = self._allowance.take(limits, wanted)
        del work.writes[number:]
        return over

    def _clean_names(self) -> None:
        """Take what the redactions take away from titles and paths of items, once after each change of the rules."""
        if not self._rules.redacts:
            return
        user_id, source_id, rules_hash = self._user_id, self._source.id, self._rules.hash
        with self._database.transaction_with_rls(user_id) as connection:
            if rulings.names_are_clean(connection, user_id=user_id, data_source_id=source_id, rules_hash=rules_hash):
                return
        after = ""
        while True:
            with self._database.transaction_with_rls(user_id) as connection:
                rows = rulings.names(
                    connection, user_id=user_id, data_source_id=source_id, after=after, limit=NAMES_A_BATCH
                )
                if not rows:
                    rulings.note_clean_names(
                        connection, user_id=user_id, data_source_id=source_id, rules_hash=rules_hash
                    )
                    return
                shown = (
                    (row, self._rules.shown_words(row.title), self._rules.shown_path(row.external_path)) for row in rows
                )
                cleaned = [
                    (row.external_id, title, path)
                    for row, title, path in shown
                    if (title, path) != (row.title, row.external_path)
                ]
                rulings.rename(connection, user_id=user_id, data_source_id=source_id, cleaned=cleaned)
            after = rows[-1].external_id

    def _judged(self, rows: Sequence[Row[Any]]) -> Work:
        work = Work()
        for row in rows:
            is_live = row.deleted_at is None
            is_filtered = row.sync_status == SyncStatus.SKIPPED and row.reason == FILTERED
            if not (is_live or is_filtered):
                self._hold(row, work)
            elif not (is_live and row.is_original_forgotten):  # else it is marked for the next sync
                self._judge(row, work, is_live=is_live)
        return work

    def _judge(self, row: Row[Any], work: Work, *, is_live: bool) -> None:
        try:
            ruled = self._rules.apply(item_of(row), _extracted(row), had_rules=True)
        except FilteredError as left_out:
            work.left_out.append((row, left_out.rule))
            self._hold(row, work)
        except SkipItemError as problem:
            work.failed.append((row, problem))
        else:
            if is_live or not (row.is_original_forgotten or row.has_inside):
                self._take(row, ruled, work)
            else:
                self._hold(row, work)

    def _hold(self, row: Row[Any], work: Work) -> None:
        """What is hidden may be had back for a while: without what the redactions take away."""
        shown = Extracted(row.text, row.title, row.language, headings=headings_of(row))
        original = _extracted(row)
        try:
            clean = self._rules.without_secrets(shown)
            is_clean = clean is shown and (row.extracted is None or self._rules.without_secrets(original) is original)
        except SkipItemError:
            return
        if is_clean:
            work.hidden.append((row, None))
            return
        redacted = Redacted(
            document_id=DocumentId(row.id),
            title=clean.title or "",
            title_tsvector=self._packer.pack(lexer_for(None).counted(clean.title or "")),
            text=clean.text,
            headings=clean.headings,
            content_hash=content_hash(clean.text),
        )
        work.hidden.append((row, redacted))

    def _take(self, row: Row[Any], ruled: Ruled, work: Work) -> None:
        text = ruled.extracted
        headings = [Heading(*each) for each in row.headings]
        is_same = (text.text, list(text.headings), text.language) == (row.text, headings, row.language)
        write = DocumentWrite(
            id=DocumentId(row.id),
            is_new=False,
            title=ruled.title,
            title_lexemes=lexer_for(None).counted(ruled.title),
            mime_type=row.mime_type,
            external_url=ruled.url,
            size_bytes=None,
            source_created_at=None,
            source_modified_at=row.source_modified_at,
            ruling=ruled.ruling,
        )
        if is_same and row.deleted_at is None:
            work.writes.append((row, write, None))
            return
        using = self._vectorizer.of(row.wanted_index_config_id)
        cuts = using.cut(text.text, text.headings, text.language)
        if not cuts:
            problem = SkipItemError("nothing that can be found is left of its text", reason="no_text")
            work.failed.append((row, problem))
            return
        whole = replace(
            write,
            content_hash=content_hash(text.text),
            language=text.language,
            text=text.text,
            headings=text.headings,
            generation=row.live_generation + 1,
            index_config_id=using.config.id,
        )
        work.writes.append((row, whole, cuts))

    def _rework(self, work: Work, known: Vectors, within: Within | None) -> Counts:
        counts = Counts()
        usages: list[Usage] = []
        done: dict[IndexConfigId, Vectorized] = {}
        for config_id, cuts in work.cuts().items():
            using = self._vectorizer.of(config_id)
            every_cut = [cut for each in cuts.values() for cut in each]
            made = done[config_id] = using.vectorize(every_cut, partial(_known, known[config_id]))
            counts = counts.plus(
                Counts(chunks_embedded=made.embedded, chunks_reused=made.reused, embedding_tokens=made.tokens)
            )
            tokens = made.tokens_by_document(cuts.items())
            usages += using.usages(tokens, data_source_id=self._source_id, job_id=self._job_id)
        with self._database.transaction_with_rls(self._user_id) as connection:
            if within is not None:
                within(connection, counts, usages)
            self._write(connection, work, done)
            metering.record(connection, user_id=self._user_id, usages=usages)
        return counts

    def _write(self, connection: Connection, work: Work, done: Mapping[IndexConfigId, Vectorized]) -> None:
        user_id, source_id = self._user_id, self._source_id
        rows = [
            *(row for row, _, _ in work.writes),
            *(row for row, _ in work.left_out),
            *(row for row, _ in work.failed),
            *(row for row, _ in work.hidden),
        ]
        still = rulings.still(connection, user_id=user_id, rows=rows)
        settled = self._settle(connection, work, still)
        writes = [
            replace(write, chunks=done[write.index_config_id].chunks(cuts)) if cuts and write.index_config_id else write
            for row, write, cuts in work.writes
            if row.id in still and row.external_id in settled
        ]
        documents.store(
            connection,
            user_id=user_id,
            data_source_id=source_id,
            project_id=None,
            writes=writes,
            packer=self._packer,
        )
        file(
            connection,
            user_id=user_id,
            default_project=self._default_project,
            filings=[Filing(write.id, write.ruling.project, write.ruling.tags) for write in writes if write.ruling],
            new_id=self._new_id,
        )
        self._hide(connection, [row for row, _ in work.left_out if row.external_id in settled])
        kept = [(row.id, redacted) for row, redacted in work.hidden if row.id in still]
        rulings.keep_hidden(
            connection,
            user_id=user_id,
            rules_hash=self._rules.hash,
            unchanged=[document_id for document_id, redacted in kept if redacted is None],
            redacted=[redacted for _, redacted in kept if redacted is not None],
        )
        self._record(connection, [(row, problem) for row, problem in work.failed if row.external_id in settled])

    def _settle(self, connection: Connection, work: Work, still: set[UUID]) -> set[str]:
        """Write what becomes of the items; return those that were as they had been read."""
        return rulings.settle_items(
            connection,
            user_id=self._user_id,
            data_source_id=self._source.id,
            rulings=[ruling for ruling in self._item_rulings(work) if ruling.document_id in still],
        )

    def _item_rulings(self, work: Work) -> Iterator[ItemRuling]:
        for row, _, _ in work.writes:
            is_ruled_on = row.reason == FILTERED or (row.sync_status == SyncStatus.FAILED and row.item_rules_hash)
            status, reason = (SyncStatus.SYNCED, "") if is_ruled_on else (row.sync_status, row.reason)
            yield _ruling(row, status, reason)
        for row, rule in work.left_out:
            yield _ruling(row, SyncStatus.SKIPPED, FILTERED, detail=rule, rules_hash=self._rules.hash)
        for row, problem in work.failed:
            yield _ruling(row, SyncStatus.FAILED, problem.reason, rules_hash=self._rules.hash)

    def _hide(self, connection: Connection, rows: Sequence[Row[Any]]) -> None:
        if not rows:
            return
        user_id, source_id = self._user_id, self._source.id
        ids = [row.external_id for row in rows]
        inside = rulings.delete_inside(connection, user_id=user_id, data_source_id=source_id, external_ids=ids)
        live = [row.id for row in rows if row.deleted_at is None]
        documents.tombstone(connection, user_id=user_id, document_ids=[*live, *inside])
        sync_failures.resolve(connection, self._lease(), external_ids=ids)

    def _record(self, connection: Connection, failed: Sequence[tuple[Row[Any], SkipItemError]]) -> None:
        failures = [
            ItemFailure(
                external_id=row.external_id,
                external_path=row.external_path,
                stage="rules",
                error_class=type(problem).__name__,
                reason=problem.reason,
                message=problem.message,
                permanent=True,
            )
            for row, problem in failed
        ]
        job_id = SyncJobId(self._job_id) if self._job_id is not None else None
        sync_failures.record(connection, self._lease(), job_id=job_id, failures=failures, new_id=self._new_id)

    def _lease(self) -> Lease:
        # For the owner and the source alone: nothing here depends on being the only one.
        return Lease(self._source.id, self._user_id, self._source.fence)

    @property
    def _source(self) -> DataSource:
        if self._data_source is None:
            raise AssertionError("documents of no source have no items")
        return self._data_source

    def _embedded_before(self, work: Work) -> Vectors:
        found: dict[IndexConfigId, Mapping[bytes, bytes]] = {}
        for config_id, cuts in work.cuts().items():
            with self._database.transaction_with_rls(self._user_id) as connection:
                found[config_id] = vectors.embedded_before(
                    connection,
                    user_id=self._user_id,
                    index_config_id=config_id,
                    text_hashes={cut.text_hash for each in cuts.values() for cut in each},
                )
        return found


def reapply(
    database: Database,
    vectorizer: Vectorizer,
    allowance: Allowance,
    *,
    user_id: UserId,
    data_source_id: UUID | None = None,
    new_id: NewId | None = None,
) -> Iterator[Reapplied]:
    """Bring the documents of a user's sources, or of one, and processed ones under their rules; yields after each commit.

    Raises BudgetReachedError behind what fits.
    """
    with database.transaction_with_rls(user_id) as connection:
        sources = [
            source
            for source in data_sources.all_of(connection, user_id=user_id)
            if data_source_id is None or source.id == data_source_id
        ]
    for source in sources:
        with database.transaction_with_rls(user_id) as connection:
            source_rules = rules.load(connection, user_id=user_id, data_source_id=source.id)
        yield from Reapplier(database, vectorizer, allowance, source_rules, source, new_id=new_id or Uuid7()).run()
    if data_source_id is None:
        from workstation_pipelines.sync.processed import ProcessedReapplier  # which is made of what is in here

        with database.transaction_with_rls(user_id) as connection:
            source_rules = rules.load_processed(connection, user_id=user_id)
        yield from ProcessedReapplier(
            database, vectorizer, allowance, source_rules, user_id=user_id, new_id=new_id or Uuid7()
        ).run()


def item_of(row: Row[Any]) -> Item:
    """Return the item of a row of rulings.outdated() or rulings.document(), as its source listed it."""
    return Item(
        external_id=row.external_id,
        external_path=row.external_path,
        external_hash=row.external_hash,
        item_type=ItemType(row.item_type),
        title=row.item_title,
        mime_type=row.listed_mime_type,
        size_bytes=row.size_bytes,
        external_modified_at=row.external_modified_at,
        external_created_at=row.external_created_at,
        external_url=row.external_url,
        parent_external_id=row.parent_external_id,
    )


def headings_of(row: Row[Any], kept: Sequence[Any] | None = None) -> list[Heading]:
    """Return the headings of a document's row, or those `kept` of what it was made from."""
    return [Heading(offset, level, words) for offset, level, words in (row.headings if kept is None else kept)]


def _extracted(row: Row[Any]) -> Extracted:
    """Return what was extracted. From before a document had rules, its title is the text's own if it is not the item's."""
    text = row.text if row.extracted_text is None else row.extracted_text
    if row.extracted is None:
        title = row.title if row.title != row.item_title else None
        return Extracted(text, title, row.language, headings=headings_of(row))
    kept = row.extracted.get("headings")
    headings = [Heading(*each) for each in kept] if kept is not None else headings_of(row)
    return Extracted(text, row.extracted["title"], row.extracted["language"], headings=headings)


def _ruling(row: Row[Any], status: str, reason: str, *, detail: str = "", rules_hash: str = "") -> ItemRuling:
    return ItemRuling(
        document_id=row.id,
        external_id=row.external_id,
        was_status=row.sync_status,
        was_reason=row.reason,
        status=status,
        reason=reason,
        reason_detail=detail,
        rules_hash=rules_hash,
    )


def _known(found: Mapping[bytes, bytes], _hashes: Iterable[bytes]) -> Mapping[bytes, bytes]:
    return found
