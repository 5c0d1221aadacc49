"""What a listing of a local folder says about new, changed, renamed and absent files."""

from __future__ import annotations

import errno
import os
import shutil
import socket
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.sources.folder_store import LONG_AFTER, FolderStore
from workstation_pipelines.errors import CursorExpiredError, SourceUnavailableError
from workstation_pipelines.model import ChangeKind, ItemType, JobType, SyncStatus
from workstation_pipelines.sources.local_folder import opening


def write(path: Path, text: str = "text", *, mtime_s: int | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    if mtime_s is not None:
        os.utime(path, (mtime_s, mtime_s))
    return path


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Paths of the files opened from now on."""
    opened: list[str] = []
    real = opening.Folder.open_file

    def recording(self: opening.Folder, relative: str) -> tuple[int, os.stat_result]:
        opened.append(relative)
        return real(self, relative)

    monkeypatch.setattr(opening.Folder, "open_file", recording)
    return opened


def refuse(monkeypatch: pytest.MonkeyPatch, name: str, code: int = errno.EACCES) -> None:
    """Let opening of `name` fail; root may read everything, so permissions would not do."""
    real = os.open

    def refusing(path: Any, *args: Any, **kwargs: Any) -> int:
        if path == name:
            raise OSError(code, os.strerror(code), path)
        return real(path, *args, **kwargs)

    monkeypatch.setattr(os, "open", refusing)


# New and unchanged


def test_first_sync_lists_each_file_and_reads_it_once(folder: Path, store: FolderStore, reads: list[str]) -> None:
    write(folder / "b.txt", "b")
    write(folder / "c/y.md", "y")
    write(folder / "a/x.md", "x")
    write(folder / "a.txt", "a")
    outcome = store.sync()
    assert store.live() == {"a.txt": b"a", "b.txt": b"b", "a/x.md": b"x", "c/y.md": b"y"}
    assert reads == outcome.fetched == ["a.txt", "b.txt", "a/x.md", "c/y.md"]


def test_unchanged_files_are_counted_without_being_opened(folder: Path, store: FolderStore, reads: list[str]) -> None:
    for number in range(5):
        write(folder / f"{number}.txt")
    store.sync()
    reads.clear()
    outcome = store.sync()
    assert outcome.unchanged == 5
    assert [page.changes for page in outcome.pages] == [()]
    assert reads == []


def test_item_describes_the_file(folder: Path, store: FolderStore) -> None:
    write(folder / "Annual report.v2.pdf", "12345", mtime_s=1_000_000_000)
    store.sync()
    item = store.items_seen["Annual report.v2.pdf"]
    assert (item.item_type, item.title, item.mime_type, item.size_bytes) == (
        ItemType.FILE,
        "Annual report.v2",
        "application/pdf",
        5,
    )
    assert item.external_modified_at == datetime(2001, 9, 9, 1, 46, 40, tzinfo=UTC)
    assert item.external_url == (folder / "Annual report.v2.pdf").as_uri()
    assert len(item.external_id) == 32


def test_pages_hold_at_most_page_size_changes_and_only_the_last_is_complete(
    folder: Path, store: FolderStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(store.source), "page_size", 3)
    for number in range(7):
        write(folder / f"{number}.txt")
    assert [len(page.changes) for page in store.sync().pages] == [3, 3, 1]
    for file in list(folder.iterdir()):
        file.rename(tmp_path / file.name)
    write(folder / "7.txt")
    outcome = store.sync()
    assert [len(page.changes) for page in outcome.pages] == [3, 3, 2]
    assert all(page.cursor_after is None for page in outcome.pages)


def test_certain_pages_come_before_the_walk_ends(
    folder: Path, store: FolderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(store.source), "page_size", 1)
    write(folder / "a.txt")
    write(folder / "z/late.txt")
    pages = store.listing()
    first = next(pages)
    assert [change.item and change.item.external_path for change in first.changes] == ["a.txt"]
    (folder / "z/late.txt").unlink()
    assert [change for page in pages for change in page.changes] == []


def test_new_file_unlike_any_known_one_does_not_wait_for_the_end_of_the_walk(
    folder: Path, store: FolderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(folder / "z/known.txt", "known", mtime_s=1)
    store.sync()
    monkeypatch.setattr(type(store.source), "page_size", 1)
    write(folder / "new.txt", "quite new", mtime_s=2)
    pages = store.listing()
    assert [change.item and change.item.external_path for change in next(pages).changes] == ["new.txt"]
    (folder / "z/known.txt").unlink()
    assert [change.kind for page in pages for change in page.changes] == [ChangeKind.ABSENT]


def test_a_cursor_is_refused(store: FolderStore) -> None:
    with pytest.raises(CursorExpiredError):
        next(store.source.pages({"page": 3}, store, JobType.DELTA))
    assert store.source.start_cursor() is None


# Changed


def test_edited_file_is_fetched_again_under_its_id(folder: Path, store: FolderStore) -> None:
    write(folder / "a.txt", "one")
    store.sync()
    before = store.id_of("a.txt")
    write(folder / "a.txt", "three")
    assert store.sync().fetched == ["a.txt"]
    assert store.live() == {"a.txt": b"three"}
    assert store.id_of("a.txt") == before


def test_touched_file_is_refreshed_without_a_fetch_and_quiet_afterwards(folder: Path, store: FolderStore) -> None:
    path = write(folder / "a.txt", mtime_s=1_000_000)
    store.sync()
    os.utime(path, (2_000_000, 2_000_000))
    outcome = store.sync()
    assert (outcome.fetched, outcome.refreshed) == ([], ["a.txt"])
    assert store.sync().is_quiet


def test_atomic_replacement_with_equal_bytes_is_not_fetched(folder: Path, store: FolderStore) -> None:
    path = write(folder / "a.txt", "same", mtime_s=1_000_000)
    store.sync()
    write(folder / "b.partial", "same", mtime_s=1_000_000).replace(path)
    outcome = store.sync()
    assert (outcome.fetched, outcome.refreshed) == ([], ["a.txt"])


def test_edit_that_keeps_size_and_time_is_found_by_a_full_sync_only(folder: Path, store: FolderStore) -> None:
    path = write(folder / "a.txt", "one", mtime_s=1_000_000)
    store.sync()
    path.write_text("two")
    os.utime(path, (1_000_000, 1_000_000))
    assert store.sync().is_quiet
    assert store.sync(JobType.FULL_SYNC).fetched == ["a.txt"]
    assert store.live() == {"a.txt": b"two"}
    outcome = store.sync(JobType.FULL_SYNC)
    assert outcome.is_quiet
    assert outcome.unchanged == 1


def test_edit_within_the_tick_of_the_first_read_is_found_by_the_next_sync(folder: Path, store: FolderStore) -> None:
    path = write(folder / "a.txt", "one", mtime_s=1_000_000)
    store.now = datetime.fromtimestamp(1_000_001, UTC)
    store.sync()
    path.write_text("two")
    os.utime(path, (1_000_000, 1_000_000))
    store.now = LONG_AFTER
    assert store.sync().fetched == ["a.txt"]
    assert store.live() == {"a.txt": b"two"}


def test_young_file_is_read_once_more_and_then_trusted(folder: Path, store: FolderStore, reads: list[str]) -> None:
    write(folder / "a.txt", "one", mtime_s=1_000_000)
    store.now = datetime.fromtimestamp(1_000_000, UTC) + timedelta(seconds=1)
    store.sync()
    store.now = LONG_AFTER
    reads.clear()
    assert store.sync().refreshed == ["a.txt"]
    assert store.sync().is_quiet
    assert reads == ["a.txt"]


def test_young_file_that_is_still_young_counts_as_unchanged(folder: Path, store: FolderStore) -> None:
    write(folder / "a.txt", "one", mtime_s=1_000_000)
    store.now = datetime.fromtimestamp(1_000_001, UTC)
    store.sync()
    outcome = store.sync()
    assert outcome.is_quiet
    assert outcome.unchanged == 1


def test_time_stamp_years_ahead_is_trusted(folder: Path, store: FolderStore, reads: list[str]) -> None:
    write(folder / "a.txt", mtime_s=int((LONG_AFTER + timedelta(days=3650)).timestamp()))
    store.sync()
    reads.clear()
    assert store.sync().is_quiet
    assert reads == []


def test_swapped_names_keep_the_ids_of_their_paths(folder: Path, store: FolderStore) -> None:
    write(folder / "a", "A", mtime_s=1)
    write(folder / "b", "BB", mtime_s=2)
    store.sync()
    ids = store.id_of("a"), store.id_of("b")
    (folder / "a").rename(folder / "c")
    (folder / "b").rename(folder / "a")
    (folder / "c").rename(folder / "b")
    store.sync()
    assert store.live() == {"a": b"BB", "b": b"A"}
    assert (store.id_of("a"), store.id_of("b")) == ids


def test_device_numbered_anew_by_a_remount_changes_nothing(folder: Path, store: FolderStore, reads: list[str]) -> None:
    write(folder / "a.txt")
    store.sync()
    [row] = store.rows.values()
    tag, size, mtime, inode, device, digest = row.external_hash.split(":")
    older = ":".join((tag, size, mtime, inode, str(int(device) + 1), digest))
    store._store(row.external_id, row.external_path, older, row.sync_status)
    reads.clear()
    assert store.sync().unchanged == 1
    assert reads == []


def test_hash_of_a_former_version_is_fetched_anew_under_its_id(folder: Path, store: FolderStore) -> None:
    write(folder / "a.txt")
    store.sync()
    [row] = store.rows.values()
    store._store(row.external_id, "a.txt", "lf0:whatever", row.sync_status)
    assert store.sync().fetched == ["a.txt"]
    assert list(store.rows) == [row.external_id]


# Renamed


def test_renamed_file_keeps_its_id_and_is_not_read(folder: Path, store: FolderStore, reads: list[str]) -> None:
    write(folder / "a.txt")
    store.sync()
    before = store.id_of("a.txt")
    (folder / "a.txt").rename(folder / "b.txt")
    reads.clear()
    outcome = store.sync()
    assert store.id_of("b.txt") == before
    assert (outcome.refreshed, outcome.absent, reads) == (["b.txt"], [], [])


def test_moved_and_edited_file_keeps_its_id(folder: Path, store: FolderStore) -> None:
    write(folder / "a.txt", "one")
    (folder / "box").mkdir()
    store.sync()
    before = store.id_of("a.txt")
    (folder / "a.txt").rename(folder / "box/a.txt")
    with (folder / "box/a.txt").open("a") as file:
        file.write(" and two")
    outcome = store.sync()
    assert store.id_of("box/a.txt") == before
    assert (outcome.fetched, outcome.absent) == (["box/a.txt"], [])


def test_stranger_on_a_freed_inode_is_a_new_file(folder: Path, store: FolderStore) -> None:
    """Renaming and editing at once looks the same as a removed file whose inode the next file got."""
    write(folder / "a.txt", "one")
    store.sync()
    before = store.id_of("a.txt")
    (folder / "a.txt").rename(folder / "b.txt")
    write(folder / "b.txt", "something else altogether")
    outcome = store.sync()
    assert store.id_of("b.txt") != before
    assert (outcome.fetched, outcome.absent) == (["b.txt"], ["a.txt"])


def test_renamed_and_touched_file_is_not_fetched(folder: Path, store: FolderStore) -> None:
    write(folder / "a.txt", mtime_s=1)
    store.sync()
    before = store.id_of("a.txt")
    (folder / "a.txt").rename(folder / "b.txt")
    os.utime(folder / "b.txt", (9, 9))
    assert store.sync().refreshed == ["b.txt"]
    assert store.id_of("b.txt") == before


def test_renamed_directory_keeps_all_ids_without_reading(folder: Path, store: FolderStore, reads: list[str]) -> None:
    for number in range(20):
        write(folder / f"old/deep/{number}.txt", str(number))
    store.sync()
    before = {Path(row.external_path).name: row.external_id for row in store.rows.values()}
    (folder / "old").rename(folder / "new")
    reads.clear()
    outcome = store.sync()
    assert reads == outcome.absent == []
    assert {Path(path).name: store.id_of(path) for path in store.live()} == before
    assert all(path.startswith("new/deep/") for path in store.live())


def test_case_only_rename_keeps_the_id(folder: Path, store: FolderStore) -> None:
    write(folder / "Readme.md")
    store.sync()
    before = store.id_of("Readme.md")
    (folder / "Readme.md").rename(folder / "README.md")
    store.sync()
    assert store.id_of("README.md") == before


def test_copy_with_times_and_removal_counts_as_rename(folder: Path, store: FolderStore) -> None:
    write(folder / "a.txt", "text", mtime_s=1_000_000)
    store.sync()
    before = store.id_of("a.txt")
    shutil.copy2(folder / "a.txt", folder / "b.txt")
    (folder / "a.txt").unlink()
    outcome = store.sync()
    assert store.id_of("b.txt") == before
    assert (outcome.refreshed, outcome.fetched, outcome.absent) == (["b.txt"], [], [])


def test_equal_size_and_time_with_other_bytes_is_another_file(folder: Path, store: FolderStore) -> None:
    write(folder / "a.txt", "one", mtime_s=1_000_000)
    keeper = write(folder / "keeper")
    store.sync()
    before = store.id_of("a.txt")
    write(folder / "b.txt", "two", mtime_s=1_000_000)
    (folder / "a.txt").unlink()
    outcome = store.sync()
    assert keeper.exists()
    assert store.id_of("b.txt") != before
    assert (outcome.fetched, outcome.absent) == (["b.txt"], ["a.txt"])


def test_proven_copy_beats_a_recycled_inode(folder: Path, store: FolderStore) -> None:
    """A file system gives the inode of a removed file to the next one."""
    write(folder / "a.txt", "text", mtime_s=1_000_000)
    store.sync()
    before = store.id_of("a.txt")
    shutil.copy2(folder / "a.txt", folder / "copy.txt")
    (folder / "a.txt").rename(folder / "recycled.txt")
    write(folder / "recycled.txt", "something else")
    store.sync()
    assert store.id_of("copy.txt") == before
    assert store.id_of("recycled.txt") != before


def test_copies_of_equal_files_pair_by_name(folder: Path, store: FolderStore) -> None:
    for name in ("x", "y", "z"):
        write(folder / "old" / name, "same", mtime_s=1_000_000)
    store.sync()
    before = {name: store.id_of(f"old/{name}") for name in ("x", "y", "z")}
    shutil.copytree(folder / "old", folder / "new")
    write(folder / "new/a", "same", mtime_s=1_000_000)
    shutil.rmtree(folder / "old")
    store.sync()
    assert {name: store.id_of(f"new/{name}") for name in ("x", "y", "z")} == before
    assert store.id_of("new/a") not in before.values()


def test_hard_link_is_a_second_item_while_the_first_name_stays(folder: Path, store: FolderStore) -> None:
    write(folder / "b.txt")
    store.sync()
    before = store.id_of("b.txt")
    for name in ("a.txt", "c.txt"):
        os.link(folder / "b.txt", folder / name)
    outcome = store.sync()
    assert store.id_of("b.txt") == before
    assert set(store.live()) == {"a.txt", "b.txt", "c.txt"}
    assert outcome.unchanged == 1


def test_file_renamed_onto_a_deleted_path_keeps_its_own_id(folder: Path, store: FolderStore) -> None:
    write(folder / "a.txt", "old")
    write(folder / "b.txt", "new")
    store.sync()
    moved = store.id_of("b.txt")
    (folder / "a.txt").unlink()
    store.sync()
    (folder / "b.txt").rename(folder / "a.txt")
    assert store.sync().absent == []
    assert store.id_of("a.txt") == moved
    (folder / "a.txt").unlink()
    store.sync()
    write(folder / "a.txt", "again")
    store.sync()
    assert store.id_of("a.txt") == moved


def test_file_put_back_at_its_path_revives_its_id(folder: Path, store: FolderStore, tmp_path: Path) -> None:
    write(folder / "a.txt")
    store.sync()
    before = store.id_of("a.txt")
    (folder / "a.txt").rename(tmp_path / "aside")
    assert store.sync().absent == ["a.txt"]
    assert store.sync().is_quiet
    (tmp_path / "aside").rename(folder / "a.txt")
    assert store.sync().refreshed == ["a.txt"]
    assert store.id_of("a.txt") == before
    assert store.sync().is_quiet


def test_file_moved_out_and_back_under_another_name_revives_its_id(
    folder: Path, store: FolderStore, tmp_path: Path
) -> None:
    write(folder / "a.txt")
    store.sync()
    before = store.id_of("a.txt")
    (folder / "a.txt").rename(tmp_path / "aside")
    store.sync()
    (tmp_path / "aside").rename(folder / "b.txt")
    store.sync()
    assert store.id_of("b.txt") == before


def test_recycled_inode_does_not_revive_a_tombstone(folder: Path, store: FolderStore, tmp_path: Path) -> None:
    write(folder / "a.txt", "one")
    store.sync()
    before = store.id_of("a.txt")
    (folder / "a.txt").rename(tmp_path / "aside")
    store.sync()
    write(tmp_path / "aside", "quite another text").rename(folder / "b.txt")
    store.sync()
    assert store.id_of("b.txt") != before


# Absent and hidden


def test_removed_file_is_absent(folder: Path, store: FolderStore) -> None:
    write(folder / "a.txt")
    write(folder / "b.txt")
    store.sync()
    (folder / "a.txt").unlink()
    outcome = store.sync()
    assert outcome.absent == ["a.txt"]
    assert outcome.unchanged == 1
    assert outcome.pages[-1].changes[0].kind is ChangeKind.ABSENT


def test_newly_excluded_file_is_absent(folder: Path, store: FolderStore) -> None:
    write(folder / "drafts/a.txt")
    write(folder / "b.txt")
    store.sync()
    store.configure(exclude=["drafts/"])
    assert store.sync().absent == ["drafts/a.txt"]
    store.configure(include=["*.md"])
    assert store.sync().absent == ["b.txt"]


def test_files_below_an_unlistable_directory_are_not_absent(
    folder: Path, store: FolderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(folder / "secret/deep/a.txt")
    write(folder / "secret/deleted.txt")
    write(folder / "secrets.txt")
    store.sync()
    (folder / "secret/deleted.txt").unlink()
    store.sync()
    (folder / "secrets.txt").unlink()
    with monkeypatch.context() as patch:
        refuse(patch, "secret")
        outcome = store.sync()
    assert outcome.absent == ["secrets.txt"]
    assert outcome.unchanged == 1
    [failure] = outcome.failures
    assert (failure.stage, failure.reason, failure.external_path) == ("list", "permission_denied", "secret")
    assert store.sync().is_quiet


def test_entries_that_may_not_be_examined_hide_their_directory(
    folder: Path, store: FolderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A directory with r but without x lists names whose stat fails."""
    write(folder / "half/below/a.txt")
    write(folder / "half/b.txt")
    store.sync()
    real = os.scandir
    half = (folder / "half").stat()

    class Entry:
        def __init__(self, entry: os.DirEntry[str]) -> None:
            self.name, self.is_dir, self.is_file = entry.name, entry.is_dir, entry.is_file

        def stat(self, *, follow_symlinks: bool) -> None:
            raise PermissionError(errno.EACCES, "Permission denied", self.name)

    class Entries:
        def __init__(self, descriptor: int) -> None:
            self._found = real(descriptor)

        def __enter__(self) -> list[Entry]:
            return [Entry(entry) for entry in self._found]

        def __exit__(self, *_: object) -> None:
            self._found.close()

    def scandir(descriptor: int) -> Any:
        return Entries(descriptor) if os.path.samestat(os.fstat(descriptor), half) else real(descriptor)

    monkeypatch.setattr(os, "scandir", scandir)
    outcome = store.sync()
    assert outcome.absent == []
    assert outcome.unchanged == 2
    assert [failure.external_path for failure in outcome.failures] == ["half"]


def test_failure_is_told_on_one_page_only(folder: Path, store: FolderStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(store.source), "page_size", 1)
    refuse(monkeypatch, "a")
    write(folder / "a/x.txt")
    write(folder / "b/x.txt")
    write(folder / "c/x.txt")
    assert [len(page.failures) for page in store.sync().pages] == [1, 0, 0]


def test_changed_file_that_may_not_be_read_fails_alone_and_stays_known(
    folder: Path, store: FolderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(folder / "a.txt", "one")
    store.sync()
    write(folder / "a.txt", "three")
    with monkeypatch.context() as patch:
        refuse(patch, "a.txt")
        outcome = store.sync()
    [failure] = outcome.failures
    assert (failure.external_id, failure.reason, failure.permanent) == (
        store.id_of("a.txt"),
        "permission_denied",
        False,
    )
    assert outcome.absent == []
    assert store.sync().fetched == ["a.txt"]


def test_changed_file_that_vanishes_before_it_is_read_is_absent(
    folder: Path, store: FolderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(folder / "a.txt", "one")
    store.sync()
    write(folder / "a.txt", "three")
    refuse(monkeypatch, "a.txt", errno.ENOENT)
    assert store.sync().absent == ["a.txt"]


@pytest.mark.parametrize("code", [errno.EIO, errno.ESTALE])
def test_failing_disk_hides_a_directory_and_does_not_empty_it(
    folder: Path, store: FolderStore, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    write(folder / "disk/a.txt")
    store.sync()
    refuse(monkeypatch, "disk", code)
    outcome = store.sync()
    assert outcome.absent == []
    assert [failure.reason for failure in outcome.failures] == ["io_error"]


def remove(folder: Path) -> None:
    shutil.rmtree(folder)


def empty_mount_point(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


@pytest.mark.parametrize("lose", [remove, empty_mount_point])
def test_lost_folder_is_an_error_and_never_an_empty_listing(
    folder: Path, store: FolderStore, lose: Callable[[Path], None]
) -> None:
    write(folder / "a.txt")
    store.sync()
    for row in list(store.rows.values()):
        tag, size, mtime, inode, device, digest = row.external_hash.split(":")
        elsewhere = ":".join((tag, size, mtime, inode, str(int(device) + 7), digest))
        store._store(row.external_id, row.external_path, elsewhere, row.sync_status)
    lose(folder)
    with pytest.raises(SourceUnavailableError, match="mount"):
        next(store.listing())


def test_folder_that_was_emptied_in_place_has_absent_files(folder: Path, store: FolderStore) -> None:
    write(folder / "a.txt")
    store.sync()
    (folder / "a.txt").unlink()
    assert store.sync().absent == ["a.txt"]


def test_folder_replaced_during_the_walk_is_an_error(
    folder: Path, store: FolderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(folder / "a.txt")
    store.sync()
    write(folder / "b.txt")
    monkeypatch.setattr(type(store.source), "page_size", 1)
    pages = store.listing()
    assert len(next(pages).changes) == 1
    folder.rename(folder.with_name("unmounted"))
    folder.mkdir()
    with pytest.raises(SourceUnavailableError):
        list(pages)


def test_special_files_are_ignored_without_opening(folder: Path, store: FolderStore, reads: list[str]) -> None:
    os.mkfifo(folder / "fifo")
    with socket.socket(socket.AF_UNIX) as listener:
        here = os.open(folder, os.O_RDONLY)
        listener.bind(f"/proc/self/fd/{here}/socket")
        os.close(here)
    write(folder / "a.txt")
    assert store.sync().fetched == reads == ["a.txt"]


# Links


def test_links_are_ignored_unless_asked_for(folder: Path, store: FolderStore, tmp_path: Path) -> None:
    write(tmp_path / "outside/a.txt")
    (folder / "link").symlink_to(tmp_path / "outside")
    (folder / "file.txt").symlink_to(tmp_path / "outside/a.txt")
    store.sync()
    assert store.live() == {}
    store.configure(follow_symlinks=True)
    store.sync()
    assert set(store.live()) == {"file.txt"}


def test_followed_links_neither_loop_nor_list_a_file_twice(folder: Path, tmp_path: Path) -> None:
    store = FolderStore(folder, follow_symlinks=True)
    write(folder / "real/a.txt", "a")
    write(tmp_path / "outside/b.txt", "b")
    (tmp_path / "outside/back").symlink_to(folder)
    (folder / "again").symlink_to(folder / "real")
    (folder / "a copy").symlink_to(folder / "real/a.txt")
    (folder / "real/up").symlink_to(folder)
    (folder / "self").symlink_to("self")
    (folder / "broken").symlink_to("nowhere")
    (folder / "out").symlink_to(tmp_path / "outside")
    (folder / "out2").symlink_to(tmp_path / "outside")
    store.sync()
    assert store.live() == {"real/a.txt": b"a", "out/b.txt": b"b"}
    assert store.sync().is_quiet


def test_hard_links_stay_two_files_when_links_are_followed(folder: Path) -> None:
    store = FolderStore(folder, follow_symlinks=True)
    write(folder / "a.txt")
    os.link(folder / "a.txt", folder / "b.txt")
    store.sync()
    assert set(store.live()) == {"a.txt", "b.txt"}


def test_followed_links_end_at_the_allowed_roots(folder: Path, tmp_path: Path) -> None:
    write(tmp_path / "outside/a.txt")
    write(tmp_path / "allowed/b.txt")
    (folder / "bad").symlink_to(tmp_path / "outside")
    (folder / "bad.txt").symlink_to(tmp_path / "outside/a.txt")
    (folder / "good").symlink_to(tmp_path / "allowed")
    store = FolderStore(folder, follow_symlinks=True, roots=(folder, tmp_path / "allowed"))
    store.sync()
    assert set(store.live()) == {"good/b.txt"}


# Failed items


def test_failed_item_is_listed_again_once_it_changes(
    folder: Path, store: FolderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(folder / "a.txt", "one")
    with monkeypatch.context() as patch:
        refuse(patch, "a.txt")
        assert store.sync().refused == {"a.txt": "permission_denied"}
    [row] = store.rows.values()
    assert row.sync_status is SyncStatus.FAILED
    assert store.sync().unchanged == 1
    write(folder / "a.txt", "three")
    assert store.sync().fetched == ["a.txt"]
    assert list(store.rows) == [row.external_id]


def test_failed_item_that_changed_is_not_read_while_listing(
    folder: Path, store: FolderStore, monkeypatch: pytest.MonkeyPatch, reads: list[str]
) -> None:
    write(folder / "a.txt", "one")
    with monkeypatch.context() as patch:
        refuse(patch, "a.txt")
        store.sync()
    write(folder / "a.txt", "three")
    reads.clear()
    store.sync()
    assert reads == ["a.txt"]


def test_failed_young_item_is_listed_again_although_its_stat_is_equal(
    folder: Path, store: FolderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(folder / "a.txt", "one", mtime_s=1_000_000)
    store.now = datetime.fromtimestamp(1_000_001, UTC)
    with monkeypatch.context() as patch:
        refuse(patch, "a.txt")
        store.sync()
    assert store.sync().fetched == ["a.txt"]


def test_file_above_the_limit_is_listed_and_refused_once(folder: Path, reads: list[str]) -> None:
    store = FolderStore(folder, max_file_bytes=3)
    write(folder / "big.txt", "four")
    write(folder / "small.txt", "one")
    outcome = store.sync()
    assert outcome.refused == {"big.txt": "too_large"}
    assert outcome.fetched == ["small.txt"]
    reads.clear()
    assert store.sync(JobType.FULL_SYNC).unchanged == 2
    assert reads == ["small.txt"]
