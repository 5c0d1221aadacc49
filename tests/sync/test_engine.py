"""What a sync does and counts, against a real database; the crash tests say what it survives."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.conftest import DatabaseUrls
from tests.sync import checker
from tests.sync.conftest import Ask, Place
from tests.sync.parts import DigestEmbedder
from tests.sync.scripted import VendorAccount, fetched
from tests.sync.syncing import data_source, sync_parts
from workstation_pipelines.db.engine import Database
from workstation_pipelines.errors import SourceUnavailableError
from workstation_pipelines.model import JobStatus
from workstation_pipelines.sync.run import SyncRequest, drive, run_sync

TWO_CHUNKS = "first part of the text, forty characters then a second part of it"


def write(place: Place, **texts: str) -> None:
    for name, text in texts.items():
        (place.path / f"{name}.txt").write_text(text)


def test_an_unchanged_folder_is_neither_fetched_nor_embedded(folder: Place) -> None:
    write(folder, a=TWO_CHUNKS, b="other")
    assert folder.sync().counts.created == 2
    again = folder.sync()
    assert (again.counts.unchanged, again.counts.fetched, again.counts.chunks_embedded) == (2, 0, 0)
    assert folder.embedded == []


def test_only_chunks_with_new_text_are_embedded(folder: Place) -> None:
    write(folder, a=TWO_CHUNKS)
    folder.sync()
    write(folder, a=TWO_CHUNKS[:40] + "a different ending")
    result = folder.sync()
    assert (result.counts.updated, result.counts.chunks_embedded, result.counts.chunks_reused) == (1, 1, 1)
    assert folder.embedded == ["a different ending"]


def test_a_text_that_occurs_in_many_documents_and_pages_is_embedded_once(folder: Place) -> None:
    write(folder, **{f"copy{n}": "the very same text" for n in range(10)})
    result = folder.sync()
    assert folder.embedded == ["the very same text"]
    assert (result.counts.chunks_embedded, result.counts.chunks_reused) == (1, 9)


def test_a_rename_keeps_the_document_and_embeds_nothing(folder: Place, ask: Ask) -> None:
    write(folder, a=TWO_CHUNKS)
    folder.sync()
    before = ask("SELECT id, live_generation FROM app.documents")
    (folder.path / "a.txt").rename(folder.path / "z.txt")
    result = folder.sync()
    assert (result.counts.updated, result.counts.fetched, result.counts.deleted) == (1, 0, 0)
    assert ask("SELECT id, live_generation FROM app.documents") == before
    assert ask(
        "SELECT d.title, i.external_path FROM app.documents d JOIN app.sync_items i ON i.local_document_id = d.id"
    ) == [("z", "z.txt")]


def test_new_bytes_with_the_same_text_make_no_new_generation(
    account_place: Place, account: VendorAccount, ask: Ask
) -> None:
    account.put("a", "some text")
    account_place.sync()
    ask("UPDATE app.sync_items SET external_hash = 'tx:older'")
    account.put("a", "some text")
    result = account_place.sync()
    assert (result.counts.updated, result.counts.fetched, result.counts.chunks_embedded) == (1, 1, 0)
    assert ask("SELECT live_generation FROM app.documents") == [(1,)]


def test_a_deleted_file_leaves_no_chunk_and_comes_back_as_the_same_document(folder: Place, ask: Ask) -> None:
    write(folder, a=TWO_CHUNKS, b="stays")
    folder.sync()
    before = ask("SELECT id FROM app.documents WHERE title = 'a'")
    (folder.path / "a.txt").unlink()
    assert folder.sync().counts.deleted == 1
    assert ask("SELECT count(*) FROM app.chunks c JOIN app.documents d ON d.id = c.document_id WHERE title = 'a'") == [
        (0,)
    ]
    write(folder, a="back again")
    assert folder.sync().counts.created == 1
    assert ask("SELECT id FROM app.documents WHERE title = 'a' AND deleted_at IS NULL") == before


def test_mass_deletion_waits_for_a_confirmation(folder: Place, ask: Ask) -> None:
    write(folder, **{f"n{n:02}": f"text {n}" for n in range(30)})
    folder.sync()
    for n in range(25):
        (folder.path / f"n{n:02}.txt").unlink()
    write(folder, new="arrives all the same")
    held = folder.sync(confirm_deletes=False)
    assert held.status is JobStatus.NEEDS_CONFIRMATION
    assert "25 of 30" in held.message
    assert ask("SELECT count(*) FROM app.documents WHERE deleted_at IS NULL") == [(31,)]
    assert folder.sync(confirm_deletes=True).counts.deleted == 25
    assert ask("SELECT status FROM app.sync_jobs ORDER BY created_at") == [
        ("completed",),
        ("cancelled",),
        ("completed",),
    ]


def test_a_few_deletions_need_no_confirmation(folder: Place) -> None:
    write(folder, **{f"n{n:02}": f"text {n}" for n in range(20)})
    folder.sync()
    for n in range(20):
        (folder.path / f"n{n:02}.txt").unlink()
    assert folder.sync(confirm_deletes=False).counts.deleted == 20


def test_poison_is_named_and_the_rest_is_taken(folder: Place, ask: Ask) -> None:
    write(folder, good="fine", bad="POISON", nothing="")
    result = folder.sync()
    assert result.status is JobStatus.COMPLETED_WITH_ERRORS
    assert (result.counts.created, result.counts.failed, result.counts.skipped) == (1, 1, 1)
    assert ask("SELECT external_path, stage, reason, error_class, next_try_at FROM app.sync_failures") == [
        ("bad.txt", "extract", "corrupt", "UnreadableContentError", None)
    ]
    again = folder.sync()
    assert (again.status, again.counts.fetched, again.counts.unchanged) == (JobStatus.COMPLETED, 0, 3)


def test_a_mended_file_closes_its_ledger_entry(folder: Place, ask: Ask) -> None:
    write(folder, bad="POISON")
    folder.sync()
    write(folder, bad="now it can be read")
    assert folder.sync().counts.created == 1
    assert ask("SELECT resolved_at IS NOT NULL FROM app.sync_failures") == [(True,)]


def test_a_file_that_turns_to_poison_keeps_its_last_good_version(folder: Place, ask: Ask) -> None:
    write(folder, a="good text")
    folder.sync()
    write(folder, a="POISON now")
    assert folder.sync().counts.failed == 1
    assert ask("SELECT text FROM app.chunks") == [("good text",)]


def test_a_file_that_turns_empty_is_not_found_by_its_old_text(folder: Place, ask: Ask) -> None:
    write(folder, a="good text", b="other")
    folder.sync()
    write(folder, a="")
    assert folder.sync().counts.skipped == 1
    assert ask("SELECT text FROM app.chunks") == [("other",)]


def test_only_what_failed_is_tried_again_and_only_when_due(
    account_place: Place, account: VendorAccount, ask: Ask
) -> None:
    account.unavailable = ["b"]
    for name in "abc":
        account.put(name, f"text of {name}")
    first = account_place.sync()
    assert (first.status, first.counts.failed) == (JobStatus.COMPLETED_WITH_ERRORS, 1)
    account.unavailable = []
    account.save()
    assert account_place.sync().counts.fetched == 0
    ask("UPDATE app.sync_failures SET next_try_at = now()")
    assert account_place.sync().counts.created == 1
    assert fetched(account_place.path) == ["a", "b", "c", "b"]


def test_a_failed_file_is_tried_again_when_due(folder: Place, ask: Ask) -> None:
    write(folder, bad="POISON")
    folder.sync()
    ask("UPDATE app.sync_failures SET next_try_at = now()")
    assert folder.sync().counts.failed == 1
    assert ask("SELECT attempts FROM app.sync_failures") == [(2,)]


def test_a_source_that_is_away_ends_the_job_instead_of_failing_every_item(
    account_place: Place, account: VendorAccount, ask: Ask
) -> None:
    account.unavailable = [f"n{n:02}" for n in range(60)]
    for n in range(60):
        account.put(f"n{n:02}", "text")
    with pytest.raises(SourceUnavailableError):
        account_place.sync()
    assert ask("SELECT status, items_failed < 25 FROM app.sync_jobs") == [("failed", True)]
    account.unavailable = []
    account.save()
    ask("UPDATE app.sync_failures SET next_try_at = now()")
    account_place.sync()
    account_place.sync()
    assert ask("SELECT count(*) FROM app.documents") == [(60,)]


def test_an_item_that_is_gone_at_fetch_is_skipped_without_a_failure(
    account_place: Place, account: VendorAccount
) -> None:
    account.put("a", "here")
    account.put("b", "soon gone")
    database = Database(account_place.wish.app_url)
    parts = sync_parts(database, account_place.wish, DigestEmbedder())
    pages = parts.source.pages

    def vanish_after_listing(*arguments: object) -> Iterator[object]:
        for page in pages(*arguments):  # type: ignore[arg-type]
            parts.source._account.texts.pop("b", None)  # type: ignore[attr-defined]
            yield page

    parts.source.pages = vanish_after_listing  # type: ignore[assignment, method-assign]
    result = drive(run_sync(parts, data_source(database, account_place.wish), SyncRequest()))
    database.close()
    assert (result.status, result.counts.created, result.counts.skipped) == (JobStatus.COMPLETED, 1, 1)


def test_the_feed_is_resumed_where_it_ended(account_place: Place, account: VendorAccount, ask: Ask) -> None:
    for name in "abcdefg":
        account.put(name, f"text of {name}")
    account_place.sync()
    account.put("c", "edited")
    account.delete("d")
    result = account_place.sync()
    assert (result.counts.found, result.counts.updated, result.counts.deleted) == (2, 1, 1)
    assert ask("SELECT cursor FROM app.data_sources") == [({"log": 9},)]


def test_what_changes_during_the_listing_is_in_the_feed_after_it(account_place: Place, account: VendorAccount) -> None:
    account.put("a", "text")
    account_place.sync()
    assert account_place.sync().counts.found == 0
    account.put("b", "more")
    account.put("a", "text two")
    assert account_place.sync(job_type="full_sync").counts.found == 2
    account.put("a", "text three")
    assert account_place.sync().counts.updated == 1


def test_an_expired_cursor_becomes_one_full_listing_in_the_same_job(
    account_place: Place, account: VendorAccount, database_urls: DatabaseUrls, ask: Ask
) -> None:
    for name in "abcdefg":
        account.put(name, f"text of {name}")
    account_place.sync()
    account.delete("a")
    account.put("b", "edited")
    account.expired_before = 100
    account.save()
    result = account_place.sync()
    assert (result.status, result.counts.deleted, result.counts.updated) == (JobStatus.COMPLETED, 1, 1)
    assert ask("SELECT count(*) FROM app.sync_jobs") == [(2,)]
    truth = {f"box/{name}.txt": f"text of {name}" for name in "cdefg"} | {"box/b.txt": "edited"}
    assert not checker.check(database_urls.admin_url, "alice", truth)


def test_a_listing_that_breaks_off_deletes_nothing_and_goes_on_where_it_broke(
    account_place: Place, account: VendorAccount, ask: Ask
) -> None:
    for name in "abcdefgh":
        account.put(name, f"text of {name}")
    account_place.sync()
    for name in "abcdefgh":
        account.put(name, f"second text of {name}")
    account.delete("h")
    account.listing_breaks_after = 1
    account.save()
    before = len(fetched(account_place.path))
    with pytest.raises(SourceUnavailableError):
        account_place.sync(job_type="full_sync")
    assert ask("SELECT count(*) FROM app.documents WHERE deleted_at IS NULL") == [(8,)]
    account.listing_breaks_after = None
    account.save()
    result = account_place.sync(job_type="full_sync")
    assert result.counts.deleted == 1
    assert len(fetched(account_place.path)) - before == 7
    assert ask("SELECT status FROM app.sync_jobs ORDER BY created_at") == [("completed",), ("failed",), ("completed",)]


def test_a_long_wait_pauses_the_job_instead_of_sleeping(account_place: Place, account: VendorAccount, ask: Ask) -> None:
    for name in "abcdef":
        account.put(name, f"text of {name}")
    account.rate_limit_after = 1
    account.save()
    paused = account_place.sync()
    assert paused.status is JobStatus.PAUSED
    assert ask("SELECT not_before > now() + interval '590 s' FROM app.sync_jobs") == [(True,)]
    account.rate_limit_after = None
    account.save()
    assert account_place.sync().counts.created == 3
    assert sorted(fetched(account_place.path)) == list("abcdef")


def test_a_cancel_request_stops_at_a_page_boundary_and_keeps_what_is_done(
    account_place: Place, account: VendorAccount, ask: Ask
) -> None:
    for name in "abcdefghijkl":
        account.put(name, f"text of {name}")
    database = Database(account_place.wish.app_url)
    syncing = run_sync(
        sync_parts(database, account_place.wish, DigestEmbedder()),
        data_source(database, account_place.wish),
        SyncRequest(),
    )
    next(syncing)
    ask("UPDATE app.sync_jobs SET cancel_requested = true")
    result = drive(syncing)
    database.close()
    assert result.status is JobStatus.CANCELLED
    done = result.counts.created
    assert 0 < done < 12
    assert account_place.sync().counts.created == 12 - done
    assert len(fetched(account_place.path)) <= 12 + 2 * 3  # the page in work and the page in flight


def test_a_closed_generator_leaves_a_cancelled_job(account_place: Place, account: VendorAccount, ask: Ask) -> None:
    for name in "abcdefghi":
        account.put(name, f"text of {name}")
    database = Database(account_place.wish.app_url)
    syncing = run_sync(
        sync_parts(database, account_place.wish, DigestEmbedder()),
        data_source(database, account_place.wish),
        SyncRequest(),
    )
    next(syncing)
    syncing.close()
    database.close()
    assert ask("SELECT status FROM app.sync_jobs") == [("cancelled",)]
    assert account_place.sync().status is JobStatus.COMPLETED


def test_attachments_are_documents_of_their_own(folder: Place, ask: Ask) -> None:
    write(folder, mail="a mail\nattach one.txt: first attachment\nattach two.txt: second attachment")
    assert folder.sync().counts.created == 3
    rows = ask("SELECT external_path, parent_external_id IS NOT NULL FROM app.sync_items ORDER BY external_path")
    assert rows == [("mail.txt", False), ("mail.txt/one.txt", True), ("mail.txt/two.txt", True)]
    assert folder.sync().counts.deleted == 0
    write(folder, mail="a mail\nattach one.txt: first attachment")
    changed = folder.sync()
    assert (changed.counts.updated, changed.counts.unchanged, changed.counts.deleted) == (1, 1, 1)
    (folder.path / "mail.txt").unlink()
    assert folder.sync().counts.deleted == 2
    assert ask("SELECT count(*) FROM app.chunks") == [(0,)]


def test_a_bug_ends_the_job_as_failed_and_raises(folder: Place, ask: Ask) -> None:
    write(folder, a="text")
    database = Database(folder.wish.app_url)
    parts = sync_parts(database, folder.wish, DigestEmbedder())
    parts.extractor.extract = lambda content: 1 // 0  # type: ignore[method-assign, assignment, return-value]
    with pytest.raises(ZeroDivisionError):
        drive(run_sync(parts, data_source(database, folder.wish), SyncRequest()))
    database.close()
    assert ask("SELECT status, error_message FROM app.sync_jobs") == [
        ("failed", "ZeroDivisionError: this is a bug, the log has the details")
    ]


def test_the_database_can_go_away_in_the_middle(
    account_place: Place, account: VendorAccount, database_urls: DatabaseUrls, ask: Ask
) -> None:
    for name in "abcdefghi":
        account.put(name, f"text of {name}")
    database = Database(account_place.wish.app_url)
    syncing = run_sync(
        sync_parts(database, account_place.wish, DigestEmbedder()),
        data_source(database, account_place.wish),
        SyncRequest(),
    )
    next(syncing)
    ask(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'wp_app' AND datname = current_database()"
    )
    with contextlib.suppress(SourceUnavailableError):  # or the pool reconnects in time, and the fence still holds
        drive(syncing)
    database.close()
    assert account_place.sync().status is JobStatus.COMPLETED
    truth = {f"box/{name}.txt": f"text of {name}" for name in "abcdefghi"}
    assert not checker.check(database_urls.admin_url, "alice", truth)


def test_threads_syncing_different_sources_do_not_disturb_each_other(
    tmp_path_factory: pytest.TempPathFactory, database_urls: DatabaseUrls, folder: Place
) -> None:
    places = []
    for number in range(3):
        path = tmp_path_factory.mktemp(f"place{number}")
        (path / "a.txt").write_text(f"text in place {number}")
        place = Place(path, database_urls.app_url)
        place.wish = replace(place.wish, user=f"user{number}")
        places.append(place)
    threads = [threading.Thread(target=place.sync) for place in places]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number in range(3):
        assert not checker.check(database_urls.admin_url, f"user{number}", {"a.txt": f"text in place {number}"})
