"""Two users in two tenants each do whatever the stores of workflows offer, on each other's ids, too: each is answered as if alone.

The same calls are made in a world that all four share and in one that each has for itself. No row, error, count or statistic
may differ.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from tests.conftest import DatabaseUrls, fresh_database
from tests.workflows.tenant_cases import ACROSS_USERS, CASES, Actor, Pick, comparable, public_functions
from workstation_pipelines.db import tables
from workstation_pipelines.db.engine import Database
from workstation_pipelines.errors import WorkstationError
from workstation_pipelines.model import UserId
from workstation_pipelines.workflow_model import TenantId

ACTORS = 4
FUNCTIONS = public_functions()
TENANT_TABLES = [table.name for table in tables.metadata.sorted_tables if "tenant_id" in table.columns]

# As an execution that is over leaves them.
_COUNT = text(
    """
    UPDATE app.workflows
       SET total_executions = total_executions + 2, completed_executions = completed_executions + 1,
           failed_executions = failed_executions + 1, total_duration_s = total_duration_s + 3, total_cost = total_cost + 0.5,
           total_tokens = total_tokens + 70
     WHERE user_id = :user_id AND tenant_id = :tenant_id"""
)

# Whatever is made is made more often than it is looked for, or little would ever be there.
_MAKING = (
    "workflows.create",
    "workflow_templates.create",
    "workflow_secrets.put",
    "workflow_schedules.add",
    "executions.create",
    "execution_control.begin_run",
    "attempts.begin",
)
# Done first by each, with seeds by which one call fits the other: a step that is being worked on.
_PREPARED = (
    ("workflows.create", 21),
    ("executions.create", 21),
    ("execution_control.begin_run", 2),
    ("attempts.begin", 6),
)
_NAMES = st.sampled_from([*CASES, *ACROSS_USERS, "count"]) | st.sampled_from(_MAKING)
STEPS = st.lists(st.tuples(st.integers(0, ACTORS - 1), _NAMES, st.integers(0, 2**32)), min_size=30, max_size=50)

_numbers = itertools.count()


@pytest.fixture(scope="module")
def worlds(postgres: DatabaseUrls, template_database: str) -> Iterator[tuple[Database, ...]]:
    """The world of all, and one for each."""
    with ExitStack() as stack:
        opened = []
        for _ in range(ACTORS + 1):
            urls = stack.enter_context(fresh_database(postgres, template_database))
            opened.append(Database(urls.app_url, pool_size=1))
            stack.callback(opened[-1].close)
        yield tuple(opened)


def test_every_public_function_has_a_case() -> None:
    assert set(CASES) | set(ACROSS_USERS) == set(FUNCTIONS)
    assert not set(CASES) & set(ACROSS_USERS)


@settings(max_examples=6, deadline=None)
@given(steps=STEPS)
def test_each_is_answered_as_if_the_others_were_not(
    worlds: tuple[Database, ...], steps: list[tuple[int, str, int]]
) -> None:
    example = next(_numbers)
    actors = [
        Actor(UserId(f"{user}-{example}"), TenantId(f"{tenant}-{example}"))
        for user in ("alice", "bob")
        for tenant in ("acme", "globex")
    ]
    steps = [(number, name, seed) for name, seed in _PREPARED for number in range(ACTORS)] + steps
    together, *alone = worlds
    answers: list[list[Any]] = [[] for _ in actors]
    for number, name, seed in steps:
        answers[number].append((name, _answer(together, actors, number, name, seed)))
    for number, actor in enumerate(actors):
        own = [(name, _answer(alone[number], actors, number, name, seed)) for at, name, seed in steps if at == number]
        assert own == answers[number]
        assert _counts(alone[number], actor) == _counts(together, actor)


def _answer(world: Database, actors: list[Actor], number: int, name: str, seed: int) -> Any:
    actor = actors[number]
    pick = Pick(random.Random(seed), actor, tuple(other for other in actors if other != actor))  # noqa: S311 - no secret
    owner = {"user_id": actor.user_id, "tenant_id": actor.tenant_id}
    try:
        if name in ACROSS_USERS:
            return comparable(ACROSS_USERS[name](actor, FUNCTIONS[name], world, pick))
        with world.transaction_with_rls(actor.user_id, actor.tenant_id) as connection:
            if name == "count":
                return connection.execute(_COUNT, owner).rowcount
            return comparable(FUNCTIONS[name](connection, **owner, **CASES[name](pick)))
    except WorkstationError as error:
        return type(error).__name__, error.message
    except DBAPIError as error:
        return type(error).__name__, getattr(error.orig, "sqlstate", None)


def _counts(world: Database, actor: Actor) -> dict[str, int]:
    """Count what the actor can see of each table, with no predicate at all: row-level security is to hold it alone."""
    with world.transaction_with_rls(actor.user_id, actor.tenant_id) as connection:
        return {
            table: connection.execute(text(f"SELECT count(*) FROM app.{table}")).scalar_one()  # noqa: S608 - constants
            for table in TENANT_TABLES
        }
