"""Kill the process at every named point while any source is synced: the next sync mends it and finds nothing twice."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.conftest import DatabaseUrls
from tests.sources import stages
from tests.sources.standing import Standing
from workstation_pipelines.model import SourceType
from workstation_pipelines.sync.faults import POINTS

pytestmark = pytest.mark.crash


@pytest.fixture(params=stages.ALL)
def standing(request: pytest.FixtureRequest, database_urls: DatabaseUrls) -> Iterator[Standing]:
    stage = stages.stage_of(SourceType(request.param))
    yield Standing(stage, database_urls.app_url, database_urls.admin_url)
    stages.close(stage)


def test_a_kill_anywhere_is_mended_by_the_next_sync(standing: Standing) -> None:
    stage = standing.stage
    stage.set_page_size(2)
    keys = [stage.create(f"first {number}", standing.text("there from the start")) for number in range(5)]
    survived = []
    # Each source meets each point once; a delta and a full sync meet it at every second source.
    for number, point in enumerate(POINTS, start=stages.ALL.index(stage.source_type)):
        job_type = "full_sync" if number % 2 else "manual"
        stage.edit(keys[0], standing.text(f"edited before {point}"))
        stage.delete(keys.pop())
        keys += [stage.create(f"added {number} {letter}", standing.text(f"added before {point}")) for letter in "ab"]
        if not standing.connection.killed(f"{point}:1", job_type=job_type):
            survived.append(point)
        result = standing.sync(job_type=job_type)
        assert (point, result.status, standing.differences()) == (point, "completed", [])
        assert (point, standing.sync().counts.fetched) == (point, 0)
    # A feed names what it deletes, and what came along with a listing is not fetched.
    assert set(survived) <= {"deletes_before_commit", "deletes_committed", "item_fetched"}


def test_a_first_sync_killed_page_after_page_still_ends_with_everything(standing: Standing) -> None:
    standing.stage.set_page_size(1)
    for number in range(4):
        standing.stage.create(f"first {number}", standing.text("there from the start"))
    deaths = 0
    for _ in range(12):
        deaths += standing.connection.killed("page_committed:1")
    standing.sync()
    assert deaths > 0
    assert standing.differences() == []
    assert standing.sync().counts.fetched == 0
