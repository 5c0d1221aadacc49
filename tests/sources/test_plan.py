"""A plan against the sync that follows it, where kinds and sizes are mixed."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import pytest

from tests.conftest import DatabaseUrls
from tests.sources import mixed
from tests.sources.google_drive_stage import GoogleDriveStage
from tests.sources.standing import ALICE, Connection, index_config, new_id
from workstation_pipelines.db import metering
from workstation_pipelines.db.engine import Database
from workstation_pipelines.index.hashing import HashingEmbedder
from workstation_pipelines.model import Counts, JobType, SourceType
from workstation_pipelines.sync.plan import Plan, plan_sync
from workstation_pipelines.sync.run import SyncParts, SyncRequest, drive, run_sync
from workstation_pipelines.sync.sampling import Sampler
from workstation_pipelines.sync.vectorize import Vectorizer
from workstation_pipelines.text.extract import SandboxedExtractor, has_text

ITEMS = 400
TOKEN_PRICE = Decimal("0.00000002")


@dataclass
class Planned:
    """One connected source with everything to plan and sync it."""

    connection: Connection
    database: Database
    extractor: SandboxedExtractor

    def plan(self, *, most_items: int = 24) -> Plan:
        source = self.connection.open()
        sampler = Sampler(self.database, ALICE, self.extractor, self._vectorizer(), most_items=most_items)
        row = self.connection.row(self.database)
        try:
            return plan_sync(self.database, source, row, job_type=JobType.MANUAL, sampler=sampler, has_text=has_text)
        finally:
            source.close()

    def sync(self) -> Counts:
        parts = SyncParts(self.database, self.connection.open(), self.extractor, self._vectorizer(), new_id)
        return drive(run_sync(parts, self.connection.row(self.database), SyncRequest())).counts

    def spent(self) -> tuple[int, Decimal]:
        with self.database.transaction_with_rls(ALICE) as connection:
            (row,) = metering.total(connection, user_id=ALICE)
        return row.quantity, row.cost_usd

    def _vectorizer(self) -> Vectorizer:
        config = index_config(self.database)
        return Vectorizer(mixed.CharacterSplitter(), HashingEmbedder(), config, TOKEN_PRICE)


def within_a_tenth(planned: float, done: float) -> bool:
    return abs(planned - done) <= done / 10


def test_a_plan_says_what_the_sync_then_does_and_takes(database_urls: DatabaseUrls, tmp_path: Path) -> None:
    stage = GoogleDriveStage()
    stage.fake.is_checked = False  # other tests hold every answer against the contract
    parent = stage.state.add_folder("Mixed", stage.config["folders"][0])
    mixed.fill_drive(stage.state, parent, ITEMS)
    mixed.fill_folder(tmp_path / "mixed", ITEMS // 2)
    database, extractor = Database(database_urls.app_url, pool_size=4), SandboxedExtractor()
    drive_place = Connection(database_urls.app_url, SourceType.GOOGLE_DRIVE, stage.config, stage.urls())
    folder = Connection(database_urls.app_url, SourceType.LOCAL_FOLDER, {"path": str(tmp_path / "mixed")}, {})
    try:
        for place in (Planned(drive_place, database, extractor), Planned(folder, database, extractor)):
            _agrees(place)
        _edit(stage)
        edited = Planned(drive_place, database, extractor)
        first, _ = edited.spent()
        plan, counts = edited.plan(), edited.sync()
        assert (plan.updates, plan.deletes, plan.adds) == (counts.updated, counts.deleted, counts.created)
        assert counts.updated > 15
        assert plan.estimate is not None
        assert within_a_tenth(plan.estimate.tokens, edited.spent()[0] - first)
    finally:
        extractor.close()
        database.close()
        stage.fake.close()


def _agrees(place: Planned) -> None:
    tokens_before, cost_before = _spent_or_nothing(place)
    unsampled = place.plan(most_items=0)
    plan, again = place.plan(), place.plan()
    assert (plan.adds, plan.skips, plan.estimate and plan.estimate.tokens) == (
        again.adds,
        again.skips,
        again.estimate and again.estimate.tokens,
    )
    counts = place.sync()
    assert (plan.adds, plan.updates, plan.deletes) == (counts.created, counts.updated, counts.deleted)
    assert (plan.skips, plan.unchanged) == (counts.skipped, counts.unchanged)
    assert plan.estimate is not None
    assert unsampled.estimate is not None
    tokens, cost = place.spent()
    assert tokens - tokens_before == counts.embedding_tokens
    assert within_a_tenth(plan.estimate.tokens, counts.embedding_tokens)
    assert plan.estimate.cost_usd is not None
    assert within_a_tenth(float(plan.estimate.cost_usd), float(cost - cost_before))
    assert within_a_tenth(plan.estimate.bytes_to_fetch, counts.bytes_fetched)
    assert within_a_tenth(plan.estimate.provider_calls, counts.provider_calls)
    assert plan.estimate.sampled_items + plan.estimate.items_by_stored_ratio > 0
    assert plan.estimate.sampled_items <= 24
    assert unsampled.estimate.unknown_items + unsampled.estimate.items_by_stored_ratio == plan.adds
    assert unsampled.estimate.sampled_items == 0


def _spent_or_nothing(place: Planned) -> tuple[int, Decimal]:
    try:
        return place.spent()
    except ValueError:
        return 0, Decimal(0)


def _edit(stage: GoogleDriveStage) -> None:
    texts = [node for node in stage.state.nodes.values() if node.mime_type == "text/plain"]
    for node in texts[::6]:
        stage.state.edit(node.id, node.content + b" An addendum of a few words.")
    for node in texts[1:40:8]:
        stage.state.delete(node.id)


@pytest.mark.parametrize("source_type", ["gmail", "notion", "slack", "dropbox", "onedrive"])
def test_calls_of_a_plan_are_those_of_the_sync(source_type: str, database_urls: DatabaseUrls) -> None:
    from tests.sources import stages

    stage = stages.stage_of(SourceType(source_type))
    for number in range(30):
        stage.create(f"item {number:02}", f"text {number} " + "of a few words " * (number % 7 + 1))
    database, extractor = Database(database_urls.app_url, pool_size=4), SandboxedExtractor()
    try:
        connection = Connection(database_urls.app_url, stage.source_type, stage.config, stage.urls())
        place = Planned(connection, database, extractor)
        plan, counts = place.plan(), place.sync()
        assert (plan.adds, plan.skips) == (counts.created, counts.skipped)
        assert counts.created >= 30
        assert plan.estimate is not None
        assert within_a_tenth(plan.estimate.provider_calls, counts.provider_calls)
        assert within_a_tenth(plan.estimate.tokens, counts.embedding_tokens)
    finally:
        extractor.close()
        database.close()
        assert stage.vendor is not None
        stage.vendor.close()
