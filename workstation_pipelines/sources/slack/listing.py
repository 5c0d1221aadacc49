"""Lists channels from the newest message down, page by page, and compares what they show with what is known.

Pages are asked for by time and not by Slack's cursor, which does not live long: a listing that was cut off goes on below
the oldest message it has seen. `replies_count` and `latest_reply` of a parent tell of new replies; edited ones it hides.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from workstation_pipelines.errors import CursorExpiredError, SkipItemError
from workstation_pipelines.model import Change, ChangeKind, Container, Cursor, Item, ItemFailure, Page
from workstation_pipelines.sources.contract import Known
from workstation_pipelines.sources.slack import messages
from workstation_pipelines.sources.slack.channels import BOTTOM, Channel, Watermarks
from workstation_pipelines.sources.slack.threads import PAGE_MESSAGES, HistoryPage, Thread, Threads

LIST = "list"
DELTA = "delta"
MOST_SILENT_DELETES = 20
"""More, and most of what is known in a page's range, look like a plan's limit or a lost view rather than like deletions."""


@dataclass(frozen=True, slots=True)
class Position:
    """Where a listing or a delta stands: behind `ts` of `channel` in `phase`; BOTTOM is behind the whole channel.

    `newest` is the newest message this pass has seen of the channel, `since` when the delta began, `left` how many more
    pages of old history it may compare.
    """

    mode: str
    phase: str = ""
    channel: str = ""
    ts: str = ""
    newest: str = ""
    since: str = ""
    left: int = 0

    @classmethod
    def of(cls, cursor: Cursor | None) -> Position:
        """Read a cursor. Raises CursorExpiredError for one of another version."""
        if cursor is None:
            return cls(LIST)
        texts = {name: cursor.get(name, "") for name in ("phase", "channel", "ts", "newest", "since")}
        mode, left = cursor.get("mode"), cursor.get("left", 0)
        is_ours = isinstance(left, int) and all(isinstance(text, str) for text in texts.values())
        if cursor.get("v") != 1 or mode not in (LIST, DELTA) or not is_ours:
            raise CursorExpiredError("slack: its cursor is of another version: everything is listed once")
        return cls(mode, left=left, **texts)

    def cursor(self) -> dict[str, Any]:
        fields = ("mode", "phase", "channel", "ts", "newest", "since", "left")
        return {"v": 1, **{name: value for name in fields if (value := getattr(self, name))}}


@dataclass(slots=True)
class Reading:
    """One run through a workspace. `channels` are those to read by id, `marks` what is remembered of them."""

    threads: Threads
    known: Known
    channels: Mapping[str, Channel]
    marks: dict[str, Watermarks]
    labels: Mapping[str, str]
    kept: frozenset[str]
    now: datetime
    window: timedelta
    reread: timedelta
    notices: Sequence[ItemFailure] = ()
    is_forced: bool = False
    unreadable: set[str] = field(default_factory=set)

    @property
    def top(self) -> str:
        """Newer than every message, however wrong this machine's clock is."""
        return messages.ts_of(self.now + timedelta(days=1))

    @property
    def window_from(self) -> str:
        return messages.ts_of(self.now - self.window)

    @property
    def reread_from(self) -> str:
        return messages.ts_of(self.now - self.reread)

    def items(self, channel_id: str, *, low: str = "", high: str = ":") -> list[Item]:
        """Known items of a channel from `low` up to `high`, in order of time."""
        return list(self.known.items_between(f"{channel_id}:{low}", f"{channel_id}:{high}"))

    def remember(self, channel: Channel, marks: Watermarks) -> Container:
        self.marks[channel.id] = marks
        return marks.container(channel)


@dataclass(frozen=True, slots=True)
class Compared:
    """What a page of history means. `late` are threads older than the window with recent replies."""

    changes: list[Change]
    unchanged: int
    failures: list[ItemFailure]
    late: Mapping[str, str]
    newest: str


