"""How each public function of the stores of workflows is called when tenants are held apart; see test_tenants.py.

A store's module stands in MODULES, each of its public functions in CASES. A case returns the arguments beside the connection
and the owner; `pick.id(kind)` is an id of one's own or, now and then, another tenant's.
"""

from __future__ import annotations

import inspect
import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from types import ModuleType
from typing import Any
from uuid import UUID, uuid5

from workstation_pipelines.db import (
    attempts,
    blocks,
    execution_control,
    execution_costs,
    executions,
    steps,
    timeline,
    waits,
    workflow_runs,
    workflow_schedules,
    workflow_secrets,
    workflow_templates,
    workflows,
)
from workstation_pipelines.db.attempts import Spent
from workstation_pipelines.db.execution_costs import Period
from workstation_pipelines.db.executions import NewStep
from workstation_pipelines.db.timeline import TimelineEvent
from workstation_pipelines.model import UserId
from workstation_pipelines.workflow_model import (
    ExecutionId,
    ExecutionStatus,
    NodeId,
    SkipReason,
    StepId,
    StepStatus,
    TenantId,
    Trigger,
    Wait,
    WaitKind,
)

MODULES: tuple[ModuleType, ...] = (
    workflows,
    workflow_templates,
    workflow_secrets,
    workflow_schedules,
    executions,
    execution_control,
    execution_costs,
    attempts,
    steps,
    waits,
    blocks,
    timeline,
    workflow_runs,
)

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
LATER = NOW + timedelta(days=3650)  # nothing is due while a test runs
IDS_OF_A_KIND = 3
_NAMESPACE = UUID("0b54b2f5-6e2f-4b0e-9a39-7f5a3f6f2f11")


@dataclass(frozen=True, slots=True)
class Actor:
    """A user who acts for a tenant."""

    user_id: UserId
    tenant_id: TenantId


@dataclass(frozen=True, slots=True)
class Pick:
    """Chooses the arguments of one call; the same in every world that the call is made in."""

    random: random.Random
    actor: Actor
    others: tuple[Actor, ...]

    def id(self, kind: str) -> UUID:
        whose = self.random.choice(self.others) if self.random.random() < 0.3 else self.actor
        return id_of(whose, kind, self.random.randrange(IDS_OF_A_KIND))

    def own_id(self, kind: str) -> UUID:
        return id_of(self.actor, kind, self.random.randrange(IDS_OF_A_KIND))

    def fresh_id(self) -> UUID:
        return id_of(self.actor, "fresh", self.random.getrandbits(64))

    def one_of(self, *values: Any) -> Any:
        return self.random.choice(values)

    @property
    def slug(self) -> str:
        return str(self.one_of("digest", "triage"))


Case = Callable[[Pick], dict[str, Any]]


def id_of(actor: Actor, kind: str, number: int) -> UUID:
    return uuid5(_NAMESPACE, f"{actor.user_id} {actor.tenant_id} {kind} {number}")


def public_functions(modules: Iterable[ModuleType] = MODULES) -> dict[str, Callable[..., Any]]:
    """Return the functions that modules offer, by `module.function`."""
    return {
        f"{module.__name__.rpartition('.')[2]}.{name}": function
        for module in modules
        for name, function in inspect.getmembers(module, inspect.isfunction)
        if function.__module__ == module.__name__ and not name.startswith("_")
    }


def _definition(pick: Pick) -> dict[str, Any]:
    number = pick.one_of(1, 2)
    return {"definition": {"nodes": [], "number": number}, "definition_hash": f"hash {number}"}


def _labels(pick: Pick) -> dict[str, Any]:
    return {
        "name": pick.one_of("Digest", "Triage", ""),
        "description": pick.one_of("", "What came in"),
        "category": pick.one_of("", "sales"),
        "tags": pick.one_of((), ("daily",), ("daily", "mail")),
    }


