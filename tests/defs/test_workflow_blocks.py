"""The blocks that work here in one workflow, run by Dagster: what one gives the next, what is waited for, what it costs."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import uuid4

import dagster as dg
import pytest

from tests.defs.workflow_place import ALICE, OWNER, WorkflowPlace
from workstation_pipelines.db import data_sources, waits
from workstation_pipelines.errors import InvalidRequestError, RetryableError
from workstation_pipelines.model import DataSourceId, SourceType, Usage
from workstation_pipelines.settings import Settings
from workstation_pipelines.sync.run import SyncRequest, drive
from workstation_pipelines.workflow_model import BlockResult, ExecutionId, ExecutionStatus
from workstation_pipelines.workflows.blocks import BLOCKS
from workstation_pipelines.workflows.blocks.contract import BlockCall, BlockConfig, BlockType

NODES: dict[str, tuple[str, dict[str, Any]]] = {
    "fresh": ("require_fresh", {"sources": ["notes"], "within_minutes": 60}),
    "search": ("search_documents", {"query": "${input.topic}", "sources": ["notes"]}),
    "titles": (
        "for_each",
        {
            "items": "nodes.search.output.hits",
            "block": {"type": "transform", "config": {"expression": "item.title"}},
        },
    ),
    "kept": ("filter", {"items": "nodes.titles.output.results", "where": "item != 'Nothing'"}),
    "way": ("branch", {"cases": [{"name": "some", "when": "nodes.kept.output.count > `0`"}], "default": "none"}),
    "ask": ("approval", {"message": "Save ${nodes.kept.output.count}?"}),
    "sorry": ("transform", {"expression": "'nothing found'"}),
    "pause": ("delay", {"seconds": 0.01}),
    "both": ("merge", {"mode": "list"}),
    "save": (
        "save_documents",
        {
            "documents": [
                {
                    "title": "On ${input.topic}",
                    "text": "# Found\n\n${join(', ', sort(nodes.kept.output.items))}",
                    "key": "digest",
                }
            ],
            "project": "Digests",
        },
    ),
    "out": ("output", {"values": {"saved": "${nodes.save.output.document_ids}", "by": "${nodes.ask.output.by}"}}),
}
EDGES = [
    ("fresh", "search", None),
    ("search", "titles", None),
    ("titles", "kept", None),
    ("kept", "way", None),
    ("way", "ask", "output.branch == 'some'"),
    ("way", "sorry", "output.branch == 'none'"),
    ("ask", "pause", "output.approved"),
    ("pause", "both", None),
    ("sorry", "both", None),
    ("both", "save", None),
    ("save", "out", None),
]
DOCUMENT = {
    "inputs": {"topic": {"type": "string", "required": True}},
    "nodes": [{"id": name, "type": kind, "config": config} for name, (kind, config) in NODES.items()],
    "edges": [
        {"source": source, "target": target} | ({"condition": condition} if condition else {})
        for source, target, condition in EDGES
    ],
}


@pytest.fixture
def place(settings: Settings, instance: dg.DagsterInstance, tmp_path: Path) -> Iterator[WorkflowPlace]:
    place = WorkflowPlace(settings, instance)
    folder = tmp_path / "notes"
    folder.mkdir()
    for name in ("heron", "egret"):
        (folder / f"{name}.md").write_text(f"# {name.title()}\n\nA {name} is a bird of the marsh.")
    with place.database.transaction_with_rls(ALICE) as connection:
        data_sources.add(
            connection,
            user_id=ALICE,
            data_source_id=DataSourceId(uuid4()),
            name="notes",
            source_type=SourceType.LOCAL_FOLDER,
            config={"path": str(folder)},
        )
    yield place
    place.workspace.close()


def one_run(place: WorkflowPlace, execution_id: ExecutionId) -> ExecutionStatus:
    place.run(execution_id)
    return place.close(execution_id)


def test_a_workflow_waits_for_a_sync_and_a_person_and_saves_what_it_found(place: WorkflowPlace) -> None:
    execution_id = place.ask_for(place.save(DOCUMENT), DOCUMENT, {"topic": "marsh"})
    assert one_run(place, execution_id) is ExecutionStatus.WAITING
    wait = place.steps(execution_id)["fresh"].wait
    assert wait is not None
    source = place.workspace.named_source(ALICE, "notes")
    drive(place.workspace.sync(source, SyncRequest(job_id=wait.sync_job_id)))  # type: ignore[arg-type]
    assert one_run(place, execution_id) is ExecutionStatus.WAITING
    steps = place.steps(execution_id)
    assert steps["fresh"].output["fresh"]
    assert sorted(steps["titles"].output["results"]) == ["Egret", "Heron"]
    assert steps["ask"].wait is not None
    assert (steps["ask"].wait.message, steps["ask"].wait.token_hash) == ("Save 2?", None)
    with place.database.transaction_with_rls(ALICE, OWNER["tenant_id"]) as connection:
        decision = {"approved": True, "comment": "", "by": "ann"}
        waits.decide(connection, **OWNER, step_id=steps["ask"].id, decision=decision)
    assert one_run(place, execution_id) is ExecutionStatus.COMPLETED
    [saved] = place.database.query_with_rls(
        ALICE, "SELECT id, text, title FROM app.documents WHERE data_source_id IS NULL"
    )
    assert (saved.title, saved.text) == ("On marsh", "# Found\n\nEgret, Heron")
    execution, steps = place.execution(execution_id), place.steps(execution_id)
    assert execution.output == {"saved": [str(saved.id)], "by": "ann"}
    assert {name: step.status.value for name, step in steps.items() if step.status != "completed"} == {
        "sorry": "skipped"
    }
    [billed] = place.database.query_with_rls(
        ALICE, "SELECT sum(quantity) AS tokens FROM app.billing_records WHERE job_id = :id", {"id": execution_id}
    )
    assert 0 < billed.tokens == steps["save"].input_tokens == execution.input_tokens


class PricedConfig(BlockConfig):
    value: int


def test_what_a_failed_attempt_has_spent_is_on_the_bill_and_in_the_execution(
    place: WorkflowPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []

    def priced(call: BlockCall[PricedConfig]) -> BlockResult:
        calls.append(call.config.value)
        if call.config.value == 3 and calls.count(3) == 1:
            raise RetryableError("busy", wait_s=0.0)
        if call.config.value == 4:
            raise InvalidRequestError("no such thing")
        usage = Usage("priced", "here", "m", 10 * call.config.value, Decimal("0.5"), "output_tokens")
        return BlockResult(None, [usage])

    monkeypatch.setitem(BLOCKS, "priced", BlockType(priced, PricedConfig, "costs"))
    each = {"items": [1, 2, 3], "max_retries": 0, "block": {"type": "priced", "config": {"value": "${item}"}}}
    retry = {"max_retries": 1, "delay_s": 0.001}
    document = {
        "nodes": [
            {"id": "a", "type": "for_each", "config": each, "retry": retry},
            {"id": "b", "type": "for_each", "config": {**each, "items": [1, 4]}},
        ],
        "edges": [{"source": "a", "target": "b"}],
    }
    execution_id = place.ask_for(place.save(document), document)
    assert one_run(place, execution_id) is ExecutionStatus.FAILED
    assert calls == [1, 2, 3, 1, 2, 3, 1, 4]
    [billed] = place.database.query_with_rls(
        ALICE,
        "SELECT sum(quantity) AS tokens, sum(cost) AS cost FROM app.billing_records WHERE job_id = :id",
        {"id": execution_id},
    )
    execution, steps = place.execution(execution_id), place.steps(execution_id)
    assert (billed.tokens, billed.cost) == (100, 50)
    assert (execution.output_tokens, execution.cost) == (100, Decimal(50))
    assert [steps[name].output_tokens for name in "ab"] == [90, 10]
