"""An index outside the database against the live chunks: which vectors are missing, which are too many, which say wrong things.

Mending is noting documents in the outbox and draining it: nothing is fetched and nothing embedded.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from uuid import UUID

from workstation_pipelines.db import index_namespaces, index_outbox
from workstation_pipelines.db.index_namespaces import IndexNamespace
from workstation_pipelines.db.index_outbox import Sent
from workstation_pipelines.errors import WorkstationError
from workstation_pipelines.index.pinecone_store import metadata, parsed_id, vector_id
from workstation_pipelines.model import UserId
from workstation_pipelines.sync.outbox import Drained, ExternalIndex, drain_all, look_how_far

DOCUMENTS_A_STEP = 500
DOCUMENTS_SAMPLED = 100
DOCUMENTS_LISTED = 10
MOST_NAMED = 1000
MOST_UNSETTLED = 1_000_000


@dataclass(frozen=True, slots=True)
class IndexReport:
    """How one namespace agrees with the live chunks. What waits in the outbox is neither missing nor extra but `waiting`.

    `wrong` documents, of a sample, have vectors with metadata that is not theirs. At most 1,000 are named in each list.
    `strange_ids` are in the namespace and none of ours.
    """

    index_name: str
    expected: int
    found: int
    missing: int
    extra: int
    waiting: int
    checked: int
    missing_in: Sequence[UUID]
    extra_in: Sequence[UUID]
    wrong: Sequence[UUID]
    strange_ids: Sequence[str]

    @property
    def is_clean(self) -> bool:
        return not (self.missing or self.extra or self.wrong or self.strange_ids or self.waiting)


def check_index(index: ExternalIndex, namespace: IndexNamespace) -> IndexReport:
    """Compare all ids of a namespace with the live chunks, and the metadata of a sample.

    Both are read in order of id, a step at a time. A listing may lag behind the writes of the last moments: what was sent
    lately and is not known to be visible is left out. Raises RetryableError.
    """
    comparison = _Comparison()
    look_how_far(index, namespace)
    comparison.leave_out(_unsettled(index, namespace))
    listed = groupby(index.client.list_ids(namespace.host, namespace.name), key=_document_of)
    remote = next(listed, None)
    for document_id, wanted in _live(index, namespace):
        while remote is not None and remote[0] < str(document_id):
            comparison.of_none_live(remote[0], set(remote[1]))
            remote = next(listed, None)
        held: set[str] = set()
        if remote is not None and remote[0] == str(document_id):
            held = set(remote[1])
            remote = next(listed, None)
        comparison.of(document_id, wanted, held)
    while remote is not None:
        comparison.of_none_live(remote[0], set(remote[1]))
        remote = next(listed, None)
    comparison.leave_out(_unsettled(index, namespace))  # what changed while it was listed
    wrong, checked = _wrong_metadata(index, namespace, comparison.sample)
    with index.database.transaction_with_rls(namespace.user_id) as connection:
        waiting = index_outbox.backlog(connection, namespace).waiting
    missing = {key: count for key, (count, _) in comparison.problems.items() if count}
    extra = {key: count for key, (_, count) in comparison.problems.items() if count}
    return IndexReport(
        namespace.index_name,
        comparison.expected,
        comparison.found,
        sum(missing.values()),
        sum(extra.values()) + len(comparison.strange_ids),
        waiting,
        checked,
        list(missing)[:MOST_NAMED],
        list(extra)[:MOST_NAMED],
        wrong,
        comparison.strange_ids[:MOST_NAMED],
    )


def check_some(index: ExternalIndex, *, user_id: UserId, data_source_id: UUID) -> dict[str, int]:
    """Compare the vectors of some documents of a source, others each time; return how many of what are wrong, by name.

    A request a document, so for use after each sync. An index that gives no answer is a problem, not an error.
    """
    problems = {"vectors_missing": 0, "vectors_too_many": 0, "documents_put_off": 0, "unreachable": 0}
    with index.database.transaction_with_rls(user_id) as connection:
        namespaces = index_namespaces.all_of(connection, user_id=user_id)
    for namespace in namespaces:
        with index.database.transaction_with_rls(user_id) as connection:
            problems["documents_put_off"] += index_outbox.backlog(connection, namespace).failing
            some = index_outbox.some_live_ids(
                connection, namespace, data_source_id=data_source_id, at_most=DOCUMENTS_LISTED
            )
        try:
            for document_id, chunks in some.items():
                wanted = {vector_id(document_id, *chunk) for chunk in chunks}
                held = set(index.client.list_ids(namespace.host, namespace.name, prefix=f"{document_id}#"))
                problems["vectors_missing"] += len(wanted - held)
                problems["vectors_too_many"] += len(held - wanted)
        except WorkstationError:
            problems["unreachable"] += 1
    return problems


def repair_index(index: ExternalIndex, namespace: IndexNamespace, report: IndexReport) -> Drained:
    """Send what is missing or wrong, delete what is too many, and drain what waits. Raises RetryableError.

    What a report does not name is found by the next one.
    """
    if report.strange_ids:
        index.client.delete(namespace.host, namespace.name, report.strange_ids)
    extra = _listed(index, namespace, report.extra_in)
    with index.database.transaction_with_rls(namespace.user_id) as connection:
        index_outbox.intend(connection, namespace, documents=extra)
        concerned = [*report.missing_in, *report.extra_in, *report.wrong]
        index_outbox.enqueue(connection, user_id=namespace.user_id, document_ids=concerned)
        index_outbox.hurry(connection, namespace)
    return drain_all(index, namespace)


class _Comparison:
    """Counts while two lists go by. `problems` are (missing, extra) by document, `sample` are some without any."""

    def __init__(self) -> None:
        self.expected = 0
        self.found = 0
        self.problems: dict[UUID, tuple[int, int]] = {}
        self.strange_ids: list[str] = []
        self.sample: list[UUID] = []
        self._left_out: set[UUID] = set()
        self._good = 0
        self._stride = 1

    def leave_out(self, document_ids: Iterable[UUID]) -> None:
        """Conclude nothing of these, now or later."""
        self._left_out.update(document_ids)
        for document_id in self._left_out & self.problems.keys():
            del self.problems[document_id]

    def of(self, document_id: UUID, wanted: set[str], held: set[str]) -> None:
        self.expected += len(wanted)
        self.found += len(held)
        if document_id in self._left_out:
            return
        if wanted != held:
            self.problems[document_id] = (len(wanted - held), len(held - wanted))
        elif held:
            self._take_for_sample(document_id)

    def of_none_live(self, document: str, held: set[str]) -> None:
        try:
            self.of(UUID(document), set(), held)
        except ValueError:
            self.found += len(held)
            self.strange_ids += held

    def _take_for_sample(self, document_id: UUID) -> None:
        self._good += 1
        if self._good % self._stride == 0:
            self.sample.append(document_id)
        if len(self.sample) >= 2 * DOCUMENTS_SAMPLED:
            del self.sample[::2]
            self._stride *= 2


def _unsettled(index: ExternalIndex, namespace: IndexNamespace) -> list[UUID]:
    with index.database.transaction_with_rls(namespace.user_id) as connection:
        return index_outbox.not_visible(connection, namespace, at_most=MOST_UNSETTLED)


def _live(index: ExternalIndex, namespace: IndexNamespace) -> Iterator[tuple[UUID, set[str]]]:
    """Yield live documents with the ids that their vectors should have, in order of id."""
    after: UUID | None = None
    while True:
        with index.database.transaction_with_rls(namespace.user_id) as connection:
            step = index_outbox.live_ids(connection, namespace, after=after, at_most=DOCUMENTS_A_STEP)
        if not step:
            return
        for document_id, chunks in step.items():
            yield document_id, {vector_id(document_id, *chunk) for chunk in chunks}
        after = list(step)[-1]


def _wrong_metadata(index: ExternalIndex, namespace: IndexNamespace, sample: Sequence[UUID]) -> tuple[list[UUID], int]:
    """Return documents of the sample whose first vector has other metadata than it should, and how many were looked at."""
    with index.database.transaction_with_rls(namespace.user_id) as connection:
        live = index_outbox.live_documents(connection, namespace, document_ids=sample)
    wanted = {vector_id(each.id, each.generation, 0): each for each in live}
    held = index.client.fetch_metadata(namespace.host, namespace.name, list(wanted))
    return [each.id for key, each in wanted.items() if key in held and held[key] != metadata(each)], len(held)


def _listed(index: ExternalIndex, namespace: IndexNamespace, document_ids: Sequence[UUID]) -> list[Sent]:
    """Return what the index lists of documents, as if it had been sent, so that a drain deletes it."""
    counts: dict[tuple[UUID, int], int] = {}
    for document_id in document_ids:
        for record_id in index.client.list_ids(namespace.host, namespace.name, prefix=f"{document_id}#"):
            key = parsed_id(record_id)
            if key is not None:
                counts[key[0], key[1]] = max(counts.get((key[0], key[1]), 0), key[2] + 1)
    return [Sent(document_id, generation, count) for (document_id, generation), count in counts.items()]


def _document_of(record_id: str) -> str:
    return record_id.partition("#")[0]
