"""A random life of an account: things happen to it, before syncs and while they run, which go well, fail or are killed."""

from __future__ import annotations

from contextlib import contextmanager
from random import Random
from typing import TYPE_CHECKING, Any

import psycopg

from tests.fakes.faults import FAULTS
from tests.fakes.server import Answer, Fault, Request
from tests.sources.standing import Standing
from workstation_pipelines.errors import RetryableError
from workstation_pipelines.model import JobStatus, SourceType
from workstation_pipelines.settings import libpq_url
from workstation_pipelines.sync.faults import POINTS

if TYPE_CHECKING:
    from collections.abc import Iterator

MOST_THINGS = 9
"""Fewer than the brake on deletions lets go at once."""

NAMES = ("a", "b", "note", "Note 2", "naïve", "日記", "مذكرة", "🗂 box", "x" * 80)
TWINS_ALLOWED = frozenset({SourceType.GMAIL, SourceType.GOOGLE_DRIVE, SourceType.NOTION, SourceType.SLACK})
EDITS_OF_SHARED_UNTOLD = frozenset({SourceType.ONEDRIVE})
"""Whose feed is silent on what others do to the files that they share: a daily look finds it, by tests of its own."""

KILLED_OFTEN = ("page_listed", "item_fetched", "page_before_commit", "page_committed", "end_before_commit")
JOBS = ("manual", "manual", "manual", "full_sync")