def _sealed(pick: Pick) -> dict[str, Any]:
    return {"v": 1, "kid": pick.one_of("first", "second"), "wk": "", "ct": ""}


def _new_step(pick: Pick) -> NewStep:
    number = pick.random.randrange(IDS_OF_A_KIND)
    reuse = pick.one_of(None, (ExecutionId(pick.id("execution")), {"answer": number}))
    return NewStep(StepId(id_of(pick.actor, "step", number)), NodeId(f"n{number}"), "transform", "", number, reuse)


def _attempt(pick: Pick) -> dict[str, Any]:
    spent = Spent(pick.one_of(0, 5), pick.one_of(0, 7), pick.one_of(Decimal(0), Decimal("0.25")))
    return {"step_id": pick.id("step"), "block_id": pick.id("block"), "spent": spent}


def _token(pick: Pick) -> bytes:
    return pick.id("token").bytes


def _wait(pick: Pick) -> Wait:
    kind = pick.one_of(*WaitKind)
    return Wait(
        kind,
        until=pick.one_of(None, NOW, LATER),
        token_hash=_token(pick) if kind is WaitKind.APPROVAL else None,
        sync_job_id=pick.id("sync job") if kind is WaitKind.SYNC else None,
    )


def _error(pick: Pick) -> dict[str, Any]:
    return {"error_class": pick.one_of("RetryableError", "InvalidRequestError"), "error_message": "it did not work"}


def _execution(pick: Pick) -> dict[str, Any]:
    return {"execution_id": pick.id("execution")}


def _period(pick: Pick) -> dict[str, Any]:
    return {
        "workflow_id": pick.one_of(None, pick.id("workflow")),
        "since": pick.one_of(None, NOW),
        "until": pick.one_of(None, LATER),
    }


