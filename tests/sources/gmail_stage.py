"""A mailbox at the fake Gmail, for the tests that all sources share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import uuid4

from tests.fakes.gmail import FakeGmail
from tests.fakes.gmail_mailbox import START, YEAR
from tests.fakes.server import FakeVendor
from workstation_pipelines.model import SourceType
from workstation_pipelines.sources import SourceContext
from workstation_pipelines.sources.credentials import StaticToken
from workstation_pipelines.sources.gmail.connector import Gmail
from workstation_pipelines.text.extract import detect_mime_type, has_text

_NEVER = {"DRAFT", "TRASH", "SPAM", "CHAT"}


class GmailStage:
    """One user's mail with the label `Plans`. A key is a thread; mail does not change, so an edit is a reply."""

    source_type = SourceType.GMAIL
    operations = frozenset(
        {"create", "edit", "move_in", "move_out", "trash", "restore", "share_old", "unshare", "delete", "recreate"}
        | {"expire_cursor"}
    )

    def __init__(self, vendor: FakeGmail | None = None) -> None:
        self.fake = vendor or FakeGmail()
        self.vendor: FakeVendor | None = self.fake
        self.mailbox = self.fake.mailbox
        self._label = self.mailbox.add_label("Plans")
        self.config: Mapping[str, Any] = {"labels": ["Plans"]}

    def urls(self) -> dict[str, str]:
        return {"api": self.fake.url}

    def create(self, name: str, text: str) -> str:
        with self.fake.lock:
            return self.mailbox.receive(name, text, labels=("INBOX", "UNREAD", self._label))

    def edit(self, key: str, text: str) -> None:
        with self.fake.lock:
            self.mailbox.reply(key, text, labels=("INBOX", self._label))

    def rename(self, key: str, name: str) -> None:
        raise NotImplementedError

    def rename_case(self, key: str) -> None:
        raise NotImplementedError

    def rename_folder(self, name: str) -> None:
        raise NotImplementedError

    def move_in(self, name: str, text: str) -> str:
        with self.fake.lock:
            key = self.mailbox.receive(name, text, age=YEAR)
            self.mailbox.label([key], add=[self._label])
            return key

    def move_out(self, key: str) -> None:
        with self.fake.lock:
            self.mailbox.label(self.mailbox.ids_of(key), remove=[self._label])

    def trash(self, key: str) -> None:
        with self.fake.lock:
            self.mailbox.trash(*self.mailbox.ids_of(key))

    def restore(self, key: str) -> None:
        with self.fake.lock:
            self.mailbox.untrash(*self.mailbox.ids_of(key))

    def share_old(self, name: str, text: str) -> str:
        """Mail of last year is imported from elsewhere."""
        with self.fake.lock:
            return self.mailbox.receive(name, text, labels=(self._label,), age=YEAR)

    def unshare(self, key: str) -> None:
        self.delete(key)

    def delete(self, key: str) -> None:
        with self.fake.lock:
            self.mailbox.delete(*self.mailbox.ids_of(key))

    def recreate(self, key: str, text: str) -> str:
        name = self.mailbox.in_thread(key)[0].subject
        self.delete(key)
        return self.create(name, text)

    def expire_cursor(self) -> None:
        with self.fake.lock:
            self.mailbox.expire_history()

    def set_page_size(self, items: int) -> None:
        self.fake.page_cap = items

    def truth(self) -> dict[str, str]:
        """Each thread that has a labelled message, with the texts of all labelled ones."""
        with self.fake.lock:
            found: dict[str, str] = {}
            for key in {message.thread_id for message in self.mailbox.messages.values()}:
                messages = [
                    message
                    for message in self.mailbox.in_thread(key)
                    if self._label in message.labels and not message.labels & _NEVER
                ]
                if messages:
                    path = f"{messages[0].subject} ({key})"
                    found[path] = "\n".join(message.text for message in messages)
            return found


class OpenedGmail(FakeGmail):
    """A fake, with the connectors that a test opened on it: they are closed with it, and never really wait."""

    def __init__(self) -> None:
        self._opened: list[Gmail] = []
        super().__init__()

    def open(self, *, context: Mapping[str, Any] | None = None, **config: Any) -> Gmail:
        """Open the connector; `context` replaces fields of its SourceContext."""
        given: dict[str, Any] = {
            "clock": lambda: START,
            "new_id": uuid4,
            "detect": detect_mime_type,
            "has_text": has_text,
            "credentials": StaticToken("test-token"),
            "account": "me",
            "urls": {"api": self.url},
        }
        gmail = Gmail(config, SourceContext(**{**given, **(context or {})}), sleep=lambda _s: None)
        self._opened.append(gmail)
        return gmail

    def close(self) -> None:
        for gmail in self._opened:
            gmail.close()
        super().close()
