"""A project's index built anew beside the live one: compared, switched to, gone back from, dropped.

Searches stay on the live chunks while the build grows. The switch and the way back are one transaction each; what changed
in between is brought to the settings that hold then, as any repair does.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from workstation_pipelines.db import index_builds
from workstation_pipelines.db.engine import Database
from workstation_pipelines.db.index_builds import Build, BuildStatus
from workstation_pipelines.db.wire import TsvectorPacker
from workstation_pipelines.errors import InvalidRequestError
from workstation_pipelines.model import Clock, NewId, UserId
from workstation_pipelines.sync import index
from workstation_pipelines.sync.budget import Allowance
from workstation_pipelines.sync.faults import Faults
from workstation_pipelines.sync.index import Reworked
from workstation_pipelines.sync.recut import meter, prepare
from workstation_pipelines.sync.vectorize import Vectorizer

DOCUMENTS_A_BATCH = 20
RELEASED_AT_ONCE = 200
WAY_BACK = timedelta(days=7)
"""How long the chunks that a switch replaced are kept."""


@dataclass(frozen=True, slots=True)
class Switched:
    """Documents flipped in one transaction, and those brought to the settings behind it."""

    flipped: int
    reworked: int


def grow(
    database: Database, vectorizer: Vectorizer, *, user_id: UserId, build_id: UUID, faults: Faults | None = None
) -> Iterator[Reworked]:
    """Build what is missing, yielding after each commit; the build is ready when nothing is. Resumable and idempotent.

    Raises InvalidRequestError for a build that is live or dropped, BudgetReachedError behind the last document that fits.
    """
    reach = (faults or Faults()).reach
    build = _in_status(database, user_id, build_id, BuildStatus.BUILDING, BuildStatus.READY)
    using = vectorizer.of(build.index_config_id)
    allowance = Allowance(database, user_id=user_id, data_source_id=None, token_price=using.token_price)
    packer = TsvectorPacker()
    while True:
        with database.transaction_with_rls(user_id) as connection:
            sources = index_builds.unbuilt(connection, build, user_id=user_id, limit=DOCUMENTS_A_BATCH)
        reach("rework_taken")
        if not sources:
            break
        recut, over = prepare(
            database, using, allowance, user_id=user_id, sources=sources, job_id=build.id, faults=faults
        )
        with database.transaction_with_rls(user_id) as connection:
            if index_builds.get(connection, user_id=user_id, build_id=build_id, for_update=True).status not in (
                BuildStatus.BUILDING,
                BuildStatus.READY,
            ):
                raise InvalidRequestError(f"build {build_id} was switched to or dropped meanwhile: begin another one")
            stored = index_builds.add_documents(connection, build, user_id=user_id, writes=recut.writes, packer=packer)
            reach("rework_chunks_written")
            meter(connection, user_id=user_id, usages=recut.usages, took_s=recut.took_s)
            index_builds.count(
                connection,
                build,
                user_id=user_id,
                embedded=recut.embedded,
                reused=recut.reused,
                embedding_tokens=recut.tokens,
            )
            reach("rework_before_commit")
        reach("rework_committed")
        yield Reworked(len(stored), recut.chunks, recut.embedded, recut.reused, recut.tokens)
        if over is not None:
            raise over
    reach("rework_before_end")
    with database.transaction_with_rls(user_id) as connection:
        now = index_builds.get(connection, user_id=user_id, build_id=build_id, for_update=True)
        if now.status is BuildStatus.BUILDING:
            index_builds.set_status(connection, build, user_id=user_id, status=BuildStatus.READY)


def switch(
    database: Database,
    vectorizer: Vectorizer,
    *,
    user_id: UserId,
    build_id: UUID,
    new_id: NewId,
    faults: Faults | None = None,
) -> Switched:
    """Make a build live, after building what changed since. Raises what grow() raises."""
    reach = (faults or Faults()).reach
    for _ in grow(database, vectorizer, user_id=user_id, build_id=build_id):
        pass
    with database.transaction_with_rls(user_id) as connection:
        build = index_builds.get(connection, user_id=user_id, build_id=build_id, for_update=True)
        if build.status is not BuildStatus.READY:
            raise InvalidRequestError(f"build {build_id} is {build.status}, not ready: somebody else was at it")
        flipped = index_builds.flip(connection, build, user_id=user_id, default=vectorizer.config.id, new_id=new_id)
        reach("switch_before_commit")
    reach("switch_committed")
    return Switched(flipped, _follow(database, vectorizer, user_id, build))


def roll_back(
    database: Database,
    vectorizer: Vectorizer,
    *,
    user_id: UserId,
    build_id: UUID,
    new_id: NewId,
    faults: Faults | None = None,
) -> Switched:
    """Undo a switch: documents that changed since keep their text and are cut as before. The build is ready again.

    Raises InvalidRequestError for a build that is not live.
    """
    reach = (faults or Faults()).reach
    with database.transaction_with_rls(user_id) as connection:
        build = index_builds.get(connection, user_id=user_id, build_id=build_id, for_update=True)
        if build.status is not BuildStatus.LIVE:
            raise InvalidRequestError(f"build {build_id} is {build.status}: only a live one can be rolled back")
        flipped = index_builds.flip_back(
            connection, build, user_id=user_id, default=vectorizer.config.id, new_id=new_id
        )
        reach("switch_before_commit")
    reach("switch_committed")
    return Switched(flipped, _follow(database, vectorizer, user_id, build))


def drop(database: Database, *, user_id: UserId, build_id: UUID) -> int:
    """Give a build up and remove the chunks it keeps: the candidates, or after a switch the way back. Idempotent.

    Returns of how many documents. What is live stays live.
    """
    with database.transaction_with_rls(user_id) as connection:
        build = index_builds.get(connection, user_id=user_id, build_id=build_id, for_update=True)
        index_builds.set_status(connection, build, user_id=user_id, status=BuildStatus.DROPPED)
    return _release(database, user_id, build)


def purge_old_builds(database: Database, *, clock: Clock, way_back: timedelta = WAY_BACK, at_most: int = 100) -> int:
    """Remove what no build needs any more: ways back older than `way_back`, and what dropped builds have left.

    Of all users, at most so many builds; returns the number of documents whose spare chunks went.
    """
    found = index_builds.to_purge(database, switched_before=clock() - way_back, at_most=at_most)
    return sum(_release(database, user_id, _get(database, user_id, build_id)) for user_id, build_id in found)


def _follow(database: Database, vectorizer: Vectorizer, user_id: UserId, build: Build) -> int:
    """Bring what was not flipped to the settings that hold now."""
    return sum(
        done.documents for done in index.reindex(database, vectorizer, user_id=user_id, project_id=build.project_id)
    )


def _release(database: Database, user_id: UserId, build: Build) -> int:
    released = 0
    while True:
        with database.transaction_with_rls(user_id) as connection:
            some = index_builds.release(connection, build, user_id=user_id, at_most=RELEASED_AT_ONCE)
        if not some:
            return released
        released += some


def _get(database: Database, user_id: UserId, build_id: UUID) -> Build:
    with database.transaction_with_rls(user_id) as connection:
        return index_builds.get(connection, user_id=user_id, build_id=build_id)


def _in_status(database: Database, user_id: UserId, build_id: UUID, *statuses: BuildStatus) -> Build:
    build = _get(database, user_id, build_id)
    if build.status not in statuses:
        raise InvalidRequestError(f"build {build_id} is {build.status}: begin another one")
    return build
