"""What a source promises to the engine. A new source is one file with this shape, one registry line, one fake."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, runtime_checkable

from workstation_pipelines.model import Content, Cursor, Item, JobType, KnownItem, Page, SourceType


class Known(Protocol):
    """What the database already knows of this data source, for sources that must compare a listing with it."""

    def items(self) -> Iterable[KnownItem]:
        """Every known item, tombstones included, in no order; one statement, streamed."""


@dataclass(frozen=True, slots=True)
class Account:
    """Who a source is connected as. `external_account` is the vendor's id, `label` is what a person recognises."""

    external_account: str
    label: str
    details: Mapping[str, Any]


class Source(Protocol):
    """One data source, opened: read-only, usable by one run at a time, `fetch` from several threads.

    Nothing here writes to the user's account or folder, and nothing sleeps for longer than a few seconds: long waits
    are raised as RetryableError.
    """

    source_type: ClassVar[SourceType]
    has_feed: ClassVar[bool]
    """True when the vendor offers a change feed. A source without one lists everything and proves deletes by absence."""

    proves_absence: ClassVar[bool]
    """True when a listing itself names what is gone (`absent` changes); else the engine compares sweeps."""

    page_size: ClassVar[int]
    """The most changes in one page; the engine commits page by page."""

    fetch_threads: ClassVar[int]
    """How many items may be fetched at once; 1 where a fetch is a local read, quicker than handing it over."""

    @staticmethod
    def same_content(old_hash: str, new_hash: str) -> bool:
        """Return whether two external hashes promise equal bytes, so that nothing need be fetched."""

    def check(self) -> Account:
        """Reach the source with its credentials and name the account. Raises ReauthorizeError, SourceUnavailableError,
        InvalidRequestError."""

    def probe(self, since: str | None) -> str:
        """Return a token that differs from `since` whenever a listing might find something; one request or stat pass.

        It may change without a reason, and a source that cannot tell cheaply returns `since`. Opaque, short, without
        content. Raises RetryableError, ReauthorizeError.
        """

    def start_cursor(self) -> Cursor | None:
        """The feed position of this moment, taken BEFORE a full listing; None for sources without a feed."""

    def pages(self, cursor: Cursor | None, known: Known, job_type: JobType) -> Iterator[Page]:
        """Yield what changed since `cursor`, or everything when it is None, page by page in the order to apply.

        The last page of a listing that is proven complete says so; only then do absent items count as deleted.
        With JobType.FULL_SYNC cheap shortcuts (trusting an unchanged stat) are not taken.
        Raises CursorExpiredError, RetryableError, ReauthorizeError.
        """

    def fetch(self, item: Item) -> Content:
        """Read one item's bytes; thread-safe. Raises SkipItemError for this item alone, RetryableError, ReauthorizeError."""

    def close(self) -> None:
        """Release connections; may be called twice."""


@dataclass(frozen=True, slots=True)
class Coverage:
    """Whether a listing shows something. `external_path` is its path as items have it; `reason` is a sentence for a person."""

    external_path: str
    is_listed: bool
    reason: str


@runtime_checkable
class Covering(Protocol):
    """A source that can tell, without listing everything, what becomes of one thing."""

    def coverage(self, reference: str) -> Coverage | None:
        """Find what a person means by `reference`, a path or a URL; None when that is not within this source."""
