"""notify_webhook: tell a receiver, signed after Standard Webhooks, by a webhook of the user's or at a URL.

A named webhook gets it from the queue that its events come from: at least once, tried again for days, and the block is done
as soon as it is queued. A URL is told at once, by the block itself. Either way `webhook-id` is the same for every attempt of
this node in this execution, so that a receiver knows a repetition.
"""

from __future__ import annotations

import json
from typing import Any, Self
from uuid import UUID, uuid5

from pydantic import Field, SecretStr, model_validator

from workstation_pipelines.db import webhook_deliveries, webhooks
from workstation_pipelines.errors import InvalidRequestError
from workstation_pipelines.model import WebhookDeliveryId
from workstation_pipelines.sync.webhook_signature import signed_headers
from workstation_pipelines.workflow_model import BlockResult
from workstation_pipelines.workflows import answers
from workstation_pipelines.workflows.blocks.contract import BlockCall, BlockConfig
from workstation_pipelines.workflows.outbound import Outbound, Outgoing
from workstation_pipelines.workflows.redaction import redacted

MOST_BYTES = 256 * 1024
_DELIVERIES = UUID("6f1c8a52-2f0e-4c55-9d0b-3a6f0a4be7c1")
_TIMEOUT_S = 30.0


class NotifyWebhookConfig(BlockConfig):
    """`webhook` by name or id, or a `url` with the `secret` (whsec_...) that signs it. `type` is what a receiver goes by."""

    webhook: str | None = None
    url: str | None = Field(None, repr=False)
    secret: SecretStr | None = None
    type: str = Field("workflow.notification", pattern=r"^[a-z0-9_.]{1,100}$")
    data: Any = Field(None, repr=False)

    @model_validator(mode="after")
    def _has_one_receiver(self) -> Self:
        if (self.webhook is None) == (self.url is None):
            raise ValueError("give one of webhook and url")
        if self.secret is not None and self.url is None:
            raise ValueError("a webhook has a secret of its own: secret is for url")
        return self


def run(call: BlockCall[NotifyWebhookConfig]) -> BlockResult:
    """Output: {delivery_id, status}; status is the receiver's, null for a webhook that will be told.

    The receiver gets {type, timestamp, data: {execution_id, node_id, data}}. The same call twice queues one delivery.
    """
    delivery_id = WebhookDeliveryId(uuid5(_DELIVERIES, f"{call.user_id}\n{call.idempotency_key}"))
    payload = answers.storable(_payload(call))
    body = json.dumps(payload, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()
    if len(body) > MOST_BYTES:
        raise InvalidRequestError(f"notify_webhook: `data` takes more than {MOST_BYTES:,} bytes: send less, or a link")
    if call.config.url is None:
        # What waits in the queue is kept as it is: no place for a secret.
        _queue(call, delivery_id, redacted(payload, call.secrets))
        return BlockResult({"delivery_id": str(delivery_id), "status": None})
    return BlockResult({"delivery_id": str(delivery_id), "status": _send(call, call.config.url, delivery_id, body)})


def _payload(call: BlockCall[NotifyWebhookConfig]) -> dict[str, Any]:
    return {
        "type": call.config.type,
        "timestamp": call.clock().isoformat(),
        "data": {"execution_id": str(call.execution_id), "node_id": call.node_id, "data": call.config.data},
    }


def _queue(call: BlockCall[NotifyWebhookConfig], delivery_id: WebhookDeliveryId, payload: dict[str, Any]) -> None:
    with call.workspace.database.transaction_with_rls(call.user_id) as connection:
        webhook = webhooks.named(connection, user_id=call.user_id, name=call.config.webhook or "")
        if not webhook.is_active:
            raise InvalidRequestError(
                f"the webhook {webhook.name} is disabled: mend its receiver and `workstation webhooks enable` it"
            )
        webhook_deliveries.add_message(
            connection, user_id=call.user_id, webhook_id=webhook.id, delivery_id=delivery_id, payload=payload
        )
    call.log(f"delivery {delivery_id} is queued for the webhook {webhook.name}")


def _send(call: BlockCall[NotifyWebhookConfig], url: str, delivery_id: WebhookDeliveryId, body: bytes) -> int:
    settings, message_id = call.workspace.settings, f"msg_{delivery_id}"
    headers = {"Content-Type": "application/json", "webhook-id": message_id}
    if call.config.secret is not None:
        secret = call.config.secret.get_secret_value()
        headers |= signed_headers(secret, message_id=message_id, sent_at=call.clock(), body=body)
    outbound = Outbound(allows_loopback=settings.webhook_loopback)
    answer = outbound.send(Outgoing("POST", url, headers=headers, body=body, timeout_s=_TIMEOUT_S), stop=call.stop)
    if not 200 <= answer.status < 300:
        raise answers.refusal(answer, clock=call.clock, secrets=call.secrets)
    call.log(f"{answer.who} was told by delivery {delivery_id} and answered {answer.status}")
    return answer.status
