"""Each type of rule on texts made for it, and what holds for all of them on any text."""

# ruff: noqa: RUF001 - Cyrillic is meant
from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.pure.growth import is_linear
from workstation_pipelines.errors import InvalidRequestError, UnreadableContentError
from workstation_pipelines.model import Extracted, Heading, Item, ItemType
from workstation_pipelines.text.rules import patterns
from workstation_pipelines.text.rules.edits import Edit, edited, moved, stands_at
from workstation_pipelines.text.rules.expressions import metadata_of
from workstation_pipelines.text.rules.ruleset import Ruleset, Transformed, apply, parse
from workstation_pipelines.text.rules.types import TYPES

ITEM = Item("id-1", "Work/2026/Plan.md", "md5:1", ItemType.FILE, "Plan", "text/markdown", 1234)
METADATA = metadata_of(ITEM, source_name="drive", source_type="google_drive")


def ruled(text: str | Extracted, *rules: tuple[str, dict[str, Any]]) -> Transformed:
    extracted = text if isinstance(text, Extracted) else Extracted(text)
    parsed = [parse(f"{kind} {number}", kind, config) for number, (kind, config) in enumerate(rules)]
    return apply(Ruleset(parsed, "some"), extracted, METADATA)


def markdown(text: str) -> Extracted:
    """Headings as the reader of Markdown gives them: their line's start, their words without the marks."""
    headings, at = [], 0
    for line in text.split("\n"):
        words = line.lstrip("#").strip()
        if line.startswith("#") and words:
            headings.append(Heading(at, len(line) - len(line.lstrip("#")), words))
        at += len(line) + 1
    return Extracted(text, headings=headings)


# What holds for every type


@pytest.mark.parametrize("kind", TYPES)
def test_every_example_is_a_valid_rule_and_leaves_plain_text_readable(kind: str) -> None:
    found = ruled("The plan of the year is here for everyone to read.", (kind, dict(TYPES[kind].example)))
    assert found.dropped_by or found.text == "The plan of the year is here for everyone to read."


_PIECES = st.sampled_from(
    [
        *("# Plan", "## Call 030 901820", "text of a line", "> quoted before", "-- ", "--", "Sent from my iPhone", ""),
        *("Page 3 of 9", "ACME yearly report", "mail a.b@c.org now", "4111 1111 1111 1111", "<b>bold</b> &amp; <br>"),
        *("On 3 May 2026 Jane wrote:", "We use cookies.", "to unsubscribe click here", "### <i>x</i>", "a < b"),
        *("----- Original Message -----", "From: a", "To: b", "Subject: c"),
    ]
)  # fmt: skip
_TEXTS = st.lists(_PIECES, max_size=14).map("\n".join)


@settings(max_examples=80)
@given(_TEXTS, st.sampled_from(sorted(TYPES)))
@example("-- \na\n\n-- \nb", "remove_signature")
def test_headings_point_to_their_words_and_what_is_promised_idempotent_is(text: str, kind: str) -> None:
    rule = (kind, dict(TYPES[kind].example))
    once = ruled(markdown(text), rule)
    assert all(stands_at(once.text, heading.offset, heading.text) for heading in once.headings)
    assert [heading.offset for heading in once.headings] == sorted(heading.offset for heading in once.headings)
    if TYPES[kind].is_idempotent and once.dropped_by is None:
        again = ruled(Extracted(once.text, once.title, once.language, headings=once.headings), rule)
        assert (again.text, again.headings, again.tags) == (once.text, once.headings, once.tags)


@settings(max_examples=80)
@given(_TEXTS, st.data())
def test_headings_follow_any_edits(text: str, data: st.DataObject) -> None:
    ends = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    edits = [
        Edit(a, b, data.draw(st.sampled_from(["", "X", "new\nline"])))
        for a, b in zip(ends[::2], ends[1::2], strict=False)
    ]
    edits = [
        edit for edit, after in zip(edits, [*edits[1:], None], strict=False) if after is None or after.start > edit.end
    ]
    before = markdown(text)
    after = edited(text, edits)
    found = moved(before.headings, text, edits, after)
    assert all(stands_at(after, heading.offset, heading.text) for heading in found)
    untouched = [
        h.text for h in before.headings if all(e.end < h.offset or e.start > h.offset + len(h.text) + 8 for e in edits)
    ]
    kept = iter(heading.text for heading in found)
    assert all(text in kept for text in untouched)  # in their order, with others of the same words between them


# Patterns


def test_a_pattern_is_replaced_with_its_groups_and_headings_follow() -> None:
    found = ruled(
        markdown("intro 2025\n# Year 2025 report\nin 2025"),
        ("regex_replace", {"pattern": r"20(\d\d)", "replacement": r"'\1"}),
    )
    assert found.text == "intro '25\n# Year '25 report\nin '25"
    assert found.headings == (Heading(10, 1, "Year '25 report"),)


