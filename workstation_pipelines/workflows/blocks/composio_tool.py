"""composio_tool: run a tool of Composio's with an account that it keeps (docs.composio.dev, API v3, November 2026).

`POST /api/v3/tools/execute/{tool}` with `{arguments, connected_account_id, user_id, version}` answers 200 with `{data,
successful, error, log_id}`, also for a tool that failed. There is no idempotency key, and many tools send or create
something: one whose answer is lost is not run again unless `is_idempotent` says that it may.

With the operator's key on a server that others use, a workflow acts with accounts of its own user only, as Composio knows
them by `user_id`; with a key of one's own, or on one's own machine, with any.
"""

from __future__ import annotations

import re
from typing import Any, Literal
from urllib.parse import quote

from pydantic import Field, SecretStr

from workstation_pipelines.errors import InvalidRequestError, ReauthorizeError
from workstation_pipelines.model import Usage
from workstation_pipelines.workflow_model import BlockResult
from workstation_pipelines.workflows import answers
from workstation_pipelines.workflows.blocks.contract import BlockCall, BlockConfig
from workstation_pipelines.workflows.outbound import MOST_BYTES, Outbound
from workstation_pipelines.workflows.spending import bill_at_once
from workstation_pipelines.workflows.vendor import Key, Vendor, key_of

_TOOL = re.compile(r"[A-Za-z0-9_-]{1,200}")
_ID = re.compile(r"[A-Za-z0-9_-]{1,100}")
_NOT_FOUND = 404


class ComposioToolConfig(BlockConfig):
    """`tool` is its slug, such as GITHUB_GET_REPOS. `user_id` is the workflow's own user unless given."""

    tool: str
    arguments: dict[str, Any] = Field(default_factory=dict, repr=False)
    connected_account_id: str | None = None
    user_id: str | None = None
    version: str | None = None
    key: SecretStr | None = None
    is_idempotent: bool = False
    on_error: Literal["fail", "continue"] = "fail"
    max_bytes: int = Field(1_000_000, ge=1, le=MOST_BYTES)


def run(call: BlockCall[ComposioToolConfig]) -> BlockResult:
    """Output: {successful, data, error, log_id}.

    A tool that says of itself that it failed raises InvalidRequestError, or with `on_error: continue` comes out as it is.
    """
    config = call.config
    vendor = _vendor(call)
    body = {
        "arguments": config.arguments,
        "user_id": config.user_id or call.user_id,
        "connected_account_id": config.connected_account_id,
        "version": config.version,
    }
    answer = vendor.ask(
        "POST",
        f"/api/v3/tools/execute/{quote(config.tool, safe='')}",
        body={name: value for name, value in body.items() if value is not None},
        is_repeatable=config.is_idempotent,
        most_bytes=config.max_bytes,
        timeout_s=max(call.stop.left_s, 1.0),
    )
    fields = vendor.fields(answer, is_repeatable=config.is_idempotent)
    successful, log_id = fields.get("successful"), fields.get("log_id")
    if not isinstance(successful, bool):
        raise answers.misunderstood(answer, "it does not say whether it succeeded", is_repeatable=config.is_idempotent)
    logged = log_id if isinstance(log_id, str) and _ID.fullmatch(log_id) else ""
    call.log(
        f"{config.tool} {'succeeded' if successful else 'failed'} at Composio{f' (log {logged})' if logged else ''}"
    )
    usages = (Usage("composio_tool", "composio", config.tool, 1, None, "calls"),)
    if not successful and config.on_error == "fail":
        bill_at_once(call, usages)
        raise InvalidRequestError(
            f"composio: {config.tool} did not succeed: its log {logged or 'at Composio'} says why, or let the block go on"
            " with `on_error: continue`"
        )
    output = {
        "successful": successful,
        "data": fields.get("data"),
        "error": fields.get("error"),
        "log_id": logged or None,
    }
    return BlockResult(output, usages)


def _vendor(call: BlockCall[ComposioToolConfig]) -> Vendor:
    config, settings = call.config, call.workspace.settings
    if not _TOOL.fullmatch(config.tool):
        raise InvalidRequestError("composio_tool: `tool` is a slug, such as GITHUB_GET_REPOS")
    if config.connected_account_id is not None and not _ID.fullmatch(config.connected_account_id):
        raise InvalidRequestError("composio_tool: a connected account's id has letters, digits, _ and - only")
    value, hint = key_of(config.key, settings.composio_api_key, variable="COMPOSIO_API_KEY", block="composio_tool")
    key = Key(value, hint, header="x-api-key", scheme="")
    vendor = Vendor(call, settings.composio_api_url, key, Outbound(operator_url=settings.composio_api_url))
    if config.key is None and not settings.uses_embedded_database:
        _refuse_others(vendor, config, call.user_id)
    return vendor


def _refuse_others(vendor: Vendor, config: ComposioToolConfig, user_id: str) -> None:
    if config.user_id not in (None, user_id):
        raise InvalidRequestError("composio_tool: another `user_id` than one's own needs a `key` of one's own")
    if config.connected_account_id is None:
        return
    path = f"/api/v3/connected_accounts/{config.connected_account_id}"
    answer = vendor.ask("GET", path, expected=(_NOT_FOUND,))
    # An account of somebody else looks like one that is not there.
    if answer.status == _NOT_FOUND or vendor.fields(answer).get("user_id") != user_id:
        raise ReauthorizeError(
            f"composio: this user has no account {config.connected_account_id}: connect it at Composio under the user id of"
            " the workflow's user"
        )
