"""Texts that somebody saves: what becomes of each, what a second time changes, and what a kill leaves."""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from tempfile import mkstemp
from typing import Any
from uuid import UUID, uuid4

import pytest

from tests.conftest import DatabaseUrls
from tests.sync.parts import DigestEmbedder
from tests.sync.ruled import Rules
from tests.sync.syncing import _FORKS, Running, new_id, vectorizer
from workstation_pipelines.db import budgets, documents, library, metering
from workstation_pipelines.db.engine import Database
from workstation_pipelines.errors import BudgetReachedError, CancelledError, InvalidRequestError
from workstation_pipelines.identity import utc_now
from workstation_pipelines.model import BudgetPeriod, BudgetUnit, DocumentId, UserId
from workstation_pipelines.sync.faults import SAVING_POINTS, Faults
from workstation_pipelines.sync.index import check
from workstation_pipelines.sync.saving import PLAIN, Saved, SavingParts, SavingTerms, TextToSave, save_texts
from workstation_pipelines.sync.vectorize import Vectorizer

ALICE = UserId("alice")
JOB = UUID(int=7)


@dataclass
class Desk:
    """Where texts are saved; `embedder` counts what it is asked for."""

    database: Database
    user_id: UserId = ALICE
    embedder: DigestEmbedder = field(default_factory=DigestEmbedder)
    check: Callable[[], object] = lambda: None

    def save(self, *texts: TextToSave, fault: str | None = None, job_id: UUID = JOB) -> list[Saved]:
        self.embedder.texts.clear()
        parts = SavingParts(self.database, self.vectorizer(), new_id, utc_now, Faults(fault))
        terms = SavingTerms(
            user_id=self.user_id,
            job_id=job_id,
            transaction=lambda: self.database.transaction_with_rls(self.user_id),
            bill=lambda connection, usages: metering.record(connection, user_id=self.user_id, usages=usages),
            check=self.check,
        )
        return list(save_texts(parts, texts, terms))

    def vectorizer(self) -> Vectorizer:
        return vectorizer(self.database, self.user_id, self.embedder)

    def ask(self, statement: str) -> Sequence[Any]:
        return [tuple(row) for row in self.database.query_with_rls(self.user_id, statement)]

    def assert_is_sound(self) -> None:
        assert check(self.database, self.vectorizer(), user_id=self.user_id).is_clean


@pytest.fixture
def desk(database: Database) -> Desk:
    return Desk(database)


def text(key: str, words: str = "some words", **more: Any) -> TextToSave:
    return TextToSave(key=key, title=more.pop("title", f"About {key}"), text=words, **more)


def outcomes(saved: Sequence[Saved]) -> list[str]:
    return [each.outcome.value for each in saved]


def test_a_key_is_one_document_whatever_is_saved_under_it(desk: Desk) -> None:
    first = desk.save(text("a", "# Head\n\nsome words", external_url="https://example.org/a"), text("b", "other"))
    assert outcomes(first) == ["created", "created"]
    assert desk.ask("SELECT title, mime_type, external_url, origin, headings FROM app.documents ORDER BY origin") == [
        ("About a", "text/markdown", "https://example.org/a", "saved:a", [[0, 1, "Head"]]),
        ("About b", "text/markdown", None, "saved:b", []),
    ]
    again = desk.save(text("a", "# Head\n\nsome words", external_url="https://example.org/a"), text("b", "another"))
    assert outcomes(again) == ["unchanged", "updated"]
    assert [each.document_id for each in again] == [each.document_id for each in first]
    assert desk.embedder.texts == ["another"]
    assert desk.ask("SELECT live_generation FROM app.documents ORDER BY origin") == [(1,), (2,)]
    desk.assert_is_sound()


def test_a_new_title_or_url_alone_is_stored_and_a_new_type_read_again(desk: Desk) -> None:
    desk.save(text("a", "# Head\n\nsome words"))
    assert outcomes(desk.save(text("a", "# Head\n\nsome words", title="New"))) == ["updated"]
    assert outcomes(desk.save(text("a", "# Head\n\nsome words", title="New"))) == ["unchanged"]
    assert outcomes(desk.save(text("a", "# Head\n\nsome words", title="New", external_url="x:y"))) == ["updated"]
    assert desk.embedder.texts == []
    state = "SELECT title, external_url, mime_type, live_generation, jsonb_array_length(headings) FROM app.documents"
    assert desk.ask(state) == [("New", "x:y", "text/markdown", 1, 1)]
    desk.save(text("a", "# Head\n\nsome words", title="New", mime_type=PLAIN))
    assert desk.ask(state) == [("New", None, PLAIN, 2, 0)]
    desk.assert_is_sound()


