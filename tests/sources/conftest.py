"""Fixtures of the sources' tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.sources.folder_store import FolderStore


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty folder to sync, with room beside it."""
    path = tmp_path / "folder"
    path.mkdir()
    return path


@pytest.fixture
def store(folder: Path) -> FolderStore:
    return FolderStore(folder)
