"""The templates that come along, each from its use to its rows: through the job that it compiles to, against the vendors' fakes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import dagster as dg
import pytest
from pydantic import SecretStr

from tests.fakes.apify import FakeApify
from tests.fakes.apollo import FakeApollo
from tests.fakes.openai_chat import FakeChat
from tests.fakes.server import Answer
from workstation_pipelines.db import blocks, data_sources, executions, metering, steps, webhooks
from workstation_pipelines.defs.workflow_now import Dagster
from workstation_pipelines.model import DataSourceId, SourceType, SyncJobId, UserId, WebhookId
from workstation_pipelines.settings import Settings
from workstation_pipelines.sync.run import SyncRequest
from workstation_pipelines.sync.workspace import Workspace
from workstation_pipelines.workflow_model import Execution, ExecutionId, ExecutionStatus, Owner, Step, TenantId
from workstation_pipelines.workflows import control, saving

_TEMPLATES = Path(saving.__file__).parent / "templates"
_CRAWLER = "apify~website-content-crawler"
OWNER: Owner = {"user_id": UserId("dev"), "tenant_id": TenantId("dev")}


@dataclass(frozen=True)
class Vendors:
    apollo: FakeApollo
    apify: FakeApify
    chat: FakeChat


@dataclass(frozen=True)
class Office:
    """Somebody with the vendors' keys in the settings, and a Dagster without a daemon."""

    workspace: Workspace
    dagster: Dagster
    folder: Path

    def save(self, slug: str) -> None:
        envelope = saving.read_envelope(json.loads((_TEMPLATES / f"{slug}.json").read_text()))
        with self.workspace.database.transaction_with_rls(**OWNER) as connection:
            saving.save(
                connection,
                **OWNER,
                slug=slug,
                document=envelope.definition,
                labels=envelope.labels,
                new_id=self.workspace.new_id,
            )

    def run(self, slug: str, **input: Any) -> Execution:
        return self.go_on(control.start(self.workspace, **OWNER, workflow=slug, input=input).id)

    def retry(self, execution: Execution) -> Execution:
        return self.go_on(control.retry(self.workspace, **OWNER, execution_id=execution.id).id)

    def go_on(self, execution_id: ExecutionId) -> Execution:
        self.dagster.run_here(execution_id, sleep=lambda _: None)
        with self.workspace.database.transaction_with_rls(**OWNER) as connection:
            return executions.get(connection, **OWNER, execution_id=execution_id)

    def steps(self, execution: Execution) -> dict[str, Step]:
        with self.workspace.database.transaction_with_rls(**OWNER) as connection:
            found = steps.of_execution(connection, **OWNER, execution_id=execution.id)
        return {step.node_id: step for step in found}

    def attempts(self, execution: Execution) -> dict[str, int]:
        """How often each node's block was called in this execution."""
        with self.workspace.database.transaction_with_rls(**OWNER) as connection:
            made = blocks.of_execution(connection, **OWNER, execution_id=execution.id)
        return {each.node_id: sum(other.node_id == each.node_id for other in made) for each in made}

    def texts(self) -> dict[str, str]:
        rows = self.workspace.database.query_with_rls(
            OWNER["user_id"],
            """SELECT d.title, string_agg(c.text, ' ' ORDER BY c.ordinal) AS text FROM app.documents d
                 JOIN app.chunks c ON c.document_id = d.id WHERE d.deleted_at IS NULL GROUP BY d.id, d.title""",
        )
        return {row.title: row.text for row in rows}

    def connect(self) -> DataSourceId:
        """Add the folder as the source `notes`."""
        source_id = DataSourceId(self.workspace.new_id())
        with self.workspace.database.transaction_with_rls(**OWNER) as connection:
            data_sources.add(
                connection,
                user_id=OWNER["user_id"],
                data_source_id=source_id,
                name="notes",
                source_type=SourceType.LOCAL_FOLDER,
                config={"path": str(self.folder)},
            )
        return source_id

    def sync(self, job_id: UUID | None = None) -> None:
        """Sync the source, as the job that somebody has asked for if it is given."""
        source = self.workspace.named_source(OWNER["user_id"], "notes")
        request = SyncRequest() if job_id is None else SyncRequest(job_id=SyncJobId(job_id))
        for _ in self.workspace.sync(source, request):
            pass


@pytest.fixture
def vendors() -> Iterator[Vendors]:
    with FakeApollo("apollo-key") as apollo, FakeApify("apify-token") as apify, FakeChat("chat-key") as chat:
        apify.actors.add(_CRAWLER)
        yield Vendors(apollo, apify, chat)
        assert [*apollo.violations, *apify.violations, *chat.violations] == []


