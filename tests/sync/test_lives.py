"""Random lives of an account and of a folder: whatever is done to them, and however syncs end, the database comes to agree.

The examples are the same on every run, and a failure prints the life that led to it. `LIVES_SEED=7 pytest
tests/sync/test_lives.py` chooses others, and then looks for a shorter life that fails, which takes minutes.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from tests.conftest import DatabaseUrls
from tests.sync import checker
from tests.sync.parts import DigestEmbedder
from tests.sync.scripted import VendorAccount
from tests.sync.syncing import Wish, data_source, start, sync_parts
from workstation_pipelines.db import documents, item_decisions
from workstation_pipelines.db.engine import Database
from workstation_pipelines.errors import SourceUnavailableError
from workstation_pipelines.model import JobStatus, JobType, UserId
from workstation_pipelines.settings import libpq_url
from workstation_pipelines.sync import delta, run
from workstation_pipelines.sync.delta import REMOVED_BY_USER
from workstation_pipelines.sync.faults import POINTS, Faults
from workstation_pipelines.sync.run import SyncRequest, drive, run_sync

NAMES = "abcd"
TEXTS = (
    "note {n}",
    "note {n} that is long enough to be cut into more than one passage of forty characters",
    "mail {n}\nattach one: first {n}",
    "mail {n}\nattach one: first\nattach two: second {n}, which is long enough to be cut in two",
    "mail {n}\nattach two: attach deep: deeper {n}",
    "letter {n}\nattach two: attach deep: deeper",
)
COMPLETE = (JobStatus.COMPLETED, JobStatus.COMPLETED_WITH_ERRORS)
_users = count()


class Interrupts(Faults):
    """Raises KeyboardInterrupt at a point instead of killing the process, in whichever thread comes by."""

    def reach(self, name: str) -> None:
        if name == self._name:
            self._passed[name] += 1
            if self._passed[name] == self._nth:
                raise KeyboardInterrupt


class Place(ABC):
    """What is at the source: texts by name, each at a path of its own."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.texts: dict[str, str] = {}
        self.paths: dict[str, str] = {}
        self.unavailable: set[str] = set()
        self._moves = count()

    def put(self, name: str, text: str) -> None:
        self.paths.setdefault(name, f"{name}.txt")
        self.texts[name] = text
        self._put(name, text)

    def rename(self, name: str) -> None:
        old, new = self.paths[name], f"{name}-{next(self._moves)}.txt"
        self.paths[name] = new
        self._rename(name, old)

    def delete(self, name: str) -> None:
        del self.texts[name]
        self._delete(name)

    @abstractmethod
    def trouble(self, name: str) -> None:
        """Do something that makes the next sync hard."""

    @abstractmethod
    def heal(self) -> None:
        """Undo all trouble."""

    @abstractmethod
    def _put(self, name: str, text: str) -> None: ...

    @abstractmethod
    def _rename(self, name: str, old: str) -> None: ...

    @abstractmethod
    def _delete(self, name: str) -> None: ...


class Account(Place):
    def __init__(self, directory: Path) -> None:
        super().__init__(directory / "account.json")
        self.account = VendorAccount(self.path)
        self.account.save()

    def _put(self, name: str, text: str) -> None:
        self.account.put(name, text, self.paths[name])

    def _rename(self, name: str, old: str) -> None:
        self.account.rename(name, self.paths[name])

    def _delete(self, name: str) -> None:
        self.account.delete(name)

    def trouble(self, name: str) -> None:
        if name == "a":
            self.account.expired_before = len(self.account.log) + 1
            self.account.log.append(name)  # or the vendor's clock would stand still
        elif name == "b":
            self.account.listing_breaks_after = 1
        elif name == "c":
            self.account.rate_limit_after = 1
        else:
            self.unavailable.add(name)
            self.account.unavailable = sorted(self.unavailable)
        self.account.save()

    def heal(self) -> None:
        self.unavailable.clear()
        self.account.unavailable = []
        self.account.listing_breaks_after = self.account.rate_limit_after = None
        self.account.save()


