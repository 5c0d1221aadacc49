"""The index against the documents: find what does not fit, and mend it from what the database holds, without any source."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from uuid import UUID

from workstation_pipelines.db import documents, item_decisions, nearest, vectors
from workstation_pipelines.db.engine import Database
from workstation_pipelines.db.vectors import StaleDocument
from workstation_pipelines.db.wire import TsvectorPacker
from workstation_pipelines.errors import BudgetReachedError
from workstation_pipelines.model import Limit, UserId
from workstation_pipelines.sync.budget import Allowance
from workstation_pipelines.sync.reapply import Reapplied, reapply
from workstation_pipelines.sync.recut import Sources, affordable_of, meter, prepare, usages_of
from workstation_pipelines.sync.vectorize import Vectorizer, content_hash

DOCUMENTS_A_BATCH = 100
MOST_NAMED = 1000
HASHES_CHECKED = 200


@dataclass(frozen=True, slots=True)
class Report:
    """How a user's index agrees with the documents. `stale` names at most 1,000 documents, `wrong_hash` those of a sample."""

    documents: int
    chunks_expected: int
    chunks: int
    vectors: int
    strays: int
    stale: Sequence[StaleDocument]
    wrong_hash: Sequence[tuple[UUID, str]]
    hashes_checked: int
    rules_changed: int = 0

    @property
    def is_clean(self) -> bool:
        return (
            not (self.stale or self.strays or self.wrong_hash) and self.chunks_expected == self.chunks == self.vectors
        )


@dataclass(frozen=True, slots=True)
class Reworked:
    """What one batch of reindexing did."""

    documents: int = 0
    chunks: int = 0
    embedded: int = 0
    reused: int = 0
    tokens: int = 0

    def plus(self, other: Reworked) -> Reworked:
        return Reworked(
            self.documents + other.documents,
            self.chunks + other.chunks,
            self.embedded + other.embedded,
            self.reused + other.reused,
            self.tokens + other.tokens,
        )


def check(database: Database, vectorizer: Vectorizer, *, user_id: UserId, data_source_id: UUID | None = None) -> Report:
    """Compare rows, chunks and vectors in one snapshot, and the hashes of a sample of texts."""
    with database.transaction_with_rls(user_id) as connection:
        census = vectors.census(connection, user_id=user_id, data_source_id=data_source_id)
        stale = vectors.stale(
            connection,
            user_id=user_id,
            index_config_id=vectorizer.config.id,
            data_source_id=data_source_id,
            limit=MOST_NAMED,
        )
        sample = vectors.sample(connection, user_id=user_id, data_source_id=data_source_id, at_most=HASHES_CHECKED)
    wrong = [(row.id, row.title) for row in sample if content_hash(row.text) != row.content_hash]
    return Report(**census, stale=stale, wrong_hash=wrong, hashes_checked=len(sample))


def remove_strays(database: Database, *, user_id: UserId) -> int:
    """Delete chunks that no live generation shows; return how many there were."""
    with database.transaction_with_rls(user_id) as connection:
        return vectors.remove_strays(connection, user_id=user_id)


def distrust(database: Database, *, user_id: UserId, document_ids: Sequence[UUID]) -> int:
    """Forget what is known of the texts of documents whose hash does not fit; return how many items that concerns.

    Nothing that is stored here can mend them: the next full sync of their source fetches them again.
    """
    with database.transaction_with_rls(user_id) as connection:
        documents.forget_hashes(connection, user_id=user_id, document_ids=document_ids)
        return item_decisions.forget_hashes(connection, user_id=user_id, document_ids=document_ids)


