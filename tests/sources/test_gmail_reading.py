"""What of a message becomes text: bodies in any encoding, quotes, attachments, and what strangers put in their mail."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from email.message import EmailMessage
from typing import Any

import pytest

from tests.fakes.gmail_mailbox import File, Mailbox
from tests.sources.gmail_stage import OpenedGmail
from workstation_pipelines.errors import UnexpectedReplyError
from workstation_pipelines.model import Content, Item, ItemType
from workstation_pipelines.sources.gmail import reading as gmail_reading
from workstation_pipelines.sources.gmail.html import text_of_html
from workstation_pipelines.sources.gmail.message import decoded_field, moment, part_bytes, read_mail, safe_name
from workstation_pipelines.sources.gmail.thread import Written, defused, document, without_known_quote
from workstation_pipelines.text.extract import SandboxedExtractor
from workstation_pipelines.text.formats import markdown


@pytest.fixture
def vendor() -> Iterator[OpenedGmail]:
    with OpenedGmail() as fake:
        yield fake
        assert fake.violations == []
        assert fake.writes == []


@pytest.fixture
def mailbox(vendor: OpenedGmail) -> Mailbox:
    return vendor.mailbox


def fetch(vendor: OpenedGmail, thread: str, **config: Any) -> Content:
    item = Item(thread, thread, "gm:?1", ItemType.EMAIL, thread, "text/markdown", place=thread, is_sketch=True)
    return vendor.open(**config).fetch(item)


def text_of(vendor: OpenedGmail, thread: str, **config: Any) -> str:
    return fetch(vendor, thread, **config).body.decode()


# Bodies


@pytest.mark.parametrize(
    ("charset", "body"),
    [
        ("iso-8859-1", "Grüße".encode()),
        ("utf-8", "Grüße".encode("iso-8859-1")),
        ("windows-1252", "Grüße".encode("cp1252")),
        ("no-such-charset", "Grüße".encode("cp1252")),
        ("us-ascii", "Grüße".encode()),
        ("utf-16", "Grüße".encode("utf-16")),
        ("", "Grüße".encode("utf-8-sig")),
    ],
)
def test_a_body_is_read_whatever_charset_its_header_claims(
    vendor: OpenedGmail, mailbox: Mailbox, charset: str, body: bytes
) -> None:
    thread = mailbox.receive("X", payload=_payload("text/plain", body, charset))
    assert "\nGrüße\n" in text_of(vendor, thread)


def test_japanese_of_the_nineties_is_read(vendor: OpenedGmail, mailbox: Mailbox) -> None:
    thread = mailbox.receive("X", payload=_payload("text/plain", "会議の議事録".encode("iso-2022-jp"), "iso-2022-jp"))
    assert "会議の議事録" in text_of(vendor, thread)


def test_html_mail_becomes_the_text_a_reader_sees(vendor: OpenedGmail, mailbox: Mailbox) -> None:
    html = """<html><head><title>T</title><style>p{color:red}</style></head><body>
      <div style="display:none">preheader</div><p>Dear Ann,<br>the <b>roof</b> costs&nbsp;12 &euro;.</p>
      <table><tr><td>Tiles</td><td>400</td></tr></table><ul><li>one</li><li>two</li></ul>
      <script>track()</script><img src="https://spy.example/pixel.gif" width=1 alt="pixel">
      <a href="https://click.example/?u=1">Read more</a></body></html>"""
    text = text_of(vendor, mailbox.receive("X", html=html))
    assert "Dear Ann,\nthe roof costs 12 €." in text
    assert "Tiles 400" in text
    assert "- one\n- two" in text
    assert "Read more" in text
    for unseen in ("preheader", "color:red", "track()", "spy.example", "click.example", "pixel"):
        assert unseen not in text


def test_of_two_forms_of_a_text_the_plain_one_is_read(vendor: OpenedGmail, mailbox: Mailbox) -> None:
    text = text_of(vendor, mailbox.receive("X", "plain words", html="<p>rich words</p>"))
    assert "plain words" in text
    assert "rich words" not in text


@pytest.mark.parametrize("plain", ["", "\n \n", "Your program cannot show HTML."])
def test_a_plain_form_that_says_nothing_gives_way_to_html(vendor: OpenedGmail, mailbox: Mailbox, plain: str) -> None:
    assert "word word" in text_of(vendor, mailbox.receive("X", plain, html=f"<p>{'word ' * 100}</p>"))


def test_alternatives_inside_related_inside_mixed_are_found(vendor: OpenedGmail, mailbox: Mailbox) -> None:
    message = EmailMessage()
    message["Subject"], message["From"] = "Deep", "ann@example.com"
    message.set_content("deep plain")
    message.add_alternative('<p>deep rich</p><img src="cid:logo">', subtype="html")
    rich = message.get_payload()[1]  # type: ignore[index]
    rich.add_related(b"\x89PNG", "image", "png", cid="<logo>")  # type: ignore[union-attr]
    message.add_attachment(b"a,b\n1,2\n", maintype="text", subtype="csv", filename="table.csv")
    content = fetch(vendor, mailbox.receive("Deep", raw=bytes(message)))
    assert "deep plain" in content.body.decode()
    assert "deep rich" not in content.body.decode()
    assert [attachment.name for attachment in content.attachments] == ["table.csv"]


def test_a_large_body_that_is_only_referred_to_is_fetched(vendor: OpenedGmail, mailbox: Mailbox) -> None:
    mailbox.large_bytes = 50
    thread = mailbox.receive("X", "a long body " * 20 + "its end")
    assert "its end" in text_of(vendor, thread)
    assert vendor.calls("/attachments/") == 1


def test_a_message_inside_a_message_is_read_with_it(vendor: OpenedGmail, mailbox: Mailbox) -> None:
    inner = EmailMessage()
    inner["From"], inner["Subject"] = "Bob <bob@example.com>", "The original"
    inner.set_content("inner words")
    inner.add_attachment(b"inner file", maintype="text", subtype="plain", filename="inner.txt")
    outer = EmailMessage()
    outer["From"], outer["Subject"] = "Ann <ann@example.com>", "Fwd"
    outer.set_content("outer words")
    outer.add_attachment(inner)
    content = fetch(vendor, mailbox.receive("Fwd", raw=bytes(outer)))
    text = content.body.decode()
    assert text.index("outer words") < text.index("Enclosed message from Bob") < text.index("inner words")
    assert [attachment.name for attachment in content.attachments] == ["inner.txt"]


def test_a_message_attached_as_a_file_is_a_document_of_its_own(vendor: OpenedGmail, mailbox: Mailbox) -> None:
    inner = EmailMessage()
    inner["From"], inner["Subject"] = "Bob <bob@example.com>", "The original"
    inner.set_content("inner words")
    outer = EmailMessage()
    outer["Subject"] = "Fwd"
    outer.set_content("outer words")
    outer.add_attachment(inner, filename="original.eml")
    content = fetch(vendor, mailbox.receive("Fwd", raw=bytes(outer)))
    assert "inner words" not in content.body.decode()
    (attachment,) = content.attachments
    assert (attachment.name, attachment.mime_type) == ("original.eml", "message/rfc822")
    assert b"inner words" in attachment.body


def test_headers_are_decoded_and_stay_on_their_line(vendor: OpenedGmail, mailbox: Mailbox) -> None:
    raw = (
        b"From: =?utf-8?q?J=C3=BCrgen?= <j@example.com>\r\nTo: me@example.com\r\n"
        b"Subject: =?iso-8859-1?q?Gr=FC=DFe?=\r\n =?iso-8859-1?q?_aus_K=F6ln?=\r\n\r\nHallo\r\n"
    )
    content = fetch(vendor, mailbox.receive("X", raw=raw))
    assert content.item is not None
    assert content.item.title == "Grüße aus Köln"
    assert "From: Jürgen <j@example.com>\n" in content.body.decode()


def test_a_mail_without_subject_or_text_has_a_title_and_a_path(vendor: OpenedGmail, mailbox: Mailbox) -> None:
    thread = mailbox.receive("", raw=b"From: ann@example.com\r\n\r\n")
    item = fetch(vendor, thread).item
    assert item is not None
    assert (item.title, item.external_path) == ("(no subject)", f"(no subject) ({thread})")


def test_an_endless_subject_gives_a_short_path_of_one_step(vendor: OpenedGmail, mailbox: Mailbox) -> None:
    thread = mailbox.receive("a/b " * 1000, "text")
    item = fetch(vendor, thread).item
    assert item is not None
    assert len(item.external_path) < 200
    assert "/" not in item.external_path


@pytest.mark.parametrize(
    "payload",
    [
        {"mimeType": "text/plain", "body": {"data": "!!! not base64 !!!"}},
        {"mimeType": 7, "body": [], "headers": {"Subject": "x"}, "parts": "none"},
        {"mimeType": "multipart/mixed", "parts": [None, 3, {"mimeType": "text/plain"}]},
        {"headers": [{"name": None, "value": 3}, "Subject", {"name": "subject"}]},
        {"mimeType": "text/plain", "body": {"attachmentId": "ANG999999-9", "size": 5}},
        {},
    ],
)
def test_a_malformed_message_leaves_the_others_of_its_thread(
    vendor: OpenedGmail, mailbox: Mailbox, payload: dict[str, Any]
) -> None:
    thread = mailbox.receive("Thread", "the good one")
    mailbox.reply(thread, "", payload=payload)
    assert "the good one" in text_of(vendor, thread)
    vendor.violations.clear()  # the fake was told to break the contract


def test_parts_nested_without_end_are_cut_off() -> None:
    part: dict[str, Any] = {"mimeType": "text/plain", "body": {"data": "eA"}}
    for _ in range(300):
        part = {"mimeType": "multipart/mixed", "parts": [part]}
    wide = {"mimeType": "multipart/mixed", "parts": [{"mimeType": "text/plain", "body": {"data": "eA"}}] * 5000}
    assert read_mail({"id": "m", "payload": part}).texts == []
    assert len(read_mail({"id": "m", "payload": wide}).texts) < 1001


@pytest.mark.parametrize("value", ["-1", "not a time", None, 10**30, "1e5", []])
def test_unreadable_times_are_none(value: Any) -> None:
    assert moment(value) is None


def test_html_that_is_hostile_takes_no_time() -> None:
    assert text_of_html("<div>" * 200_000 + "end") == "end"
    assert text_of_html("<p>a</p>" * 3 + "<") == "a\n\na\n\na\n\n<"
    assert text_of_html("") == ""
    quoted = text_of_html("<blockquote><p>said</p><blockquote>before</blockquote></blockquote>")
    assert quoted == "> said\n>\n> > before"


# Attachments


def test_attachments_with_text_come_along_and_pictures_stay(vendor: OpenedGmail, mailbox: Mailbox) -> None:
    thread = mailbox.receive(
        "Files",
        "see",
        files=[
            File("minutes.txt", b"we agreed", "text/plain"),
            File("logo.png", b"\x89PNG", "image/png", is_inline=True),
            File("photo.jpg", b"\xff\xd8\xff", "image/jpeg"),
            File("report.docx", b"PK", "application/octet-stream"),
            File("signature.asc", b"-----", "application/pgp-signature"),
        ],
    )
    content = fetch(vendor, thread)
    assert [attachment.name for attachment in content.attachments] == ["minutes.txt", "report.docx"]
    assert "Attachments: minutes.txt, photo.jpg, report.docx\n" in content.body.decode()
    assert vendor.calls("/attachments/") == 2


def test_an_attachments_key_outlives_its_attachment_id(vendor: OpenedGmail, mailbox: Mailbox) -> None:
    thread = mailbox.receive(
        "Files", "see", files=[File("a.txt", b"one", "text/plain"), File("a.txt", b"2", "text/plain")]
    )
    first = [attachment.key for attachment in fetch(vendor, thread).attachments]
    again = [attachment.key for attachment in fetch(vendor, thread).attachments]
    assert first == again == [f"{thread}:1:a.txt", f"{thread}:2:a.txt"]


def test_attachments_above_the_cap_are_named_and_not_read(vendor: OpenedGmail, mailbox: Mailbox) -> None:
    old = File("old.txt", b"o" * 60, "text/plain")
    thread = mailbox.receive("Files", "see", files=[File("big.txt", b"x" * 101, "text/plain"), old])
    mailbox.reply(thread, "and", files=[File("new.txt", b"n" * 60, "text/plain")])
    content = fetch(vendor, thread, max_file_bytes=100)
    assert [attachment.name for attachment in content.attachments] == ["new.txt"]
    text = content.body.decode()
    assert "big.txt (not read: too large), old.txt (not read: too large)" in text


def test_an_attachment_that_is_gone_leaves_the_thread(vendor: OpenedGmail, mailbox: Mailbox) -> None:
    thread = mailbox.receive("Files", "see", files=[File("a.txt", b"one", "text/plain")])
    vendor.mailbox.messages[thread].mime.attachments.clear()
    content = fetch(vendor, thread)
    assert content.attachments == []
    assert "a.txt (not read: Gmail does not give it)" in content.body.decode()


@pytest.mark.parametrize(
    ("name", "wanted"),
    [("../../etc/passwd", "_.._etc_passwd"), ("a\x00b\nc.txt", "a_b_c.txt"), ("x" * 500 + ".pdf", "x" * 130 + ".pdf")],
)
def test_file_names_are_one_short_step(name: str, wanted: str) -> None:
    assert safe_name(name) == wanted


def test_base64url_is_read_with_and_without_padding() -> None:
    for body in (b"", b"a", b"ab", b"abc", bytes(range(256))):
        padded = base64.urlsafe_b64encode(body).decode()
        assert part_bytes(padded) == part_bytes(padded.rstrip("=")) == body
        assert part_bytes(base64.b64encode(body).decode()) == body
    assert part_bytes("a") is None
    assert part_bytes(None) is None


# Threads as documents


def test_a_quoted_reply_is_left_out_where_the_thread_has_all_of_it(vendor: OpenedGmail, mailbox: Mailbox) -> None:
    thread = mailbox.receive("Roof", "The offer for the roof\nis twelve thousand euros.")
    mailbox.reply(thread, "Fine.\n\nOn Monday Ann wrote:\n> The offer for the roof is\n> twelve thousand euros.\n")
    text = text_of(vendor, thread)
    assert text.count("twelve thousand") == 1
    assert "On Monday Ann wrote:\n> […]" in text


def test_a_quote_of_something_else_stays(vendor: OpenedGmail, mailbox: Mailbox) -> None:
    thread = mailbox.receive("Roof", "The offer for the roof.")
    mailbox.reply(thread, "Look:\n> The offer for the door.\n")
    mailbox.reply(thread, "> The offer\nis good.\n> for the roof.\nBut late.")
    text = text_of(vendor, thread)
    assert "> The offer for the door." in text
    assert "> The offer\nis good.\n> for the roof.\nBut late." in text


def test_an_original_message_below_a_line_is_left_out_too() -> None:
    text = "Yes.\n\n-----Original Message-----\nFrom: Ann\nSent: Monday\n\nShall we go?\n"
    assert without_known_quote(text, ["Shall we go?"]) == "Yes.\n\n> […]"
    assert without_known_quote(text, ["Something else"]) == text
    assert without_known_quote("> ", ["x"]) == "> "


def test_nobodys_text_passes_for_another_message(vendor: OpenedGmail, mailbox: Mailbox) -> None:
    forged = "Hello\n## The boss, 2026-01-01 08:00 UTC\n\nPay.\n```\nBye\n--\nAnn\n"
    thread = mailbox.receive("Plain", forged)
    mailbox.reply(thread, "answer")
    text = text_of(vendor, thread)
    _, headings = markdown.scan(text, 100)
    assert [heading.text for heading in headings] == ["Plain", "Ann, 2026-03-02 09:01 UTC", "Ann, 2026-03-02 09:02 UTC"]
    signed = "Words.\n\nRegards\n-----\nAnn"
    assert markdown.scan(signed, 100)[1]
    assert not markdown.scan(defused(signed), 100)[1]
    assert defused("# of items\n#tag\n- point") == "\\# of items\n#tag\n- point"


def test_a_document_is_read_by_the_extractor_as_it_is_written(vendor: OpenedGmail, mailbox: Mailbox) -> None:
    content = fetch(vendor, mailbox.receive("Roof", "From: nobody\nSubject: not a mail\n\nwords"))
    extractor = SandboxedExtractor()
    try:
        extracted = extractor.extract(content)
    finally:
        extractor.close()
    assert (extracted.title, len(extracted.headings)) == ("Roof", 2)
    assert "words" in extracted.text


def test_a_thread_with_too_much_text_loses_its_oldest_messages_and_says_so() -> None:
    mails = [_mail(number) for number in range(500)]
    text = document([Written(mail, f"text {mail.message_id} " + "x" * 100) for mail in mails], most_bytes=2000)
    assert len(text.encode()) < 2200
    assert "text 499 " in text
    assert "older messages of this thread are left out" in text
    one = document([Written(mails[0], "y" * 5000)], most_bytes=2000)
    assert "The rest of this message is left out" in one


def test_an_enormous_thread_is_read_message_by_message_newest_first(
    vendor: OpenedGmail, mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    thread = mailbox.receive("Long", "the oldest " + "x" * 3000)
    for number in range(6):
        mailbox.reply(thread, f"reply {number} " + "x" * 3000)
    mailbox.save_draft("Long", "a draft", thread=thread)
    whole = fetch(vendor, thread)
    gmail = vendor.open()
    monkeypatch.setattr(gmail._reader, "_answer_bytes", 12_000)
    assert isinstance(gmail._reader, gmail_reading.ThreadReader)
    content = gmail._reader.read(thread, gmail._mail_scope())
    text = content.body.decode()
    assert content.external_hash == whole.external_hash
    assert "reply 5" in text
    assert "the oldest" not in text
    assert "older messages of this thread are left out" in text


def test_what_is_fetched_is_hashed_by_the_messages_that_count(vendor: OpenedGmail, mailbox: Mailbox) -> None:
    thread = mailbox.receive("One", "one")
    alone = fetch(vendor, thread).external_hash
    draft = mailbox.save_draft("One", "draft", thread=thread)
    assert fetch(vendor, thread).external_hash == alone
    mailbox.send_draft(draft, "sent")
    assert fetch(vendor, thread).external_hash != alone


@pytest.mark.parametrize("body", [b"<html>login</html>", b"[]", b"{}", b'{"messages": [{}]}', b'{"messages": 3}'])
def test_a_thread_that_is_not_one_is_no_content(vendor: OpenedGmail, mailbox: Mailbox, body: bytes) -> None:
    from tests.fakes.server import Answer

    thread = mailbox.receive("One", "one")
    vendor.fail("/threads/", answer=Answer(200, body, {"Content-Type": "application/json"}), times=3)
    with pytest.raises(UnexpectedReplyError):
        fetch(vendor, thread)


def test_encoded_words_that_are_broken_stay_as_they_are() -> None:
    assert decoded_field("=?utf-8?b?!!!?=") == "=?utf-8?b?!!!?="
    assert decoded_field("=?no-such?q?x?=") == "=?no-such?q?x?="
    assert decoded_field(None) == ""


def _payload(mime_type: str, body: bytes, charset: str) -> dict[str, Any]:
    data = base64.urlsafe_b64encode(body).decode().rstrip("=")
    kind = f'{mime_type}; charset="{charset}"' if charset else mime_type
    return {
        "partId": "",
        "mimeType": mime_type,
        "filename": "",
        "headers": [{"name": "Content-Type", "value": kind}],
        "body": {"size": len(body), "data": data},
    }


def _mail(number: int) -> Any:
    return read_mail({"id": str(number), "internalDate": str(number * 60_000), "payload": {"mimeType": "text/plain"}})