CASES: dict[str, Case] = {
    "executions.create": lambda pick: {
        "execution_id": pick.own_id("execution"),
        "version_id": pick.id("version"),
        "input": {"topic": pick.one_of("news", "mail")},
        "steps": [_new_step(pick) for _ in range(pick.one_of(0, 1))],
        "mode": pick.one_of("standard", "deep"),
        "priority": pick.one_of(0, 9),
        "idempotency_key": pick.one_of(None, "a", "b"),
        "parent_execution_id": pick.one_of(None, None, pick.id("execution")),
    },
    "executions.get": _execution,
    "executions.lock": _execution,
    "executions.hold": _execution,
    "executions.progress": _execution,
    "executions.listed": lambda pick: {
        **_period(pick),
        "status": pick.one_of(None, *ExecutionStatus),
        "errors_only": pick.one_of(False, True),
        "trigger": pick.one_of(None, *Trigger),
        "limit": pick.one_of(1, 10),
        "offset": pick.one_of(0, 1),
    },
    "executions.running": lambda pick: {"limit": pick.one_of(1, 10)},
    "executions.standing": lambda pick: {"execution_ids": [pick.id("execution"), pick.id("execution")]},
    "execution_control.begin_run": lambda pick: {**_execution(pick), "run_id": pick.own_id("run")},
    "execution_control.mark_running": lambda pick: {**_execution(pick), "run_id": pick.id("run")},
    "execution_control.heartbeat": lambda pick: {**_execution(pick), "run_id": pick.id("run")},
    "execution_control.set_waiting": _execution,
    "execution_control.end": lambda pick: {
        **_execution(pick),
        **_error(pick),
        "status": pick.one_of(ExecutionStatus.COMPLETED, ExecutionStatus.FAILED, ExecutionStatus.CANCELLED),
    },
    "execution_control.request_cancel": _execution,
    "execution_control.request_cancel_where": lambda pick: {
        "workflow_id": pick.one_of(None, pick.id("workflow")),
        "status": pick.one_of(None, ExecutionStatus.PENDING),
        "older_than": pick.one_of(None, timedelta(0), timedelta(days=1)),
    },
    "execution_control.delete_older_than": lambda pick: {
        "age": pick.one_of(timedelta(0), timedelta(days=1)),
        "workflow_id": pick.one_of(None, pick.id("workflow")),
    },
    "execution_costs.cost_by_mode": _period,
    "execution_costs.billing_by_period": lambda pick: {**_period(pick), "by": pick.one_of(*Period)},
    "execution_costs.median_durations_s": lambda pick: {"workflow_id": pick.id("workflow")},
    "attempts.begin": lambda pick: {
        "step_id": pick.id("step"),
        "block_id": pick.own_id("block"),
        "dagster_run_id": pick.id("run"),
        "input": {"config": pick.one_of("a", "b")},
    },
    "attempts.complete": lambda pick: {**_attempt(pick), "output": {"answer": pick.one_of(1, 2)}},
    "attempts.fail": lambda pick: {
        **_attempt(pick),
        **_error(pick),
        "will_retry": pick.one_of(True, False),
        "wait": pick.one_of(None, Wait(WaitKind.TIME, NOW)),
    },
    "attempts.wait": lambda pick: {**_attempt(pick), "wait": _wait(pick)},
    "attempts.cancel": _attempt,
    "attempts.hold": lambda pick: {"block_id": pick.id("block")},
    "attempts.spend": lambda pick: {"block_id": pick.id("block"), "spent": _attempt(pick)["spent"]},
    "steps.get": lambda pick: {"step_id": pick.id("step")},
    "steps.of_execution": _execution,
    "steps.standing": _execution,
    "steps.outputs": lambda pick: {**_execution(pick), "node_ids": [NodeId("n0"), NodeId("n1")]},
    "steps.skip": lambda pick: {"step_id": pick.id("step"), "reason": pick.one_of(*SkipReason)},
    "steps.close_open": lambda pick: {
        **_execution(pick),
        "endings": [steps.Ending(NodeId("n0"), pick.one_of(StepStatus.FAILED, StepStatus.CANCELLED), **_error(pick))],
    },
    "steps.cancel_open": lambda pick: {"execution_ids": [pick.id("execution"), pick.id("execution")]},
    "waits.settle": _execution,
    "waits.set_token": lambda pick: {"step_id": pick.id("step"), "token_hash": _token(pick)},
    "waits.decide": lambda pick: {
        "decision": {"approved": pick.one_of(True, False)},
        **pick.one_of({"token_hash": _token(pick)}, {"step_id": pick.id("step")}),
    },
    "blocks.of_execution": lambda pick: {**_execution(pick), "step_id": pick.one_of(None, pick.id("step"))},
    "timeline.add_many": lambda pick: {
        **_execution(pick),
        "events": [
            TimelineEvent(
                "run.started",
                NOW,
                dagster_run_id=pick.id("run"),
                storage_id=pick.one_of(None, 1, 2),
                message="it began",
            )
        ],
    },
    "timeline.of_execution": _execution,
    "workflow_runs.add": lambda pick: {**_execution(pick), "run_id": pick.own_id("run"), "number": pick.one_of(1, 2)},
    "workflow_runs.get": lambda pick: {"run_id": pick.id("run")},
    "workflow_runs.lock": lambda pick: {"run_id": pick.id("run")},
    "workflow_runs.of_execution": _execution,
    "workflow_runs.advance": lambda pick: {
        "run_id": pick.id("run"),
        "last_storage_id": pick.one_of(1, 5),
        "dagster_status": pick.one_of("STARTED", "SUCCESS"),
    },
    "workflow_runs.close": lambda pick: {"run_id": pick.id("run"), "dagster_status": pick.one_of(None, "SUCCESS")},
    "workflows.create": lambda pick: {
        "workflow_id": pick.own_id("workflow"),
        "version_id": pick.one_of(pick.fresh_id(), pick.own_id("version")),
        "slug": pick.slug,
        **_definition(pick),
        **_labels(pick),
    },
    "workflows.get": lambda pick: {"workflow_id": pick.id("workflow")},
    "workflows.by_slug": lambda pick: {"slug": pick.slug},
    "workflows.named": lambda pick: {"name": pick.one_of(pick.slug, str(pick.id("workflow")))},
    "workflows.exists": lambda pick: {"slug": pick.slug},
    "workflows.listed": lambda pick: {
        "is_active": pick.one_of(None, True, False),
        "category": pick.one_of(None, "sales"),
        "tags": pick.one_of((), ("daily",)),
        "order_by": pick.one_of(*workflows.ORDERS),
        "descending": pick.one_of(True, False),
        "limit": pick.one_of(1, 10),
        "offset": pick.one_of(0, 1),
    },
    "workflows.update": lambda pick: {"workflow_id": pick.id("workflow"), **_labels(pick)},
    "workflows.set_active": lambda pick: {"workflow_id": pick.id("workflow"), "is_active": pick.one_of(True, False)},
    "workflows.add_version": lambda pick: {
        "workflow_id": pick.id("workflow"),
        "version_id": pick.fresh_id(),
        **_definition(pick),
    },
    "workflows.version": lambda pick: {"workflow_id": pick.id("workflow"), "version": pick.one_of(None, 1, 2)},
    "workflows.versions": lambda pick: {"workflow_id": pick.id("workflow")},
    "workflows.version_of_id": lambda pick: {"version_id": pick.id("version")},
    "workflows.clone": lambda pick: {
        "workflow_id": pick.id("workflow"),
        "new_id": pick.own_id("workflow"),
        "new_version_id": pick.own_id("version"),
        "slug": pick.slug,
        "name": "Copy",
    },
    "workflows.delete": lambda pick: {"workflow_id": pick.id("workflow")},
    "workflows.stats": lambda pick: {"workflow_id": pick.id("workflow")},
    "workflows.summary": lambda pick: {},
    "workflow_templates.create": lambda pick: {
        "template_id": pick.own_id("template"),
        "slug": pick.slug,
        "definition": {"nodes": []},
        **_labels(pick),
    },
    "workflow_templates.get": lambda pick: {"template_id": pick.id("template")},
    "workflow_templates.by_slug": lambda pick: {"slug": pick.slug},
    "workflow_templates.listed": lambda pick: {
        "category": pick.one_of(None, "sales"),
        "tags": pick.one_of((), ("daily",)),
        "is_own": pick.one_of(None, True, False),
    },
    "workflow_templates.update": lambda pick: {
        "template_id": pick.id("template"),
        "definition": pick.one_of(None, {"nodes": [1]}),
        **_labels(pick),
    },
    # Making one public is meant to be seen by others: test_templates.py.
    "workflow_templates.set_public": lambda pick: {"template_id": pick.id("template"), "is_public": False},
    "workflow_templates.delete": lambda pick: {"template_id": pick.id("template")},
    "workflow_templates.count_use": lambda pick: {"template_id": pick.id("template")},
    "workflow_secrets.put": lambda pick: {
        "secret_id": pick.fresh_id(),
        "name": pick.one_of("TOKEN", "PASSWORD", "no name"),
        "sealed_value": _sealed(pick),
    },
    "workflow_secrets.names": lambda pick: {},
    "workflow_secrets.sealed": lambda pick: {"names": ["TOKEN", "PASSWORD"]},
    "workflow_secrets.remove": lambda pick: {"name": pick.one_of("TOKEN", "PASSWORD")},
    "workflow_secrets.rewrap_all": lambda pick: {
        "key_id": "second",
        "rewrap": lambda _id, record: {**record, "kid": "second"},
    },
    "workflow_secrets.sealed_with": lambda pick: {},
    "workflow_schedules.add": lambda pick: {
        "schedule_id": pick.own_id("schedule"),
        "workflow_id": pick.id("workflow"),
        "schedule_type": pick.one_of("daily", "hourly"),
        "config": {"at": "07:00"},
        "timezone": "UTC",
        "next_at": LATER,
        "input": {"topic": pick.one_of("news", "mail")},
    },
    "workflow_schedules.of_user": lambda pick: {"workflow_id": pick.one_of(None, pick.id("workflow"))},
    "workflow_schedules.get": lambda pick: {"schedule_id": pick.id("schedule")},
    "workflow_schedules.lock": lambda pick: {"schedule_id": pick.id("schedule")},
    "workflow_schedules.advance": lambda pick: {
        "schedule_id": pick.id("schedule"),
        "due_at": pick.one_of(LATER, NOW),
        "next_at": LATER,
    },
    "workflow_schedules.give_time": lambda pick: {"schedule_id": pick.id("schedule"), "next_at": LATER},
    "workflow_schedules.deactivate": lambda pick: {"schedule_id": pick.id("schedule"), "error": "it cannot be read"},
    "workflow_schedules.pause": lambda pick: {"schedule_id": pick.id("schedule")},
    "workflow_schedules.resume": lambda pick: {"schedule_id": pick.id("schedule"), "next_at": LATER},
    "workflow_schedules.remove": lambda pick: {"schedule_id": pick.id("schedule")},
}