class Life:
    """One account and the dice that decide what happens to it. `log` is what did, in order, to be read and played again."""

    def __init__(self, standing: Standing, seed: int) -> None:
        self.standing = standing
        self.stage = standing.stage
        self.dice = Random(seed)  # noqa: S311 - a seed is the point
        self.log: list[str] = [f"seed {seed}"]
        self.names: dict[str, str] = {}
        """Key -> name of what is there."""
        self._trashed: dict[str, str] = {}
        self._shared: set[str] = set()
        self._away: set[str] = set()
        self._folders = 0
        self._folder = "box"
        self._texts = 0

    def happen(self) -> None:
        """One thing happens, if it can."""
        steps = [
            *("create", "create", "create", "edit", "edit", "edit", "rename", "rename_case", "move_in", "move_out"),
            *("rename_folder", "trash", "restore", "restore", "share_old", "unshare", "delete", "recreate"),
        ]
        operation = self.dice.choice([step for step in steps if step in self.stage.operations])
        if operation in ("create", "move_in", "share_old"):
            if len(self.names) + len(self._trashed) < MOST_THINGS:
                self._make(operation)
        elif operation == "rename_folder":
            self._rename_folder()
        elif operation == "restore":
            if self._trashed:
                key = self.dice.choice(sorted(self._trashed))
                self._note("restore", key)
                self.stage.restore(key)
                self.names[key] = self._trashed.pop(key)
        else:
            self._change(operation)

    def _make(self, operation: str) -> None:
        name = self._free_name()
        self._note(operation, name)
        key = getattr(self.stage, operation)(name, self._text())
        self.names[key] = name
        if operation == "share_old":
            self._shared.add(key)

    def _change(self, operation: str) -> None:
        """Something happens to one thing that is there; what is shared is edited or shared no more."""
        own = self.names.keys() - self._shared
        is_any_told = self.stage.source_type not in EDITS_OF_SHARED_UNTOLD
        can_be = {"edit": self.names if is_any_told else own, "unshare": self._shared}
        keys = sorted(can_be.get(operation, own))
        if not keys:
            return
        key = self.dice.choice(keys)
        if operation == "rename":
            name = self._free_name()
            self._note(operation, key, name)
            self.stage.rename(key, name)
            self.names[key] = name
        elif operation == "edit":
            self._note(operation, key)
            self.stage.edit(key, self._text())
        elif operation == "recreate":
            self._note(operation, key)
            self.names[self.stage.recreate(key, self._text())] = self.names.pop(key)
        else:
            self._note(operation, key)
            getattr(self.stage, operation)(key)
            if operation != "rename_case":
                name = self.names.pop(key)
                self._shared.discard(key)
                if operation == "trash":
                    self._trashed[key] = name
                elif operation == "move_out":
                    self._away.add(name.lower())

    def _rename_folder(self) -> None:
        self._folders += 1
        self._folder = self.dice.choice([f"folder {self._folders}", f"Ördner {self._folders}", self._folder.swapcase()])
        self._note("rename_folder", self._folder)
        self.stage.rename_folder(self._folder)

    def _free_name(self) -> str:
        if self.stage.source_type in TWINS_ALLOWED:
            return self.dice.choice(NAMES)
        taken = {name.lower() for name in (*self.names.values(), *self._trashed.values())} | self._away
        name = self.dice.choice(NAMES)
        number = 0
        while name.lower() in taken:
            number += 1
            name = f"{self.dice.choice(NAMES)} {number}"
        return name

    def _text(self) -> str:
        self._texts += 1
        return self.standing.text(f"text {self._texts}")

    def _note(self, *words: str) -> None:
        self.log.append(" ".join(words))

    def sync(self) -> None:
        """Sync in one of the ways there are; whatever comes of it is made up for later."""
        self.stage.set_page_size(self.dice.randint(1, 5))
        if "expire_cursor" in self.stage.operations and self.dice.random() < 0.1:
            self._note("expire_cursor")
            self.stage.expire_cursor()
        way = self.dice.choice(["calm", "calm", "busy", "busy", "killed", "faulty", "faulty and busy"])
        job_type = self.dice.choice(JOBS)
        if way == "killed":
            point = f"{self.dice.choice([*POINTS, *KILLED_OFTEN])}:{self.dice.choice([1, 1, 2, 3, 5])}"
            with self._busy(self.dice.choice([0.0, 0.1])):
                died = self.standing.connection.killed(point, job_type=job_type)
            self._note("killed at" if died else "not killed at", point, job_type)
            return
        with self._busy(0.25 if "busy" in way else 0.0), self._faulty("faulty" in way):
            self._note(way, job_type, self._outcome(job_type=job_type))

    def settle(self) -> None:
        """Two syncs make up for everything; one more finds nothing to fetch. Raises AssertionError with the whole life."""
        differences = ["never synced"]
        for _ in range(2):
            self._forgive()
            self._note("settle", self._outcome())
            differences = self.standing.differences()
            if not differences:
                break
        assert not differences, self.told(differences)
        self._forgive()
        again = self.standing.sync(confirm_deletes=True)
        assert (again.status, again.counts.fetched) == (JobStatus.COMPLETED, 0), self.told([repr(again)])
        differences = self.standing.differences()
        assert not differences, self.told(differences)

    def told(self, differences: list[str]) -> str:
        return "\n".join([*self.log, "ends with", *differences])

    def _outcome(self, **request: Any) -> str:
        try:
            result = self.standing.sync(confirm_deletes=True, **request)
        except RetryableError as error:
            return f"away: {error.message}"
        return f"{result.status.value} {result.counts}"

    @contextmanager
    def _busy(self, share: float) -> Iterator[None]:
        """Let things happen while a sync asks, after this share of its requests."""
        vendor = self.stage.vendor
        if vendor is None or not share:
            yield
            return
        answer = vendor.answer

        def meanwhile(request: Request) -> Answer:
            found = answer(request)
            if self.dice.random() < share:
                self.log.append(f"  after {request.method} {request.path}:")
                self.happen()
            return found

        vendor.answer = meanwhile  # type: ignore[method-assign]
        try:
            yield
        finally:
            vendor.answer = answer  # type: ignore[method-assign]

    @contextmanager
    def _faulty(self, is_faulty: bool) -> Iterator[None]:
        """Let some requests of a sync meet a fault."""
        vendor = self.stage.vendor
        if vendor is None or not is_faulty:
            yield
            return
        name, after, times = self.dice.choice(sorted(FAULTS)), self.dice.randint(0, 8), self.dice.randint(1, 8)
        self._note("fault", name, f"after {after}, {times} times")
        vendor.faults.append(Fault(lambda _request: True, times=times, after=after, **FAULTS[name]))
        try:
            yield
        finally:
            vendor.faults.clear()

    def _forgive(self) -> None:
        """Let everything that waits for a later time be due now."""
        with psycopg.connect(libpq_url(self.standing.admin_url), autocommit=True) as admin:
            admin.execute(
                "UPDATE app.sync_failures SET next_try_at = now() - interval '1 second' WHERE next_try_at IS NOT NULL"
            )
            admin.execute("UPDATE app.sync_jobs SET not_before = NULL")


def live(standing: Standing, seed: int, *, syncs: int) -> None:
    """Live one life with so many syncs, settled at its end and now and then before."""
    life = Life(standing, seed)
    try:
        for _ in range(syncs):
            for _ in range(life.dice.randint(0, 5)):
                life.happen()
            life.sync()
            if life.dice.random() < 0.2:
                life.settle()
        life.settle()
    except AssertionError as error:
        if str(error).startswith(life.log[0]):
            raise
        raise AssertionError(life.told([repr(error)])) from error
    except Exception as error:
        error.add_note(life.told([repr(error)]))
        raise
