"""Counts of projects and tags are those of their live documents, after whatever statements and in whatever order."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, text
from sqlalchemy.exc import ProgrammingError

from tests.db import waiting
from tests.db.conftest import ALICE
from tests.db.rows import Library, config_of, document_write, populate, store
from workstation_pipelines.db import documents, library
from workstation_pipelines.db.engine import Database
from workstation_pipelines.errors import InvalidRequestError, NotFoundError
from workstation_pipelines.model import DocumentId, UserId

Admin = psycopg.Connection[Any]


@dataclass
class Model:
    """A user's documents, each with its project and whether it is deleted, and their tags."""

    user_id: UserId
    project_of: dict[UUID, UUID | None] = field(default_factory=dict)
    deleted: set[UUID] = field(default_factory=set)
    tagged: set[tuple[UUID, UUID]] = field(default_factory=set)
    projects: list[UUID] = field(default_factory=list)
    tags: list[UUID] = field(default_factory=list)

    def counts(self) -> dict[UUID, int]:
        live = set(self.project_of) - self.deleted
        in_projects = {each: sum(self.project_of[one] == each for one in live) for each in self.projects}
        return in_projects | {each: sum((one, each) in self.tagged for one in live) for each in self.tags}


@dataclass(frozen=True, slots=True)
class Step:
    """An operation on some documents (a bit each) and on one project and tag."""

    operation: str
    bits: int
    which: int


Change = Callable[[Connection, Model, list[UUID], int], None]

_numbers = itertools.count()


def _run(connection: Connection, statement: str, **parameters: Any) -> None:
    connection.execute(text(statement), parameters)


def _insert(connection: Connection, model: Model, _chosen: list[UUID], which: int) -> None:
    new = [uuid4() for _ in range(which)]
    project = model.projects[which % len(model.projects)] if model.projects and which != 3 else None
    deleted = which == 2
    _run(
        connection,
        """INSERT INTO app.documents (id, user_id, project_id, deleted_at, content_hash, mime_type, title, title_tsv, text)
           SELECT id, :user_id, :project, CASE WHEN :deleted THEN now() END, '', '', '', '', ''
             FROM unnest(CAST(:ids AS uuid[])) id""",
        user_id=model.user_id,
        project=project,
        deleted=deleted,
        ids=new,
    )
    model.project_of.update(dict.fromkeys(new, project))
    model.deleted.update(new if deleted else ())


def _delete(connection: Connection, model: Model, chosen: list[UUID], _which: int) -> None:
    _run(connection, "DELETE FROM app.documents WHERE id = ANY(:ids)", ids=chosen)
    for each in chosen:
        del model.project_of[each]
    model.deleted.difference_update(chosen)
    model.tagged = {(one, tag) for one, tag in model.tagged if one not in chosen}


def _move(connection: Connection, model: Model, chosen: list[UUID], which: int) -> None:
    project = model.projects[which % len(model.projects)] if model.projects and which else None
    _run(connection, "UPDATE app.documents SET project_id = :project WHERE id = ANY(:ids)", project=project, ids=chosen)
    model.project_of.update(dict.fromkeys(chosen, project))


def _tombstone(connection: Connection, model: Model, chosen: list[UUID], _which: int) -> None:
    documents.tombstone(connection, user_id=model.user_id, document_ids=chosen)
    model.deleted.update(chosen)


def _revive(connection: Connection, model: Model, chosen: list[UUID], _which: int) -> None:
    _run(connection, "UPDATE app.documents SET deleted_at = NULL WHERE id = ANY(:ids)", ids=chosen)
    model.deleted.difference_update(chosen)


def _revive_elsewhere(connection: Connection, model: Model, chosen: list[UUID], which: int) -> None:
    """Flips each and moves it in the same statement."""
    project = model.projects[which % len(model.projects)] if model.projects else None
    _run(
        connection,
        """UPDATE app.documents SET project_id = :project, deleted_at = CASE WHEN deleted_at IS NULL THEN now() END
            WHERE id = ANY(:ids)""",
        project=project,
        ids=chosen,
    )
    model.project_of.update(dict.fromkeys(chosen, project))
    model.deleted.symmetric_difference_update(chosen)


def _tag(connection: Connection, model: Model, chosen: list[UUID], which: int) -> None:
    if not model.tags:
        return
    tag = model.tags[which % len(model.tags)]
    _run(
        connection,
        """INSERT INTO app.document_tags (user_id, document_id, tag_id)
           SELECT :user_id, id, :tag FROM unnest(CAST(:ids AS uuid[])) id ON CONFLICT DO NOTHING""",
        user_id=model.user_id,
        tag=tag,
        ids=chosen,
    )
    model.tagged.update((one, tag) for one in chosen)


def _untag(connection: Connection, model: Model, chosen: list[UUID], _which: int) -> None:
    _run(connection, "DELETE FROM app.document_tags WHERE document_id = ANY(:ids)", ids=chosen)
    model.tagged = {(one, tag) for one, tag in model.tagged if one not in chosen}


