"""One batch of a page: fetch, extract, cut and embed what changed. Nothing is written here."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from uuid import UUID

from workstation_pipelines.db import index_settings, vectors
from workstation_pipelines.db.data_sources import Lease
from workstation_pipelines.db.documents import DocumentWrite
from workstation_pipelines.db.engine import Database
from workstation_pipelines.db.rulings import FILTERED
from workstation_pipelines.db.sync_items import ItemWrite
from workstation_pipelines.errors import (
    BudgetReachedError,
    CancelledError,
    FilteredError,
    ItemGoneError,
    PausedError,
    ReauthorizeError,
    RetryableError,
    SkipItemError,
    UnreadableContentError,
)
from workstation_pipelines.index.contract import Extractor
from workstation_pipelines.model import (
    Attachment,
    Content,
    Counts,
    DocumentId,
    Extracted,
    IndexConfigId,
    Item,
    ItemFailure,
    NewId,
    StoredItem,
    SyncJobId,
    SyncStatus,
)
from workstation_pipelines.sources.contract import Source
from workstation_pipelines.sync import inside
from workstation_pipelines.sync.batch import Batch, EndedBy, FreshVectors
from workstation_pipelines.sync.budget import Allowance, Wanted
from workstation_pipelines.sync.delta import REMOVED_BY_USER, Action, Step, document_title
from workstation_pipelines.sync.drafts import Drafts
from workstation_pipelines.sync.faults import Faults
from workstation_pipelines.sync.intake import storable
from workstation_pipelines.sync.measure import Measures
from workstation_pipelines.sync.reading import ItemReader, Read
from workstation_pipelines.sync.rules import SourceRules
from workstation_pipelines.sync.stopping import StopSignal
from workstation_pipelines.sync.vectorize import Cut, Vectorized, Vectorizer, content_hash
from workstation_pipelines.text.lexemes import lexer_for

EMBEDDED_AT_ONCE = 512
"""Between so many texts a run that is to stop can."""

MOST_NESTING = 3
"""Attachments of attachments are followed so deep."""


class BatchBuilder:
    """Turns steps into batches for one run. Not thread-safe.

    `executor` is for fetches and extractions that may wait; `aside` embeds, whatever those threads are waiting for.
    """

    def __init__(
        self,
        *,
        database: Database,
        lease: Lease,
        job_id: SyncJobId,
        source: Source,
        extractor: Extractor,
        vectorizer: Vectorizer,
        executor: Executor,
        aside: Executor,
        allowance: Allowance,
        new_id: NewId,
        faults: Faults,
        stop: StopSignal,
        rules: SourceRules,
    ) -> None:
        self._database = database
        self._lease = lease
        self._job_id = job_id
        self._source = source
        self._reader = ItemReader(
            source=source, extractor=extractor, executor=executor, faults=faults, stop=stop, rules=rules
        )
        self._vectorizer = vectorizer
        self._aside = aside
        self._allowance = allowance
        self._new_id = new_id
        self._stop = stop
        self._rules = rules
        self._measures = Measures()
        self._config_of_new: IndexConfigId | None = None

    def build(
        self,
        steps: Sequence[Step],
        children: Mapping[str, Sequence[StoredItem]],
        in_flight: FreshVectors,
    ) -> Batch:
        """Work `steps`, of which each external id occurs once.

        `children` are the stored items found inside earlier versions of these items, however deep; `in_flight` are
        vectors that a batch not yet committed is about to store. Raises RetryableError and ReauthorizeError when the
        source gave nothing before it gave out, BudgetReachedError when not even the first document fits, CancelledError and
        PausedError when the run is to stop and has nothing to keep, or no time to, FencedError, and whatever is a bug.
        """
        self._find_config_of_new_documents()
        drafts = Drafts()
        taken: list[Drafts] = []
        ended_by: EndedBy | None = None
        calls = self._source.provider_calls
        to_fetch = []
        for step in steps:
            stored_inside = children.get(step.external_id, ())
            if step.action is Action.DELETE:
                drafts.delete([step.external_id, *inside.live(stored_inside)])
            elif step.action is Action.FETCH or self._passes_now(step):
                to_fetch.append(step)
            elif step.action is Action.DESCRIBE and (problem := self._reader.left_out(step)) is not None:
                self._take(problem, stored_inside, drafts, depth=0)
            else:
                self._keep(step, stored_inside, drafts)
        try:
            for read in self._reader.read(to_fetch):
                taken.append(Drafts())
                self._take(read, children.get(read.item.external_id, ()), taken[-1], depth=0)
        except (RetryableError, ReauthorizeError, CancelledError, PausedError) as error:
            self._stop.raise_if_overdue()  # in the middle of an item, perhaps
            if not drafts.counts and not taken:
                raise
            # Else a vendor that serves less than a page between two pauses would never let a page end.
            ended_by = error
        if self._source.provider_calls > calls:
            self._measures.add("fetch", "calls", self._source.provider_calls - calls)
        everything = Drafts()
        for each in taken:
            everything.merge(each)
        known = self._embedded_before(everything, in_flight)
        count, over = self._within_budget(taken, known)
        for each in taken[:count]:
            drafts.merge(each)
        if over is not None and not drafts.counts:
            raise over
        batch = self._with_vectors(drafts, known, frozenset(step.external_id for step in steps))
        return replace(batch, ended_by=over or ended_by)

    def _passes_now(self, step: Step) -> bool:
        """Return whether a rule left out an item that has another path or title now, with which none does."""
        is_renamed = step.action is Action.DESCRIBE and step.stored is not None and step.stored.reason == FILTERED
        return is_renamed and self._reader.left_out(step) is None

    def forget_unavailable(self) -> int:
        """Return how many items in a row could not be had until now, and count anew."""
        return self._reader.forget_unavailable()

    def _keep(self, step: Step, stored_inside: Sequence[StoredItem], drafts: Drafts) -> None:
        item, stored = step.item, step.stored
        if item is None or stored is None:
            raise AssertionError(f"{step.action} needs the item and what is stored of it")
        drafts.seen.append(step.external_id)
        if step.action is Action.KEEP:
            drafts.count("unchanged")
            return
        drafts.count("updated" if step.action is Action.DESCRIBE else "unchanged")
        write = ItemWrite(
            item, item.external_hash, stored.mime_type, stored.sync_status, stored.reason, stored.document_id
        )
        if step.action is not Action.DESCRIBE:
            # What a rule said of it stands: a newer hash of the same content changes nothing of that.
            write = replace(write, reason_detail=stored.reason_detail, rules_hash=stored.item_rules_hash)
        drafts.items.append(write)
        if step.action is not Action.DESCRIBE:
            return
        if self._rules.hash or stored.rules_hash:
            drafts.described += [step.external_id, *(child.external_id for child in stored_inside)]
        drafts.moved += inside.moved(item, stored, stored_inside)
        if stored.document_id is not None:
            title = self._rules.shown_words(document_title(item, stored, None))
            drafts.documents.append((self._described(stored.document_id, item, stored.mime_type, title), None))

    def _take(self, read: Read, stored_inside: Sequence[StoredItem], drafts: Drafts, *, depth: int) -> None:
        drafts.external_ids.add(read.item.external_id)
        self._measure(read)
        if read.content is not None and depth == 0:
            drafts.add(fetched=0 if read.came_along else 1, bytes_fetched=len(read.content.body))
        if read.problem is not None:
            self._take_problem(read, read.problem, stored_inside, drafts)
            return
        content, extracted, item, stored = read.content, read.extracted, read.item, read.stored
        if content is None or extracted is None:
            raise AssertionError("neither text nor a problem")
        had_rules = stored is not None and bool(stored.rules_hash or stored.item_rules_hash)
        try:
            ruled = self._rules.apply(item, extracted, had_rules=had_rules)
        except SkipItemError as refused:
            self._take_problem(replace(read, problem=refused, stage="rules"), refused, stored_inside, drafts)
            return
        extracted = ruled.extracted
        is_live = stored is not None and stored.document_id is not None and not stored.is_document_deleted
        known = (stored.content_hash, stored.index_config_id) if stored is not None and is_live else None
        digest = content_hash(extracted.text)
        using = self._vectorizer_for(stored)
        cuts: list[Cut] | None = None
        if known != (digest, using.config.id):
            begun_s = time.perf_counter()
            cuts = using.cut(extracted.text, extracted.headings, extracted.language)
            self._measures.add("cut", "duration_s", time.perf_counter() - begun_s)
            if not cuts:
                problem = _nothing_to_find(item)
                stage = "rules" if self._rules.hash else "chunk"
                self._take_problem(replace(read, stage=stage), problem, stored_inside, drafts)
                return
        mime_type = storable(extracted.mime_type or content.mime_type)
        document_id = stored.document_id if stored is not None and stored.document_id else DocumentId(self._new_id())
        drafts.count("updated" if is_live else "created")
        if stored is not None and stored.sync_status is SyncStatus.FAILED:
            drafts.resolved.append(item.external_id)
        external_hash = storable(content.external_hash)
        drafts.items.append(ItemWrite(item, external_hash, mime_type, SyncStatus.SYNCED, "", document_id))
        write = self._described(document_id, item, mime_type, ruled.title, size_bytes=len(content.body))
        write = replace(write, external_url=ruled.url, ruling=ruled.ruling)
        if cuts is not None:
            write = _with_text(write, stored, extracted, digest, using.config.id)
        drafts.documents.append((write, cuts))
        attachments = [*content.attachments, *extracted.children]
        self._take_children(item, attachments, stored_inside, drafts, depth=depth)

    def _measure(self, read: Read) -> None:
        add = self._measures.add
        if read.fetch_s is not None:
            add("fetch", "duration_s", read.fetch_s)
            if read.content is not None:
                add("fetch", "bytes", len(read.content.body))
        if read.extract_s is not None:
            add("extract", "duration_s", read.extract_s)
        if read.problem is not None:
            add(read.stage, "errors", 1)

    def _find_config_of_new_documents(self) -> None:
        # Before each batch: a choice made meanwhile holds for what is prepared from now on.
        with self._database.transaction_with_rls(self._lease.user_id) as connection:
            self._config_of_new = index_settings.of_new_documents(
                connection, user_id=self._lease.user_id, data_source_id=self._lease.data_source_id
            )

    def _vectorizer_for(self, stored: StoredItem | None) -> Vectorizer:
        has_document = stored is not None and stored.document_id is not None
        return self._vectorizer.of(stored.wanted_index_config_id if stored and has_document else self._config_of_new)

    def _take_problem(
        self,
        read: Read,
        problem: SkipItemError | RetryableError,
        stored_inside: Sequence[StoredItem],
        drafts: Drafts,
    ) -> None:
        item, stored = read.item, read.stored
        external_hash = storable(read.content.external_hash) if read.content is not None else item.external_hash
        document_id = stored.document_id if stored is not None else None
        if isinstance(problem, ItemGoneError):
            drafts.count("skipped")  # the next listing tells; what is stored stays until then
            drafts.seen.append(item.external_id)
            return
        reason = problem.reason if isinstance(problem, SkipItemError) else "unavailable"
        if isinstance(problem, SkipItemError) and problem.stored_as == "skipped":
            mime_type = storable(read.content.mime_type) if read.content is not None else item.mime_type
            drafts.count("skipped")
            write = ItemWrite(item, external_hash, mime_type, SyncStatus.SKIPPED, reason, document_id)
            drafts.items.append(self._ruled_on(write, read, problem))
            is_newer = stored is not None and not self._source.same_content(stored.external_hash, external_hash)
            if is_newer and document_id is not None:
                drafts.outdated.append(document_id)
            drafts.resolved.append(item.external_id)
            if document_id is not None:
                drafts.dropped.append(document_id)  # it has no text any more, so it must not be found by its old one
            drafts.delete(inside.live(stored_inside))
            return
        drafts.count("failed")
        # With the vendor's MIME type, which may decide how to fetch it: the next try begins from this row.
        write = ItemWrite(item, external_hash, item.mime_type, SyncStatus.FAILED, reason, document_id)
        drafts.items.append(self._ruled_on(write, read, problem))
        drafts.moved += inside.moved(item, stored, stored_inside)
        drafts.failures.append(
            ItemFailure(
                external_id=item.external_id,
                external_path=item.external_path,
                stage=read.stage,
                error_class=type(problem).__name__,
                reason=reason,
                message=storable(problem.message),
                permanent=isinstance(problem, SkipItemError) and not problem.transient,
            )
        )

    def _ruled_on(self, write: ItemWrite, read: Read, problem: SkipItemError | RetryableError) -> ItemWrite:
        """Note which rules have left an item out, or failed on it: others may not."""
        if read.stage != "rules":
            return write
        detail = problem.rule if isinstance(problem, FilteredError) else ""
        return replace(write, reason_detail=detail, rules_hash=self._rules.hash)

    def _take_children(
        self,
        parent: Item,
        attachments: Sequence[Attachment],
        stored_inside: Sequence[StoredItem],
        drafts: Drafts,
        *,
        depth: int,
    ) -> None:
        stored_by_id = {child.external_id: child for child in stored_inside}
        kept = set()
        for attachment in attachments if depth < MOST_NESTING else ():
            self._stop.raise_if_overdue()
            item = inside.attached_item(parent, attachment)
            if item.external_id in kept:
                continue
            kept.add(item.external_id)
            stored = stored_by_id.get(item.external_id)
            deeper = inside.below(item.external_id, stored_inside)
            kept.update(child.external_id for child in deeper)  # each level decides on what is directly inside it
            if stored is not None and _is_as_stored(item, stored, self._rules.hash):
                drafts.external_ids.add(item.external_id)
                drafts.count("unchanged")
                drafts.moved += inside.moved(item, stored, [stored, *deeper])
                continue
            content = Content(attachment.body, attachment.name, attachment.mime_type, item.external_hash)
            read = self._reader.extract(Read(item, stored, content, None, None, "extract"))
            self._take(read, deeper, drafts, depth=depth + 1)
        drafts.delete(inside.live(child for child in stored_inside if child.external_id not in kept))

    def _described(
        self, document_id: DocumentId, item: Item, mime_type: str, title: str, *, size_bytes: int | None = None
    ) -> DocumentWrite:
        return DocumentWrite(
            id=document_id,
            is_new=False,
            title=title,
            title_lexemes=lexer_for(None).counted(title),
            mime_type=mime_type,
            external_url=item.external_url,
            size_bytes=size_bytes,
            source_created_at=item.external_created_at,
            source_modified_at=item.external_modified_at,
        )

    def _embedded_before(self, taken: Drafts, in_flight: FreshVectors) -> FreshVectors:
        """Return the vectors that are there already, by index config."""
        found: dict[UUID, dict[bytes, bytes]] = {}
        for config_id, cuts in taken.cuts_by_config().items():
            hashes = {cut.text_hash for each in cuts.values() for cut in each}
            coming = in_flight.get(config_id, {})
            found[config_id] = {key: coming[key] for key in hashes if key in coming}
            rest = hashes - found[config_id].keys()
            if rest:
                with self._database.transaction_with_rls(self._lease.user_id) as connection:
                    found[config_id] |= vectors.embedded_before(
                        connection, user_id=self._lease.user_id, index_config_id=config_id, text_hashes=rest
                    )
        return found

    def _within_budget(self, taken: Sequence[Drafts], known: FreshVectors) -> tuple[int, BudgetReachedError | None]:
        """Return how many of `taken` may be embedded, and why not all."""
        limits = self._allowance.limits()
        if not limits:
            return len(taken), None
        wanted = []
        seen = {(config_id, key) for config_id, each in known.items() for key in each}
        for each in taken:
            new = {
                (config_id, cut.text_hash): cut.chunk.token_count
                for config_id, by_document in each.cuts_by_config().items()
                for cuts in by_document.values()
                for cut in cuts
                if (config_id, cut.text_hash) not in seen
            }
            seen |= new.keys()
            wanted.append(Wanted(sum(new.values()), self._lease.data_source_id))
        return self._allowance.take(limits, wanted)

    def _with_vectors(self, drafts: Drafts, known: FreshVectors, external_ids: frozenset[str]) -> Batch:
        cuts_by_config = drafts.cuts_by_config()
        done = {
            config_id: self._embed(config_id, cuts, known.get(config_id, {}))
            for config_id, cuts in cuts_by_config.items()
        }
        writes = [
            replace(write, chunks=done[write.index_config_id].chunks(cuts)) if cuts and write.index_config_id else write
            for write, cuts in drafts.documents
        ]
        for each in done.values():
            drafts.add(chunks_embedded=each.embedded, chunks_reused=each.reused, embedding_tokens=each.tokens)
        return Batch(
            item_writes=[replace(write, item=self._rules.shown(write.item)) for write in drafts.items]
            if self._rules.redacts
            else drafts.items,
            document_writes=writes,
            failures=[self._rules.shown_failure(failure) for failure in drafts.failures],
            resolved=drafts.resolved,
            deleted=drafts.deleted,
            dropped_documents=drafts.dropped,
            seen=drafts.seen,
            moved=[replace(move, external_path=self._rules.shown_path(move.external_path)) for move in drafts.moved]
            if self._rules.redacts
            else drafts.moved,
            described=drafts.described,
            outdated_documents=drafts.outdated,
            counts=Counts(**drafts.counts),
            external_ids=external_ids | drafts.external_ids,
            fresh_vectors={config_id: each.fresh for config_id, each in done.items()},
            usages=[
                usage
                for config_id, cuts in cuts_by_config.items()
                for usage in self._vectorizer.of(config_id).usages(
                    done[config_id].tokens_by_document(cuts.items()),
                    data_source_id=self._lease.data_source_id,
                    job_id=self._job_id,
                )
            ],
            measures=self._measures.take(),
        )

    def _embed(
        self, index_config_id: IndexConfigId, cuts: Mapping[UUID, Sequence[Cut]], known: Mapping[bytes, bytes]
    ) -> Vectorized:
        begun_s = time.perf_counter()
        using = self._vectorizer.of(index_config_id)
        every_cut = (cut for each in cuts.values() for cut in each)
        done = using.vectorize(every_cut, lambda _hashes: known, lambda texts: self._embed_aside(using, texts))
        if done.embedded:
            self._measures.add("embed", "duration_s", time.perf_counter() - begun_s)
        return done

    def _embed_aside(self, using: Vectorizer, texts: Mapping[bytes, str]) -> dict[bytes, bytes]:
        """Embed in portions and in another thread, so that neither a model nor a service makes a run deaf."""
        pairs = list(texts.items())
        vectors_by_hash: dict[bytes, bytes] = {}
        for at in range(0, len(pairs), EMBEDDED_AT_ONCE):
            some = dict(pairs[at : at + EMBEDDED_AT_ONCE])
            embedded = self._stop.result_of(self._aside.submit(using.embed, some), is_finished_first=True)
            vectors_by_hash.update(embedded)
        return vectors_by_hash


def _is_as_stored(item: Item, stored: StoredItem, rules_hash: str) -> bool:
    """Return whether an attachment can stay as it is, with all that is inside it."""
    if stored.reason == REMOVED_BY_USER:
        return True
    if stored.sync_status is not SyncStatus.SYNCED or stored.external_hash != item.external_hash:
        return False
    has_document = stored.document_id is not None and not stored.is_document_deleted
    return has_document and not stored.retry_due and stored.rules_hash == rules_hash


def _with_text(
    write: DocumentWrite,
    stored: StoredItem | None,
    extracted: Extracted,
    digest: str,
    index_config_id: IndexConfigId,
) -> DocumentWrite:
    return replace(
        write,
        is_new=stored is None or stored.document_id is None,
        content_hash=digest,
        language=extracted.language,
        text=extracted.text,
        headings=extracted.headings,
        generation=(stored.live_generation if stored is not None else 0) + 1,
        index_config_id=index_config_id,
    )


def _nothing_to_find(item: Item) -> UnreadableContentError:
    return UnreadableContentError(
        f"{item.external_path}: its text has no word or other visible character: open it and look whether it shows any",
        reason="no_text",
    )
