"""Reads channels and threads and describes them as items with text: everything between Slack's answers and ours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from workstation_pipelines.errors import (
    ItemGoneError,
    RateLimitedError,
    SkipItemError,
    UnexpectedReplyError,
    UnreadableContentError,
)
from workstation_pipelines.model import Attachment, Content, Item, ItemType
from workstation_pipelines.sources import SourceContext
from workstation_pipelines.sources.http import PageTokens
from workstation_pipelines.sources.slack import messages
from workstation_pipelines.sources.slack import text as rendering
from workstation_pipelines.sources.slack.api import FILE_INFO, HISTORY, REPLIES, SlackApi, list_of, next_cursor
from workstation_pipelines.sources.slack.channels import BOTTOM, Channel
from workstation_pipelines.sources.slack.messages import Message, SharedFile

MIME_TYPE = "text/plain"
PAGE_MESSAGES = 200
RESTRICTED_PAGE_MESSAGES = 15
"""What Slack cuts pages to for apps that it allows one request a minute."""

_UNREAD_MODES = {"tombstone": "deleted", "hidden_by_limit": "hidden by Slack's plan", "external": "kept elsewhere"}
_MOST_EMPTY_PAGES = 20


@dataclass(frozen=True, slots=True)
class HistoryPage:
    """Messages of a channel, newest first. They are all there are from `low`, inclusive, to `high`, exclusive.

    `refused` are the timestamps of messages that could not be understood, empty ones included.
    """

    read: Sequence[Message]
    refused: Sequence[tuple[str, str]]
    low: str
    high: str
    has_more: bool
    is_restricted: bool


@dataclass(frozen=True, slots=True)
class Thread:
    """A parent and its replies, oldest first. `missing` counts replies that Slack's limits kept from us."""

    parent: Message
    replies: Sequence[Message]
    missing: int = 0


@dataclass(frozen=True, slots=True)
class Workspace:
    """Where a token belongs. `url` ends with a slash."""

    team_id: str
    user_id: str
    url: str
    label: str


