"""What changed in a workspace that has no feed: five passes over its channels, each resumed where it was cut off.

1. `new`: from the newest message down to the newest one known, and the rest of that page.
2. `fill`: the whole history of channels that are new here.
3. `threads`: threads with activity within `reread_days` are read again, for the parent does not tell of edited replies.
4. `window`: the rest of `window_days` is compared, which shows edits, deletions and new replies.
5. `past`: a few pages of older history in each channel, those first that have waited longest, compared the same way.

No pass holds a thing that Slack might take back: watermarks are times, kept with each channel's container.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from workstation_pipelines.errors import RetryableError, SkipItemError
from workstation_pipelines.model import Change, ChangeKind, Container, Item, Page
from workstation_pipelines.sources.slack import messages
from workstation_pipelines.sources.slack.channels import BOTTOM, Channel, Watermarks
from workstation_pipelines.sources.slack.listing import (
    DELTA,
    Position,
    Reading,
    batches,
    compare,
    descend,
    refused,
    relabelled,
)
from workstation_pipelines.sources.slack.threads import HistoryPage, place_ts, reread

PHASES = ("new", "fill", "threads", "window", "past")
PAST_PAGES_A_CHANNEL = 5
PAST_PAGES = 100
RESTRICTED_COST = 20
"""Of a page of 15 messages, which some apps get once a minute: five such pages a delta are all there is time for."""

THREADS_A_PAGE = 20


def list_changes(reading: Reading, at: Position) -> Iterator[Page]:
    """Yield what changed. The last page's cursor is the same as that of every other delta: the rest is in containers."""
    if not at.since:
        at = replace(at, phase=PHASES[0], since=_since(reading), left=PAST_PAGES)
    yield from _left(reading)
    yield from _renamed(reading)
    first = PHASES.index(at.phase) if at.phase in PHASES else 0
    for phase in PHASES[first:]:
        start = at if phase == at.phase else replace(at, phase=phase, channel="", ts="", newest="")
        if phase == "past":
            yield from _past(reading, start)
            continue
        for channel in reading.channels.values():
            here = start if channel.id == start.channel else replace(start, channel="", ts="", newest="")
            if channel.id >= start.channel and here.ts != BOTTOM and _is_open(reading, channel):
                yield from _PASSES[phase](reading, channel, here)
    containers = [
        reading.remember(channel, replace(marks, is_archived=channel.is_archived))
        for channel in reading.channels.values()
        if (marks := reading.marks.get(channel.id)) is not None and marks.is_archived != channel.is_archived
    ]
    yield Page((), cursor_after=Position(DELTA).cursor(), failures=reading.notices, containers=containers)


def _since(reading: Reading) -> str:
    """Return when this delta begins: later than every earlier one, whatever the clock does."""
    last = max((marks.past_at for marks in reading.marks.values()), default="")
    return max(messages.ts_of(reading.now), messages.ts_after(last) if last else "")


def _is_open(reading: Reading, channel: Channel) -> bool:
    """Return whether there may be anything new: an archived channel is read once more and then left as it is."""
    marks = reading.marks.get(channel.id, Watermarks())
    return channel.id not in reading.unreadable and not (channel.is_archived and marks.is_archived)


def _new(reading: Reading, channel: Channel, at: Position) -> Iterator[Page]:
    marks = reading.marks.get(channel.id, Watermarks())
    if not marks.newest:
        return  # its whole history is still to come
    newest, before = at.newest, at.ts or reading.top
    after = min(marks.newest, reading.window_from)
    while True:
        try:
            page = reading.threads.page(channel, before=before, after=after)
        except SkipItemError as skip:
            yield from refused(reading, channel, skip, at=at, is_listing=False)
            return
        found = compare(reading, channel, page, is_listing=False)
        newest = newest or found.newest
        is_done = not page.has_more or page.low <= marks.newest
        noted = reading.marks[channel.id].noting(found.late)
        if is_done:
            reach = page.low if page.has_more else ""
            noted = replace(noted, newest=max(newest, marks.newest), reach=reach)
        before = BOTTOM if is_done else page.low
        yield Page(
            found.changes,
            cursor_after=replace(at, channel=channel.id, ts=before, newest="" if is_done else newest).cursor(),
            unchanged=found.unchanged,
            failures=found.failures,
            containers=[reading.remember(channel, noted)],
        )
        if is_done:
            return


def _fill(reading: Reading, channel: Channel, at: Position) -> Iterator[Page]:
    marks = reading.marks.get(channel.id, Watermarks())
    if not marks.is_filled:
        yield from descend(reading, channel, before=marks.filled or reading.top, at=at, is_listing=False)


