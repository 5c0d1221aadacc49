"""Bring a database to the newest schema, or say how it differs. Forward only: there is no downgrade."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.pool import NullPool

from workstation_pipelines.db.tables import metadata

MIGRATIONS = Path(__file__).resolve().parents[2] / "migrations"
UPGRADE_LOCK = 7307199254740993  # any constant: one upgrade a server at a time, since roles belong to the server


def upgrade(admin_url: str, revision: str = "head") -> None:
    """Apply every migration up to `revision`; each commits for itself, and a second caller waits, then finds none."""
    with _admin(admin_url) as connection:
        connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": UPGRADE_LOCK})
        connection.commit()
        command.upgrade(_config(connection), revision)


def current_revision(admin_url: str) -> str | None:
    with _admin(admin_url) as connection:
        return MigrationContext.configure(connection).get_current_revision()


def revisions() -> list[str]:
    """Return every revision id, oldest first."""
    return [script.revision for script in reversed(list(ScriptDirectory.from_config(_config(None)).walk_revisions()))]


def drift(admin_url: str) -> list[str]:
    """Return the differences between tables.py and the migrated database, one line each; empty when they agree."""
    with _admin(admin_url) as connection:
        context = MigrationContext.configure(
            connection,
            opts={
                "include_schemas": True,
                "include_name": lambda name, kind, _parents: name == "app" if kind == "schema" else True,
                "compare_type": True,
            },
        )
        return [str(difference) for difference in compare_metadata(context, metadata)]


def _config(connection: Connection | None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.set_main_option("prepend_sys_path", str(MIGRATIONS.parent).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


@contextmanager
def _admin(admin_url: str) -> Iterator[Connection]:
    engine = create_engine(admin_url, poolclass=NullPool)
    try:
        with engine.connect() as connection:
            yield connection
    finally:
        engine.dispose()