def test_patterns_know_every_script() -> None:
    assert (
        ruled(
            "Встреча: Иванов пришёл",
            ("regex_replace", {"pattern": r"\bиванов\b", "replacement": "N", "ignore_case": True}),
        ).text
        == "Встреча: N пришёл"
    )


@pytest.mark.parametrize("pattern", [r"(\w+\s?)*$", r"(x+x+)+y", r"^(([a-z])+.)+[A-Z]([a-z])+$", r"(a|aa)+$"])
def test_a_pattern_that_would_take_for_ever_fails_its_item_with_the_rule_named(
    pattern: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patterns, "DEADLINE_S", 0.05)
    text = "x" * 3000 + "a" * 3000 + " word" * 400 + "!"
    with pytest.raises(UnreadableContentError, match="regex_replace 0") as caught:
        ruled(text, ("regex_replace", {"pattern": pattern}))
    assert caught.value.reason == "rule_timeout"


def test_a_replacement_cannot_blow_a_text_up() -> None:
    with pytest.raises(UnreadableContentError) as caught:
        ruled("a" * 5000, ("regex_replace", {"pattern": "b*", "replacement": "b" * 1000}))
    assert caught.value.reason == "rule_failed"


@pytest.mark.parametrize(
    ("kind", "config", "told"),
    [
        ("regex_replace", {"pattern": "("}, "pattern cannot be read"),
        ("regex_replace", {"pattern": "a", "replacement": "\\2"}, "replacement cannot be used"),
        ("regex_replace", {"pattern": "a" * 1001}, "1 to 1,000 characters"),
        ("regex_replace", {"pattern": "a", "flags": "i"}, "flags"),
        ("regex_replace", {}, "pattern"),
        ("filter", {"mode": "include", "expression": "owner == 'me'"}, "asks for owner: the fields are title"),
        ("filter", {"mode": "include", "expression": "begins(path, 'a')"}, "Unknown function: begins"),
        ("filter", {"mode": "include", "expression": "path =="}, "no JMESPath expression"),
        ("filter", {"mode": "include", "expression": "contains(size_bytes, 'a')"}, "cannot be evaluated"),
        ("filter", {"mode": "only", "expression": "path"}, "mode"),
        ("set_title", {"template": "{author}"}, "nothing fills {author}"),
        ("redact", {"kinds": [], "patterns": []}, "finds nothing"),
        ("redact", {"patterns": ["red"]}, "its own replacement"),
        ("redact", {"patterns": ["x*"]}, "matches nothing"),
        ("truncate", {"max_characters": 0}, "max_characters"),
        ("add_tags", {"tags": []}, "tags"),
        ("language_filter", {"mode": "include", "languages": ["english"]}, "languages"),
        ("uppercase", {}, "the types are regex_replace"),
    ],
)
def test_a_wrong_rule_is_refused_with_what_to_do(kind: str, config: dict[str, Any], told: str) -> None:
    with pytest.raises(InvalidRequestError, match=told.replace("{", r"\{")):
        parse("rule", kind, config)


# Mail and pages


def test_signatures_go_from_every_message_of_a_thread() -> None:
    text = "# Jane\nHello\n--\nJane Doe\nACME\n\n# John\nFine, thanks.\n\nSent from my iPhone"
    found = ruled(markdown(text), ("remove_signature", {}))
    assert found.text == "# Jane\nHello\n\n# John\nFine, thanks."
    assert [heading.text for heading in found.headings] == ["Jane", "John"]


def test_a_rule_far_above_the_end_is_no_signature() -> None:
    text = "Intro\n--\n" + "\n".join(f"line {n}" for n in range(40))
    assert ruled(text, ("remove_signature", {})).text == text


@pytest.mark.parametrize(
    "introduction",
    [
        "On Mon, 3 May 2026 at 10:00, Jane Doe\n<jane@x.org> wrote:",
        "Am 03.05.2026 um 10:00 schrieb Jane Doe <jane@x.org>:",
        "Le lun. 3 mai 2026 à 10:00, Jane <jane@x.org> a écrit :",
        "El lun, 3 may 2026 a las 10:00, Jane escribió:",
    ],
)
def test_quoted_mail_goes_with_its_introduction_and_answers_between_stay(introduction: str) -> None:
    text = f"My answer.\n\n{introduction}\n> first question\n> more\nInline answer.\n> second\n"
    assert ruled(text, ("remove_quoted_mail", {})).text == "My answer.\n\nInline answer."


