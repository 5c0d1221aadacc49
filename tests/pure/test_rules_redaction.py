"""What a redaction takes away, in many shapes, and what it leaves: the first must be complete, the second readable."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stdnum import iban

from tests.pure.growth import is_linear
from tests.pure.test_rules import ruled
from workstation_pipelines.model import Extracted, Heading
from workstation_pipelines.text.rules import redaction

CARDS = (
    "4111111111111111",
    "5500005555555559",
    "378282246310005",
    "6011111111111117",
    "30569309025904",
    "2223003122003222",
)
IBANS = (
    "DE89370400440532013000",
    "GB29NWBK60161331926819",
    "FR1420041010050500013M02606",
    "NL91ABNA0417164300",
    "NO9386011117947",
)
PHONES = (
    *(("en", number) for number in ("+49 171 1234567", "+1 212-555-0123", "(212) 736-5000", "212.736.5000")),
    *(("en", number) for number in ("020 7946 0958", "+442079460958")),
    *(("de", number) for number in ("030 901820", "0171 1234567", "(089) 233-96500", "+41 44 668 18 00", "0043 1 58858-0")),
    *(("fr", number) for number in ("01 42 68 53 00", "06.12.34.56.78", "+33 1 42 68 53 00")),
    *(("es", "912 345 678"), ("it", "06 698 12345"), ("pl", "22 621 02 41"), ("ja", "03-3581-0101"), ("ru", "+7 495 123-45-67")),
)  # fmt: skip
ADDRESSES = (
    "jane.doe@example.org",
    "j+tag@mail.example.co.uk",
    "o'neil_99@x-y.museum",
    "müller@bücher.de",
    "иван@почта.рф",
)
LOOK_ALIKES = (
    *("1234 5678 9012 3456", "order 1234567890123", "ISBN 978-3-16-148410-0", "2026-11-22 10:22:33", "192.168.100.200"),
    *("version 1.22.333.4444", "3.14159265358979", "a@b", "@jane", "user@localhost", "DE00370400440532013000", "0000000000000000"),
    *("9f86d081-884c-4d63-a1b2-123456789012", "$1,234,567.89", "pages 100-200, 300-400"),
)  # fmt: skip


def grouped(digits: str, gap: str) -> str:
    return gap.join(digits[at : at + 4] for at in range(0, len(digits), 4))


def redact(text: str, language: str | None = None, **config: Any) -> str:
    return ruled(Extracted(text, language=language), ("redact", config)).text


@pytest.mark.parametrize("gap", ["", " ", "-", "\u00a0", "\u2009"])
def test_every_card_and_account_goes_however_it_is_grouped(gap: str) -> None:
    for secret in (*CARDS, *IBANS, IBANS[0].lower()):
        for around in ("{}", "({})", "no. {}, valid 12/26", "42 {}", "x:{};", "| {} |", "{}\n{}"):
            found = redact(around.replace("{}", grouped(secret, gap)))
            assert grouped(secret, gap) not in found, (around, secret)
            assert not any(char.isdigit() for char in found.replace("12/26", "").replace("42", "", 1)), (found, secret)


@pytest.mark.parametrize(("language", "number"), PHONES)
def test_phone_numbers_go_in_the_way_their_country_writes_them(language: str, number: str) -> None:
    found = redact(f"Call {number} or write.", language)
    assert found == "Call [redacted phone] or write."


@pytest.mark.parametrize("address", ADDRESSES)
def test_addresses_go(address: str) -> None:
    found = redact(f"<{address}> mailto:{address}?subject=x, '{address}'. {address}.")
    assert "@" not in found
    assert found.count("[redacted email]") == 4


@pytest.mark.parametrize("text", LOOK_ALIKES)
def test_look_alikes_stay(text: str) -> None:
    assert redact(f"It is {text} here.", "en") == f"It is {text} here."


_SECRETS = st.sampled_from(
    [
        *(f"x {number}" for _, number in PHONES[:3]),
        *ADDRESSES[:3],
        *CARDS,
        *(grouped(one, " ") for one in IBANS),
        "PRJ-1234",
    ]
)
_FILLER = st.sampled_from(
    ["some words", "# heading", "2026", ",", "\n", ": ", "-", "0", "@", "+", "redacted", "[", "]", " 17 "]
)


@settings(max_examples=60)
@given(st.lists(st.one_of(_SECRETS, _FILLER), max_size=12), st.sampled_from([" ", "", "\n"]))
def test_redacting_twice_is_redacting_once_and_nothing_is_left_to_find(parts: list[str], between: str) -> None:
    config = {"patterns": [r"PRJ-\d{4}"], "regions": ["US", "DE"]}
    once = redact(between.join(parts), "en", **config)
    assert redact(once, "en", **config) == once
    assert not list(redaction.addresses(once)) + list(redaction.cards(once)) + list(redaction.accounts(once))
    assert "PRJ-1234" not in once
    if between == "\n":
        assert not any(part in once for part in parts if part in ADDRESSES or part in CARDS)


@settings(max_examples=100)
@given(st.integers(10**12, 10**19 - 1).map(str), st.integers(0, 9))
def test_a_wrong_check_digit_is_no_card_and_no_account(digits: str, digit: int) -> None:
    right = next(last for last in "0123456789" if redaction.passes_luhn(digits + last))
    assert redaction.passes_luhn(digits + str(digit)) is (str(digit) == right)
    german = f"DE{digit}{digit}{digits[:10]:0<18}"
    assert bool(list(redaction.accounts(f"to {german}, please"))) is iban.is_valid(german)


def test_titles_headings_and_tags_lose_the_secret_too_and_the_original_is_forgotten() -> None:
    extracted = Extracted(
        "## Call jane@x.org now\ntext", title="About jane@x.org", headings=[Heading(0, 2, "Call jane@x.org now")]
    )
    redaction_rule: tuple[str, dict[str, Any]] = ("redact", {})
    found = ruled(extracted, redaction_rule, ("add_tags", {"tags": ["jane@x.org"]}))
    assert found.title == "About [redacted email]"
    assert [heading.text for heading in found.headings] == ["Call [redacted email] now"]
    assert found.tags == ("[redacted email]",)
    assert found.forget_original
    assert not ruled(extracted, ("redact", {"forget_original": False})).forget_original
    assert not ruled(Extracted("harmless"), redaction_rule).forget_original
    # Another rule took it away first: the original holds it all the same.
    assert ruled(Extracted("new\n> jane@x.org"), ("remove_quoted_mail", {}), redaction_rule).forget_original


@pytest.mark.parametrize(
    ("piece", "count", "end"),
    [
        ("@", 20_000, ""),
        ("a@", 10_000, ""),
        ("1 ", 5_000, ""),
        ("DE12", 5_000, ""),
        ("4", 20_000, ""),
        ("a.", 9_000, "@"),
        ("1-", 5_000, ""),
    ],
)
def test_hostile_texts_take_linear_time(piece: str, count: int, end: str) -> None:
    assert is_linear(lambda text: redact(text, "en"), piece, count=count, end=end)
