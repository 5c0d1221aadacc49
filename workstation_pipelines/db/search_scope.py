"""What a search may see, as SQL conditions: every ranking applies them before its limit, never afterwards.

Row-level security holds besides; the owner predicate here is what lets PostgreSQL use an index of one user's rows.
User text reaches SQL as bound parameters only; lexemes are quoted by the server (array_to_tsvector) before they become
a tsquery, so that no quote, operator or `:*` in a query is ever read as syntax.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from workstation_pipelines.model import Scope

_COMBINING_MARKS = re.compile("[\u0300-\u036f]")
_BLANKS = re.compile(r"\s+")

SCAN_SETTINGS = """
    SET LOCAL enable_nestloop = off; SET LOCAL enable_sort TO DEFAULT; SET LOCAL work_mem = '64MB'; SET LOCAL jit = off"""
"""For a ranking that reads all chunks of a scope, until LOOKUP_SETTINGS or the end of the transaction.

Without statistics (a fresh load, and for one user of many always) the planner takes a scope for a few rows and compares
every chunk with every document; a ranking of 5,000 chunks then takes seconds. Compiling takes longer than running.
"""


LOOKUP_SETTINGS = "SET LOCAL enable_nestloop TO DEFAULT; SET LOCAL enable_sort TO DEFAULT"
"""For statements that look up a few chunks, after rankings in the same transaction."""


@dataclass(frozen=True, slots=True)
class Phrase:
    """Words that must stand in a chunk's text side by side. `text` is folded by `folded`.

    `words` are the variants of each word's lexeme; a chunk without any variant of one word cannot hold the phrase, which
    spares looking into its text. Words that lexing may cut differently inside a longer one are left out of `words`.
    """

    text: str
    words: Sequence[Sequence[str]]


@dataclass(frozen=True, slots=True)
class Filters:
    """The scope together with what the query itself demands of or forbids a chunk. `excluded` are lexemes.

    With `build_id` the chunks are those that the index build would make live, as far as it has a document. `document_ids` of
    None is no restriction.
    """

    scope: Scope
    phrases: Sequence[Phrase] = ()
    excluded: Sequence[str] = ()
    build_id: UUID | None = None
    document_ids: Sequence[UUID] | None = None


_LIVE = "app.documents d"
_BUILT = """app.documents d
    LEFT JOIN app.index_build_documents b
      ON b.user_id = d.user_id AND b.document_id = d.id AND b.build_id = CAST(:build_id AS uuid)"""


@dataclass(frozen=True, slots=True)
class Conditions:
    """SQL over `d` (documents) and `c` (chunks), and the parameters that both bind.

    `tables` are the documents `d` to select from; `generation`, `config` and `chunk_count` are of the version to search.
    The conditions of chunks may name `scoped`, the documents that meet the others, which a statement has as a CTE.
    """

    documents: str
    chunks: str
    parameters: dict[str, Any]
    tables: str = _LIVE
    generation: str = "d.live_generation"
    config: str = "d.index_config_id"
    chunk_count: str = "d.chunk_count"


def is_empty(scope: Scope) -> bool:
    """Return whether some restriction of `scope` admits nothing, so that there is no need to ask the database."""
    restrictions = (scope.project_ids, scope.tag_names, scope.source_types, scope.data_source_ids, scope.mime_types)
    return any(restriction is not None and not restriction for restriction in restrictions)


def folded(phrase: str) -> str:
    """Return `phrase` without case and accents, blanks as single spaces: exactly what `_FOLDED_TEXT` does in SQL."""
    plain = _COMBINING_MARKS.sub("", unicodedata.normalize("NFKD", phrase))
    return _BLANKS.sub(" ", plain.lower()).strip()


def conditions(filters: Filters) -> Conditions:
    """Return the conditions that a live document and its live chunk must meet."""
    documents, parameters = _document_conditions(filters.scope)
    if filters.document_ids is not None:
        documents.append("d.id = ANY(CAST(:document_ids AS uuid[]))")
        parameters["document_ids"] = list(filters.document_ids)
    chunks = ["c.user_id = :user_id"]
    if len(documents) > len(_ALL_DOCUMENTS):
        # Lets a narrow scope be read by document instead of going through all chunks of the user.
        chunks.append("c.document_id = ANY(ARRAY(SELECT id FROM scoped))")
    if filters.excluded:
        parameters["excluded"] = list(filters.excluded)
        chunks.append(f"NOT c.tsv @@ {any_of('excluded')}")
        documents.append(f"NOT d.title_tsv @@ {any_of('excluded')}")
    for number, phrase in enumerate(filters.phrases):
        parameters[f"phrase_{number}"] = phrase.text
        found = f"strpos({_FOLDED_TEXT}, :phrase_{number}) > 0"
        words = [f"phrase_{number}_{position}" for position in range(len(phrase.words))]
        parameters |= {name: list(variants) for name, variants in zip(words, phrase.words, strict=True)}
        # CASE keeps the order: folding a text costs a hundred times as much as looking for a lexeme.
        present = " AND ".join(f"c.tsv @@ {any_of(name)}" for name in words)
        chunks.append(f"CASE WHEN {present} THEN {found} ELSE false END" if words else found)
    return _of_version(Conditions(" AND ".join(documents), " AND ".join(chunks), parameters), filters.build_id)


def _of_version(live: Conditions, build_id: UUID | None) -> Conditions:
    if build_id is None:
        return live
    return Conditions(
        live.documents,
        live.chunks,
        live.parameters | {"build_id": build_id},
        tables=_BUILT,
        generation="coalesce(b.generation, d.live_generation)",
        config="coalesce(b.index_config_id, d.index_config_id)",
        chunk_count="coalesce(b.chunk_count, d.chunk_count)",
    )


def any_of(parameter: str) -> str:
    """Return SQL for a tsquery that matches any of the lexemes in a text[] parameter; evaluated once a statement."""
    quoted = "CAST(array_to_tsvector(ARRAY[lexeme]) AS text)"
    return f"(SELECT CAST(string_agg({quoted}, ' | ') AS tsquery) FROM unnest(CAST(:{parameter} AS text[])) lexeme)"  # noqa: S608 - constants


_ALL_DOCUMENTS = ("d.user_id = :user_id", "d.deleted_at IS NULL")

# normalize() and lower() know all of Unicode in every UTF-8 database; unaccent is an extension that may be missing.
_FOLDED_TEXT = (
    r"regexp_replace(lower(regexp_replace(normalize(c.text, NFKD), '[\u0300-\u036f]', '', 'g')), '\s+', ' ', 'g')"
)


def _document_conditions(scope: Scope) -> tuple[list[str], dict[str, Any]]:
    found = list(_ALL_DOCUMENTS)
    parameters: dict[str, Any] = {"user_id": scope.user_id}
    if scope.project_ids is not None:
        found.append("d.project_id = ANY(CAST(:project_ids AS uuid[]))")
        parameters["project_ids"] = list(scope.project_ids)
    if scope.data_source_ids is not None:
        found.append("d.data_source_id = ANY(CAST(:data_source_ids AS uuid[]))")
        parameters["data_source_ids"] = list(scope.data_source_ids)
    if scope.source_types is not None:
        found.append(
            """d.data_source_id IN (SELECT s.id FROM app.data_sources s WHERE s.user_id = :user_id
                                       AND s.source_type = ANY(CAST(:source_types AS text[])))"""
        )
        parameters["source_types"] = [source_type.value for source_type in scope.source_types]
    if scope.mime_types is not None:
        found.append("d.mime_type = ANY(CAST(:mime_types AS text[]))")
        parameters["mime_types"] = list(scope.mime_types)
    if scope.tag_names is not None:
        found.append(
            """d.id IN (SELECT dt.document_id FROM app.document_tags dt
                          JOIN app.tags t ON t.user_id = dt.user_id AND t.id = dt.tag_id
                         WHERE dt.user_id = :user_id AND t.name = ANY(CAST(:tag_names AS text[])))"""
        )
        parameters["tag_names"] = list(scope.tag_names)
    if scope.modified_from is not None:
        found.append("d.source_modified_at >= :modified_from")
        parameters["modified_from"] = scope.modified_from
    if scope.modified_before is not None:
        found.append("d.source_modified_at < :modified_before")
        parameters["modified_before"] = scope.modified_before
    return found, parameters
