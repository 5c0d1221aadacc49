"""Listing a Drive: corpora page by page, folders that became wanted as they were, and what a listing should have shown."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice

from workstation_pipelines.errors import CursorExpiredError, SkipItemError, UnexpectedReplyError
from workstation_pipelines.model import Change, ChangeKind, Container, Item, ItemFailure, Page
from workstation_pipelines.sources.contract import Known
from workstation_pipelines.sources.google_drive import files
from workstation_pipelines.sources.google_drive.calls import PAGE_SIZE, DriveCalls
from workstation_pipelines.sources.google_drive.files import BadFieldError, DriveFile
from workstation_pipelines.sources.google_drive.places import Places, folder_container, with_listed
from workstation_pipelines.sources.google_drive.position import (
    FILES,
    FOLDERS,
    USER,
    Listing,
    Position,
    drive_corpus,
)
from workstation_pipelines.sources.http import PageTokens

_MOST_RESTARTS = 3


@dataclass(frozen=True, slots=True)
class Reading:
    """What reading takes. `mime_type` names a file's kind; `chooses` tells whether a shared drive that was joined is read."""

    calls: DriveCalls
    places: Places
    known: Known
    mime_type: Callable[[DriveFile], str]
    chooses: Callable[[str], bool]

    def upsert(self, file: DriveFile) -> Change:
        return Change(ChangeKind.UPSERT, file.id, file.item(self.places.path(file), self.mime_type(file)))

    def upserts(self, found: Iterable[DriveFile]) -> list[Change]:
        return [self.upsert(file) for file in found if is_item(file) and self.places.holds(file)]

    def confirmed(self, items: Iterable[Item], *, gone: ChangeKind) -> Iterator[Change]:
        """Ask for items one by one: an upsert for each that is still there and wanted, `gone` for the others."""
        for item in items:
            try:
                file = files.parse(self.calls.file(item.external_id, resource_key=files.resource_key_of(item)))
            except SkipItemError:
                yield Change(gone, item.external_id)
                continue
            except BadFieldError as error:
                raise UnexpectedReplyError(f"google_drive files.get: {error}: try again later", wait_s=60) from None
            is_there = is_item(file) and not file.is_trashed and self.places.holds(file)
            yield self.upsert(file) if is_there else Change(gone, item.external_id)


def is_item(file: DriveFile) -> bool:
    return not (file.is_folder or file.is_shortcut)


def list_due(reading: Reading, at: Position) -> Generator[Page, None, Position]:
    """List what a position has still to list, and then the folders left open; returns the position behind."""
    at = yield from _list_corpora(reading, at)
    is_incomplete = yield from _list_open_folders(reading, at)
    if at.listing is not None and is_incomplete:
        at = replace(at, listing=replace(at.listing, is_incomplete=True))
    return at


def close_listing(reading: Reading, at: Position) -> Iterator[Page]:
    """End a full listing: ask for what it did not show though its folder is there, and forget what folders it did not show."""
    listing = at.listing
    is_complete = listing is not None and not listing.is_incomplete
    if is_complete:
        unseen = [item for item in reading.known.unseen() if _is_still_expected(reading.places, item)]
        yield from in_pages(reading.confirmed(unseen, gone=ChangeKind.ABSENT), at)
    stale = [
        Container(container.external_id, "", is_deleted=True)
        for container in reading.known.containers()
        if container.external_id not in reading.places.tree
    ]
    yield Page([], at.cursor(), complete=is_complete, containers=stale)


def in_pages(changes: Iterable[Change], at: Position) -> Iterator[Page]:
    """Cut changes into pages from which `at` goes on: told once more after a crash, they change nothing."""
    waiting = iter(changes)
    while some := list(islice(waiting, PAGE_SIZE)):
        yield Page(some, at.cursor())


def _list_corpora(reading: Reading, at: Position) -> Generator[Page, None, Position]:
    restarts = 0
    page_tokens = PageTokens("google_drive files.list")
    while at.listing is not None and at.listing.corpora:
        before = at.listing
        try:
            page, after = _corpus_page(reading, at, before)
        except CursorExpiredError:
            # Page tokens live for hours. Only this corpus starts over, and shows some things once more.
            restarts += 1
            if before.page_token is None or restarts > _MOST_RESTARTS:
                raise _refused_token(before.corpora[0]) from None
            at = replace(at, listing=replace(before, part=FOLDERS, page_token=None))
            page_tokens = PageTokens("google_drive files.list")
            continue
        if after.page_token is not None:
            page_tokens.step(after.page_token)
        is_over = not (at.is_full_listing or after.corpora)
        at = replace(at, listing=None if is_over else after)
        yield replace(page, cursor_after=at.cursor())
    return at


