"""What connectors may rely on: places, containers, sketches, content that comes along, scopes, and absence in a delta."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from tests.sync.conftest import Ask, Place
from tests.sync.told import ToldSource, item, listing, sync_told, upsert
from workstation_pipelines.db.engine import Database
from workstation_pipelines.errors import ReauthorizeError, SkipItemError, SourceUnavailableError
from workstation_pipelines.model import (
    Attachment,
    Change,
    ChangeKind,
    Container,
    Content,
    Cursor,
    Item,
    ItemFailure,
    ItemType,
    JobStatus,
    JobType,
    Page,
)
from workstation_pipelines.sources.contract import Known

Seen = dict[str, list[Any]]


class AskingSource(ToldSource):
    """Notes what it is told is known, after the first of two pages of a listing and at the start of a feed."""

    def __init__(self, *told: Any, question: Callable[[Known], object], **more: Any) -> None:
        super().__init__(*told, **more)
        self.question = question
        self.answers: list[Any] = []

    def pages(self, cursor: Cursor | None, known: Known, job_type: JobType) -> Iterator[Page]:
        pages = super().pages(cursor, known, job_type)
        if cursor is None:
            yield next(pages)
        self.answers.append(self.question(known))
        yield from pages


class RescopedSource(ToldSource):
    def __init__(self, scope: str, *told: Any, **more: Any) -> None:
        super().__init__(*told, **more)
        self.scope = scope


def paths(found: object) -> list[str]:
    assert isinstance(found, list)
    return [one.external_id for one in found]


def test_a_source_finds_items_by_place_including_the_page_it_has_just_yielded(
    database: Database, account_place: Place
) -> None:
    placed = [item(name, name, place=place) for name, place in (("a", "x/1"), ("b", "x/2"), ("c", "y/1"))]
    source = AskingSource(
        listing(placed, [item("d", "d")]),
        question=lambda known: (paths(known.items_at(["x/2", "y/1"])), paths(known.items_between("x/", "x0"))),
    )
    sync_told(database, account_place.wish, source)
    assert [(sorted(at), between) for at, between in source.answers] == [(["b", "c"], ["a", "b"])]


def test_places_are_compared_byte_by_byte_however_long(database: Database, account_place: Place) -> None:
    long = "/" + "n" * 3000
    names = {"upper": "/B", "lower": "/a", "dash": "/a-b", "slash": "/a/b", "long": long, "longer": long + "/x"}
    placed = [item(name, name, place=place) for name, place in names.items()]
    source = AskingSource(
        listing(placed, [item("z", "z")]),
        question=lambda known: [
            paths(known.items_between("/a/", "/a0")),
            paths(known.items_between("/", "/b")),
            paths(known.items_between(long, long + "0")),
            paths(known.items_at([long])),
        ],
    )
    sync_told(database, account_place.wish, source)
    assert source.answers == [
        [["slash"], ["upper", "lower", "dash", "slash"], ["long", "longer"], ["long"]],
    ]


def test_what_a_listing_has_not_shown_so_far_is_told_and_nothing_in_a_feed(
    database: Database, account_place: Place
) -> None:
    three = [item(name, name) for name in "abc"]
    sync_told(database, account_place.wish, ToldSource(listing(three)))
    source = AskingSource(listing(three[:1], three[1:]), question=lambda known: paths(known.unseen()))
    sync_told(database, account_place.wish, source, job_type=JobType.FULL_SYNC)
    assert source.answers == [["b", "c"]]
    fed = AskingSource(question=lambda known: paths(known.unseen()), fed=[Page([], cursor_after={"feed": 1})])
    sync_told(database, account_place.wish, fed)
    assert fed.answers == [[]]


def test_containers_are_remembered_with_their_page_and_forgotten_after_a_listing_without_them(
    database: Database, account_place: Place
) -> None:
    kept = Container("f1", "Folder\0 one", None, {"mark": "1\0"})
    pages = [
        Page([], containers=[kept, Container("f2", "two", "f1")], cursor_after={"at": 1}),
        Page([], containers=[Container("f1", "Folder 1", None, {"mark": 2})], cursor_after={"at": 2}, complete=True),
    ]
    source = AskingSource(pages, question=lambda known: sorted(known.containers(), key=lambda one: one.external_id))
    sync_told(database, account_place.wish, source)
    assert source.answers == [[Container("f1", "Folder one", None, {"mark": "1"}), Container("f2", "two", "f1")]]
    gone = Page([], containers=[Container("f2", "", is_deleted=True)], cursor_after={"feed": 1})
    fed = AskingSource(question=lambda known: sorted(c.name for c in known.containers()), fed=[gone, Page([])])
    sync_told(database, account_place.wish, fed)
    assert fed.answers == [["Folder 1", "two"]]
    alone = AskingSource(
        [Page([], containers=[Container("f3", "three")], complete=True)],
        question=lambda known: sorted(c.name for c in known.containers()),
    )
    sync_told(database, account_place.wish, alone, job_type=JobType.FULL_SYNC)
    after = AskingSource(question=lambda known: [c.name for c in known.containers()])
    sync_told(database, account_place.wish, after)
    assert (alone.answers, after.answers) == ([["Folder 1", "three"]], [["three"]])


class DescribingSource(ToldSource):
    """A listing of sketches; what they are comes with the content."""

    def fetch(self, item: Item) -> Content:
        content = super().fetch(item)
        better = replace(item, external_path=f"mail/{content.body.decode()}", title="from the content", is_sketch=False)
        return replace(content, item=better, attachments=[Attachment("1/a.txt", "a.txt", "text/plain", b"attached")])


def test_a_sketch_is_described_by_its_content_and_left_alone_while_its_hash_stands(
    database: Database, account_place: Place, ask: Ask
) -> None:
    sketch = replace(item("m", "hello", place="t"), external_path="", title="", is_sketch=True)
    first = sync_told(database, account_place.wish, DescribingSource(listing([sketch])))
    assert (first.counts.created, first.counts.fetched) == (2, 1)
    stored = "SELECT external_path, title, place FROM app.sync_items ORDER BY length(external_id)"
    described = [("mail/hello", "from the content", "t"), ("mail/hello/a.txt", "a", None)]
    assert ask(stored) == described
    again = sync_told(database, account_place.wish, DescribingSource(listing([sketch])), job_type=JobType.FULL_SYNC)
    assert (again.counts.unchanged, again.counts.fetched, again.counts.deleted) == (1, 0, 0)
    failing = DescribingSource(listing([replace(sketch, external_hash="tx:2")]), {"m": SourceUnavailableError("away")})
    sync_told(database, account_place.wish, failing, job_type=JobType.FULL_SYNC)
    assert ask(stored) == described
    assert ask("SELECT count(*) FROM app.documents WHERE deleted_at IS NULL") == [(2,)]


def test_content_that_comes_with_the_listing_is_not_fetched(database: Database, account_place: Place) -> None:
    one = item("a", "hello")
    change = replace(upsert(one), content=Content(b"hello", "a", "text/plain", one.external_hash))
    source = ToldSource([Page([change], complete=True)])
    result = sync_told(database, account_place.wish, source)
    assert (result.counts.created, result.counts.fetched, result.counts.bytes_fetched) == (1, 0, 5)
    assert source.asked == []


def test_absence_told_by_a_delta_deletes_a_few_and_stops_before_many(
    database: Database, account_place: Place, ask: Ask
) -> None:
    names = [f"n{number:02}" for number in range(40)]
    sync_told(database, account_place.wish, ToldSource(listing([item(name, name) for name in names])))
    few = [Change(ChangeKind.ABSENT, name) for name in [*names[:5], "never heard of"]]
    result = sync_told(database, account_place.wish, ToldSource(fed=[Page(few, cursor_after={"feed": 1})]))
    assert (result.status, result.counts.deleted) == (JobStatus.COMPLETED, 5)
    many = [Change(ChangeKind.ABSENT, name) for name in names]
    held = sync_told(
        database,
        account_place.wish,
        ToldSource(fed=[Page(many, cursor_after={"feed": 2})]),
        confirm_deletes=False,
    )
    assert (held.status, held.counts.deleted) == (JobStatus.NEEDS_CONFIRMATION, 0)
    assert ask("SELECT cursor FROM app.data_sources") == [({"feed": 1},)]


def test_absence_told_by_a_delta_outlives_the_process(database: Database, account_place: Place, ask: Ask) -> None:
    sync_told(database, account_place.wish, ToldSource(listing([item(name, name) for name in "abc"])))
    told = Page([Change(ChangeKind.ABSENT, "a")], cursor_after={"feed": 1})
    broken = ToldSource(fed=[told, SourceUnavailableError("away", wait_s=60)])
    with pytest.raises(SourceUnavailableError):
        sync_told(database, account_place.wish, broken)
    resumed = ToldSource(fed=[Page([], cursor_after={"feed": 2})])
    assert sync_told(database, account_place.wish, resumed).counts.deleted == 1
    assert resumed.cursors == [{"feed": 1}]
    assert sync_told(database, account_place.wish, ToldSource(fed=[])).counts.deleted == 0


def test_a_listing_with_something_unreadable_in_it_takes_nothing_for_gone(
    database: Database, account_place: Place, ask: Ask
) -> None:
    sync_told(database, account_place.wish, ToldSource(listing([item("a", "a"), item("b", "b")])))
    unknown = ItemFailure("entry 2", "somewhere", "list", "UnexpectedReplyError", "no_id", "it has no id", False)
    half = Page([upsert(item("a", "a"))], cursor_after={"at": 1}, failures=[unknown], complete=True)
    result = sync_told(database, account_place.wish, ToldSource([half]), job_type=JobType.FULL_SYNC)
    assert (result.status, result.counts.deleted) == (JobStatus.COMPLETED_WITH_ERRORS, 0)
    named = replace(half, failures=[replace(unknown, external_id="a")], changes=[])
    result = sync_told(database, account_place.wish, ToldSource([named]), job_type=JobType.FULL_SYNC)
    assert (result.counts.deleted, result.counts.failed) == (1, 1), (
        "what is known by its id is not the one that is gone"
    )
    assert ask("SELECT sync_status FROM app.sync_items ORDER BY external_id")[1] == ("deleted",)


def test_a_changed_scope_lists_everything_once_and_what_left_goes_without_asking(
    database: Database, account_place: Place, ask: Ask
) -> None:
    everything = [item(f"n{number:02}", "x") for number in range(40)]
    sync_told(database, account_place.wish, RescopedSource("all", listing(everything)))
    narrowed = RescopedSource("few", listing(everything[:3]), fed=[Page([], cursor_after={"feed": 9})])
    result = sync_told(database, account_place.wish, narrowed, confirm_deletes=False)
    assert (result.status, result.counts.deleted, result.counts.fetched) == (JobStatus.COMPLETED, 37, 0)
    assert narrowed.cursors == [None]
    sync_told(database, account_place.wish, narrowed)
    assert narrowed.cursors == [None, {"feed": 0}]
    assert ask("SELECT synced_scope FROM app.data_sources") == [("few",)]


def test_a_changed_scope_that_shows_nothing_at_all_asks_first(database: Database, account_place: Place) -> None:
    sync_told(database, account_place.wish, RescopedSource("all", listing([item(f"n{n}", "x") for n in range(40)])))
    empty = RescopedSource("other", [Page([], complete=True)])
    result = sync_told(database, account_place.wish, empty, confirm_deletes=False)
    assert (result.status, result.counts.deleted) == (JobStatus.NEEDS_CONFIRMATION, 0)


def test_a_listing_begun_under_another_scope_is_not_resumed(database: Database, account_place: Place) -> None:
    pages = listing([item("a", "a")], [item("b", "b")])
    broken = RescopedSource("one", [pages[0], SourceUnavailableError("away", wait_s=60)])
    with pytest.raises(SourceUnavailableError):
        sync_told(database, account_place.wish, broken)
    other = RescopedSource("two", listing([item("b", "b")]))
    assert sync_told(database, account_place.wish, other).counts.deleted == 1
    assert other.cursors == [None]


def test_what_was_too_large_is_tried_again_when_the_settings_change(database: Database, account_place: Place) -> None:
    too_large = SkipItemError("above the cap", reason="too_large")
    big = listing([item("big", "text")])
    sync_told(database, account_place.wish, RescopedSource("small cap", big, {"big": too_large}))
    same = RescopedSource("small cap", big)
    assert sync_told(database, account_place.wish, same, job_type=JobType.FULL_SYNC).counts.fetched == 0
    assert sync_told(database, account_place.wish, RescopedSource("large cap", big)).counts.created == 1


@pytest.mark.parametrize(
    ("reason", "change", "fetched"),
    [
        ("unsupported_type", {"title": "notes.txt"}, 1),
        ("unsupported", {"mime_type": "text/plain"}, 1),
        ("unsupported_type", {"external_path": "another/notes.bin"}, 0),
        ("no_text", {"title": "notes.txt"}, 0),
    ],
)
def test_what_nothing_could_read_is_tried_again_when_it_is_called_something_else(
    database: Database, account_place: Place, reason: str, change: dict[str, Any], fetched: int
) -> None:
    before = item("notes", "text", title="notes.bin", mime_type="application/octet-stream")
    refused = SkipItemError("no reader knows this kind", reason=reason)
    sync_told(database, account_place.wish, ToldSource(listing([before]), {"notes": refused}))
    renamed = ToldSource(fed=[Page([upsert(replace(before, **change))], cursor_after={"feed": 1})])
    assert sync_told(database, account_place.wish, renamed).counts.fetched == fetched


def test_a_feed_is_trusted_only_so_long(database: Database, account_place: Place, ask: Ask) -> None:
    one = listing([item("a", "a")])
    source = ToldSource(one, fed=[Page([], cursor_after={"feed": 1})])
    source.reconcile_every = timedelta(days=7)
    for days, cursors in ((0, [None]), (6, [None, {"feed": 0}]), (8, [None, {"feed": 0}, None])):
        ask("UPDATE app.data_sources SET last_listed_at = now() - make_interval(days => %s)", days)
        sync_told(database, account_place.wish, source)
        assert source.cursors == cursors
    assert ask("SELECT last_listed_at > now() - interval '1 hour' FROM app.data_sources") == [(True,)]


def test_a_killed_listing_that_was_complete_asks_the_source_for_nothing_more(
    database: Database, account_place: Place, ask: Ask
) -> None:
    sync_told(database, account_place.wish, ToldSource(listing([item("a", "a"), item("b", "b")])))
    full = ToldSource(listing([item("a", "a")]))
    sync_told(database, account_place.wish, full, job_type=JobType.FULL_SYNC)
    # As if the process had died between the last page and the end: the deletion of b is still to come.
    ask(
        "UPDATE app.sync_jobs SET status = 'running', completed_at = NULL WHERE progress_data ->> 'complete' = 'true'"
        " AND id = (SELECT id FROM app.sync_jobs ORDER BY created_at DESC LIMIT 1)"
    )
    ask("UPDATE app.sync_items SET sync_status = 'synced' WHERE external_id = 'b'")
    resumed = ToldSource([])
    assert sync_told(database, account_place.wish, resumed).counts.deleted == 1
    assert resumed.cursors == []


def test_calls_to_the_vendor_are_counted(database: Database, account_place: Place, ask: Ask) -> None:
    class Counting(ToldSource):
        def fetch(self, item: Item) -> Content:
            self.provider_calls += 1
            return super().fetch(item)

        def pages(self, cursor: Cursor | None, known: Known, job_type: JobType) -> Iterator[Page]:
            for page in super().pages(cursor, known, job_type):
                self.provider_calls += 1
                yield page
            self.provider_calls += 1  # after the last commit

    source = Counting(listing([item("a", "a")], [item("b", "b")]))
    result = sync_told(database, account_place.wish, source)
    assert result.counts.provider_calls == 4
    assert ask("SELECT provider_calls FROM app.sync_jobs") == [(5,)]


def test_a_revoked_grant_asks_for_the_account_and_a_good_sync_takes_that_back(
    database: Database, account_place: Place, ask: Ask
) -> None:
    state = "SELECT connection_status, needs_reauth FROM app.data_sources"
    revoked = ToldSource(start_error=ReauthorizeError("connect it again"))
    with pytest.raises(ReauthorizeError):
        sync_told(database, account_place.wish, revoked)
    assert ask(state) == [("error", True)]
    with pytest.raises(SourceUnavailableError):
        sync_told(database, account_place.wish, ToldSource(start_error=SourceUnavailableError("away", wait_s=60)))
    assert ask(state) == [("error", True)]
    sync_told(database, account_place.wish, ToldSource(listing([])))
    assert ask(state) == [("connected", False)]


def test_times_and_places_are_stored(database: Database, account_place: Place, ask: Ask) -> None:
    one = item("a", "a", place="p", item_type=ItemType.PAGE)
    sync_told(database, account_place.wish, ToldSource(listing([one])))
    moved = ToldSource(fed=[Page([upsert(replace(one, place="q"))], cursor_after={"feed": 1})])
    result = sync_told(database, account_place.wish, moved)
    assert (result.counts.updated, result.counts.fetched) == (1, 0)
    assert ask("SELECT place FROM app.sync_items") == [("q",)]
