"""The nouns of the pipeline, in the order in which a datum meets them.

Cursor -> Page of Changes to Items -> Content -> Extracted text -> Chunks -> Vectors, and the Scope of a search.
Every hand-over between packages is one of these values. They hold no connection, no clock and no vendor's dict.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any, NewType
from uuid import UUID

UserId = NewType("UserId", str)
DataSourceId = NewType("DataSourceId", UUID)
DocumentId = NewType("DocumentId", UUID)
SyncJobId = NewType("SyncJobId", UUID)
ProcessingJobId = NewType("ProcessingJobId", UUID)
IndexConfigId = NewType("IndexConfigId", UUID)
EventId = NewType("EventId", UUID)
WebhookId = NewType("WebhookId", UUID)
WebhookDeliveryId = NewType("WebhookDeliveryId", UUID)

Clock = Callable[[], datetime]
"""Returns the present as an aware UTC datetime. Only display and backoff use it: leases are decided by the database."""

NewId = Callable[[], UUID]
"""Returns a fresh, time-ordered UUID (version 7)."""

Cursor = Mapping[str, Any]
"""A source's resume token: opaque to everyone but that source, small, JSON, without secrets or content."""


class SourceType(StrEnum):
    GOOGLE_DRIVE = "google_drive"
    GMAIL = "gmail"
    NOTION = "notion"
    SLACK = "slack"
    DROPBOX = "dropbox"
    ONEDRIVE = "onedrive"
    LOCAL_FOLDER = "local_folder"


class ItemType(StrEnum):
    FILE = "file"
    EMAIL = "email"
    MESSAGE = "message"
    PAGE = "page"
    NOTE = "note"


class SyncStatus(StrEnum):
    """What became of an item: `synced` has a live document, `skipped` never will as it stands, `failed` may yet."""

    SYNCED = "synced"
    SKIPPED = "skipped"
    FAILED = "failed"
    DELETED = "deleted"


class Delta(StrEnum):
    """How a source tells what changed since a cursor.

    `feed`: the vendor keeps a change feed, deletions included. `window`: it keeps none, and what lies in a rolling window is
    listed again. `none`: everything is listed each time.
    """

    FEED = "feed"
    WINDOW = "window"
    NONE = "none"


class JobType(StrEnum):
    FULL_SYNC = "full_sync"
    INCREMENTAL = "incremental"
    DELTA = "delta"
    MANUAL = "manual"


class JobStatus(StrEnum):
    PENDING = "pending"
    RUNNING = "running"
    PAUSED = "paused"
    NEEDS_CONFIRMATION = "needs_confirmation"
    COMPLETED = "completed"
    COMPLETED_WITH_ERRORS = "completed_with_errors"
    FAILED = "failed"
    CANCELLED = "cancelled"


class ProcessingKind(StrEnum):
    """What is done to the subjects of a processing job, and the name of the Dagster job that does it."""

    BULK_DOCUMENT_PROCESSING = "bulk_document_processing"
    DOCUMENT_REPROCESSING = "document_reprocessing"


class OutcomeStatus(StrEnum):
    PENDING = "pending"
    DONE = "done"
    SKIPPED = "skipped"
    FAILED = "failed"


class Severity(StrEnum):
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class EventKind(StrEnum):
    """What somebody should know of. The first six concern a data source; triggers write the first five.

    Triggers write those of workflows, too. The end of an execution is a notice to webhooks alone, but for a failure, which is
    also an event until the workflow completes again.
    """

    SYNC_FAILED = "sync_failed"
    SYNC_PAUSED = "sync_paused"
    BUDGET_REACHED = "budget_reached"
    CONFIRMATION_NEEDED = "confirmation_needed"
    REAUTHORIZATION_NEEDED = "reauthorization_needed"
    FRESHNESS_MISSED = "freshness_missed"
    INDEX_DRIFTED = "index_drifted"
    WEBHOOK_GIVEN_UP = "webhook_given_up"
    WEBHOOK_DISABLED = "webhook_disabled"
    APPROVAL_NEEDED = "approval_needed"
    WORKFLOW_COMPLETED = "workflow_completed"
    WORKFLOW_FAILED = "workflow_failed"
    WORKFLOW_CANCELLED = "workflow_cancelled"


class ChangeKind(StrEnum):
    """`absent` is weaker than `deleted`: a complete listing did not show the item; the mass-delete brake applies."""

    UPSERT = "upsert"
    DELETED = "deleted"
    ABSENT = "absent"


def aware_utc(moment: datetime) -> datetime:
    """Return `moment` in UTC; a naive datetime raises ValueError, since its zone would be a guess."""
    if moment.tzinfo is None:
        raise ValueError(f"naive datetime {moment!r}: pass an aware one")
    return moment.astimezone(UTC)


