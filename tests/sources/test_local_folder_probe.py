"""The probe's token changes with whatever a listing might find, and costs no look into a file."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import pytest

from workstation_pipelines.errors import SourceUnavailableError
from workstation_pipelines.identity import utc_now
from workstation_pipelines.sources.local_folder import probe
from workstation_pipelines.sources.local_folder.config import FolderConfig
from workstation_pipelines.sources.local_folder.connector import LocalFolder
from workstation_pipelines.sources.local_folder.opening import Folder
from workstation_pipelines.sources.local_folder.walk import Walk


def opened(path: Path) -> LocalFolder:
    return LocalFolder({"path": str(path)}, clock=utc_now, new_id=uuid4)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "sub").mkdir()
    for name in ("a.md", "b.md", "sub/c.md"):
        (tmp_path / name).write_text(name)
    return tmp_path


def test_token_is_the_same_while_nothing_changes(folder: Path) -> None:
    first = opened(folder).probe(None, None)
    assert opened(folder).probe(first, None) == first
    assert first.startswith("lf1:3:")


def _rewrite_keeping_size_and_time(folder: Path) -> None:
    stat = (folder / "a.md").stat()
    (folder / "a.md").write_text("A.MD")
    os.utime(folder / "a.md", ns=(stat.st_atime_ns, stat.st_mtime_ns))


@pytest.mark.parametrize(
    "edit",
    [
        lambda folder: (folder / "a.md").write_text("other"),
        lambda folder: (folder / "sub" / "c.md").unlink(),
        lambda folder: (folder / "a.md").rename(folder / "sub" / "a.md"),
        lambda folder: (folder / "sub" / "d.md").write_text("new"),
        _rewrite_keeping_size_and_time,
    ],
)
def test_every_edit_changes_the_token(folder: Path, edit: Callable[[Path], object]) -> None:
    before = opened(folder).probe(None, None)
    edit(folder)
    assert opened(folder).probe(before, None) != before


def test_excluded_files_do_not_count(folder: Path) -> None:
    before = opened(folder).probe(None, None)
    (folder / ".hidden").write_text("x")
    assert opened(folder).probe(before, None) == before


def test_names_that_are_not_unicode_count(folder: Path) -> None:
    before = opened(folder).probe(None, None)
    Path(os.fsdecode(os.fsencode(folder) + b"/\xff.md")).write_text("x")
    assert opened(folder).probe(before, None) != before


def test_missing_folder_cannot_be_probed(folder: Path) -> None:
    with pytest.raises(SourceUnavailableError):
        opened(folder / "away").probe(None, None)


def test_large_folder_is_known_by_its_first_files(folder: Path) -> None:
    def token() -> str:
        with Walk(_folder(folder), FolderConfig(folder)) as walk:
            return probe.token(walk, None, most_files=2)

    before = token()
    (folder / "sub" / "c.md").write_text("behind the bound")
    assert token() == before
    (folder / "a.md").write_text("before it")
    assert token() != before


def test_slow_folder_is_reported_as_unchanged(tmp_path: Path) -> None:
    for number in range(1024):
        (tmp_path / f"{number}.md").touch()
    seconds = iter([0.0, 99.0])
    with Walk(_folder(tmp_path), FolderConfig(tmp_path)) as walk:
        assert probe.token(walk, "lf1:as it was", monotonic=lambda: next(seconds)) == "lf1:as it was"


def _folder(path: Path) -> Folder:
    return Folder(path, roots=None, follow_symlinks=False)
