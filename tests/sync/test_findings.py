"""What a hostile reading of the engine found: each of these once lost, doubled, blocked or misreported something."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import psycopg
import pytest

from tests.conftest import DatabaseUrls
from tests.db.waiting import until_somebody_waits
from tests.sync import checker
from tests.sync.conftest import Ask, Place
from tests.sync.parts import DigestEmbedder
from tests.sync.scripted import ScriptedSource, VendorAccount
from tests.sync.syncing import data_source, new_id, vectorizer
from tests.sync.told import ThreadedSource, ToldSource, item, listing, parts_with, sync_told, upsert
from workstation_pipelines.db import documents, item_decisions
from workstation_pipelines.db.engine import Database
from workstation_pipelines.db.sync_jobs import Asked
from workstation_pipelines.errors import (
    CursorExpiredError,
    NotFoundError,
    RateLimitedError,
    ReauthorizeError,
    SourceUnavailableError,
)
from workstation_pipelines.model import (
    Change,
    ChangeKind,
    Content,
    Item,
    ItemFailure,
    JobStatus,
    JobType,
    Page,
    SyncJobId,
    UserId,
)
from workstation_pipelines.settings import libpq_url
from workstation_pipelines.sync import index, run
from workstation_pipelines.sync.batch import BatchWriter
from workstation_pipelines.sync.delta import REMOVED_BY_USER
from workstation_pipelines.sync.plan import plan_sync
from workstation_pipelines.sync.run import SyncRequest, drive, run_sync

ALICE = UserId("alice")
MAIL = "a mail\nattach inner: attach deep: text of the deepest"
"""A document with one inside, and one inside that."""

LIVE = "SELECT count(*) FROM app.documents WHERE deleted_at IS NULL"


def unavailable() -> SourceUnavailableError:
    return SourceUnavailableError("the vendor could not give this one just now", wait_s=1)


# Documents inside documents


def test_what_is_inside_an_attachment_goes_with_the_outermost_document(folder: Place, ask: Ask) -> None:
    (folder.path / "mail.txt").write_text(MAIL)
    assert folder.sync().counts.created == 3
    (folder.path / "mail.txt").unlink()
    assert folder.sync().counts.deleted == 3
    assert ask("SELECT count(*) FROM app.chunks") == [(0,)]


def test_what_is_inside_an_attachment_keeps_its_document_when_the_mail_changes(folder: Place, ask: Ask) -> None:
    (folder.path / "mail.txt").write_text(MAIL)
    folder.sync()
    before = ask("SELECT id FROM app.documents WHERE title = 'deep'")
    (folder.path / "mail.txt").write_text(f"{MAIL}, edited")
    assert folder.sync().status is JobStatus.COMPLETED
    assert ask(LIVE) == [(3,)]
    assert ask("SELECT id FROM app.documents WHERE title = 'deep'") == before
    (folder.path / "mail.txt").write_text("a mail\nattach inner: nothing inside")
    assert folder.sync().counts.deleted == 1
    assert ask(LIVE) == [(2,)]


def test_an_attachment_that_its_owner_deleted_stays_away_when_the_mail_changes(
    folder: Place, database: Database, ask: Ask
) -> None:
    (folder.path / "mail.txt").write_text("a mail\nattach one: first")
    folder.sync()
    remove(database, ask("SELECT id FROM app.documents WHERE title = 'one'")[0][0])
    (folder.path / "mail.txt").write_text("an edited mail\nattach one: first, edited")
    folder.sync()
    assert ask("SELECT title FROM app.documents WHERE deleted_at IS NULL") == [("mail",)]


def remove(database: Database, document_id: object) -> None:
    with database.transaction_with_rls(ALICE) as connection:
        inside = item_decisions.mark_removed_by_user(
            connection,
            user_id=ALICE,
            document_id=document_id,  # type: ignore[arg-type]
            reason=REMOVED_BY_USER,
        )
        documents.tombstone(connection, user_id=ALICE, document_ids=[document_id, *inside])  # type: ignore[list-item]


def test_what_its_owner_deleted_stays_away_when_it_leaves_the_source_and_comes_back(
    account_place: Place, database: Database, ask: Ask
) -> None:
    one = upsert(item("one", "text"))
    source = ToldSource(listing([item("one", "text")]))
    sync_told(database, account_place.wish, source)
    remove(database, ask("SELECT id FROM app.documents")[0][0])
    gone = Change(ChangeKind.DELETED, "one")
    for fed in (gone, one, gone, upsert(item("one", "new text"))):
        source.fed = [Page([fed], cursor_after={"feed": 1})]
        assert sync_told(database, account_place.wish, source).status is JobStatus.COMPLETED
    assert ask(LIVE) == [(0,)]


def test_an_attachment_that_failed_is_tried_again_when_due(folder: Place, ask: Ask) -> None:
    (folder.path / "mail.txt").write_text("a mail\nattach outer: attach bad: POISON")
    assert folder.sync().counts.failed == 1
    ask("UPDATE app.sync_failures SET next_try_at = now()")
    assert folder.sync().counts.failed == 1
    assert ask("SELECT attempts FROM app.sync_failures") == [(2,)]


def test_an_attachment_that_failed_is_tried_again_from_a_feed(
    account_place: Place, database: Database, ask: Ask
) -> None:
    source = ToldSource(listing([item("mail", "a mail\nattach bad: POISON")]))
    sync_told(database, account_place.wish, source)
    assert sync_told(database, account_place.wish, source).counts.found == 0
    ask("UPDATE app.sync_failures SET next_try_at = now()")
    assert sync_told(database, account_place.wish, source).counts.failed == 1
    assert ask("SELECT attempts FROM app.sync_failures") == [(2,)]


def test_what_is_inside_follows_a_rename(folder: Place, ask: Ask) -> None:
    (folder.path / "mail.txt").write_text(MAIL)
    folder.sync()
    (folder.path / "mail.txt").rename(folder.path / "moved.txt")
    folder.sync()
    where = ask("SELECT external_path, external_url LIKE '%/moved.txt' FROM app.sync_items ORDER BY external_path")
    assert where == [("moved.txt", True), ("moved.txt/inner", True), ("moved.txt/inner/deep", True)]
    assert ask("SELECT count(*) FROM app.documents WHERE external_url LIKE '%/moved.txt'") == [(3,)]


# Listings, cursors and confirmations


def test_an_escalated_listing_whose_first_page_is_cut_in_two_deletes_none_of_it(
    account_place: Place, database: Database, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "BATCH_ITEMS", 2)
    source = ToldSource(listing([item(name, f"text {name}") for name in "abcde"]))
    sync_told(database, account_place.wish, source)
    source.fed = [CursorExpiredError("too old")]
    result = sync_told(database, account_place.wish, source)
    assert (result.counts.deleted, ask(LIVE)) == (0, [(5,)])


def test_an_escalated_listing_that_was_interrupted_survives_the_end_of_its_own_cursor(
    account_place: Place, database: Database
) -> None:
    source = ToldSource(listing([item("a", "text")]))
    sync_told(database, account_place.wish, source)
    source.fed = [CursorExpiredError("too old")]
    source.listed = [*listing([item("a", "text")], [])[:1], unavailable()]
    with pytest.raises(SourceUnavailableError):
        sync_told(database, account_place.wish, source)
    source.listed = listing([item("a", "text")])
    source.page_cursors_expire = True
    assert sync_told(database, account_place.wish, source).status is JobStatus.COMPLETED


def test_an_item_that_could_not_be_listed_is_not_taken_for_absent(
    account_place: Place, database: Database, ask: Ask
) -> None:
    source = ToldSource(listing([item("a", "text"), item("b", "text too")]))
    sync_told(database, account_place.wish, source)
    failure = ItemFailure("b", "box/b", "list", "UnreadableContentError", "odd", "it cannot be described", False)
    source.listed = [replace(listing([item("a", "text")])[0], failures=[failure])]
    result = sync_told(database, account_place.wish, source, job_type=JobType.FULL_SYNC)
    assert (result.counts.deleted, result.counts.failed, ask(LIVE)) == (0, 1, [(2,)])


def test_confirming_looks_at_the_source_again_and_then_deletes(
    account_place: Place, database: Database, ask: Ask
) -> None:
    items = [item(f"n{n:02}", f"text {n}") for n in range(30)]
    source = ToldSource(listing(items))
    sync_told(database, account_place.wish, source)
    source.listed = listing(items[:3])
    held = sync_told(database, account_place.wish, source, job_type=JobType.FULL_SYNC)
    assert held.status is JobStatus.NEEDS_CONFIRMATION
    sync_told(database, account_place.wish, source)
    assert ask("SELECT count(*) FROM app.sync_jobs WHERE status = 'needs_confirmation'") == [(1,)]
    assert sync_told(database, account_place.wish, source, confirm_deletes=True).counts.deleted == 27
    assert ask("SELECT count(*) FROM app.sync_jobs WHERE status = 'needs_confirmation'") == [(0,)]


def test_an_unusable_grant_is_recorded_even_when_a_listing_cannot_begin(
    account_place: Place, database: Database, ask: Ask
) -> None:
    source = ToldSource(start_error=ReauthorizeError("connect the account again"))
    with pytest.raises(ReauthorizeError):
        sync_told(database, account_place.wish, source)
    assert ask("SELECT status, error_message FROM app.sync_jobs") == [("failed", "connect the account again")]
    assert ask("SELECT connection_status FROM app.data_sources") == [("error",)]


def test_the_cursor_is_read_under_the_lease(account_place: Place, database: Database) -> None:
    source = ToldSource(listing([item("a", "text")]))
    stale = data_source(database, account_place.wish)
    sync_told(database, account_place.wish, source)
    drive(run_sync(parts_with(database, account_place.wish, source), stale, SyncRequest()))
    assert source.cursors == [None, {"feed": 0}]


def test_a_source_says_syncing_while_it_is_synced(account_place: Place, database: Database, ask: Ask) -> None:
    source = ToldSource(listing([item("a", "text")], [item("b", "text")]))
    syncing = run_sync(
        parts_with(database, account_place.wish, source), data_source(database, account_place.wish), SyncRequest()
    )
    next(syncing)
    assert ask("SELECT connection_status FROM app.data_sources") == [("syncing",)]
    syncing.close()
    assert ask("SELECT connection_status FROM app.data_sources") == [("connected",)]


def test_an_item_on_two_pages_becomes_one_document(
    account_place: Place, database: Database, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = ToldSource([*listing([item("a", "first")], [item("a", "second")])])
    write, fetch, both_read = BatchWriter.write, source.fetch, threading.Event()

    def write_late(self: BatchWriter, *arguments: object, **named: object) -> Asked:
        both_read.wait(0.2)  # for as long as an engine that does not wait for the first page would need
        return write(self, *arguments, **named)  # type: ignore[arg-type]

    def fetch_and_tell(some: Item) -> Content:
        if source.asked:
            both_read.set()
        return fetch(some)

    monkeypatch.setattr(BatchWriter, "write", write_late)
    source.fetch = fetch_and_tell  # type: ignore[method-assign, assignment]
    result = sync_told(database, account_place.wish, source)
    assert (result.counts.created, result.counts.updated) == (1, 1)
    assert ask("SELECT text FROM app.documents WHERE deleted_at IS NULL") == [("second",)]


# Vendors that give some and refuse some


def test_items_that_are_never_to_be_had_do_not_block_the_others(
    account_place: Place, database: Database, ask: Ask
) -> None:
    bad = [f"bad{n:02}" for n in range(50)]
    source = ToldSource(
        listing([item(name, f"text {name}") for name in [*bad, "good"]]), dict.fromkeys(bad, unavailable())
    )
    for _ in range(4):
        try:
            result = sync_told(database, account_place.wish, source)
        except SourceUnavailableError:
            continue
    assert ask("SELECT title FROM app.documents") == [("good",)]
    assert ask("SELECT count(*) FROM app.sync_failures") == [(50,)]
    source.fed = [Page([upsert(item("fresh", "fresh text"))], cursor_after={"feed": 1})]
    ask("UPDATE app.sync_failures SET next_try_at = now()")
    result = sync_told(database, account_place.wish, source)
    assert result.counts.created == 1
    assert ask("SELECT sum(attempts) > 50 FROM app.sync_failures") == [(True,)]


@pytest.mark.parametrize("kind", [ToldSource, ThreadedSource])
def test_what_was_read_before_a_long_wait_is_stored_and_the_rest_not_asked_for(
    kind: type[ToldSource], account_place: Place, database: Database, ask: Ask
) -> None:
    names = [f"n{n:02}" for n in range(40)]
    limited = RateLimitedError("wait", wait_s=600)
    source = kind(listing([item(name, f"text {name}") for name in names]), dict.fromkeys(names[9:], limited))
    paused = sync_told(database, account_place.wish, source)
    assert (paused.status, paused.counts.created) == (JobStatus.PAUSED, 9)
    assert len(source.asked) <= 9 + 2 * kind.fetch_threads
    source.bodies = {}
    source.asked.clear()
    assert sync_told(database, account_place.wish, source).status is JobStatus.COMPLETED
    assert (len(source.asked), ask(LIVE)) == (31, [(40,)])


def test_a_retried_item_is_asked_for_as_the_vendor_described_it(
    account_place: Place, database: Database, ask: Ask
) -> None:
    born = datetime(2020, 2, 2, tzinfo=UTC)
    native = item("doc", "text", mime_type="application/vnd.native", external_created_at=born)
    source = ToldSource(listing([native]))
    sync_told(database, account_place.wish, source)
    changed = replace(native, external_hash="tx:POISON")
    source.fed = [Page([upsert(changed)], cursor_after={"feed": 1})]
    sync_told(database, account_place.wish, source)
    source.fed = []
    source.bodies = {"doc": "mended"}
    ask("UPDATE app.sync_failures SET next_try_at = now()")
    sync_told(database, account_place.wish, source)
    assert source.asked[-1].mime_type == "application/vnd.native"
    assert ask("SELECT source_created_at, text FROM app.documents") == [(born, "mended")]


def test_a_rename_keeps_the_size_that_only_the_fetch_told(account_place: Place, database: Database, ask: Ask) -> None:
    source = ToldSource(listing([item("doc", "twelve bytes", size_bytes=-1)]))
    sync_told(database, account_place.wish, source)
    renamed = item("doc", "twelve bytes", size_bytes=-1, title="renamed", external_path="box/renamed")
    source.fed = [Page([upsert(renamed)], cursor_after={"feed": 1})]
    assert sync_told(database, account_place.wish, source).counts.updated == 1
    assert ask("SELECT title, size_bytes FROM app.documents") == [("renamed", 12)]


# Jobs


def test_a_paused_job_that_goes_on_remembers_what_failed_before(account_place: Place, database: Database) -> None:
    source = ToldSource([*listing([item("a", "POISON")], [])[:1], RateLimitedError("wait", wait_s=600)])
    job_id = SyncJobId(new_id())
    assert sync_told(database, account_place.wish, source, job_id=job_id).status is JobStatus.PAUSED
    source.listed = listing([item("a", "POISON")], [item("b", "text")])
    result = sync_told(database, account_place.wish, source, job_id=job_id)
    assert (result.status, result.counts.failed, result.counts.created) == (JobStatus.COMPLETED_WITH_ERRORS, 1, 1)


def test_a_sync_goes_on_from_the_job_that_ran_last(account_place: Place, database: Database, ask: Ask) -> None:
    source = ToldSource([*listing([item("a", "text")], [])[:1], unavailable()])
    data_source(database, account_place.wish)
    ask(
        "INSERT INTO app.sync_jobs (id, user_id, data_source_id, job_type, created_at)"
        " SELECT %s, user_id, id, 'manual', now() - interval '1 day' FROM app.data_sources",
        waiting := new_id(),
    )
    with pytest.raises(SourceUnavailableError):
        sync_told(database, account_place.wish, source)
    source.listed = listing([item("a", "text")], [item("b", "text")])
    sync_told(database, account_place.wish, source, job_id=SyncJobId(waiting))
    sync_told(database, account_place.wish, source)
    assert source.cursors[1:] == [{"at": 1}, {"feed": 0}]


def test_a_job_of_another_source_cannot_be_started(
    account_place: Place, folder: Place, database: Database, ask: Ask
) -> None:
    data_source(database, folder.wish)
    ask(
        "INSERT INTO app.sync_jobs (id, user_id, data_source_id, job_type)"
        " SELECT %s, user_id, id, 'manual' FROM app.data_sources",
        theirs := new_id(),
    )
    with pytest.raises(NotFoundError):
        sync_told(database, account_place.wish, ToldSource(), job_id=SyncJobId(theirs))


def test_a_run_that_lost_its_job_does_not_touch_the_connection(
    account_place: Place, database: Database, ask: Ask
) -> None:
    source = ToldSource([ReauthorizeError("an old token")])
    pages = source.pages

    def slept_through_a_takeover(*arguments: object) -> object:
        ask("UPDATE app.sync_jobs SET status = 'failed'")
        ask("UPDATE app.data_sources SET fence = fence + 1, connection_status = 'connected'")
        return pages(*arguments)  # type: ignore[arg-type]

    source.pages = slept_through_a_takeover  # type: ignore[method-assign, assignment]
    with pytest.raises(ReauthorizeError):
        sync_told(database, account_place.wish, source)
    assert ask("SELECT connection_status FROM app.data_sources") == [("connected",)]


# Beside a reindex


def test_a_reindex_that_comes_between_reading_and_writing_does_not_stop_the_sync(
    folder: Place, database: Database, database_urls: DatabaseUrls, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder.path / "a.txt").write_text("first text")
    folder.sync()
    other = DigestEmbedder()
    other.model = "another"
    write = BatchWriter.write

    def reindex_first(self: BatchWriter, *arguments: object, **named: object) -> Asked:
        list(index.reindex(database, vectorizer(database, "alice", other), user_id=ALICE))
        return write(self, *arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(BatchWriter, "write", reindex_first)
    (folder.path / "a.txt").write_text("second text")
    assert folder.sync().status is JobStatus.COMPLETED
    assert not checker.check(database_urls.admin_url, "alice", {"a.txt": "second text"})


def test_a_deletion_and_a_reindex_of_one_document_wait_for_each_other_instead_of_dying(
    folder: Place, database: Database, database_urls: DatabaseUrls
) -> None:
    (folder.path / "a.txt").write_text("text")
    folder.sync()
    document_id = database.query_with_rls(ALICE, "SELECT id FROM app.documents")[0][0]

    def delete() -> None:
        with database.transaction_with_rls(ALICE) as connection:
            documents.tombstone(connection, user_id=ALICE, document_ids=[document_id])

    with psycopg.connect(libpq_url(database_urls.admin_url)) as reindexing, ThreadPoolExecutor(1) as deleter:
        reindexing.execute("UPDATE app.documents SET live_generation = 2")
        deleting = deleter.submit(delete)
        with psycopg.connect(libpq_url(database_urls.admin_url), autocommit=True) as admin:
            until_somebody_waits(admin)
        reindexing.execute("DELETE FROM app.chunks")
        reindexing.commit()
        deleting.result()
    assert database.query_with_rls(ALICE, LIVE)[0][0] == 0


def test_a_text_that_does_not_fit_its_hash_is_fetched_again_once_distrusted(
    folder: Place, database: Database, database_urls: DatabaseUrls, ask: Ask
) -> None:
    (folder.path / "mail.txt").write_text("a mail\nattach one: first attachment")
    folder.sync()
    ask("UPDATE app.documents SET text = 'something else' WHERE title = 'one'")
    using = vectorizer(database, "alice", DigestEmbedder())
    report = index.check(database, using, user_id=ALICE)
    assert index.distrust(database, user_id=ALICE, document_ids=[document for document, _ in report.wrong_hash]) == 2
    folder.sync(job_type="full_sync")
    assert index.check(database, using, user_id=ALICE).is_clean
    truth = {"mail.txt": "a mail\nattach one: first attachment", "mail.txt/one": "first attachment"}
    assert not checker.check(database_urls.admin_url, "alice", truth)


# What a vendor, or a stranger's mail, can put into an item


ODD = "odd \0 \ud800 \U0001f600 end"


@pytest.mark.parametrize(
    "changes",
    [
        {"title": ODD},
        {"external_path": ODD},
        {"external_url": ODD},
        {"mime_type": ODD},
        {"external_hash": f"tx:{ODD}"},
        {"title": " ".join(f"word{n}" for n in range(300_000))},
        {"external_path": "p/" * 100_000},
        {"size_bytes": 2**70},
        {"size_bytes": 2**40},
        {"external_modified_at": datetime.min.replace(tzinfo=UTC)},
        {"external_modified_at": datetime.max.replace(tzinfo=timezone(timedelta(hours=-14)))},
        {"external_created_at": datetime(1901, 1, 1, tzinfo=UTC)},
    ],
    ids=lambda changes: "-".join(f"{name}" for name in changes),
)
def test_an_odd_item_is_stored_all_the_same(
    changes: dict[str, object], account_place: Place, database: Database, ask: Ask
) -> None:
    source = ToldSource(listing([item("odd", "text", **changes), item("plain", "text")]), {"odd": "text"})
    assert sync_told(database, account_place.wish, source).counts.created == 2
    ask("UPDATE app.sync_items SET sync_status = 'failed'")  # due at once: it is read back, as for a retry
    assert sync_told(database, account_place.wish, source).status is JobStatus.COMPLETED


@pytest.mark.parametrize("bad_id", ["".join(chr(0x100 + n % 999) for n in range(4000)), "nul \0 in it", "half \ud800"])
def test_an_id_that_cannot_be_stored_is_a_failure_of_that_item_alone(
    bad_id: str, account_place: Place, database: Database, ask: Ask
) -> None:
    source = ToldSource(listing([item(bad_id, "text", external_path="box/bad", title="bad"), item("plain", "text")]))
    result = sync_told(database, account_place.wish, source)
    assert (result.status, result.counts.created, result.counts.failed) == (JobStatus.COMPLETED_WITH_ERRORS, 1, 1)
    assert ask("SELECT external_path, reason FROM app.sync_failures") == [("box/bad", "unstorable_id")]
    source.fed = [Page([Change(ChangeKind.DELETED, bad_id)], cursor_after={"feed": 1})]
    assert sync_told(database, account_place.wish, source).status is JobStatus.COMPLETED


def test_an_attachment_with_an_endless_name_is_stored(account_place: Place, database: Database, ask: Ask) -> None:
    name = "".join(chr(0x4E00 + n * 7 % 9999) for n in range(3000))
    source = ToldSource(listing([item("mail", f"a mail\nattach {name}: attach {name}: text")]))
    assert sync_told(database, account_place.wish, source).counts.created == 3
    source.fed = [Page([upsert(item("mail", f"new\nattach {name}: attach {name}: text"))], cursor_after={"feed": 1})]
    assert sync_told(database, account_place.wish, source).counts.created == 0
    assert ask(LIVE) == [(3,)]


def test_an_odd_message_of_a_failure_is_recorded(account_place: Place, database: Database, ask: Ask) -> None:
    source = ToldSource(listing([item("a", "text")]), {"a": SourceUnavailableError(f"no: {ODD}", wait_s=1)})
    assert sync_told(database, account_place.wish, source).counts.failed == 1
    source.fed = [SourceUnavailableError(f"away: {ODD}", wait_s=1)]
    with pytest.raises(SourceUnavailableError):
        sync_told(database, account_place.wish, source)
    assert ask("SELECT status FROM app.sync_jobs WHERE status NOT LIKE 'completed%%'") == [("failed",)]


def test_a_naive_time_is_refused_by_name(account_place: Place, database: Database) -> None:
    naive = datetime(2026, 1, 1)  # noqa: DTZ001 - that is the point
    source = ToldSource(listing([item("a", "text", external_modified_at=naive)]))
    with pytest.raises(ValueError, match="naive"):
        sync_told(database, account_place.wish, source)


def test_a_text_of_which_no_passage_is_left_is_a_failure(
    folder: Place, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.sync.parts import FixedSplitter

    split = FixedSplitter.split
    monkeypatch.setattr(
        FixedSplitter, "split", lambda self, text, headings: [] if text == "\u200b" else split(self, text, headings)
    )
    (folder.path / "a.txt").write_text("\u200b")
    result = folder.sync()
    assert (result.status, result.counts.failed) == (JobStatus.COMPLETED_WITH_ERRORS, 1)
    assert ask("SELECT reason, stage FROM app.sync_failures") == [("no_text", "chunk")]
    assert ask(LIVE) == [(0,)]


# Plans


def test_a_plan_counts_an_item_once_that_is_listed_twice(account_place: Place, database: Database) -> None:
    items = [item(f"n{n:02}", f"text {n}") for n in range(5)]
    source = ToldSource(listing(items, items[:2]))
    planned = plan_sync(database, source, data_source(database, account_place.wish), job_type=JobType.MANUAL)
    assert (planned.adds, planned.unchanged) == (5, 0)


def test_a_plan_lists_where_the_sync_would_because_its_cursor_expired_or_a_listing_is_due(
    account_place: Place, account: VendorAccount, database: Database, ask: Ask
) -> None:
    for name in "abcd":
        account.put(name, f"text {name}")
    account_place.sync()
    account.put("a", "another text")
    account.put("e", "text e")
    account.delete("b")
    account.expired_before = len(account.log)
    account.save()
    source = ScriptedSource(account.file)
    planned = plan_sync(database, source, data_source(database, account_place.wish), job_type=JobType.MANUAL)
    assert (planned.adds, planned.updates, planned.deletes, planned.unchanged) == (1, 1, 1, 2)
    counts = account_place.sync().counts
    assert (counts.created, counts.updated, counts.deleted) == (1, 1, 1)

    del account.texts["c"]  # and its feed never tells
    account.save()
    source = ScriptedSource(account.file)
    source.reconcile_every = timedelta(days=1)
    row = data_source(database, account_place.wish)
    assert plan_sync(database, source, row, job_type=JobType.MANUAL).deletes == 0
    ask("UPDATE app.data_sources SET last_listed_at = now() - interval '2 days'")
    assert plan_sync(database, source, row, job_type=JobType.MANUAL).deletes == 1


def test_a_plan_of_a_full_sync_counts_what_the_listing_no_longer_shows(
    account_place: Place, database: Database
) -> None:
    items = [item(f"n{n:02}", f"text {n}") for n in range(30)]
    source = ToldSource(listing(items))
    sync_told(database, account_place.wish, source)
    source.listed = listing(items[:3], items[3:5])
    planned = plan_sync(database, source, data_source(database, account_place.wish), job_type=JobType.FULL_SYNC)
    assert (planned.deletes, planned.needs_confirmation) == (25, True)
    assert len(planned.examples["deletes"]) == 10