def test_a_text_is_taken_for_what_it_is_said_to_be(desk: Desk) -> None:
    words = ["%PDF-1.7 is how such files begin", "<html><b>bold</b></html>", "\ufb01n \xe9"]
    desk.save(*[text(str(number), each, mime_type=PLAIN) for number, each in enumerate(words)])
    assert desk.ask("SELECT text, mime_type FROM app.documents ORDER BY origin") == [(each, PLAIN) for each in words]
    long = "k" * 3000 + "\0"
    desk.save(text(long, title=" \0 "))
    assert outcomes(desk.save(text(long, title="\0"))) == ["unchanged"]


def test_what_is_no_text_is_refused_and_what_was_before_stays(desk: Desk) -> None:
    desk.save(text("a"))
    for given in (text("a", "  \n"), text("a", mime_type="text/html"), text("a", "x\x00\x01\x02" * 9)):
        with pytest.raises(InvalidRequestError, match="saved"):
            desk.save(given)
    assert desk.ask("SELECT text FROM app.documents WHERE deleted_at IS NULL") == [("some words",)]


def test_projects_and_tags_are_put_on_it_and_none_is_taken_away(desk: Desk) -> None:
    with desk.database.transaction_with_rls(ALICE) as connection:
        project_id = library.ensure_project(connection, user_id=ALICE, name="tax", new_id=new_id)
    desk.save(text("a", project_id=project_id, tags=["x", "y"]))
    desk.save(text("a", tags=["z"]))
    assert desk.ask("SELECT project_name, tags, sync_status FROM app.documents_with_metadata") == [
        ("tax", ["x", "y", "z"], "synced")
    ]


def test_its_owners_rules_hold_for_it(desk: Desk) -> None:
    rules = Rules(desk.database)
    desk.save(text("a", "alpha"), text("secret", "alpha", title="secret plan"))
    rules.put("swap", "regex_replace", {"pattern": "alpha", "replacement": "beta"})
    rules.put("no secrets", "filter", {"mode": "exclude", "expression": "contains(title, 'secret')"})
    saved = desk.save(text("a", "alpha"), text("secret", "alpha", title="secret plan"), text("new", title="secret"))
    assert outcomes(saved) == ["updated", "left_out", "left_out"]
    assert saved[1].document_id is not None
    assert saved[2].document_id is None
    assert desk.ask("SELECT text FROM app.documents WHERE deleted_at IS NULL") == [("beta",)]
    rules.remove("no secrets")
    assert outcomes(desk.save(text("secret", "alpha", title="secret plan"))) == ["updated"]
    rules.rework()
    desk.assert_is_sound()


def test_one_that_was_deleted_comes_back_under_its_id(desk: Desk) -> None:
    [first] = desk.save(text("a"))
    with desk.database.transaction_with_rls(ALICE) as connection:
        documents.tombstone(connection, user_id=ALICE, document_ids=[DocumentId(first.document_id or uuid4())])
    [again] = desk.save(text("a"))
    assert (again.outcome, again.document_id) == ("updated", first.document_id)
    assert desk.ask("SELECT deleted_at, chunk_count FROM app.documents") == [(None, 1)]


def test_each_document_is_billed_once_to_the_job_and_only_what_was_embedded(desk: Desk) -> None:
    [first, twin] = desk.save(text("a", "some words"), text("b", "some words"))
    assert [[usage.quantity for usage in saved.usages] for saved in (first, twin)] == [[8], []]
    desk.save(text("a", "some words"), text("b", "others"), job_id=UUID(int=8))
    bill = desk.ask("SELECT job_id, document_id, step, quantity, cost FROM app.billing_records ORDER BY job_id")
    assert bill == [
        (JOB, first.document_id, "embed", 8, Decimal("0.00000016")),
        (UUID(int=8), twin.document_id, "embed", 8, Decimal("0.00000016")),
    ]


