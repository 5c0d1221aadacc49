"""Which rows a folder must have led to, and how many are not so."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import psycopg

from benchmarks import workload
from benchmarks.corpus import walk
from benchmarks.server import connect

_VECTORS_CHECKED = 200

_FLOOR_CHUNKS = "SELECT path, text, embedding::text FROM chunks"
_ENGINE_CHUNKS = """
    SELECT i.external_path, c.text, c.embedding::text
      FROM app.sync_items i
      JOIN app.documents d ON d.id = i.local_document_id
      JOIN app.chunks c ON c.document_id = d.id
     WHERE i.sync_status = 'synced' AND d.deleted_at IS NULL"""

# Each must be 0. A chunk is right when it says where in the stored text it is from, and can be found by words.
_ENGINE_CONTRADICTIONS = {
    "chunks of another generation": """
        SELECT count(*) FROM app.chunks c JOIN app.documents d ON d.id = c.document_id
         WHERE c.generation <> d.live_generation OR d.deleted_at IS NOT NULL""",
    "chunk counts": """
        SELECT count(*) FROM app.documents d WHERE d.deleted_at IS NULL
           AND d.chunk_count <> (SELECT count(*) FROM app.chunks c WHERE c.document_id = d.id)""",
    "chunks unlike their place in the text": """
        SELECT count(*) FROM app.chunks c JOIN app.documents d ON d.id = c.document_id
         WHERE substr(d.text, c.start_offset + 1, c.end_offset - c.start_offset) <> c.text""",
    "chunks without words": "SELECT count(*) FROM app.chunks WHERE tsv = ''::tsvector",
    "items without a live document": """
        SELECT count(*) FROM app.sync_items i LEFT JOIN app.documents d ON d.id = i.local_document_id
         WHERE (i.sync_status = 'synced') <> (d.id IS NOT NULL AND d.deleted_at IS NULL)""",
    "documents without an item": """
        SELECT count(*) FROM app.documents d
         WHERE d.deleted_at IS NULL AND NOT EXISTS (SELECT FROM app.sync_items i WHERE i.local_document_id = d.id)""",
    "running jobs": "SELECT count(*) FROM app.sync_jobs WHERE status = 'running'",
}


@dataclass(frozen=True, slots=True)
class Truth:
    """Per path the hashes of its chunks with their number, and the hash of its text."""

    chunks: dict[str, Counter[bytes]]
    texts: dict[str, bytes]

    @property
    def chunk_count(self) -> int:
        return sum(chunks.total() for chunks in self.chunks.values())


def truth_of(folder: Path) -> Truth:
    """Read a folder. Empty files lead to no document and no chunk."""
    chunks, texts = {}, {}
    for path in walk(folder):
        text = Path(path).read_bytes().decode()
        if text:
            name = str(Path(path).relative_to(folder))
            texts[name] = _hash(text)
            chunks[name] = Counter(_hash(text[start:end]) for start, end in workload.cut(text))
    return Truth(chunks, texts)


def floor_rows_wrong(url: str, truth: Truth) -> dict[str, int]:
    """Return what is wrong with the floor's rows, by kind; empty when all is right."""
    with connect(url) as connection:
        return {kind: wrong for kind, wrong in _chunks_wrong(connection, _FLOOR_CHUNKS, truth).items() if wrong}


def engine_rows_wrong(url: str, truth: Truth) -> dict[str, int]:
    """Return what is wrong with the engine's rows, by kind; empty when all is right. `url` must pass by RLS."""
    with connect(url) as connection:
        found = _chunks_wrong(connection, _ENGINE_CHUNKS, truth)
        texts = connection.execute(
            """SELECT i.external_path, d.text FROM app.sync_items i JOIN app.documents d ON d.id = i.local_document_id
                WHERE i.sync_status = 'synced' AND d.deleted_at IS NULL"""
        )
        stored = {str(path): _hash(str(text)) for path, text in texts}
        found["texts"] = len(truth.texts.items() ^ stored.items())
        for kind, statement in _ENGINE_CONTRADICTIONS.items():
            row: Any = connection.execute(statement).fetchone()
            found[kind] = int(row[0])
    return {kind: wrong for kind, wrong in found.items() if wrong}


def _chunks_wrong(connection: psycopg.Connection[Any], statement: str, truth: Truth) -> dict[str, int]:
    stored: defaultdict[str, Counter[bytes]] = defaultdict(Counter)
    vectors_wrong = vectors_seen = rows = 0
    step = max(1, truth.chunk_count // _VECTORS_CHECKED)
    with connection.transaction(), connection.cursor(name="chunks") as cursor:
        cursor.itersize = 5000
        for path, text, vector in cursor.execute(statement):
            stored[path][_hash(text)] += 1
            rows += 1
            if vector is None or (rows % step == 0 and vectors_seen < _VECTORS_CHECKED):
                vectors_seen += 1
                vectors_wrong += not _is_vector_of(text, vector)
    paths = truth.chunks.keys() | stored.keys()
    empty: Counter[bytes] = Counter()
    return {
        "chunks lost": sum((truth.chunks.get(path, empty) - stored[path]).total() for path in paths),
        "chunks too many": sum((stored[path] - truth.chunks.get(path, empty)).total() for path in paths),
        "vectors": vectors_wrong,
    }


def _is_vector_of(text: str, stored: str | None) -> bool:
    if stored is None:
        return False
    vector = np.array(json.loads(stored), np.float32)
    # Half precision: at most 2^-11 of a component, and none of a unit vector exceeds 1.
    return vector.shape == (workload.DIMENSIONS,) and bool(np.abs(vector - workload.embed([text])[0]).max() < 1e-3)


def _hash(text: str) -> bytes:
    return sha256(text.encode()).digest()
