"""`workstation documents delete|deleted|restore|purge`: put away, have back, erase."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

import typer

from workstation_pipelines.commands.invocation import Session, open_session
from workstation_pipelines.commands.output import AsJson, Yes, print_json, print_line, print_table, shown
from workstation_pipelines.commands.questions import confirm


def delete(
    context: typer.Context,
    document: Annotated[str, typer.Argument(metavar="DOCUMENT", help="Its id, path, end of a path, title or URL.")],
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Delete a document here. What was found inside it goes too; the source is not touched, syncs leave it out."""
    from workstation_pipelines.db import library
    from workstation_pipelines.sync import restore as restoring
    from workstation_pipelines.sync.delta import REMOVED_BY_USER

    with open_session(context) as session:
        with session.transaction() as connection:
            row = library.document(connection, user_id=session.user_id, reference=document)
        confirm(f"Delete {shown(row.title)} ({shown(row.external_path)}) here?", yes=yes)
        deleted = restoring.delete(
            session.workspace.database, user_id=session.user_id, document_id=row.id, reason=REMOVED_BY_USER
        )
        days = _retention(session).days
    if as_json:
        print_json({"deleted": deleted, "title": row.title, "external_path": row.external_path})
    else:
        print_line(
            f"Deleted {shown(row.title)} here; syncs leave it out from now on. The source is untouched."
            f" `workstation documents restore {row.id}` brings it back within {days} days."
        )


def deleted(
    context: typer.Context,
    limit: Annotated[int, typer.Option(min=1, max=10_000)] = 50,
    offset: Annotated[int, typer.Option(min=0)] = 0,
    as_json: AsJson = False,
) -> None:
    """List deleted documents that can still be restored.

    The last deleted comes first.
    """
    from workstation_pipelines.db import tombstones

    with open_session(context) as session, session.transaction() as connection:
        rows = tombstones.listed(
            connection, user_id=session.user_id, retention=_retention(session), limit=limit, offset=offset
        )
    if as_json:
        print_json(rows)
        return
    print_table(
        ["id", "title", "path", "source", "deleted", "kept until", "why"],
        [
            (
                row.id,
                row.title,
                row.external_path,
                row.data_source_name,
                row.deleted_at,
                row.kept_until,
                "deleted here" if row.reason == "removed_by_user" else row.reason or "gone at the source",
            )
            for row in rows
        ],
        empty="No deleted documents.",
    )


def restore(
    context: typer.Context,
    document: Annotated[str, typer.Argument(metavar="DOCUMENT", help="Its id, path, end of a path or title.")],
    as_json: AsJson = False,
) -> None:
    """Bring a deleted document back. One that is gone at its source stays as your own copy, which no sync touches."""
    from workstation_pipelines.sync import restore as restoring

    with open_session(context) as session:
        done = restoring.restore(
            session.workspace.database,
            session.workspace.vectorizer(session.user_id),
            user_id=session.user_id,
            reference=document,
            retention=_retention(session),
        )
    if as_json:
        print_json(done)
        return
    print_line(f"Restored {len(done.document_ids):,} documents.")
    if done.own:
        print_line(f"{len(done.own):,} are gone at their source and are your own copies now.")
    if done.at_source:
        print_line("The next sync looks whether the others changed meanwhile.")


def purge(
    context: typer.Context,
    older_than_days: Annotated[
        int | None, typer.Option("--older-than", min=0, help="In days; the default is the retention, 0 takes all.")
    ] = None,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Erase deleted documents for good. Housekeeping does so by itself when their retention is over."""
    from workstation_pipelines.db import tombstones
    from workstation_pipelines.sync import restore as restoring

    with open_session(context) as session:
        retention = _retention(session) if older_than_days is None else timedelta(days=older_than_days)
        with session.transaction() as connection:
            expired = tombstones.count_expired(connection, user_id=session.user_id, retention=retention)
        confirm(f"Erase {expired:,} deleted documents for good?", yes=yes or not expired)
        purged = restoring.purge(session.workspace.database, user_id=session.user_id, retention=retention)
    if as_json:
        print_json({"purged": purged})
    else:
        print_line(f"Erased {purged:,} deleted documents.")


def _retention(session: Session) -> timedelta:
    return timedelta(days=session.workspace.settings.retention_days.tombstones)
