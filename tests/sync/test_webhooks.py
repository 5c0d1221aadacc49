"""What webhooks are told: signed, at least once, under one id, by whoever sends; and never anywhere but where it is safe."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from tests.conftest import DatabaseUrls, fresh_database
from tests.fakes.receiver import Received, Receiver
from workstation_pipelines.db import data_sources, events, webhook_deliveries
from workstation_pipelines.db import webhooks as stored_webhooks
from workstation_pipelines.db.engine import Database
from workstation_pipelines.db.webhooks import Webhook
from workstation_pipelines.errors import InvalidRequestError
from workstation_pipelines.model import DataSourceId, EventKind, Severity, SourceType, UserId
from workstation_pipelines.settings import libpq_url
from workstation_pipelines.sources.sealing import KeyRing, new_key
from workstation_pipelines.sync import webhooks
from workstation_pipelines.sync.webhook_call import WebhookCaller
from workstation_pipelines.sync.webhook_signature import signed_headers
from workstation_pipelines.sync.webhooks import Deliveries, Sender

ALICE, BOB = UserId("alice"), UserId("bob")
RING = KeyRing.parse(new_key("k1"), origin="the test")


@dataclass
class Bench:
    """Alice's webhook, and Bob's at the same receiver."""

    sender: Sender
    receiver: Receiver
    ask: Callable[..., list[Any]]

    def add(self, user_id: UserId = ALICE, path: str = "/hook", **more: Any) -> tuple[Webhook, str]:
        name = more.pop("name", path)
        return webhooks.add(self.sender, user_id=user_id, name=name, url=self.receiver.url + path, **more)

    def event(
        self,
        user_id: UserId = ALICE,
        kind: EventKind = EventKind.SYNC_FAILED,
        data_source_id: UUID | None = None,
        message: str = "it failed",
    ) -> UUID:
        with self.sender.database.transaction_with_rls(user_id) as connection:
            return events.open_event(
                connection,
                user_id=user_id,
                kind=kind,
                severity=Severity.ERROR,
                message=message,
                about=data_source_id or uuid4(),
                data_source_id=data_source_id,
                new_id=uuid4,
            )

    def deliver(self, **more: Any) -> Deliveries:
        return webhooks.deliver(self.sender, monotonic=lambda: 0.0, **more)

    def make_due(self) -> None:
        self.ask("UPDATE app.webhook_deliveries SET next_try_at = now()")

    def kinds(self, user_id: UserId = ALICE) -> list[str]:
        with self.sender.database.transaction_with_rls(user_id) as connection:
            return sorted(event.kind for event in events.recent(connection, user_id=user_id, is_open=True))


def sender_of(database: Database) -> Sender:
    return Sender(
        database=database,
        ring=lambda: RING,
        caller=WebhookCaller(is_local=True),
        clock=lambda: datetime(2026, 11, 22, 8, tzinfo=UTC),
        new_id=uuid4,
        random=lambda: 0.5,
    )


@pytest.fixture(scope="module")
def urls(postgres: DatabaseUrls, template_database: str) -> Iterator[DatabaseUrls]:
    """One database for all: sending empties what it needs."""
    with fresh_database(postgres, template_database) as urls:
        yield urls


@pytest.fixture
def bench(urls: DatabaseUrls) -> Iterator[Bench]:
    database = Database(urls.app_url)
    sender = sender_of(database)
    with psycopg.connect(libpq_url(urls.admin_url), autocommit=True) as admin, Receiver() as receiver:

        def ask(statement: str, *parameters: Any) -> list[Any]:
            cursor = admin.execute(statement.encode(), parameters or None)
            return cursor.fetchall() if cursor.description else []

        ask("TRUNCATE app.events, app.webhooks, app.data_sources CASCADE")
        yield Bench(sender, receiver, ask)
    sender.caller.close()
    database.close()


def types(received: Sequence[Received]) -> list[str]:
    return sorted(json.loads(each.body)["type"] for each in received)


def test_event_and_its_end_are_told_once_each_signed_and_named(bench: Bench) -> None:
    _, secret = bench.add()
    with bench.sender.database.transaction_with_rls(ALICE) as connection:
        source = data_sources.add(
            connection,
            user_id=ALICE,
            data_source_id=DataSourceId(uuid4()),
            name="notes",
            source_type=SourceType.LOCAL_FOLDER,
            config={"path": "/secret/place"},
        )
    event_id = bench.event(data_source_id=source.id)
    bench.event(data_source_id=source.id)  # once more: counted, not told
    assert bench.deliver() == Deliveries(delivered=1)
    assert bench.deliver() == Deliveries()
    with bench.sender.database.transaction_with_rls(ALICE) as connection:
        events.resolve(connection, user_id=ALICE, event_id=None)
    assert bench.deliver() == Deliveries(delivered=1)

    opened, resolved = bench.receiver.take()
    assert opened.message_id != resolved.message_id
    for each in (opened, resolved):
        sent_at = datetime.fromtimestamp(int(each.headers["webhook-timestamp"]), UTC)
        expected = signed_headers(secret, message_id=each.message_id, sent_at=sent_at, body=each.body)
        assert {name: each.headers[name] for name in expected} == expected
    said = json.loads(opened.body)
    assert (said["type"], json.loads(resolved.body)["type"]) == ("sync_failed.opened", "sync_failed.resolved")
    assert said["data"] == {
        **{"kind": "sync_failed", "severity": "error", "message": "it failed", "occurrences": 1},
        **{"event_id": str(event_id), "data_source_id": str(source.id), "data_source_name": "notes"},
        **{"sync_job_id": None, "resolved_at": None, "created_at": said["data"]["created_at"]},
    }
    assert datetime.fromisoformat(said["timestamp"]).tzinfo is not None


def test_each_owner_is_told_of_their_own_and_of_the_kinds_they_chose(bench: Bench) -> None:
    bench.add(ALICE, "/alice", kinds=["freshness_missed", "freshness_missed"])
    bench.add(BOB, "/bob")
    for user_id in (ALICE, BOB):
        for kind in (EventKind.SYNC_FAILED, EventKind.FRESHNESS_MISSED):
            bench.event(user_id, kind)
    while bench.deliver().delivered:
        pass
    received = bench.receiver.take()
    assert types([each for each in received if each.path == "/alice"]) == ["freshness_missed.opened"]
    assert types([each for each in received if each.path == "/bob"]) == [
        "freshness_missed.opened",
        "sync_failed.opened",
    ]


def test_failures_are_tried_again_later_and_later_under_the_same_id(bench: Bench) -> None:
    bench.add()
    bench.event()
    bench.receiver.answers = [500, 429, 204]
    assert bench.deliver() == Deliveries(failed=1)
    assert bench.deliver() == Deliveries()  # not before a minute is over
    wait = "SELECT extract(epoch FROM next_try_at - updated_at)::int, response_code FROM app.webhook_deliveries"
    assert bench.ask(wait) == [(60, 500)]
    bench.make_due()
    bench.receiver.retry_after = "700"
    assert bench.deliver() == Deliveries(failed=1)
    assert bench.ask(wait) == [(700, 429)]
    bench.make_due()
    assert bench.deliver() == Deliveries(delivered=1)
    received = bench.receiver.take()
    assert len(received) == 3
    assert len({each.message_id for each in received}) == 1
    assert len({each.body for each in received}) == 1


def test_after_eight_attempts_it_is_given_up_and_the_owner_told_elsewhere(bench: Bench) -> None:
    dead, _ = bench.add(path="/500", name="dead")
    bench.add(path="/alive")
    bench.event()
    outcomes = []
    for _ in range(webhooks.MOST_ATTEMPTS):
        outcomes.append(bench.deliver())
        bench.make_due()
    assert sum(outcome.failed for outcome in outcomes) == webhooks.MOST_ATTEMPTS - 1
    assert outcomes[-1] == Deliveries(given_up=1)
    assert bench.deliver() == Deliveries(delivered=1)  # the other one hears of it
    received = bench.receiver.take()
    assert types([each for each in received if each.path == "/alive"]) == [
        "sync_failed.opened",
        "webhook_given_up.opened",
    ]
    assert types([each for each in received if each.path == "/500"]) == ["sync_failed.opened"] * 8
    assert bench.kinds() == ["sync_failed", "webhook_given_up"]
    with bench.sender.database.transaction_with_rls(ALICE) as connection:
        totals = {row.webhook_id: row for row in webhook_deliveries.totals(connection, user_id=ALICE)}
    assert (totals[dead.id].given_up, totals[dead.id].waiting) == (1, 0)
    # Once it answers again, what was said of it is over.
    bench.ask("UPDATE app.webhooks SET url = %s WHERE name = 'dead'", f"{bench.receiver.url}/204")
    bench.event()
    bench.deliver()
    assert "webhook_given_up" not in bench.kinds()


def test_gone_disables_until_it_is_enabled_and_then_nothing_is_lost(bench: Bench) -> None:
    webhook, _ = bench.add(path="/410")
    for _ in range(3):
        bench.event()
    assert bench.deliver() == Deliveries(given_up=1)
    bench.event()  # not told, since it asked for nothing more
    assert bench.deliver() == Deliveries()
    assert bench.kinds().count("webhook_disabled") == 1
    with bench.sender.database.transaction_with_rls(ALICE) as connection:
        disabled = stored_webhooks.named(connection, user_id=ALICE, name="/410")
    assert (disabled.is_active, "410" in disabled.disabled_reason) == (False, True)
    bench.ask("UPDATE app.webhooks SET url = %s", f"{bench.receiver.url}/204")
    webhooks.enable(bench.sender, webhook)
    assert "webhook_disabled" not in bench.kinds()
    assert bench.deliver() == Deliveries(delivered=2)
    assert types(bench.receiver.take()) == ["sync_failed.opened"] * 3


def test_redirects_are_not_followed(bench: Bench) -> None:
    codes = ("301", "302", "307", "308")
    for code in codes:
        bench.add(path=f"/{code}")
    bench.receiver.redirect_to = f"{bench.receiver.url}/elsewhere"
    bench.event()
    assert bench.deliver() == Deliveries(failed=4)
    assert sorted(each.path for each in bench.receiver.take()) == [f"/{code}" for code in codes]
    errors = bench.ask("SELECT last_error FROM app.webhook_deliveries")
    assert all("redirects are not followed" in error for (error,) in errors)


def test_receiver_that_hangs_costs_its_cap_once_and_keeps_nobody_else_waiting(bench: Bench) -> None:
    bench.add(BOB, "/bob")
    for path in ("/hangs", "/drips"):
        bench.add(ALICE, path)
    for _ in range(3):
        bench.event(ALICE)
    bench.event(BOB)
    caller = WebhookCaller(is_local=True, longest_call_s=0.3)
    started_s = time.monotonic()
    done = webhooks.deliver(replace(bench.sender, caller=caller), monotonic=lambda: 0.0)
    assert time.monotonic() - started_s < 5
    assert done == Deliveries(delivered=1, failed=2)
    hung = bench.ask("SELECT last_error FROM app.webhook_deliveries WHERE last_error <> ''")
    assert hung == [("no answer within 0.3 s",)] * 2
    caller.close()


def test_no_delivery_begins_when_time_is_up_and_none_is_lost(bench: Bench) -> None:
    bench.add()
    bench.event()
    moments = iter([0.0, 30.0])
    assert webhooks.deliver(bench.sender, monotonic=lambda: next(moments)) == Deliveries()
    assert bench.deliver() == Deliveries(delivered=1)


def test_two_senders_do_not_send_the_same(bench: Bench) -> None:
    bench.add()
    bench.event()
    seen: list[Deliveries] = []

    def send_meanwhile() -> int:
        seen.append(bench.deliver())
        return 204

    bench.receiver.answers = [send_meanwhile]
    assert bench.deliver() == Deliveries(delivered=1)
    assert seen == [Deliveries()]
    assert len(bench.receiver.take()) == 1


_SENDING = """
import sys
from tests.sync import test_webhooks as t
from workstation_pipelines.db.engine import Database
from workstation_pipelines.sources.sealing import KeyRing
t.RING = KeyRing.parse(sys.argv[2], origin="the test")
t.webhooks.deliver(t.sender_of(Database(sys.argv[1])), monotonic=lambda: 0.0)
"""


@pytest.mark.crash
def test_sender_killed_between_sending_and_recording_is_replaced_under_the_same_id(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = new_key("k2")
    monkeypatch.setattr(sys.modules[__name__], "RING", KeyRing.parse(key, origin="the test"))
    bench.add()
    bench.event()
    children: list[subprocess.Popen[bytes]] = []

    def kill() -> int:
        os.kill(children[0].pid, signal.SIGKILL)
        return 204

    bench.receiver.answers = [kill]
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-c", _SENDING, bench.sender.database.url, key]
    children.append(subprocess.Popen(command, cwd=root, env={**os.environ, "PYTHONPATH": str(root)}))
    assert children[0].wait(60) == -signal.SIGKILL
    assert bench.deliver() == Deliveries()  # the claim is not over yet
    assert bench.ask("SELECT attempts, delivered_at FROM app.webhook_deliveries") == [(1, None)]
    bench.make_due()
    assert bench.deliver() == Deliveries(delivered=1)
    first, second = bench.receiver.take()
    assert (first.message_id, first.body) == (second.message_id, second.body)


def test_late_sender_does_not_undo_what_a_later_attempt_found(bench: Bench) -> None:
    bench.add()
    bench.event()

    def overtaken() -> int:
        bench.make_due()
        assert bench.deliver() == Deliveries(delivered=1)
        return 500

    bench.receiver.answers = [overtaken]
    assert bench.deliver() == Deliveries(failed=1)
    assert bench.ask("SELECT delivered_at IS NOT NULL, attempts, last_error FROM app.webhook_deliveries") == [
        (True, 2, "")
    ]


def test_removed_webhook_or_event_leaves_nothing_to_send(bench: Bench) -> None:
    webhook, _ = bench.add()
    bench.event()
    with bench.sender.database.transaction_with_rls(BOB) as connection:
        stored_webhooks.remove(connection, user_id=BOB, webhook_id=webhook.id)
    with bench.sender.database.transaction_with_rls(ALICE) as connection:
        stored_webhooks.remove(connection, user_id=ALICE, webhook_id=webhook.id)
    assert bench.deliver() == Deliveries()
    assert bench.ask("SELECT count(*) FROM app.webhook_deliveries") == [(0,)]


def test_secret_is_stored_sealed_and_one_that_does_not_open_is_tried_again(bench: Bench) -> None:
    _, secret = bench.add()
    stored = json.dumps(bench.ask("SELECT to_jsonb(w) FROM app.webhooks w"), default=str)
    assert secret.removeprefix("whsec_") not in stored
    bench.event()
    other = KeyRing.parse(new_key("k9"), origin="the test")
    done = webhooks.deliver(replace(bench.sender, ring=lambda: other), monotonic=lambda: 0.0)
    assert done == Deliveries(failed=1)
    assert bench.receiver.take() == []
    bench.make_due()
    assert bench.deliver() == Deliveries(delivered=1)


UNSAFE = [
    "http://receiver.example/hook",
    "http://127.0.0.1/hook",
    "https://127.0.0.1:8443/hook",
    "https://receiver.example:8443/hook",
    "https://user:pass@receiver.example/hook",
    "https://receiver.example/hook#part",
    "ftp://receiver.example/hook",
    "//receiver.example/hook",
    "receiver.example",
    "",
    "https://[::1",
    "https://receiver.example/" + "x" * 2000,
]


@pytest.mark.parametrize("url", UNSAFE)
def test_url_that_may_not_be_called_is_refused(url: str) -> None:
    with pytest.raises(InvalidRequestError, match="webhook"):
        WebhookCaller().checked(url)


PRIVATE = ["127.0.0.1", "10.0.0.1", "169.254.169.254", "192.168.1.1", "::1", "fd00::1", "64:ff9b::7f00:1"]


@pytest.mark.parametrize("address", PRIVATE)
def test_host_that_leads_into_a_private_network_gets_nothing(address: str) -> None:
    caller = WebhookCaller(resolve=lambda _host, _port: ["93.184.216.34", address])
    reply = caller.post("https://receiver.example/hook", b"{}", {})
    assert (reply.code, reply.error) == (None, "the host's address is not public: nothing was sent")
    literal = f"[{address}]" if ":" in address else address
    assert "not public" in WebhookCaller().post(f"https://{literal}/hook", b"{}", {}).error


def test_loopback_is_closed_unless_it_is_opened(bench: Bench) -> None:
    with pytest.raises(InvalidRequestError, match="https"):
        WebhookCaller().post(f"{bench.receiver.url}/hook", b"{}", {})
    assert bench.receiver.take() == []
    assert WebhookCaller(is_local=True).post(f"{bench.receiver.url}/hook", b"{}", {}).code == 204


def test_test_message_is_sent_at_once(bench: Bench) -> None:
    webhook, _ = bench.add()
    delivery_id = webhooks.send_test(bench.sender, webhook)
    (received,) = bench.receiver.take()
    assert (received.message_id, json.loads(received.body)["type"]) == (f"msg_{delivery_id}", "test")
    with bench.sender.database.transaction_with_rls(ALICE) as connection:
        row = webhook_deliveries.get(connection, user_id=ALICE, delivery_id=delivery_id)
    assert (row.response_code, row.attempts, row.occasion) == (204, 1, "test")


def test_a_thousand_waiting_for_a_dead_receiver_do_not_hold_up_the_living(bench: Bench) -> None:
    webhook, _ = bench.add(ALICE, "/500")
    bench.add(BOB, "/bob")
    bench.ask(
        """INSERT INTO app.webhook_deliveries (id, user_id, webhook_id, occasion, payload, next_try_at)
           SELECT gen_random_uuid(), 'alice', %s, 'test', '{}', now() - interval '1 hour' FROM generate_series(1, 1000)""",
        webhook.id,
    )
    bench.event(BOB)
    done = bench.deliver()
    assert done == Deliveries(delivered=1, failed=1)
