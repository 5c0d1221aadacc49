"""Removing what has had its day, a portion at a time, for every user."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

from workstation_pipelines.db import audit, retention
from workstation_pipelines.db.engine import Database
from workstation_pipelines.db.retention import RULES, Rule
from workstation_pipelines.model import UserId
from workstation_pipelines.settings import RetentionDays

ROWS_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Swept:
    """How many rows one rule let go of one user."""

    rule: str
    rows: int


def sweep(database: Database, days: RetentionDays, *, user_id: UserId, is_dry: bool = False) -> Iterator[Swept]:
    """Apply every rule to a user's rows; a dry run only counts. Commits in portions, so it may be stopped and repeated.

    One rule may free what the next one takes, so that a sweep can remove more than a dry run right before it counts.
    """
    with database.transaction_with_rls(user_id) as connection:
        tenants = retention.tenants(connection)
    for rule in RULES:
        kept = timedelta(days=getattr(days, rule.kept_as))
        sweep_one = _count if is_dry else _delete_all
        scopes = tenants if rule.is_within_tenant else [None]
        yield Swept(rule.name, sum(sweep_one(database, rule, user_id, tenant_id, kept) for tenant_id in scopes))


def every_user(database: Database) -> Iterator[UserId]:
    """Yield users who have anything here, in order of their ids."""
    after = ""
    while page := retention.users(database, after=after):
        yield from page
        after = page[-1]


def _count(database: Database, rule: Rule, user_id: UserId, tenant_id: str | None, kept: timedelta) -> int:
    with database.transaction_with_rls(user_id, tenant_id) as connection:
        return retention.count(connection, rule, user_id=user_id, tenant_id=tenant_id, kept=kept)


def _delete_all(database: Database, rule: Rule, user_id: UserId, tenant_id: str | None, kept: timedelta) -> int:
    deleted = 0
    while True:
        with database.transaction_with_rls(user_id, tenant_id) as connection:
            some = retention.delete(
                connection, rule, user_id=user_id, tenant_id=tenant_id, kept=kept, at_most=ROWS_AT_ONCE
            )
            if some and rule.audited_as is not None:
                action, noun = rule.audited_as
                audit.append(connection, [audit.Entry(action, detail={noun: some})])
        deleted += some
        if some < ROWS_AT_ONCE:
            return deleted