def _add_group(connection: Connection, model: Model, _chosen: list[UUID], which: int) -> None:
    name = f"group {which}"
    project = library.ensure_project(connection, user_id=model.user_id, name=name, new_id=uuid4)
    tag = library.ensure_tag(connection, user_id=model.user_id, name=name, new_id=uuid4)
    model.projects = list(dict.fromkeys([*model.projects, project]))
    model.tags = list(dict.fromkeys([*model.tags, tag]))


def _delete_project(connection: Connection, model: Model, _chosen: list[UUID], which: int) -> None:
    if not model.projects:
        return
    gone = model.projects.pop(which % len(model.projects))
    _run(connection, "DELETE FROM app.projects WHERE id = :id", id=gone)
    model.project_of = {one: None if project == gone else project for one, project in model.project_of.items()}


def _delete_tag(connection: Connection, model: Model, _chosen: list[UUID], which: int) -> None:
    if not model.tags:
        return
    gone = model.tags.pop(which % len(model.tags))
    _run(connection, "DELETE FROM app.tags WHERE id = :id", id=gone)
    model.tagged = {(one, tag) for one, tag in model.tagged if tag != gone}


CHANGES: dict[str, Change] = {
    "insert": _insert,
    "delete": _delete,
    "move": _move,
    "tombstone": _tombstone,
    "revive": _revive,
    "revive_elsewhere": _revive_elsewhere,
    "tag": _tag,
    "untag": _untag,
    "add_group": _add_group,
    "delete_project": _delete_project,
    "delete_tag": _delete_tag,
}
FREQUENT = ("insert", "tag", "tombstone", "move")
STEPS = st.builds(Step, st.sampled_from([*CHANGES, *FREQUENT]), st.integers(1, 255), st.integers(0, 4))


@settings(max_examples=50, deadline=None)
@given(steps=st.lists(STEPS, min_size=5, max_size=30))
def test_counts_follow_any_statements_singly_and_in_bulk(shared: Database, steps: list[Step]) -> None:
    model = Model(UserId(f"counted-{next(_numbers)}"))
    with shared.transaction_with_rls(model.user_id) as connection:
        _add_group(connection, model, [], 0)
        _add_group(connection, model, [], 1)
        for step in steps:
            existing = list(model.project_of)
            chosen = [each for place, each in enumerate(existing) if step.bits >> place % 8 & 1]
            CHANGES[step.operation](connection, model, chosen, step.which)
            assert _stored_counts(connection) == model.counts()
        _run(connection, "DELETE FROM app.documents")
        assert set(_stored_counts(connection).values()) <= {0}


def _stored_counts(connection: Connection) -> dict[UUID, int]:
    rows = connection.execute(
        text("SELECT id, document_count FROM app.projects UNION ALL SELECT id, document_count FROM app.tags")
    )
    return {row.id: row.document_count for row in rows}


@pytest.fixture
def writes_to_counters(admin: Admin) -> Callable[[], int]:
    """Counts rows of projects and tags that were written since the last call."""
    admin.execute(
        """
        CREATE TABLE public.writes (name text);
        CREATE FUNCTION public.note() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS
            $$ BEGIN INSERT INTO public.writes VALUES (TG_TABLE_NAME); RETURN NULL; END $$;
        CREATE TRIGGER note AFTER UPDATE ON app.projects FOR EACH ROW EXECUTE FUNCTION public.note();
        CREATE TRIGGER note AFTER UPDATE ON app.tags FOR EACH ROW EXECUTE FUNCTION public.note();"""
    )
    return lambda: len(admin.execute("DELETE FROM public.writes RETURNING name").fetchall())


def test_batch_writes_each_counter_once(
    database: Database, alices: Library, writes_to_counters: Callable[[], int]
) -> None:
    writes = [document_write("text", config_id=alices.config.id) for _ in range(50)]
    ids = [write.id for write in writes]
    steps: list[tuple[str, int]] = []

    def count(step: str) -> None:
        steps.append((step, writes_to_counters()))

    with database.transaction_with_rls(ALICE) as connection:
        store(connection, ALICE, writes, project_id=alices.project_id)
    count("50 inserted into a project")
    with database.transaction_with_rls(ALICE) as connection:
        _tag(connection, Model(ALICE, tags=[alices.tag_id]), list(ids), 0)
    count("50 tagged")
    with database.transaction_with_rls(ALICE) as connection:
        _run(connection, "UPDATE app.documents SET title = 'other'")
    count("51 renamed")
    with database.transaction_with_rls(ALICE) as connection:
        documents.tombstone(connection, user_id=ALICE, document_ids=ids)
    count("50 deleted, in one project and under one tag")
    assert steps == [
        ("50 inserted into a project", 1),
        ("50 tagged", 1),
        ("51 renamed", 0),
        ("50 deleted, in one project and under one tag", 2),
    ]


@contextmanager
def _open(database: Database, change: Callable[[Connection], None]) -> Iterator[None]:
    """A transaction that has made a change and commits at the end of the block."""
    with database.transaction_with_rls(ALICE) as connection:
        change(connection)
        yield


