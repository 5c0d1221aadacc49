"""The whole system as it is put together for real, with the real extractor: poison among a thousand, and two users."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conftest import DatabaseUrls
from tests.hostile.poison import REFUSED
from tests.sync.conftest import Ask
from workstation_pipelines.db import data_sources, library, migrate, sync_items
from workstation_pipelines.db.data_sources import DataSource
from workstation_pipelines.errors import InvalidRequestError
from workstation_pipelines.index.search import search
from workstation_pipelines.model import DataSourceId, JobResult, JobStatus, Scope, SourceType, UserId
from workstation_pipelines.settings import Settings
from workstation_pipelines.sync import index
from workstation_pipelines.sync.run import SyncRequest, drive
from workstation_pipelines.sync.workspace import SCHEMA_REVISION, Workspace

SCANS_AND_PICTURES = ("scanned pdf", "picture")


@pytest.fixture
def chosen(tmp_path: Path, database_urls: DatabaseUrls) -> Settings:
    return Settings(
        WORKSTATION_HOME=tmp_path / "home",
        DATABASE_URL=database_urls.app_url,
        WORKSTATION_FOLDER_ROOTS=str(tmp_path),
        WORKSTATION_EMBEDDER="hashing",
    )


@pytest.fixture
def workspace(chosen: Settings) -> Iterator[Workspace]:
    with Workspace.open(chosen) as workspace:
        yield workspace


def add_folder(workspace: Workspace, user: str, folder: Path) -> DataSource:
    folder.mkdir(exist_ok=True)
    user_id = UserId(user)
    with workspace.database.transaction_with_rls(user_id) as connection:
        return data_sources.add(
            connection,
            user_id=user_id,
            data_source_id=DataSourceId(workspace.new_id()),
            name=folder.name,
            source_type=SourceType.LOCAL_FOLDER,
            config={"path": str(folder)},
        )


def sync(workspace: Workspace, source: DataSource, **request: object) -> JobResult:
    return drive(workspace.sync(source, SyncRequest(**request)))  # type: ignore[arg-type]


def test_the_code_expects_the_newest_migration() -> None:
    assert migrate.revisions()[-1] == SCHEMA_REVISION


def test_an_older_database_is_refused_with_the_way_out(chosen: Settings, ask: Ask) -> None:
    ask("UPDATE public.alembic_version SET version_num = '002_library'")
    with pytest.raises(InvalidRequestError, match="workstation db upgrade"):
        Workspace.open(chosen)


def test_an_open_table_is_refused(chosen: Settings, ask: Ask) -> None:
    ask("ALTER TABLE app.chunks DISABLE ROW LEVEL SECURITY")
    with pytest.raises(InvalidRequestError, match="RLS not enabled: chunks"):
        Workspace.open(chosen)


@pytest.mark.slow
def test_every_poison_among_a_thousand_is_one_named_failure(workspace: Workspace, tmp_path: Path, ask: Ask) -> None:
    folder = tmp_path / "thousand"
    source = add_folder(workspace, "alice", folder)
    for n in range(1000):
        (folder / f"good{n:04}.md").write_text(f"# Note {n}\n\nThis one speaks of topic {n}.\n")
    reasons = {}
    for kind, (name, make, reason) in REFUSED.items():
        path = f"{kind.replace(' ', '-')}{Path(name).suffix}"
        (folder / path).write_bytes(make())
        reasons[path] = reason
    result = sync(workspace, source)
    assert result.status is JobStatus.COMPLETED_WITH_ERRORS
    assert (result.counts.found, result.counts.created) == (1000 + len(REFUSED), 1000)
    assert result.counts.skipped + result.counts.failed == len(REFUSED)
    stored = ask("SELECT external_path, reason FROM app.sync_items WHERE sync_status IN ('failed', 'skipped')")
    assert dict(stored) == reasons
    failures = ask("SELECT external_path, message FROM app.sync_failures")
    assert len(failures) == result.counts.failed
    assert all(path in message or path.rpartition("/")[2] in message for path, message in failures)
    again = sync(workspace, source)
    assert (again.counts.fetched, again.counts.unchanged, again.counts.failed) == (0, 1000 + len(REFUSED), 0)


def test_examples_are_found_by_their_identifiers(workspace: Workspace, tmp_path: Path) -> None:
    import shutil

    examples = Path(__file__).resolve().parents[2] / "examples" / "documents"
    shutil.copytree(examples, tmp_path / "examples")
    source = add_folder(workspace, "alice", tmp_path / "examples")
    assert sync(workspace, source).status is JobStatus.COMPLETED
    user_id = UserId("alice")
    using = workspace.vectorizer(user_id)
    found = search(workspace.database, workspace.embedder, using.config, "INV-2026-0417", Scope(user_id))
    assert "INV-2026-0417" in found.hits[0].text
    assert index.check(workspace.database, using, user_id=user_id).is_clean


words = st.sampled_from(["harbour", "invoice", "winter", "compass", "ledger", "anchor"])
acts = st.lists(
    st.tuples(
        st.sampled_from(["alice", "bob"]), st.sampled_from(["write", "remove", "sync"]), st.integers(0, 3), words
    ),
    max_size=12,
)


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(acts=acts)
def test_neither_user_ever_meets_a_byte_of_the_other(
    acts: list[tuple[str, str, int, str]],
    workspace: Workspace,
    tmp_path_factory: pytest.TempPathFactory,
    chosen: Settings,
) -> None:
    root = Path(chosen.folder_roots()[0]) / tmp_path_factory.mktemp("run").name  # type: ignore[index]
    root.mkdir()
    sources = {user: add_folder(workspace, user, root / f"{user}-{root.name}") for user in ("alice", "bob")}
    for user, act, number, word in acts:
        file = root / f"{user}-{root.name}" / f"{number}.txt"
        if act == "write":
            file.write_text(f"secret-of-{user} about the {word}")
        elif act == "remove":
            file.unlink(missing_ok=True)
        else:
            sync(workspace, sources[user], confirm_deletes=True)
    for user, other in (("alice", "bob"), ("bob", "alice")):
        sync(workspace, sources[user], confirm_deletes=True)
        seen = Counter(everything_seen_by(workspace, UserId(user)))
        assert not [text for text in seen if f"secret-of-{other}" in text or f"{other}-" in text]


def everything_seen_by(workspace: Workspace, user_id: UserId) -> Iterator[str]:
    """Yield every text that listings, look-ups and searches give this user."""
    config = workspace.index_config(user_id)
    with workspace.database.transaction_with_rls(user_id) as connection:
        for row in library.documents(connection, user_id=user_id, with_deleted=True, limit=1000):
            yield str(row)
            yield library.text_of(connection, user_id=user_id, document_id=row.id)
            yield from (str(chunk) for chunk in library.chunks_of(connection, user_id=user_id, document_id=row.id))
        for reference in ("0.txt", "1.txt", "2.txt", "3.txt"):
            yield from (str(row) for row in sync_items.find(connection, user_id=user_id, reference=reference))
    for query in ("harbour", "secret", "secret-of-alice", "secret-of-bob", "winter ledger"):
        for mode in ("hybrid", "text", "vector"):
            result = search(workspace.database, workspace.embedder, config, query, Scope(user_id), mode=mode)
            yield from (str(hit) for hit in result.hits)
