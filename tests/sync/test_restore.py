"""Deleted documents come back, whoever deleted them and whatever happened at the source meanwhile."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.conftest import DatabaseUrls
from tests.sync import checker
from tests.sync.conftest import Ask, Place
from tests.sync.parts import DigestEmbedder
from tests.sync.scripted import VendorAccount
from tests.sync.syncing import Wish, sync, vectorizer
from workstation_pipelines.db import tombstones
from workstation_pipelines.db.engine import Database
from workstation_pipelines.errors import NotFoundError
from workstation_pipelines.model import UserId
from workstation_pipelines.sync import index, restore
from workstation_pipelines.sync.delta import REMOVED_BY_USER
from workstation_pipelines.sync.restore import Restored

ALICE = UserId("alice")
MONTH = timedelta(days=30)
LONG = "{} that is long enough to be cut into more than one passage of forty characters"


def _restore(database: Database, user: str, reference: object, retention: timedelta = MONTH) -> Restored:
    using = vectorizer(database, user, DigestEmbedder())
    return restore.restore(database, using, user_id=UserId(user), reference=str(reference), retention=retention)


def _delete(database: Database, user: str, document_id: UUID) -> list[UUID]:
    return restore.delete(database, user_id=UserId(user), document_id=document_id, reason=REMOVED_BY_USER)


def _document(ask: Ask, title: str) -> UUID:
    ((found,),) = ask("SELECT id FROM app.documents WHERE title = %s", title)
    return UUID(str(found))


def test_document_deleted_here_is_its_sources_again_and_is_looked_at_once(
    account: VendorAccount, account_place: Place, database: Database, database_urls: DatabaseUrls, ask: Ask
) -> None:
    account.put("a", LONG.format("note a"))
    account_place.sync()
    _delete(database, "alice", _document(ask, "a.txt"))
    account.put("a", LONG.format("newer note a"))
    account_place.sync()  # the feed tells of the change now, and never again
    assert checker.check(database_urls.admin_url, "alice", {}).lost == 0
    done = _restore(database, "alice", "a.txt")
    assert (len(done.document_ids), done.own) == (1, [])
    assert not checker.check(database_urls.admin_url, "alice", {"box/a.txt": LONG.format("note a")})
    account_place.sync()
    assert not checker.check(database_urls.admin_url, "alice", {"box/a.txt": LONG.format("newer note a")})
    account_place.sync()
    assert account_place.embedded == []


def test_document_that_is_gone_at_its_source_stays_as_ones_own(
    account: VendorAccount, account_place: Place, database: Database, ask: Ask
) -> None:
    account.put("a", "note a")
    account_place.sync()
    account.delete("a")
    account_place.sync()
    done = _restore(database, "alice", "a.txt")
    assert done.own == done.document_ids
    account.put("a", "another a")
    for _ in range(2):
        account_place.sync()
    account_place.sync(job_type="full_sync")
    live = ask("SELECT text, data_source_id IS NULL FROM app.documents WHERE deleted_at IS NULL ORDER BY text")
    assert live == [("another a", False), ("note a", True)]


def test_what_was_deleted_along_with_a_document_comes_back_with_it_and_the_rest_does_not(
    account: VendorAccount, account_place: Place, database: Database, database_urls: DatabaseUrls, ask: Ask
) -> None:
    account.put("a", "mail a\nattach one: first\nattach two: second")
    account_place.sync()
    _delete(database, "alice", _document(ask, "one"))
    deleted = _delete(database, "alice", _document(ask, "a.txt"))
    assert len(deleted) == 2
    assert sorted(_restore(database, "alice", deleted[0]).document_ids) == sorted(deleted)
    account_place.sync()
    titles = ask("SELECT title FROM app.documents WHERE deleted_at IS NULL ORDER BY 1")
    assert titles == [("a.txt",), ("two",)]
    assert index.check(database, vectorizer(database, "alice", DigestEmbedder()), user_id=ALICE).is_clean


def test_what_is_too_old_is_purged_and_not_restored(
    account: VendorAccount, account_place: Place, database: Database, ask: Ask
) -> None:
    for name in "ab":
        account.put(name, f"note {name}")
    account_place.sync()
    for name in "ab":
        _delete(database, "alice", _document(ask, f"{name}.txt"))
    ask("UPDATE app.documents SET deleted_at = deleted_at - interval '31 days' WHERE title = 'a.txt'")
    with pytest.raises(NotFoundError, match="what can be had back"):
        _restore(database, "alice", "a.txt")
    with pytest.raises(NotFoundError):
        _restore(database, "bob", "b.txt")
    assert restore.purge(database, user_id=UserId("bob"), retention=MONTH) == 0
    assert [restore.purge(database, user_id=ALICE, retention=MONTH) for _ in range(2)] == [1, 0]
    account_place.sync(job_type="full_sync")
    assert ask("SELECT title, deleted_at IS NULL FROM app.documents") == [("b.txt", False)]
    assert ask("SELECT count(*) FROM app.sync_items WHERE reason = 'removed_by_user'") == [(2,)]


_users = count()


class _Life:
    """An account with what should be here of it: documents of the source by name, and copies of one's own."""

    def __init__(self, directory: Path, database: Database, app_url: str) -> None:
        self.user = f"user{next(_users)}"
        self.account = VendorAccount(directory / f"{self.user}.json")
        self.account.save()
        self.database = database
        self.wish = Wish(app_url, str(self.account.file), user=self.user)
        self.numbers = count()
        self.here: dict[str, str] = {}
        self.own: Counter[str] = Counter()
        self.away: set[str] = set()

    def put(self, name: str) -> None:
        self.account.put(name, LONG.format(f"{name} {next(self.numbers)}"))

    def drop(self, name: str) -> None:
        if name in self.account.texts:
            self.account.delete(name)

    def sync(self, _name: str) -> None:
        sync(self.wish, DigestEmbedder())
        self.here = {name: text for name, text in self.account.texts.items() if name not in self.away}
        self._agree()

    def delete(self, name: str) -> None:
        if name in self.here:
            _delete(self.database, self.user, self._items()[name].local_document_id)
            del self.here[name]
            self.away.add(name)

    def restore(self, name: str) -> None:
        item = self._items().get(name)
        if item is None or item.local_document_id is None or item.deleted_at is None:
            return
        done = _restore(self.database, self.user, item.local_document_id)
        self.away.discard(name)
        if item.sync_status == "deleted":
            self.own[item.text] += 1
            assert done.own == done.document_ids
        else:
            self.here[name] = item.text
        self._agree()

    def purge(self, _name: str) -> None:
        restore.purge(self.database, user_id=UserId(self.user), retention=timedelta(0))

    def _items(self) -> dict[str, Any]:
        rows = self.database.query_with_rls(
            UserId(self.user),
            """SELECT i.external_id, i.sync_status, i.local_document_id, d.deleted_at, d.text FROM app.sync_items i
                 LEFT JOIN app.documents d ON d.user_id = i.user_id AND d.id = i.local_document_id""",
        )
        return {row.external_id: row for row in rows}

    def _agree(self) -> None:
        rows = self.database.query_with_rls(
            UserId(self.user),
            "SELECT text, data_source_id IS NULL AS is_own FROM app.documents WHERE deleted_at IS NULL",
        )
        assert Counter(row.text for row in rows if row.is_own) == self.own
        assert Counter(row.text for row in rows if not row.is_own) == Counter(self.here.values())
        using = vectorizer(self.database, self.user, DigestEmbedder())
        assert index.check(self.database, using, user_id=UserId(self.user)).is_clean


