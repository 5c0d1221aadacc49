"""Finds in mail what is not its writer's own text: signatures and what is quoted from the mail before."""

# ruff: noqa: RUF001 - one phone speaks Russian
from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from workstation_pipelines.model import Heading

Span = tuple[int, int]

MOST_SIGNATURE_LINES = 20

_DELIMITER = re.compile(r"^(?:--|—|__+)[ \t]*$", re.MULTILINE)
_SENT_FROM = re.compile(
    r"^(?:Sent from my|Sent from (?:Mail|Outlook)|Get Outlook for|Von meinem? .{1,40} gesendet|Gesendet von|Envoyé de(?:puis)? mon"
    r"|Enviado desde mi|Inviato da(?:l mio)?|Enviado do meu|Verzonden vanaf|Skickat från|Wysłane z|Отправлено с)[^\n]{0,80}$",
    re.MULTILINE | re.IGNORECASE,
)

_QUOTED = re.compile(r"^[ \t]{0,3}>[^\n]*(?:\n|\Z)", re.MULTILINE)
# "On Monday, 3 May 2021 at 10:00, Jane <jane@x.org> wrote:", which may be broken over three lines.
_ATTRIBUTION = re.compile(
    r"^(?:On|Am|Le|El|Il|Em|Op|Den|W dniu|Dnia)\b(?=[^\n]*\d)[^\n]{4,200}(?:\n(?![ \t]*>)[^\n]{1,200}){0,2}?"
    r"(?:wrote|schrieb(?: [^\n:]{0,80})?|a écrit|escribió|ha scritto|escreveu|schreef(?: [^\n:]{0,80})?|skrev(?: [^\n:]{0,80})?"
    r"|napisał\(?a?\)?)[ \u00a0]?:[ \t]*\n+",
    re.MULTILINE,
)
_FORWARDED = re.compile(
    r"^[ \t]*-{2,}[ \t]*(?:Original Message|Forwarded message|Ursprüngliche Nachricht|Weitergeleitete Nachricht"
    r"|Message d'origine|Message transféré|Mensaje original|Messaggio originale|Mensagem original"
    r"|Oorspronkelijk bericht)[ \t]*-{2,}[ \t]*$",
    re.MULTILINE | re.IGNORECASE,
)
_HEADER_BLOCK = re.compile(
    r"^(?:From|Von|De|Da|Van): [^\n]+\n(?:(?:Sent|Date|Gesendet|Datum|Envoyé|Enviado|Fecha|Inviato|Data|Verzonden"
    r"|To|An|À|Para|A|Aan|Cc|Subject|Betreff|Objet|Asunto|Oggetto|Assunto|Onderwerp)\u00a0?: [^\n]*\n){2,}",
    re.MULTILINE,
)


def signatures(text: str, headings: Sequence[Heading]) -> Iterator[Span]:
    """Yield what follows a line `--` to the end of a message, at most 20 lines, and lines as phones add them."""
    for start, end in _messages(text, headings):
        cut = _signature_start(text, start, end)
        if cut < end and text[cut:end].strip():
            yield cut, _content_end(text, cut, end)


def _signature_start(text: str, start: int, end: int) -> int:
    cut = end
    while True:
        before = cut
        marks = [match.start() for match in _DELIMITER.finditer(text, start, cut)]
        # From the last one on, as long as little enough stands below each.
        while marks and text.count("\n", marks[-1], cut) <= MOST_SIGNATURE_LINES:
            cut = marks.pop()
        for match in _SENT_FROM.finditer(text, start, cut):
            if not text[match.end() : cut].strip():
                cut = match.start()
                break
        if cut == before:
            return cut
        cut = start + len(text[start:cut].rstrip())


def _content_end(text: str, cut: int, end: int) -> int:
    """Leave the blank lines between this message and the next."""
    return end if end == len(text) else cut + len(text[cut:end].rstrip())


def quotations(text: str, headings: Sequence[Heading]) -> Iterator[Span]:
    """Yield lines quoted with `>`, the line that introduces them, and what follows the head of a forwarded mail."""
    for start, end in _messages(text, headings):
        cut = end
        for pattern in (_FORWARDED, _HEADER_BLOCK):
            for match in pattern.finditer(text, start, cut):
                # A mail that begins so is a forwarded one: what it forwards is what it says. Or it is its own head.
                if _FORWARDED.sub("", text[start : match.start()]).strip():
                    cut = match.start()
                    break
        for match in _ATTRIBUTION.finditer(text, start, cut):
            if _QUOTED.match(text, match.end(), cut):
                yield match.span()
        for match in _QUOTED.finditer(text, start, cut):
            yield match.span()
        if cut < end:
            yield cut, _content_end(text, cut, end)


def _messages(text: str, headings: Sequence[Heading]) -> Iterator[Span]:
    """Yield the stretches between the lines of headings: in a thread each message begins with one."""
    start = 0
    for heading in headings:
        if heading.offset > start:
            yield start, heading.offset
        end_of_line = text.find("\n", heading.offset)
        start = max(start, end_of_line + 1 if end_of_line >= 0 else len(text))
    if start < len(text):
        yield start, len(text)
