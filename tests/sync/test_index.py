"""Finding and mending what does not fit between documents, chunks and vectors; and planning a sync."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.conftest import DatabaseUrls
from tests.sync import checker
from tests.sync.conftest import Ask, Place
from tests.sync.parts import DigestEmbedder
from tests.sync.syncing import data_source, open_source, vectorizer
from workstation_pipelines.db import nearest
from workstation_pipelines.db.engine import Database
from workstation_pipelines.model import JobType, UserId
from workstation_pipelines.sync import index
from workstation_pipelines.sync.plan import Plan, plan_sync
from workstation_pipelines.sync.vectorize import Vectorizer

ALICE = UserId("alice")
TRUTH = {f"n{n:02}.txt": f"text {n} that is long enough to be cut into two chunks or three" for n in range(20)}


def fill(folder: Place) -> None:
    for path, text in TRUTH.items():
        (folder.path / path).write_text(text)
    folder.sync()


def mend(database: Database, using: Vectorizer) -> index.Reworked:
    total = index.Reworked()
    for done in index.reindex(database, using, user_id=ALICE):
        total = total.plus(done)
    return total


def test_a_fresh_sync_is_clean(folder: Place, database: Database) -> None:
    fill(folder)
    report = index.check(database, vectorizer(database, "alice", DigestEmbedder()), user_id=ALICE)
    assert report.is_clean
    assert (report.documents, report.hashes_checked, report.strays) == (20, 20, 0)
    assert report.chunks == report.vectors == report.chunks_expected == 40


def test_missing_vectors_are_named_and_restored_without_refetching(
    folder: Place, database: Database, database_urls: DatabaseUrls, ask: Ask
) -> None:
    fill(folder)
    ask("UPDATE app.chunks SET embedding = NULL WHERE text LIKE 'text 7%'")
    embedder = DigestEmbedder()
    using = vectorizer(database, "alice", embedder)
    report = index.check(database, using, user_id=ALICE)
    assert [(stale.title, stale.problem) for stale in report.stale] == [("n07", "vectors missing")]
    assert not report.is_clean
    folder_path = folder.path.rename(folder.path.with_name("away"))
    done = mend(database, using)
    assert (done.documents, done.embedded, done.reused) == (1, 1, 0)
    assert index.check(database, using, user_id=ALICE).is_clean
    folder_path.rename(folder.path)
    assert not checker.check(database_urls.admin_url, "alice", TRUTH)


def test_missing_chunks_are_cut_again_and_other_vectors_reused(
    folder: Place, database: Database, database_urls: DatabaseUrls, ask: Ask
) -> None:
    fill(folder)
    ask("DELETE FROM app.chunks WHERE text LIKE 'text 3 %' OR (text LIKE 'text 4 %' AND ordinal = 1)")
    using = vectorizer(database, "alice", DigestEmbedder())
    assert {stale.title for stale in index.check(database, using, user_id=ALICE).stale} == {"n03"}
    ask("DELETE FROM app.chunks c USING app.documents d WHERE d.id = c.document_id AND d.title = 'n04' AND ordinal = 1")
    assert {stale.problem for stale in index.check(database, using, user_id=ALICE).stale} == {"chunks missing"}
    mend(database, using)
    assert index.check(database, using, user_id=ALICE).is_clean
    assert not checker.check(database_urls.admin_url, "alice", TRUTH)


def test_strays_are_counted_and_removed(folder: Place, database: Database, ask: Ask) -> None:
    fill(folder)
    ask("UPDATE app.documents SET deleted_at = now() WHERE title = 'n05'")
    using = vectorizer(database, "alice", DigestEmbedder())
    assert index.check(database, using, user_id=ALICE).strays == 2
    assert index.remove_strays(database, user_id=ALICE) == 2
    assert index.check(database, using, user_id=ALICE).strays == 0


def test_a_text_that_does_not_fit_its_hash_is_named(folder: Place, database: Database, ask: Ask) -> None:
    fill(folder)
    ask("UPDATE app.documents SET text = text || '!' WHERE title = 'n09'")
    report = index.check(database, vectorizer(database, "alice", DigestEmbedder()), user_id=ALICE)
    assert [title for _, title in report.wrong_hash] == ["n09"]


def test_a_new_index_config_reindexes_everything_once(folder: Place, database: Database, ask: Ask) -> None:
    fill(folder)
    embedder = DigestEmbedder()
    embedder.model = "another"
    using = vectorizer(database, "alice", embedder)
    assert len(index.check(database, using, user_id=ALICE).stale) == 20
    assert mend(database, using).documents == 20
    assert mend(database, using).documents == 0
    assert ask("SELECT DISTINCT live_generation FROM app.documents") == [(2,)]
    assert ask("SELECT count(*), count(DISTINCT index_config_id) FROM app.chunks") == [(40, 1)]


def test_a_document_that_changes_while_it_is_reindexed_keeps_what_the_sync_gave_it(
    folder: Place, database: Database, database_urls: DatabaseUrls
) -> None:
    fill(folder)
    embedder = DigestEmbedder()
    embedder.model = "another"
    using = vectorizer(database, "alice", embedder)
    cut = using.cut

    def cut_slowly(*arguments: object) -> object:
        if (folder.path / "n00.txt").read_text() != "edited meanwhile":
            (folder.path / "n00.txt").write_text("edited meanwhile")
            folder.sync()
        return cut(*arguments)  # type: ignore[arg-type]

    using.cut = cut_slowly  # type: ignore[method-assign, assignment]
    mend(database, using)
    assert not checker.check(database_urls.admin_url, "alice", {**TRUTH, "n00.txt": "edited meanwhile"})


def test_a_user_of_few_chunks_has_nothing_to_promote(folder: Place, database: Database) -> None:
    fill(folder)
    assert list(index.promote(database, user_id=ALICE)) == []


def test_a_user_of_many_chunks_is_promoted_in_steps(
    folder: Place, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(folder)
    steps = iter([2000, 2000, 17, 0])
    monkeypatch.setattr(nearest, "promote", lambda connection, *, user_id: next(steps))
    assert list(index.promote(database, user_id=ALICE)) == [2000, 2000, 17]


def plan(database: Database, folder: Place) -> Plan:
    source = open_source(folder.wish)
    return plan_sync(database, source, data_source(database, folder.wish), job_type=JobType.MANUAL)


def test_a_plan_says_what_the_sync_then_does_and_changes_nothing(folder: Place, database: Database, ask: Ask) -> None:
    fill(folder)
    (folder.path / "n00.txt").write_text("edited, of 24 bytes here")
    (folder.path / "n01.txt").unlink()
    (folder.path / "n02.txt").rename(folder.path / "renamed.txt")
    (folder.path / "new.txt").write_text("12345678")
    planned = plan(database, folder)
    assert plan(database, folder) == planned
    assert (planned.adds, planned.updates, planned.renames, planned.deletes, planned.unchanged) == (1, 1, 1, 1, 17)
    assert (planned.bytes_to_fetch, planned.needs_confirmation) == (32, False)
    assert planned.examples["renames"] == ["renamed.txt"]
    assert ask("SELECT count(*) FROM app.sync_jobs") == [(1,)]
    counts = folder.sync().counts
    assert (counts.created, counts.updated, counts.deleted, counts.unchanged) == (1, 2, 1, 17)


def test_a_plan_tells_a_mass_deletion(folder: Place, database: Database) -> None:
    for n in range(30):
        (folder.path / f"m{n:02}.txt").write_text(f"{n}")
    folder.sync()
    for n in range(25):
        (folder.path / f"m{n:02}.txt").unlink()
    assert plan(database, folder).needs_confirmation
    assert plan(database, replace_place(folder)).adds == 5


def replace_place(folder: Place) -> Place:
    """The same folder as another user, who has never synced it."""
    other = Place(folder.path, folder.wish.app_url)
    other.wish = replace(folder.wish, user="bob")
    return other
