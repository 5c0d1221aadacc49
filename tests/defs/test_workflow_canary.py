"""Secrets of a workflow go to whom it calls, and stay sealed everywhere else, though all that it calls says them back."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import dagster as dg
import psycopg
import pytest
from psycopg import sql

from tests.conftest import DatabaseUrls
from tests.defs.test_canary import hits
from tests.defs.workflow_place import ALICE, OWNER, WorkflowPlace
from tests.fakes.server import Answer, Request
from tests.sources.http_stage import PlainVendor
from workstation_pipelines.identity import utc_now
from workstation_pipelines.settings import EmbedderName, Settings
from workstation_pipelines.sources.sealing import KeyRing, new_key
from workstation_pipelines.sync import webhooks
from workstation_pipelines.sync.webhook_call import WebhookCaller
from workstation_pipelines.workflow_model import ExecutionStatus
from workstation_pipelines.workflows.secrets import SecretVault

CANARY = "Zqcanary/0123456789=x"
"""Percent-encoding and base64 make something else of it."""
KEPT = "${secrets.CANARY}"
RETRY = {"max_retries": 1, "delay_s": 0}


def forms(secret: str) -> list[str]:
    """The secret as it is, as in a URL, in hexadecimal, and what is the same in all its base64 forms."""
    told = {secret, quote(secret, safe=""), quote(secret)}
    coded = {base64.b64encode(b"\0" * shift + each.encode()).decode()[4:-4] for shift in range(3) for each in told}
    return sorted(told | coded | {secret.encode().hex()})


def echo(request: Request) -> Answer:
    """Say everything back, in every form."""
    asked = [*(value for _, value in request.query), *request.headers.values(), request.body.decode(), *request.steps]
    coded = [base64.b64encode(f"{pad}{each}".encode()).decode() for each in asked for pad in ("", "a", "bc")]
    told = {
        "plain": asked,
        "percent": [quote(each, safe="") for each in asked],
        "base64": coded,
        "json": json.dumps(asked),
        "hex": CANARY.encode().hex(),
        CANARY: 1,
        "error": {"code": CANARY, "message": CANARY},
    }
    headers = {"X-Echo": CANARY, f"X-Quoted-{quote(CANARY, safe='')}": quote(CANARY), "X-Coded": coded[0]}
    return Answer.of(told, 200 if request.path.startswith("/echo") else 400, headers)


def never_json(request: Request) -> Answer:
    return Answer(500, f"<p>{CANARY}</p>".encode(), {"Content-Type": f"text/{CANARY}", "Retry-After": CANARY})


@pytest.fixture
def site() -> Iterator[PlainVendor]:
    with PlainVendor() as site:
        site.answers.update(dict.fromkeys(("/echo", "/refused", f"/echo/{CANARY}", "/v1/chat/completions"), echo))
        site.answers["/broken"] = never_json
        elsewhere = {"Location": f"http://127.0.0.1:9/{quote(CANARY)}?{CANARY}"}
        site.answers["/moved"] = lambda _: Answer(302, headers=elsewhere)
        site.answers["/remembered"] = lambda _: Answer.of({"yesterday": CANARY})
        yield site


@pytest.fixture
def instance(quick_folder: Path) -> Iterator[dg.DagsterInstance]:
    """On disk, so that every byte that Dagster keeps can be searched."""
    with dg.DagsterInstance.local_temp(str(quick_folder)) as instance:
        yield instance


def nodes(url: str) -> dict[str, tuple[str, dict[str, Any]]]:
    """Each beside the others, so that one that fails stops no other."""

    def ask(path: str, **more: Any) -> tuple[str, dict[str, Any]]:
        return "http_request", {"url": f"{url}{path}", "headers": {"Authorization": f"Bearer {KEPT}"}, **more}

    chat = {"base_url": f"{url}/v1", "model": "m", "key": KEPT, "prompt": f"say {KEPT}"}
    document = {"title": f"About {KEPT}", "text": f"It is {KEPT}.", "key": KEPT, "tags": [KEPT]}
    return {
        "header": ask("/echo"),
        "query": ask("/echo", query={"key": KEPT}, parse="text"),
        "url": ask(f"/echo?key={KEPT}"),
        "body": ask("/echo", method="POST", json={"a": [KEPT, {"b": KEPT}]}),
        "form": ask("/echo", method="POST", form={"a": KEPT}, parse="base64"),
        "refused": ask("/refused", query={"key": KEPT}),
        "broken": ask("/broken"),
        "moved": ask("/moved"),
        "unknown": ("http_request", {"url": f"http://127.0.0.1:9/{KEPT}?{KEPT}"}),
        "odd": ("http_request", {"url": f"{KEPT}://{KEPT}:{KEPT}@{KEPT}/"}),
        "misspelt": ("http_request", {"url": f"{url}/echo", "headers": {KEPT: KEPT}, "expected": [KEPT]}),
        "unnamed": ("http_request", {"url": f"{url}/remembered"}),
        "each": ("for_each", {"items": [1, 2], "block": dict(zip(("type", "config"), ask("/echo"), strict=True))}),
        "every": (
            "for_each",
            {"items": [1], "on_error": "collect", "block": dict(zip(("type", "config"), ask("/refused"), strict=True))},
        ),
        "chat": ("llm", chat),
        "queued": ("notify_webhook", {"webhook": "mine", "data": {"a": KEPT}}),
        "told": ("notify_webhook", {"url": f"{url}/echo", "secret": KEPT, "data": KEPT}),
        "saved": ("save_documents", {"documents": [document]}),
        "found": ("search_documents", {"query": KEPT}),
        "late": ("delay", {"until": KEPT}),
        "made": ("transform", {"expression": KEPT}),
        "ask": ("approval", {"message": f"Is {KEPT} right?", "assignee": KEPT}),
        "out": ("output", {"values": {"a": KEPT}}),
    }


def document(url: str, only: tuple[str, ...] = ()) -> dict[str, Any]:
    chosen = {name: node for name, node in nodes(url).items() if not only or name in only}
    return {
        "timeout_s": 60,
        "nodes": [
            {"id": name, "type": kind, "config": config, "name": name, "retry": RETRY}
            for name, (kind, config) in chosen.items()
        ],
        "edges": [],
    }


def test_a_secret_is_found_nowhere_though_everything_says_it_back(
    database_urls: DatabaseUrls,
    settings: Settings,
    instance: dg.DagsterInstance,
    quick_folder: Path,
    site: PlainVendor,
    capfd: pytest.CaptureFixture[str],
) -> None:
    key = new_key("k1")
    chosen = {
        "WORKSTATION_TOKEN_KEYS": key,
        "DATABASE_URL": settings.database_url,
        "WORKSTATION_HOME": settings.home,
        "WORKSTATION_EMBEDDER": EmbedderName.HASHING,
        "WORKSTATION_FETCH_LOOPBACK": True,
        "WORKSTATION_FETCH_HTTP": True,
        "WORKSTATION_WEBHOOK_LOOPBACK": True,
    }
    place = WorkflowPlace(Settings.model_validate(chosen), instance)
    SecretVault(place.database, place.workspace.settings).put(
        **OWNER, name="CANARY", value=CANARY, secret_id=place.workspace.new_id()
    )
    ring = KeyRing.parse(key, origin="the test")
    sender = webhooks.Sender(place.database, lambda: ring, WebhookCaller(is_local=True), utc_now, uuid4, lambda: 0.5)
    webhooks.add(sender, user_id=ALICE, name="mine", url=f"{site.url}/echo", kinds=["sync_failed"])
    executions = []
    for only in ((), ("header", "saved", "ask", "unnamed")):
        written = document(site.url, only)
        executions.append(place.ask_for(place.save(written, f"canary-{len(only)}"), written))
        place.run(executions[-1])
        place.close(executions[-1])
    assert any(CANARY in str(request) for request in site.requests)
    printed = "".join(capfd.readouterr())
    kept = {form: [*hits(quick_folder, form), *rows_with(database_urls.admin_url, form)] for form in forms(CANARY)}
    assert kept == {form: [] for form in kept}
    assert not [form for form in kept if form in printed]
    assert rows_with(database_urls.admin_url, "yesterday"), "the search itself works: what else was said is there"
    assert [place.execution(each).status for each in executions] == [ExecutionStatus.FAILED, ExecutionStatus.WAITING]
    place.workspace.close()


def rows_with(admin_url: str, needle: str) -> list[str]:
    """The tables of all schemas that have a row with such a text, by whoever it was written."""
    found = []
    with psycopg.connect(admin_url.replace("+psycopg", "")) as connection:
        tables = connection.execute(
            """SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                WHERE c.relkind IN ('r', 'p', 'm') AND n.nspname NOT IN ('pg_catalog', 'information_schema')"""
        ).fetchall()
        for schema, table in tables:
            count = sql.SQL("SELECT count(*) FROM {} t WHERE strpos(t::text, %s) > 0 OR strpos(t::text, %s) > 0")
            named = count.format(sql.Identifier(schema, table))
            escaped = needle.replace("\\", "\\\\").replace('"', '""')
            row = connection.execute(named, [needle, escaped]).fetchone()
            if row and row[0]:
                found.append(f"{schema}.{table}: {row[0]}")
    return found
