"""Gmail's listing and history: what is listed, what a change costs, what survives a kill, an expiry, a strange answer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pytest

from tests.fakes.gmail_mailbox import YEAR, Mailbox
from tests.fakes.server import Answer, Request
from tests.sources.gmail_stage import OpenedGmail
from tests.sources.mirror import Mirror
from workstation_pipelines.errors import CursorExpiredError, InvalidRequestError, UnexpectedReplyError
from workstation_pipelines.model import ChangeKind, JobType
from workstation_pipelines.sources.gmail.connector import Gmail
from workstation_pipelines.sources.pacing import Unpaced


@pytest.fixture
def vendor() -> Iterator[OpenedGmail]:
    with OpenedGmail() as fake:
        yield fake
        assert fake.violations == []
        assert fake.writes == []


@pytest.fixture
def mailbox(vendor: OpenedGmail) -> Mailbox:
    return vendor.mailbox


@pytest.fixture
def gmail(vendor: OpenedGmail) -> Gmail:
    return vendor.open()


@pytest.fixture
def mirror() -> Mirror:
    return Mirror()


def text_of(mirror: Mirror, thread: str) -> str:
    return mirror.contents[thread].body.decode()


# What is listed


def test_a_thread_is_one_item_with_its_messages_in_order(gmail: Gmail, mailbox: Mailbox, mirror: Mirror) -> None:
    thread = mailbox.receive("Roof", "first words")
    mailbox.reply(thread, "second words")
    mailbox.send("Other", "apart")
    report = mirror.sync(gmail)
    assert len(report.fetched) == 2
    text = text_of(mirror, thread)
    assert text.index("first words") < text.index("second words")
    item = mirror.live[thread]
    assert (item.title, item.external_path, item.place) == ("Roof", f"Roof ({thread})", thread)
    assert item.external_created_at is not None
    assert item.external_modified_at == item.external_created_at + timedelta(minutes=2) - timedelta(minutes=1)


def test_drafts_spam_trash_and_chats_are_not_read(gmail: Gmail, mailbox: Mailbox, mirror: Mirror) -> None:
    thread = mailbox.receive("Kept", "kept")
    mailbox.save_draft("Kept", "a draft inside", thread=thread)
    mailbox.save_draft("Unsent", "unsent")
    mailbox.spam(mailbox.receive("Win", "win"))
    mailbox.trash(mailbox.receive("Gone", "gone"))
    mailbox.receive("Chat", "chat", labels=("CHAT",))
    mailbox.trash(mailbox.reply(thread, "a binned reply"))
    mirror.sync(gmail)
    assert list(mirror.live) == [thread]
    assert "a draft inside" not in text_of(mirror, thread)
    assert "a binned reply" not in text_of(mirror, thread)
    assert mirror.sync(gmail, full=True).fetched == []


def test_mail_to_oneself_is_read_once(gmail: Gmail, mailbox: Mailbox, mirror: Mirror) -> None:
    thread = mailbox.receive("Note", "to myself", labels=("SENT", "INBOX"))
    mirror.sync(gmail)
    assert text_of(mirror, thread).count("to myself") == 1


def test_an_empty_mailbox_has_a_position_and_new_mail_is_found_from_there(
    gmail: Gmail, vendor: OpenedGmail, mailbox: Mailbox, mirror: Mirror
) -> None:
    report = mirror.sync(gmail)
    assert (report.listings, mirror.cursor) == (1, {"v": 1, "history_id": str(mailbox.history_id)})
    thread = mailbox.receive("First", "first")
    report = mirror.sync(gmail)
    assert (report.listings, report.fetched) == (0, [thread])


def test_messages_of_a_thread_on_different_pages_are_one_item(
    gmail: Gmail, vendor: OpenedGmail, mailbox: Mailbox, mirror: Mirror
) -> None:
    thread = mailbox.receive("Long", "oldest")
    for number in range(5):
        mailbox.receive(f"Between {number}", "x")
    mailbox.reply(thread, "newest")
    vendor.page_cap = 2
    report = mirror.sync(gmail)
    assert sorted(report.fetched) == sorted(set(report.fetched))
    assert "oldest" in text_of(mirror, thread)
    assert mirror.sync(gmail, full=True).fetched == []


@pytest.mark.parametrize("page_cap", [1, 2, 500])
def test_repeated_and_shuffled_pages_change_nothing(
    gmail: Gmail, vendor: OpenedGmail, mailbox: Mailbox, mirror: Mirror, page_cap: int
) -> None:
    threads = {mailbox.receive(f"Mail {number}", f"text {number}") for number in range(5)}
    vendor.page_cap, vendor.overlap, vendor.is_shuffled = page_cap, 1, True
    assert mirror.sync(gmail).fetched == sorted(threads, reverse=True)
    for thread in threads:
        mailbox.reply(thread, "more")
    assert sorted(mirror.sync(gmail).fetched) == sorted(threads)


def test_the_position_is_taken_before_the_listing(
    gmail: Gmail, vendor: OpenedGmail, mailbox: Mailbox, mirror: Mirror
) -> None:
    thread = mailbox.receive("Early", "early")
    late: list[str] = []
    answer = vendor.answer

    def meanwhile(request: Request) -> Answer:
        found = answer(request)
        if request.path.endswith("/messages") and not late:
            late.append(mailbox.receive("Late", "late"))
            mailbox.reply(thread, "a late reply")
        return found

    vendor.answer = meanwhile  # type: ignore[method-assign]
    mirror.sync(gmail)
    mirror.sync(gmail)
    assert set(mirror.live) == {thread, *late}
    assert "a late reply" in text_of(mirror, thread)


def test_a_killed_listing_resumes_after_each_page_without_reading_a_thread_twice(
    vendor: OpenedGmail, mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Gmail, "page_size", 2)
    threads = {mailbox.receive(f"Mail {number}", "text") for number in range(7)}
    for most_pages in (1, 2, 3):
        mirror = Mirror()
        first = mirror.sync(vendor.open(), most_pages=most_pages)
        mailbox.receive("Meanwhile", "new")
        report = mirror.sync(vendor.open())
        assert (report.listings, sorted(first.upserted + report.upserted)) == (0, sorted(threads))
        mirror.sync(vendor.open())
        threads = set(mirror.live)
        assert set(mirror.live) == {message.thread_id for message in mailbox.messages.values()}


def test_a_refused_page_token_starts_that_listing_over(
    gmail: Gmail, vendor: OpenedGmail, mailbox: Mailbox, mirror: Mirror
) -> None:
    threads = {mailbox.receive(f"Mail {number}", "text") for number in range(3)}
    vendor.page_cap, vendor.refused_tokens = 1, 1
    mirror.sync(gmail)
    assert set(mirror.live) == threads
    for thread in threads:
        mailbox.reply(thread, "more")
    vendor.refused_tokens = 1
    assert set(mirror.sync(gmail).fetched) == threads


def test_a_page_token_that_is_refused_again_ends_the_sync(
    gmail: Gmail, vendor: OpenedGmail, mailbox: Mailbox, mirror: Mirror
) -> None:
    mailbox.receive("One", "one")
    mailbox.receive("Two", "two")
    vendor.page_cap, vendor.refused_tokens = 1, 99
    with pytest.raises(UnexpectedReplyError):
        mirror.sync(gmail)


def test_pages_that_go_round_end_the_sync(gmail: Gmail, vendor: OpenedGmail, mailbox: Mailbox, mirror: Mirror) -> None:
    for number in range(4):
        mailbox.receive(f"Mail {number}", "text")
    vendor.page_cap, vendor.repeats_token = 1, True
    with pytest.raises(UnexpectedReplyError, match="repeat"):
        mirror.sync(gmail)


# What the history tells


def test_noise_costs_one_request_and_fetches_nothing(
    gmail: Gmail, vendor: OpenedGmail, mailbox: Mailbox, mirror: Mirror
) -> None:
    thread = mailbox.receive("One", "one")
    mirror.sync(gmail)
    mailbox.mark_read(thread)
    mailbox.star(thread)
    mailbox.archive(thread)
    draft = mailbox.save_draft("Draft", "draft", thread=thread)
    mailbox.save_draft("Draft", "draft again", thread=thread, replaces=draft)
    mailbox.spam(mailbox.receive("Win", "win", labels=("SPAM",)))
    before = len(vendor.requests)
    report = mirror.sync(gmail)
    assert (report.upserted, report.deleted, len(vendor.requests) - before) == ([], [], 1)
    assert mirror.cursor == {"v": 1, "history_id": str(mailbox.history_id)}


def test_a_reply_fetches_its_thread_alone(gmail: Gmail, mailbox: Mailbox, mirror: Mirror) -> None:
    thread = mailbox.receive("One", "one")
    mailbox.receive("Two", "two")
    mirror.sync(gmail)
    mailbox.reply(thread, "the answer")
    assert mirror.sync(gmail).fetched == [thread]
    assert "the answer" in text_of(mirror, thread)
    assert mirror.sync(gmail, full=True).fetched == []


def test_a_history_without_labels_is_decided_by_the_thread(
    gmail: Gmail, vendor: OpenedGmail, mailbox: Mailbox, mirror: Mirror
) -> None:
    thread = mailbox.receive("One", "one")
    mirror.sync(gmail)
    vendor.is_bare = True
    draft = mailbox.save_draft("Unsent", "unsent")
    mailbox.delete(draft)
    mailbox.reply(thread, "more")
    mirror.sync(gmail)
    assert list(mirror.live) == [thread]


def test_a_draft_that_is_sent_becomes_part_of_its_thread(gmail: Gmail, mailbox: Mailbox, mirror: Mirror) -> None:
    thread = mailbox.receive("One", "one")
    mirror.sync(gmail)
    draft = mailbox.save_draft("Re: One", "half", thread=thread)
    mailbox.send_draft(draft, "the whole answer")
    mirror.sync(gmail)
    assert "the whole answer" in text_of(mirror, thread)
    mailbox.label([mailbox.save_draft("Kept id", "kept")], add=["SENT"], remove=["DRAFT"])
    assert len(mirror.sync(gmail).fetched) == 1


@pytest.mark.parametrize("how", ["trash", "spam", "delete"])
def test_a_thread_goes_when_its_last_message_does(gmail: Gmail, mailbox: Mailbox, mirror: Mirror, how: str) -> None:
    thread = mailbox.receive("One", "one")
    reply = mailbox.reply(thread, "two")
    mirror.sync(gmail)
    getattr(mailbox, how)(reply)
    report = mirror.sync(gmail)
    assert (report.deleted, report.fetched) == ([], [thread])
    assert "two" not in text_of(mirror, thread)
    getattr(mailbox, how)(thread)
    report = mirror.sync(gmail)
    assert (report.deleted, report.fetched) == ([thread], [])


def test_what_comes_out_of_the_trash_is_there_again(gmail: Gmail, mailbox: Mailbox, mirror: Mirror) -> None:
    thread = mailbox.receive("One", "one")
    mirror.sync(gmail)
    mailbox.trash(thread)
    mirror.sync(gmail)
    assert mirror.live == {}
    mailbox.untrash(thread)
    mirror.sync(gmail)
    assert list(mirror.live) == [thread]


def test_into_the_trash_and_out_again_fetches_nothing(gmail: Gmail, mailbox: Mailbox, mirror: Mirror) -> None:
    thread = mailbox.receive("One", "one")
    mirror.sync(gmail)
    mailbox.trash(thread)
    mailbox.untrash(thread)
    report = mirror.sync(gmail)
    assert (report.fetched, list(mirror.live)) == ([], [thread])


def test_emptying_the_trash_costs_nothing(gmail: Gmail, vendor: OpenedGmail, mailbox: Mailbox, mirror: Mirror) -> None:
    threads = [mailbox.receive(f"Mail {number}", "text") for number in range(5)]
    mirror.sync(gmail)
    mailbox.trash(*threads)
    mirror.sync(gmail)
    vendor.is_bare = True
    mailbox.delete(*threads)
    before = len(vendor.requests)
    mirror.sync(gmail)
    assert len(vendor.requests) - before == 1


def test_mail_that_came_and_went_between_two_syncs_leaves_no_trace(
    gmail: Gmail, mailbox: Mailbox, mirror: Mirror
) -> None:
    mirror.sync(gmail)
    mailbox.delete(mailbox.receive("Brief", "brief"))
    report = mirror.sync(gmail)
    assert (report.upserted, report.deleted, mirror.live) == ([], [], {})


def test_imported_old_mail_arrives(gmail: Gmail, mailbox: Mailbox, mirror: Mirror) -> None:
    mailbox.receive("Now", "now")
    mirror.sync(gmail)
    old = mailbox.receive("Then", "then", age=YEAR, labels=())
    mirror.sync(gmail)
    assert "then" in text_of(mirror, old)


def test_a_message_gone_before_it_is_fetched_is_no_error(gmail: Gmail, mailbox: Mailbox, mirror: Mirror) -> None:
    mirror.sync(gmail)
    thread = mailbox.receive("One", "one")
    pages = list(gmail.pages(mirror.cursor, mirror, JobType.DELTA))
    mailbox.delete(thread)
    changes = [replace(change, content=None) for page in pages for change in page.changes]
    assert [change.kind for change in changes] == [ChangeKind.UPSERT]
    mirror.sync(gmail)
    assert mirror.live == {}


def test_a_killed_delta_resumes_where_its_last_page_ended(
    vendor: OpenedGmail, mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Gmail, "page_size", 2)
    mirror = Mirror()
    threads = [mailbox.receive(f"Mail {number}", "text") for number in range(6)]
    mirror.sync(vendor.open())
    for thread in threads:
        mailbox.reply(thread, "more")
    mailbox.trash(threads[0])
    mailbox.reply(threads[1], "and more")
    first = mirror.sync(vendor.open(), most_pages=1)
    second = mirror.sync(vendor.open())
    assert len(first.fetched) == 2
    assert sorted(first.fetched + second.fetched) == sorted(threads)
    assert mirror.cursor == {"v": 1, "history_id": str(mailbox.history_id)}
    assert all("more" in text_of(mirror, thread) for thread in threads)


def test_one_record_of_many_threads_is_never_cut_in_two(
    vendor: OpenedGmail, mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Gmail, "page_size", 2)
    mirror = Mirror()
    threads = [mailbox.receive(f"Mail {number}", "text") for number in range(5)]
    mirror.sync(vendor.open())
    mailbox.trash(*threads)
    for _ in range(4):
        mirror.sync(vendor.open(), most_pages=1)
    mirror.sync(vendor.open())
    assert mirror.live == {}


def test_the_history_is_followed_over_its_pages_and_the_first_position_is_kept(
    gmail: Gmail, vendor: OpenedGmail, mailbox: Mailbox, mirror: Mirror
) -> None:
    mirror.sync(gmail)
    threads = [mailbox.receive(f"Mail {number}", "text") for number in range(4)]
    vendor.page_cap = 1
    first = mailbox.history_id
    late: list[str] = []
    answer = vendor.answer

    def meanwhile(request: Request) -> Answer:
        found = answer(request)
        if request.path.endswith("/history") and not late:
            late.append(mailbox.receive("Late", "late"))
        return found

    vendor.answer = meanwhile  # type: ignore[method-assign]
    mirror.sync(gmail)
    assert mirror.cursor == {"v": 1, "history_id": str(first)}
    mirror.sync(gmail)
    assert set(mirror.live) == {*threads, *late}


def test_an_expired_history_is_one_listing_that_finds_what_was_lost(
    gmail: Gmail, mailbox: Mailbox, mirror: Mirror
) -> None:
    gone, stays = mailbox.receive("Gone", "gone"), mailbox.receive("Stays", "stays")
    mirror.sync(gmail)
    mailbox.delete(gone)
    new = mailbox.receive("New", "new")
    mailbox.expire_history()
    report = mirror.sync(gmail)
    assert (report.listings, report.fetched, report.deleted) == (1, [new], [gone])
    assert set(mirror.live) == {stays, new}


@pytest.mark.parametrize("history_id", ["0", "1", "99999999999999999999", "", "abc", None])
def test_a_position_that_gmail_never_gave_is_expired(gmail: Gmail, mirror: Mirror, history_id: str | None) -> None:
    with pytest.raises(CursorExpiredError):
        list(gmail.pages({"v": 1, "history_id": history_id}, mirror, JobType.DELTA))


def test_history_is_asked_for_its_four_kinds_only(
    gmail: Gmail, vendor: OpenedGmail, mailbox: Mailbox, mirror: Mirror
) -> None:
    mirror.sync(gmail)
    mirror.sync(gmail)
    asked = next(request for request in vendor.requests if request.path.endswith("/history"))
    assert sorted(asked.all("historyTypes")) == ["labelAdded", "labelRemoved", "messageAdded", "messageDeleted"]
    assert asked.one("labelId") is None


def test_a_hash_that_stands_for_growth_equals_nothing_not_even_itself() -> None:
    assert Gmail.same_content("gm:aa", "gm:aa")
    assert not Gmail.same_content("gm:aa", "gm:bb")
    assert not Gmail.same_content("gm:?12", "gm:?12")


# Labels and queries


def test_only_messages_with_the_label_are_read(vendor: OpenedGmail, mailbox: Mailbox, mirror: Mirror) -> None:
    label = mailbox.add_label("Team/Plans")
    gmail = vendor.open(labels=["team/plans"])
    thread = mailbox.receive("In", "inside", labels=("INBOX", label))
    mailbox.reply(thread, "private answer", labels=("SENT",))
    mailbox.receive("Out", "outside")
    mirror.sync(gmail)
    assert list(mirror.live) == [thread]
    assert "private answer" not in text_of(mirror, thread)
    mailbox.label(mailbox.ids_of(thread), add=[label])
    mirror.sync(gmail)
    assert "private answer" in text_of(mirror, thread)


def test_several_labels_mean_any_of_them(vendor: OpenedGmail, mailbox: Mailbox, mirror: Mirror) -> None:
    one, two = mailbox.add_label("One"), mailbox.add_label("Two")
    threads = {mailbox.receive("A", "a", labels=(one,)), mailbox.receive("B", "b", labels=(two,))}
    threads.add(mailbox.receive("C", "c", labels=(one, two)))
    mirror.sync(vendor.open(labels=["Two", one]))
    assert set(mirror.live) == threads


def test_old_mail_that_gets_or_loses_the_label_arrives_and_goes(
    vendor: OpenedGmail, mailbox: Mailbox, mirror: Mirror
) -> None:
    label = mailbox.add_label("Plans")
    old = mailbox.receive("Old", "old", age=YEAR)
    gmail = vendor.open(labels=["Plans"])
    mirror.sync(gmail)
    mailbox.label([old], add=[label])
    assert mirror.sync(gmail).fetched == [old]
    mailbox.label([old], remove=[label])
    assert mirror.sync(gmail).deleted == [old]


def test_old_mail_in_a_label_that_is_chosen_later_arrives(
    vendor: OpenedGmail, mailbox: Mailbox, mirror: Mirror
) -> None:
    one, two = mailbox.add_label("One"), mailbox.add_label("Two")
    first = mailbox.receive("A", "a", labels=(one,))
    second = mailbox.receive("B", "b", labels=(two,), age=YEAR)
    mirror.sync(vendor.open(labels=["One"]))
    report = mirror.sync(vendor.open(labels=["One", "Two"]))
    assert (report.listings, report.fetched, set(mirror.live)) == (1, [second], {first, second})
    mirror.sync(vendor.open(labels=["Two"]))
    assert set(mirror.live) == {second}


def test_a_label_made_anew_under_its_old_name_is_listed_anew(
    vendor: OpenedGmail, mailbox: Mailbox, mirror: Mirror
) -> None:
    before = mailbox.add_label("Plans")
    thread = mailbox.receive("A", "a", labels=(before,))
    mirror.sync(vendor.open(labels=["Plans"]))
    mailbox.drop_label(before)
    mailbox.add_label("Spare")
    mailbox.add_label("Plans")
    report = mirror.sync(vendor.open(labels=["Plans"]))
    assert (report.listings, report.deleted) == (1, [thread])


def test_a_label_that_does_not_exist_is_refused_with_those_that_do(vendor: OpenedGmail, mailbox: Mailbox) -> None:
    mailbox.add_label("Plans")
    with pytest.raises(InvalidRequestError, match=r"no label 'Plan'; it has .*INBOX.*Plans"):
        vendor.open(labels=["Plan"]).check()
    with pytest.raises(InvalidRequestError, match="never read"):
        vendor.open(labels=["trash"]).check()


def test_the_order_of_labels_does_not_change_the_scope(vendor: OpenedGmail) -> None:
    assert vendor.open(labels=["a", "b"]).scope == vendor.open(labels=["b", " a ", "a"]).scope
    assert vendor.open(labels=["a"]).scope != vendor.open(labels=["b"]).scope
    assert vendor.open(query="x").scope != vendor.open().scope


def test_a_query_picks_whole_threads(vendor: OpenedGmail, mailbox: Mailbox, mirror: Mirror) -> None:
    thread = mailbox.receive("Roof", "the offer")
    mailbox.reply(thread, "fine", sender="Bob <bob@example.com>")
    mailbox.receive("Other", "nothing to see")
    mailbox.save_draft("Roof again", "roof")
    gmail = vendor.open(query="from:bob")
    mirror.sync(gmail)
    assert list(mirror.live) == [thread]
    assert "the offer" in text_of(mirror, thread)
    assert mirror.sync(gmail, full=True).fetched == []


def test_with_a_query_a_change_asks_again_and_fetches_only_what_changed(
    vendor: OpenedGmail, mailbox: Mailbox, mirror: Mirror
) -> None:
    gmail = vendor.open(query="roof")
    kept = [mailbox.receive(f"Roof {number}", "tiles") for number in range(3)]
    mirror.sync(gmail)
    new = mailbox.receive("Another roof", "slate")
    mailbox.save_draft("Roof", "unsent roof")
    mailbox.receive("Door", "oak")
    report = mirror.sync(gmail)
    assert (report.fetched, set(mirror.live)) == ([new], {*kept, new})
    mailbox.trash(kept[0])
    mailbox.reply(kept[1], "slate too")
    report = mirror.sync(gmail)
    assert (report.fetched, report.deleted) == ([kept[1]], [kept[0]])


def test_with_a_query_noise_asks_nothing_unless_the_query_asks_for_labels(
    vendor: OpenedGmail, mailbox: Mailbox, mirror: Mirror
) -> None:
    thread = mailbox.receive("Roof", "tiles")
    mirror.sync(vendor.open(query="roof"))
    mailbox.star(thread)
    before = len(vendor.requests)
    mirror.sync(vendor.open(query="roof"))
    assert len(vendor.requests) - before == 1
    starred = vendor.open(query="is:starred")
    assert mirror.sync(starred).deleted == []
    mailbox.label([thread], remove=["STARRED"])
    assert mirror.sync(starred).deleted == [thread]


def test_what_a_query_loses_without_an_event_is_only_suspected(
    vendor: OpenedGmail, mailbox: Mailbox, mirror: Mirror
) -> None:
    gmail = vendor.open(query="newer_than:30d")
    thread = mailbox.receive("Soon old", "text")
    mirror.sync(gmail)
    mailbox.now += YEAR
    new = mailbox.receive("New", "new")
    changes = {
        change.external_id: change.kind
        for page in gmail.pages(mirror.cursor, mirror, JobType.DELTA)
        for change in page.changes
    }
    assert changes == {new: ChangeKind.UPSERT, thread: ChangeKind.ABSENT}
    assert gmail.reconcile_every == timedelta(days=1)
    assert vendor.open(query="roof").reconcile_every == timedelta(days=30)
    assert vendor.open(reconcile_days=2.0).reconcile_every == timedelta(days=2)


# Probing and checking


def test_a_probe_is_one_request_and_noise_does_not_move_it(
    gmail: Gmail, vendor: OpenedGmail, mailbox: Mailbox, mirror: Mirror
) -> None:
    thread = mailbox.receive("One", "one")
    mirror.sync(gmail)
    before = len(vendor.requests)
    token = gmail.probe(None, mirror.cursor)
    mailbox.star(thread)
    assert gmail.probe(token, mirror.cursor) == token
    mailbox.reply(thread, "more")
    later = gmail.probe(token, mirror.cursor)
    assert later != token
    mailbox.reply(thread, "and more")
    assert gmail.probe(later, mirror.cursor) not in (token, later)
    assert len(vendor.requests) - before == 4
    mirror.sync(gmail)
    assert gmail.probe(later, mirror.cursor) == later


def test_a_probe_sees_that_there_is_no_position_or_none_any_more(
    gmail: Gmail, mailbox: Mailbox, mirror: Mirror
) -> None:
    token = gmail.probe(None, None)
    mirror.sync(gmail)
    mailbox.expire_history()
    expired = gmail.probe(token, mirror.cursor)
    assert expired != token
    mirror.sync(gmail)
    assert gmail.probe(expired, mirror.cursor) == expired
    mailbox.expire_history()
    assert gmail.probe(expired, mirror.cursor) != expired


def test_a_probe_behind_a_page_of_noise_asks_for_a_sync(
    gmail: Gmail, vendor: OpenedGmail, mailbox: Mailbox, mirror: Mirror
) -> None:
    thread = mailbox.receive("One", "one")
    mirror.sync(gmail)
    vendor.page_cap = 1
    mailbox.star(thread)
    mailbox.mark_read(thread)
    assert gmail.probe("quiet", mirror.cursor) != "quiet"


def test_checking_names_mailbox_scopes_and_a_sample(vendor: OpenedGmail, mailbox: Mailbox) -> None:
    account = vendor.open().check()
    assert (account.external_account, account.sample, account.missing_scopes) == ("me@example.com", "no messages", ())
    for number in range(3):
        mailbox.receive(f"Mail {number}", "text")
    assert vendor.open().check().sample == "about 3 messages"


def test_calls_are_paced_in_units_of_one_bucket(vendor: OpenedGmail, mailbox: Mailbox, mirror: Mirror) -> None:
    taken: list[tuple[str, float, float]] = []

    class Pacer(Unpaced):
        def take(self, key: str, *, per_s: float, burst: float, cost: float) -> float:
            taken.append((key, per_s, cost))
            return 0.0

    mailbox.receive("One", "one")
    mirror.sync(vendor.open(context={"pacer": Pacer(), "rates": {"gmail.units": 250.0}}))
    assert {(key, per_s) for key, per_s, _ in taken} == {("gmail:me:units", 250.0)}
    assert sorted(cost for _, _, cost in taken) == [1, 5, 5, 5, 40]
    vendor.requests.clear()


def test_thirty_threads_cost_what_the_quota_says(
    gmail: Gmail, vendor: OpenedGmail, mailbox: Mailbox, mirror: Mirror
) -> None:
    for number in range(30):
        mailbox.receive(f"Mail {number}", "text")
    mirror.sync(gmail)
    assert vendor.units_spent == 1 + 3 * 5 + 30 * 40
    mirror.sync(gmail, full=True)
    assert vendor.units_spent == 2 * (1 + 3 * 5) + 30 * 40
