"""Connections to the application database, and the only two ways to run a statement: both inside a user's context."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, cast
from uuid import UUID

import psycopg
from sqlalchemy import Connection, Engine, Row, create_engine, event, text
from sqlalchemy.exc import DBAPIError, OperationalError

from workstation_pipelines.errors import InvalidRequestError, SourceUnavailableError, WorkstationError
from workstation_pipelines.model import UserId
from workstation_pipelines.settings import libpq_url

APP_ROLE = "wp_app"
USER_ID = re.compile(r"[A-Za-z0-9_.:|@-]{1,200}")  # as app.set_current_user_id() has it
SET_CONTEXT = text("SELECT app.set_current_user_id(:user_id, :tenant_id)")


class Database:
    """The application database as the role wp_app; safe to share between threads, not across a fork.

    Every connection, whoever logs in with the URL, becomes wp_app before its first statement, so that row-level
    security holds even when an operator passes an administrator's URL. Nothing connects before first use.
    """

    def __init__(self, app_url: str, *, pool_size: int = 5) -> None:
        self.url = app_url
        self._engine: Engine = create_engine(
            app_url,
            pool_size=pool_size,
            max_overflow=pool_size,
            pool_pre_ping=True,
            hide_parameters=True,  # they hold people's texts, and errors end up in logs
            connect_args={"application_name": "workstation", "connect_timeout": 10},
        )
        event.listen(self._engine, "connect", _become_app_role)
        event.listen(self._engine, "reset", _forget_user)
        self._snapshots = self._engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)

    def close(self) -> None:
        self._engine.dispose()

    @contextmanager
    def transaction_with_rls(self, user_id: UserId, tenant_id: str | None = None) -> Iterator[Connection]:
        """Open a transaction that sees and writes `user_id`'s rows only; commits at the end, rolls back on an error.

        Raises InvalidRequestError for a missing or malformed user id and SourceUnavailableError when the database
        cannot be reached.
        """
        with self._transaction(user_id, tenant_id, self._engine) as connection:
            yield connection

    @contextmanager
    def _transaction(self, user_id: UserId, tenant_id: str | None, engine: Engine) -> Iterator[Connection]:
        if not user_id:
            raise InvalidRequestError(
                "no user: every statement runs for somebody, so pass --user or set WORKSTATION_USER"
            )
        if not USER_ID.fullmatch(user_id):
            raise InvalidRequestError("invalid user id: use 1 to 200 of the characters A-Z a-z 0-9 _ . : | @ -")
        with translated_errors(), engine.begin() as connection:
            connection.execute(SET_CONTEXT, {"user_id": user_id, "tenant_id": tenant_id})
            yield connection

    @contextmanager
    def snapshot_with_rls(self, user_id: UserId) -> Iterator[Connection]:
        """Like transaction_with_rls, for reading only: all statements see the same moment, whatever others commit."""
        with self._transaction(user_id, None, self._snapshots) as connection:
            yield connection

    def query_with_rls(
        self, user_id: UserId, statement: str, parameters: Mapping[str, Any] | None = None
    ) -> Sequence[Row[Any]]:
        """Run one statement in its own transaction as `user_id` and return all rows."""
        with self.transaction_with_rls(user_id) as connection:
            result = connection.execute(text(statement), parameters or {})
            return result.all() if result.returns_rows else []

    def schema_revision(self) -> str | None:
        """Return the revision the database is migrated to, None when it never was."""
        try:
            with self.across_users() as connection:
                found: str | None = connection.execute(text("SELECT version_num FROM public.alembic_version")).scalar()
                return found
        except DBAPIError as error:
            # No table, no right to see it, or no role wp_app yet: all before the first migration.
            missing = (
                psycopg.errors.UndefinedTable,
                psycopg.errors.InsufficientPrivilege,
                psycopg.errors.InvalidParameterValue,
            )
            if isinstance(error.orig, missing):
                return None
            raise

    def verify_rls(self) -> list[tuple[str, str]]:
        """Return what verify_rls() finds wrong as (problem, object); the service refuses to start on any row."""
        with self.across_users() as connection:
            return [
                (row[0], row[1]) for row in connection.execute(text("SELECT problem, object FROM app.verify_rls()"))
            ]

    @contextmanager
    def across_users(self) -> Iterator[Connection]:
        """Open a transaction without a user: it can call the few functions that answer with ids of all users, no more."""
        with translated_errors(), self._engine.begin() as connection:
            yield connection

    @contextmanager
    def direct_connection(self) -> Iterator[psycopg.Connection[Any]]:
        """Open a connection outside the pool, in autocommit, for a session-level lock; closed at the end."""
        with translated_errors():
            connection = psycopg.connect(libpq_url(self.url), autocommit=True, application_name="workstation lease")
        try:
            _become_app_role(connection, None)
            yield connection
        finally:
            connection.close()

    def owner_of(self, data_source_id: UUID) -> UserId | None:
        """Return whose data source this is: all that a Dagster run knows at its start is the id."""
        with self.across_users() as connection:
            owner = connection.execute(text("SELECT app.data_source_owner(:id)"), {"id": data_source_id}).scalar()
        return UserId(owner) if owner else None


def raw(connection: Connection) -> psycopg.Connection[Any]:
    """Return psycopg's own connection inside the same transaction, for COPY."""
    return cast("psycopg.Connection[Any]", connection.connection.driver_connection)


@contextmanager
def translated_errors() -> Iterator[None]:
    """Turn a lost or refused connection into SourceUnavailableError."""
    try:
        yield
    except WorkstationError:
        raise
    except (OperationalError, psycopg.OperationalError) as error:
        message, wait_s = _what_to_do(error)
        if message is None:
            raise
        raise SourceUnavailableError(message, wait_s=wait_s) from error


def _what_to_do(error: OperationalError | psycopg.OperationalError) -> tuple[str | None, float]:
    """Return the message and the wait for an error that may pass, or no message for one that will not."""
    cause = error.orig if isinstance(error, OperationalError) else error
    state = getattr(cause, "sqlstate", None)
    # No SQLSTATE: the connection broke or never was. 57P..: the server is shutting down or starting. 08...: likewise.
    if state is None or state.startswith(("57P", "08")):
        return "the database cannot be reached: check that it runs and that DATABASE_URL is right", 5.0
    # Serialization, deadlock, lock timeout, idle in a transaction for too long: others were in the way.
    if state in ("40001", "40P01", "55P03", "25P03"):
        return f"the database was too busy with others ({state}): the same work can be done again", 1.0
    return None, 0.0


def answers(url: str) -> bool:
    """Return whether a PostgreSQL server takes connections at this URL, within seconds."""
    try:
        psycopg.connect(libpq_url(url), connect_timeout=3).close()
    except psycopg.OperationalError:
        return False
    return True


def _become_app_role(connection: psycopg.Connection[Any], _record: object) -> None:
    was_autocommit = connection.autocommit
    connection.autocommit = True
    # Together in one round trip; identifiers are constants of ours.
    connection.execute(
        f"SET ROLE {APP_ROLE}; SET search_path = app, public; SET row_security = on; "
        "SET idle_in_transaction_session_timeout = '2min'; SET lock_timeout = '30s'"
    )
    connection.autocommit = was_autocommit


def _forget_user(connection: psycopg.Connection[Any], _record: object, _state: object) -> None:
    # set_config(.., true) ends with its transaction; this undoes a session-level one that a mistake may have left.
    connection.rollback()
    connection.autocommit = True  # one round trip instead of three, after every transaction
    connection.execute("SELECT set_config('app.user_id', '', false), set_config('app.tenant_id', '', false)")
    connection.autocommit = False