def _threads(reading: Reading, channel: Channel, at: Position) -> Iterator[Page]:
    marks = reading.marks.get(channel.id, Watermarks())
    low = messages.ts_of(reading.now - reading.window - reading.reread)
    known = {place_ts(item.place): item for item in reading.items(channel.id, low=low)}
    places = [f"{channel.id}:{ts}" for ts in marks.late if ts not in known]
    known.update({place_ts(item.place): item for item in reading.known.items_at(places)} if places else {})
    wanted = {ts for ts, item in known.items() if _is_active(reading, item)} | set(marks.late)
    waiting = sorted(ts for ts in wanted if ts > at.ts)
    late = {ts: active for ts, active in marks.late.items() if active >= reading.reread_from}
    for start in range(0, len(waiting), THREADS_A_PAGE):
        changes: list[Change] = []
        done, stop = at.ts, None
        for ts in waiting[start : start + THREADS_A_PAGE]:
            try:
                changes += _reread(reading, channel, ts, known.get(ts))
            except RetryableError as error:
                stop = error  # what was read before it is kept, so that every attempt gets further
                break
            done = ts
        if stop is None or done != at.ts:
            is_last = stop is None and start + THREADS_A_PAGE >= len(waiting)
            noted = replace(marks, late=late) if is_last else marks
            at = replace(at, channel=channel.id, ts=done)
            yield Page(changes, cursor_after=at.cursor(), containers=[reading.remember(channel, noted)])
        if stop is not None:
            raise stop


def _is_active(reading: Reading, item: Item) -> bool:
    if messages.parent_part(item.external_hash) == item.external_hash or item.external_modified_at is None:
        return False
    return messages.ts_of(item.external_modified_at) >= reading.reread_from


def _reread(reading: Reading, channel: Channel, ts: str, known: Item | None) -> list[Change]:
    external_id = reading.threads.id_of(channel, ts)
    if external_id in reading.threads.read_again:
        return []  # fetched a moment ago, in this run
    try:
        found = reread(reading.threads, channel, ts)
    except SkipItemError:
        # A fetch finds the same and records it.
        if known is None:
            return []
        unread = messages.unknown_replies(messages.parent_part(known.external_hash))
        return [Change(ChangeKind.UPSERT, external_id, replace(known, external_hash=unread))]
    if found is None:
        return [Change(ChangeKind.DELETED, external_id)]
    item, content = found
    if known is not None and known.external_hash == item.external_hash:
        return []
    return [Change(ChangeKind.UPSERT, external_id, item, content=content)]


def _window(reading: Reading, channel: Channel, at: Position) -> Iterator[Page]:
    while (marks := reading.marks.get(channel.id, Watermarks())).reach > reading.window_from:
        try:
            page = reading.threads.page(channel, before=marks.reach, after=reading.window_from)
        except SkipItemError as skip:
            yield from refused(reading, channel, skip, at=at, is_listing=False)
            return
        reach = page.low if page.has_more else ""
        yield _compared(reading, channel, page, replace(marks, reach=reach), replace(at, channel=channel.id, ts=reach))


def _past(reading: Reading, at: Position) -> Iterator[Page]:
    """Compare old history where it was compared longest ago; a channel is done when it has moved in this delta."""
    waiting = sorted(
        (reading.marks.get(channel_id, Watermarks()).past_at, channel_id) for channel_id in reading.channels
    )
    for past_at, channel_id in waiting:
        channel = reading.channels[channel_id]
        if past_at >= at.since or not reading.marks.get(channel_id, Watermarks()).is_filled:
            continue
        for number in range(PAST_PAGES_A_CHANNEL):
            if at.left <= 0:
                return
            if not _is_open(reading, channel):
                break
            marks = reading.marks[channel_id]
            try:
                page = reading.threads.page(channel, before=marks.past or reading.window_from, after=BOTTOM)
            except SkipItemError as skip:
                yield from refused(reading, channel, skip, at=at, is_listing=False)
                break
            is_done = not page.has_more or number == PAST_PAGES_A_CHANNEL - 1
            marks = replace(marks, past=page.low if page.has_more else "", past_at=at.since if is_done else past_at)
            at = replace(at, left=at.left - (RESTRICTED_COST if page.is_restricted else 1))
            yield _compared(reading, channel, page, marks, at)
            if is_done:
                break


def _compared(reading: Reading, channel: Channel, page: HistoryPage, marks: Watermarks, at: Position) -> Page:
    found = compare(reading, channel, page, is_listing=False)
    return Page(
        found.changes,
        cursor_after=at.cursor(),
        unchanged=found.unchanged,
        failures=found.failures,
        containers=[reading.remember(channel, marks.noting(found.late))],
    )


def _left(reading: Reading) -> Iterator[Page]:
    """Delete what is stored of channels that one has left or may no longer see."""
    for channel_id in sorted(reading.labels.keys() - reading.channels.keys() - reading.kept):
        gone = [Change(ChangeKind.DELETED, item.external_id) for item in reading.items(channel_id)]
        yield from batches(gone, Page)
        yield Page((), containers=[Container(channel_id, reading.labels[channel_id], is_deleted=True)])
        reading.marks.pop(channel_id, None)


def _renamed(reading: Reading) -> Iterator[Page]:
    """Describe anew what lies in a channel that has another name now."""
    for channel in reading.channels.values():
        old_label = reading.labels.get(channel.id, channel.label)
        if old_label == channel.label:
            continue
        items = [relabelled(item, old_label, channel.label) for item in reading.items(channel.id)]
        yield from batches([Change(ChangeKind.UPSERT, item.external_id, item) for item in items], Page)
        yield Page((), containers=[reading.remember(channel, reading.marks[channel.id])])


_PASSES = {"new": _new, "fill": _fill, "threads": _threads, "window": _window}
