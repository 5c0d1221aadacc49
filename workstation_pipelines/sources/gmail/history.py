"""Reads Gmail's history: which threads were touched in a way that matters, and how.

Only the four specific arrays of a record are used; its `messages` repeats them. Ids are 64-bit numbers in strings, with
gaps: compared as numbers, kept as text.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from workstation_pipelines.model import ItemFailure
from workstation_pipelines.sources.gmail.scope import NEVER_READ, MailScope, labels_of

TYPES = ("messageAdded", "messageDeleted", "labelAdded", "labelRemoved")
Effect = Literal["grown", "reduced", "labelled"]


@dataclass(frozen=True, slots=True)
class Touch:
    """What happened to a thread, up to the record `last_id`: it lost messages, may have gained some, or both.

    If neither, its labels changed in a way that only the query can judge.
    """

    last_id: int
    is_reduced: bool = False
    has_grown: bool = False


@dataclass(slots=True)
class Touches:
    """The threads that a stretch of history touched, in the order of their last touch. `position` is how far it was read."""

    scope: MailScope
    position: int
    by_thread: dict[str, Touch] = field(default_factory=dict)
    failures: list[ItemFailure] = field(default_factory=list)

    def add(self, record: Any) -> None:
        """Take in the next record."""
        if not isinstance(record, Mapping):
            self.failures.append(unreadable("history", "a record of the history is not one"))
            return
        self.position = max(self.position, number(record.get("id")) or 0)
        for message, effect in self._events(record):
            thread_id = message.get("threadId")
            if not isinstance(thread_id, str) or not thread_id:
                name = message.get("id") if isinstance(message.get("id"), str) else "history"
                self.failures.append(unreadable(str(name), "a change in the history does not name its thread"))
                continue
            before = self.by_thread.pop(thread_id, Touch(0))
            self.by_thread[thread_id] = Touch(
                self.position, before.is_reduced or effect == "reduced", before.has_grown or effect == "grown"
            )

    def is_other(self, thread_id: str) -> bool:
        """Return whether the messages of this thread may be other ones now."""
        touch = self.by_thread.get(thread_id)
        return touch is not None and (touch.is_reduced or touch.has_grown)

    def _events(self, record: Mapping[str, Any]) -> Iterator[tuple[Mapping[str, Any], Effect]]:
        """Yield what matters: the message, and what it means for its thread. The rest needs no look."""
        scope = self.scope
        chosen = scope.label_ids or frozenset()
        for entry in _entries(record, "messagesAdded"):
            labels = labels_of(_message(entry))
            if labels is None or scope.counts(labels):
                yield _message(entry), "grown"
        for entry in _entries(record, "messagesDeleted"):
            # Emptying the trash, and each save of a draft, deletes what was never read.
            if NEVER_READ.isdisjoint(labels_of(_message(entry)) or ()):
                yield _message(entry), "reduced"
        for entry in _entries(record, "labelsAdded"):
            changed = labels_of(entry) or frozenset()
            if changed & NEVER_READ:
                yield _message(entry), "reduced"
            elif changed & chosen:
                yield _message(entry), "grown"
            elif scope.depends_on_labels:
                yield _message(entry), "labelled"
        for entry in _entries(record, "labelsRemoved"):
            changed = labels_of(entry) or frozenset()
            if changed & chosen:
                yield _message(entry), "reduced"
            elif changed & NEVER_READ:
                yield _message(entry), "grown"
            elif scope.depends_on_labels:
                yield _message(entry), "labelled"


def number(value: Any) -> int | None:
    """Return a history id as a number, None when it is not one."""
    return int(value) if isinstance(value, str) and value.isascii() and value.isdigit() else None


def unreadable(external_id: str, what: str) -> ItemFailure:
    return ItemFailure(
        external_id=external_id,
        external_path=external_id,
        stage="list",
        error_class="UnexpectedReplyError",
        reason="unreadable_entry",
        message=f"{external_id}: {what}; the next full sync lists it again",
        permanent=False,
    )


def _entries(record: Mapping[str, Any], name: str) -> Iterator[Mapping[str, Any]]:
    entries = record.get(name)
    if isinstance(entries, list):
        yield from (entry for entry in entries if isinstance(entry, Mapping))


def _message(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    message = entry.get("message")
    return message if isinstance(message, Mapping) else {}
