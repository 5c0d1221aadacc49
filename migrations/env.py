"""Alembic environment: runs against the admin URL that workstation_pipelines.db.migrate passes in."""

from __future__ import annotations

from alembic import context
from sqlalchemy import Connection

from workstation_pipelines.db.tables import metadata


def is_ours(name: str | None, kind: str, _parents: object) -> bool:
    return name == "app" if kind == "schema" else True


def run(connection: Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=metadata,
        include_schemas=True,
        include_name=is_ours,
        version_table="alembic_version",
        version_table_schema="public",
        compare_type=True,
        compare_server_default=False,
        transaction_per_migration=True,
    )
    with context.begin_transaction():
        context.run_migrations()


connection = context.config.attributes.get("connection")
if connection is None:
    raise RuntimeError("no connection: run `workstation db upgrade` instead of calling alembic directly")
run(connection)
