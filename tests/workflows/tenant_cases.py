"""How each public function of the stores of workflows is called when tenants are held apart; see test_tenants.py.

A store's module stands in MODULES, each of its public functions in CASES. A case returns the arguments beside the connection
and the owner; `pick.id(kind)` is an id of one's own or, now and then, another tenant's.
"""

from __future__ import annotations

import inspect
import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import ModuleType
from typing import Any
from uuid import UUID, uuid5

from workstation_pipelines.db import workflow_schedules, workflow_secrets, workflow_templates, workflows
from workstation_pipelines.model import UserId
from workstation_pipelines.workflow_model import TenantId

MODULES: tuple[ModuleType, ...] = (workflows, workflow_templates, workflow_secrets, workflow_schedules)

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


CASES: dict[str, Case] = {
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
    if hasattr(answer, "__dataclass_fields__"):
        return {name: comparable(getattr(answer, name)) for name in answer.__dataclass_fields__}
    if isinstance(answer, Mapping):
        return {key: comparable(value) for key, value in answer.items()}
    if isinstance(answer, list | tuple):
        return [comparable(each) for each in answer]
    return answer