@pytest.fixture
def office(settings: Settings, vendors: Vendors, instance: dg.DagsterInstance, tmp_path: Path) -> Iterator[Office]:
    chosen = settings.model_copy(
        update={
            "llm_url": vendors.chat.base_url,
            "llm_key": SecretStr("chat-key"),
            "llm_model": "small",
            "prices": {"small": Decimal(2)},
            "apollo_api_url": vendors.apollo.url,
            "apollo_api_key": SecretStr("apollo-key"),
            "apify_api_url": vendors.apify.url,
            "apify_token": SecretStr("apify-token"),
        }
    )
    folder = tmp_path / "notes"
    folder.mkdir()
    with Workspace.open(chosen) as workspace:
        yield Office(workspace, Dagster(workspace, instance), folder)


def _statuses(found: dict[str, Step]) -> dict[str, str]:
    return {node: step.skip_reason or step.status for node, step in found.items()}


def _billed(office: Office) -> dict[str, int]:
    with office.workspace.database.transaction_with_rls(**OWNER) as connection:
        return {row.unit: row.quantity for row in metering.total(connection, user_id=OWNER["user_id"])}


def _knows_ada(vendors: Vendors) -> None:
    vendors.apollo.people["ada@example.com"] |= {"email_status": "verified", "seniority": "founder"}
    vendors.apollo.organizations["example.com"] |= {"estimated_num_employees": 120}


ADA = {"email": "ada@example.com", "domain": "example.com"}


def test_standard_lead_enrichment_scores_and_pays_no_credit_twice(office: Office, vendors: Vendors) -> None:
    office.save("standard-lead-enrichment")
    _knows_ada(vendors)
    vendors.apify.ends_as = "FAILED"
    failed = office.run("standard-lead-enrichment", **ADA)
    assert (failed.status, failed.steps_over, failed.progress_percentage) == (ExecutionStatus.FAILED, 5, Decimal(100))
    assert _statuses(office.steps(failed)) == {
        "person": "completed",
        "company": "completed",
        "page": "failed",
        "score": "upstream_failed",
        "lead": "upstream_failed",
    }
    assert vendors.apollo.credits == 2

    vendors.apify.ends_as, vendors.apify.ends_after = "SUCCEEDED", 1
    again = office.retry(failed)
    assert (again.status, again.parent_execution_id) == (ExecutionStatus.COMPLETED, failed.id)
    assert office.attempts(again) == {"page": 1, "score": 1, "lead": 1}
    assert {node for node, step in office.steps(again).items() if step.is_reused} == {"person", "company"}
    assert vendors.apollo.credits == 2
    assert again.output == {
        "lead": {
            **{
                "is_found": True,
                "score": 100,
                "name": "Ada",
                "title": "Countess",
                "company": "Example",
                "employees": 120,
            },
            "about": "hello",
        },
        "is_worth_a_call": True,
    }
    (crawl,) = [run for run in vendors.apify.runs.values() if run.status == "SUCCEEDED"]
    assert crawl.input == {"startUrls": [{"url": "https://example.com"}], "maxCrawlPages": 1}

    unknown = office.run("standard-lead-enrichment", email="nobody@example.com", domain="example.com")
    assert unknown.status is ExecutionStatus.COMPLETED
    assert (unknown.output["lead"]["is_found"], unknown.output["lead"]["score"]) == (False, 40)
    assert vendors.apollo.credits == 3


def test_ai_powered_enrichment_keeps_a_brief_of_leads_that_fit(office: Office, vendors: Vendors) -> None:
    office.save("ai-powered-enrichment")
    _knows_ada(vendors)
    vendors.chat.write = lambda messages: json.dumps({"score": 80, "summary": "She fits.", "opening": "Dear Ada."})
    vendors.chat.fail("completions", answer=Answer.of({"error": {"code": "policy", "message": "no"}}, 400))
    offer = {**ADA, "offer": "Engines for sums"}
    failed = office.run("ai-powered-enrichment", **offer)
    assert failed.status is ExecutionStatus.FAILED
    assert _statuses(office.steps(failed)) == {
        **dict.fromkeys(("person", "website", "profile"), "completed"),
        "assess": "failed",
        **dict.fromkeys(("brief", "result"), "upstream_failed"),
    }
    assert failed.cost == 0

    fits = office.retry(failed)
    assert office.attempts(fits) == {"assess": 1, "brief": 1, "result": 1}
    assert (vendors.apollo.credits, len(vendors.apify.runs), len(vendors.chat.completions)) == (1, 1, 1)
    asked = vendors.chat.completions[0]
    assert "Engines for sums" in asked["messages"][-1]["content"]
    assert "Countess" in asked["messages"][-1]["content"]
    assert asked["response_format"]["json_schema"]["schema"]["required"] == ["score", "summary", "opening"]
    assert (fits.output["score"], fits.output["opening"]) == (80, "Dear Ada.")
    assert "She fits." in office.texts()["Lead: ada@example.com"]
    step, brief = office.steps(fits)["assess"], office.steps(fits)["brief"]
    assert fits.input_tokens == step.input_tokens + brief.input_tokens  # the brief was embedded
    assert fits.output_tokens == step.output_tokens > 0
    assert min(step.input_tokens, brief.input_tokens) > 0
    assert fits.cost == step.cost == Decimal(step.input_tokens + step.output_tokens) * 2 / 1_000_000

    vendors.chat.write = lambda messages: json.dumps({"score": 10, "summary": "No.", "opening": "-"})
    misfit = office.run("ai-powered-enrichment", **{**offer, "email": "bob@example.com"})
    assert misfit.status is ExecutionStatus.COMPLETED
    assert _statuses(office.steps(misfit))["brief"] == "condition"
    assert set(office.texts()) == {"Lead: ada@example.com"}
    assert _billed(office)["credits"] == 1


