"""Kill bulk processing at every named point; the next attempt must end it as if nothing had happened."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import psycopg
import pytest

from tests.conftest import DatabaseUrls
from tests.sync.bulk import Bench, Work, enqueue, start, wrong
from workstation_pipelines.db.engine import Database
from workstation_pipelines.model import ProcessingJobId
from workstation_pipelines.settings import libpq_url
from workstation_pipelines.sync.faults import PROCESSING_POINTS

pytestmark = pytest.mark.crash

ONCE = ("processing_started", "processing_before_end")


def write(folder: Path, texts: Mapping[str, str]) -> list[str]:
    for name, text in texts.items():
        (folder / name).write_text(text)
    return [str(folder / name) for name in texts]


def reasons(database: Database, job_id: ProcessingJobId) -> list[str]:
    return [reason for _, reason in Bench(database).outcomes(job_id)]


@pytest.mark.parametrize("point", PROCESSING_POINTS)
def test_a_kill_anywhere_loses_nothing_and_does_nothing_twice(
    point: str, database_urls: DatabaseUrls, database: Database, tmp_path: Path
) -> None:
    first = {f"{number}.txt": f"note {number} " * 9 for number in range(5)}
    second = {**first, "1.txt": "rewritten " * 9, "3.txt": "short"}
    generations = dict.fromkeys(first, 1)
    for texts, expected in ((first, ["created"] * 5), (second, ["unchanged", "updated"] * 2 + ["unchanged"])):
        subjects = write(tmp_path, texts)
        generations = {name: generations[name] + (first[name] != text) for name, text in texts.items()}
        job_id = enqueue(database, subjects, at_a_time=2)
        fault = f"{point}:1" if point in ONCE else f"{point}:2"
        assert start(Work(database_urls.app_url, job_id, fault)).wait() == "killed"
        assert start(Work(database_urls.app_url, job_id)).wait() == "completed"
        assert reasons(database, job_id) == expected
        truth = {str(tmp_path / name): (text, generations[name]) for name, text in texts.items()}
        assert wrong(database_urls.admin_url, truth) == []


def test_what_is_committed_apart_is_noticed(database_urls: DatabaseUrls, database: Database, tmp_path: Path) -> None:
    job_id = enqueue(database, write(tmp_path, {"a.txt": "some text", "b.txt": "other text"}), at_a_time=1)
    work = Work(database_urls.app_url, job_id, "subject_before_commit:1", is_mutant=True)
    assert start(work).wait() == "killed"
    start(Work(database_urls.app_url, job_id)).wait()
    assert reasons(database, job_id) == ["unchanged", "created"]


def test_a_document_that_kills_is_given_up_alone(
    database_urls: DatabaseUrls, database: Database, tmp_path: Path
) -> None:
    subjects: Sequence[str] = write(tmp_path, {f"{number}.txt": f"note {number}" for number in range(3)})
    job_id = enqueue(database, subjects, at_a_time=3)
    # All three are under way when the first process dies; afterwards only the one that comes first.
    for _ in range(3):
        assert start(Work(database_urls.app_url, job_id, "subject_read:1")).wait() == "killed"
    assert start(Work(database_urls.app_url, job_id)).wait() == "completed_with_errors"
    assert reasons(database, job_id) == ["process_died", "created", "created"]


def test_a_worker_that_slept_through_a_takeover_writes_nothing(
    database_urls: DatabaseUrls, database: Database, tmp_path: Path
) -> None:
    texts = {f"{number}.txt": f"note {number}" for number in range(4)}
    job_id = enqueue(database, write(tmp_path, texts), at_a_time=1)
    sleeper = start(Work(database_urls.app_url, job_id, "subject_read:2:stop"))
    sleeper.wait_until_stopped()
    assert start(Work(database_urls.app_url, job_id)).wait() == "BusyError"
    with psycopg.connect(libpq_url(database_urls.admin_url), autocommit=True) as admin:
        admin.execute(
            """
            SELECT pg_terminate_backend(pid, 10000) FROM pg_locks JOIN pg_stat_activity USING (pid)
             WHERE locktype = 'advisory' AND datname = current_database()"""
        )
    assert start(Work(database_urls.app_url, job_id)).wait() == "completed"
    sleeper.go_on()
    assert sleeper.wait() == "FencedError"
    assert wrong(database_urls.admin_url, {str(tmp_path / name): (text, 1) for name, text in texts.items()}) == []
    assert Bench(database).job(job_id).status == "completed"