@dataclass(frozen=True, slots=True)
class Item:
    """One thing at the vendor, as a listing shows it: metadata only, no content.

    `external_id` is the vendor's stable id: it survives renames and moves, which change `external_path` only.
    `external_hash` is namespaced (`md5:`, `st:`, `mt:` ...) and decides whether the content is fetched again.
    `size_bytes` is -1 when the vendor does not say. `place` is where it lies in the source's own terms, by which the source
    finds it again (a folder's id, a lower-case path, a channel and a time); it is compared byte by byte and never shown.
    A sketch is an item of which the listing shows no more than identity and hash: the rest comes with its content.
    """

    external_id: str
    external_path: str
    external_hash: str
    item_type: ItemType
    title: str
    mime_type: str
    size_bytes: int = -1
    external_modified_at: datetime | None = None
    external_created_at: datetime | None = None
    external_url: str | None = None
    parent_external_id: str | None = None
    place: str | None = None
    is_sketch: bool = False


@dataclass(frozen=True, slots=True)
class Change:
    """One entry of a page. `item` is present for an upsert and absent for `deleted` and `absent`.

    `content` is there when the listing brought it along, so that nothing need be fetched.
    """

    kind: ChangeKind
    external_id: str
    item: Item | None = None
    content: Content | None = None


@dataclass(frozen=True, slots=True)
class Container:
    """What holds items and is none itself: a folder, a drive, a channel, a database. Remembered between syncs.

    `details` is what the source needs to remember of it: small, JSON, without secrets or content.
    """

    external_id: str
    name: str
    parent_external_id: str | None = None
    details: Mapping[str, Any] = field(default_factory=dict)
    is_deleted: bool = False


@dataclass(frozen=True, slots=True)
class Page:
    """One response of a source: the unit of work and of commit.

    The changes are in the source's order; when an item occurs twice the last one wins. `unchanged` counts the items
    that the source itself proved equal to what is known and therefore left out of `changes`. `failures` are items it saw
    but could not describe (an unreadable directory, say). `containers` are to be remembered, or forgotten, with this page.
    `cursor_after` resumes behind this page; None means that only the start of the listing is a safe point to resume from.
    `complete` is true on the last page of a listing that showed everything there is.
    """

    changes: Sequence[Change]
    cursor_after: Cursor | None = None
    unchanged: int = 0
    failures: Sequence[ItemFailure] = ()
    complete: bool = False
    containers: Sequence[Container] = ()


@dataclass(frozen=True, slots=True)
class ItemFailure:
    """Why one item is not (or no longer freshly) stored; becomes a row of the failure ledger.

    `stage` is list, fetch, extract, rules, chunk or embed. `reason` is a short stable code such as `encrypted`; `message`
    tells the user what failed, why, and what to do. `permanent` failures are tried again only when the item changes.
    """

    external_id: str
    external_path: str
    stage: str
    error_class: str
    reason: str
    message: str
    permanent: bool


@dataclass(frozen=True, slots=True)
class KnownItem:
    """What the database knows of an item: enough for a source to tell renamed, changed and gone apart."""

    external_id: str
    external_path: str
    external_hash: str
    sync_status: SyncStatus


@dataclass(frozen=True, slots=True)
class StoredItem:
    """An item as the database holds it, with what the engine needs of its document.

    `retry_due` is true when failed work on it, or on something inside it, is due again, or changed rules need it fetched.
    `is_document_deleted` marks a tombstone. `wanted_index_config_id` is what somebody chose for its document, None where
    nobody did. `rules_hash` is of the rules that made the document, `item_rules_hash` of those that left the item out or
    failed on it, and `reason_detail` names the rule.
    """

    external_id: str
    external_path: str
    external_hash: str
    sync_status: SyncStatus
    reason: str
    title: str
    mime_type: str
    external_url: str | None
    parent_external_id: str | None
    document_id: DocumentId | None
    document_title: str | None
    content_hash: str | None
    live_generation: int
    index_config_id: UUID | None
    is_document_deleted: bool
    retry_due: bool
    size_bytes: int = -1
    external_modified_at: datetime | None = None
    external_created_at: datetime | None = None
    place: str | None = None
    wanted_index_config_id: UUID | None = None
    rules_hash: str = ""
    item_rules_hash: str = ""
    reason_detail: str = ""


@dataclass(frozen=True, slots=True)
class Content:
    """An item's bytes as fetched. `external_hash` describes exactly these bytes, which may be newer than the listing's.

    `item` describes the item better than the listing could, for a sketch; its id is the same. `attachments` came along
    and become documents of their own.
    """

    body: bytes
    name: str
    mime_type: str
    external_hash: str
    item: Item | None = None
    attachments: Sequence[Attachment] = ()


@dataclass(frozen=True, slots=True)
class Heading:
    """A heading of a document: `offset` is the character position of its first character, `level` starts at 1."""

    offset: int
    level: int
    text: str


