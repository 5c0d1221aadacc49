"""How many requests a sync may make: one for each item that is fetched, and a few to list. Time is no part of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.conftest import DatabaseUrls
from tests.sources import stages
from tests.sources.standing import Standing
from workstation_pipelines.model import SourceType

ITEMS = 20

MOST_CALLS = {
    # beside one for each item: a first listing that fits on one page, a sync without news, a sync of one edited item
    "dropbox": (2, 2, 2),
    "gmail": (5, 2, 2),
    "google_drive": (7, 1, 1),
    "notion": (5, 3, 3),
    "onedrive": (2, 1, 1),
    "slack": (4, 5, 5),  # its messages come with their listing, and there is no feed: the last weeks are listed again
}
FETCHES_NOTHING = ("slack",)


@pytest.fixture(params=sorted(MOST_CALLS))
def standing(request: pytest.FixtureRequest, database_urls: DatabaseUrls) -> Iterator[Standing]:
    stage = stages.stage_of(SourceType(request.param))
    yield Standing(stage, database_urls.app_url, database_urls.admin_url)
    stages.close(stage)


def calls_of(standing: Standing) -> int:
    vendor = standing.stage.vendor
    assert vendor is not None
    before = len(vendor.requests)
    result = standing.sync()
    made = len(vendor.requests) - before
    assert result.counts.provider_calls == made
    return made


def test_calls_are_a_few_to_list_and_one_for_each_item(standing: Standing) -> None:
    first, unchanged, edited = MOST_CALLS[standing.stage.source_type]
    fetch = 0 if standing.stage.source_type in FETCHES_NOTHING else 1
    keys = [standing.stage.create(f"item {number:02}", standing.text("words")) for number in range(ITEMS)]
    calls = [calls_of(standing), calls_of(standing)]
    standing.stage.edit(keys[3], standing.text("edited"))
    calls.append(calls_of(standing))
    assert calls == [first + ITEMS * fetch, unchanged, edited + fetch]
