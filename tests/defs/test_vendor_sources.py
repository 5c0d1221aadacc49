"""Each source at a vendor in Dagster, with sealed credentials: job, probe, and not a trace of a token anywhere."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import dagster as dg
import psycopg
import pytest
from psycopg import sql
from pydantic import SecretStr

from tests.conftest import DatabaseUrls
from tests.defs.place import ALICE, _Opened
from tests.fakes.server import Answer
from tests.sources import stages
from tests.sources.stage import Stage
from workstation_pipelines.db import credentials, data_sources
from workstation_pipelines.db.data_sources import DataSource
from workstation_pipelines.db.engine import Database
from workstation_pipelines.defs import partitions, probing
from workstation_pipelines.defs.location import sync_definitions
from workstation_pipelines.identity import utc_now
from workstation_pipelines.model import DataSourceId, SourceType
from workstation_pipelines.settings import Settings, libpq_url
from workstation_pipelines.settings import Vendor as VendorSettings
from workstation_pipelines.sources.credentials import StaticToken
from workstation_pipelines.sources.sealing import new_key
from workstation_pipelines.sync.credentials import Vault
from workstation_pipelines.sync.workspace import Workspace


class Vendor:
    """A data source of Alice's at a fake vendor, whose token is a canary."""

    def __init__(self, source_type: SourceType, settings: Settings, urls: DatabaseUrls, folder: Path) -> None:
        self.stage: Stage = stages.stage_of(source_type)
        self.folder = folder
        self.admin_url = urls.admin_url
        vendor = self.stage.vendor
        assert vendor is not None
        self.vendor = vendor
        self.token = f"canary-{uuid4().hex}"
        vendor.tokens = {self.token: next(iter(vendor.tokens.values()))}
        places = VendorSettings(**{f"{name}_url": url for name, url in self.stage.urls().items()})
        keys = SecretStr(new_key("k1"))
        self.settings = settings.model_copy(update={source_type.value: places, "token_keys": keys})
        self.workspace = Workspace(self.settings, Database(self.settings.database_url or ""))
        self.source = self._connected(source_type)

    def _connected(self, source_type: SourceType) -> DataSource:
        vault = Vault(self.workspace.database, self.settings, utc_now)
        with self.workspace.database.transaction_with_rls(ALICE) as connection:
            source = data_sources.add(
                connection,
                user_id=ALICE,
                data_source_id=DataSourceId(uuid4()),
                name=source_type.value,
                source_type=source_type,
                config=dict(self.stage.config),
            )
            record = vault.seal(StaticToken(self.token), user_id=ALICE, data_source_id=source.id)
            credentials.connect(
                connection, user_id=ALICE, data_source_id=source.id, record=record, external_account="acc"
            )
        return source

    def kept(self, folder: Path) -> list[str]:
        """Where the token stands in clear: rows of any table of ours, and files."""
        found = []
        with psycopg.connect(libpq_url(self.admin_url)) as admin:
            tables = admin.execute(
                "SELECT schemaname, tablename FROM pg_tables WHERE schemaname IN ('app', 'app_private', 'public')"
            ).fetchall()
            for schema, table in tables:
                every = sql.SQL("SELECT t::text FROM {} t").format(sql.Identifier(schema, table))
                rows = admin.execute(every).fetchall()
                found += [table for (row,) in rows if self.token in row]
        for place, _, files in os.walk(folder):
            found += [name for name in files if self.token.encode() in (Path(place) / name).read_bytes()]
        return found


@pytest.fixture(params=stages.VENDORS)
def vendor(
    request: pytest.FixtureRequest, settings: Settings, database_urls: DatabaseUrls, quick_folder: Path
) -> Iterator[Vendor]:
    vendor = Vendor(SourceType(request.param), settings, database_urls, quick_folder)
    yield vendor
    vendor.workspace.close()
    stages.close(vendor.stage)


def test_every_source_has_assets_partitions_a_sensor_and_a_schedule(vendor: Vendor) -> None:
    definitions = sync_definitions(dg.ResourceDefinition.hardcoded_resource(_Opened(vendor.workspace)))
    repository = definitions.get_repository_def()
    name = vendor.source.source_type.value
    repository.get_sensor_def(f"{name}_delta_sensor")
    repository.get_schedule_def(f"{name}_sync_schedule")
    for stage in ("items", "documents", "embeddings"):
        assert repository.asset_graph.has(dg.AssetKey([name, stage]))


def _let_it_go_on(vendor: Vendor) -> None:
    """As if the ten minutes that the vendor asked for had passed."""
    with psycopg.connect(libpq_url(vendor.admin_url)) as admin:
        admin.execute("UPDATE app.sync_jobs SET not_before = NULL")
        admin.execute("DELETE FROM app_private.rate_buckets")


def _statuses(vendor: Vendor) -> list[str]:
    rows = vendor.workspace.database.query_with_rls(ALICE, "SELECT status FROM app.sync_jobs ORDER BY created_at")
    return [row[0] for row in rows]


def test_a_vendor_is_synced_and_probed_by_dagster_and_its_token_shows_nowhere(
    vendor: Vendor, tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    source_type = vendor.source.source_type
    definitions = sync_definitions(dg.ResourceDefinition.hardcoded_resource(_Opened(vendor.workspace)))
    job = definitions.resolve_job_def(f"{source_type.value}_sync")
    home = tmp_path / "dagster"
    home.mkdir()
    with dg.DagsterInstance.local_temp(str(home)) as instance:
        partitions.register_partition(instance, source_type, vendor.source.id)

        def run() -> bool:
            return job.execute_in_process(
                instance=instance, partition_key=str(vendor.source.id), raise_on_error=False
            ).success

        def wanted() -> list[str]:
            found = probing.wishes(vendor.workspace, instance, source_type, clock=utc_now, monotonic=lambda: 0.0)
            return [str(wish.data_source_id) for wish in found]

        vendor.stage.create("one", "words of one")
        assert run()
        before = len(vendor.vendor.requests)
        wanted()
        # Gmail and others may have to ask for names first; a listing it must not be.
        assert len(vendor.vendor.requests) - before <= 2
        vendor.stage.create("two", "words of two")
        assert run()
        # What an error says may reach logs and Dagster's storage; these quote the token back at us.
        echo = {"error": f"bad token {vendor.token}", "message": vendor.token, "error_summary": vendor.token}
        vendor.vendor.fail("", answer=Answer.of(echo, 429, {"Retry-After": "600"}), times=1000)
        run()
        assert _statuses(vendor)[-1] == "paused"
        vendor.vendor.faults.clear()
        page = f"<html><form>{vendor.token}</form></html>".encode()
        vendor.vendor.fail("", answer=Answer(200, page, {"Content-Type": "text/html"}), times=1000)
        wanted()
        vendor.vendor.faults.clear()
        _let_it_go_on(vendor)
        vendor.vendor.tokens.clear()
        assert not run()
        printed = "".join(capfd.readouterr()) + caplog.text
        assert vendor.token not in printed
    assert vendor.kept(tmp_path) == []
    rows = vendor.workspace.database.query_with_rls(
        ALICE, "SELECT needs_reauth, connection_status, auth_data IS NOT NULL FROM app.data_sources"
    )
    assert [tuple(row) for row in rows] == [(True, "error", True)]
