"""Random lives of a folder, synced now and then, against a model of what each sync must do."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.sources.folder_store import FolderStore
from workstation_pipelines.model import JobType, SyncStatus

DIRECTORIES = st.sampled_from(["", "p/", "q/", "p/r/", "q/ü/"])
FILES = st.sampled_from(["a", "b", "A", "c.txt", "caf\udce9"])
PATHS = st.builds(lambda directory, name: directory + name, DIRECTORIES, FILES)


class FolderLife(RuleBasedStateMachine):
    """`origin` maps a path on disk to the path that the same file had at the last sync, None for a new file."""

    def __init__(self) -> None:
        super().__init__()
        self.base = Path(tempfile.mkdtemp(prefix="folder-life-"))
        self.folder = self.base / "folder"
        self.folder.mkdir()
        self.store = FolderStore(self.folder)
        self.origin: dict[str, str | None] = {}
        self.stats: dict[str, tuple[int, int, int]] = {}
        self.ids: dict[str, str] = {}
        self.bodies_at_last_sync: dict[str, bytes] = {}
        self.seconds = 1_000_000_000

    def teardown(self) -> None:
        shutil.rmtree(self.base)

    def path(self, name: str) -> Path:
        return self.folder / name

    def age(self, path: Path) -> None:
        """Give each event its own time: real clocks tick too coarsely for a test that never waits."""
        self.seconds += 1
        os.utime(path, (self.seconds, self.seconds))

    def can_be_a_file(self, name: str) -> bool:
        return not self.path(name).is_dir() and not any(parent.is_file() for parent in self.path(name).parents)

    @rule(name=PATHS, body=st.binary(max_size=3))
    def write(self, name: str, body: bytes) -> None:
        if self.can_be_a_file(name):
            self.path(name).parent.mkdir(parents=True, exist_ok=True)
            self.path(name).write_bytes(body)
            self.age(self.path(name))
            self.origin.setdefault(name, None)

    @rule(name=PATHS, body=st.binary(max_size=3))
    def replace_atomically(self, name: str, body: bytes) -> None:
        if name in self.origin:
            fresh = self.folder / "being written.tmp"
            fresh.write_bytes(body)
            self.age(fresh)
            fresh.replace(self.path(name))
            self.origin[name] = None

    @rule(name=PATHS)
    def touch(self, name: str) -> None:
        if name in self.origin:
            self.age(self.path(name))

    @rule(name=PATHS, mode=st.sampled_from([0o600, 0o444]))
    def chmod(self, name: str, mode: int) -> None:
        if name in self.origin:
            self.path(name).chmod(mode)

    @rule(name=PATHS)
    def delete(self, name: str) -> None:
        if name in self.origin:
            self.path(name).unlink()
            del self.origin[name]

    @rule(old=PATHS, new=PATHS)
    def rename(self, old: str, new: str) -> None:
        if old in self.origin and old != new and self.can_be_a_file(new):
            self.path(new).parent.mkdir(parents=True, exist_ok=True)
            self.path(old).replace(self.path(new))
            self.origin[new] = self.origin.pop(old)

    @rule(old=PATHS, new=PATHS)
    def move_to_another_file_system(self, old: str, new: str) -> None:
        if old in self.origin and old != new and self.can_be_a_file(new):
            self.path(new).parent.mkdir(parents=True, exist_ok=True)
            self.path(new).unlink(missing_ok=True)
            shutil.copy2(self.path(old), self.path(new))
            self.path(old).unlink()
            self.origin[new] = self.origin.pop(old)

    def forget_altered_copies(self) -> None:
        """A copy has another inode: without size, time and bytes of the file it replaces it is a new file."""
        for name, origin in self.origin.items():
            if origin is not None:
                copied = self.stats[origin][2] != self.stat(name)[2]
                altered = self.stats[origin][:2] != self.stat(name)[:2]
                if copied and (altered or self.path(name).read_bytes() != self.bodies_at_last_sync[self.ids[origin]]):
                    self.origin[name] = None

    @rule(old=st.sampled_from(["p", "q", "p/r"]), new=st.sampled_from(["s", "q/t", "p"]))
    def rename_directory(self, old: str, new: str) -> None:
        inside = (new + "/").startswith(old + "/")
        if self.path(old).is_dir() and not inside and not self.path(new).exists() and self.can_be_a_file(new):
            self.path(new).parent.mkdir(parents=True, exist_ok=True)
            self.path(old).rename(self.path(new))
            for name in [name for name in self.origin if name.startswith(old + "/")]:
                self.origin[new + name.removeprefix(old)] = self.origin.pop(name)

    @precondition(lambda self: self.origin)
    @rule(job_type=st.sampled_from([JobType.INCREMENTAL, JobType.MANUAL, JobType.FULL_SYNC]))
    def sync(self, job_type: JobType) -> None:
        self.forget_altered_copies()
        known = dict(self.store.live())
        outcome = self.store.sync(job_type)
        on_disk = {self.stored(name): self.path(name).read_bytes() for name in self.origin}
        assert self.store.live() == on_disk
        self.check_ids(known)
        self.check_work(known, outcome.fetched, outcome.unchanged, job_type)
        self.remember()
        again = self.store.sync()
        assert again.is_quiet
        assert again.unchanged == len(self.origin)

    def check_ids(self, known: dict[str, bytes]) -> None:
        for name, origin in self.origin.items():
            if self.stored(name) in known:
                assert self.store.id_of(self.stored(name)) == self.ids[name]
            elif origin is not None and origin not in self.origin:
                assert self.store.id_of(self.stored(name)) == self.ids[origin]

    def check_work(self, known: dict[str, bytes], fetched: list[str], unchanged: int, job_type: JobType) -> None:
        for path in fetched:
            before = self.bodies_at_last_sync.get(self.store.id_of(path))
            assert before != self.store.live()[path], f"{path} was fetched in vain"
        same_stat = sum(1 for name in self.origin if self.stored(name) in known and self.stats[name] == self.stat(name))
        assert unchanged == same_stat

    def remember(self) -> None:
        self.origin = {name: name for name in self.origin}
        self.stats = {name: self.stat(name) for name in self.origin}
        self.ids = {name: self.store.id_of(self.stored(name)) for name in self.origin}
        self.bodies_at_last_sync = dict(self.store.bodies)

    def stat(self, name: str) -> tuple[int, int, int]:
        stat = self.path(name).stat()
        return stat.st_size, stat.st_mtime_ns, stat.st_ino

    @staticmethod
    def stored(name: str) -> str:
        return name.replace("\udce9", "%E9")

    @invariant()
    def ids_are_never_reused(self) -> None:
        assert len(self.store.rows) == len({row.external_id for row in self.store.rows.values()})
        assert all(row.sync_status in (SyncStatus.SYNCED, SyncStatus.DELETED) for row in self.store.rows.values())


TestFolderLife = FolderLife.TestCase
TestFolderLife.settings = settings(
    max_examples=40, stateful_step_count=30, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
