"""Signatures agree with the specification's own example, and waits grow from a minute to a day."""

from __future__ import annotations

import base64
import hashlib
import hmac
from datetime import UTC, datetime

import pytest

from workstation_pipelines.errors import InvalidRequestError
from workstation_pipelines.sync.webhook_signature import new_secret, signed_headers
from workstation_pipelines.sync.webhooks import MOST_ATTEMPTS, retry_wait_s


def test_example_of_the_specification_is_signed_as_there() -> None:
    headers = signed_headers(
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        message_id="msg_p5jXN8AQM9LWM0D4loKWxJek",
        sent_at=datetime.fromtimestamp(1614265330, UTC),
        body=b'{"test": 2432232314}',
    )
    assert headers == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


def test_new_secrets_differ_and_sign() -> None:
    first, second = new_secret(), new_secret()
    assert first != second
    key = base64.b64decode(first.removeprefix("whsec_"), validate=True)
    assert len(key) == 32
    headers = signed_headers(first, message_id="m", sent_at=datetime(2026, 1, 2, tzinfo=UTC), body=b"{}")
    digest = hmac.new(key, b"m.1767312000.{}", hashlib.sha256).digest()
    assert headers["webhook-signature"] == f"v1,{base64.b64encode(digest).decode()}"


def test_secret_of_another_form_is_refused_without_quoting_it() -> None:
    with pytest.raises(InvalidRequestError) as refused:
        signed_headers("whsec_hunter2!", message_id="m", sent_at=datetime(2026, 1, 2, tzinfo=UTC), body=b"{}")
    assert "hunter2" not in refused.value.message


def test_waits_grow_from_a_minute_to_a_day_and_never_shrink() -> None:
    planned = [retry_wait_s(attempt, random=lambda: 0.5) for attempt in range(1, MOST_ATTEMPTS)]
    assert [round(planned[0]), round(planned[-1])] == [60, 24 * 3600]
    assert planned == sorted(planned)
    for attempt in range(1, MOST_ATTEMPTS + 3):
        least, most = (retry_wait_s(attempt, random=lambda r=r: r) for r in (0.0, 0.999))  # type: ignore[misc]
        assert 54 <= least < most <= 24 * 3600 * 1.1
