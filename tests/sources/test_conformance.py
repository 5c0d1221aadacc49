"""What every source must do, in every way a source can change: one suite for all that are registered."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import psycopg
import pytest

from tests.conftest import DatabaseUrls
from tests.sources import stages
from tests.sources.standing import Standing
from workstation_pipelines.errors import InvalidRequestError
from workstation_pipelines.model import Delta, JobStatus, SourceType
from workstation_pipelines.settings import libpq_url
from workstation_pipelines.sources import source_class

Step = Callable[[], object]


@pytest.fixture(params=stages.ALL)
def standing(request: pytest.FixtureRequest, database_urls: DatabaseUrls) -> Iterator[Standing]:
    """Each source in its turn, connected to an account with nothing in it."""
    stage = stages.stage_of(SourceType(request.param))
    yield Standing(stage, database_urls.app_url, database_urls.admin_url)
    stages.close(stage)


def story(standing: Standing) -> Iterator[tuple[str, Step]]:
    """Name each thing that can happen to an account and do it; those a vendor does not have are left out."""
    stage, text = standing.stage, standing.text
    keys: dict[str, str] = {}

    def put(name: str, made: str) -> None:
        keys[name] = made

    def create() -> None:
        for name in ("alpha", "beta", "gamma", "delta"):
            put(name, stage.create(name, text(f"words of {name}")))

    steps: list[tuple[str, str, Step]] = [
        ("create", "create", create),
        ("edit", "edit", lambda: stage.edit(keys["alpha"], text("edited words"))),
        ("rename", "rename", lambda: stage.rename(keys["beta"], "beta renamed")),
        ("rename_case", "rename_case", lambda: stage.rename_case(keys["beta"])),
        ("move_in", "move_in", lambda: put("moved", stage.move_in("moved", text("moved in")))),
        ("rename_folder", "rename_folder", lambda: stage.rename_folder("archive")),
        ("move_out", "move_out", lambda: stage.move_out(keys["moved"])),
        ("trash", "trash", lambda: stage.trash(keys["gamma"])),
        ("restore", "restore", lambda: stage.restore(keys["gamma"])),
        ("share an old one", "share_old", lambda: put("shared", stage.share_old("shared", text("old and shared")))),
        ("unshare", "unshare", lambda: stage.unshare(keys["shared"])),
        ("delete", "delete", lambda: stage.delete(keys["delta"])),
        ("delete and create again", "recreate", lambda: put("alpha", stage.recreate(keys["alpha"], text("reborn")))),
        ("edit what was created again", "recreate", lambda: stage.edit(keys["alpha"], text("reborn and edited"))),
    ]
    return ((name, step) for name, operation, step in steps if operation in stage.operations)


def test_everything_that_can_happen_is_as_at_the_source_after_one_sync(standing: Standing) -> None:
    assert standing.sync().status is JobStatus.COMPLETED
    for name, step in story(standing):
        step()
        result = standing.sync()
        assert (name, result.status, standing.differences()) == (name, JobStatus.COMPLETED, [])
        again = standing.sync()
        assert (name, again.counts.fetched, again.counts.chunks_embedded) == (name, 0, 0)
        assert (name, standing.differences()) == (name, [])


def test_a_full_listing_of_what_is_known_fetches_nothing(standing: Standing) -> None:
    for _, step in story(standing):
        step()
    standing.sync()
    result = standing.sync(job_type="full_sync")
    assert (result.counts.fetched, result.counts.chunks_embedded, result.counts.deleted) == (0, 0, 0)
    assert standing.differences() == []


def test_everything_at_once_in_pages_of_one(standing: Standing) -> None:
    standing.stage.set_page_size(1)
    steps = list(story(standing))
    steps[0][1]()
    standing.sync()
    for _, step in steps[1:]:
        step()
    assert standing.sync().status is JobStatus.COMPLETED
    assert standing.differences() == []
    assert standing.sync().counts.fetched == 0


def test_what_happens_while_a_listing_runs_is_found_by_the_next_sync(standing: Standing) -> None:
    standing.stage.set_page_size(1)
    stage = standing.stage
    for number in range(4):
        stage.create(f"early {number}", standing.text("from the beginning"))
    vendor = stage.vendor
    if vendor is not None:
        late = iter(range(3))
        answer = vendor.answer

        def meanwhile(request):  # type: ignore[no-untyped-def]
            found = answer(request)
            number = next(late, None)
            if number is not None:
                stage.create(f"late {number}", standing.text("while it ran"))
            return found

        vendor.answer = meanwhile  # type: ignore[method-assign]
    standing.sync()
    standing.sync()
    assert standing.differences() == []


@pytest.mark.parametrize("standing", stages.having("expire_cursor"), indirect=True)
def test_an_expired_cursor_is_one_full_listing_that_finds_the_lost_deletions(standing: Standing) -> None:
    keys = [standing.stage.create(f"one {number}", standing.text("kept")) for number in range(4)]
    standing.sync()
    standing.stage.delete(keys[0])
    standing.stage.edit(keys[1], standing.text("edited in the gap"))
    standing.stage.expire_cursor()
    result = standing.sync()
    assert (result.status, result.counts.deleted, result.counts.fetched) == (JobStatus.COMPLETED, 1, 1)
    assert standing.differences() == []
    assert _progress(standing)["escalated"] is True
    standing.sync()
    assert "escalated" not in _progress(standing)
    assert _progress(standing).get("mode") in ("feed", None)


def test_a_real_emptying_waits_for_a_word_and_then_goes_or_stays(standing: Standing) -> None:
    keys = [standing.stage.create(f"one {number:02}", standing.text("will be gone")) for number in range(24)]
    standing.sync()
    before = standing.stage.truth()
    for key in keys:
        standing.stage.delete(key)
    held = standing.sync(job_type="full_sync")
    assert (held.status, held.counts.deleted) == (JobStatus.NEEDS_CONFIRMATION, 0)
    assert _live(standing) == len(before)
    confirmed = standing.sync(job_type="full_sync", confirm_deletes=True)
    assert (confirmed.status, confirmed.counts.deleted) == (JobStatus.COMPLETED, 24)
    assert standing.differences() == []


@pytest.mark.parametrize("standing", stages.having("move_out"), indirect=True)
def test_what_is_moved_out_of_the_scope_goes(standing: Standing) -> None:
    inside = standing.stage.create("inside", standing.text("inside"))
    standing.stage.create("stays", standing.text("stays"))
    standing.sync()
    standing.stage.move_out(inside)
    standing.sync()
    assert standing.differences() == []


@pytest.mark.parametrize("standing", stages.VENDORS, indirect=True)
def test_a_changed_scope_takes_what_entered_and_drops_what_left(standing: Standing) -> None:
    for name in ("one", "two"):
        standing.stage.create(name, standing.text("inside"))
    if "move_out" in standing.stage.operations:
        standing.stage.move_out(standing.stage.create("outside", standing.text("outside")))
    standing.sync()
    narrow, few = standing.connection, _live(standing)
    standing.connection = replace(narrow, config={"max_file_bytes": 10_000_000})  # and all that the account shows
    assert standing.sync().status is JobStatus.COMPLETED
    assert _progress(standing)["is_rescoped"] is True
    assert _live(standing) >= few + ("move_out" in standing.stage.operations)
    standing.connection = narrow
    result = standing.sync()
    assert (result.status, result.counts.fetched) == (JobStatus.COMPLETED, 0)
    assert standing.differences() == []
    standing.sync()
    assert _progress(standing)["mode"] == "feed"


@pytest.mark.parametrize("standing", stages.VENDORS, indirect=True)
def test_the_sources_calls_are_counted(standing: Standing) -> None:
    assert standing.stage.vendor is not None
    standing.stage.create("one", standing.text("one"))
    before = len(standing.stage.vendor.requests)
    result = standing.sync()
    assert result.status is JobStatus.COMPLETED
    with psycopg.connect(libpq_url(standing.admin_url)) as admin:
        row = admin.execute("SELECT sum(provider_calls) FROM app.sync_jobs").fetchone()
    assert row is not None
    assert row[0] == len(standing.stage.vendor.requests) - before


def test_checking_names_the_account_and_probing_notices_a_change(standing: Standing) -> None:
    standing.stage.create("one", standing.text("one"))
    standing.sync()
    source = standing.connection.open()
    try:
        account = source.check()
        assert account.external_account
        assert account.label
        assert not account.missing_scopes
        cursor = _cursor(standing)
        token = source.probe(None, cursor)
        assert source.probe(token, cursor) == token
        standing.stage.create("two", standing.text("two"))
        if source.delta is not Delta.WINDOW:
            assert source.probe(token, cursor) != token
    finally:
        source.close()


def test_a_source_declares_what_it_is(standing: Standing) -> None:
    kind = source_class(standing.stage.source_type)
    assert kind.source_type is standing.stage.source_type
    source = standing.connection.open()
    assert source.scope == standing.connection.open().scope
    source.close()
    source.close()
    with pytest.raises(InvalidRequestError, match="no_such_key"):
        replace(standing.connection, config={**standing.stage.config, "no_such_key": 1}).open()


def _progress(standing: Standing) -> dict[str, object]:
    with psycopg.connect(libpq_url(standing.admin_url)) as admin:
        row = admin.execute("SELECT progress_data FROM app.sync_jobs ORDER BY created_at DESC LIMIT 1").fetchone()
    assert row is not None
    found: dict[str, object] = row[0]
    return found


def _cursor(standing: Standing) -> dict[str, object] | None:
    with psycopg.connect(libpq_url(standing.admin_url)) as admin:
        row = admin.execute("SELECT cursor FROM app.data_sources").fetchone()
    assert row is not None
    found: dict[str, object] | None = row[0]
    return found


def _live(standing: Standing) -> int:
    with psycopg.connect(libpq_url(standing.admin_url)) as admin:
        row = admin.execute(
            "SELECT count(*) FROM app.sync_items WHERE sync_status = 'synced' AND parent_external_id IS NULL"
        ).fetchone()
    return int(row[0]) if row else -1
