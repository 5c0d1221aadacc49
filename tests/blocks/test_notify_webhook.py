"""The block notify_webhook: through the user's webhook once and by the queue, or at a URL at once; signed either way."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from datetime import datetime
from typing import Any
from uuid import uuid4

import pytest

from tests.blocks.calls import CANARY, Desk, ScriptedStop, settings
from tests.blocks.conftest import OpenDesk
from tests.conftest import DatabaseUrls
from tests.fakes.receiver import Received, Receiver
from workstation_pipelines.db import webhooks as stored_webhooks
from workstation_pipelines.db.engine import Database
from workstation_pipelines.errors import (
    CancelledError,
    InvalidRequestError,
    NotFoundError,
    RateLimitedError,
    SourceUnavailableError,
    WorkstationError,
)
from workstation_pipelines.identity import utc_now
from workstation_pipelines.model import UserId
from workstation_pipelines.sources.sealing import KeyRing, new_key
from workstation_pipelines.sync import webhooks
from workstation_pipelines.sync.webhook_call import WebhookCaller
from workstation_pipelines.sync.webhook_signature import new_secret, signed_headers
from workstation_pipelines.sync.webhooks import Sender

RING = KeyRing.parse(new_key("k1"), origin="the test")


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as receiver:
        yield receiver


@pytest.fixture
def desk(open_desk: OpenDesk) -> Desk:
    return open_desk(workstation_webhook_loopback=True)


def failure(desk: Desk, config: dict[str, Any], **more: Any) -> WorkstationError:
    with pytest.raises(WorkstationError) as failed:
        desk.ask("notify_webhook", config, **more)
    assert CANARY not in f"{failed.value} {failed.value.details}"
    return failed.value


def is_signed(received: Received, secret: str) -> bool:
    sent_at = datetime.fromtimestamp(int(received.headers["webhook-timestamp"])).astimezone()
    expected = signed_headers(secret, message_id=received.message_id, sent_at=sent_at, body=received.body)
    return received.headers["webhook-signature"] == expected["webhook-signature"]


def test_a_url_is_told_signed_and_under_one_id(desk: Desk, receiver: Receiver) -> None:
    secret = new_secret()
    config = {"url": f"{receiver.url}/hook", "secret": secret, "type": "report.ready", "data": {"a": [1, "\0"]}}
    output = desk.output("notify_webhook", config)
    assert output["status"] == 204
    desk.output("notify_webhook", config, attempt=2)
    first, second = receiver.take()
    assert first.message_id == second.message_id == f"msg_{output['delivery_id']}"
    assert is_signed(first, secret)
    told = json.loads(first.body)
    assert (told["type"], told["timestamp"]) == ("report.ready", desk.now.isoformat())
    assert told["data"] == {"execution_id": str(desk.execution_id), "node_id": "node", "data": {"a": [1, "�"]}}
    desk.output("notify_webhook", {"url": receiver.url}, idempotency_key="another")
    (plain,) = receiver.take()
    assert plain.message_id != first.message_id
    assert "webhook-signature" not in plain.headers


def test_a_url_that_refuses_or_hangs_is_told_apart(desk: Desk, receiver: Receiver, open_desk: OpenDesk) -> None:
    receiver.retry_after = "9"
    error = failure(desk, {"url": f"{receiver.url}/429"})
    assert isinstance(error, RateLimitedError)
    assert error.wait_s == 9
    assert isinstance(failure(desk, {"url": f"{receiver.url}/500"}), SourceUnavailableError)
    receiver.redirect_to = f"{receiver.url}/elsewhere"
    for path in ("/400", "/410", "/302"):
        assert type(failure(desk, {"url": receiver.url + path})) is InvalidRequestError
    assert {each.path for each in receiver.take()} == {"/429", "/500", "/400", "/410", "/302"}
    stop = ScriptedStop()
    threading.Timer(0.1, stop.cancelled.set).start()
    began_s = time.monotonic()
    assert isinstance(failure(desk, {"url": f"{receiver.url}/hangs"}, stop=stop), CancelledError)
    assert time.monotonic() - began_s < 2
    assert "whsec_" in failure(desk, {"url": receiver.url, "secret": f"{CANARY}!"}).message
    assert "262,144 bytes" in failure(desk, {"url": receiver.url, "data": "x" * 300_000}).message
    for url in (receiver.url, "https://10.0.0.1/", "https://[::1]/", f"https://u:{CANARY}@host.example/"):
        assert isinstance(failure(open_desk(workstation_fetch_http=True), {"url": url}), InvalidRequestError)


def test_a_named_webhook_is_told_once_by_the_queue(database_urls: DatabaseUrls, receiver: Receiver) -> None:
    database = Database(database_urls.app_url)
    caller = WebhookCaller(is_local=True)
    sender = Sender(database, lambda: RING, caller, utc_now, uuid4, lambda: 0.5)
    alice, bob = UserId("alice"), UserId("bob")
    hook, secret = webhooks.add(sender, user_id=alice, name="mine", url=f"{receiver.url}/mine", kinds=["sync_failed"])
    webhooks.add(sender, user_id=bob, name="his", url=f"{receiver.url}/his")
    desk = Desk(settings(), database)
    config = {"webhook": "mine", "data": {"n": 1, "key": f"Bearer {CANARY}"}}
    output = desk.output("notify_webhook", config)
    assert output["status"] is None
    assert receiver.take() == []
    # A second attempt, however much later, is no second message.
    desk.now = utc_now()
    assert desk.output("notify_webhook", config, attempt=2) == output
    assert webhooks.deliver(sender, monotonic=lambda: 0.0).delivered == 1
    assert desk.output("notify_webhook", config, attempt=3) == output
    assert webhooks.deliver(sender, monotonic=lambda: 0.0).delivered == 0
    (received,) = receiver.take()
    assert (received.path, received.message_id) == ("/mine", f"msg_{output['delivery_id']}")
    assert is_signed(received, secret)
    assert json.loads(received.body)["data"]["data"] == {"n": 1, "key": "Bearer ***"}

    again = desk.output("notify_webhook", {"webhook": str(hook.id)}, idempotency_key="another")
    assert again["delivery_id"] != output["delivery_id"]
    assert desk.output("notify_webhook", {"webhook": "his"}, user_id=bob)["delivery_id"] != output["delivery_id"]
    assert isinstance(failure(desk, {"webhook": "his"}), NotFoundError)
    with database.transaction_with_rls(alice) as connection:
        stored_webhooks.disable(connection, user_id=alice, webhook_id=hook.id, reason="gone")
    assert "workstation webhooks enable" in failure(desk, config).message
    caller.close()
    database.close()


def test_a_receiver_is_named_one_way(desk: Desk) -> None:
    for config in ({}, {"webhook": "a", "url": "https://x"}, {"webhook": "a", "secret": CANARY}):
        with pytest.raises(ValueError, match=r"give one of|a secret of its own") as refused:
            desk.call("notify_webhook", config)
        assert CANARY not in str(refused.value)