def list_everything(reading: Reading, at: Position) -> Iterator[Page]:
    """Yield every thread of every channel; what is remembered of other channels is forgotten with the last page."""
    for channel in reading.channels.values():
        done = at.ts if channel.id == at.channel else ""
        if channel.id < at.channel or done == BOTTOM:
            continue
        if channel.is_archived:
            yield from as_known(reading, channel)
        else:
            yield from descend(reading, channel, before=done or reading.top, at=Position(LIST), is_listing=True)
    for channel_id in sorted(reading.kept):
        yield from as_known(reading, _unlisted(channel_id, reading))
    gone = reading.labels.keys() - reading.channels.keys() - reading.kept
    yield Page(
        (),
        cursor_after=Position(LIST, channel="~").cursor(),
        failures=reading.notices,
        complete=True,
        containers=[Container(channel_id, reading.labels[channel_id], is_deleted=True) for channel_id in sorted(gone)],
    )


def descend(reading: Reading, channel: Channel, *, before: str, at: Position, is_listing: bool) -> Iterator[Page]:
    """Yield a channel's history from `before` down to its beginning, remembering after each page how far that is."""
    while True:
        try:
            page = reading.threads.page(channel, before=before, after=BOTTOM)
        except SkipItemError as skip:
            yield from refused(reading, channel, skip, at=at, is_listing=is_listing)
            return
        found = compare(reading, channel, page, is_listing=is_listing)
        marks = reading.marks.get(channel.id, Watermarks()).noting(found.late)
        is_first = before == reading.top
        before = page.low if page.has_more else BOTTOM
        marks = replace(marks, filled=before, newest=found.newest or BOTTOM if is_first else marks.newest)
        yield Page(
            found.changes,
            cursor_after=replace(at, channel=channel.id, ts=before).cursor(),
            unchanged=found.unchanged,
            failures=found.failures,
            containers=[reading.remember(channel, marks)],
        )
        if before == BOTTOM:
            return


def compare(reading: Reading, channel: Channel, page: HistoryPage, *, is_listing: bool) -> Compared:
    """Hold a page of history against what is known between its ends.

    Outside a full listing what is unchanged is only counted, and what is known but not shown is gone: a page is the vendor's
    word on everything between its ends.
    """
    threads = reading.threads
    known = {item.external_id: item for item in reading.items(channel.id, low=page.low, high=page.high)}
    changes: list[Change] = []
    late: dict[str, str] = {}
    shown = {threads.id_of(channel, ts) for ts, _ in page.refused if ts}
    unchanged = 0
    for message in page.read:
        if message.is_reply:
            late[message.thread_ts] = max(late.get(message.thread_ts, ""), message.ts)
        if not messages.is_shown(message, skip_bots=threads.skip_bots):
            continue
        if message.has_replies and message.ts < reading.window_from and message.latest_reply >= reading.reread_from:
            late[message.ts] = message.latest_reply
        item = threads.item(channel, message)
        shown.add(item.external_id)
        item = _with_known_replies(item, known.get(item.external_id), is_forced=reading.is_forced)
        if not is_listing and _is_same(item, known.get(item.external_id)):
            unchanged += 1
            continue
        content = threads.content(Thread(message, ())) if threads.is_listed_whole(message) else None
        size_bytes = len(content.body) if content else -1
        changes.append(
            Change(ChangeKind.UPSERT, item.external_id, replace(item, size_bytes=size_bytes), content=content)
        )
    if not is_listing and all(ts for ts, _ in page.refused):
        changes += _vanished(known, shown)
    newest = max((message.ts for message in page.read), default="")
    return Compared(changes, unchanged, [_malformed(threads, channel, *one) for one in page.refused], late, newest)


def as_known(reading: Reading, channel: Channel, failures: list[ItemFailure] | None = None) -> Iterator[Page]:
    """Show what is stored of a channel as it is, since there is no listing of it that could say otherwise."""
    items = reading.items(channel.id)
    old_label = reading.labels.get(channel.id, channel.label)
    done = Position(LIST, channel=channel.id, ts=BOTTOM).cursor()
    changes = [
        Change(ChangeKind.UPSERT, item.external_id, relabelled(item, old_label, channel.label)) for item in items
    ]
    for start in range(0, len(changes), PAGE_MESSAGES):
        yield Page(changes[start : start + PAGE_MESSAGES])
    marks = replace(reading.marks.get(channel.id, Watermarks()), is_archived=channel.is_archived)
    yield Page((), cursor_after=done, failures=failures or (), containers=[reading.remember(channel, marks)])


