"""A user's rules, changed between syncs as the command line changes them, and what is stored under them."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import psycopg

from tests.sync.parts import DigestEmbedder
from tests.sync.syncing import new_id, vectorizer
from workstation_pipelines.db import transformations
from workstation_pipelines.db.engine import Database
from workstation_pipelines.db.transformations import Transformation
from workstation_pipelines.model import UserId
from workstation_pipelines.settings import libpq_url
from workstation_pipelines.sync import index


class Rules:
    """The rules of one user."""

    def __init__(self, database: Database, user: str = "alice") -> None:
        self.database = database
        self.user_id = UserId(user)
        self.stored: dict[str, Transformation] = {}
        self._ids: dict[str, UUID] = {}

    def put(self, name: str, kind: str, config: dict[str, Any], **more: Any) -> None:
        """Add a rule, or give the one of this name other settings."""
        rule = Transformation(name, kind, config, **more)
        self.stored[name] = rule
        with self.database.transaction_with_rls(self.user_id) as connection:
            known = self._ids.setdefault(name, new_id())
            if any(row.id == known for row in transformations.all_of(connection, user_id=self.user_id)):
                transformations.replace(connection, user_id=self.user_id, transformation_id=known, rule=rule)
            else:
                transformations.add(connection, user_id=self.user_id, transformation_id=known, rule=rule)

    def remove(self, name: str) -> None:
        del self.stored[name]
        with self.database.transaction_with_rls(self.user_id) as connection:
            transformations.remove(connection, user_id=self.user_id, transformation_id=self._ids.pop(name))

    def rework(self) -> list[str]:
        """Bring what is stored under the rules without its source; return what was embedded for it."""
        embedder = DigestEmbedder()
        wanted = vectorizer(self.database, self.user_id, embedder)
        list(index.reindex(self.database, wanted, user_id=self.user_id))
        return embedder.texts

    def stale(self) -> dict[str, str]:
        """Return title -> problem of what does not fit."""
        report = index.check(
            self.database, vectorizer(self.database, self.user_id, DigestEmbedder()), user_id=self.user_id
        )
        assert report.chunks == report.chunks_expected == report.vectors
        assert report.rules_changed == sum(each.problem == "rules changed" for each in report.stale)
        return {each.title: each.problem for each in report.stale}


def state(admin_url: str, user: str) -> dict[str, Any]:
    """Return all that rules decide, by path: of items, and of the documents that they have."""
    with psycopg.connect(libpq_url(admin_url)) as connection:
        items = connection.execute(
            """
            SELECT i.external_path, i.title, i.sync_status, i.reason, i.reason_detail, d.title, d.text, d.headings,
                   d.language, d.external_url, p.name, d.rules_hash, d.extracted_text, d.extracted,
                   d.is_original_forgotten,
                   ARRAY(SELECT t.name FROM app.document_tags dt JOIN app.tags t ON t.id = dt.tag_id
                          WHERE dt.document_id = d.id ORDER BY 1),
                   ARRAY(SELECT c.text FROM app.chunks c WHERE c.document_id = d.id ORDER BY c.ordinal)
              FROM app.sync_items i
              LEFT JOIN app.documents d ON d.id = i.local_document_id AND d.deleted_at IS NULL
              LEFT JOIN app.projects p ON p.id = d.project_id
             WHERE i.user_id = %s AND i.sync_status <> 'deleted'""",
            [user],
        ).fetchall()
    return {row[0]: row[1:] for row in items}


def places_of(admin_url: str, canary: str) -> list[str]:
    """Return every table of every schema of ours in which a row holds `canary`.

    Hashes are left out: those of the scripted vendor are its texts.
    """
    found = []
    with psycopg.connect(libpq_url(admin_url)) as connection:
        tables = connection.execute(
            "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables WHERE schemaname IN ('app', 'app_private')"
        ).fetchall()
        for (table,) in tables:
            query = f"SELECT count(*) FROM {table} t WHERE (to_jsonb(t) - 'external_hash')::text ILIKE %s"  # noqa: S608 - names from the catalogue
            row = connection.execute(query.encode(), [f"%{canary}%"]).fetchone()
            if row and row[0]:
                found.append(table)
    return found
