"""Finds what a redaction takes away: addresses, phone numbers, cards, accounts, and what people's own patterns say."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

Span = tuple[int, int]

# Without the signs that are allowed and hardly ever used: they join an address to the path or markup before it.
_LOCAL = re.compile(r"[\w.%+&'~-]")
_DOMAIN = re.compile(r"(?:[^\W_](?:[\w-]{0,61}[^\W_])?\.)+[^\W\d_](?:[\w-]{0,61}[^\W_])")
_MOST_LOCAL = 254

# A gap is what people put between groups of digits, never a line end.
_GAP = "[ \u00a0\u2009\u202f.\u2010-\u2015-]"
_CARD = re.compile(rf"(?<!\d)(?:\d{_GAP}?){{11,}}\d(?!\d)")
_CARD_KINDS = re.compile(
    r"4\d{12}(?:\d{3}){0,2}|5[1-5]\d{14}|2(?:22[1-9]|2[3-9]\d|[3-6]\d\d|7[01]\d|720)\d{12}|3[47]\d{13}"
    r"|3(?:0[0-5]|[689]\d)\d{11}|35(?:2[89]|[3-8]\d)\d{12,15}|6(?:011|5\d\d|4[4-9]\d)\d{12,15}|62\d{14,17}"
    r"|(?:50|5[6-9]|6[0-9])\d{14,17}"
)
_CARD_DIGITS = (13, 19)
_ACCOUNT = re.compile(rf"(?<![^\W_])[A-Za-z]{{2}}{_GAP}?\d{_GAP}?\d(?:{_GAP}?[A-Za-z0-9]){{11,30}}", re.ASCII)

_LEAST_DIGITS = 7
_NUMBER_LINE = re.compile(rf"^[^\n]*?(?:\d[^\d\n]{{0,3}}){{{_LEAST_DIGITS}}}[^\n]*$", re.MULTILINE)

REGIONS = {
    "en": ("US", "GB"),
    "de": ("DE", "AT", "CH"),
    "fr": ("FR", "BE", "CH"),
    "es": ("ES", "MX"),
    "it": ("IT", "CH"),
    "pt": ("PT", "BR"),
    "nl": ("NL", "BE"),
    "ca": ("ES",),
    "sv": ("SE",),
    "da": ("DK",),
    "nb": ("NO",),
    "fi": ("FI",),
    "pl": ("PL",),
    "cs": ("CZ",),
    "sk": ("SK",),
    "hu": ("HU",),
    "ro": ("RO",),
    "tr": ("TR",),
    "ru": ("RU",),
    "uk": ("UA",),
    "bg": ("BG",),
    "el": ("GR",),
    "he": ("IL",),
    "ja": ("JP",),
    "ko": ("KR",),
    "zh": ("CN",),
}
"""Where a number without its country's code is taken to be from, by the language of the text it stands in."""

EVERYWHERE = "ZZ"
"""The region of numbers that begin with + and their country's code."""


def addresses(text: str) -> Iterator[Span]:
    """Yield e-mail addresses. Looked for from each @, so that the time is linear whatever surrounds it."""
    at = text.find("@")
    while at >= 0:
        start = at
        while start > 0 and at - start < _MOST_LOCAL and _LOCAL.match(text, start - 1):
            start -= 1
        while start < at and text[start] in ".'&~":
            start += 1
        domain = _DOMAIN.match(text, at + 1)
        if start < at and domain is not None:
            yield start, domain.end()
        at = text.find("@", at + 1)


def phones(text: str, regions: Sequence[str]) -> Iterator[Span]:
    """Yield phone numbers that are valid in one of the regions, or anywhere with + and the country's code."""
    from phonenumbers import Leniency, PhoneNumberMatcher

    for line in _NUMBER_LINE.finditer(text):
        for region in dict.fromkeys((EVERYWHERE, *regions)):
            wanted = None if region == EVERYWHERE else region
            for match in PhoneNumberMatcher(line.group(), wanted, leniency=Leniency.VALID, max_tries=1000):
                yield line.start() + match.start, line.start() + match.end


def cards(text: str) -> Iterator[Span]:
    """Yield card numbers: a known issuer's range, its length, and the Luhn digit that fits."""
    for run in _CARD.finditer(text):
        digits = [place for place in range(run.start(), run.end()) if text[place].isdigit()]
        yield from _cards_of(text, digits)


def accounts(text: str) -> Iterator[Span]:
    """Yield IBANs whose country, length and check digits fit."""
    from stdnum import iban

    run = _ACCOUNT.search(text)
    while run is not None:
        signs = [place for place in range(run.start(), run.end()) if text[place].isalnum()]
        resume = run.start() + 2
        for count in range(len(signs), 14, -1):
            end = signs[count - 1] + 1
            is_whole = end == len(text) or not text[end].isalnum()
            if is_whole and iban.is_valid("".join(text[place] for place in signs[:count])):
                yield run.start(), end
                resume = end
                break
        run = _ACCOUNT.search(text, resume)  # a run that is none may swallow the start of one


def is_card(digits: str) -> bool:
    return _CARD_KINDS.fullmatch(digits) is not None and len(set(digits)) > 1 and passes_luhn(digits)


def passes_luhn(digits: str) -> bool:
    doubled = (int(digit) * (1 + place % 2) for place, digit in enumerate(reversed(digits)))
    return sum(value - 9 * (value > 9) for value in doubled) % 10 == 0


def _cards_of(text: str, digits: Sequence[int]) -> Iterator[Span]:
    """Yield the longest cards in a run of digits, each from the start of a group of them to the end of one."""
    first = 0
    while first + _CARD_DIGITS[0] <= len(digits):
        count = 0
        if first == 0 or digits[first] > digits[first - 1] + 1:
            count = _card_at(text, digits, first)
        if count:
            yield digits[first], digits[first + count - 1] + 1
        first += count or 1


def _card_at(text: str, digits: Sequence[int], first: int) -> int:
    """Return how many digits the card that begins here has, 0 if none does."""
    shortest, longest = _CARD_DIGITS
    for count in range(min(longest, len(digits) - first), shortest - 1, -1):
        stop = first + count
        ends_group = stop == len(digits) or digits[stop] > digits[stop - 1] + 1
        if ends_group and is_card("".join(text[place] for place in digits[first:stop])):
            return count
    return 0


def regions_of(language: str | None, chosen: Iterable[str]) -> tuple[str, ...]:
    """Return the regions that a rule names, else those where the language of the text is spoken."""
    named = tuple(chosen)
    return named or REGIONS.get(language or "", ())