def test_a_budget_ends_it_before_the_document_that_would_pass_it(desk: Desk) -> None:
    with desk.database.transaction_with_rls(ALICE) as connection:
        budgets.put(
            connection, user_id=ALICE, data_source_id=None, period=BudgetPeriod.MONTH, unit=BudgetUnit.TOKENS,
            amount=Decimal(20), new_id=new_id,
        )  # fmt: skip
    with pytest.raises(BudgetReachedError, match="run it again"):
        desk.save(*[text(str(number), f"text {number}") for number in range(4)])
    assert desk.ask("SELECT (SELECT count(*) FROM app.documents), sum(quantity) FROM app.billing_records") == [(2, 16)]


def test_a_cancel_is_heard_before_a_document_is_stored(desk: Desk) -> None:
    asked = 0

    def cancelled_at_the_fourth() -> None:
        nonlocal asked
        asked += 1
        if asked == 4:
            raise CancelledError("cancelled")

    desk.check = cancelled_at_the_fourth
    with pytest.raises(CancelledError):
        desk.save(text("a", "one"), text("b", "two"), text("c", "three"))
    assert desk.embedder.texts == ["one", "two"]
    assert desk.ask("SELECT text FROM app.documents") == [("one",)]
    assert desk.ask("SELECT count(*) FROM app.billing_records") == [(1,)]


def test_two_users_with_one_key_have_a_document_each(desk: Desk) -> None:
    bob = replace(desk, user_id=UserId("bob"), embedder=DigestEmbedder())
    desk.save(text("a", "of alice", tags=["x"]))
    assert outcomes(bob.save(text("a", "of bob"))) == ["created"]
    assert outcomes(desk.save(text("a", "of alice"))) == ["unchanged"]
    assert desk.ask("SELECT text FROM app.documents") == [("of alice",)]
    assert bob.ask("SELECT text, (SELECT count(*) FROM app.tags) FROM app.documents") == [("of bob", 0)]


def test_who_saves_the_same_key_at_the_same_time_makes_one_document(desk: Desk) -> None:
    both = threading.Barrier(2, timeout=10)
    ready = threading.local()

    def together() -> None:
        """The second time it is asked, everything is cut and embedded."""
        ready.times = getattr(ready, "times", 0) + 1
        if ready.times == 2:
            both.wait()

    found: list[str] = []
    desks = [replace(desk, embedder=DigestEmbedder(), check=together) for _ in range(2)]
    threads = [
        threading.Thread(target=lambda each=each: found.extend(outcomes(each.save(text("a"))))) for each in desks
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert Counter(found) == {"created": 1, "unchanged": 1}
    assert desk.ask("SELECT count(*) FROM app.documents") == [(1,)]


def save_in_a_process(app_url: str, fault: str | None) -> Running:
    handle, name = mkstemp(suffix=".outcome")
    os.close(handle)
    process = _FORKS.Process(target=_save_and_tell, args=(app_url, fault, name))
    process.start()
    return Running(process, Path(name))


def _save_and_tell(app_url: str, fault: str | None, outcome_file: str) -> None:
    database = Database(app_url, pool_size=2)
    saved = Desk(database).save(*[text(f"{number}", f"text {number}") for number in range(3)], fault=fault)
    database.close()
    Path(outcome_file).write_text(" ".join(outcomes(saved)))


@pytest.mark.crash
@pytest.mark.parametrize("point", SAVING_POINTS)
def test_a_kill_loses_no_document_and_no_bill_and_makes_nothing_twice(
    point: str, desk: Desk, database_urls: DatabaseUrls
) -> None:
    assert save_in_a_process(database_urls.app_url, f"{point}:2").wait() == "killed"
    already = ["unchanged"] * (2 if point == "text_committed" else 1)
    expected = [*already, *["created"] * (3 - len(already))]
    assert save_in_a_process(database_urls.app_url, None).wait() == " ".join(expected)
    assert desk.ask("SELECT text, live_generation FROM app.documents ORDER BY origin") == [
        (f"text {number}", 1) for number in range(3)
    ]
    assert desk.ask("SELECT count(*), sum(quantity) FROM app.billing_records") == [(3, 24)]
    desk.assert_is_sound()
