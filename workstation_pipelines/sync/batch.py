"""One batch of a page: fetch, extract, cut and embed what changed, then write all of it in one transaction."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from typing import Any
from uuid import UUID

from workstation_pipelines.db import documents, sync_failures, sync_items, sync_jobs, vectors
from workstation_pipelines.db.data_sources import Lease, prove_lease
from workstation_pipelines.db.documents import DocumentWrite
from workstation_pipelines.db.engine import Database
from workstation_pipelines.db.sync_items import ItemWrite
from workstation_pipelines.db.wire import TsvectorPacker
from workstation_pipelines.errors import (
    ItemGoneError,
    RateLimitedError,
    RetryableError,
    SkipItemError,
)
from workstation_pipelines.index.contract import Extractor
from workstation_pipelines.model import (
    Attachment,
    Content,
    Counts,
    DocumentId,
    Extracted,
    Item,
    ItemFailure,
    ItemType,
    NewId,
    StoredItem,
    SyncJobId,
    SyncStatus,
)
from workstation_pipelines.sources.contract import Source
from workstation_pipelines.sync.delta import Action, Step, document_title
from workstation_pipelines.sync.faults import Faults
from workstation_pipelines.sync.vectorize import Cut, Vectorizer, content_hash
from workstation_pipelines.text.lexemes import lexer_for

PATIENCE_S = 30.0
"""A vendor that asks for a longer wait pauses the whole job; a shorter one is left to the item's next try."""

MOST_UNAVAILABLE = 20
"""After so many items in a row that could not be had, the source itself is away, and the job ends."""

MOST_NESTING = 3
"""Attachments of attachments are followed so deep."""


