"""What reprocessing would do and cost, found out from the stored texts."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from uuid import UUID, uuid4

from workstation_pipelines.db import index_settings, vectors
from workstation_pipelines.db.engine import Database
from workstation_pipelines.db.index_settings import Selection
from workstation_pipelines.model import IndexConfigId, UserId
from workstation_pipelines.sync.vectorize import Vectorizer

DOCUMENTS_A_BATCH = 20


@dataclass(frozen=True, slots=True)
class Plan:
    """What choosing a config would do. `unchanged` of the documents are on it already; money is None without a price."""

    documents: int
    unchanged: int
    chunks: int
    reused: int
    tokens: int
    cost_usd: Decimal | None


def plan(
    database: Database,
    vectorizer: Vectorizer,
    *,
    user_id: UserId,
    selection: Selection,
    index_config_id: IndexConfigId | None,
) -> Plan:
    """Cut the stored texts of a selection and count what would be embedded; exact, and nothing is stored.

    None for `index_config_id` takes an earlier choice back; where nobody chose, that is what reindexing would take.
    """
    with database.transaction_with_rls(user_id) as connection:
        chosen = index_settings.selected(connection, user_id=user_id, selection=selection)
        trial = connection.begin_nested()
        index_settings.want(
            connection,
            user_id=user_id,
            selection=selection,
            index_config_id=index_config_id,
            default=vectorizer.config.id,
            new_id=uuid4,
        )
        found = vectors.reprocessable(connection, user_id=user_id, default=vectorizer.config.id, document_ids=chosen)
        trial.rollback()
    stale = [document_id for document_id in chosen if document_id in found and not found[document_id].is_current]
    chunks = reused = tokens = 0
    cost: Decimal | None = Decimal(0)
    seen: set[tuple[IndexConfigId, bytes]] = set()
    for at in range(0, len(stale), DOCUMENTS_A_BATCH):
        by_config: dict[IndexConfigId, list[UUID]] = {}
        for document_id in stale[at : at + DOCUMENTS_A_BATCH]:
            by_config.setdefault(found[document_id].wanted, []).append(document_id)
        for config_id, some in by_config.items():
            using = vectorizer.of(config_id)
            with database.transaction_with_rls(user_id) as connection:
                texts = vectors.stored_texts(connection, user_id=user_id, document_ids=some)
            cuts = [cut for each in texts for cut in using.cut(each.text, each.headings, each.language)]
            with database.transaction_with_rls(user_id) as connection:
                known = vectors.embedded_before(
                    connection,
                    user_id=user_id,
                    index_config_id=config_id,
                    text_hashes={cut.text_hash for cut in cuts},
                )
            seen |= {(config_id, key) for key in known}
            new = {cut.text_hash: cut.chunk.token_count for cut in cuts if (config_id, cut.text_hash) not in seen}
            seen |= {(config_id, key) for key in new}
            chunks += len(cuts)
            reused += len(cuts) - len(new)
            tokens += sum(new.values())
            cost = None if cost is None or using.token_price is None else cost + sum(new.values()) * using.token_price
    return Plan(len(chosen), len(chosen) - len(stale), chunks, reused, tokens, cost)