def reindex(
    database: Database,
    vectorizer: Vectorizer,
    *,
    user_id: UserId,
    data_source_id: UUID | None = None,
    project_id: UUID | None = None,
    limits: Sequence[Limit] = (),
) -> Iterator[Reworked]:
    """Apply changed rules, bring stale documents to the config wanted for each, fill in vectors; yields after each commit.

    Nothing is fetched, and texts embedded before under this config are not embedded again. Safe beside a running sync:
    a document that changes meanwhile keeps what the sync gave it. Idempotent; ends when nothing is stale. `limits` are
    budgets for this run besides those that are stored; raises BudgetReachedError behind the last document that fits.
    """
    allowance = Allowance(
        database,
        user_id=user_id,
        data_source_id=data_source_id,
        token_price=vectorizer.token_price,
        own=limits,
    )
    for done in reapply(database, vectorizer, allowance, user_id=user_id, data_source_id=data_source_id):
        yield _reworked(done)
    packer = TsvectorPacker()
    last: UUID | None = None
    while True:
        with database.transaction_with_rls(user_id) as connection:
            # In order of id: what is stale again after its turn was changed by someone else meanwhile, and is their concern.
            batch = vectors.stale(
                connection,
                user_id=user_id,
                index_config_id=vectorizer.config.id,
                data_source_id=data_source_id,
                project_id=project_id,
                after=last,
                limit=DOCUMENTS_A_BATCH,
            )
        if not batch:
            return
        last = batch[-1].id
        work, over = Reworked(), None
        for wanted in dict.fromkeys(each.wanted_index_config_id for each in batch):
            using = vectorizer.of(wanted)
            same = [each for each in batch if each.wanted_index_config_id == wanted]
            lacking: Sources = {each.id: each.data_source_id for each in same if each.problem == "vectors missing"}
            others: Sources = {
                each.id: each.data_source_id
                for each in same
                if each.problem not in ("vectors missing", "rules changed")  # what is left of these is to be fetched
            }
            if lacking and over is None:
                filled, over = _fill_in(database, using, allowance, user_id=user_id, sources=lacking)
                work = work.plus(filled)
            if others and over is None:
                recut, over = _recut(database, using, allowance, user_id=user_id, sources=others, packer=packer)
                work = work.plus(recut)
        if work.documents:
            yield work
        if over is not None:
            raise over


def _reworked(done: Reapplied) -> Reworked:
    counts = done.counts
    chunks = counts.chunks_embedded + counts.chunks_reused
    return Reworked(done.documents, chunks, counts.chunks_embedded, counts.chunks_reused, counts.embedding_tokens)


def promote(database: Database, *, user_id: UserId) -> Iterator[int]:
    """Move the chunks of a user with very many into the approximate index; yields after each commit how many moved.

    Loads leave new chunks out of it, since inserting one by one is what makes them slow. Until they are promoted they are
    searched exactly, so this is never urgent. Nothing happens for a user with few chunks.
    """
    while True:
        with database.transaction_with_rls(user_id) as connection:
            moved = nearest.promote(connection, user_id=user_id)
        if not moved:
            return
        yield moved


def _fill_in(
    database: Database, vectorizer: Vectorizer, allowance: Allowance, *, user_id: UserId, sources: Sources
) -> tuple[Reworked, BudgetReachedError | None]:
    with database.transaction_with_rls(user_id) as connection:
        missing = vectors.missing(connection, user_id=user_id, document_ids=list(sources))
        found = vectors.embedded_before(
            connection,
            user_id=user_id,
            index_config_id=vectorizer.config.id,
            text_hashes={text_hash for _, _, _, text_hash, _, _ in missing},
        )
    lacking: dict[UUID, dict[bytes, int]] = {document_id: {} for document_id in sources}
    for document_id, _, _, key, _, count in missing:
        lacking[document_id][key] = count
    affordable, over = affordable_of(allowance, lacking, found, sources)
    missing = [each for each in missing if each[0] in affordable]
    wanted = {text_hash: (text, tokens) for _, _, _, text_hash, text, tokens in missing}
    begun_s = time.perf_counter()
    new = {key: text for key, (text, _) in wanted.items() if key not in found}
    fresh = vectorizer.embed(new)
    took_s = time.perf_counter() - begun_s
    values = {**found, **fresh}
    first_seen = {key: document for document, _, _, key, _, _ in reversed(missing) if key in new}
    spent: dict[UUID, int] = {}
    for key, document in first_seen.items():
        spent[document] = spent.get(document, 0) + wanted[key][1]
    with database.transaction_with_rls(user_id) as connection:
        documents.lock(connection, user_id=user_id, document_ids=list(affordable))
        vectors.fill(
            connection,
            user_id=user_id,
            vectors=[(document, gen, ordinal, values[key]) for document, gen, ordinal, key, _, _ in missing],
        )
        usages = usages_of(vectorizer, spent, sources, job_id=None)
        meter(connection, user_id=user_id, usages=usages, took_s=took_s)
    done = Reworked(len(affordable), len(missing), len(fresh), len(missing) - len(fresh), sum(spent.values()))
    return done, over


def _recut(
    database: Database,
    vectorizer: Vectorizer,
    allowance: Allowance,
    *,
    user_id: UserId,
    sources: Sources,
    packer: TsvectorPacker,
) -> tuple[Reworked, BudgetReachedError | None]:
    recut, over = prepare(database, vectorizer, allowance, user_id=user_id, sources=sources)
    with database.transaction_with_rls(user_id) as connection:
        finished = documents.rechunk(connection, user_id=user_id, writes=recut.writes, packer=packer)
        meter(connection, user_id=user_id, usages=recut.usages, took_s=recut.took_s)
    return Reworked(len(finished), recut.chunks, recut.embedded, recut.reused, recut.tokens), over