@dataclass(frozen=True, slots=True)
class Extracted:
    """Clean text of one document: no NUL, no lone surrogate, NFC, `\\n` line ends.

    `headings` are in order of offset. `language` is an ISO 639-1 code or None when unsure. `children` are documents
    found inside (attachments); each keeps its own name and bytes for another round of extraction.
    """

    text: str
    title: str | None = None
    language: str | None = None
    mime_type: str | None = None
    headings: Sequence[Heading] = ()
    children: Sequence[Attachment] = ()


@dataclass(frozen=True, slots=True)
class Attachment:
    """A document inside a document. `key` is stable within its parent (part number and name), for the child's identity."""

    key: str
    name: str
    mime_type: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Chunk:
    """A passage: `text == document.text[start_offset:end_offset]`, always. Offsets count characters, not bytes."""

    ordinal: int
    text: str
    start_offset: int
    end_offset: int
    heading_path: str
    token_count: int


@dataclass(frozen=True, slots=True)
class IndexConfig:
    """What makes two embeddings comparable and two chunkings equal; every chunk carries its id."""

    id: IndexConfigId
    embedder: str
    model: str
    dimensions: int
    chunk_tokens: int
    overlap_tokens: int


@dataclass(frozen=True, slots=True)
class Scope:
    """Where a search may look. None means "no restriction"; an empty tuple means nothing qualifies, so no results."""

    user_id: UserId
    project_ids: Sequence[UUID] | None = None
    tag_names: Sequence[str] | None = None
    source_types: Sequence[SourceType] | None = None
    data_source_ids: Sequence[UUID] | None = None
    mime_types: Sequence[str] | None = None
    modified_from: datetime | None = None
    modified_before: datetime | None = None


@dataclass(frozen=True, slots=True)
class Counts:
    """Items of one sync job by outcome. Conservation: found equals the sum of the six outcomes when the job completes."""

    found: int = 0
    created: int = 0
    updated: int = 0
    unchanged: int = 0
    skipped: int = 0
    deleted: int = 0
    failed: int = 0
    fetched: int = 0
    bytes_fetched: int = 0
    provider_calls: int = 0
    chunks_embedded: int = 0
    chunks_reused: int = 0
    embedding_tokens: int = 0

    def plus(self, other: Counts) -> Counts:
        return Counts(*(mine + theirs for mine, theirs in zip(_astuple(self), _astuple(other), strict=True)))

    def is_conserved(self) -> bool:
        return self.found == (self.created + self.updated + self.unchanged + self.skipped + self.deleted + self.failed)


@dataclass(frozen=True, slots=True)
class Usage:
    """What one step spent at one provider, for one document if that can be told.

    `quantity` counts `unit`s: tokens, or what else a provider bills by (`output_tokens`, `write_units`, `calls`); `unit_price`
    is USD for one of them, 0 for what runs here, None when nobody knows it. `job_id` is whatever job paid for it.
    """

    step: str
    provider: str
    model: str
    quantity: int
    unit_price: Decimal | None
    unit: str = "tokens"
    data_source_id: UUID | None = None
    document_id: UUID | None = None
    job_id: UUID | None = None

    @property
    def cost(self) -> Decimal:
        """USD; 0 where the price is unknown."""
        return self.quantity * (self.unit_price or Decimal(0))


@dataclass(frozen=True, slots=True)
class Measure:
    """Many values of one kind: how many, their sum and the largest. `name` carries the unit: duration_s, bytes, calls."""

    step: str
    name: str
    count: int
    total: float
    highest: float


class BillBy(StrEnum):
    """What a bill is split by."""

    SOURCE = "source"
    DOCUMENT = "document"
    STEP = "step"
    MODEL = "model"
    DAY = "day"
    HOUR = "hour"


class BudgetPeriod(StrEnum):
    """What a budget is for. Days and months are those of UTC; a run is one sync, or one reindexing."""

    RUN = "run"
    DAY = "day"
    MONTH = "month"


class BudgetUnit(StrEnum):
    USD = "usd"
    TOKENS = "tokens"


@dataclass(frozen=True, slots=True)
class Limit:
    """A budget at this moment: `spent` of `amount` in its present period, whose end is `wait_s` seconds away.

    `data_source_id` restricts it to one source. What a run has spent is not known here but to the run itself.
    """

    period: BudgetPeriod
    unit: BudgetUnit
    amount: Decimal
    spent: Decimal = Decimal(0)
    data_source_id: UUID | None = None
    wait_s: float | None = None


@dataclass(frozen=True, slots=True)
class Progress:
    """What a running sync tells after each committed page, and once more for each stage that has nothing left to do."""

    job_id: SyncJobId
    pages: int
    counts: Counts
    finished_stage: str | None = None


@dataclass(frozen=True, slots=True)
class JobResult:
    """How a sync job ended."""

    job_id: SyncJobId
    status: JobStatus
    counts: Counts
    pages: int
    message: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)


def _astuple(counts: Counts) -> tuple[int, ...]:
    return tuple(getattr(counts, name) for name in Counts.__slots__)
