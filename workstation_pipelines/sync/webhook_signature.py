"""Signatures of webhooks after Standard Webhooks 1.0.0 (https://www.standardwebhooks.com), scheme `v1`."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
from datetime import datetime

from workstation_pipelines.errors import InvalidRequestError

SECRET_PREFIX = "whsec_"  # noqa: S105 - the form of a secret, not one
_SECRET_BYTES = 32


def new_secret() -> str:
    """Return a fresh secret in the form that receivers' libraries take."""
    return SECRET_PREFIX + base64.b64encode(secrets.token_bytes(_SECRET_BYTES)).decode()


def signed_headers(secret: str, *, message_id: str, sent_at: datetime, body: bytes) -> dict[str, str]:
    """Return the three headers by which a receiver knows sender, message and time; `body` is what is sent, byte for byte.

    Raises InvalidRequestError for a secret of another form.
    """
    timestamp = str(int(sent_at.timestamp()))
    signed = b".".join((message_id.encode(), timestamp.encode(), body))
    digest = hmac.new(_key(secret), signed, hashlib.sha256).digest()
    return {
        "webhook-id": message_id,
        "webhook-timestamp": timestamp,
        "webhook-signature": f"v1,{base64.b64encode(digest).decode()}",
    }


def _key(secret: str) -> bytes:
    try:
        return base64.b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        raise InvalidRequestError(
            "a webhook's secret is not whsec_ and base64: remove the webhook and add it"
        ) from None