@dataclass(frozen=True, slots=True)
class Batch:
    """What one transaction is to write. Built without touching the database, but for reading known embeddings."""

    item_writes: Sequence[ItemWrite] = ()
    document_writes: Sequence[DocumentWrite] = ()
    failures: Sequence[ItemFailure] = ()
    resolved: Sequence[str] = ()
    deleted: Sequence[str] = ()
    dropped_documents: Sequence[UUID] = ()
    seen: Sequence[str] = ()
    counts: Counts = field(default_factory=Counts)
    external_ids: frozenset[str] = frozenset()
    fresh_vectors: Mapping[bytes, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Read:
    """What came of reading one item: its text, or why there is none."""

    item: Item
    stored: StoredItem | None
    content: Content | None
    extracted: Extracted | None
    problem: SkipItemError | RetryableError | None
    stage: str


class BatchBuilder:
    """Turns steps into batches for one run. Not thread-safe; uses `executor` for fetches and extractions that may wait."""

    def __init__(
        self,
        *,
        database: Database,
        lease: Lease,
        source: Source,
        extractor: Extractor,
        vectorizer: Vectorizer,
        executor: Executor,
        new_id: NewId,
        faults: Faults,
    ) -> None:
        self._database = database
        self._lease = lease
        self._source = source
        self._extractor = extractor
        self._vectorizer = vectorizer
        self._executor = executor
        self._new_id = new_id
        self._faults = faults
        self._unavailable = 0

    def build(
        self,
        steps: Sequence[Step],
        children: Mapping[str, Sequence[StoredItem]],
        in_flight: Mapping[bytes, bytes],
    ) -> Batch:
        """Work `steps`, of which each external id occurs once.

        `children` are the stored items found inside earlier versions of these items; `in_flight` are vectors that a
        batch not yet committed is about to store. Raises RateLimitedError, ReauthorizeError and whatever is a bug.
        """
        drafts = _Drafts()
        for step in steps:
            if step.action is Action.DELETE:
                drafts.delete([step.external_id, *_live(children.get(step.external_id, ()))])
            elif step.action is not Action.FETCH:
                self._keep(step, drafts)
        for read in self._read([step for step in steps if step.action is Action.FETCH]):
            self._take(read, children.get(read.item.external_id, ()), drafts, depth=0)
        return self._with_vectors(drafts, in_flight, frozenset(step.external_id for step in steps))

    def _keep(self, step: Step, drafts: _Drafts) -> None:
        item, stored = step.item, step.stored
        if item is None or stored is None:
            raise AssertionError(f"{step.action} needs the item and what is stored of it")
        drafts.seen.append(step.external_id)
        if step.action is Action.KEEP:
            drafts.count("unchanged")
            return
        drafts.count("updated" if step.action is Action.DESCRIBE else "unchanged")
        drafts.items.append(
            ItemWrite(item, item.external_hash, stored.mime_type, stored.sync_status, stored.reason, stored.document_id)
        )
        if step.action is Action.DESCRIBE and stored.document_id is not None:
            title = document_title(item, stored, None)
            drafts.documents.append((self._described(stored.document_id, item, stored.mime_type, title), None))

    def _read(self, steps: Sequence[Step]) -> Iterator[_Read]:
        """Fetch and extract, in the order of `steps`. What is quick happens here, what may wait happens in the executor."""
        waiting: list[_Read | Future[_Read]] = []
        for step in steps:
            if step.item is None:
                raise AssertionError("a fetch needs its item")
            if self._source.fetch_threads > 1:
                waiting.append(self._executor.submit(self._fetch_and_extract, step.item, step.stored))
                continue
            read = self._fetch(step.item, step.stored)
            if read.content is None:
                waiting.append(read)
            elif self._extractor.is_inline(read.content):
                waiting.append(self._extract(read))
            else:
                waiting.append(self._executor.submit(self._extract, read))
        for read_or_future in waiting:
            yield read_or_future if isinstance(read_or_future, _Read) else read_or_future.result()

    def _fetch_and_extract(self, item: Item, stored: StoredItem | None) -> _Read:
        read = self._fetch(item, stored)
        return read if read.content is None else self._extract(read)

    def _fetch(self, item: Item, stored: StoredItem | None) -> _Read:
        try:
            content = self._source.fetch(item)
        except (SkipItemError, RetryableError) as error:
            if isinstance(error, RateLimitedError) and error.wait_s > PATIENCE_S:
                raise
            self._unavailable += isinstance(error, RetryableError)
            if self._unavailable > MOST_UNAVAILABLE:
                raise
            return _Read(item, stored, None, None, error, "fetch")
        self._unavailable = 0
        self._faults.reach("item_fetched")
        return _Read(item, stored, content, None, None, "fetch")

    def _extract(self, read: _Read) -> _Read:
        if read.content is None:
            raise AssertionError("nothing was fetched")
        try:
            extracted = self._extractor.extract(read.content)
        except (SkipItemError, RetryableError) as error:
            # The bytes are not needed any more, and a batch may hold many of them.
            return replace(read, content=replace(read.content, body=b""), problem=error, stage="extract")
        return replace(read, extracted=extracted)

    def _take(self, read: _Read, children: Sequence[StoredItem], drafts: _Drafts, *, depth: int) -> None:
        drafts.external_ids.add(read.item.external_id)
        if read.content is not None and depth == 0:
            drafts.add(fetched=1, bytes_fetched=len(read.content.body))
        if read.problem is not None:
            self._take_problem(read, read.problem, children, drafts)
            return
        content, extracted, item, stored = read.content, read.extracted, read.item, read.stored
        if content is None or extracted is None:
            raise AssertionError("neither text nor a problem")
        mime_type = extracted.mime_type or content.mime_type
        is_live = stored is not None and stored.document_id is not None and not stored.is_document_deleted
        document_id = stored.document_id if stored is not None and stored.document_id else DocumentId(self._new_id())
        drafts.count("updated" if is_live else "created")
        if stored is not None and stored.sync_status is SyncStatus.FAILED:
            drafts.resolved.append(item.external_id)
        drafts.items.append(ItemWrite(item, content.external_hash, mime_type, SyncStatus.SYNCED, "", document_id))
        write = self._described(document_id, item, mime_type, document_title(item, None, extracted.title))
        write = replace(write, size_bytes=len(content.body))
        digest = content_hash(extracted.text)
        config_id = self._vectorizer.config.id
        if is_live and stored is not None and (stored.content_hash, stored.index_config_id) == (digest, config_id):
            drafts.documents.append((write, None))
        else:
            write = replace(
                write,
                is_new=stored is None or stored.document_id is None,
                content_hash=digest,
                language=extracted.language,
                text=extracted.text,
                headings=extracted.headings,
                generation=(stored.live_generation if stored is not None else 0) + 1,
                index_config_id=config_id,
            )
            cuts = self._vectorizer.cut(extracted.text, extracted.headings, extracted.language)
            drafts.documents.append((write, cuts))
        self._take_children(item, extracted.children, children, drafts, depth=depth)

    def _take_problem(
        self, read: _Read, problem: SkipItemError | RetryableError, children: Sequence[StoredItem], drafts: _Drafts
    ) -> None:
        item, stored = read.item, read.stored
        mime_type = read.content.mime_type if read.content is not None else item.mime_type
        external_hash = read.content.external_hash if read.content is not None else item.external_hash
        document_id = stored.document_id if stored is not None else None
        if isinstance(problem, ItemGoneError):
            drafts.count("skipped")  # the next listing tells; what is stored stays until then
            drafts.seen.append(item.external_id)
            return
        reason = problem.reason if isinstance(problem, SkipItemError) else "unavailable"
        if isinstance(problem, SkipItemError) and problem.stored_as == "skipped":
            drafts.count("skipped")
            drafts.items.append(ItemWrite(item, external_hash, mime_type, SyncStatus.SKIPPED, reason, document_id))
            drafts.resolved.append(item.external_id)
            if document_id is not None:
                drafts.dropped.append(document_id)  # it has no text any more, so it must not be found by its old one
            drafts.delete(_live(children))
            return
        drafts.count("failed")
        drafts.items.append(ItemWrite(item, external_hash, mime_type, SyncStatus.FAILED, reason, document_id))
        drafts.failures.append(
            ItemFailure(
                external_id=item.external_id,
                external_path=item.external_path,
                stage=read.stage,
                error_class=type(problem).__name__,
                reason=reason,
                message=problem.message,
                permanent=isinstance(problem, SkipItemError) and not problem.transient,
            )
        )

    def _take_children(
        self,
        parent: Item,
        attachments: Sequence[Attachment],
        stored_children: Sequence[StoredItem],
        drafts: _Drafts,
        *,
        depth: int,
    ) -> None:
        stored_by_id = {child.external_id: child for child in stored_children}
        found = set()
        for attachment in attachments if depth < MOST_NESTING else ():
            item = attached_item(parent, attachment)
            if item.external_id in found:
                continue
            found.add(item.external_id)
            stored = stored_by_id.get(item.external_id)
            if stored is not None and stored.sync_status is SyncStatus.SYNCED and stored.external_hash == item.external_hash:
                drafts.external_ids.add(item.external_id)
                drafts.count("unchanged")
                drafts.items.append(
                    ItemWrite(item, item.external_hash, stored.mime_type, stored.sync_status, "", stored.document_id)
                )
                continue
            content = Content(attachment.body, attachment.name, attachment.mime_type, item.external_hash)
            self._take(self._extract(_Read(item, stored, content, None, None, "extract")), (), drafts, depth=depth + 1)
        drafts.delete(_live([child for child in stored_children if child.external_id not in found]))

    def _described(self, document_id: DocumentId, item: Item, mime_type: str, title: str) -> DocumentWrite:
        return DocumentWrite(
            id=document_id,
            is_new=False,
            title=title,
            title_lexemes=lexer_for(None).counted(title),
            mime_type=mime_type,
            external_url=item.external_url,
            size_bytes=max(item.size_bytes, 0),
            source_created_at=item.external_created_at,
            source_modified_at=item.external_modified_at,
        )

    def _with_vectors(self, drafts: _Drafts, in_flight: Mapping[bytes, bytes], external_ids: frozenset[str]) -> Batch:
        def embedded_before(hashes: Iterable[bytes]) -> Mapping[bytes, bytes]:
            found = {key: in_flight[key] for key in hashes if key in in_flight}
            rest = [key for key in hashes if key not in found]
            if rest:
                with self._database.transaction_with_rls(self._lease.user_id) as connection:
                    found |= vectors.embedded_before(
                        connection,
                        user_id=self._lease.user_id,
                        index_config_id=self._vectorizer.config.id,
                        text_hashes=rest,
                    )
            return found

        every_cut = [cut for _, cuts in drafts.documents for cut in cuts or ()]
        done = self._vectorizer.vectorize(every_cut, embedded_before)
        writes = [
            write if cuts is None else replace(write, chunks=done.chunks(cuts)) for write, cuts in drafts.documents
        ]
        drafts.add(chunks_embedded=done.embedded, chunks_reused=done.reused, embedding_tokens=done.tokens)
        return Batch(
            item_writes=drafts.items,
            document_writes=writes,
            failures=drafts.failures,
            resolved=drafts.resolved,
            deleted=drafts.deleted,
            dropped_documents=drafts.dropped,
            seen=drafts.seen,
            counts=Counts(**drafts.counts),
            external_ids=external_ids | drafts.external_ids,
            fresh_vectors=done.fresh,
        )


class _Drafts:
    """A batch while it is being put together."""

    def __init__(self) -> None:
        self.items: list[ItemWrite] = []
        self.documents: list[tuple[DocumentWrite, list[Cut] | None]] = []
        self.failures: list[ItemFailure] = []
        self.resolved: list[str] = []
        self.deleted: list[str] = []
        self.dropped: list[UUID] = []
        self.seen: list[str] = []
        self.external_ids: set[str] = set()
        self.counts: dict[str, int] = {}

    def add(self, **amounts: int) -> None:
        for name, amount in amounts.items():
            self.counts[name] = self.counts.get(name, 0) + amount

    def count(self, outcome: str) -> None:
        self.add(found=1)
        self.add(**{outcome: 1})

    def delete(self, external_ids: Sequence[str]) -> None:
        self.deleted += external_ids
        self.resolved += external_ids
        self.add(found=len(external_ids), deleted=len(external_ids))


def _live(items: Sequence[StoredItem]) -> list[str]:
    return [item.external_id for item in items if item.sync_status is not SyncStatus.DELETED]


def attached_item(parent: Item, attachment: Attachment) -> Item:
    """Return the item that an attachment is: identified by its parent and its key, hashed by its bytes."""
    return Item(
        external_id=f"{parent.external_id}/{attachment.key}",
        external_path=f"{parent.external_path}/{attachment.name}",
        external_hash="b2:" + blake2b(attachment.body, digest_size=16).hexdigest(),
        item_type=ItemType.FILE,
        title=attachment.name.rpartition(".")[0] or attachment.name,
        mime_type=attachment.mime_type,
        size_bytes=len(attachment.body),
        external_modified_at=parent.external_modified_at,
        external_created_at=parent.external_created_at,
        external_url=parent.external_url,
        parent_external_id=parent.external_id,
    )


class BatchWriter:
    """Commits batches, one at a time, each in one transaction that first proves the lease."""

    def __init__(
        self,
        *,
        database: Database,
        lease: Lease,
        job_id: SyncJobId,
        project_id: UUID | None,
        new_id: NewId,
        faults: Faults,
    ) -> None:
        self._database = database
        self._lease = lease
        self._job_id = job_id
        self._project_id = project_id
        self._new_id = new_id
        self._faults = faults
        self._packer = TsvectorPacker()

    def write(self, batch: Batch, *, pages: int, progress: Mapping[str, Any]) -> bool:
        """Commit a batch with its counts and the resume point behind it; return whether a cancel was requested.

        Raises FencedError, and then nothing of the batch is stored.
        """
        lease, job_id = self._lease, self._job_id
        sweep_id = UUID(progress["sweep_id"]) if progress.get("sweep_id") else None
        with self._database.transaction_with_rls(lease.user_id) as connection:
            prove_lease(connection, lease)
            self._faults.reach("page_lease_proven")
            documents.store(
                connection,
                user_id=lease.user_id,
                data_source_id=lease.data_source_id,
                project_id=self._project_id,
                writes=batch.document_writes,
                packer=self._packer,
            )
            self._faults.reach("page_documents_written")
            sync_items.write(connection, lease, job_id=job_id, sweep_id=sweep_id, writes=batch.item_writes)
            if sweep_id is not None and batch.seen:
                sync_items.mark_seen(connection, lease, sweep_id=sweep_id, external_ids=batch.seen)
            dropped = list(batch.dropped_documents)
            if batch.deleted:
                dropped += sync_items.mark_deleted(connection, lease, job_id=job_id, external_ids=batch.deleted)
            documents.tombstone(connection, user_id=lease.user_id, document_ids=dropped)
            self._faults.reach("page_items_written")
            sync_failures.record(connection, lease, job_id=job_id, failures=batch.failures, new_id=self._new_id)
            sync_failures.resolve(connection, lease, external_ids=batch.resolved)
            cancel = sync_jobs.advance(
                connection, lease, job_id=job_id, counts=batch.counts, pages=pages, progress=progress
            )
            self._faults.reach("page_before_commit")
        self._faults.reach("page_committed")
        return cancel
