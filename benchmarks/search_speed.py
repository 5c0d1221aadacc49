"""How fast search is by the size of one user's library, and from where on the approximate index pays.

    python -m benchmarks.search_speed [--chunks 5000 20000 50000] [--promote] [--json]

Texts are drawn from a Zipf vocabulary, 1,000 characters a chunk and five chunks a document; vectors are 384 dimensions in
clusters. Milliseconds are medians over distinct queries on a warm cache, without the embedding of the query.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from statistics import median

import numpy as np
from numpy.typing import NDArray

from benchmarks import search_library as library
from workstation_pipelines.db import nearest, search_scope, wire
from workstation_pipelines.db.engine import Database
from workstation_pipelines.index import search
from workstation_pipelines.model import IndexConfig, Scope, UserId

USER = UserId("benchmark")
FILTERS = search_scope.Filters(Scope(USER))
CHUNK_CHARACTERS = 1_000
CHUNKS_A_DOCUMENT = 5
QUERIES = 20
APPROXIMATE, EXACT = 0, 10**9  # largest number of chunks that is searched exactly


class Draws:
    """A stand-in embedder and a source of texts and vectors, the same in every run."""

    name = "draws"
    model = "draws"
    dimensions = 384

    def __init__(self) -> None:
        self.random = np.random.default_rng(7)
        self._centres = self.random.normal(size=(300, self.dimensions))
        self._words = np.array(
            [f"{a}{b}{c}" for a in "bdfglmnprst" for b in ("al", "en", "or", "ik", "um") for c in range(400)]
        )
        self._shares = 1 / np.arange(10, 10 + len(self._words))
        self._shares /= self._shares.sum()

    def embed(self, texts: object) -> NDArray[np.float32]:
        return self.vectors(len(texts) if isinstance(texts, list) else 1)

    def vectors(self, count: int) -> NDArray[np.float32]:
        centres = self._centres[self.random.integers(len(self._centres), size=count)]
        drawn = centres + 0.9 * self.random.normal(size=(count, self.dimensions))
        return np.asarray(drawn / np.linalg.norm(drawn, axis=1, keepdims=True), np.float32)

    def words(self, count: int) -> str:
        return " ".join(self.random.choice(self._words, size=count, p=self._shares))

    def document(self) -> library.Text:
        size = CHUNK_CHARACTERS * CHUNKS_A_DOCUMENT
        return library.Text(self.words(4), self.words(size // 5)[:size].ljust(size, "."), "en", CHUNK_CHARACTERS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--chunks", type=int, nargs="+", default=[5_000, 20_000, 50_000])
    parser.add_argument("--promote", action="store_true", help="also fill the approximate index; about 2 ms a chunk")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    draws = Draws()
    rows: list[dict[str, float]] = []
    with library.empty_database() as database:
        config = library.index_config(database, USER, draws)
        source = library.add_source(database, USER)
        for before, after in pairwise([0, *sorted(options.chunks)]):
            _load(database, draws, config, source, after - before)
            rows.append({"chunks": after} | _measure(database, draws, config))
            if not options.json:
                print(rows[-1], flush=True)
        if options.promote:
            rows.append({"chunks": max(options.chunks)} | _promoted(database, draws, config))
    print(json.dumps(rows) if options.json else rows[-1])


def _load(database: Database, draws: Draws, config: IndexConfig, source: object, chunks: int) -> None:
    for _ in range(chunks // (100 * CHUNKS_A_DOCUMENT)):
        texts = [draws.document() for _ in range(100)]
        halfvecs = wire.halfvecs(draws.vectors(100 * CHUNKS_A_DOCUMENT))
        library.store(database, USER, source=source, config=config, texts=texts, halfvecs=halfvecs)  # type: ignore[arg-type]


def _measure(database: Database, draws: Draws, config: IndexConfig) -> dict[str, float]:
    def asked(mode: str) -> Callable[[], object]:
        return lambda: search.search(database, draws, config, draws.words(6), Scope(USER), mode=mode)

    return {f"{mode}_ms": _median_ms(asked(mode)) for mode in search.Mode}


def _promoted(database: Database, draws: Draws, config: IndexConfig) -> dict[str, float]:
    vectors = list(draws.vectors(QUERIES))
    exact = [_keys(database, config, vector, EXACT) for vector in vectors]
    exact_ms = _median_ms(_asker(database, config, vectors, EXACT))
    started = time.perf_counter()
    moved = sum(_promotions(database))
    took_s = time.perf_counter() - started
    approximate = [_keys(database, config, vector, APPROXIMATE) for vector in vectors]
    recall = np.mean([len(set(a[:10]) & set(e[:10])) / 10 for a, e in zip(approximate, exact, strict=True)])
    found = {"exact_ms": exact_ms, "promoted": moved, "promote_ms_a_chunk": 1e3 * took_s / max(moved, 1)}
    found |= {
        "approximate_ms": _median_ms(_asker(database, config, vectors, APPROXIMATE)),
        "recall_at_10": float(recall),
    }
    return found


def _promotions(database: Database) -> Iterator[int]:
    moved = 1
    while moved:
        with database.transaction_with_rls(USER) as connection:
            moved = nearest.promote(connection, user_id=USER, exact_up_to=APPROXIMATE)
        yield moved


def _asker(
    database: Database, config: IndexConfig, vectors: list[NDArray[np.float32]], exact_up_to: int
) -> Callable[[], object]:
    turns = iter(vectors * 2)
    return lambda: _keys(database, config, next(turns), exact_up_to)


def _keys(database: Database, config: IndexConfig, vector: NDArray[np.float32], exact_up_to: int) -> list[object]:
    with database.transaction_with_rls(USER) as connection:
        found = nearest.nearest(
            connection, FILTERS, index_config=config, vector=vector, limit=search.CANDIDATES, exact_up_to=exact_up_to
        )
    return [neighbour.key for neighbour in found]


def _median_ms(call: Callable[[], object]) -> float:
    call()
    taken = []
    for _ in range(QUERIES):
        started = time.perf_counter()
        call()
        taken.append(1e3 * (time.perf_counter() - started))
    return round(median(taken), 1)


if __name__ == "__main__":
    main()
