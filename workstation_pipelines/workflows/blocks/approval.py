"""The block `approval`: waits for a person to say yes or no.

Its owner decides by execution and node. A token for somebody else is made when the owner asks for one, never here: what
a block says is stored and shown.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Literal

from pydantic import Field

from workstation_pipelines.errors import InvalidRequestError
from workstation_pipelines.workflow_model import BlockResult, Wait, WaitKind
from workstation_pipelines.workflows.blocks.contract import BlockCall, BlockConfig

Otherwise = Literal["fail", "continue"]


class ApprovalConfig(BlockConfig):
    """`message` says what is to be decided, `assignee` by whom, for people to read. Without `expires_after_s` it waits for ever.

    `on_reject` and `on_expire` say what a no, or no answer, is: the end, or an output with `approved` false.
    """

    message: str = Field(min_length=1, max_length=2000)
    assignee: str = Field(default="", max_length=200)
    expires_after_s: float | None = Field(default=None, gt=0, le=366 * 24 * 3600)
    on_reject: Otherwise = "fail"
    on_expire: Otherwise = "fail"


def run(call: BlockCall[ApprovalConfig]) -> BlockResult | Wait:
    """Return {"approved", "comment", "by", "decided_at", "expired"} once it is decided or expired.

    Raises InvalidRequestError for a no and for no answer, unless the config says to continue.
    """
    wait = call.wait if call.wait is not None and call.wait.kind is WaitKind.APPROVAL else None
    if wait is None:
        return _asked(call)
    decision = wait.decision or {}
    if "approved" in decision:
        return _decided(call, decision)
    is_expired = wait.until is not None and call.clock() >= wait.until
    if not (is_expired or decision.get("expired")):
        return wait
    if call.config.on_expire == "fail":
        raise InvalidRequestError("nobody has decided in time: run it again, and decide earlier or let it wait longer")
    return _result(call, {}, is_expired=True)


def _asked(call: BlockCall[ApprovalConfig]) -> Wait:
    config = call.config
    after_s = config.expires_after_s
    until = call.clock() + timedelta(seconds=after_s) if after_s is not None else None
    message = f"{config.message} (for {config.assignee})" if config.assignee else config.message
    return Wait(WaitKind.APPROVAL, until=until, message=message)


def _decided(call: BlockCall[ApprovalConfig], decision: Mapping[str, Any]) -> BlockResult:
    if not decision["approved"] and call.config.on_reject == "fail":
        by = decision.get("by") or "somebody"
        raise InvalidRequestError(f"{by} has rejected it: mend what was rejected and run it again")
    return _result(call, decision, is_expired=False)


def _result(call: BlockCall[ApprovalConfig], decision: Mapping[str, Any], *, is_expired: bool) -> BlockResult:
    return BlockResult(
        {
            "approved": bool(decision.get("approved", False)),
            "comment": decision.get("comment") or "",
            "by": decision.get("by") or "",
            "decided_at": decision.get("decided_at") or call.clock().isoformat(),
            "expired": is_expired,
        }
    )
