"""Two users do whatever the statements allow, on each other's ids too; each reads exactly what is theirs, at every step."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

import psycopg
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from tests.db.rows import add_source, config_of, document_write, item_write, lease_of, store
from workstation_pipelines.db import documents, library, sync_items
from workstation_pipelines.db.data_sources import Lease
from workstation_pipelines.db.engine import Database
from workstation_pipelines.model import DocumentId, IndexConfigId, SyncJobId, SyncStatus, UserId


@dataclass
class Owned:
    """What one user should be able to read."""

    user_id: UserId
    lease: Lease
    config_id: IndexConfigId
    projects: dict[str, UUID] = field(default_factory=dict)
    tags: dict[str, UUID] = field(default_factory=dict)
    texts: dict[DocumentId, str] = field(default_factory=dict)
    deleted: set[DocumentId] = field(default_factory=set)
    project_of: dict[DocumentId, str] = field(default_factory=dict)
    tags_of: dict[DocumentId, set[str]] = field(default_factory=dict)
    items: dict[str, str] = field(default_factory=dict)

    def live(self) -> set[DocumentId]:
        return set(self.texts) - self.deleted


@dataclass(frozen=True, slots=True)
class Step:
    """An operation by one user on an owner's things; `pick` chooses among them."""

    operation: str
    is_first_user: bool
    is_on_own: bool
    pick: int


OPERATIONS = ("add", "change", "tombstone", "project", "assign", "tag", "untag", "write_item", "mark_deleted")
STEPS = st.builds(Step, st.sampled_from(OPERATIONS), st.booleans(), st.integers(0, 3).map(bool), st.integers(0, 5))

_numbers = itertools.count()


@settings(max_examples=15, deadline=None)
@given(steps=st.lists(STEPS, min_size=5, max_size=25))
def test_each_user_reads_exactly_their_own_rows_after_every_step(shared: Database, steps: list[Step]) -> None:
    number = next(_numbers)
    first, second = (_new_user(shared, UserId(f"{name}-{number}")) for name in ("first", "second"))
    for step in steps:
        actor, other = (first, second) if step.is_first_user else (second, first)
        _do(shared, step, actor, actor if step.is_on_own else other)
        for owned in (first, second):
            _assert_reads_exactly(shared, owned)


def _new_user(database: Database, user_id: UserId) -> Owned:
    with database.transaction_with_rls(user_id) as connection:
        return Owned(user_id, lease_of(add_source(connection, user_id)), config_of(connection, user_id).id)


def _do(database: Database, step: Step, actor: Owned, owner: Owned) -> None:
    """Do it, and note it in the model if the thing was the actor's own: otherwise nothing may come of it."""
    is_own = actor is owner
    try:
        with database.transaction_with_rls(actor.user_id) as connection:
            _OPERATIONS[step.operation](connection, step, actor, owner)
    except (IntegrityError, psycopg.IntegrityError):
        # A reference to another's row, refused like one to a row that does not exist.
        assert not is_own


def _pick(things: Any, step: Step) -> Any:
    ordered = sorted(things)
    return ordered[step.pick % len(ordered)] if ordered else None


def _add(connection: Connection, step: Step, actor: Owned, owner: Owned) -> None:
    text = f"{actor.user_id} wrote {uuid4()}"
    project = _pick(owner.projects, step) if step.pick else None
    write = document_write(text, config_id=owner.config_id, title=text)
    store(
        connection,
        actor.user_id,
        [write],
        data_source_id=owner.lease.data_source_id,
        project_id=owner.projects[project] if project else None,
    )
    assert actor is owner
    owner.texts[write.id] = text
    if project:
        owner.project_of[write.id] = project


def _change(connection: Connection, step: Step, actor: Owned, owner: Owned) -> None:
    document_id = _pick(owner.texts, step)
    if document_id is None:
        return
    text = f"{actor.user_id} changed {uuid4()}"
    write = document_write(
        text, config_id=actor.config_id, document_id=document_id, is_new=False, generation=step.pick + 1000, title=text
    )
    if actor is owner:
        documents.tombstone(connection, user_id=actor.user_id, document_ids=[document_id])
    store(connection, actor.user_id, [write])
    assert actor is owner
    owner.texts[document_id] = text
    owner.deleted.discard(document_id)


def _tombstone(connection: Connection, step: Step, actor: Owned, owner: Owned) -> None:
    document_id = _pick(owner.texts, step)
    if document_id is None:
        return
    documents.tombstone(connection, user_id=actor.user_id, document_ids=[document_id])
    if actor is owner:
        owner.deleted.add(document_id)


