"""One suite for every vector store: what is nearest inside a scope, whatever the store itself knows of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from uuid import uuid4

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.conftest import DatabaseUrls
from tests.db import rows
from tests.fakes.pinecone import FakePinecone
from tests.fakes.server import Answer
from tests.sync.indexed import Indexed
from workstation_pipelines.db.search_scope import Filters, Phrase
from workstation_pipelines.errors import RateLimitedError, SourceUnavailableError
from workstation_pipelines.index.search import Mode, SearchResult, search
from workstation_pipelines.index.store import PostgresVectorStore, VectorStore
from workstation_pipelines.model import IndexConfigId, Scope, SourceType, UserId

COLOURS = ("red", "green", "blue", "yellow", "black", "white")
STORES = ("pgvector", "pinecone", "pinecone that lags")


class Shelf:
    """Six documents of one chunk each, half of them in a project, a store, and questions to it."""

    def __init__(self, place: Indexed, store: VectorStore) -> None:
        self.place = place
        self.store = store

    def nearest(self, text: str, limit: int = 10, *, filters: Filters | None = None, **scope: object) -> list[str]:
        found = self.store.nearest(
            filters or Filters(Scope(self.place.user_id, **scope)),  # type: ignore[arg-type]
            index_config=self.place.config,
            vector=vector(text),
            limit=limit,
        )
        assert [each.cosine for each in found] == sorted((each.cosine for each in found), reverse=True)
        return self.place.names_of([each.key[0] for each in found])


def vector(text: str) -> NDArray[np.float32]:
    return np.frombuffer(rows.vector_of(text)[4:], ">f2").astype(np.float32)


@pytest.fixture(params=STORES)
def shelf(request: pytest.FixtureRequest, database_urls: DatabaseUrls) -> Iterator[Shelf]:
    with FakePinecone(lag_reads=3 if request.param.endswith("lags") else 0) as pinecone:
        place = Indexed(database_urls, pinecone)
        store: VectorStore = PostgresVectorStore(place.database)
        if request.param != "pgvector":
            place.open()
            store = place.store_of()
        for number, colour in enumerate(COLOURS):
            place.put(colour, colour)
            place.date(colour, number + 1)
        for colour in COLOURS[:3]:
            place.assign(colour, "project")
        place.tag("red", "warm")
        place.tag("yellow", "warm")
        if request.param != "pgvector":
            place.drain()
        yield Shelf(place, store)
        assert pinecone.violations == []
        place.close()


def test_a_store_finds_the_nearest_inside_the_scope(shelf: Shelf) -> None:
    place = shelf.place
    (project,) = place.ask("SELECT id FROM app.projects")[0]
    assert shelf.nearest("blue", 1) == ["blue"]
    assert set(shelf.nearest("blue")) == set(COLOURS)
    assert shelf.nearest("white", project_ids=[project])[0] != "white"
    assert set(shelf.nearest("white", project_ids=[project])) == set(COLOURS[:3])
    assert len(shelf.nearest("white", 2, project_ids=[project])) == 2
    assert set(shelf.nearest("white", tag_names=["warm", "no such tag"])) == {"red", "yellow"}
    assert shelf.nearest("white", tag_names=["no such tag"]) == []
    assert set(shelf.nearest("red", source_types=[SourceType.LOCAL_FOLDER])) == set(COLOURS)
    assert shelf.nearest("red", source_types=[SourceType.GMAIL]) == []
    assert len(shelf.nearest("red", data_source_ids=[place.source.id])) == 6
    assert shelf.nearest("red", mime_types=["application/pdf"]) == []
    second, fourth = datetime(2026, 5, 2, tzinfo=UTC), datetime(2026, 5, 4, tzinfo=UTC)
    assert set(shelf.nearest("red", modified_from=second, modified_before=fourth)) == {"green", "blue"}
    phrase = Filters(Scope(place.user_id), phrases=[Phrase("black", [])])
    assert shelf.nearest("red", filters=phrase) == ["black"]
    assert shelf.nearest("red", filters=Filters(Scope(UserId("bob")))) == []
    assert shelf.nearest("red", filters=Filters(Scope(place.user_id), excluded=["lexeme"])) == []


def test_a_store_shows_what_has_just_been_written_and_nothing_that_is_gone(shelf: Shelf) -> None:
    place = shelf.place
    place.put("blue", "navy")
    place.put("new", "purple")
    place.delete("red")
    place.assign("white", "project")
    place.untag("yellow", "warm")
    (project,) = place.ask("SELECT id FROM app.projects")[0]
    for _ in range(8):  # before a drain, right after it, and later
        assert shelf.nearest("navy", 1) == ["blue"]
        assert shelf.nearest("purple", 1) == ["new"]
        assert "red" not in shelf.nearest("red")
        assert set(shelf.nearest("white", project_ids=[project])) == {"green", "blue", "white"}
        assert shelf.nearest("white", tag_names=["warm"]) == []
        if place.ask("SELECT FROM app.index_namespaces"):
            place.drain()
    found = shelf.store.nearest(
        Filters(Scope(place.user_id)), index_config=place.config, vector=vector("navy"), limit=10
    )
    again = shelf.store.cosines(
        Filters(Scope(place.user_id)),
        index_config=place.config,
        vector=vector("navy"),
        keys=[each.key for each in found],
    )
    assert again == {each.key: pytest.approx(each.cosine) for each in found}
    other = replace(place.config, id=IndexConfigId(uuid4()))
    nothing = shelf.store.nearest(Filters(Scope(place.user_id)), index_config=other, vector=vector("red"), limit=10)
    assert list(nothing) == []


@pytest.fixture
def place(database_urls: DatabaseUrls) -> Iterator[Indexed]:
    with FakePinecone() as pinecone:
        indexed = Indexed(database_urls, pinecone)
        indexed.open()
        yield indexed
        indexed.close()


def test_matches_that_do_not_count_leave_no_gap(place: Indexed) -> None:
    """Pinecone still holds what the database deleted and nobody has told it about."""
    place.put("far", "something else")
    names = [f"d{number}" for number in range(150)]
    place.put_all(dict.fromkeys(names, "near"))
    place.drain()
    place.delete(*names)
    place.ask("DELETE FROM app.index_outbox")
    shelf = Shelf(place, place.store_of())
    assert shelf.nearest("near", 1) == ["far"]
    assert place.pinecone.calls("/search") == 3  # the drain's own, too few that count, then enough


def test_what_has_become_visible_is_not_searched_a_second_time(place: Indexed) -> None:
    place.pinecone.is_held = True
    place.put("a", "near")
    place.drain()
    assert place.ask("SELECT is_visible FROM app.index_sent") == [(False,)]
    place.pinecone.is_held = False
    place.pinecone.settle()
    place.put("b", "near")
    place.drain()
    assert place.ask("SELECT DISTINCT is_visible FROM app.index_sent") == [(True,)]


@pytest.mark.parametrize(
    ("status", "headers", "error"),
    [
        (503, {}, SourceUnavailableError),
        (429, {"Retry-After": "30"}, RateLimitedError),
        (401, {}, SourceUnavailableError),
    ],
)
def test_a_store_that_cannot_answer_says_so_at_once(
    place: Indexed, status: int, headers: dict[str, str], error: type[Exception]
) -> None:
    place.put("a", "near")
    place.drain()
    before = place.pinecone.calls("/search")
    place.pinecone.fail("/search", answer=Answer.of({"message": "no"}, status, headers))
    with pytest.raises(error):
        Shelf(place, place.store_of()).nearest("near")
    assert place.pinecone.calls("/search") == before + 1


class RowsEmbedder:
    """Makes the vectors that the rows have."""

    name = "hashing"
    model = "test"
    dimensions = rows.DIMENSIONS

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return np.stack([vector(text) for text in texts])


def test_search_goes_on_in_the_database_while_pinecone_is_down(place: Indexed) -> None:
    place.put("a", "red")
    place.drain()

    def found() -> SearchResult:
        return search(
            place.database,
            RowsEmbedder(),
            place.config,
            "red",
            Scope(place.user_id),
            mode=Mode.VECTOR,
            store=place.store_of(),
        )

    assert found().notice == ""
    place.pinecone.fail("/search", answer=Answer.of({"message": "no"}, 503), times=10)
    assert found().mode is Mode.VECTOR
    assert found().notice.startswith("vectors were searched in the database: Pinecone cannot answer")
