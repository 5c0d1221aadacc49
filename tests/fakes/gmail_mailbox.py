"""One user's mailbox at the fake Gmail: messages, labels, drafts, and the history of what happened to them."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.header import decode_header, make_header
from email.message import EmailMessage
from email.utils import format_datetime
from typing import Any

from tests.fakes.gmail_mime import Dissection

START = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
YEAR = timedelta(days=365)
SYSTEM_LABELS = (
    *("CHAT", "SENT", "INBOX", "IMPORTANT", "TRASH", "DRAFT", "SPAM", "STARRED", "UNREAD"),
    *(f"CATEGORY_{name}" for name in ("FORUMS", "UPDATES", "PERSONAL", "PROMOTIONS", "SOCIAL")),
)


@dataclass
class Stored:
    """A message. `payload` replaces what its MIME says, for answers that no MIME gives; `raw` never changes."""

    message_id: str
    thread_id: str
    labels: set[str]
    came_at: datetime
    mime: Dissection
    size: int
    history_id: int
    payload: Mapping[str, Any] | None = None
    text: str = ""

    @property
    def subject(self) -> str:
        """As people read it: a long or foreign one is encoded, and folded, in the message."""
        return str(make_header(decode_header(self.mime.field("Subject"))))


@dataclass(frozen=True)
class File:
    name: str
    body: bytes
    mime_type: str = "application/octet-stream"
    is_inline: bool = False


@dataclass
class Mailbox:
    """What the user, other people and Gmail do. Each method is one event; ids and times go by a counter of its own."""

    address: str
    large_bytes: int = 100_000
    messages: dict[str, Stored] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=lambda: {name: name for name in SYSTEM_LABELS})
    """Label id -> name."""
    history: list[dict[str, Any]] = field(default_factory=list)
    history_id: int = 9_007_199_254_740_993  # more than a float holds
    oldest_history_id: int = 9_007_199_254_740_993
    now: datetime = START
    _serial: int = 0

    # Mail

    def receive(
        self,
        subject: str,
        text: str | None = None,
        *,
        html: str | None = None,
        files: Sequence[File] = (),
        sender: str = "Ann <ann@example.com>",
        thread: str | None = None,
        labels: Collection[str] = ("INBOX", "UNREAD"),
        raw: bytes | None = None,
        payload: Mapping[str, Any] | None = None,
        age: timedelta = timedelta(0),
    ) -> str:
        """New mail arrives; returns its id. `age` is how old it is by its own date: imported mail is old and yet new here."""
        self.now += timedelta(minutes=1)
        came_at = self.now - age
        if raw is None:
            raw = _raw(subject, text, html, files, sender, self.address, came_at)
        message_id = self._new_id()
        mime = Dissection(raw, large_bytes=self.large_bytes)
        message = Stored(
            message_id,
            thread or message_id,
            set(labels),
            came_at,
            mime,
            len(raw),
            0,
            payload=payload,
            text=text or html or "",
        )
        self.messages[message_id] = message
        self._record({"messagesAdded": [{"message": message}]}, [message])
        return message_id

    def reply(self, thread: str, text: str, **more: Any) -> str:
        return self.receive(f"Re: {self.in_thread(thread)[0].subject}", text, thread=thread, **more)

    def send(self, subject: str, text: str, **more: Any) -> str:
        return self.receive(subject, text, sender=f"Me <{self.address}>", labels=("SENT",), **more)

    def save_draft(self, subject: str, text: str, *, thread: str | None = None, replaces: str | None = None) -> str:
        """Each save is another message: the id changes."""
        if replaces is not None:
            self.delete(replaces)
        return self.receive(subject, text, thread=thread, labels=("DRAFT",), sender=f"Me <{self.address}>")

    def send_draft(self, draft: str, text: str) -> str:
        message = self.messages[draft]
        self.delete(draft)
        return self.send(message.subject, text, thread=message.thread_id)

    # What becomes of it

    def label(self, messages: Iterable[str], add: Collection[str] = (), remove: Collection[str] = ()) -> None:
        """Add and remove labels; Gmail writes down only what really changes, in records of their own."""
        chosen = [self.messages[message_id] for message_id in messages]
        for kind, names in (("labelsAdded", set(add)), ("labelsRemoved", set(remove))):
            changed = {
                message.message_id: names - message.labels if kind == "labelsAdded" else names & message.labels
                for message in chosen
            }
            touched = [message for message in chosen if changed[message.message_id]]
            for message in touched:
                message.labels = message.labels ^ changed[message.message_id]
            entries = [{"message": message, "labelIds": sorted(changed[message.message_id])} for message in touched]
            if entries:
                self._record({kind: entries}, touched)

    def mark_read(self, message_id: str) -> None:
        self.label([message_id], remove=["UNREAD"])

    def star(self, message_id: str) -> None:
        self.label([message_id], add=["STARRED"])

    def archive(self, thread: str) -> None:
        self.label(self.ids_of(thread), remove=["INBOX"])

    def trash(self, *messages: str) -> None:
        self.label(messages, add=["TRASH"], remove=["INBOX"])

    def untrash(self, *messages: str) -> None:
        self.label(messages, remove=["TRASH"])

    def spam(self, *messages: str) -> None:
        self.label(messages, add=["SPAM"], remove=["INBOX"])

    def delete(self, *messages: str) -> None:
        """Delete for good."""
        gone = [self.messages.pop(message_id) for message_id in messages]
        self._record({"messagesDeleted": [{"message": message} for message in gone]}, gone)

    def add_label(self, name: str) -> str:
        label_id = f"Label_{len(self.labels)}"
        self.labels[label_id] = name
        return label_id

    def drop_label(self, label_id: str) -> None:
        """The label is deleted. Nothing promises an event for each message that had it, and here there is none."""
        del self.labels[label_id]
        for message in self.messages.values():
            message.labels.discard(label_id)

    def expire_history(self) -> None:
        """A week passes: all positions handed out are too old."""
        self._advance()
        self.oldest_history_id = self.history_id
        self.history.clear()

    # Looking

    def in_thread(self, thread: str) -> list[Stored]:
        found = [message for message in self.messages.values() if message.thread_id == thread]
        return sorted(found, key=lambda message: message.came_at)

    def ids_of(self, thread: str) -> list[str]:
        return [message.message_id for message in self.in_thread(thread)]

    def listed(self, label_ids: Collection[str], query: str, *, spam_and_trash: bool) -> list[Stored]:
        """Newest first, by the date of each message; drafts and chats are among them."""
        found = [
            message
            for message in self.messages.values()
            if message.labels.issuperset(label_ids)
            and (spam_and_trash or message.labels.isdisjoint(("SPAM", "TRASH")))
            and all(self._fits(message, word) for word in re.findall(r'(?:[^\s"]|"[^"]*")+', query))
        ]
        return sorted(found, key=lambda message: (message.came_at, message.message_id), reverse=True)

    def _fits(self, message: Stored, word: str) -> bool:
        if word.startswith("-"):
            return not self._fits(message, word[1:])
        operator, colon, value = word.partition(":")
        value = value.strip('"').lower()
        if not colon:
            return word.lower() in f"{message.mime.field('Subject')} {message.text}".lower()
        if operator in ("from", "subject"):
            return value in message.mime.field(operator).lower()
        if operator == "is":
            return value.upper() in message.labels
        if operator == "label":
            return any(self.labels.get(label, "").lower() == value for label in message.labels)
        if operator == "newer_than":
            return message.came_at > self.now - timedelta(days=int(value.rstrip("d")))
        return operator == "has" and value == "attachment" and bool(message.mime.attachments)

    def _new_id(self) -> str:
        self._serial += 1
        return f"{0x19C2A0000000000 + self._serial * 0x1F3:x}"

    def _advance(self) -> int:
        self.history_id += 7 + self._serial % 5  # with gaps
        return self.history_id

    def _record(self, changes: dict[str, Any], messages: Sequence[Stored]) -> None:
        record_id = self._advance()
        for message in messages:
            message.history_id = record_id
        shown = {
            kind: [{**entry, "message": _reference(entry["message"])} for entry in entries]
            for kind, entries in changes.items()
        }
        references = [{"id": message.message_id, "threadId": message.thread_id} for message in messages]
        self.history.append({"id": str(record_id), "messages": references, **shown})


def _reference(message: Stored) -> dict[str, Any]:
    labels = {"labelIds": sorted(message.labels)} if message.labels else {}
    return {"id": message.message_id, "threadId": message.thread_id, **labels}


def _raw(
    subject: str, text: str | None, html: str | None, files: Sequence[File], sender: str, to: str, date: datetime
) -> bytes:
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = sender, f"Me <{to}>", subject
    message["Date"] = format_datetime(date)
    if text is not None or html is None:
        message.set_content(text or "", cte="base64" if text and not text.isascii() else None)
        if html is not None:
            message.add_alternative(html, subtype="html")
    else:
        message.set_content(html, subtype="html")
    for file in files:
        kind, _, subtype = file.mime_type.partition("/")
        if kind == "message":
            raise ValueError("give a message inside a message as raw")
        message.add_attachment(
            file.body,
            maintype=kind,
            subtype=subtype,
            filename=file.name,
            disposition="inline" if file.is_inline else "attachment",
        )
    return bytes(message)
