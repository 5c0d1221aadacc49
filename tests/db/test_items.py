"""Items: what a listing is compared with, what was not seen, what became a tombstone, and what is tried again."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from sqlalchemy.exc import DBAPIError

from tests.db.conftest import ALICE
from tests.db.rows import Library, document_write, failure, item_write, store
from workstation_pipelines.db import absent_items, documents, sync_failures, sync_items
from workstation_pipelines.db.engine import Database
from workstation_pipelines.db.sync_items import ItemWrite
from workstation_pipelines.model import ItemType, SyncStatus

Admin = psycopg.Connection[Any]


def _write(database: Database, alices: Library, *writes: ItemWrite, sweep_id: Any = None) -> None:
    with database.transaction_with_rls(ALICE) as connection:
        sync_items.write(connection, alices.lease, job_id=alices.job_id, sweep_id=sweep_id, writes=writes)


def test_known_item_comes_back_with_its_document(database: Database, alices: Library) -> None:
    with database.transaction_with_rls(ALICE) as connection:
        known = sync_items.known(connection, alices.lease, external_ids=["a.txt", "unheard of"])
    (stored,) = known.values()
    assert (stored.external_id, stored.external_path, stored.external_hash) == ("a.txt", "folder/a.txt", "md5:a.txt")
    assert (stored.sync_status, stored.reason, stored.title) == (SyncStatus.SYNCED, "", "a.txt")
    assert (stored.document_id, stored.document_title) == (alices.document_id, "alice's title")
    assert (stored.live_generation, stored.index_config_id) == (1, alices.config.id)
    assert (stored.is_document_deleted, stored.retry_due) == (False, False)
    assert len(stored.content_hash or "") == 64


def test_item_without_a_document_has_nothing_of_one(database: Database, alices: Library) -> None:
    _write(
        database, alices, item_write("photo.jpg", SyncStatus.SKIPPED, reason="image", external_url="https://x/photo")
    )
    with database.transaction_with_rls(ALICE) as connection:
        stored = sync_items.known(connection, alices.lease, external_ids=["photo.jpg"])["photo.jpg"]
    assert (stored.document_id, stored.content_hash, stored.live_generation, stored.index_config_id) == (
        None,
        None,
        0,
        None,
    )
    assert (stored.is_document_deleted, stored.reason, stored.external_url) == (False, "image", "https://x/photo")


def test_children_come_with_their_parent(database: Database, alices: Library) -> None:
    children = [item_write(f"mail#{number}", parent_external_id="mail") for number in (1, 2)]
    _write(database, alices, item_write("mail"), *children, item_write("mail#other", parent_external_id="another"))
    with database.transaction_with_rls(ALICE) as connection:
        assert set(sync_items.known(connection, alices.lease, external_ids=["mail"])) == {"mail"}
        known = sync_items.known(connection, alices.lease, external_ids=["mail"], children_of=["mail"])
        assert set(known) == {"mail", "mail#1", "mail#2"}
        assert sync_items.known(connection, alices.lease, external_ids=[]) == {}


def test_writing_again_replaces_every_column(database: Database, alices: Library) -> None:
    moment = datetime(2026, 3, 4, 5, 6, 7, 891011, tzinfo=UTC)
    _write(database, alices, item_write("x"))
    rewritten = item_write(
        "x",
        SyncStatus.FAILED,
        reason="corrupt",
        external_path="elsewhere/\N{PILE OF POO}.eml",
        external_hash="md5:new",
        item_type=ItemType.EMAIL,
        title="new",
        mime_type="message/rfc822",
        size_bytes=2**40,
        external_modified_at=moment,
        external_url="https://x/y",
        parent_external_id="p",
    )
    _write(database, alices, rewritten)
    (row,) = database.query_with_rls(ALICE, "SELECT * FROM app.sync_items WHERE external_id = 'x'")
    for name in (
        "external_path",
        "external_hash",
        "item_type",
        "title",
        "mime_type",
        "size_bytes",
        "external_modified_at",
    ):
        assert getattr(row, name) == getattr(rewritten.item, name)
    assert (row.sync_status, row.reason, row.external_url, row.parent_external_id) == (
        "failed",
        "corrupt",
        "https://x/y",
        "p",
    )
    assert (row.last_sync_job_id, row.local_document_id) == (alices.job_id, None)


def test_thousands_of_items_are_written_in_one_go(database: Database, alices: Library) -> None:
    _write(database, alices, *(item_write(f"item {number}") for number in range(3000)))
    with database.transaction_with_rls(ALICE) as connection:
        assert absent_items.count_live(connection, alices.lease) == 3002


def test_same_id_twice_in_one_write_is_refused(database: Database, alices: Library) -> None:
    with pytest.raises((DBAPIError, psycopg.Error), match="second time"):
        _write(database, alices, item_write("x"), item_write("x"))


def test_items_of_another_source_are_not_known(database: Database, alices: Library, bobs: Library) -> None:
    with database.transaction_with_rls(ALICE) as connection:
        assert sync_items.known(connection, bobs.lease, external_ids=["a.txt"]) == {}
        assert absent_items.unseen(connection, bobs.lease, sweep_id=uuid4()) == []
    assert alices.source.id != bobs.source.id


def test_tombstone_keeps_its_row_and_names_its_document_once(database: Database, alices: Library) -> None:
    def mark_deleted() -> list[Any]:
        with database.transaction_with_rls(ALICE) as connection:
            ids = ["a.txt", "b.txt", "unheard of"]
            return list(sync_items.mark_deleted(connection, alices.lease, job_id=alices.job_id, external_ids=ids))

    assert mark_deleted() == [alices.document_id]
    assert mark_deleted() == []
    with database.transaction_with_rls(ALICE) as connection:
        documents.tombstone(connection, user_id=ALICE, document_ids=[alices.document_id])
        stored = sync_items.known(connection, alices.lease, external_ids=["a.txt"])["a.txt"]
        assert (stored.sync_status, stored.document_id) == (SyncStatus.DELETED, alices.document_id)
        assert stored.is_document_deleted
        assert absent_items.count_live(connection, alices.lease) == 0


def test_unseen_are_live_listed_items_that_the_sweep_did_not_show(database: Database, alices: Library) -> None:
    sweep = uuid4()
    _write(database, alices, item_write("gone"), item_write("child", parent_external_id="gone"), sweep_id=uuid4())
    _write(database, alices, item_write("shown"), sweep_id=sweep)
    with database.transaction_with_rls(ALICE) as connection:
        assert absent_items.unseen(connection, alices.lease, sweep_id=sweep) == ["a.txt", "b.txt", "gone"]
        sync_items.mark_seen(connection, alices.lease, sweep_id=sweep, external_ids=["b.txt", "unheard of"])
        sync_items.mark_deleted(connection, alices.lease, job_id=alices.job_id, external_ids=["gone"])
        assert absent_items.unseen(connection, alices.lease, sweep_id=sweep) == ["a.txt"]
        assert absent_items.count_live(connection, alices.lease) == 3


def test_stream_shows_what_a_listing_is_compared_with(database: Database, alices: Library) -> None:
    _write(database, alices, item_write("c.txt"), item_write("c.txt#1", parent_external_id="c.txt"))
    with database.transaction_with_rls(ALICE) as connection:
        sync_items.mark_deleted(connection, alices.lease, job_id=alices.job_id, external_ids=["c.txt"])
    streamed = {known.external_id: known for known in _stream(database, alices)}
    assert {name: known.sync_status for name, known in streamed.items()} == {
        "a.txt": SyncStatus.SYNCED,
        "b.txt": SyncStatus.FAILED,
        "c.txt": SyncStatus.DELETED,
    }
    assert streamed["a.txt"].external_hash == "md5:a.txt"
    assert streamed["b.txt"].external_path == "folder/b.txt"


def _stream(database: Database, alices: Library) -> list[Any]:
    return list(sync_items.stream(database, user_id=ALICE, data_source_id=alices.source.id))


def test_stream_that_is_given_up_frees_its_connection(database: Database, alices: Library) -> None:
    _write(database, alices, *(item_write(f"item {number}") for number in range(5000)))
    for _ in range(6):  # the pool has four connections
        stream = sync_items.stream(database, user_id=ALICE, data_source_id=alices.source.id)
        next(stream)
        stream.close()  # type: ignore[attr-defined]  # it is a generator
    assert len(_stream(database, alices)) == 5002


def test_failed_item_is_due_when_its_entry_says_so_and_then_has_no_hash(
    database: Database, alices: Library, admin: Admin
) -> None:
    def due() -> tuple[list[str], str, bool]:
        with database.transaction_with_rls(ALICE) as connection:
            items = sync_items.due_for_retry(connection, alices.lease, limit=10)
            stored = sync_items.known(connection, alices.lease, external_ids=["b.txt"])["b.txt"]
        hashes = {known.external_id: known.external_hash for known in _stream(database, alices)}
        assert hashes["a.txt"] == "md5:a.txt"
        return [item.external_id for item in items], hashes["b.txt"], stored.retry_due

    waiting: tuple[list[str], str, bool] = ([], "md5:b.txt", False)
    is_due = (["b.txt"], "", True)
    assert due() == waiting
    admin.execute("UPDATE app.sync_failures SET next_try_at = now()")
    assert due() == is_due
    admin.execute("UPDATE app.sync_failures SET next_try_at = NULL")  # given up
    assert due() == waiting
    admin.execute(
        "UPDATE app.sync_failures SET resolved_at = now()"
    )  # no open entry: nothing speaks against another try
    assert due() == is_due
    admin.execute("UPDATE app.sync_items SET sync_status = 'skipped' WHERE external_id = 'b.txt'")
    assert due() == waiting


def test_item_due_for_retry_is_as_its_last_listing_described_it(
    database: Database, alices: Library, admin: Admin
) -> None:
    written = item_write(
        "late",
        SyncStatus.FAILED,
        item_type=ItemType.PAGE,
        size_bytes=7,
        external_modified_at=datetime(2026, 1, 2, tzinfo=UTC),
        external_url="https://x/late",
    )
    child = item_write("late#1", SyncStatus.FAILED, parent_external_id="late")
    _write(database, alices, written, child)
    with database.transaction_with_rls(ALICE) as connection:
        (item,) = sync_items.due_for_retry(connection, alices.lease, limit=10)
        assert item == written.item
        assert isinstance(item.item_type, ItemType)
        sync_failures.record(connection, alices.lease, job_id=alices.job_id, failures=[failure("late")], new_id=uuid4)
        assert sync_items.due_for_retry(connection, alices.lease, limit=10) == []
        assert sync_failures.make_due(connection, user_id=ALICE, data_source_id=alices.source.id) == 2
        due = sync_items.due_for_retry(connection, alices.lease, limit=10)
        assert [each.external_id for each in due] == ["b.txt", "late"]
        assert len(sync_items.due_for_retry(connection, alices.lease, limit=1)) == 1


def test_item_is_found_by_id_path_url_or_document_with_its_failure(database: Database, alices: Library) -> None:
    with database.transaction_with_rls(ALICE) as connection:
        for reference in ("a.txt", "folder/a.txt", str(alices.document_id)):
            (found,) = sync_items.find(connection, user_id=ALICE, reference=reference)
            assert (found.external_id, found.local_document_id, found.error_class) == (
                "a.txt",
                alices.document_id,
                None,
            )
        (failed,) = sync_items.find(connection, user_id=ALICE, reference="b.txt")
        assert (failed.stage, failed.attempts, failed.message) == ("fetch", 1, "it timed out")
        assert sync_items.find(connection, user_id=ALICE, reference="txt") == []


def test_purging_a_document_leaves_its_item(database: Database, alices: Library) -> None:
    database.query_with_rls(ALICE, "DELETE FROM app.documents WHERE user_id = 'alice'")
    with database.transaction_with_rls(ALICE) as connection:
        assert sync_items.known(connection, alices.lease, external_ids=["a.txt"])["a.txt"].document_id is None
        store(connection, ALICE, [document_write("again", config_id=alices.config.id)])
