"""Holds the plan of a sync against the sync: items, calls, tokens and time, for a folder and a fake Google Drive.

    python -m benchmarks.plan [--items 10000] [--only folder,drive] [--json]

Three syncs each: all is new; nothing changed; one in twenty was edited, and as many are new.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from benchmarks.server import private_server
from tests.sources import mixed
from tests.sources.google_drive_stage import GoogleDriveStage
from tests.sources.standing import ALICE, Connection, index_config, new_id
from workstation_pipelines.db.engine import Database
from workstation_pipelines.index.hashing import HashingEmbedder
from workstation_pipelines.model import JobType, SourceType
from workstation_pipelines.sync.plan import Plan, plan_sync
from workstation_pipelines.sync.run import SyncParts, SyncRequest, drive, run_sync
from workstation_pipelines.sync.sampling import Sampler
from workstation_pipelines.sync.vectorize import Vectorizer
from workstation_pipelines.text.extract import SandboxedExtractor, has_text

TOKEN_PRICE = Decimal("0.00000002")


@dataclass(frozen=True)
class Place:
    """Something to sync: `change` edits one in twenty and adds as many."""

    connection: Connection
    change: Callable[[], None]


def folder(root: Path, app_url: str, items: int) -> Place:
    mixed.fill_folder(root, items)

    def change() -> None:
        for number, file in enumerate(sorted(root.iterdir())):
            if number % 20 == 0 and file.suffix == ".txt":
                file.write_bytes(file.read_bytes() + b" An addendum of a few words.")
        for thing in mixed.things(items // 20, seed=8, with_documents=False):
            (root / f"new {thing.name}").write_bytes(thing.body)

    return Place(Connection(app_url, SourceType.LOCAL_FOLDER, {"path": str(root)}, {}), change)


def google_drive(app_url: str, items: int) -> Place:
    stage = GoogleDriveStage()
    stage.fake.is_checked = False  # tests hold every answer against the contract, which takes longer than answering
    parent = stage.state.add_folder("Mixed", stage.config["folders"][0])
    mixed.fill_drive(stage.state, parent, items)

    def change() -> None:
        texts = [each for each in stage.state.nodes.values() if each.mime_type == "text/plain"]
        for node in texts[::10]:
            stage.state.edit(node.id, node.content + b" An addendum of a few words.")
        for thing in mixed.things(items // 20, seed=8, with_documents=True):
            if thing.mime_type == mixed.DOCUMENT:
                stage.state.add_doc(thing.name, thing.body.decode(), parent)
            else:
                stage.state.add_file(thing.name, thing.body, parent, mime_type=thing.mime_type)

    return Place(Connection(app_url, SourceType.GOOGLE_DRIVE, stage.config, stage.urls()), change)


def compare(place: Place) -> dict[str, Any]:
    """Plan, sync, and say how the two differ."""
    database = Database(place.connection.app_url, pool_size=4)
    extractor = SandboxedExtractor()
    vectorizer = Vectorizer(mixed.CharacterSplitter(), HashingEmbedder(), index_config(database), TOKEN_PRICE)
    try:
        row = place.connection.row(database)
        source = place.connection.open()
        begun_s = time.perf_counter()
        sampler = Sampler(database, ALICE, extractor, vectorizer)
        plan = plan_sync(database, source, row, job_type=JobType.MANUAL, sampler=sampler, has_text=has_text)
        source.close()
        planned_s = time.perf_counter() - begun_s
        begun_s = time.perf_counter()
        parts = SyncParts(database, place.connection.open(), extractor, vectorizer, new_id)
        counts = drive(run_sync(parts, row, SyncRequest())).counts
        took_s = time.perf_counter() - begun_s
        with database.transaction_with_rls(ALICE) as connection:
            billed = connection.exec_driver_sql(
                "SELECT coalesce(sum(quantity), 0) FROM app.billing_records WHERE user_id = %s AND job_id = ("
                "SELECT id FROM app.sync_jobs WHERE user_id = %s ORDER BY id DESC LIMIT 1)",
                (ALICE, ALICE),
            ).scalar_one()
        calls = connection_calls(database)
    finally:
        extractor.close()
        database.close()
    return _figures(plan, counts, int(billed), calls) | {"plan_s": round(planned_s, 2), "sync_s": round(took_s, 2)}


def connection_calls(database: Database) -> int:
    with database.transaction_with_rls(ALICE) as connection:
        return int(
            connection.exec_driver_sql(
                "SELECT provider_calls FROM app.sync_jobs WHERE user_id = %s ORDER BY id DESC LIMIT 1", (ALICE,)
            ).scalar_one()
        )


def _figures(plan: Plan, counts: Any, billed: int, calls: int) -> dict[str, Any]:
    taken = plan.estimate
    assert taken is not None
    return {
        "adds": [plan.adds, counts.created],
        "updates": [plan.updates + plan.renames, counts.updated],
        "deletes": [plan.deletes, counts.deleted],
        "skips": [plan.skips, counts.skipped + counts.failed],
        "calls": [taken.provider_calls, calls, _ratio(taken.provider_calls, calls)],
        "tokens": [taken.tokens, counts.embedding_tokens, _ratio(taken.tokens, counts.embedding_tokens)],
        "billed": billed,
        "bytes": [taken.bytes_to_fetch, counts.bytes_fetched, _ratio(taken.bytes_to_fetch, counts.bytes_fetched)],
        "expected_s": round(taken.duration_s, 1),
        "paced_by": taken.paced_by,
        "sampled": taken.sampled_items,
    }


def _ratio(planned: int, done: int) -> float:
    return round(planned / done, 3) if done else float(planned == 0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--items", type=int, default=10_000)
    parser.add_argument("--only", default="folder,drive")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ws-bench-") as work, private_server(Path(work)) as server:
        server.migrate_template()
        for name in asked.only.split(","):
            with server.engine_database(f"bench_plan_{name}") as url:
                app_url = url.replace("postgres@", "wp_app@", 1)
                is_folder = name == "folder"
                place = (
                    folder(Path(work) / "mixed", app_url, asked.items)
                    if is_folder
                    else google_drive(app_url, asked.items)
                )
                for phase in ("initial", "unchanged", "delta"):
                    if phase == "delta":
                        place.change()
                    figures = {"place": name, "phase": phase, **compare(place)}
                    if asked.json:
                        print(json.dumps(figures), flush=True)
                    else:
                        print("  ".join(f"{key} {value}" for key, value in figures.items()), flush=True)


if __name__ == "__main__":
    main()
