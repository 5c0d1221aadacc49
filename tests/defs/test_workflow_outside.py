"""The blocks that call outside in one workflow, run by Dagster: what survives a wait and a retry, what it costs, what is told."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from itertools import pairwise
from typing import Any
from uuid import uuid4

import dagster as dg
import pytest
from sqlalchemy import text

from tests.blocks.calls import OPERATORS
from tests.defs.workflow_place import ALICE, HOME, WorkflowPlace
from tests.fakes.apify import FakeApify
from tests.fakes.apollo import FakeApollo
from tests.fakes.openai_chat import FakeChat
from tests.fakes.receiver import Receiver
from tests.fakes.server import Answer
from tests.sources.http_stage import PlainVendor
from workstation_pipelines.identity import utc_now
from workstation_pipelines.settings import Settings
from workstation_pipelines.sources.sealing import KeyRing, new_key
from workstation_pipelines.sync import webhooks
from workstation_pipelines.sync.webhook_call import WebhookCaller
from workstation_pipelines.workflow_model import ExecutionId, ExecutionStatus

RING = KeyRing.parse(new_key("k1"), origin="the test")


def document(site: PlainVendor) -> dict[str, Any]:
    ask = "Give JSON about ${nodes.crawl.output.items[0].text}"
    nodes: dict[str, tuple[str, dict[str, Any]]] = {
        "crawl": ("apify_actor", {"actor": "acme/crawler", "input": {"topic": "${input.topic}"}}),
        "judge": ("llm", {"prompt": ask, "response": "json", "max_tokens": 50}),
        "who": ("apollo_enrich", {"people": [{"email": "${nodes.judge.output.json.email}"}]}),
        "order": (
            "http_request",
            {"url": f"{site.url}/orders", "method": "POST", "json": {"name": "${nodes.who.output.matches[0].name}"}},
        ),
        "tell": ("notify_webhook", {"webhook": "mine", "data": "${nodes.order.output.body}"}),
        "out": ("output", {"values": {"order": "${nodes.order.output.body.id}"}}),
    }
    names = list(nodes)
    return {
        "inputs": {"topic": {"type": "string", "required": True}},
        "nodes": [
            {
                "id": name,
                "type": kind,
                "config": config,
                "retry": {"max_retries": 2, "delay_s": 0.01},
                # As little as lets the first look at a run be the last one of its Dagster run.
                "timeout_s": 10.3 if name == "crawl" else 60,
            }
            for name, (kind, config) in nodes.items()
        ],
        "edges": [{"source": a, "target": b} for a, b in pairwise(names)],
    }


@pytest.fixture
def site() -> Iterator[PlainVendor]:
    with PlainVendor() as site:
        site.answers["/orders"] = lambda request: Answer.of({"id": 7, "name": request.json["name"]}, 201)
        yield site


def test_a_workflow_that_calls_outside_pays_once_and_tells_no_key(
    settings: Settings, instance: dg.DagsterInstance, site: PlainVendor, capfd: pytest.CaptureFixture[str]
) -> None:
    with (
        FakeApify(OPERATORS) as apify,
        FakeChat(OPERATORS) as chat,
        FakeApollo(OPERATORS) as apollo,
        Receiver() as hook,
    ):
        chosen = {
            "APIFY_API_URL": apify.url,
            "APIFY_TOKEN": OPERATORS,
            "APOLLO_API_URL": apollo.url,
            "APOLLO_API_KEY": OPERATORS,
            "WORKSTATION_LLM_URL": chat.base_url,
            "WORKSTATION_LLM_KEY": OPERATORS,
            "WORKSTATION_LLM_MODEL": "m",
            "WORKSTATION_PRICES": {"m": 1_000_000},
            "WORKSTATION_FETCH_LOOPBACK": True,
            "DATABASE_URL": settings.database_url,
        }
        place = WorkflowPlace(Settings.model_validate(chosen), instance)
        sender = webhooks.Sender(
            place.database, lambda: RING, WebhookCaller(is_local=True), utc_now, uuid4, lambda: 0.5
        )
        webhooks.add(sender, user_id=ALICE, name="mine", url=f"{hook.url}/mine", kinds=["sync_failed"])
        written = document(site)
        execution_id = place.ask_for(place.save(written), written, {"topic": "herons"})
        apify.ends_after = 1_000_000
        assert one_run(place, execution_id) is ExecutionStatus.WAITING
        assert place.steps(execution_id)["crawl"].attempts == 1
        make_due(place)
        apify.ends_after = 0
        apify.fail("/actor-runs/", answer=Answer(502))
        assert one_run(place, execution_id) is ExecutionStatus.WAITING
        make_due(place)
        apify.items = [{"text": "Ada"}]
        words = iter(["no JSON at all", '{"email": "ada@example.com"}'])
        chat.write = lambda _messages: next(words)
        site.fail("/orders", answer=Answer(503))
        assert one_run(place, execution_id) is ExecutionStatus.COMPLETED

        assert len(apify.runs) == 1
        assert apify.runs["run0"].input == {"topic": "herons"}
        assert [request.json for request in site.requests] == [{"name": "Ada"}] * 2
        assert len({request.headers["idempotency-key"] for request in site.requests}) == 1
        execution, steps = place.execution(execution_id), place.steps(execution_id)
        assert execution.output == {"order": 7}
        assert (steps["judge"].attempts, steps["order"].attempts) == (2, 2)
        assert webhooks.deliver(sender, monotonic=lambda: 0.0).delivered == 1
        assert [received.path for received in hook.take()] == ["/mine"]
        billed = place.database.query_with_rls(
            ALICE,
            "SELECT step, unit, sum(quantity) AS n FROM app.billing_records WHERE job_id = :id GROUP BY 1, 2",
            {"id": execution_id},
        )
        # The words of both answers, of which the step keeps one.
        assert {(row.step, row.unit): row.n for row in billed} == {
            ("workflow:apify_actor", "calls"): 1,
            ("workflow:llm", "input_tokens"): 8,
            ("workflow:llm", "output_tokens"): 6,
            ("workflow:apollo_enrich", "calls"): 1,
            ("workflow:apollo_enrich", "credits"): 1,
        }
        assert (execution.input_tokens, execution.output_tokens, execution.cost) == (8, 6, Decimal(14))
        rows = [
            str(row)
            for table in (
                "workflow_executions",
                "workflow_steps",
                "block_executions",
                "timeline_events",
                "webhook_deliveries",
            )
            for row in told(place, table)
        ]
        assert rows
        assert not [row for row in rows if OPERATORS in row]
        assert OPERATORS not in str(instance.all_logs(execution.dagster_run_id or ""))
        assert OPERATORS not in "".join(capfd.readouterr())
        place.workspace.close()


def one_run(place: WorkflowPlace, execution_id: ExecutionId) -> ExecutionStatus:
    place.run(execution_id)
    return place.close(execution_id)


def make_due(place: WorkflowPlace) -> None:
    with place.database.transaction_with_rls(ALICE, HOME) as connection:
        connection.execute(
            text(
                """UPDATE app.workflow_steps SET wait_until = now()
                    WHERE user_id = :user AND tenant_id = :tenant AND status = 'waiting'"""
            ),
            {"user": ALICE, "tenant": HOME},
        )


def told(place: WorkflowPlace, table: str) -> list[Any]:
    with place.database.transaction_with_rls(ALICE, HOME) as connection:
        return list(connection.execute(text(f"SELECT * FROM app.{table}")))  # noqa: S608 - a name of ours
