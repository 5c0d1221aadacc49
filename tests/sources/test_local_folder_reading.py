"""What a local folder opens and reads, what it refuses, and how it is named and registered."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tests.sources.folder_store import LONG_AFTER, FolderStore
from workstation_pipelines import sources
from workstation_pipelines.errors import (
    InvalidRequestError,
    ItemGoneError,
    ItemTooLargeError,
    SkipItemError,
    SourceUnavailableError,
    UnreadableContentError,
)
from workstation_pipelines.model import Item, JobType, SourceType
from workstation_pipelines.sources.local_folder import opening, stamp
from workstation_pipelines.sources.local_folder.connector import LocalFolder


def listed(store: FolderStore, path: str) -> Item:
    [item] = [
        change.item
        for page in store.listing()
        for change in page.changes
        if change.item and change.item.external_path == path
    ]
    return item


def opener(**config: Any) -> LocalFolder:
    roots = config.pop("roots", None)
    return LocalFolder(config, clock=lambda: LONG_AFTER, new_id=uuid4, roots=roots)


def raising(code: int) -> Any:
    def fail(*_: Any, **__: Any) -> Any:
        raise OSError(code, os.strerror(code))

    return fail


# Reading


def test_hash_of_content_describes_the_bytes_read_not_those_listed(folder: Path, store: FolderStore) -> None:
    (folder / "a.txt").write_text("one")
    item = listed(store, "a.txt")
    (folder / "a.txt").write_text("three")
    content = store.source.fetch(item)
    parsed = stamp.parse(content.external_hash)
    assert parsed is not None
    assert (content.body, content.name, content.mime_type) == (b"three", "a.txt", "text/plain")
    assert (parsed.size_bytes, parsed.digest) == (5, stamp.digest_of(b"three"))
    assert stamp.parse(item.external_hash) is not None
    assert item.external_hash.endswith(":")


def test_empty_file_is_read(folder: Path, store: FolderStore) -> None:
    (folder / "empty.txt").touch()
    store.sync()
    assert store.live() == {"empty.txt": b""}


def test_listing_and_fetch_digest_large_files_alike(
    folder: Path, store: FolderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "_BLOCK_BYTES", 1000)
    (folder / "a.bin").write_bytes(os.urandom(123_456))
    store.sync()
    assert store.sync(JobType.FULL_SYNC).is_quiet


def test_detector_is_given_name_and_first_bytes(folder: Path) -> None:
    (folder / "a").write_bytes(b"%PDF" + b"x" * 100_000)
    calls: list[tuple[str, bytes]] = []

    def detect(name: str, head: bytes) -> str:
        calls.append((name, head))
        return "application/pdf" if head else "application/octet-stream"

    store = FolderStore(folder)
    store.source = LocalFolder({"path": str(folder)}, clock=lambda: LONG_AFTER, new_id=uuid4, detect=detect)
    item = listed(store, "a")
    assert store.source.fetch(item).mime_type == "application/pdf"
    assert calls[0] == ("a", b"")
    assert calls[1][1].startswith(b"%PDF")
    assert len(calls[1][1]) < 100_000


def test_file_that_changes_once_while_read_is_read_again(
    folder: Path, store: FolderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = folder / "a.txt"
    path.write_text("one")
    item = listed(store, "a.txt")
    real = os.read
    changed: list[int] = []

    def read(descriptor: int, size: int) -> bytes:
        if not changed:
            changed.append(path.write_text("longer"))
        return real(descriptor, size)

    monkeypatch.setattr(os, "read", read)
    assert store.source.fetch(item).body == b"longer"


@pytest.mark.parametrize(
    "edit", [lambda path: path.write_text(path.read_text() + "x"), lambda path: path.write_text("")]
)
def test_file_that_never_rests_is_unreadable_for_now(
    folder: Path, store: FolderStore, monkeypatch: pytest.MonkeyPatch, edit: Any
) -> None:
    path = folder / "a.txt"
    path.write_text("one")
    item = listed(store, "a.txt")
    real = os.read
    moments = iter(range(1, 100))

    def read(descriptor: int, size: int) -> bytes:
        block = real(descriptor, size)
        edit(path)
        os.utime(path, ns=(0, next(moments)))
        return block

    monkeypatch.setattr(os, "read", read)
    with pytest.raises(UnreadableContentError) as caught:
        store.source.fetch(item)
    assert caught.value.reason == "changing"
    assert next(moments) < 10


def test_growing_file_is_listed_for_fetch_when_it_cannot_be_compared(
    folder: Path, store: FolderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = folder / "a.log"
    path.write_text("one")
    store.sync()
    path.write_text("one two")
    real = os.read

    def read(descriptor: int, size: int) -> bytes:
        with path.open("a") as file:
            file.write("x")
        return real(descriptor, size)

    monkeypatch.setattr(os, "read", read)
    [page] = store.listing()
    [change] = page.changes
    assert change.item is not None
    assert change.item.external_hash.endswith(":")
    assert page.failures == ()


def test_file_removed_after_listing_is_gone(folder: Path, store: FolderStore) -> None:
    (folder / "d").mkdir()
    (folder / "d/a.txt").write_text("one")
    item = listed(store, "d/a.txt")
    (folder / "d/a.txt").unlink()
    with pytest.raises(ItemGoneError):
        store.source.fetch(item)
    (folder / "d").rmdir()
    (folder / "d").write_text("now a file")
    with pytest.raises(ItemGoneError):
        store.source.fetch(item)


@pytest.mark.parametrize(
    ("code", "error", "reason"),
    [
        (errno.EACCES, UnreadableContentError, "permission_denied"),
        (errno.EPERM, UnreadableContentError, "permission_denied"),
        (errno.EIO, UnreadableContentError, "io_error"),
        (errno.ENOENT, ItemGoneError, "gone"),
        (errno.ESTALE, SourceUnavailableError, None),
        (errno.EMFILE, SourceUnavailableError, None),
    ],
)
def test_errors_of_the_system_ask_for_the_right_action(
    folder: Path, store: FolderStore, monkeypatch: pytest.MonkeyPatch, code: int, error: type[Exception], reason: str
) -> None:
    (folder / "a.txt").write_text("one")
    item = listed(store, "a.txt")
    monkeypatch.setattr(os, "read", raising(code))
    with pytest.raises(error, match=r"a\.txt") as caught:
        store.source.fetch(item)
    assert getattr(caught.value, "reason", None) == reason


def test_file_that_grew_above_the_limit_is_refused_without_being_read(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = FolderStore(folder, max_file_bytes=3)
    (folder / "a.txt").write_text("one")
    item = listed(store, "a.txt")
    (folder / "a.txt").write_text("four")
    monkeypatch.setattr(os, "read", raising(errno.EIO))
    with pytest.raises(ItemTooLargeError, match="max_file_bytes"):
        store.source.fetch(item)


def test_threads_fetch_side_by_side(folder: Path, store: FolderStore) -> None:
    for number in range(60):
        (folder / f"{number}.txt").write_text(str(number) * 1000)
    items = [change.item for page in store.listing() for change in page.changes if change.item]
    with ThreadPoolExecutor(8) as pool:
        contents = list(pool.map(store.source.fetch, items))
    assert all(content.body == content.name[:-4].encode() * 1000 for content in contents)


def test_no_descriptor_stays_open(folder: Path, store: FolderStore) -> None:
    (folder / "d/e").mkdir(parents=True)
    (folder / "d/e/a.txt").write_text("one")
    item = listed(store, "d/e/a.txt")
    before = os.listdir("/proc/self/fd")
    store.source.fetch(item)
    for path in ("d/e/gone.txt", "d/gone/a.txt", "d/e", "d/e/a.txt/x"):
        with pytest.raises(SkipItemError):
            store.source.fetch(replace(item, external_path=path))
    pages = store.listing()
    next(pages)
    pages.close()  # type: ignore[attr-defined]  # a generator, as the contract's Iterator does not tell
    store.source.check()
    assert os.listdir("/proc/self/fd") == before


# Staying inside


@pytest.mark.parametrize("path", ["../secret.txt", "d/../../secret.txt", "", ".", "/etc/passwd", "d//a.txt"])
def test_path_that_leads_outside_is_never_opened(folder: Path, store: FolderStore, path: str) -> None:
    (folder / "d").mkdir()
    (folder / "d/a.txt").write_text("one")
    (folder.parent / "secret.txt").write_text("secret")
    item = listed(store, "d/a.txt")
    with pytest.raises(ItemGoneError):
        store.source.fetch(replace(item, external_path=path))


@pytest.mark.parametrize("swapped", ["d", "d/a.txt"])
def test_link_put_in_place_of_a_listed_path_is_not_followed(folder: Path, store: FolderStore, swapped: str) -> None:
    outside = folder.parent / "outside"
    for base in (folder / "d", outside):
        base.mkdir()
        (base / "a.txt").write_text(base.name)
    item = listed(store, "d/a.txt")
    (folder / swapped).rename(folder.parent / "aside")
    (folder / swapped).symlink_to(outside if swapped == "d" else outside / "a.txt")
    with pytest.raises(ItemGoneError):
        store.source.fetch(item)


def test_directory_swapped_for_a_link_during_the_walk_is_not_entered(
    folder: Path, store: FolderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    outside = folder.parent / "outside"
    outside.mkdir()
    (outside / "secret.txt").write_text("secret")
    (folder / "a.txt").write_text("one")
    (folder / "d").mkdir()
    monkeypatch.setattr(LocalFolder, "page_size", 1)
    pages = store.listing()
    next(pages)
    (folder / "d").rmdir()
    (folder / "d").symlink_to(outside)
    assert [change for page in pages for change in page.changes] == []


def test_followed_link_turned_outside_the_roots_is_not_read(folder: Path) -> None:
    allowed, outside = folder.parent / "allowed", folder.parent / "outside"
    for base in (allowed, outside):
        base.mkdir()
        (base / "a.txt").write_text(base.name)
    (folder / "link").symlink_to(allowed)
    store = FolderStore(folder, follow_symlinks=True, roots=(folder, allowed))
    item = listed(store, "link/a.txt")
    assert store.source.fetch(item).body == b"allowed"
    (folder / "link").unlink()
    (folder / "link").symlink_to(outside)
    with pytest.raises(ItemGoneError):
        store.source.fetch(item)


def test_fifo_put_in_place_of_a_file_does_not_block(folder: Path, store: FolderStore) -> None:
    (folder / "a.txt").write_text("one")
    item = listed(store, "a.txt")
    (folder / "a.txt").unlink()
    os.mkfifo(folder / "a.txt")
    with pytest.raises(ItemGoneError):
        store.source.fetch(item)


def test_folder_outside_the_roots_is_refused(folder: Path) -> None:
    near = folder.with_name("folder2")
    near.mkdir()
    link = folder / "link"
    link.symlink_to(near)
    for path in (near, link, folder.parent, folder / "..", Path("/")):
        with pytest.raises(InvalidRequestError, match="outside"):
            opener(path=str(path), roots=(folder,))
    with pytest.raises(InvalidRequestError, match="outside"):
        opener(path=str(folder), roots=())
    assert opener(path=str(folder), roots=(folder,)).check().label == str(folder)
    assert opener(path=str(near), roots=(Path("/"),)).check().label == str(near)


def test_folder_swapped_for_one_outside_the_roots_is_refused(folder: Path) -> None:
    inner = folder / "inner"
    inner.mkdir()
    source = opener(path=str(inner), roots=(folder,))
    inner.rmdir()
    inner.symlink_to(folder.parent)
    with pytest.raises(InvalidRequestError, match="outside"):
        source.check()


# Naming the account


def test_check_names_the_real_folder_and_counts_its_files(folder: Path) -> None:
    (folder / "d").mkdir()
    (folder / "d/a.txt").write_text("one")
    (folder / ".hidden").write_text("two")
    link = folder.with_name("link")
    link.symlink_to(folder)
    account = opener(path=str(link)).check()
    assert (account.external_account, account.label) == (str(folder), str(link))
    assert account.details == {"files": 1, "files_are_all": True, "readable": True}


def test_check_counts_no_further_than_its_bound(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workstation_pipelines.sources.local_folder.connector._COUNTED_FILES", 2)
    for name in "abc":
        (folder / name).touch()
    assert opener(path=str(folder)).check().details == {"files": 2, "files_are_all": False, "readable": True}


def test_folder_that_is_missing_or_unreadable_or_no_folder_is_told(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SourceUnavailableError, match="mount"):
        opener(path=str(folder / "missing")).check()
    (folder / "file").touch()
    with pytest.raises(InvalidRequestError, match="not a folder"):
        opener(path=str(folder / "file")).check()
    source = opener(path=str(folder))
    monkeypatch.setattr(os, "scandir", raising(errno.EACCES))
    with pytest.raises(SourceUnavailableError, match="readable"):
        source.check()


# Registry


def test_registered_source_opens_and_others_are_refused_by_name(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context = sources.SourceContext(
        clock=lambda: LONG_AFTER, new_id=uuid4, detect=lambda name, head: "text/plain", folder_roots=(folder,)
    )
    source = sources.open_source(SourceType.LOCAL_FOLDER, {"path": str(folder)}, context)
    assert isinstance(source, LocalFolder)
    source.close()
    source.close()
    with pytest.raises(InvalidRequestError, match="outside"):
        sources.open_source(SourceType.LOCAL_FOLDER, {"path": str(folder.parent)}, context)
    monkeypatch.setattr(sources, "SOURCES", {SourceType.LOCAL_FOLDER: sources.SOURCES[SourceType.LOCAL_FOLDER]})
    with pytest.raises(InvalidRequestError, match=r"notion.*local_folder"):
        sources.open_source(SourceType.NOTION, {}, context)


def test_every_registered_class_has_its_type() -> None:
    for source_type in sources.SOURCES:
        assert sources.source_class(source_type).source_type is source_type


def test_registry_is_imported_without_any_vendor() -> None:
    code = (
        "import sys, workstation_pipelines.sources as s; "
        "print(*[m for m in sys.modules if any(f'sources.{t}' in m for t in s.SOURCES) or m == 'httpx'])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == ""
