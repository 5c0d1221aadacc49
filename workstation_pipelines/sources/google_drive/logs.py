"""Reading Drive's change logs: the user's, and that of each shared drive, since neither tells all of the other."""

from __future__ import annotations

from collections.abc import Collection, Generator, Iterator, Mapping, Sequence
from dataclasses import replace

from workstation_pipelines.errors import CursorExpiredError, SkipItemError, UnexpectedReplyError
from workstation_pipelines.model import Change, ChangeKind, Container, Item, Page
from workstation_pipelines.sources.google_drive import feed
from workstation_pipelines.sources.google_drive.feed import Entries, Moves
from workstation_pipelines.sources.google_drive.files import DriveFile
from workstation_pipelines.sources.google_drive.listing import Reading, in_pages, is_item, list_due
from workstation_pipelines.sources.google_drive.places import with_listed
from workstation_pipelines.sources.google_drive.position import USER, Listing, Position, drive_corpus, drive_of
from workstation_pipelines.sources.http import PageTokens

_PLACES_AT_ONCE = 200


def read_logs(reading: Reading, at: Position) -> Iterator[Page]:
    """Read each log to its end, the user's first: it tells which shared drives there are.

    What a page makes to be listed is listed before the log goes on.
    """
    at = yield from _joined_unnoticed(reading, at)
    done: set[str] = set()
    while (corpus := _next_log(at, done)) is not None:
        page_tokens = PageTokens("google_drive changes.list")
        is_last = False
        while not is_last and corpus in at.tokens:
            page_tokens.step(at.tokens[corpus])
            at, is_last = yield from _log_page(reading, at, corpus)
            at = yield from list_due(reading, at)
        done.add(corpus)


def _joined_unnoticed(reading: Reading, at: Position) -> Generator[Page, None, Position]:
    """List shared drives that are known to be read and have no position, as a run leaves them that never came to its end."""
    missing = [drive_id for drive_id in reading.places.chosen_drives() if drive_corpus(drive_id) not in at.tokens]
    if missing:
        at = _with_joined(reading, at.tokens, missing)
        yield Page([], at.cursor())
        at = yield from list_due(reading, at)
    return at


def _with_joined(reading: Reading, tokens: Mapping[str, str], drive_ids: Sequence[str]) -> Position:
    joined = {drive_corpus(drive_id): reading.calls.start_token(drive_corpus(drive_id)) for drive_id in drive_ids}
    return Position({**tokens, **joined}, Listing(tuple(joined), sweep="") if joined else None)


def _next_log(at: Position, done: set[str]) -> str | None:
    waiting = sorted(at.tokens.keys() - done)
    return USER if USER in waiting else next(iter(waiting), None)


def _log_page(reading: Reading, at: Position, corpus: str) -> Generator[Page, None, tuple[Position, bool]]:
    """Read one page of a log; returns the position behind it and whether it was the last one."""
    try:
        page = reading.calls.changes(corpus, at.tokens[corpus])
    except (CursorExpiredError, SkipItemError) as error:
        entries = Entries(drives={_lost_drive(reading, corpus, error): None})
        at = yield from _applied(reading, at, entries, corpus, tokens=dict(at.tokens))
        return at, True
    token = page.next_token or page.start_token or ""
    entries = feed.read(page.changes)
    at = yield from _applied(reading, at, entries, corpus, tokens={**at.tokens, corpus: token})
    return at, page.next_token is None


def _lost_drive(reading: Reading, corpus: str, error: CursorExpiredError | SkipItemError) -> str:
    """Return the shared drive that a refused log belonged to, if we are indeed no member any more; else raise."""
    drive_id = drive_of(corpus)
    if drive_id is not None:
        try:
            reading.calls.is_member(drive_id)
        except SkipItemError:
            return drive_id
    if isinstance(error, CursorExpiredError):
        raise error
    raise UnexpectedReplyError(f"{error.message}, for the log {corpus}: try again later", wait_s=60) from None


def _applied(
    reading: Reading, at: Position, entries: Entries, corpus: str, *, tokens: dict[str, str]
) -> Generator[Page, None, Position]:
    moves = feed.apply(entries, reading.places, chooses=reading.chooses)
    # What folders do to their content goes first: the page with the folders themselves also moves the cursor.
    yield from in_pages(_consequences(reading, moves, told=entries.files.keys()), at)
    for drive_id in (drive_id for drive_id, name in entries.drives.items() if name is None):
        tokens.pop(drive_corpus(drive_id), None)
    at = _with_joined(reading, tokens, moves.joined_drives)
    changes = [change for file_id, file in entries.files.items() for change in _change(reading, file_id, file, corpus)]
    containers = [*moves.containers, *_opened(reading, moves.joined)]
    yield Page(changes, at.cursor(), failures=entries.failures, containers=containers)
    return at


def _change(reading: Reading, file_id: str, file: DriveFile | None, corpus: str) -> Iterator[Change]:
    if file is None:
        yield Change(ChangeKind.DELETED, file_id)
    elif is_item(file) and not (corpus == USER and reading.places.is_chosen(file.drive_id)):
        is_wanted = not file.is_trashed and reading.places.holds(file)
        yield reading.upsert(file) if is_wanted else Change(ChangeKind.DELETED, file_id)


def _opened(reading: Reading, folder_ids: Sequence[str]) -> list[Container]:
    known = [reading.places.tree.get(folder_id) for folder_id in folder_ids]
    opened = [with_listed(folder, is_listed=False) for folder in known if folder is not None]
    for folder in opened:
        reading.places.put(folder)
    return opened


def _consequences(reading: Reading, moves: Moves, *, told: Collection[str]) -> Iterator[Change]:
    """Tell what folders do to what lies in them, but for what the page tells of by itself."""
    for item in _items_at(reading, moves.moved, told):
        path = reading.places.path_at(item.place, item.external_path.rpartition("/")[2])
        yield Change(ChangeKind.UPSERT, item.external_id, replace(item, external_path=path))
    for item in _items_at(reading, moves.left, told):
        yield Change(ChangeKind.DELETED, item.external_id)
    # A folder that was deleted or is not shared any more says nothing of a file in it that is shared by itself.
    yield from reading.confirmed(_items_at(reading, moves.vanished, told), gone=ChangeKind.DELETED)


def _items_at(reading: Reading, folder_ids: Sequence[str], told: Collection[str]) -> Iterator[Item]:
    for start in range(0, len(folder_ids), _PLACES_AT_ONCE):
        some = list(reading.known.items_at(folder_ids[start : start + _PLACES_AT_ONCE]))
        yield from (item for item in some if item.external_id not in told)