@pytest.mark.parametrize("is_tombstone_first", [True, False])
@pytest.mark.parametrize("verb", ["tag", "untag"])
def test_tag_and_tombstone_at_the_same_time_leave_the_right_count(
    database: Database, alices: Library, admin: Admin, verb: str, is_tombstone_first: bool
) -> None:
    def tombstone(connection: Connection) -> None:
        documents.tombstone(connection, user_id=ALICE, document_ids=[alices.document_id])

    def change_tags(connection: Connection) -> None:
        if verb == "tag":
            tag_id = library.ensure_tag(connection, user_id=ALICE, name="new", new_id=uuid4)
            library.tag(connection, user_id=ALICE, document_id=alices.document_id, tag_id=tag_id)
        else:
            library.untag(connection, user_id=ALICE, document_id=alices.document_id, tag_name="tag")

    first, second = (tombstone, change_tags) if is_tombstone_first else (change_tags, tombstone)

    def run_second() -> None:
        with database.transaction_with_rls(ALICE) as connection:
            second(connection)

    with ThreadPoolExecutor(1) as thread:
        with _open(database, first):
            waiter = thread.submit(run_second)
            waiting.until_somebody_waits(admin)
        waiter.result(timeout=20)
    with database.transaction_with_rls(ALICE) as connection:
        assert {row.name: row.document_count for row in library.tags(connection, user_id=ALICE)} == (
            {"tag": 0, "new": 0} if verb == "tag" else {"tag": 0}
        )


@pytest.mark.usefixtures("alices")
def test_link_between_document_and_tag_cannot_be_changed_past_the_counts(database: Database) -> None:
    with pytest.raises(ProgrammingError, match="permission denied"):
        database.query_with_rls(ALICE, "UPDATE app.document_tags SET tag_id = tag_id")


def test_deleting_a_project_or_tag_leaves_its_documents(database: Database, alices: Library) -> None:
    with database.transaction_with_rls(ALICE) as connection:
        _run(connection, "DELETE FROM app.projects")
        _run(connection, "DELETE FROM app.tags")
        (row,) = library.documents(connection, user_id=ALICE)
        assert (row.id, row.project_id, row.project_name, row.tags) == (alices.document_id, None, None, [])


def test_removing_a_source_lowers_the_counts_of_its_documents(database: Database, alices: Library) -> None:
    with database.transaction_with_rls(ALICE) as connection:
        _run(connection, "DELETE FROM app.data_sources")
        assert set(_stored_counts(connection).values()) == {0}
    assert alices.user_id == ALICE


def test_document_is_found_by_id_path_end_of_path_title_and_no_other_way(database: Database, alices: Library) -> None:
    with database.transaction_with_rls(ALICE) as connection:
        for reference in (str(alices.document_id), "folder/a.txt", "a.txt", "alice's title"):
            assert library.document(connection, user_id=ALICE, reference=reference).id == alices.document_id
        for reference in ("", "txt", ".txt", "older/a.txt", "b.txt", "bob's title", "%"):
            with pytest.raises(NotFoundError):
                library.document(connection, user_id=ALICE, reference=reference)


def test_reference_that_fits_two_documents_is_refused(database: Database, alices: Library) -> None:
    with database.transaction_with_rls(ALICE) as connection:
        store(connection, ALICE, [document_write("x", config_id=alices.config.id, title="alice's title")])
        with pytest.raises(NotFoundError, match="several"):
            library.document(connection, user_id=ALICE, reference="alice's title")


def test_documents_are_listed_by_source_project_and_tag(database: Database, alices: Library) -> None:
    with database.transaction_with_rls(ALICE) as connection:
        store(connection, ALICE, [document_write("loose", config_id=config_of(connection, ALICE).id)])

        def listed(**chosen: Any) -> list[DocumentId]:
            return [row.id for row in library.documents(connection, user_id=ALICE, **chosen)]

        assert len(listed()) == 2
        for chosen in (
            {"data_source_id": alices.source.id},
            {"project_name": "project"},
            {"tag_name": "tag"},
            {"project_name": "project", "tag_name": "tag", "data_source_id": alices.source.id},
        ):
            assert listed(**chosen) == [alices.document_id]
        assert listed(project_name="other") == listed(tag_name="ta") == listed(data_source_id=uuid4()) == []
        assert listed(limit=1) + listed(limit=1, offset=1) == listed()
        documents.tombstone(connection, user_id=ALICE, document_ids=[alices.document_id])
        assert alices.document_id not in listed()
        assert alices.document_id in listed(with_deleted=True)


def test_projects_and_tags_are_made_once_and_named_within_bounds(database: Database) -> None:
    populate(database, ALICE)
    with database.transaction_with_rls(ALICE) as connection:
        made = [library.ensure_tag(connection, user_id=ALICE, name=name, new_id=uuid4) for name in ("new", " new ")]
        assert made[0] == made[1]
        assert library.project_id(connection, user_id=ALICE, name="project") is not None
        for name in ("", " ", "x" * 101):
            with pytest.raises(InvalidRequestError, match="1 to 100"):
                library.ensure_tag(connection, user_id=ALICE, name=name, new_id=uuid4)
        with pytest.raises(NotFoundError):
            library.project_id(connection, user_id=ALICE, name="none")
