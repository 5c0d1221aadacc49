"""How well search ranks: nDCG@10 a class of questions, for words only, vectors only, plain rank fusion and ours.

    python -m benchmarks.search_quality [--half tune|report|all] [--json]

The questions are split in two halves. Weights and floors were tuned on `tune`; `report` is what they are judged by.
"""

from __future__ import annotations

import argparse
import json
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from benchmarks import search_library as library
from workstation_pipelines.db import nearest, search_scope, wire
from workstation_pipelines.db import search as stored
from workstation_pipelines.db.engine import Database
from workstation_pipelines.index import query as queries
from workstation_pipelines.index import search
from workstation_pipelines.index.contract import Embedder
from workstation_pipelines.index.minilm.embedder import MiniLmEmbedder
from workstation_pipelines.model import IndexConfig, Scope, UserId
from workstation_pipelines.text.lexemes import lexer_for

CORPUS = Path(__file__).with_name("search_corpus")
USER = UserId("benchmark")
DEPTH = 100
LANGUAGES = ("en", "de", "fr", "es")
NO_ANSWER = "none"

Grades = Mapping[str, int]
"""Document -> 2 (answers) or 1 (related)."""


@dataclass(frozen=True, slots=True)
class Question:
    id: str
    text: str
    kind: str
    half: str
    grades: Grades


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--half", choices=["tune", "report", "all"], default="report")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    asked = [question for question in questions() if options.half in (question.half, "all")]
    with library.empty_database() as database:
        report = measure(database, MiniLmEmbedder(threads=2), asked)
    report |= {"half": options.half, "questions": len(asked)}
    print(json.dumps(report) if options.json else _table(report))


def questions() -> list[Question]:
    """Read the questions with their judgments (BEIR's file format)."""
    grades: dict[str, dict[str, int]] = defaultdict(dict)
    for line in (CORPUS / "qrels.tsv").read_text().splitlines()[1:]:
        question, document, grade = line.split("\t")
        grades[question][document] = int(grade)
    rows = map(json.loads, (CORPUS / "queries.jsonl").read_text().splitlines())
    return [
        Question(row["_id"], row["text"], row["metadata"]["class"], row["metadata"]["half"], grades[row["_id"]])
        for row in rows
    ]


def measure(database: Database, embedder: Embedder, asked: Sequence[Question]) -> dict[str, object]:
    config = library.index_config(database, USER, embedder)
    names = _fill(database, embedder, config)
    scores: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    empty: dict[bool, list[bool]] = defaultdict(list)
    for question in asked:
        by_words, by_vector = _parents(database, embedder, config, question.text)
        found = search.search(database, embedder, config, question.text, Scope(USER))
        empty[question.kind == NO_ANSWER].append(found.nothing_relevant)
        if question.kind == NO_ANSWER:
            continue
        rankings = {
            "words": by_words,
            "vectors": by_vector,
            "rrf": reciprocal_rank_fusion(by_words, by_vector),
            "ours": [(hit.document_id, 0, 0) for hit in found.hits],
        }
        for system, keys in rankings.items():
            score = ndcg([names[str(key[0])] for key in keys], question.grades)
            scores[system][question.kind].append(score)
            scores[system]["all"].append(score)
    return {
        "ndcg_at_10": {
            system: {kind: round(fmean(values), 3) for kind, values in kinds.items()}
            for system, kinds in scores.items()
        },
        "nothing_relevant": {
            "said_when_true": f"{sum(empty[True])}/{len(empty[True])}",
            "said_when_false": f"{sum(empty[False])}/{len(empty[False])}",
        },
    }


def ndcg(ranked: Sequence[str], grades: Grades, at: int = 10) -> float:
    """Normalised discounted cumulative gain with gains 2^grade - 1."""
    ideal = sorted((2**grade - 1 for grade in grades.values()), reverse=True)[:at]
    gains = [2 ** grades.get(name, 0) - 1 for name in ranked[:at]]
    return _discounted(gains) / _discounted(ideal)


def reciprocal_rank_fusion(*rankings: Sequence[stored.ChunkKey], k: int = 60) -> list[stored.ChunkKey]:
    scores: dict[stored.ChunkKey, float] = defaultdict(float)
    for ranking in rankings:
        for rank, key in enumerate(ranking, 1):
            scores[key] += 1 / (k + rank)
    return sorted(scores, key=lambda key: -scores[key])


def _discounted(gains: Sequence[int]) -> float:
    return sum(gain / math.log2(rank + 1) for rank, gain in enumerate(gains, 1))


def _fill(database: Database, embedder: Embedder, config: IndexConfig) -> dict[str, str]:
    rows = [json.loads(line) for line in (CORPUS / "corpus.jsonl").read_text().splitlines()]
    texts = [
        library.Text(row["title"], f"{row['title']}\n\n{row['text']}", row["metadata"]["language"]) for row in rows
    ]
    halfvecs = wire.halfvecs(embedder.embed([text.text for text in texts]))
    source = library.add_source(database, USER)
    ids = library.store(database, USER, source=source, config=config, texts=texts, halfvecs=halfvecs)
    return {str(document_id): row["_id"] for document_id, row in zip(ids, rows, strict=True)}


def _parents(
    database: Database, embedder: Embedder, config: IndexConfig, text: str
) -> tuple[list[stored.ChunkKey], list[stored.ChunkKey]]:
    parsed = queries.parse(text, [lexer_for(language) for language in LANGUAGES])
    filters = search_scope.Filters(Scope(USER))
    with database.transaction_with_rls(USER) as connection:
        words = stored.rank_by_text(connection, filters, terms=[term.variants for term in parsed.terms], limit=DEPTH)
        vector = embedder.embed([parsed.wanted])[0]
        neighbours = nearest.nearest(connection, filters, index_config=config, vector=vector, limit=DEPTH)
    return [match.key for match in words.matches], [neighbour.key for neighbour in neighbours]


def _table(report: Mapping[str, object]) -> str:
    scores = report["ndcg_at_10"]
    assert isinstance(scores, dict)
    kinds = sorted(next(iter(scores.values())), key=lambda kind: kind == "all")
    lines = [f"{'nDCG@10':10}" + "".join(f"{kind:>16}" for kind in kinds)]
    lines += [f"{system:10}" + "".join(f"{values[kind]:16.3f}" for kind in kinds) for system, values in scores.items()]
    return "\n".join([*lines, f"nothing relevant: {report['nothing_relevant']}"])


if __name__ == "__main__":
    main()
