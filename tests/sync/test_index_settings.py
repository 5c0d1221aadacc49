"""Which settings a document is indexed under: the narrowest choice holds, through syncs, repairs and searches."""

from __future__ import annotations

from collections import Counter
from typing import Any
from uuid import UUID

import pytest

from tests.conftest import DatabaseUrls
from tests.sync import checker
from tests.sync.conftest import Ask, Place
from tests.sync.parts import DigestEmbedder
from tests.sync.syncing import data_source, index_config, new_id, vectorizer
from workstation_pipelines.db import index_settings, library
from workstation_pipelines.db.engine import Database
from workstation_pipelines.db.index_settings import Selection
from workstation_pipelines.index import search
from workstation_pipelines.model import IndexConfig, Scope, UserId
from workstation_pipelines.sync import index

ALICE = UserId("alice")
TRUTH = {f"n{n}.txt": f"text {n} that is long enough to be cut into two chunks or three" for n in range(6)}


@pytest.fixture
def synced(folder: Place) -> Place:
    for path, text in TRUTH.items():
        (folder.path / path).write_text(text)
    folder.sync()
    return folder


def want(database: Database, config: IndexConfig | None, **selection: Any) -> None:
    with database.transaction_with_rls(ALICE) as connection:
        index_settings.want(
            connection,
            user_id=ALICE,
            selection=Selection(**selection),
            index_config_id=config.id if config else None,
            default=index_config(database, "alice").id,
            new_id=new_id,
        )


def standings(database: Database) -> dict[str, int]:
    with database.transaction_with_rls(ALICE) as connection:
        found = index_settings.standings(connection, user_id=ALICE, default=index_config(database, "alice").id)
    counted: Counter[str] = Counter()
    for each in found:
        counted[each.wanted_by] += each.documents
    return dict(counted)


def repair(database: Database) -> int:
    using = vectorizer(database, "alice", DigestEmbedder())
    documents = sum(done.documents for done in index.reindex(database, using, user_id=ALICE))
    assert index.check(database, using, user_id=ALICE).is_clean
    return documents


def models(ask: Ask) -> dict[str, str]:
    return dict(
        ask(
            """SELECT d.title, c.model || '/' || c.chunk_tokens FROM app.documents d
                 JOIN app.index_configs c ON c.id = d.index_config_id WHERE d.deleted_at IS NULL ORDER BY 1"""
        )
    )


def ids(ask: Ask, *titles: str) -> list[UUID]:
    return [row[0] for row in ask("SELECT id FROM app.documents WHERE title = ANY(%s) ORDER BY title", list(titles))]


def test_the_narrowest_choice_holds_through_repairs_and_syncs(
    synced: Place, database: Database, database_urls: DatabaseUrls, ask: Ask
) -> None:
    source = data_source(database, synced.wish)
    with database.transaction_with_rls(ALICE) as connection:
        project = library.ensure_project(connection, user_id=ALICE, name="p", new_id=new_id)
        tag = library.ensure_tag(connection, user_id=ALICE, name="t", new_id=new_id)
        for document_id in ids(ask, "n0", "n1"):
            library.assign(connection, user_id=ALICE, document_id=document_id, project=project)
        library.tag(connection, user_id=ALICE, document_id=ids(ask, "n1")[0], tag_id=tag)
    want(database, index_config(database, "alice", "m", 20), project_id=project)
    assert standings(database) == {"project": 2}
    want(database, index_config(database, "alice", "m", 30), tag_id=tag)
    want(database, index_config(database, "alice", "m", 50), document_ids=ids(ask, "n2"))
    assert standings(database) == {"project": 1, "document": 2}
    assert repair(database) == 3
    assert standings(database) == {}
    assert list(models(ask).values()) == ["m/20", "m/30", "m/50", "test/40", "test/40", "test/40"]

    for name in ("n0", "n1", "n2", "n3"):
        (synced.path / f"{name}.txt").write_text(f"{TRUTH[name + '.txt']}, and edited since")
    (synced.path / "n6.txt").write_text("a new text that is long enough for two chunks")
    synced.sync()
    assert list(models(ask).values()) == ["m/20", "m/30", "m/50", *["test/40"] * 4]
    truth = {path.name: path.read_text() for path in synced.path.iterdir()}
    assert not checker.check(database_urls.admin_url, "alice", truth)

    want(database, index_config(database, "alice", "of source"), data_source_id=source.id)
    assert standings(database) == {"document": 2, "source": 5}, "a source is narrower than a project"
    assert repair(database) == 7
    (synced.path / "n7.txt").write_text("another new one")
    synced.sync()
    assert set(models(ask).values()) == {"of source/40"}
    want(database, None, data_source_id=source.id)
    assert standings(database) == {"project": 2, "default": 6}
    assert repair(database) == 8
    assert list(models(ask).values()) == ["m/20", "m/20", *["test/40"] * 6]


def test_a_search_asks_every_index_config_of_its_scope(synced: Place, database: Database, ask: Ask) -> None:
    other = index_config(database, "alice", "other")
    want(database, other, document_ids=ids(ask, "n4", "n5"))
    repair(database)
    asked: list[str] = []

    def embedder_of(config: IndexConfig) -> DigestEmbedder:
        asked.append(config.model)
        return DigestEmbedder(config.model)

    def found(**options: Any) -> set[str]:
        default = index_config(database, "alice")
        result = search.search(database, DigestEmbedder(), default, "text", Scope(ALICE), mode="vector", **options)
        assert result.notice == ""
        return {hit.title for hit in result.hits}

    assert found() == {"n0", "n1", "n2", "n3"}
    assert found(embedder_of=embedder_of) == {"n0", "n1", "n2", "n3", "n4", "n5"}
    assert asked == ["other"]
    want(database, index_config(database, "alice", "test", 60), document_ids=ids(ask, "n4", "n5"))
    repair(database)
    assert len(found(embedder_of=embedder_of)) == 6
    assert asked == ["other"], "one model embeds a query once"


def test_what_cannot_be_embedded_any_more_is_found_by_its_words(synced: Place, database: Database, ask: Ask) -> None:
    want(database, index_config(database, "alice", "other"), document_ids=ids(ask, "n4"))
    repair(database)

    def embedder_of(config: IndexConfig) -> DigestEmbedder:
        from workstation_pipelines.errors import InvalidRequestError

        raise InvalidRequestError("no key for it: set one")

    default = index_config(database, "alice")
    result = search.search(
        database, DigestEmbedder(), default, "long", Scope(ALICE), mode="hybrid", embedder_of=embedder_of
    )
    assert "n4" in {hit.title for hit in result.hits}
    assert "no key for it" in result.notice
