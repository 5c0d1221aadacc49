"""apify_actor: run an actor at Apify and take what it stored (docs.apify.com, API v2, November 2026).

`POST /v2/acts/{actor}/runs` with the actor's input starts a run and answers 201 `{data: {id, status, startedAt,
defaultDatasetId, usageTotalUsd}}`; `GET /v2/actor-runs/{id}?waitForFinish=` waits up to 60 seconds for its end;
`POST /v2/actor-runs/{id}/abort`; `GET /v2/datasets/{id}/items` is a JSON list. Statuses that are no end: READY, RUNNING,
TIMING-OUT, ABORTING. There is no idempotency key, so a start whose answer is lost is not tried again.

Once a run has begun nothing of this block begins another: whatever fails for a while becomes a Wait that knows the run.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from urllib.parse import quote

from pydantic import Field, SecretStr

from workstation_pipelines.errors import FencedError, InvalidRequestError, RetryableError, WorkstationError
from workstation_pipelines.model import Usage
from workstation_pipelines.workflow_model import BlockResult, Wait, WaitKind
from workstation_pipelines.workflows import answers
from workstation_pipelines.workflows.blocks.contract import BlockCall, BlockConfig
from workstation_pipelines.workflows.outbound import MOST_BYTES, Incoming, Outbound
from workstation_pipelines.workflows.spending import bill_at_once
from workstation_pipelines.workflows.vendor import Key, Vendor, key_of

STAYS_S = 30.0
"""So long a run is waited for here; then the execution lets go and looks again later."""

_LOOK_S = 10
_LEAST_WAIT_S, _MOST_WAIT_S = 30.0, 600.0
_ABORT_S = 1.5
_GOING: Final = frozenset(("READY", "RUNNING", "TIMING-OUT", "ABORTING"))
_WORD = re.compile(r"[A-Za-z0-9-]{1,40}")
_NOTED = re.compile(r"run ([A-Za-z0-9-]{1,40}) of ")
_ACTOR = re.compile(r"[A-Za-z0-9_.-]{1,100}(?:[~/][A-Za-z0-9_.-]{1,100})?")


class ApifyActorConfig(BlockConfig):
    """`actor` is its id, or `user/name`. `max_minutes` end its run at Apify, `max_charge_usd` bound what it may cost there."""

    actor: str
    input: dict[str, Any] = Field(default_factory=dict, repr=False)
    key: SecretStr | None = None
    fields: list[str] = Field(default_factory=list)
    max_items: int = Field(100, ge=1, le=10_000)
    max_bytes: int = Field(1_000_000, ge=1, le=MOST_BYTES)
    max_minutes: int = Field(60, ge=1, le=7 * 24 * 60)
    max_charge_usd: float | None = Field(None, gt=0)
    memory_mb: int | None = Field(None, ge=128, le=32768)
    build: str | None = None


@dataclass(frozen=True, slots=True)
class ActorRun:
    """A run as Apify tells of it."""

    id: str
    status: str
    dataset_id: str
    started_at: datetime | None
    usage_usd: float | None

    @property
    def is_over(self) -> bool:
        return self.status not in _GOING


def run(call: BlockCall[ApifyActorConfig]) -> BlockResult | Wait:
    """Output: {run_id, status, dataset_id, items, count, usage_usd}; `usage_usd` is what Apify says so far, or null.

    Aborts the run on a cancel; the end of the node's time is no end of it. Raises InvalidRequestError for a run that ended
    otherwise than SUCCEEDED.
    """
    vendor = _vendor(call)
    known = _known(call.wait)
    if known is None:
        found = _started(vendor, call.config)
        call.log(f"run {found.id} of {call.config.actor} began at Apify")
    else:
        found = ActorRun(known, "RUNNING", "", None, None)
    try:
        found = _awaited(vendor, found, call)
        if not found.is_over:
            return _later(call, found)
        if found.status != "SUCCEEDED":
            bill_at_once(call, [_usage(call)])
            raise InvalidRequestError(
                f"run {found.id} of {call.config.actor} ended as {found.status}: its log at Apify says why"
            )
        return _result(call, found, _items(vendor, call.config, found))
    except RetryableError as error:
        call.log(f"run {found.id} of {call.config.actor} cannot be looked at just now: {error.message}")
        return _later(call, found, least_s=error.wait_s)
    except FencedError:  # whoever has the execution now has this run, too
        raise
    except WorkstationError:
        if not found.is_over:
            _abort(vendor, found)
        raise


def _vendor(call: BlockCall[ApifyActorConfig]) -> Vendor:
    settings = call.workspace.settings
    if not _ACTOR.fullmatch(call.config.actor):
        raise InvalidRequestError("apify_actor: `actor` is an id, or user/name, such as apify/website-content-crawler")
    value, hint = key_of(call.config.key, settings.apify_token, variable="APIFY_TOKEN", block="apify_actor")
    return Vendor(call, settings.apify_api_url, Key(value, hint), Outbound(operator_url=settings.apify_api_url))


def _known(wait: Wait | None) -> str | None:
    """The run that an earlier call began, which the message of its wait tells."""
    noted = _NOTED.match(wait.message) if wait is not None else None
    return noted[1] if noted else None


def _started(vendor: Vendor, config: ApifyActorConfig) -> ActorRun:
    actor = quote(config.actor.replace("/", "~"), safe="~")
    query: Mapping[str, str | int | None] = {
        "timeout": config.max_minutes * 60,
        "memory": config.memory_mb,
        "build": config.build,
        "maxTotalChargeUsd": f"{config.max_charge_usd:g}" if config.max_charge_usd is not None else None,
    }
    answer = vendor.ask("POST", f"/v2/acts/{actor}/runs", query=query, body=config.input, is_repeatable=False)
    return _run_in(vendor, answer, is_repeatable=False)


def _awaited(vendor: Vendor, found: ActorRun, call: BlockCall[ApifyActorConfig]) -> ActorRun:
    """Look at a run until it is over, or has been waited for long enough."""
    left_s = min(STAYS_S, call.stop.left_s - _LOOK_S)
    ends_left_s = call.stop.left_s - left_s
    while not found.is_over:
        wait_s = max(0, min(_LOOK_S, int(call.stop.left_s - ends_left_s)))
        path = f"/v2/actor-runs/{quote(found.id, safe='')}"
        found = _run_in(vendor, vendor.ask("GET", path, query={"waitForFinish": wait_s}, timeout_s=wait_s + 30.0))
        if call.stop.left_s <= ends_left_s:
            break
        if not found.is_over:
            call.stop.wait(0.05)  # a server that does not wait as asked is not asked without end
    return found


def _later(call: BlockCall[ApifyActorConfig], found: ActorRun, *, least_s: float = 0.0) -> Wait:
    """Look again after half the time that the run has taken so far, within bounds."""
    now = call.clock()
    age_s = (now - found.started_at).total_seconds() if found.started_at is not None else 0.0
    wait_s = max(min(max(age_s / 2, _LEAST_WAIT_S), _MOST_WAIT_S), least_s)
    return Wait(
        WaitKind.TIME,
        until=now + timedelta(seconds=wait_s),
        message=f"run {found.id} of {call.config.actor} at Apify",
    )


def _items(vendor: Vendor, config: ApifyActorConfig, found: ActorRun) -> list[Any]:
    query: dict[str, str | int | None] = {
        "format": "json",
        "clean": "true",
        "limit": config.max_items,
        "fields": ",".join(config.fields) or None,
    }
    path = f"/v2/datasets/{quote(found.dataset_id, safe='')}/items"
    answer = vendor.ask("GET", path, query=query, most_bytes=config.max_bytes)
    items = answers.json_in(answer, secrets=vendor.secrets)
    if not isinstance(items, list):
        raise answers.misunderstood(answer, "the items of a dataset are no list")
    return items[: config.max_items]


def _result(call: BlockCall[ApifyActorConfig], found: ActorRun, items: list[Any]) -> BlockResult:
    call.log(f"run {found.id} of {call.config.actor} stored {len(items):,} items, as far as they were taken")
    output = {
        "run_id": found.id,
        "status": found.status,
        "dataset_id": found.dataset_id,
        "items": items,
        "count": len(items),
        "usage_usd": found.usage_usd,
    }
    return BlockResult(output, (_usage(call),))


def _usage(call: BlockCall[ApifyActorConfig]) -> Usage:
    return Usage("apify_actor", "apify", call.config.actor, 1, None, "calls")


def _abort(vendor: Vendor, found: ActorRun) -> None:
    """End a run that nobody waits for any more, as well as that goes: its own time limit is the net under it."""
    path = f"/v2/actor-runs/{quote(found.id, safe='')}/abort"
    try:
        vendor.unstopped(_ABORT_S).ask("POST", path, timeout_s=_ABORT_S)
    except WorkstationError as error:
        vendor.call.log(f"run {found.id} of {vendor.call.config.actor} could not be aborted: {error.message}")


def _run_in(vendor: Vendor, answer: Incoming, *, is_repeatable: bool = True) -> ActorRun:
    run = vendor.fields(answer, is_repeatable=is_repeatable).get("data")
    names = ("id", "status", "defaultDatasetId")
    found = [run.get(name) for name in names] if isinstance(run, dict) else []
    if not isinstance(run, dict) or not all(isinstance(each, str) and _WORD.fullmatch(each) for each in found):
        raise answers.misunderstood(answer, "it tells of no run", is_repeatable=is_repeatable)
    usage = run.get("usageTotalUsd")
    return ActorRun(
        id=run["id"],
        status=run["status"],
        dataset_id=run["defaultDatasetId"],
        started_at=_moment(run.get("startedAt")),
        usage_usd=float(usage) if isinstance(usage, int | float) and not isinstance(usage, bool) else None,
    )


def _moment(found: object) -> datetime | None:
    try:
        moment = datetime.fromisoformat(found) if isinstance(found, str) else None
    except ValueError:
        return None
    return moment if moment is not None and moment.tzinfo is not None else None
