"""What reindexing would take, exactly: the texts are stored, so they can be cut. Nothing is embedded and nothing written."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from uuid import UUID

from workstation_pipelines.db import vectors
from workstation_pipelines.db.engine import Database
from workstation_pipelines.model import UserId
from workstation_pipelines.sync.index import DOCUMENTS_A_BATCH
from workstation_pipelines.sync.vectorize import Vectorizer


@dataclass(frozen=True, slots=True)
class ReworkPlan:
    """`tokens` are those of texts that have no embedding under the wanted index config; `cost_usd` is None if unknown."""

    documents: int
    chunks: int
    embedded: int
    tokens: int
    cost_usd: Decimal | None


def plan_rework(
    database: Database, vectorizer: Vectorizer, *, user_id: UserId, data_source_id: UUID | None = None
) -> ReworkPlan:
    """Say what reindex() would do for the same arguments. Takes the time of reading and cutting all that is stale."""
    documents = chunks = tokens = 0
    seen: set[bytes] = set()
    last: UUID | None = None
    while True:
        with database.transaction_with_rls(user_id) as connection:
            batch = vectors.stale(
                connection,
                user_id=user_id,
                index_config_id=vectorizer.config.id,
                data_source_id=data_source_id,
                after=last,
                limit=DOCUMENTS_A_BATCH,
            )
            lacking = [each.id for each in batch if each.problem == "vectors missing"]
            others = [each.id for each in batch if each.problem != "vectors missing"]
            missing = vectors.missing(connection, user_id=user_id, document_ids=lacking)
            texts = vectors.stored_texts(connection, user_id=user_id, document_ids=others)
        if not batch:
            break
        last = batch[-1].id
        cuts = [cut for each in texts for cut in vectorizer.cut(each.text, each.headings, each.language)]
        wanted = {text_hash: count for _, _, _, text_hash, _, count in missing}
        wanted |= {cut.text_hash: cut.chunk.token_count for cut in cuts}
        new = {key: count for key, count in wanted.items() if key not in seen}
        with database.transaction_with_rls(user_id) as connection:
            known = vectors.embedded_before(
                connection, user_id=user_id, index_config_id=vectorizer.config.id, text_hashes=new
            )
        seen |= new.keys() - known.keys()
        documents += len(batch)
        chunks += len(missing) + len(cuts)
        tokens += sum(count for key, count in new.items() if key not in known)
    price = vectorizer.token_price
    return ReworkPlan(documents, chunks, len(seen), tokens, None if price is None else tokens * price)