# Functions that answer across users: what concerns the actor in the answer, which is all that anybody is told of it.
ACROSS_USERS: dict[str, Callable[[Actor, Callable[..., Any], Any, Pick], Any]] = {
    "workflows.version_by_job": lambda actor, function, database, pick: [
        owner
        for slug in ("digest", "triage")
        if (owner := function(database, job_key=str(pick.id("workflow"))[-12:], slug=slug, version=1))
        and _is_of(actor, owner)
    ],
    "workflows.recently_used": lambda actor, function, database, pick: [
        owner for owner in function(database, at_most=100_000) if _is_of(actor, owner)
    ],
    # A time of everybody's together, told to the service alone.
    "workflows.newest_version_at": lambda actor, function, database, pick: function(database) and None,
    "executions.owner_of": lambda actor, function, database, pick: [
        owner
        for owner in [function(database, execution_id=pick.id("execution"))]
        if owner is not None and _is_of(actor, owner)
    ],
    "executions.to_start": lambda actor, function, database, pick: [
        owner for owner in function(database, at_most=100_000) if _is_of(actor, owner)
    ],
    "workflow_runs.open_runs": lambda actor, function, database, pick: [
        run for run in function(database, at_most=100_000) if _is_of(actor, run)
    ],
    "workflow_runs.to_mirror": lambda actor, function, database, pick: [
        run for run in function(database, at_most=100_000) if _is_of(actor, run)
    ],
    "workflow_secrets.owners": lambda actor, function, database, pick: [
        owner for owner in function(database) if owner == (actor.user_id, actor.tenant_id)
    ],
    "workflow_schedules.due": lambda actor, function, database, pick: [
        row for row in function(database, at_most=100_000) if _is_of(actor, row)
    ],
}


def _is_of(actor: Actor, row: Any) -> bool:
    return (row.user_id, row.tenant_id) == (actor.user_id, actor.tenant_id)


def comparable(answer: Any) -> Any:
    """Return an answer without its moments, which differ from world to world."""
    if isinstance(answer, datetime):
        return answer if answer in (NOW, LATER) else "a moment"
    if isinstance(answer, TimelineEvent):  # its place is among the events of everybody
        answer = replace(answer, seq=None)
    if hasattr(answer, "_asdict"):
        return comparable(answer._asdict())
    if isinstance(answer, timedelta) or (isinstance(answer, float) and not answer.is_integer()):
        return "a duration"
    if hasattr(answer, "__dataclass_fields__"):
        return {name: comparable(getattr(answer, name)) for name in answer.__dataclass_fields__}
    if isinstance(answer, Mapping):
        return {key: comparable(value) for key, value in answer.items()}
    if isinstance(answer, list | tuple):
        return [comparable(each) for each in answer]
    return answer