class Folder(Place):
    """A file that is renamed and edited between two syncs is another one, so a name does only one of the two."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory / "folder")
        self.path.mkdir()

    def trouble(self, name: str) -> None:
        (self.path / "an empty folder").mkdir(exist_ok=True)

    def heal(self) -> None:
        """A folder has no trouble of its own."""

    def _put(self, name: str, text: str) -> None:
        (self.path / self.paths[name]).write_text(text)

    def _rename(self, name: str, old: str) -> None:
        (self.path / old).rename(self.path / self.paths[name])

    def _delete(self, name: str) -> None:
        (self.path / self.paths[name]).unlink()


def found_in(path: str, text: str) -> dict[str, str]:
    """Return the documents that a text is: itself and what is attached to it, by path."""
    found = {path: text}
    for line in text.splitlines():
        if line.startswith("attach "):
            name, _, body = line.removeprefix("attach ").partition(": ")
            found |= found_in(f"{path}/{name}", body)
    return found


@dataclass(frozen=True)
class Outcome:
    is_complete: bool
    fetched: int = 0


class Life:
    """A place, its syncs, and what may be stored: for each name the texts (None: nothing) that would be right just now.

    A text that cannot be read leaves the last good one in place. After a sync that did not end there may be two.
    """

    def __init__(self, place: Place, urls: DatabaseUrls, database: Database) -> None:
        self.place = place
        self.urls = urls
        self.database = database
        self.user = f"user{next(_users)}"
        self.wish = Wish(urls.app_url, str(place.path), user=self.user)
        self.may_be: dict[str, set[str | None]] = {name: {None} for name in NAMES}
        self.removed: set[str] = set()  # ids of items, also of those found inside others
        self.touched: dict[str, str] = {}
        self.is_behind = False
        self.changes = count()

    # Operations

    def put(self, name: str, kind: int, number: int) -> None:
        if self._may(name, "edit"):
            self.place.put(name, TEXTS[kind].format(n=number))

    def poison(self, name: str) -> None:
        if self._may(name, "edit"):
            self.place.put(name, f"POISON {next(self.changes)}")

    def empty(self, name: str) -> None:
        if self._may(name, "edit"):
            self.place.put(name, "")

    def rename(self, name: str) -> None:
        if name in self.place.texts and self._may(name, "rename"):
            self.place.rename(name)

    def delete(self, name: str) -> None:
        if name in self.place.texts and self._may(name, "edit"):
            self.place.delete(name)

    def trouble(self, name: str) -> None:
        self.place.trouble(name)

    def remove_here(self, name: str, nth: int) -> None:
        """Delete a document here, as its owner may: that of `name`, or one found inside it."""
        if not isinstance(self.place, Account):
            return
        user_id = UserId(self.user)
        found = self.database.query_with_rls(
            user_id,
            "SELECT d.id, i.external_id FROM app.sync_items i JOIN app.documents d ON d.id = i.local_document_id"
            " WHERE i.external_id ~ ('^' || :name || '(/|$)') AND d.deleted_at IS NULL AND i.sync_status = 'synced'"
            " ORDER BY i.external_id",
            {"name": name},
        )
        if not found:
            return
        chosen = found[nth % len(found)]
        with self.database.transaction_with_rls(user_id) as connection:
            inside = item_decisions.mark_removed_by_user(
                connection, user_id=user_id, document_id=chosen.id, reason=REMOVED_BY_USER
            )
            documents.tombstone(connection, user_id=user_id, document_ids=[chosen.id, *inside])
        self.removed.add(chosen.external_id)

    def sync(self, job_type: str, confirm: bool) -> None:
        self._ended(self._run(job_type, confirm, Faults()))
        self.place.heal()

    def interrupted(self, point: str, nth: int, job_type: str) -> None:
        self._ended(self._run(job_type, True, Interrupts(f"{point}:{nth}")))

    def killed(self, point: str, nth: int, job_type: str) -> None:
        status = start(replace(self.wish, job_type=job_type, fault=f"{point}:{nth}")).wait()
        self._ended(Outcome(status in [done.value for done in COMPLETE]))

    # Truth

    def agrees(self) -> None:
        """Sync without any trouble, and hold the database against the truth."""
        self.place.heal()
        for _ in range(2):  # a listing that was interrupted catches up with what changed meanwhile one sync later
            outcome = self._run("manual", True, Faults())
            assert outcome.is_complete
            self._ended(outcome)
        assert not checker.check(self.urls.admin_url, self.user, self._truth())
        poisoned = sum(text.startswith("POISON") for name, text in self.place.texts.items() if name not in self.removed)
        user_id = UserId(self.user)
        assert self.database.query_with_rls(
            user_id, "SELECT count(*) FROM app.sync_failures WHERE resolved_at IS NULL"
        ) == [(poisoned,)]
        assert self._run("manual", True, Faults()).fetched == 0

    def _truth(self) -> dict[str, str]:
        rows = self.database.query_with_rls(
            UserId(self.user),
            "SELECT i.external_path, d.text FROM app.sync_items i JOIN app.documents d ON d.id = i.local_document_id"
            " WHERE d.deleted_at IS NULL",
        )
        stored = {row.external_path: row.text for row in rows}
        truth: dict[str, str] = {}
        for name, may_be in self.may_be.items():
            text = stored.get(self.place.paths.get(name, ""))
            right = text if text in may_be else next(iter(may_be))
            if right is not None:
                # An attachment is found under its name, which is its key as well.
                ids = found_in(name, right)
                kept = [external_id for external_id in ids if not self._is_removed(external_id)]
                truth |= {self.place.paths[name] + each.removeprefix(name): ids[each] for each in kept}
        return truth

    def _is_removed(self, external_id: str) -> bool:
        return any(external_id == removed or external_id.startswith(f"{removed}/") for removed in self.removed)

    def _ended(self, outcome: Outcome) -> None:
        is_sure = outcome.is_complete and not self.is_behind
        self.is_behind = not outcome.is_complete
        self.touched.clear() if outcome.is_complete else None
        for name in NAMES:
            text = self.place.texts.get(name)
            if text is not None and (text.startswith("POISON") or name in self.place.unavailable):
                continue
            now = text or None
            self.may_be[name] = {now} if is_sure else self.may_be[name] | {now}

    def _may(self, name: str, what: str) -> bool:
        return not isinstance(self.place, Folder) or self.touched.setdefault(name, what) == what

    def _run(self, job_type: str, confirm: bool, faults: Faults) -> Outcome:
        user_id = UserId(self.user)
        self.database.query_with_rls(
            user_id,
            "UPDATE app.sync_failures SET next_try_at = now(), attempts = 1"
            " WHERE resolved_at IS NULL AND next_try_at IS NOT NULL",
        )
        wish = replace(self.wish, job_type=job_type, confirm_deletes=confirm)
        parts = replace(sync_parts(self.database, wish, DigestEmbedder()), faults=faults)
        request = SyncRequest(job_type=JobType(job_type), confirm_deletes=confirm)
        try:
            result = drive(run_sync(parts, data_source(self.database, wish), request))
        except (SourceUnavailableError, KeyboardInterrupt):
            return Outcome(False)
        return Outcome(result.status in COMPLETE, result.counts.fetched)


def deed(name: str, *arguments: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.tuples(st.just(name), *arguments)


NAME = st.sampled_from(NAMES)
JOB_TYPES = st.sampled_from(["manual", "full_sync"])
CHANGES = [
    *3 * [deed("put", NAME, st.sampled_from(range(len(TEXTS))), st.integers(0, 3))],
    deed("rename", NAME),
    deed("delete", NAME),
    deed("poison", NAME),
    deed("empty", NAME),
    deed("remove_here", NAME, st.integers(0, 2)),
    deed("trouble", NAME),
]
SYNC = deed("sync", JOB_TYPES, st.booleans())
INTERRUPTED = deed("interrupted", st.sampled_from(POINTS), st.integers(1, 3), JOB_TYPES)
KILLED = deed("killed", st.sampled_from(POINTS), st.integers(1, 3), JOB_TYPES)


def lives(*endings: st.SearchStrategy[tuple[Any, ...]]) -> st.SearchStrategy[list[list[tuple[Any, ...]]]]:
    """Days of a few changes, each ended by a sync of some kind."""
    day = st.builds(
        lambda changes, ending: [*changes, ending],
        st.lists(st.one_of(CHANGES), min_size=1, max_size=6),
        st.one_of(endings),
    )
    return st.lists(day, min_size=5, max_size=8)


def reproducible(examples: int) -> Callable[[Any], Any]:
    chosen = os.environ.get("LIVES_SEED")
    options = settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=chosen is None,
        phases=[Phase.generate] if chosen is None else [Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    return lambda test: options(seed(int(chosen))(test) if chosen is not None else test)


@pytest.fixture
def database(database_urls: DatabaseUrls, monkeypatch: pytest.MonkeyPatch) -> Iterator[Database]:
    monkeypatch.setattr(delta, "DELETE_BRAKE_ITEMS", 1)  # two items are a mass deletion, and a page is two batches
    monkeypatch.setattr(run, "BATCH_ITEMS", 2)
    database = Database(database_urls.app_url, pool_size=2)
    yield database
    database.close()


@pytest.fixture
def superuser(database_urls: DatabaseUrls) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(libpq_url(database_urls.admin_url), autocommit=True) as connection:
        yield connection


def live(life: Life, days: list[list[tuple[Any, ...]]]) -> None:
    for day in days:
        for name, *arguments in day:
            getattr(life, name)(*arguments)
    life.agrees()


@pytest.mark.parametrize("kind", [Account, Folder])
def test_a_place_may_change_and_its_syncs_may_be_interrupted_at_will(
    kind: Callable[[Path], Place],
    database: Database,
    database_urls: DatabaseUrls,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    @reproducible(24)
    @given(lives(SYNC, SYNC, INTERRUPTED))
    def any_life(days: list[list[tuple[Any, ...]]]) -> None:
        live(Life(kind(tmp_path_factory.mktemp("life")), database_urls, database), days)

    any_life()


@pytest.mark.crash
@pytest.mark.parametrize("kind", [Account, Folder])
def test_a_place_may_change_and_its_syncs_may_be_killed_at_will(
    kind: Callable[[Path], Place],
    database: Database,
    database_urls: DatabaseUrls,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    @reproducible(5)
    @given(lives(SYNC, KILLED))
    def any_life(days: list[list[tuple[Any, ...]]]) -> None:
        live(Life(kind(tmp_path_factory.mktemp("life")), database_urls, database), days)

    any_life()
