"""Random lives of every source: whatever happens, in whatever order, a sync or two later all is as at the source."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.conftest import DatabaseUrls
from tests.sources import stages
from tests.sources.lives import live
from tests.sources.standing import Standing
from workstation_pipelines.model import SourceType

SEEDS = (1, 2)
SYNCS = 4


@pytest.fixture(autouse=True)
def _without_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "sleep", lambda _wait_s: None)


@pytest.fixture(params=stages.ALL)
def standing(request: pytest.FixtureRequest, database_urls: DatabaseUrls) -> Iterator[Standing]:
    """Each source in its turn, connected to an account with nothing in it."""
    stage = stages.stage_of(SourceType(request.param))
    yield Standing(stage, database_urls.app_url, database_urls.admin_url)
    stages.close(stage)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_random_life_is_told_to_its_end(standing: Standing, seed: int) -> None:
    live(standing, seed, syncs=SYNCS)
