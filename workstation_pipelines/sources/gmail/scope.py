"""Which messages of a mailbox count, and the hash of a thread that follows from them.

A message's MIME never changes, so the ids of a thread's counting messages say all there is to know of its text. Labels
are not part of the hash: reading, starring and archiving fetch nothing.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from workstation_pipelines.errors import InvalidRequestError

NEVER_READ = frozenset(["DRAFT", "TRASH", "SPAM", "CHAT"])
_MOST_NAMES = 50
_UNKNOWN = "gm:?"
_LABEL_WORDS = re.compile(r"\b(?:is|in|label|l|has|category):", re.I)
_TIME_WORDS = re.compile(r"\b(?:newer_than|older_than):", re.I)


@dataclass(frozen=True, slots=True)
class MailScope:
    """What is read of a mailbox: messages with any of `label_ids` (None: all), of threads that `query` finds (empty: all).

    A query cannot be judged here, only asked of Gmail.
    """

    label_ids: frozenset[str] | None = None
    query: str = ""

    def counts(self, labels: Collection[str]) -> bool:
        """Return whether a message with these labels is read."""
        if not NEVER_READ.isdisjoint(labels):
            return False
        return self.label_ids is None or not self.label_ids.isdisjoint(labels)

    @property
    def depends_on_labels(self) -> bool:
        """Whether the query asks for labels, so that every change of one may matter."""
        return bool(_LABEL_WORDS.search(self.query))

    @property
    def depends_on_time(self) -> bool:
        """Whether what the query finds changes as time passes, without any event."""
        return bool(_TIME_WORDS.search(self.query))


def labels_of(message: Mapping[str, Any]) -> frozenset[str] | None:
    """Return a message's labels, None where the answer does not tell them."""
    labels = message.get("labelIds")
    if not isinstance(labels, list):
        return None
    return frozenset(label for label in labels if isinstance(label, str))


def thread_hash(message_ids: Iterable[str]) -> str:
    """Return the hash of a thread of which exactly these messages count; their order does not matter."""
    return "gm:" + sha256("\n".join(sorted(message_ids)).encode("utf-8", "surrogatepass")).hexdigest()


def unknown_hash(history_id: int) -> str:
    """Return a hash that equals no stored one: the thread has grown, and what it holds now is seen when it is fetched."""
    return f"{_UNKNOWN}{history_id}"


def same_content(old_hash: str, new_hash: str) -> bool:
    return old_hash == new_hash and not new_hash.startswith(_UNKNOWN)


def resolve_labels(wanted: Sequence[str], listed: Sequence[Any]) -> frozenset[str]:
    """Return the ids of labels given by id or name. Raises InvalidRequestError that names the labels there are."""
    by_word: dict[str, str] = {}
    names: list[str] = []
    for label in listed:
        if not isinstance(label, Mapping) or not isinstance(label.get("id"), str):
            continue
        name = label["name"] if isinstance(label.get("name"), str) else label["id"]
        if label["id"] not in NEVER_READ:
            names.append(name)
        by_word.setdefault(name.casefold(), label["id"])
        by_word.setdefault(label["id"].casefold(), label["id"])
    ids = {label["id"] for label in listed if isinstance(label, Mapping) and isinstance(label.get("id"), str)}
    found = {word: word if word in ids else by_word.get(word.casefold()) for word in wanted}
    for word, label_id in found.items():
        if label_id is None:
            more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
            raise InvalidRequestError(
                f"`labels`: this mailbox has no label {word!r}; it has {', '.join(sorted(names)[:_MOST_NAMES])}{more}."
            )
        if label_id in NEVER_READ:
            raise InvalidRequestError(f"`labels`: {word!r} is never read: drafts, chats, spam and trash are left out.")
    return frozenset(label_id for label_id in found.values() if label_id is not None)