def test_weekly_digest_is_kept_as_a_document_and_can_be_found(office: Office, vendors: Vendors) -> None:
    office.save("weekly-digest")
    (office.folder / "minutes.md").write_text(
        "# Council\n\nDecisions: the dam is repaired. Deadlines: it is due in May.\n"
    )
    office.connect()
    office.sync()
    vendors.chat.write = lambda messages: json.dumps({"title": "Week 47", "text": "The dam is repaired by May."})
    done = office.run("weekly-digest", about="decisions and deadlines")
    assert done.status is ExecutionStatus.COMPLETED, office.steps(done)
    assert (done.output["title"], done.output["sources_are_fresh"], done.mode) == ("Week 47", True, "digest")
    assert done.output["passages"] >= 1
    assert "the dam is repaired" in vendors.chat.completions[0]["messages"][-1]["content"]
    assert "The dam is repaired by May." in office.texts()["Week 47"]

    quiet = office.run("weekly-digest", about="decisions and deadlines", days=1e-9)
    assert quiet.status is ExecutionStatus.COMPLETED
    assert (quiet.output["passages"], quiet.output["documents"], len(vendors.chat.completions)) == (0, None, 1)


def test_document_triage_asks_before_it_passes_on_what_is_important(office: Office, vendors: Vendors) -> None:
    office.save("document-triage")
    for name, text in (("invoice", "Invoice: pay 400 by Friday."), ("menu", "Invoice? No: soup on Monday.")):
        (office.folder / f"{name}.md").write_text(f"# {name}\n\n{text}\n")
    office.connect()
    with office.workspace.database.transaction_with_rls(**OWNER) as connection:
        webhooks.add(
            connection,
            user_id=OWNER["user_id"],
            webhook_id=WebhookId(uuid4()),
            name="desk",
            url="https://desk.example/hook",
            kinds=["*"],
            sealed_secret={"v": 1, "kid": "k", "ct": "c"},
        )
    vendors.chat.write = lambda messages: json.dumps(
        {"category": "mail", "is_important": "400" in messages[-1]["content"], "reason": "It is due."}
    )
    waiting = office.run("document-triage", source="notes", about="invoice", webhook="desk")
    assert waiting.status is ExecutionStatus.WAITING
    wait = office.steps(waiting)["sync"].wait
    assert wait is not None
    office.sync(wait.sync_job_id)

    asked = office.go_on(waiting.id)
    assert asked.status is ExecutionStatus.WAITING
    found = office.steps(asked)
    assert (found["ask"].status, found["tell"].status, found["note"].status) == ("waiting", "pending", "completed")
    assert found["ask"].wait is not None
    assert "invoice" in found["ask"].wait.message
    decided = control.decide(
        office.workspace, **OWNER, execution_id=asked.id, node_id="ask", approved=True, comment="Go."
    )
    assert decided.node_id == "ask"
    done = office.go_on(asked.id)
    assert (done.status, done.run_number) == (ExecutionStatus.COMPLETED, 3)
    assert [each["title"] for each in done.output["important"]] == ["invoice"]
    assert (done.output["others"], done.output["unread"], done.output["approved"]) == (1, [], True)
    assert "- invoice: It is due." in office.texts()["Triage of notes"]
    (delivery,) = office.workspace.database.query_with_rls(
        OWNER["user_id"], "SELECT payload FROM app.webhook_deliveries WHERE payload->>'type' = 'triage.important'"
    )
    assert delivery.payload["data"]["data"]["comment"] == "Go."
    assert len(vendors.chat.completions) == 2
