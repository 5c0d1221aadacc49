"""An index outside the database holds exactly the live chunks after the next drain, whatever went wrong before."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import Connection

from tests.conftest import DatabaseUrls
from tests.db import rows
from tests.fakes.pinecone import FakePinecone
from tests.fakes.server import Answer, Request
from tests.sync.indexed import Indexed
from workstation_pipelines.db.engine import Database
from workstation_pipelines.model import DocumentId, UserId
from workstation_pipelines.sync.faults import OUTBOX_POINTS
from workstation_pipelines.sync.outbox import drain, drain_all, drop

UNAVAILABLE = Answer.of({"error": {"code": "UNAVAILABLE", "message": "try later"}, "status": 503}, 503)


@pytest.fixture
def pinecone() -> Iterator[FakePinecone]:
    with FakePinecone() as fake:
        yield fake


@pytest.fixture
def place(database_urls: DatabaseUrls, pinecone: FakePinecone) -> Iterator[Indexed]:
    indexed = Indexed(database_urls, pinecone)
    yield indexed
    indexed.close()


def test_every_change_of_a_document_reaches_the_index(place: Indexed) -> None:
    place.put("before", "it was there before the index was")
    place.put("gone before", "it was deleted before")
    place.delete("gone before")
    place.open()
    assert place.drain().documents == 1
    assert place.is_in_step()
    place.put("a", "the first text of a, which is long")
    place.put("b", "the first text of b")
    place.put("a", "shorter")
    place.drain()
    assert place.is_in_step()
    for change in (
        lambda: place.put("b", "b has another text now, and it is longer"),
        lambda: place.rechunk("b", "b has another text now, and it is longer", chunk_size=20),
        lambda: place.delete("a"),
        lambda: place.put("a", "a is back"),
        lambda: place.purge("before"),
        lambda: place.ask("DELETE FROM app.data_sources"),
    ):
        change()
        assert not place.is_in_step()
        place.drain()
        assert place.is_in_step()
    assert place.pinecone.ids() == set()


def test_what_vectors_can_be_filtered_by_follows_the_document(place: Indexed) -> None:
    place.put("a", "a text")
    place.drain()
    project = place.assign("a", "project")
    place.tag("a", "red")
    place.tag("a", "blue")
    place.date("a", 3)
    place.drain()
    (vector_id,) = place.pinecone.ids()
    held = place.pinecone.document(vector_id)
    assert held["project_id"] == str(project)
    assert len(held["tags"]) == 2
    assert held["source_modified_at"] == 1777766400.0
    assert "a text" not in str(held)
    assert "alice" not in str(place.pinecone.namespaces)
    place.untag("a", "blue")
    place.ask("DELETE FROM app.tags WHERE name = 'red'")
    place.ask("DELETE FROM app.projects")
    place.drain()
    held = place.pinecone.document(vector_id)
    assert not {"project_id", "tags"} & held.keys()


def test_vectors_that_were_missing_follow_when_they_are_filled_in(place: Indexed) -> None:
    place.put("a", "a text of three chunks, say")
    place.lose_vectors("a")
    place.drain()
    assert place.pinecone.ids() == set()
    place.fill_vectors("a")
    place.drain()
    assert place.is_in_step()
    assert len(place.pinecone.ids()) == 3


def test_users_without_an_index_have_nothing_noted(place: Indexed, database: Database) -> None:
    place.put("a", "a text")
    place.tag("a", "red")
    assert place.ask("SELECT * FROM app.index_outbox") == []
    place.open()
    other = UserId("bob")
    with database.transaction_with_rls(other) as connection:
        place.ask("UPDATE app.documents SET title = 'another title'")  # of what the index holds nothing has changed
        assert connection.exec_driver_sql("SELECT count(*) FROM app.index_outbox").scalar_one() == 0
    assert [row[0] for row in place.ask("SELECT count(*) FROM app.index_outbox")] == [1]


@pytest.mark.crash
def test_a_drain_killed_anywhere_is_made_good_by_the_next(place: Indexed) -> None:
    place.open()
    for point in OUTBOX_POINTS:
        place.put("a", f"the first text of a, which is long, before {point}")
        place.put("b", f"the first text of b before {point}")
        place.time_passes()
        assert place.drain_killed_at(f"{point}:1"), point
        place.put("a", f"the second text of a before {point}")
        place.delete("b")
        place.time_passes()
        assert place.drain_killed_at(f"{point}:1"), point
        place.time_passes()
        place.drain()
        assert place.is_in_step(), point


def test_an_index_that_is_down_for_two_minutes_is_caught_up_with(place: Indexed) -> None:
    place.put("a", "the first text of a")
    place.drain()
    place.pinecone.fail("/documents/", answer=UNAVAILABLE, times=10_000)
    for minute in range(2):
        place.put("a", f"the text of a in minute {minute}, in which nobody answers")
        place.put(f"new in {minute}", "written while nobody answers")
        assert place.drain().error.startswith("Pinecone cannot answer")
        asked = len(place.pinecone.requests)
        assert place.drain().documents == 0
        assert len(place.pinecone.requests) == asked  # nothing is due before its time
        place.time_passes()
    assert place.waiting() == 3
    place.pinecone.faults.clear()
    place.drain()
    assert place.is_in_step()


def test_a_request_for_a_pause_is_respected(place: Indexed) -> None:
    place.put("a", "a text")
    place.open()
    place.pinecone.fail("upsert", answer=Answer.of({"message": "slow down"}, 429, {"Retry-After": "240"}))
    assert place.drain().wait_s == 240
    (row,) = place.ask("SELECT extract(epoch FROM next_try_at - updated_at) FROM app.index_outbox")
    assert row[0] == 240
    place.time_passes()
    place.drain()
    assert place.is_in_step()


def test_a_batch_of_which_a_part_was_taken_is_sent_again(place: Indexed) -> None:
    for number in range(6):
        place.put(f"d{number}", f"the text of document {number}, in some chunks")
    place.open()
    place.pinecone.takes_at_most = 7
    done = place.drain()
    assert "only 7 of" in done.error
    assert not place.is_in_step()
    place.pinecone.takes_at_most = None
    place.time_passes()
    place.drain()
    assert place.is_in_step()


def test_a_vector_that_is_refused_holds_up_its_own_document_only(place: Indexed) -> None:
    for number in range(4):
        place.put(f"d{number}", f"the text of document {number}, in some chunks")
    place.open()
    refused = str(place.ids["d2"])
    place.pinecone.refuses = lambda vector_id: vector_id == f"{refused}#1#1"
    done = place.drain()
    assert (done.documents, done.put_off) == (3, 1)
    assert "cannot be taken" in done.error
    assert place.waiting() == 1
    place.pinecone.refuses = lambda _id: False
    place.time_passes()
    place.drain()
    assert place.is_in_step()


def test_what_was_taken_without_an_answer_is_sent_again_to_no_harm(place: Indexed) -> None:
    place.put("a", "the first text of a, which is long")
    place.drain()
    place.put("a", "second")
    for part in ("upsert", "delete"):
        place.pinecone.fail(part, drop=True)
        assert "gives no usable answer" in place.drain().error
        place.time_passes()
    place.drain()
    assert place.is_in_step()


def test_a_document_that_changes_while_it_is_sent_is_sent_again(place: Indexed) -> None:
    place.put("a", "the first text of a, which is long")
    place.open()
    changes: list[Callable[[], None]] = [lambda: place.delete("a"), lambda: place.put("a", "the second")]

    def meanwhile(request: Request) -> None:
        if request.path.endswith("/upsert") and changes:
            changes.pop()()

    place.pinecone.before = meanwhile
    place.drain()
    assert place.is_in_step()
    assert not changes


def test_of_two_drains_at_once_the_one_that_overslept_undoes_no_work_of_the_other(place: Indexed) -> None:
    place.put("a", "the first text of a, which is long")
    namespace = place.open()

    def oversleep(request: Request) -> None:
        if request.path.endswith("/upsert"):
            place.pinecone.before = lambda _request: None
            place.put("a", "the second text of a")
            place.time_passes()  # its lease ends before its vectors arrive
            assert drain_all(place.index, namespace).documents == 1

    place.pinecone.before = oversleep
    drain_all(place.index, namespace)
    assert len(place.pinecone.requests) > 4
    assert place.is_in_step()


def test_what_was_opened_beside_a_writing_transaction_misses_nothing_of_it(place: Indexed, database: Database) -> None:
    with ThreadPoolExecutor(1) as opener:
        with database.transaction_with_rls(place.user_id) as connection:
            connection.exec_driver_sql("SELECT 1")
            place.ids["late"] = _uncommitted(place, connection)
            opening = opener.submit(place.open)
        opening.result(30)
    place.drain()
    assert place.is_in_step()
    assert len(place.pinecone.ids()) == 2


def test_large_documents_go_out_in_requests_within_the_limits(place: Indexed) -> None:
    place.put("large", "".join(f"{number:09d} " for number in range(1_300)))
    namespace = place.open()
    portions = list(drain(place.index, namespace))
    assert [done.vectors_written for done in portions] == [1_300]
    upserts = [request for request in place.pinecone.requests if request.path.endswith("/upsert")]
    assert len(upserts) == 2
    assert max(len(request.json["documents"]) for request in upserts) <= 1000
    place.put("large", "small")
    place.drain()
    assert place.is_in_step()


def test_a_dropped_namespace_leaves_nothing_behind(place: Indexed) -> None:
    place.put("a", "a text")
    place.drain()
    drop(place.index, place.open())
    assert place.pinecone.ids() == set()
    assert place.ask("SELECT * FROM app.index_sent") == []
    place.drain()
    assert place.is_in_step()


def _uncommitted(place: Indexed, connection: Connection) -> DocumentId:
    write = rows.document_write("uncommitted as yet", config_id=place.config.id)
    rows.store(connection, place.user_id, [write])
    return write.id
