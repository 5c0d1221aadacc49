"""Nothing that a document, its name or an error says reaches Dagster's storage, event log or compute logs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from tests.defs.place import ALICE, Place, status
from workstation_pipelines.db import data_sources
from workstation_pipelines.errors import (
    InvalidRequestError,
    RateLimitedError,
    ReauthorizeError,
    SourceUnavailableError,
)

TEXT = "canarytextzqx"
NAME = "canarynamezqx"
ERROR = "canaryerrorzqx"
SECRET = "canarysecretzqx"


@pytest.fixture
def instance(quick_folder: Path) -> Iterator[dg.DagsterInstance]:
    """On disk, so that every byte that Dagster keeps can be searched."""
    with dg.DagsterInstance.local_temp(str(quick_folder)) as instance:
        yield instance


def hits(dagster_folder: Path, needle: str) -> list[str]:
    found = []
    for folder, _, files in os.walk(dagster_folder):
        found += [name for name in files if needle.encode() in (Path(folder) / name).read_bytes()]
    return found


ERRORS = (
    SourceUnavailableError(f"{ERROR} {SECRET} is away", wait_s=0.0),
    ReauthorizeError(f"{ERROR} {SECRET} no longer works"),
    RateLimitedError(f"{ERROR} {SECRET} wants a rest", wait_s=9999.0),
    InvalidRequestError(f"{ERROR} {SECRET} is wrong"),
    ValueError(f"{ERROR} {SECRET} in a bug"),
)


def test_no_content_name_or_message_is_kept_by_dagster(
    place: Place, quick_folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    place.write(f"{NAME}.md", "b.md", "c.md", text=f"# {TEXT}\n\nIt says {TEXT}.")
    (place.folder / f"{NAME}-blank.txt").write_text(" \n" * 40)
    for error in ERRORS:
        failing = iter([error])

        def fail_once(_page: int, failing: Iterator[Exception] = failing) -> None:
            if error := next(failing, None):
                try:
                    raise OSError(f"{ERROR} cause of {NAME}")
                except OSError as cause:
                    raise error from cause

        place.before_page = fail_once
        assert status(place, place.run()) in ("SUCCESS", "FAILURE")
        assert next(failing, None) is None
    with data_sources.leased(place.database, place.data_source):
        place.run()
    place.run_checks()
    with place.database.transaction_with_rls(ALICE) as connection:
        data_sources.remove(connection, user_id=ALICE, data_source_id=place.data_source.id)
    place.run()

    kept = {needle: hits(quick_folder, needle) for needle in (TEXT, NAME, ERROR, SECRET)}
    assert kept == {TEXT: [], NAME: [], ERROR: [], SECRET: []}
    printed = "".join(capfd.readouterr())
    assert not any(needle in printed for needle in kept)
    assert hits(quick_folder, str(place.data_source.id)), "the search itself works: ids are there"
