"""An index build against the live index: the same questions to both, and what either costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from decimal import Decimal
from statistics import fmean
from typing import Any
from uuid import UUID

from workstation_pipelines.db import index_builds, saved_questions
from workstation_pipelines.db.engine import Database
from workstation_pipelines.db.saved_questions import SavedQuestion
from workstation_pipelines.errors import InvalidRequestError
from workstation_pipelines.index import search
from workstation_pipelines.index.contract import Embedder
from workstation_pipelines.index.search import EmbedderOf
from workstation_pipelines.model import Scope, UserId
from workstation_pipelines.sync.vectorize import Vectorizer

HITS = 10


@dataclass(frozen=True, slots=True)
class Answer:
    """How both answer one question. Recall is the share of the expected documents among the first ten hits, None where
    none are expected; `overlap` is the share of the live answer's documents that the build finds too."""

    question_id: UUID
    question: str
    live_recall: float | None
    build_recall: float | None
    overlap: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """Means over the questions, and the cost: tokens embedded for the build, money, and bytes of the chunks of either."""

    answers: Sequence[Answer]
    live_recall: float | None
    build_recall: float | None
    overlap: float
    embedding_tokens: int
    cost_usd: Decimal | None
    live_bytes: int
    build_bytes: int


def compare(
    database: Database,
    vectorizer: Vectorizer,
    embedder: Embedder,
    embedder_of: EmbedderOf,
    *,
    user_id: UserId,
    build_id: UUID,
) -> Comparison:
    """Ask the saved questions of a build's project on both, and keep the numbers with the build.

    Raises InvalidRequestError when the project has no questions, NotFoundError.
    """
    with database.transaction_with_rls(user_id) as connection:
        build = index_builds.get(connection, user_id=user_id, build_id=build_id)
        questions = saved_questions.of_project(connection, user_id=user_id, project_id=build.project_id)
        tokens = index_builds.embedding_tokens(connection, build, user_id=user_id)
        live_bytes, build_bytes = index_builds.storage_bytes(connection, build, user_id=user_id)
    if not questions:
        raise InvalidRequestError("the project has no saved questions: `workstation question add` keeps some")
    scope = Scope(user_id, project_ids=[build.project_id])

    def found(question: SavedQuestion, version: UUID | None) -> list[UUID]:
        result = search.search(
            database,
            embedder,
            vectorizer.config,
            question.question,
            scope,
            limit=HITS,
            embedder_of=embedder_of,
            build_id=version,
        )
        return [hit.document_id for hit in result.hits]

    answers = [_answer(each, found(each, None), found(each, build.id)) for each in questions]
    price = vectorizer.of(build.index_config_id).token_price
    comparison = Comparison(
        answers=answers,
        live_recall=_mean([each.live_recall for each in answers]),
        build_recall=_mean([each.build_recall for each in answers]),
        overlap=fmean(each.overlap for each in answers),
        embedding_tokens=tokens,
        cost_usd=None if price is None else tokens * price,
        live_bytes=live_bytes,
        build_bytes=build_bytes,
    )
    with database.transaction_with_rls(user_id) as connection:
        index_builds.save_results(connection, build, user_id=user_id, results=_as_json(comparison))
    return comparison


def _answer(question: SavedQuestion, live: Sequence[UUID], built: Sequence[UUID]) -> Answer:
    expected = set(question.expected_document_ids)
    return Answer(
        question_id=question.id,
        question=question.question,
        live_recall=len(expected & set(live)) / len(expected) if expected else None,
        build_recall=len(expected & set(built)) / len(expected) if expected else None,
        overlap=len(set(live) & set(built)) / len(set(live)) if live else float(not built),
    )


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def _as_json(comparison: Comparison) -> dict[str, Any]:
    """Numbers and ids: the questions stand elsewhere."""
    kept = asdict(comparison)
    kept["cost_usd"] = None if comparison.cost_usd is None else str(comparison.cost_usd)
    kept["answers"] = [
        {name: value for name, value in asdict(each).items() if name != "question"}
        | {"question_id": str(each.question_id)}
        for each in comparison.answers
    ]
    return kept