def test_forwarded_mail_below_an_answer_goes_and_a_forwarded_mail_alone_stays() -> None:
    head = "-----Original Message-----\nFrom: a\nSent: b\nTo: c\n\nold text"
    assert ruled(f"New.\n\n{head}", ("remove_quoted_mail", {})).text == "New."
    assert ruled(head, ("remove_quoted_mail", {})).text == head
    own_head = "From: x\nTo: y\nSubject: z\n"
    assert ruled(f"{own_head}\nNew.\n\n{head}", ("remove_quoted_mail", {})).text == f"{own_head}\nNew."


def test_running_headers_stay_once_and_page_numbers_go() -> None:
    pages = "\n".join(f"ACME Annual Report\nBody of page {n} with words.\nPage {n} of 5" for n in range(1, 6))
    found = ruled(pages, ("remove_boilerplate", {})).text
    assert found.count("ACME Annual Report") == 1
    assert "Page 3" not in found
    assert found.count("Body of page") == 5


def test_tables_and_lists_are_no_boilerplate() -> None:
    text = "\n".join(["| a | b |", "| --- | --- |", "- same item", "Yes", "---"] * 6)
    assert ruled(text, ("remove_boilerplate", {})).text == text


def test_notices_go_and_articles_about_them_stay() -> None:
    article = [f"Paragraph {n} tells something." for n in range(30)]
    article.insert(15, "How to unsubscribe from lists is a science.")
    footer = "If you do not want these mails, unsubscribe here."
    text = "\n".join(["We use cookies to improve this page.", *article, footer])
    found = ruled(text, ("remove_boilerplate", {})).text
    assert "cookies" not in found
    assert "is a science" in found
    assert "do not want" not in found


def test_markup_goes_and_comparisons_stay() -> None:
    text = "<html><style>p {}</style><p>Tom &amp; Jerry</p><!-- no --><br/>a < b and 3 <4, x > y <3 &nosuch;"
    found = ruled(text, ("strip_html", {})).text
    assert "".join(found.split("\n")) == "Tom & Jerrya < b and 3 <4, x > y <3 &nosuch;"


@pytest.mark.parametrize("piece", ["<script>", "<!--", "<a ", "&a"])
def test_markup_that_never_ends_takes_linear_time(piece: str) -> None:
    assert is_linear(lambda text: ruled(text, ("strip_html", {})), piece, count=40_000)


def test_truncation_ends_at_a_word_and_drops_the_headings_behind() -> None:
    found = ruled(markdown("# One\nalpha beta gamma\n# Two\ndelta"), ("truncate", {"max_characters": 18}))
    assert (found.text, found.headings) == ("# One\nalpha beta", (Heading(0, 1, "One"),))


# Fields


def test_fields_titles_projects_and_tags_come_from_metadata() -> None:
    found = ruled(
        Extracted("text", title="Own title"),
        (
            "map_fields",
            {
                "title": "join(' / ', [folder, name])",
                "tags": "[source_name, item_type]",
                "url": "join('', ['x:', external_id])",
            },
        ),
        ("set_title", {"template": "{source_type}: {title}", "when": "size_bytes > `1000`"}),
        ("set_title", {"template": "never", "when": "size_bytes > `2000`"}),
        ("assign_project", {"project": "Tax", "when": "starts_with(path, 'Work/')"}),
        ("add_tags", {"tags": ["drive", " new "]}),
    )
    assert found.title == "google_drive: Work/2026 / Plan.md"
    assert (found.url, found.project, found.tags) == ("x:id-1", "Tax", ("drive", "file", "new"))


@pytest.mark.parametrize(
    ("mode", "expression", "is_dropped"),
    [
        ("include", "starts_with(path, 'Work/')", False),
        ("exclude", "starts_with(path, 'Work/')", True),
        ("include", "mime_type == 'application/pdf'", True),
        ("exclude", "size_bytes > `1000` && item_type == 'file'", True),
        ("exclude", "modified_at > '2020'", False),
    ],
)
def test_filters_decide_by_metadata(mode: str, expression: str, is_dropped: bool) -> None:
    found = ruled("text", ("filter", {"mode": mode, "expression": expression}))
    assert (found.dropped_by is not None) is is_dropped


def test_languages_are_filtered_and_an_emptied_text_is_left_out() -> None:
    german = Extracted("Guten Tag", language="de")
    assert (
        ruled(german, ("language_filter", {"mode": "include", "languages": ["en"]})).dropped_by == "language_filter 0"
    )
    assert ruled(german, ("language_filter", {"mode": "exclude", "languages": ["en"]})).dropped_by is None
    assert ruled("?", ("language_filter", {"mode": "include", "languages": ["en"], "unknown": "exclude"})).dropped_by
    assert ruled("> all quoted\n> text", ("remove_quoted_mail", {})).dropped_by == "remove_quoted_mail 0"