@dataclass(slots=True)
class Threads:
    """The threads of one workspace, with names. Thread-safe."""

    api: SlackApi
    context: SourceContext
    workspace: Workspace
    names: rendering.Names
    skip_bots: bool
    max_file_bytes: int
    read_again: set[str] = field(default_factory=set)
    """Ids of threads that were read with their replies since the source was opened."""

    def page(self, channel: Channel, *, before: str, after: str) -> HistoryPage:
        """Read one page of what was written between two moments, newest first; both are exclusive.

        With `oldest` alone Slack begins at that end, so that `latest` is always sent (slackhq/slack-api-docs#4).
        """
        oldest = "0" if after == BOTTOM else after
        cursor: str | None = None
        for _ in range(_MOST_EMPTY_PAGES):
            reply = self.api.get(
                HISTORY,
                channel=channel.id,
                latest=before,
                oldest=oldest,
                inclusive=False,
                limit=PAGE_MESSAGES,
                cursor=cursor,
            )
            raw = list_of(reply, "messages", HISTORY)
            cursor = next_cursor(reply)
            if raw or not cursor:
                break
            # All messages of that page are hidden from everyone: there is no timestamp to go on from.
        return self._page(channel, raw, before=before, after=after, has_more=reply.get("has_more") is True)

    def _page(self, channel: Channel, raw: list[Any], *, before: str, after: str, has_more: bool) -> HistoryPage:
        stamps = [one["ts"] for one in raw if isinstance(one, dict) and messages.is_ts(one.get("ts"))]
        if (has_more and not stamps) or any(not after < ts < before for ts in stamps):
            raise UnexpectedReplyError(
                f"slack {HISTORY.name}: channel {channel.id} shows messages that were not asked for, or none to go on"
                " from",
                wait_s=60,
            )
        read: list[Message] = []
        refused: list[tuple[str, str]] = []
        for one in raw:
            try:
                read.append(messages.read_message(one))
            except ValueError as reason:
                ts = one.get("ts") if isinstance(one, dict) else None
                refused.append((ts if isinstance(ts, str) and messages.is_ts(ts) else "", str(reason)))
        low = min(stamps) if has_more else messages.ts_after(after)
        is_restricted = has_more and len(raw) <= RESTRICTED_PAGE_MESSAGES
        return HistoryPage(read, refused, low, before, has_more, is_restricted)

    def thread(self, channel_id: str, ts: str) -> Thread:
        """Read a thread by its parent's timestamp. Raises ItemGoneError, RetryableError.

        Where Slack allows an app 15 messages a minute, a longer thread can never be read in one go: what comes first is
        taken, so that the job moves on, and `missing` tells of the rest.
        """
        found: dict[str, Message] = {}
        cursor: str | None = None
        size = 0
        tokens = PageTokens(f"slack {REPLIES.name}")
        while True:
            try:
                reply = self.api.get(REPLIES, channel=channel_id, ts=ts, limit=PAGE_MESSAGES, cursor=cursor)
            except RateLimitedError:
                if not found or size > RESTRICTED_PAGE_MESSAGES or ts not in found:
                    raise
                return self._thread(ts, found, is_whole=False)
            raw = list_of(reply, "messages", REPLIES)
            size = len(raw)
            for one in raw:
                try:
                    message = messages.read_message(one)
                except ValueError:
                    continue
                found.setdefault(message.ts, message)
            cursor = next_cursor(reply)
            if not cursor:
                return self._thread(ts, found, is_whole=True)
            tokens.step(cursor)

    def _thread(self, ts: str, found: dict[str, Message], *, is_whole: bool) -> Thread:
        parent = found.pop(ts, None)
        if parent is None:
            raise UnreadableContentError(
                f"slack {REPLIES.name}: the answer does not have message {ts} that was asked for: it is tried again later",
                reason="no_parent",
                transient=True,
            )
        replies = [found[key] for key in sorted(found)]
        if is_whole and replies:
            # Some answers leave out of the parent what its replies tell as well.
            latest = parent.latest_reply or replies[-1].ts
            parent = replace(parent, reply_count=parent.reply_count or len(replies), latest_reply=latest)
        return Thread(parent, replies, 0 if is_whole else max(parent.reply_count - len(replies), 1))

    def id_of(self, channel: Channel, ts: str) -> str:
        return f"{self.workspace.team_id}:{channel.id}:{ts}"

    def item(self, channel: Channel, parent: Message, *, external_hash: str | None = None) -> Item:
        """Describe a thread by its parent."""
        created = messages.moment_of(parent.ts) or datetime.fromtimestamp(0, UTC)
        return Item(
            external_id=self.id_of(channel, parent.ts),
            external_path=f"{channel.label}/{created:%Y-%m-%d} {parent.ts}",
            external_hash=external_hash or self.hash_of(parent),
            item_type=ItemType.MESSAGE,
            title=rendering.title(channel.label, parent, self.names),
            mime_type=MIME_TYPE,
            external_modified_at=messages.moment_of(parent.active_ts),
            external_created_at=created,
            external_url=f"{self.workspace.url}archives/{channel.id}/p{parent.ts.replace('.', '')}",
            place=f"{channel.id}:{parent.ts}",
        )

    def hash_of(self, parent: Message) -> str:
        files = f"{self.max_file_bytes}:{self._reads_files}" if parent.files else ""
        salt = f"{'without bots' if self.skip_bots else ''}:{files}"
        return messages.parent_hash(parent, salt=salt)

    def is_listed_whole(self, parent: Message) -> bool:
        """Return whether a history shows all there is of a thread, so that nothing need be fetched."""
        if parent.has_replies:
            return False
        return not self._reads_files or all(self._refusal(file) for file in parent.files)

    @property
    def _reads_files(self) -> bool:
        granted = self.api.granted
        return not granted or "files:read" in granted

    def content(self, thread: Thread) -> Content:
        """Render a thread and download its files. Raises RetryableError, ReauthorizeError, UnreadableContentError."""
        spoken = [thread.parent]
        spoken += [reply for reply in thread.replies if not (self.skip_bots and reply.is_bot)]
        attachments: list[Attachment] = []
        notes: dict[str, str] = {}
        left_bytes = self.max_file_bytes
        for file in (file for message in spoken for file in message.files):
            if file.id in notes:
                continue
            found = self._attachment(file, left_bytes)
            if isinstance(found, Attachment):
                left_bytes -= len(found.body)
                attachments.append(found)
            notes[file.id] = "" if isinstance(found, Attachment) else found
        ending = f"({thread.missing} more replies were not read: Slack gives this app few messages a minute)"
        text = rendering.conversation(spoken, self.names, notes=notes, ending=ending if thread.missing else "")
        external_hash = messages.with_replies(self.hash_of(thread.parent), thread.replies)
        if thread.missing:
            external_hash += f"-{thread.missing}"
        return Content(
            body=text.encode("utf-8", "replace"),
            name=f"{thread.parent.ts}.txt",
            mime_type=MIME_TYPE,
            external_hash=external_hash,
            attachments=attachments,
        )

    def _refusal(self, file: SharedFile, limit_bytes: int | None = None) -> str:
        """Why a file is not downloaded; empty for one that is."""
        if file.needs_lookup and file.mode not in _UNREAD_MODES:
            return ""
        if file.mode in _UNREAD_MODES:
            return _UNREAD_MODES[file.mode]
        mime_type = file.mime_type
        if mime_type in ("", "application/octet-stream"):
            mime_type = self.context.detect(file.name, b"")
        if not self.context.has_text(mime_type):
            return "has no text"
        if file.size_bytes > (self.max_file_bytes if limit_bytes is None else limit_bytes):
            return "too large"
        return "" if self.api.may_download(file.url) else "cannot be downloaded"

    def _attachment(self, file: SharedFile, left_bytes: int) -> Attachment | str:
        """Download a file, or say why it is left out."""
        if not self._reads_files:
            return self._refusal(file) or "not read: the scope files:read is missing"
        try:
            if file.needs_lookup and file.mode not in _UNREAD_MODES:
                raw = self.api.get(FILE_INFO, file=file.id).get("file")
                if not isinstance(raw, dict):
                    return "could not be read"
                file = replace(messages.read_file(raw), id=file.id, needs_lookup=False)
            refusal = self._refusal(file, left_bytes)
            if refusal:
                return refusal
            found = self.api.download(file.url, limit_bytes=max(left_bytes, 1))
        except UnexpectedReplyError:
            self._explain_login_page(file)
            raise
        except SkipItemError as skip:
            return "too large" if skip.reason == "too_large" else "could not be read"
        mime_type = file.mime_type or self.context.detect(file.name, found.body[:8192])
        served = found.headers.get("content-type", "").partition(";")[0].strip().lower()
        if served == "text/html" and (mime_type != "text/html" or len(found.body) != file.size_bytes):
            self._explain_login_page(file)
        return Attachment(key=file.id, name=file.name, mime_type=mime_type, body=found.body)

    def _explain_login_page(self, file: SharedFile) -> None:
        """Slack serves a login page with status 200 to a token that may not have a file; a dead token says so itself."""
        self.api.auth_test()
        raise UnreadableContentError(
            f"slack: file {file.id} answers with a login page though the token works: check the app's scope files:read,"
            " it is tried again later",
            reason="login_page",
            transient=True,
        )


def place_ts(place: str | None) -> str:
    """Return the timestamp of an item's place."""
    return (place or "").rpartition(":")[2]


def reread(threads: Threads, channel: Channel, ts: str) -> tuple[Item, Content] | None:
    """Read a thread again; None when there is none any more. Raises RetryableError, ReauthorizeError, SkipItemError."""
    try:
        thread = threads.thread(channel.id, ts)
    except ItemGoneError as gone:
        if gone.reason in ("thread_not_found", "message_not_found"):
            return None
        raise
    if not messages.is_shown(thread.parent, skip_bots=threads.skip_bots):
        return None
    content = threads.content(thread)
    return threads.item(channel, thread.parent, external_hash=content.external_hash), content
