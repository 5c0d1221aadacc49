"""Blocks that work on the user's own documents and sources, on the system as it is put together for real."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from tests.conftest import DatabaseUrls, fresh_database
from tests.pure.block_calls import call_of
from workstation_pipelines.db import data_sources, job_control
from workstation_pipelines.db.data_sources import DataSource
from workstation_pipelines.errors import CancelledError, InvalidRequestError, NotFoundError
from workstation_pipelines.identity import utc_now
from workstation_pipelines.model import DataSourceId, JobStatus, SourceType, SyncJobId, Usage, UserId
from workstation_pipelines.settings import Settings
from workstation_pipelines.sync.run import SyncRequest, drive
from workstation_pipelines.sync.workspace import Workspace
from workstation_pipelines.workflow_model import BlockResult, Wait, WaitKind
from workstation_pipelines.workflows.blocks import BLOCKS
from workstation_pipelines.workflows.blocks.contract import BlockConfig, BlockType


@pytest.fixture(scope="module")
def workspace(
    tmp_path_factory: pytest.TempPathFactory, postgres: DatabaseUrls, template_database: str
) -> Iterator[Workspace]:
    """Shared by the tests of this module, each of which has users of its own."""
    with fresh_database(postgres, template_database) as urls:
        home = tmp_path_factory.mktemp("home")
        settings = Settings(
            WORKSTATION_HOME=home,
            DATABASE_URL=urls.app_url,
            WORKSTATION_FOLDER_ROOTS=str(home.parent),
            WORKSTATION_EMBEDDER="hashing",
        )
        with Workspace.open(settings) as workspace:
            yield workspace


class Actor:
    """A user whose blocks are called. The same `key` is the same node of the same execution."""

    def __init__(self, workspace: Workspace, folder: Path) -> None:
        self.workspace = workspace
        self.user_id = UserId(f"user-{uuid4()}")
        self.folder = folder
        self.execution_id = uuid4()

    def call(self, block: str, config: dict[str, Any], **given: Any) -> BlockResult | Wait:
        given = {"now": utc_now(), "key": f"{self.execution_id}:{block}", **given}
        made = call_of(
            block, config, workspace=self.workspace, user=self.user_id, execution_id=self.execution_id, **given
        )
        return BLOCKS[block].run(made)

    def run(self, block: str, config: dict[str, Any], **given: Any) -> Any:
        outcome = self.call(block, config, **given)
        return outcome if isinstance(outcome, Wait) else outcome.output

    def save(self, *texts: str, **config: Any) -> Any:
        documents = [{"title": text.partition(" ")[0], "text": text} for text in texts]
        return self.run("save_documents", {"documents": documents, **config}, key=str(uuid4()))["document_ids"]

    def source(self, name: str, **files: str) -> DataSource:
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        for file, text in files.items():
            (folder / f"{file}.md").write_text(text)
        with self.workspace.database.transaction_with_rls(self.user_id) as connection:
            return data_sources.add(
                connection, user_id=self.user_id, data_source_id=DataSourceId(uuid4()), name=name,
                source_type=SourceType.LOCAL_FOLDER, config={"path": str(folder)},
            )  # fmt: skip

    def sync(self, source: DataSource, job_id: UUID | None = None, **request: Any) -> JobStatus:
        named = SyncJobId(job_id) if job_id is not None else None
        now = self.workspace.named_source(self.user_id, source.name)
        return drive(self.workspace.sync(now, SyncRequest(job_id=named, **request))).status

    def ask(self, statement: str) -> list[tuple[Any, ...]]:
        return [tuple(row) for row in self.workspace.database.query_with_rls(self.user_id, statement)]

    def mark(self, job_id: UUID, status: str) -> None:
        """Say that some process has brought a job there."""
        is_over = status in ("failed", "cancelled", "needs_confirmation")
        self.workspace.database.query_with_rls(
            self.user_id,
            "UPDATE app.sync_jobs SET status = :status, started_at = now(), completed_at = CASE WHEN :over THEN now() END"
            " WHERE id = :id",
            {"status": status, "over": is_over, "id": job_id},
        )


@pytest.fixture
def alice(workspace: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Actor:
    return Actor(workspace, tmp_path_factory.mktemp("alice"))


@pytest.fixture
def bob(workspace: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Actor:
    return Actor(workspace, tmp_path_factory.mktemp("bob"))


def titles(found: Any) -> list[str]:
    return sorted(hit["title"] for hit in found["hits"])


def test_search_finds_by_words_within_every_filter_and_tells_where_from(alice: Actor) -> None:
    source = alice.source("notes", gammon="# Gammon\n\nThe falcon flies at dawn.")
    alice.sync(source)
    alice.save("plans of the falcon", project="Zoo", tags=["bird"])
    alice.save("notes on a falcon")
    found = alice.run("search_documents", {"query": "falcon"})
    assert titles(found) == ["Gammon", "notes", "plans"]
    assert (found["count"], found["mode"], found["notice"]) == (3, "hybrid", "")
    hit = next(hit for hit in found["hits"] if hit["title"] == "Gammon")
    assert (hit["source"], hit["source_type"], hit["path"]) == ("notes", "local_folder", "gammon.md")
    assert "falcon flies" in hit["text"]
    assert 0 < hit["score"] <= 1
    assert UUID(hit["document_id"]).version == 7
    assert datetime.fromisoformat(hit["modified_at"]).tzinfo is not None
    for filters, expected in (
        ({"projects": ["Zoo"]}, ["plans"]),
        ({"tags": ["bird"]}, ["plans"]),
        ({"sources": ["notes"]}, ["Gammon"]),
        ({"sources": [str(source.id)]}, ["Gammon"]),
        ({"source_types": ["local_folder"]}, ["Gammon"]),
        ({"source_types": ["slack"]}, []),
        ({"mime_types": ["text/markdown"]}, ["Gammon", "notes", "plans"]),
        ({"mime_types": []}, []),
        ({"modified_before": "2020-01-01"}, []),
        ({"modified_from": "2020-01-01"}, ["Gammon", "notes", "plans"]),
        ({"modified_within_days": 0.5}, ["Gammon", "notes", "plans"]),
        ({"modified_within_days": 1e-6}, []),
        ({"limit": 1, "tags": ["bird"]}, ["plans"]),
    ):
        assert titles(alice.run("search_documents", {"query": "falcon", **filters})) == expected, filters
    assert alice.run("search_documents", {"query": '"falcon sleeps"'})["hits"] == []
    assert len(alice.run("search_documents", {"query": "falcon", "limit": 2})["hits"]) == 2
    with pytest.raises(InvalidRequestError):
        alice.run("search_documents", {"query": "  "})


def test_a_block_never_finds_what_is_another_users(alice: Actor, bob: Actor) -> None:
    source = alice.source("secrets", plan="The falcon flies at dawn.")
    alice.sync(source)
    alice.save("falcon", project="Secret")
    assert bob.run("search_documents", {"query": "falcon"})["hits"] == []
    for block, field, config in (
        ("search_documents", "sources", {"query": "falcon"}),
        ("search_documents", "projects", {"query": "falcon"}),
        ("sync_source", "source", {}),
        ("require_fresh", "sources", {"within_minutes": 5}),
    ):
        for name in ("Secret", str(uuid4())) if field == "projects" else ("secrets", str(source.id), "nothing"):
            with pytest.raises(NotFoundError, match=f"no (data source|project) named '{name}'"):
                bob.run(block, {**config, field: name if field == "source" else [name]})
    assert bob.run("require_fresh", {"within_minutes": 5}) == {"fresh": True, "sources": []}
    wait = Wait(WaitKind.SYNC, sync_job_id=alice.ask("SELECT id FROM app.sync_jobs")[0][0])
    with pytest.raises(NotFoundError):
        bob.run("sync_source", {"source": "secrets"}, wait=wait)
    bob.run("save_documents", {"documents": [{"title": "x", "text": "of bob", "key": "k", "project": "Secret"}]})
    alice.run("save_documents", {"documents": [{"title": "x", "text": "of alice", "key": "k"}]})
    assert bob.ask("SELECT text FROM app.documents") == [("of bob",)]
    assert bob.ask("SELECT count(*) FROM app.projects") == [(1,)]


def test_documents_are_saved_once_by_node_and_attempt_and_found(alice: Actor) -> None:
    config = {
        "documents": [
            {"title": "Digest", "text": "# News\n\nThe heron has landed.", "tags": ["weekly"], "key": "digest"},
            {"title": "Notes", "text": "Herons stand still.", "mime_type": "text/plain", "project": "Other"},
        ],
        "project": "Birds",
        "tags": ["heron"],
    }
    first = alice.call("save_documents", config)
    assert isinstance(first, BlockResult)
    assert [(each["title"], each["outcome"]) for each in first.output["documents"]] == [
        ("Digest", "created"), ("Notes", "created"),
    ]  # fmt: skip
    assert first.usages == ()
    bill = "SELECT job_id, step, sum(quantity) FROM app.billing_records GROUP BY 1, 2"
    [billed] = alice.ask(bill)
    assert billed[:2] == (alice.execution_id, "embed")
    assert billed[2] > 0
    again = alice.call("save_documents", config)
    assert isinstance(again, BlockResult)
    assert [each["outcome"] for each in again.output["documents"]] == ["unchanged", "unchanged"]
    assert again.output["document_ids"] == first.output["document_ids"]
    assert alice.ask(bill) == [billed]
    found = "SELECT title, project_name, tags FROM app.documents_with_metadata ORDER BY title"
    assert alice.ask(found) == [("Digest", "Birds", ["heron", "weekly"]), ("Notes", "Other", ["heron"])]
    alice.execution_id = uuid4()
    third = alice.run("save_documents", config)
    assert [each["outcome"] for each in third["documents"]] == ["unchanged", "created"]
    assert titles(alice.run("search_documents", {"query": "herons", "projects": ["Birds"]})) == ["Digest"]
    assert alice.run("save_documents", {"documents": []})["document_ids"] == []
    twins = {"documents": [{"title": "a", "text": "b", "key": "k"}, {"title": "c", "text": "d", "key": "k"}]}
    with pytest.raises(InvalidRequestError, match="same `key`"):
        alice.run("save_documents", twins)
    assert alice.ask("SELECT count(*) FROM app.documents") == [(3,)]


def test_a_sync_is_asked_for_once_and_waited_for(alice: Actor) -> None:
    source = alice.source("notes", a="one", b="two")
    config = {"source": "notes", "max_wait_minutes": 30}
    began = utc_now()
    wait = alice.run("sync_source", config, now=began)
    assert (wait.kind, wait.until, wait.message) == (
        WaitKind.SYNC, began + timedelta(minutes=30), "waits for the sync of notes",
    )  # fmt: skip
    assert alice.run("sync_source", config).sync_job_id == wait.sync_job_id
    assert alice.ask("SELECT id, status FROM app.sync_jobs") == [(wait.sync_job_id, "pending")]
    assert alice.run("sync_source", config, wait=wait, now=began + timedelta(minutes=29)) == wait
    alice.sync(source, wait.sync_job_id)
    for given in ({"wait": wait}, {}):
        assert alice.run("sync_source", config, **given) == {
            "source": "notes", "source_id": str(source.id), "sync_job_id": str(wait.sync_job_id), "status": "completed",
            "found": 2, "created": 2, "updated": 0, "unchanged": 0, "skipped": 0, "deleted": 0, "failed": 0,
        }  # fmt: skip
    assert len(alice.ask("SELECT id FROM app.sync_jobs")) == 1


def test_a_sync_that_waits_or_runs_already_is_joined_for_good(alice: Actor) -> None:
    alice.source("notes", a="one")
    first = alice.run("sync_source", {"source": "notes"}, key="one")
    second = alice.run("sync_source", {"source": "notes"}, key="two")
    assert second.sync_job_id == first.sync_job_id
    alice.mark(first.sync_job_id, "running")
    third = alice.run("sync_source", {"source": "notes"}, key="three")
    assert third.sync_job_id == first.sync_job_id
    full = alice.run("sync_source", {"source": "notes", "full": True}, key="four")
    assert full.sync_job_id != first.sync_job_id
    alice.mark(first.sync_job_id, "failed")
    with pytest.raises(InvalidRequestError, match=f"{first.sync_job_id} of notes failed"):
        alice.run("sync_source", {"source": "notes"}, key="three")
    assert alice.run("sync_source", {"source": "notes"}, key="five").sync_job_id == full.sync_job_id
    with alice.workspace.database.transaction_with_rls(alice.user_id) as connection:
        job_control.request_cancel(connection, user_id=alice.user_id, job_id=full.sync_job_id)
    with pytest.raises(InvalidRequestError, match="was cancelled"):
        alice.run("sync_source", {"source": "notes"}, wait=full)


@pytest.mark.parametrize(
    ("status", "told"),
    [
        ("failed", "failed: `workstation jobs show"),
        ("needs_confirmation", "holds back deletions: answer with `workstation jobs confirm"),
    ],
)
def test_a_sync_that_does_not_end_well_is_an_error_until_another_has_done_it(
    alice: Actor, status: str, told: str
) -> None:
    source = alice.source("notes", a="one")
    wait = alice.run("sync_source", {"source": "notes"})
    alice.mark(wait.sync_job_id, status)
    with pytest.raises(InvalidRequestError, match=told) as failed:
        alice.run("sync_source", {"source": "notes"}, wait=wait)
    assert str(wait.sync_job_id) in failed.value.message
    assert alice.sync(source) is JobStatus.COMPLETED
    assert alice.run("sync_source", {"source": "notes"}, wait=wait)["status"] == "completed"


def test_a_sync_is_not_waited_for_without_end(alice: Actor) -> None:
    alice.source("notes", a="one")
    wait = alice.run("sync_source", {"source": "notes"})
    ended = replace(wait, decision={"status": "pending"})
    for status, told in (("pending", "still pending"), ("paused", "paused for too long")):
        alice.mark(wait.sync_job_id, status)
        assert alice.run("sync_source", {"source": "notes"}, wait=wait) == wait
        for given in ({"wait": ended}, {"wait": wait, "now": wait.until}):
            with pytest.raises(InvalidRequestError, match=told):
                alice.run("sync_source", {"source": "notes"}, **given)
    alice.workspace.database.query_with_rls(alice.user_id, "UPDATE app.data_sources SET is_active = false")
    with pytest.raises(InvalidRequestError, match="notes is inactive"):
        alice.run("sync_source", {"source": "notes"}, key="another")


def test_sources_are_made_fresh_before_it_goes_on(alice: Actor) -> None:
    stale, fresh = alice.source("stale", a="one"), alice.source("fresh", b="two")
    other = alice.source("other", c="three")
    alice.sync(fresh)
    began = utc_now()
    config = {"within_minutes": 10, "max_wait_minutes": 30}
    wait = alice.run("require_fresh", config, now=began)
    assert (wait.kind, wait.until) == (WaitKind.SYNC, began + timedelta(minutes=30))
    jobs = dict(alice.ask("SELECT data_source_id, id FROM app.sync_jobs WHERE status = 'pending'"))
    assert jobs.keys() == {stale.id, other.id}
    assert alice.run("require_fresh", config, now=began) == wait
    alice.sync(stale, jobs[stale.id])
    if wait.sync_job_id == jobs[stale.id]:
        wait = alice.run("require_fresh", config, wait=wait)
    assert (wait.sync_job_id, wait.until) == (jobs[other.id], began + timedelta(minutes=30))
    alice.sync(other, jobs[other.id])
    found = alice.run("require_fresh", config, wait=wait)
    assert found["fresh"]
    assert [(each["source"], each["is_fresh"], each["problem"]) for each in found["sources"]] == [
        ("fresh", True, ""), ("other", True, ""), ("stale", True, ""),
    ]  # fmt: skip
    # What was fresh when it was first called stays so while it waits for others.
    late = replace(wait, until=began + timedelta(minutes=30))
    assert alice.run("require_fresh", config, wait=late, now=began + timedelta(minutes=29))["fresh"]
    assert len(alice.ask("SELECT id FROM app.sync_jobs")) == 3
    assert alice.run("require_fresh", {"sources": ["fresh", str(fresh.id)], "after": began.isoformat()}).sync_job_id
    assert alice.run("require_fresh", {"source_types": ["slack"], "within_minutes": 1})["sources"] == []
    with pytest.raises(InvalidRequestError, match="yet to come"):
        alice.run("require_fresh", {"after": (began + timedelta(hours=1)).isoformat()})


def test_what_stays_stale_is_the_end_or_told(alice: Actor) -> None:
    broken, off = alice.source("broken", a="one"), alice.source("off", b="two")
    config = {"sources": ["broken", "off"], "within_minutes": 60}
    wait = alice.run("require_fresh", config)
    alice.workspace.database.query_with_rls(
        alice.user_id, "UPDATE app.data_sources SET is_active = false WHERE id = :id", {"id": off.id}
    )
    alice.mark(dict(alice.ask("SELECT data_source_id, id FROM app.sync_jobs"))[broken.id], "failed")
    with pytest.raises(InvalidRequestError, match=r"not fresh: sync job .* of broken failed.*; off is inactive"):
        alice.run("require_fresh", config, wait=wait)
    found = alice.run("require_fresh", {**config, "on_stale": "continue"}, wait=wait)
    assert (found["fresh"], [each["is_fresh"] for each in found["sources"]]) == (False, [False, False])
    assert (
        alice.run("require_fresh", {"within_minutes": 60}, key="all active").message == "waits for the sync of broken"
    )


class PricedConfig(BlockConfig):
    value: Any


def test_what_an_item_spent_is_billed_at_once_and_kept_when_a_later_one_fails(
    alice: Actor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def priced(call: Any) -> BlockResult:
        if call.config.value == 3:
            raise CancelledError("cancelled")
        return BlockResult(None, [Usage("llm", "here", "m", 10 * call.config.value, Decimal("0.5"), "output_tokens")])

    monkeypatch.setitem(BLOCKS, "priced", BlockType(priced, PricedConfig, "costs"))
    config = {"items": [1, 2, 3], "block": {"type": "priced", "config": {"value": "${item}"}}}
    with pytest.raises(CancelledError):
        alice.run("for_each", config)
    bill = "SELECT job_id, step, unit, sum(quantity), sum(cost) FROM app.billing_records GROUP BY 1, 2, 3"
    assert alice.ask(bill) == [(alice.execution_id, "workflow:priced", "output_tokens", 30, 15)]
    outcome = alice.call("for_each", {**config, "items": [4]})
    assert isinstance(outcome, BlockResult)
    assert outcome.usages == ()
    assert alice.ask(bill) == [(alice.execution_id, "workflow:priced", "output_tokens", 70, 35)]
