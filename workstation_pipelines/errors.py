"""Errors by the action they demand of whoever catches them.

WorkstationError
├── RetryableError(wait_s)          try the same thing again, not before `wait_s` seconds
│   ├── RateLimitedError            the vendor asked us to wait
│   └── SourceUnavailableError      network, 5xx, database restarting
│       └── UnexpectedReplyError    the vendor's answer is not what its documentation says: a login page, a missing field
├── ReauthorizeError                the user must connect the account again; retrying is useless
├── CursorExpiredError              list everything once; the feed cannot be resumed
├── SkipItemError(reason)           leave out this one item and record why
│   ├── UnsupportedContentError     a kind of file without text, a scanned PDF, an empty file
│   ├── ItemTooLargeError           above a cap
│   ├── UnreadableContentError      encrypted, corrupt, a bomb, a parser that died: a failure until the item changes
│   ├── FilteredError(rule)         a rule of its owner's leaves it out
│   └── ItemGoneError               it was listed, and is not there any more
├── BusyError                       another run holds this data source
├── FencedError                     this run lost its lease to a newer one: stop, write nothing
├── BudgetReachedError(wait_s)      the owner's limit on spending: pause until its next period, or until it is raised
├── CancelledError                  someone asked this job to stop; what is committed stays
├── PausedError                     this job is to stop until it is resumed; it goes on where it stopped
├── NotFoundError                   no such thing, or it is not yours (the two look the same on purpose)
└── InvalidRequestError             the caller's input is wrong and the message says how to mend it

Anything else is a bug and ends the run loudly. Messages say what failed, for which id, and what to do next; never a
token, a body or a line of someone's text. All survive pickling, since extraction and Dagster cross processes.
"""

from __future__ import annotations

from typing import Any


class WorkstationError(Exception):
    """Base of all errors that somebody is meant to act on."""

    def __init__(self, message: str, **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.details = details

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.message, self.__dict__)


class RetryableError(WorkstationError):
    """Raised when the same call may succeed later; `wait_s` is the least time to wait, in seconds."""

    def __init__(self, message: str, *, wait_s: float = 1.0, **details: Any) -> None:
        super().__init__(message, **details)
        self.wait_s = wait_s


class RateLimitedError(RetryableError):
    """Raised when the vendor asks for fewer calls."""


class SourceUnavailableError(RetryableError):
    """Raised when a vendor, a folder or the database cannot be reached just now."""


class UnexpectedReplyError(SourceUnavailableError):
    """Raised when an answer cannot be understood: nothing is concluded from it, and the cursor stays where it is."""


class ReauthorizeError(WorkstationError):
    """Raised when the stored grant no longer works: the source becomes `error` and its user is asked to reconnect."""


class CursorExpiredError(WorkstationError):
    """Raised when a cursor is too old or not understood: the same job goes on with one full listing."""


class SkipItemError(WorkstationError):
    """Raised when one item cannot be taken; `reason` is a short stable code for the ledger.

    A `transient` one is tried again after a while, others only when the item changes.
    """

    stored_as = "skipped"

    def __init__(self, message: str, *, reason: str, transient: bool = False, **details: Any) -> None:
        super().__init__(message, **details)
        self.reason = reason
        self.transient = transient


class UnsupportedContentError(SkipItemError):
    """Raised for content that has no text to index: images, archives, scanned PDFs, empty files."""


class ItemTooLargeError(SkipItemError):
    """Raised for content above a cap on bytes, pages or expansion that an operator may raise."""


class UnreadableContentError(SkipItemError):
    """Raised for content that should have text but cannot be read: encrypted, corrupt, hostile."""

    stored_as = "failed"


class FilteredError(SkipItemError):
    """Raised when `rule`, one of its owner's own, leaves an item out."""

    def __init__(self, message: str, *, rule: str) -> None:
        super().__init__(message, reason="filtered")
        self.rule = rule


class ItemGoneError(SkipItemError):
    """Raised when an item was listed and is gone at fetch; the next listing tells what became of it."""


class BusyError(WorkstationError):
    """Raised when another run is syncing the same data source."""


class FencedError(WorkstationError):
    """Raised when a newer run took over; nothing of this run may be written any more."""


class BudgetReachedError(WorkstationError):
    """Raised when the next document would pass a budget; `wait_s` is the time until there is a new one, None for never."""

    def __init__(self, message: str, *, wait_s: float | None = None, **details: Any) -> None:
        super().__init__(message, **details)
        self.wait_s = wait_s


class CancelledError(WorkstationError):
    """Raised between items or pages after a cancel request."""


class PausedError(WorkstationError):
    """Raised between items or pages when a job is to hold; whoever held it lets it go on."""


class NotFoundError(WorkstationError):
    """Raised when an id or name is not among the user's own."""


class InvalidRequestError(WorkstationError):
    """Raised for input that the caller can mend."""


def _rebuild(kind: type[WorkstationError], message: str, state: dict[str, Any]) -> WorkstationError:
    error = kind.__new__(kind)
    Exception.__init__(error, message)
    error.__dict__.update(state)
    return error