def _corpus_page(reading: Reading, at: Position, listing: Listing) -> tuple[Page, Listing]:
    corpus, places = listing.corpora[0], reading.places
    try:
        page = reading.calls.files(corpus, listing.part, listing.page_token)
    except SkipItemError as error:
        if corpus == USER:
            raise UnexpectedReplyError(f"{error.message}, for the whole account: try again later", wait_s=60) from None
        # We are no member of this shared drive any more; the user's log will say so, or has said so.
        after = replace(listing, corpora=listing.corpora[1:], part=FOLDERS, page_token=None, is_incomplete=True)
        return Page([], failures=[_failure(corpus, "lost", error.message)]), after
    found, failures = _parsed(page.files)
    if page.is_incomplete:
        failures.append(_failure(corpus, "incomplete", "Drive did not search all of it: sync again later"))
    after = replace(listing, page_token=page.next_token, is_incomplete=listing.is_incomplete or page.is_incomplete)
    if page.next_token is None and listing.part == FOLDERS:
        after = replace(after, part=FILES)
    elif page.next_token is None:
        after = replace(after, part=FOLDERS, corpora=listing.corpora[1:])
    # What was opened in a shared drive shows up among the user's own as well.
    told = [file for file in found if not (corpus == USER and places.is_chosen(file.drive_id))]
    containers = [
        folder_container(file, sweep=listing.sweep) for file in told if file.is_folder and not places.is_fixed(file.id)
    ]
    for container in containers:
        places.put(container)
    return Page(reading.upserts(told), failures=failures, containers=containers), after


def _list_open_folders(reading: Reading, at: Position) -> Generator[Page, None, bool]:
    """List what lies in folders that became wanted as they were, breadth first; each is closed with its last page."""
    done: set[str] = set()
    is_incomplete = False
    while (folder_id := next((key for key in reading.places.unlisted if key not in done), None)) is not None:
        done.add(folder_id)
        folder = reading.places.tree.get(folder_id)
        if folder is not None:
            is_incomplete = (yield from _list_folder(reading, at, folder)) or is_incomplete
    return is_incomplete


def _list_folder(reading: Reading, at: Position, folder: Container) -> Generator[Page, None, bool]:
    key, drive_id = folder.details.get("key"), folder.details.get("drive")
    corpus = drive_corpus(str(drive_id)) if reading.places.is_chosen(drive_id) else USER
    sweep = at.listing.sweep if at.listing is not None else ""
    page_token: str | None = None
    page_tokens = PageTokens("google_drive files.list")
    is_incomplete = False
    while True:
        found: list[DriveFile] = []
        failures: list[ItemFailure] = []
        try:
            page = reading.calls.children(corpus, folder.external_id, key, page_token)
        except CursorExpiredError:
            raise _refused_token(folder.external_id) from None  # it stays open: the next run lists it from its start
        except SkipItemError:
            page_token = None  # gone again, of which the log tells
        else:
            page_token, (found, failures) = page.next_token, _parsed(page.files)
            if page.is_incomplete:
                is_incomplete = True
                failures.append(_failure(folder.external_id, "incomplete", "Drive did not search all of it"))
        containers = [
            folder_container(file, sweep=sweep, is_unlisted=True)
            for file in found
            if file.is_folder and file.id not in reading.places.tree
        ]
        if page_token is None:
            containers.append(with_listed(folder, is_listed=True))
        for container in containers:
            reading.places.put(container)
        yield Page(reading.upserts(found), at.cursor(), failures=failures, containers=containers)
        if page_token is None:
            return is_incomplete
        page_tokens.step(page_token)


def _is_still_expected(places: Places, item: Item) -> bool:
    """A folder that the listing did not show takes what lies in it along, without asking for each."""
    if item.place is None:
        return True
    state = places.folder_state(item.place)
    return state is not None and state.is_wanted


def _parsed(entries: Sequence[object]) -> tuple[list[DriveFile], list[ItemFailure]]:
    found, failures = [], []
    for fields in entries:
        try:
            found.append(files.parse(fields))
        except BadFieldError as error:
            failures.append(files.failure(error))
    return found, failures


def _refused_token(what: str) -> UnexpectedReplyError:
    return UnexpectedReplyError(
        f"google_drive files.list: it refuses the page tokens that it gave for {what}: try again later", wait_s=60
    )


def _failure(external_id: str, reason: str, message: str) -> ItemFailure:
    return ItemFailure(
        external_id=external_id,
        external_path="",
        stage="list",
        error_class="SourceUnavailableError",
        reason=reason,
        message=f"{external_id}: {message}",
        permanent=False,
    )
