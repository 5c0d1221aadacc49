"""The engine against Slack's meanest limit: one request a minute, fifteen messages each. Every pause is followed by progress."""

from __future__ import annotations

from tests.conftest import DatabaseUrls
from tests.fakes.slack import FakeSlack
from tests.sources import stages
from tests.sources.standing import Standing
from workstation_pipelines.model import JobStatus, SourceType


def test_a_job_that_may_ask_once_a_minute_pauses_and_goes_on_until_everything_is_there(
    database_urls: DatabaseUrls,
) -> None:
    stage = stages.stage_of(SourceType.SLACK)
    standing = Standing(stage, database_urls.app_url, database_urls.admin_url)
    vendor = stage.vendor
    assert isinstance(vendor, FakeSlack)
    vendor.restrict()
    for number in range(40):
        stage.create(f"message {number}", standing.text("said"))
    statuses = []
    for _ in range(12):
        before = len(vendor.requests)
        statuses.append(standing.sync().status)
        if statuses[-1] is JobStatus.COMPLETED:
            break
        assert statuses[-1] is JobStatus.PAUSED
        assert len(vendor.requests) - before <= 6, "it must not hammer while it is told to wait"
        vendor.later(minutes=1)
    assert statuses[-1] is JobStatus.COMPLETED
    assert statuses.count(JobStatus.PAUSED) >= 2
    assert standing.differences() == []
    stages.close(stage)