def refused(
    reading: Reading, channel: Channel, skip: SkipItemError, *, at: Position, is_listing: bool
) -> Iterator[Page]:
    """Report one channel that cannot be read and go on; what is stored of it stays."""
    reading.unreadable.add(channel.id)
    failures = (
        []
        if channel.is_archived
        else [
            unreadable_channel(
                reading.threads.workspace.team_id,
                channel.id,
                channel.label,
                skip.reason,
                skip.message,
                error_class=type(skip).__name__,
            )
        ]
    )
    if is_listing:
        yield from as_known(reading, channel, failures)
        return
    done = replace(at, channel=channel.id, ts=BOTTOM)
    marks = replace(reading.marks.get(channel.id, Watermarks()), is_archived=channel.is_archived)
    containers = [reading.remember(channel, marks)] if channel.id in reading.labels else []
    yield Page((), cursor_after=done.cursor(), failures=failures, containers=containers)


def relabelled(item: Item, old_label: str, new_label: str) -> Item:
    """Return an item of a channel that has a new name."""
    path, title = item.external_path, item.title
    if path.startswith(f"{old_label}/"):
        path = new_label + path[len(old_label) :]
    if title.startswith(f"{old_label} "):
        title = new_label + title[len(old_label) :]
    return replace(item, external_path=path, title=title)


def batches(changes: list[Change], page_of: Callable[[list[Change]], Page]) -> Iterator[Page]:
    for start in range(0, len(changes), PAGE_MESSAGES):
        yield page_of(changes[start : start + PAGE_MESSAGES])


def _with_known_replies(item: Item, known: Item | None, *, is_forced: bool) -> Item:
    """A history says nothing of replies' texts: what is known of them stays known while the parent stays the same."""
    if known is None or messages.parent_part(known.external_hash) != item.external_hash:
        return item
    if is_forced and known.external_hash != item.external_hash:
        return replace(item, external_hash=messages.unknown_replies(item.external_hash))
    return replace(item, external_hash=known.external_hash)


def _is_same(item: Item, known: Item | None) -> bool:
    return known is not None and (
        (item.external_hash, item.external_path, item.title, item.external_url)
        == (known.external_hash, known.external_path, known.title, known.external_url)
    )


def _vanished(known: Mapping[str, Item], shown: set[str]) -> list[Change]:
    gone = [external_id for external_id in known if external_id not in shown]
    is_doubtful = len(gone) > MOST_SILENT_DELETES and 2 * len(gone) > len(known)
    kind = ChangeKind.ABSENT if is_doubtful else ChangeKind.DELETED
    return [Change(kind, external_id) for external_id in gone]


def _unlisted(channel_id: str, reading: Reading) -> Channel:
    return Channel(channel_id, reading.labels[channel_id], (), "", is_member=True, is_archived=False)


def _malformed(threads: Threads, channel: Channel, ts: str, reason: str) -> ItemFailure:
    return ItemFailure(
        external_id=threads.id_of(channel, ts or "unreadable"),
        external_path=f"{channel.label}/{ts or 'unreadable'}",
        stage="list",
        error_class="UnexpectedReplyError",
        reason="malformed",
        message=f"slack: a message of {channel.label} cannot be understood: {reason}; it is looked at again next time",
        permanent=False,
    )


def unreadable_channel(
    team_id: str, channel_id: str, label: str, reason: str, message: str, *, error_class: str = "SkipItemError"
) -> ItemFailure:
    """One channel that cannot be read, for the ledger; it is tried again with every sync."""
    return ItemFailure(
        external_id=f"{team_id}:{channel_id}",
        external_path=label,
        stage="list",
        error_class=error_class,
        reason=reason,
        message=f"slack: channel {label}: {message}",
        permanent=False,
    )
