"""Names and fields that strangers choose: whatever one thing is called or described as, all the others are synced."""

from __future__ import annotations

import time
from collections.abc import Iterator
from random import Random
from zlib import crc32

import psycopg
import pytest

from tests.conftest import DatabaseUrls
from tests.sources import stages
from tests.sources.spoiling import WRONG, Path, Spoiling
from tests.sources.standing import Standing
from workstation_pipelines.model import Delta, JobStatus, SourceType
from workstation_pipelines.settings import libpq_url
from workstation_pipelines.sources import source_class

VENDORS = [name for name in stages.ALL if source_class(SourceType(name)).delta is not Delta.NONE]
SPOILT_FIELDS = 6
"""Of each vendor's, with one wrong value each: drawn by a seed of its own, so that the same are spoilt each time."""

NAMES = {
    "4,000 characters": "n" * 4000,
    "slashes": "../../a/b\\c",
    "dots": "..",
    "emoji": "👩‍👩‍👧 plan",
    "right to left": "\u202egnp.שלום",
    "NUL": "nul\0byte",
    "lone surrogate": "lone \ud800 surrogate",
    "line feed": "two\nlines",
}
UNSAYABLE = {
    SourceType.DROPBOX: {"slashes", "dots", "lone surrogate"},
    SourceType.GMAIL: {"NUL", "lone surrogate", "line feed"},
    SourceType.LOCAL_FOLDER: {"4,000 characters", "slashes", "dots", "NUL", "lone surrogate"},
}
"""Names that a path, a header or a file system cannot hold, so that nobody can give them."""

IDENTITIES = frozenset({"id", "threadId", "ts", "fileId"})
"""A thing without its identity is another thing, or none."""


@pytest.fixture(autouse=True)
def _without_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "sleep", lambda _wait_s: None)


@pytest.fixture
def standing(request: pytest.FixtureRequest, database_urls: DatabaseUrls) -> Iterator[Standing]:
    stage = stages.stage_of(SourceType(request.param))
    yield Standing(stage, database_urls.app_url, database_urls.admin_url)
    stages.close(stage)


@pytest.mark.parametrize("standing", stages.ALL, indirect=True)
def test_things_with_any_name_are_synced_and_stay_as_they_are(standing: Standing) -> None:
    stage = standing.stage
    stage.set_page_size(2)
    for kind, name in NAMES.items():
        if kind not in UNSAYABLE.get(stage.source_type, ()):
            stage.create(name, standing.text(kind.replace(",", "")))
    stage.create("plain", standing.text("plain"))
    assert standing.sync().status is JobStatus.COMPLETED
    assert _missing_texts(standing) == []
    for job_type in ("manual", "full_sync"):
        again = standing.sync(job_type=job_type)
        assert (again.status, again.counts.fetched, again.counts.deleted) == (JobStatus.COMPLETED, 0, 0)
        assert _missing_texts(standing) == []


@pytest.mark.parametrize("standing", VENDORS, indirect=True)
def test_one_thing_that_is_described_wrongly_holds_nobody_up(standing: Standing) -> None:
    stage = standing.stage
    assert stage.vendor is not None
    stage.set_page_size(3)
    for number in range(3):
        stage.create(f"first {number}", standing.text("there"))
    victim = stage.create("victim", standing.text("described wrongly"))
    spoiling = Spoiling(stage.vendor, victim.rpartition(":")[2] if stage.source_type is SourceType.SLACK else victim)
    with spoiling.spoiled(None):
        standing.sync()
    for path, kind in _some_fields(spoiling, stage.source_type):
        before = set(stage.truth())
        stage.edit(victim, standing.text("edited"))
        late = stage.create(f"late {kind}", standing.text("late"))
        late_path = (set(stage.truth()) - before).pop()
        with spoiling.spoiled(path, WRONG[kind]):
            result = standing.sync(job_type="full_sync")
        is_done = result.status in (JobStatus.COMPLETED, JobStatus.COMPLETED_WITH_ERRORS)
        assert (path, kind, is_done) == (path, kind, True)
        assert (path, kind, f"{late_path} is lost" in standing.differences()) == (path, kind, False)
        _forgive(standing)
        stage.edit(victim, standing.text("described rightly"))
        standing.sync(job_type="full_sync")
        assert (path, kind, standing.differences()) == (path, kind, [])
        stage.delete(late)


def _some_fields(spoiling: Spoiling, source_type: SourceType) -> list[tuple[Path, str]]:
    dice = Random(crc32(source_type.encode()))  # noqa: S311 - a seed is the point
    paths = sorted(path for path in spoiling.seen if path[-1] not in IDENTITIES)
    return [(dice.choice(paths), dice.choice(sorted(WRONG))) for _ in range(SPOILT_FIELDS)]


def _missing_texts(standing: Standing) -> list[str]:
    """Markers that are not in exactly one live document."""
    with psycopg.connect(libpq_url(standing.admin_url)) as admin:
        rows = admin.execute("SELECT text FROM app.documents WHERE deleted_at IS NULL").fetchall()
    return [text for marker, text in standing.markers.items() if sum(marker in stored for (stored,) in rows) != 1]


def _forgive(standing: Standing) -> None:
    with psycopg.connect(libpq_url(standing.admin_url), autocommit=True) as admin:
        admin.execute("UPDATE app.sync_failures SET next_try_at = now() - interval '1 second'")
        admin.execute("UPDATE app.sync_jobs SET not_before = NULL")
