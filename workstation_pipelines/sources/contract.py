"""What a source promises to the engine. A new source is one file with this shape, one registry line, one fake."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

from workstation_pipelines.model import Container, Content, Cursor, Delta, Item, JobType, KnownItem, Page, SourceType

if TYPE_CHECKING:
    from workstation_pipelines.sources.http_call import Call  # with httpx, which a local folder can do without


class Known(Protocol):
    """What the database already knows of this data source, for sources that must compare a listing with it.

    Every answer includes what was yielded before the call. Read an answer to its end at once: it holds a connection.
    """

    def items(self) -> Iterable[KnownItem]:
        """Every known item, tombstones included, in no order; one statement, streamed."""

    def containers(self) -> Iterable[Container]:
        """Every remembered container, in no order."""

    def items_at(self, places: Sequence[str]) -> Iterable[Item]:
        """Live items at one of these places, as they were listed last, in no order."""

    def items_between(self, first: str, end: str) -> Iterable[Item]:
        """Live items with `first <= place < end`, compared byte by byte, in the order of their places."""

    def unseen(self) -> Iterable[Item]:
        """Live items that the present full listing has not shown so far; nothing outside a full listing."""


@dataclass(frozen=True, slots=True)
class Account:
    """Who a source is connected as. `external_account` is the vendor's id, `label` is what a person recognises.

    `scopes` are what was granted and `missing_scopes` what this source needs besides; `sample` is what a first listing call
    showed, in words.
    """

    external_account: str
    label: str
    details: Mapping[str, Any]
    scopes: Sequence[str] = ()
    missing_scopes: Sequence[str] = ()
    sample: str = ""


class Source(Protocol):
    """One data source, opened: read-only, usable by one run at a time, `fetch` from several threads.

    Nothing here writes to the user's account or folder, and nothing sleeps for longer than a few seconds: long waits
    are raised as RetryableError.
    """

    source_type: ClassVar[SourceType]
    delta: ClassVar[Delta]
    """How the vendor tells what changed; decides whether a stored cursor is used."""

    proves_absence: ClassVar[bool]
    """True when a listing itself names what is gone (`absent` changes); else the engine compares sweeps."""

    page_size: ClassVar[int]
    """The most changes in one page; the engine commits page by page."""

    fetch_threads: ClassVar[int]
    """How many items may be fetched at once; 1 where a fetch is a local read, quicker than handing it over."""

    @property
    def scope(self) -> str:
        """A digest of all the config that decides what is listed; after it changed, everything is listed once."""

    @property
    def reconcile_every(self) -> timedelta | None:
        """How long a feed or window may be trusted before everything is listed once more; None is for ever."""

    @property
    def provider_calls(self) -> int:
        """How many requests went to the vendor since this source was opened, retries included."""

    @staticmethod
    def same_content(old_hash: str, new_hash: str) -> bool:
        """Return whether two external hashes promise equal bytes, so that nothing need be fetched."""

    def check(self) -> Account:
        """Reach the source with its credentials, name the account, its scopes and what one listing call shows.

        Raises ReauthorizeError, RetryableError, InvalidRequestError.
        """

    def probe(self, since: str | None, cursor: Cursor | None) -> str:
        """Return a token that differs from `since` whenever a sync from `cursor` might find something; one request.

        It may change without a reason, and a source that cannot tell cheaply returns `since`, or a token that changes as
        time passes. Opaque, short, without content. Raises RetryableError, ReauthorizeError.
        """

    def start_cursor(self) -> Cursor | None:
        """The position of this moment, taken BEFORE a full listing; None where the end of the listing is the position."""

    def pages(self, cursor: Cursor | None, known: Known, job_type: JobType) -> Iterator[Page]:
        """Yield what changed since `cursor`, or everything when it is None, page by page in the order to apply.

        A cursor is one that start_cursor() returned, or the `cursor_after` of an earlier page: a listing that was cut off
        is resumed by its own. The last page of a listing that is proven complete says so; only then do absent items count
        as deleted. With JobType.FULL_SYNC cheap shortcuts (trusting an unchanged stat) are not taken.
        Raises CursorExpiredError, RetryableError, ReauthorizeError.
        """

    def fetch_calls(self, item: Item) -> Sequence[Call]:
        """Return the requests that one fetch of this item takes when all goes well; none where it is refused unasked.

        Nothing is contacted. What only shows while fetching (an attachment apart, a part of a long page) is left out.
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
