"""Index builds: whatever happens in whatever order, each document is found exactly once and nothing is left over."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from tests.conftest import DatabaseUrls
from tests.sync import checker
from tests.sync.conftest import Ask, Place
from tests.sync.parts import DigestEmbedder
from tests.sync.reworking import ALICE, choose, searching, start_build_step, work
from tests.sync.syncing import index_config, new_id, vectorizer
from workstation_pipelines.db import index_builds, library, saved_questions
from workstation_pipelines.db.engine import Database
from workstation_pipelines.db.index_builds import BuildStatus
from workstation_pipelines.db.index_settings import Selection
from workstation_pipelines.errors import InvalidRequestError
from workstation_pipelines.index import search
from workstation_pipelines.model import JobStatus, Scope
from workstation_pipelines.sync import builds, index
from workstation_pipelines.sync.compare import compare

DOCUMENTS = 8


def text_of(number: int, edition: int) -> str:
    return f"{number:02} everywhere in edition {edition}, long enough to be cut in different ways"


class Shelf:
    """Alice's folder, all of it in one project, and what is done with its index."""

    def __init__(self, place: Place, database: Database, urls: DatabaseUrls, ask: Ask) -> None:
        self.place, self.database, self.urls, self.ask = place, database, urls, ask
        self.edition = 1
        for number in range(DOCUMENTS):
            self._write(number)
        place.sync()
        with database.transaction_with_rls(ALICE) as connection:
            self.project = library.ensure_project(connection, user_id=ALICE, name="p", new_id=new_id)
        ask("UPDATE app.documents SET project_id = %s", self.project)
        ask("UPDATE app.data_sources SET project_id = %s", self.project)

    def _write(self, number: int) -> None:
        (self.place.path / f"n{number:02}.txt").write_text(text_of(number, self.edition))

    def update(self, *numbers: int) -> None:
        self.edition += 1
        for number in numbers:
            self._write(number)
        assert self.place.sync().status is JobStatus.COMPLETED

    def begin(self, characters: int) -> UUID:
        with self.database.transaction_with_rls(ALICE) as connection:
            begun = index_builds.begin(
                connection,
                user_id=ALICE,
                build_id=new_id(),
                project_id=self.project,
                index_config_id=index_config(self.database, "alice", "test", characters).id,
            )
        return begun.id

    def grow(self, build_id: UUID) -> None:
        for _ in builds.grow(self.database, self.vectorizer, user_id=ALICE, build_id=build_id):
            pass

    def build(self, characters: int) -> UUID:
        build_id = self.begin(characters)
        self.grow(build_id)
        return build_id

    def switch(self, build_id: UUID) -> builds.Switched:
        return builds.switch(self.database, self.vectorizer, user_id=ALICE, build_id=build_id, new_id=new_id)

    def roll_back(self, build_id: UUID) -> builds.Switched:
        return builds.roll_back(self.database, self.vectorizer, user_id=ALICE, build_id=build_id, new_id=new_id)

    @property
    def vectorizer(self) -> Any:
        return vectorizer(self.database, "alice", DigestEmbedder())

    def sizes(self) -> set[int]:
        rows = self.ask(
            """SELECT DISTINCT c.chunk_tokens FROM app.documents d JOIN app.index_configs c ON c.id = d.index_config_id
                WHERE d.deleted_at IS NULL"""
        )
        return {row[0] for row in rows}

    def found(self, build_id: UUID | None = None) -> list[str]:
        result = search.search(
            self.database,
            DigestEmbedder(),
            index_config(self.database, "alice"),
            "everywhere",
            Scope(ALICE),
            limit=100,
            mode="text",
            build_id=build_id,
        )
        return sorted(hit.title for hit in result.hits)

    def truth(self) -> dict[str, str]:
        return {path.name: path.read_text() for path in self.place.path.iterdir()}

    def assert_sound(self) -> None:
        assert not checker.check(self.urls.admin_url, "alice", self.truth())
        report = index.check(self.database, self.vectorizer, user_id=ALICE)
        assert report.is_clean, report
        assert self.found() == sorted(name.removesuffix(".txt") for name in self.truth())


@pytest.fixture
def shelf(folder: Place, database: Database, database_urls: DatabaseUrls, ask: Ask) -> Shelf:
    return Shelf(folder, database, database_urls, ask)


def test_a_build_lives_beside_the_live_index_until_it_is_switched_to_and_back(shelf: Shelf, ask: Ask) -> None:
    live = [f"n{number:02}" for number in range(DOCUMENTS)]
    build_id = shelf.build(20)
    shelf.assert_sound()
    assert (shelf.sizes(), shelf.found(build_id)) == ({40}, live)
    with pytest.raises(InvalidRequestError, match="build already"):
        shelf.begin(30)
    assert index.remove_strays(shelf.database, user_id=ALICE) == 0

    shelf.update(0, 1)  # their candidates are of an old text: they go, and are built again before the switch
    assert ask("SELECT count(*) FROM app.index_build_documents") == [(DOCUMENTS - 2,)]
    with searching(shelf.urls.app_url, {row[0] for row in ask("SELECT id FROM app.documents")}) as seen:
        assert shelf.switch(build_id) == builds.Switched(DOCUMENTS, 0)
        shelf.assert_sound()
        assert shelf.sizes() == {20}
        shelf.update(2, 3)
        assert shelf.sizes() == {20}, "a sync follows the choice"
        assert shelf.roll_back(build_id) == builds.Switched(DOCUMENTS - 2, 2)
        shelf.assert_sound()
        assert shelf.sizes() == {40}
    assert seen.wrong == []
    assert shelf.switch(build_id).flipped == DOCUMENTS
    shelf.assert_sound()