def _project(connection: Connection, step: Step, actor: Owned, _owner: Owned) -> None:
    name = f"project {step.pick}"  # both users use the same names
    actor.projects[name] = library.ensure_project(connection, user_id=actor.user_id, name=name, new_id=uuid4)


def _assign(connection: Connection, step: Step, actor: Owned, owner: Owned) -> None:
    document_id, project = _pick(owner.texts, step), _pick(actor.projects, step)
    if document_id is None or project is None:
        return
    library.assign(connection, user_id=actor.user_id, document_id=document_id, project=actor.projects[project])
    if actor is owner:
        owner.project_of[document_id] = project


def _tag(connection: Connection, step: Step, actor: Owned, owner: Owned) -> None:
    name = f"tag {step.pick}"
    tag_id = library.ensure_tag(connection, user_id=actor.user_id, name=name, new_id=uuid4)
    document_id = _pick(owner.texts, step)
    if document_id is not None:
        library.tag(connection, user_id=actor.user_id, document_id=document_id, tag_id=tag_id)
        assert actor is owner
        owner.tags_of.setdefault(document_id, set()).add(name)
    actor.tags[name] = tag_id


def _untag(connection: Connection, step: Step, actor: Owned, owner: Owned) -> None:
    document_id = _pick(owner.tags_of, step)
    if document_id is None:
        return
    name = f"tag {step.pick}"
    library.untag(connection, user_id=actor.user_id, document_id=document_id, tag_name=name)
    if actor is owner:
        owner.tags_of[document_id].discard(name)


def _write_item(connection: Connection, step: Step, actor: Owned, owner: Owned) -> None:
    lease = Lease(owner.lease.data_source_id, actor.user_id, 0)
    external_id = f"item {step.pick}"
    written = item_write(external_id, SyncStatus.SKIPPED, reason="kind", external_path=f"{actor.user_id} {uuid4()}")
    sync_items.write(connection, lease, job_id=SyncJobId(uuid4()), sweep_id=None, writes=[written])
    assert actor is owner
    owner.items[external_id] = written.item.external_path


def _mark_deleted(connection: Connection, step: Step, actor: Owned, owner: Owned) -> None:
    lease = Lease(owner.lease.data_source_id, actor.user_id, 0)
    external_id = f"item {step.pick}"
    sync_items.mark_deleted(connection, lease, job_id=SyncJobId(uuid4()), external_ids=[external_id])
    found = sync_items.known(connection, lease, external_ids=[external_id])
    assert set(found) == ({external_id} & set(owner.items) if actor is owner else set())


_OPERATIONS = {
    "add": _add,
    "change": _change,
    "tombstone": _tombstone,
    "project": _project,
    "assign": _assign,
    "tag": _tag,
    "untag": _untag,
    "write_item": _write_item,
    "mark_deleted": _mark_deleted,
}


def _assert_reads_exactly(database: Database, owned: Owned) -> None:
    user_id = owned.user_id
    with database.transaction_with_rls(user_id) as connection:
        shown = library.documents(connection, user_id=user_id, with_deleted=True, limit=1000)
        seen = {row.id: (row.project_name, set(row.tags), row.deleted_at is not None) for row in shown}
        assert seen == {
            document_id: (
                owned.project_of.get(document_id),
                owned.tags_of.get(document_id, set()),
                document_id in owned.deleted,
            )
            for document_id in owned.texts
        }
        texts = {each: library.text_of(connection, user_id=user_id, document_id=each) for each in owned.texts}
        assert texts == owned.texts
        chunks = {
            each: "".join(row.text for row in library.chunks_of(connection, user_id=user_id, document_id=each))
            for each in owned.texts
        }
        assert chunks == {each: text if each in owned.live() else "" for each, text in owned.texts.items()}
        counts = {row.name: row.document_count for row in library.projects(connection, user_id=user_id)}
        assert counts == {
            name: sum(owned.project_of.get(each) == name for each in owned.live()) for name in owned.projects
        }
        tag_counts = {row.name: row.document_count for row in library.tags(connection, user_id=user_id)}
        assert tag_counts == {
            name: sum(name in owned.tags_of.get(each, ()) for each in owned.live()) for name in owned.tags
        }
        items = sync_items.known(connection, owned.lease, external_ids=[f"item {number}" for number in range(6)])
        assert {name: row.external_path for name, row in items.items()} == owned.items
