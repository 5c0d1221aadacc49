"""Templates: the system's come with the schema, one's own are one's own until they are made public, and stay so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from tests.workflows.tenant_cases import Actor
from workstation_pipelines.db import migrate, workflow_templates
from workstation_pipelines.db.engine import Database
from workstation_pipelines.db.workflow_templates import Template
from workstation_pipelines.errors import InvalidRequestError, NotFoundError
from workstation_pipelines.model import UserId
from workstation_pipelines.workflow_model import TemplateId, TenantId
from workstation_pipelines.workflows import catalog, template_files

SYSTEM = template_files.system_templates()
CHANGES: list[tuple[Any, dict[str, Any]]] = [
    (workflow_templates.update, {"name": "mine"}),
    (workflow_templates.set_public, {"is_public": False}),
    (workflow_templates.delete, {}),
]
FROZEN = migrate.MIGRATIONS / "workflow_templates"


def actor() -> Actor:
    name = uuid4().hex
    return Actor(UserId(f"user-{name}"), TenantId(f"tenant-{name}"))


def call(database: Database, who: Actor, function: Any, **arguments: Any) -> Any:
    with database.transaction_with_rls(who.user_id, who.tenant_id) as connection:
        return function(connection, user_id=who.user_id, tenant_id=who.tenant_id, **arguments)


def create(database: Database, who: Actor, slug: str = "outreach", **labels: Any) -> Template:
    arguments = {"template_id": TemplateId(uuid4()), "slug": slug, "name": "Outreach", "definition": {"nodes": []}}
    template: Template = call(database, who, workflow_templates.create, **arguments, **labels)
    return template


def test_files_of_the_package_are_rows_of_every_database(shared: Database) -> None:
    rows = [row for row in call(shared, actor(), workflow_templates.listed) if row.is_system]
    assert {row.id for row in rows} == {template.id for template in SYSTEM}
    for template in SYSTEM:
        row = call(shared, actor(), workflow_templates.by_slug, slug=template.slug)
        assert (row.id, row.name, row.description, row.category, list(row.tags), row.definition) == (
            template.id,
            template.name,
            template.description,
            template.category,
            list(template.tags),
            template.definition,
        )
        assert (row.is_system, row.is_own) == (True, False)


@pytest.mark.parametrize("template", SYSTEM, ids=lambda template: template.slug)
def test_template_of_the_system_can_be_saved_as_a_workflow(template: template_files.SystemTemplate) -> None:
    assert len(catalog.read(template.definition).nodes) > 0


def test_file_that_lacks_something_is_not_read_as_a_template(tmp_path: Path) -> None:
    (tmp_path / "half.json").write_text(json.dumps({"slug": "half"}))
    with pytest.raises(TypeError, match="definition"):
        template_files.system_templates(tmp_path)


def test_nobody_changes_or_counts_a_template_of_the_system_by_statement(shared: Database) -> None:
    template_id, who = SYSTEM[0].id, actor()
    for function, arguments in CHANGES:
        with pytest.raises(NotFoundError, match="no template"):
            call(shared, who, function, template_id=template_id, **arguments)
    mine = create(shared, who)
    for statement in (
        "UPDATE app.workflow_templates SET usage_count = 1000 WHERE id = :id",
        "UPDATE app.workflow_templates SET is_system = true, user_id = NULL, tenant_id = NULL WHERE id = :id",
        "INSERT INTO app.workflow_templates (id, slug, name, definition, is_system) VALUES (:id, 'x', 'x', '{}', true)",
    ):
        assert state_of(shared, who, statement, id=mine.id) == "42501"
    # Without an owner and not the system's: no such row can be.
    ownerless = "INSERT INTO app.workflow_templates (id, slug, name, definition) VALUES (:id, 'x', 'x', '{}')"
    assert state_of(shared, who, ownerless, id=uuid4()) in ("42501", "23514")
    assert (
        state_of(shared, who, "UPDATE app.workflow_templates SET name = 'x' WHERE is_system RETURNING id") == "no row"
    )
    assert state_of(shared, who, "DELETE FROM app.workflow_templates WHERE is_system RETURNING id") == "no row"


def state_of(database: Database, who: Actor, statement: str, **values: Any) -> str:
    try:
        with database.transaction_with_rls(who.user_id, who.tenant_id) as connection:
            result = connection.execute(text(statement), values)
            return "no row" if result.rowcount == 0 else "done"
    except DBAPIError as error:
        return str(getattr(error.orig, "sqlstate", None))


def test_public_template_is_read_by_all_and_written_by_its_owner_in_its_tenant(shared: Database) -> None:
    owner, stranger = actor(), actor()
    elsewhere = Actor(owner.user_id, TenantId("another"))  # the same person, working for somebody else
    template = create(shared, owner, tags=["sales"])
    for other in (stranger, elsewhere):
        with pytest.raises(NotFoundError):
            call(shared, other, workflow_templates.get, template_id=template.id)
        with pytest.raises(NotFoundError):
            call(shared, other, workflow_templates.count_use, template_id=template.id)
    call(shared, owner, workflow_templates.set_public, template_id=template.id, is_public=True)
    for other in (stranger, elsewhere):
        seen = call(shared, other, workflow_templates.get, template_id=template.id)
        assert (seen.is_own, seen.is_public, seen.slug) == (False, True, "outreach")
        assert template.id in {
            row.id for row in call(shared, other, workflow_templates.listed, tags=["sales"], limit=500)
        }
        assert call(shared, other, workflow_templates.listed, is_own=True) == []
        for function, arguments in CHANGES:
            with pytest.raises(NotFoundError):
                call(shared, other, function, template_id=template.id, **arguments)
        for statement in ("UPDATE app.workflow_templates SET name = 'x'", "DELETE FROM app.workflow_templates"):
            assert state_of(shared, other, f"{statement} WHERE id = :id RETURNING id", id=template.id) == "no row"
    call(shared, owner, workflow_templates.set_public, template_id=template.id, is_public=False)
    with pytest.raises(NotFoundError):
        call(shared, stranger, workflow_templates.get, template_id=template.id)


def test_each_use_is_counted_once_whoever_uses_it(shared: Database) -> None:
    owner, stranger = actor(), actor()
    template = create(shared, owner)
    call(shared, owner, workflow_templates.set_public, template_id=template.id, is_public=True)
    for who in (owner, stranger, stranger):
        call(shared, who, workflow_templates.count_use, template_id=template.id)
    assert call(shared, owner, workflow_templates.get, template_id=template.id).usage_count == 3


def test_own_template_comes_before_the_systems_of_that_name(shared: Database) -> None:
    who, slug = actor(), SYSTEM[0].slug
    mine = create(shared, who, slug)
    assert call(shared, who, workflow_templates.by_slug, slug=slug).id == mine.id
    assert call(shared, actor(), workflow_templates.by_slug, slug=slug).id == SYSTEM[0].id
    with pytest.raises(InvalidRequestError, match="already have a template"):
        create(shared, who, slug)
    call(shared, who, workflow_templates.delete, template_id=mine.id)
    assert call(shared, who, workflow_templates.by_slug, slug=slug).id == SYSTEM[0].id


def test_change_leaves_what_is_not_given_and_is_audited_without_words(
    shared: Database, shared_admin: psycopg.Connection[Any]
) -> None:
    who = actor()
    template = create(shared, who, description="Who to write to")
    changed = call(shared, who, workflow_templates.update, template_id=template.id, definition={"nodes": [1]})
    assert (changed.description, changed.definition) == ("Who to write to", {"nodes": [1]})
    assert call(shared, who, workflow_templates.update, template_id=template.id, name="Letters").definition == {
        "nodes": [1]
    }
    call(shared, who, workflow_templates.delete, template_id=template.id)
    entries = shared_admin.execute(
        "SELECT action, detail FROM app.audit_logs WHERE user_id = %s ORDER BY seq", [who.user_id]
    ).fetchall()
    assert entries == [
        ("workflow_template.added", {"is_public": False}),
        ("workflow_template.changed", {"is_public": False, "changed": ["definition"]}),
        ("workflow_template.changed", {"is_public": False, "changed": ["name"]}),
        ("workflow_template.removed", {"is_public": False}),
    ]


def test_frozen_copies_are_of_the_files_that_are_there() -> None:
    frozen = {path.name: json.loads(path.read_text()) for path in FROZEN.glob("*.json")}
    assert frozen == {path.name: json.loads(path.read_text()) for path in template_files.FILES.glob("*.json")}