def test_an_old_way_back_is_purged_and_a_dropped_build_leaves_nothing(shelf: Shelf, ask: Ask) -> None:
    build_id = shelf.build(20)
    shelf.switch(build_id)

    def purge(days: int) -> int:
        moment = datetime.now(UTC) + timedelta(days=days)
        return builds.purge_old_builds(shelf.database, clock=lambda: moment)

    assert [purge(6), purge(8), purge(8)] == [0, DOCUMENTS, 0]
    assert ask("SELECT count(DISTINCT (document_id, generation)) FROM app.chunks") == [(DOCUMENTS,)]
    with pytest.raises(InvalidRequestError, match="kept any more"):
        shelf.roll_back(build_id)
    other = shelf.build(30)
    assert builds.drop(shelf.database, user_id=ALICE, build_id=other) == DOCUMENTS
    assert builds.drop(shelf.database, user_id=ALICE, build_id=other) == 0
    shelf.assert_sound()
    for step in (shelf.switch, shelf.roll_back, shelf.grow):
        with pytest.raises(InvalidRequestError, match="dropped"):
            step(other)


def test_saved_questions_compare_a_build_with_the_live_index(shelf: Shelf, ask: Ask) -> None:
    ids = [row[0] for row in ask("SELECT id FROM app.documents ORDER BY title")]
    build_id = shelf.build(20)
    with shelf.database.transaction_with_rls(ALICE) as connection:
        for question, expected in ((text_of(3, 1)[:40], [ids[3]]), ("everywhere", ())):
            saved_questions.add(
                connection,
                user_id=ALICE,
                question_id=new_id(),
                project_id=shelf.project,
                question=question,
                expected_document_ids=expected,
            )
    found = compare(
        shelf.database,
        shelf.vectorizer,
        DigestEmbedder(),
        lambda config: DigestEmbedder(config.model),
        user_id=ALICE,
        build_id=build_id,
    )
    assert (found.live_recall, found.answers[1].live_recall) == (1.0, None)
    assert 0 <= found.overlap <= 1
    assert found.embedding_tokens == ask("SELECT embedding_tokens FROM app.index_builds")[0][0] > 0
    assert found.build_bytes > found.live_bytes > 0
    (kept,) = ask("SELECT results FROM app.index_builds")[0]
    assert len(kept["answers"]) == 2
    assert "everywhere" not in str(kept)


STEPS = ("update", "delete", "build", "switch", "roll_back", "drop", "reprocess", "pin", "purge")


@pytest.mark.crash
@pytest.mark.parametrize("seed", [1, 2])
def test_any_order_of_steps_and_kills_leaves_each_document_once_and_the_index_clean(shelf: Shelf, seed: int) -> None:
    dice = random.Random(seed)  # noqa: S311 - it plays a part
    characters = iter(range(15, 200))
    told = []

    def builds_of(*statuses: BuildStatus) -> list[UUID]:
        rows = shelf.ask(
            "SELECT id FROM app.index_builds WHERE status = ANY(%s)", [status.value for status in statuses]
        )
        return [row[0] for row in rows]

    def step(name: str) -> None:
        open_ones = builds_of(BuildStatus.BUILDING, BuildStatus.READY)
        live = builds_of(BuildStatus.LIVE)
        actions: dict[str, Callable[[], object]] = {
            "update": lambda: shelf.update(*dice.sample(range(DOCUMENTS), 3)),
            "delete": lambda: _delete(shelf, dice),
            "build": lambda: shelf.grow(open_ones[0] if open_ones else shelf.begin(next(characters))),
            "switch": lambda: shelf.switch(open_ones[0]) if open_ones else None,
            "roll_back": lambda: shelf.roll_back(live[0]) if live and not open_ones else None,
            "drop": lambda: (
                builds.drop(shelf.database, user_id=ALICE, build_id=dice.choice([*open_ones, *live]))
                if open_ones or live
                else None
            ),
            "reprocess": lambda: work(
                shelf.database,
                choose(
                    shelf.database,
                    index_config(shelf.database, "alice", "test", next(characters)),
                    Selection(project_id=shelf.project),
                ),
            ),
            "pin": lambda: work(
                shelf.database,
                choose(
                    shelf.database,
                    index_config(shelf.database, "alice", "test", next(characters)),
                    Selection(
                        document_ids=[
                            dice.choice(shelf.ask("SELECT id FROM app.documents WHERE deleted_at IS NULL"))[0]
                        ]
                    ),
                ),
            ),
            "purge": lambda: builds.purge_old_builds(
                shelf.database, clock=lambda: datetime.now(UTC) + timedelta(days=30)
            ),
        }
        actions[name]()

    for _ in range(12):
        name = dice.choice(STEPS)
        told.append(name)
        open_ones = builds_of(BuildStatus.BUILDING, BuildStatus.READY)
        if name in ("build", "switch") and open_ones and dice.random() < 0.6:
            point = dice.choice(
                ["rework_chunks_written", "rework_before_end", "switch_before_commit", "switch_committed"]
            )
            told.append(start_build_step(shelf.urls.app_url, name, open_ones[0], f"{point}:1").wait())
            for _done in index.reindex(shelf.database, shelf.vectorizer, user_id=ALICE):
                pass
        else:
            with suppress(InvalidRequestError):  # nothing is left to go back to
                step(name)
        try:
            shelf.assert_sound()
        except AssertionError as error:
            raise AssertionError(f"after {told}") from error


def _delete(shelf: Shelf, dice: random.Random) -> None:
    (shelf.place.path / f"n{dice.randrange(DOCUMENTS):02}.txt").unlink(missing_ok=True)
    shelf.place.sync()
