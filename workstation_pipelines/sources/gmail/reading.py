"""Reads one thread with what is attached to it, within caps on what one answer and one document may hold."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from workstation_pipelines.errors import ItemGoneError, ItemTooLargeError, SkipItemError, UnexpectedReplyError
from workstation_pipelines.model import Attachment, Content, Item, ItemType
from workstation_pipelines.sources import SourceContext
from workstation_pipelines.sources.config import MIB
from workstation_pipelines.sources.gmail import thread as rendering
from workstation_pipelines.sources.gmail.calls import ATTACHMENT, MESSAGE, THREAD
from workstation_pipelines.sources.gmail.message import Mail, Part, moment, part_bytes, part_text, read_mail
from workstation_pipelines.sources.gmail.scope import MailScope, labels_of, thread_hash
from workstation_pipelines.sources.gmail.thread import Written
from workstation_pipelines.sources.http import Call, VendorApi
from workstation_pipelines.sources.tree import safe_name

MIME_TYPE = "text/markdown"
_ATTACHMENT_BYTES = 45 * MIB
"""What base64 leaves below the cap on answers; Gmail itself takes no message above 50 MB."""

_PATH_CHARS = 150
_SAYS_NOTHING = frozenset(
    ["", "application/octet-stream", "binary/octet-stream", "application/x-download", "application/force-download"]
)


class ThreadReader:
    """Reads threads of one mailbox; thread-safe.

    `answer_bytes` caps what Gmail may answer at once: a longer thread is read message by message, the newest first.
    """

    def __init__(
        self, api: VendorApi, context: SourceContext, *, max_file_bytes: int, answer_bytes: int = 32 * MIB
    ) -> None:
        self._api = api
        self._context = context
        self._max_file_bytes = max_file_bytes
        self._answer_bytes = answer_bytes

    def read(self, thread_id: str, scope: MailScope) -> Content:
        """Return the thread as one document. Messages outside the scope are not part of it. Raises ItemGoneError."""
        messages = self._loaded(thread_id, scope)
        if not messages:
            raise ItemGoneError(f"gmail thread {thread_id}: nothing of it is in scope any more", reason="gone")
        mails = [read_mail(message) for message in messages]
        attachments: list[Attachment] = []
        # The newest first: what is too much for one document is left out of the oldest.
        written = [self._written(mail, attachments) for mail in reversed(mails)][::-1]
        described = _described(thread_id, messages, mails)
        return Content(
            body=rendering.document(written).encode("utf-8", "replace"),
            name=f"{safe_name(described.title)}.md",
            mime_type=MIME_TYPE,
            external_hash=described.external_hash,
            item=described,
            attachments=attachments[::-1],
        )

    def hash_of(self, thread_id: str, scope: MailScope) -> str | None:
        """Return the hash of what is left of a thread, None when that is nothing."""
        try:
            left = _counting(self._thread(thread_id, "minimal"), scope)
        except ItemGoneError:
            return None
        return _hash_of(left) if left else None

    def _loaded(self, thread_id: str, scope: MailScope) -> list[Mapping[str, Any]]:
        """Return the messages that count, oldest first. Of an enormous thread only the newest have a payload."""
        try:
            return _counting(self._thread(thread_id, "full"), scope)
        except ItemTooLargeError:
            messages = _counting(self._thread(thread_id, "minimal"), scope)
        room = self._answer_bytes
        for place in range(len(messages) - 1, -1, -1):
            if room <= 0:
                break
            message_id = messages[place]["id"]
            try:
                answer = self._api.download(
                    MESSAGE, path={"message_id": message_id}, params={"format": "full"}, limit_bytes=self._answer_bytes
                )
            except SkipItemError:
                continue
            room -= len(answer.body)
            messages[place] = {**_object(answer.body, MESSAGE), "id": message_id}
        return messages

    def _thread(self, thread_id: str, detail: str) -> list[Mapping[str, Any]]:
        # Not as `json`: that takes an answer above its cap for a broken one.
        answer = self._api.download(
            THREAD, path={"thread_id": thread_id}, params={"format": detail}, limit_bytes=self._answer_bytes
        )
        messages = _object(answer.body, THREAD).get("messages")
        if not isinstance(messages, list) or not all(_has_id(message) for message in messages):
            raise UnexpectedReplyError(f"gmail threads.get: the messages of {thread_id} are not told", wait_s=60)
        return messages

    def _written(self, mail: Mail, attachments: list[Attachment]) -> Written:
        texts: list[str] = []
        remarks: list[str] = []
        for part in mail.texts:
            try:
                text = part_text(part, self._bytes(mail, part, _ATTACHMENT_BYTES))
            except SkipItemError:
                remarks.append("Part of this message's text could not be read.")
                continue
            texts += [part.intro, text] if part.intro else [text]
        names: list[str] = []
        for part in reversed(mail.files):
            attachment, remark = self._attachment(mail, part, attachments)
            if attachment is not None:
                attachments.append(attachment)
            names.insert(0, f"{part.name} ({remark})" if remark else part.name)
        return Written(mail, "\n\n".join(text.strip("\n") for text in texts if text.strip()), names, remarks)

    def _attachment(self, mail: Mail, part: Part, others: Sequence[Attachment]) -> tuple[Attachment | None, str]:
        """Return an attachment, or None and why not. Only what has text and fits is downloaded."""
        mime_type = part.mime_type
        if mime_type in _SAYS_NOTHING:
            mime_type = self._context.detect(part.name, b"")
        if not self._context.has_text(mime_type):
            return None, ""
        limit_bytes = min(self._max_file_bytes - sum(len(other.body) for other in others), _ATTACHMENT_BYTES)
        if part.size_bytes > limit_bytes:
            return None, "not read: too large"
        try:
            body = self._bytes(mail, part, limit_bytes)
        except ItemTooLargeError:
            return None, "not read: too large"
        except SkipItemError:
            return None, "not read: Gmail does not give it"
        return Attachment(f"{mail.message_id}:{part.part_id}:{part.name}", part.name, mime_type, body), ""

    def _bytes(self, mail: Mail, part: Part, limit_bytes: int) -> bytes:
        data: Any = part.data
        if data is None and part.attachment_id is not None:
            path = {"message_id": mail.message_id, "attachment_id": part.attachment_id}
            data = self._api.json(ATTACHMENT, path=path).get("data")
        body = part_bytes(data)
        what = f"gmail message {mail.message_id}, part {part.part_id}"
        if body is None:
            raise SkipItemError(f"{what}: what Gmail gives is not base64url", reason="unreadable")
        if len(body) > limit_bytes:
            raise ItemTooLargeError(f"{what}: it has {len(body)} bytes, more than is read", reason="too_large")
        return body


def _described(thread_id: str, messages: Sequence[Mapping[str, Any]], mails: Sequence[Mail]) -> Item:
    title = rendering.title_of(mails)
    times = [mail.sent_at for mail in mails if mail.sent_at is not None]
    sizes = [message.get("sizeEstimate") for message in messages]
    return Item(
        external_id=thread_id,
        external_path=f"{safe_name(title)[:_PATH_CHARS].strip()} ({thread_id})",
        external_hash=_hash_of(messages),
        item_type=ItemType.EMAIL,
        title=title,
        mime_type=MIME_TYPE,
        size_bytes=sum(size for size in sizes if isinstance(size, int)) or -1,
        external_modified_at=max(times, default=None),
        external_created_at=min(times, default=None),
        external_url=f"https://mail.google.com/mail/#all/{thread_id}",
        place=thread_id,
    )


def _counting(messages: Sequence[Mapping[str, Any]], scope: MailScope) -> list[Mapping[str, Any]]:
    """The messages in scope, in the order in which they came to the mailbox. No labels at all is what archiving leaves."""
    return sorted((message for message in messages if scope.counts(labels_of(message) or ())), key=_came_at)


def _came_at(message: Mapping[str, Any]) -> float:
    came = moment(message.get("internalDate"))
    return came.timestamp() if came is not None else 0.0


def _hash_of(messages: Sequence[Mapping[str, Any]]) -> str:
    return thread_hash(message["id"] for message in messages)


def _has_id(message: Any) -> bool:
    return isinstance(message, Mapping) and isinstance(message.get("id"), str) and bool(message["id"])


def _object(body: bytes, call: Call) -> dict[str, Any]:
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict):
        raise UnexpectedReplyError(
            f"gmail {call.name}: the answer is not a JSON object; is something between us and Gmail?", wait_s=60
        )
    return fields
