"""The demo, once with its samples and once with somebody's own folder."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import DatabaseUrls
from workstation_pipelines import demo
from workstation_pipelines.db.engine import Database
from workstation_pipelines.settings import Settings


@pytest.fixture
def settings(database_urls: DatabaseUrls, dagster_url: str, tmp_path: Path) -> Settings:
    return Settings(
        WORKSTATION_HOME=tmp_path / "home",
        DATABASE_URL=database_urls.app_url,
        DAGSTER_POSTGRES_URL=dagster_url,
        WORKSTATION_FOLDER_ROOTS=str(tmp_path),
    )


@pytest.fixture
def database(settings: Settings) -> Iterator[Database]:
    database = Database(settings.database_url or "")
    yield database
    database.close()


@pytest.mark.slow
def test_demo_keeps_its_promises_twice_and_then_with_a_folder_that_it_only_reads(
    settings: Settings, database: Database, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):
        assert demo.main([], settings) == 0, capsys.readouterr()
        out, err = capsys.readouterr()
        assert err == ""
        assert "generation 1 -> 2" in out
        assert "reading-list v1: completed" in out
        assert "Everything held" in out
        assert len(out.splitlines()) < 85
    own = tmp_path / "own"
    own.mkdir()
    (own / "tides.md").write_text("# Tides\n\nHigh water at noon.\n")
    (own / "broken.docx").write_bytes(b"PK\x03\x04 this is no document")
    before = _digest(own)
    assert demo.main(["--folder", str(own)], settings) == 0, capsys.readouterr()
    assert "worth a look" in capsys.readouterr().out
    assert _digest(own) == before
    with database.transaction_with_rls(settings.user) as connection:  # type: ignore[arg-type]  # a plain name
        from workstation_pipelines.db import data_sources

        sources = data_sources.all_of(connection, user_id=settings.user)  # type: ignore[arg-type]  # a plain name
    assert [source.name for source in sources] == ["demo", "demo-folder"]


def test_expectation_that_does_not_hold_is_exit_code_1(
    settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert demo.main([str(tmp_path / "absent")], settings) == 1
    assert "is not a folder" in capsys.readouterr().err
    with pytest.raises(demo.DemoFailedError, match="does not: the sky is green"):
        demo._expect(False, "the sky is green")


def _digest(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        digest.update(f"{path} {path.stat().st_mtime_ns}".encode() + path.read_bytes())
    return digest.hexdigest()