_STEPS = ("put", "put", "drop", "sync", "sync", "delete", "restore", "restore", "purge")


@settings(
    max_examples=10,
    deadline=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(steps=st.lists(st.tuples(st.sampled_from(_STEPS), st.sampled_from("ab")), min_size=6, max_size=24))
def test_any_order_of_deleting_restoring_syncing_and_purging_agrees(
    tmp_path: Path, database: Database, database_urls: DatabaseUrls, steps: list[tuple[str, str]]
) -> None:
    life = _Life(tmp_path, database, database_urls.app_url)
    for verb, name in [("put", "a"), ("put", "b"), ("sync", ""), *steps, ("sync", ""), ("sync", "")]:
        act: Callable[[str], None] = getattr(life, verb)
        act(name)


def test_tombstones_are_listed_with_the_day_they_are_kept_until(
    account: VendorAccount, account_place: Place, database: Database, ask: Ask
) -> None:
    account.put("a", "note a")
    account_place.sync()
    _delete(database, "alice", _document(ask, "a.txt"))
    with database.transaction_with_rls(ALICE) as connection:
        (row,) = tombstones.listed(connection, user_id=ALICE, retention=MONTH)
    assert (row.title, row.reason, row.kept_until - row.deleted_at) == ("a.txt", REMOVED_BY_USER, MONTH)
