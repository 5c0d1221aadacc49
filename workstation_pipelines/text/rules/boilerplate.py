"""Finds what is on every page and in every mail: running headers and footers, cookie notices, ways to unsubscribe."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

Span = tuple[int, int]

_LINE = re.compile(r"[^\n]*(?:\n|\Z)")
_PAGE_NUMBER = re.compile(
    r"(?:page|seite|página|pagina|strona|sida|side|стр\.?|p\.)[ \t]*\d{1,4}"
    r"(?:[ \t]*(?:of|von|de|sur|di|van|z|av|af|из|/)[ \t]*\d{1,4})?"
    r"|-[ \t]*\d{1,4}[ \t]*-|\d{1,4}[ \t]*/[ \t]*\d{1,4}",
    re.IGNORECASE,
)
_LEAST_LETTERS = 4
_LONGEST_REPEATED = 160

_LONGEST_NOTICE = 600
_COOKIES = re.compile(
    r"(?:we|this (?:web)?site) uses? cookies|accept all cookies|cookie (?:settings|preferences|policy)"
    r"|(?:wir|diese (?:web)?seite) (?:verwende[nt]|nutz(?:en|t)) cookies|alle cookies (?:akzeptieren|annehmen)|cookie-einstellungen"
    r"|(?:ce|notre) site (?:web )?utilise des cookies|nous utilisons des cookies|accepter (?:tous )?les cookies"
    r"|(?:este sitio(?: web)? (?:utiliza|usa)|utilizamos|usamos) cookies|aceptar (?:todas )?las cookies"
    r"|(?:questo sito(?: web)? utilizza|utilizziamo) (?:i )?cookie|usamos cookies|deze (?:web)?site gebruikt cookies",
    re.IGNORECASE,
)
_UNSUBSCRIBE = re.compile(
    r"\bunsubscribe\b|opt[ -]out of (?:these|future)|manage (?:your )?(?:e-?mail |subscription )?preferences"
    r"|view (?:this e-?mail )?in (?:your )?browser"
    r"|newsletter abbestellen|\babmelden\b.{0,60}newsletter|newsletter.{0,80}\babmelden\b"
    r"|vom newsletter ab|im browser (?:ansehen|anzeigen)"
    r"|se désabonner|se désinscrire|vous désabonner|vous désinscrire|darse de baja|cancelar (?:la |tu |su )?suscripción"
    r"|cancella(?:re|ti)? (?:la tua )?(?:l')?iscrizione|annulla(?:re)? l'iscrizione|cancelar (?:a )?(?:inscrição|subscrição)"
    r"|uitschrijven|afmelden voor",
    re.IGNORECASE,
)
_FOOTER_LINES = 12
"""Ways to unsubscribe stand at the start or the end of a mail; an article about them does not."""


def repeated_lines(text: str, *, repeats: int) -> Iterator[Span]:
    """Yield the lines that stand in the text at least `repeats` times, the first time excepted, and lines of page numbers."""
    lines = [match.span() for match in _LINE.finditer(text) if match.end() > match.start()]
    keys = [_key(text[start:end]) for start, end in lines]
    counts = Counter(key for key in keys if key)
    seen: set[str] = set()
    for (start, end), key in zip(lines, keys, strict=True):
        if not key or counts[key] < repeats:
            continue
        if key in seen or key == _PAGES:
            yield start, end
        seen.add(key)


_PAGES = "\0pages"


def _key(line: str) -> str:
    line = line.strip()
    if _PAGE_NUMBER.fullmatch(line):
        return _PAGES
    letters = sum(char.isalpha() for char in line[: _LONGEST_REPEATED + 1])
    # Table rules, list marks and one-word answers repeat in what is no header.
    if letters < _LEAST_LETTERS or len(line) > _LONGEST_REPEATED or line[0] in "|-*+#>" or " " not in line:
        return ""
    return line


def notices(text: str) -> Iterator[Span]:
    """Yield lines that ask about cookies, and near the start and the end lines that tell how to unsubscribe."""
    lines = [match.span() for match in _LINE.finditer(text) if text[match.start() : match.end()].strip()]
    for number, (start, end) in enumerate(lines):
        line = text[start:end]
        if len(line) > _LONGEST_NOTICE:
            continue
        is_at_rim = number < 2 or number >= len(lines) - _FOOTER_LINES
        if _COOKIES.search(line) or (is_at_rim and _UNSUBSCRIBE.search(line)):
            yield start, end
