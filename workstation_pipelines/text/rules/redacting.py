"""A redaction applied: the words that stand where a secret was, again and again until none is left."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial

from workstation_pipelines.errors import UnreadableContentError
from workstation_pipelines.text.rules import patterns, redaction
from workstation_pipelines.text.rules.configs import Redact, Secret
from workstation_pipelines.text.rules.draft import Draft
from workstation_pipelines.text.rules.edits import Edit, edited, merged

MOST_ROUNDS = 10
"""What is taken away may leave something beside it that is a secret only now; a tenth round has never been needed."""


def redact(config: Redact, rule: str, draft: Draft) -> Draft:
    """Return the draft without the secrets in its text. Doing it again changes nothing."""
    for _ in range(MOST_ROUNDS):
        edits = _edits(config, rule, draft.text, draft.language)
        if not edits:
            return draft
        draft = draft.with_edits(edits)
    raise _endless(rule)


def redacted_words(config: Redact, rule: str, text: str, *, language: str | None) -> str:
    """Return a text without the secrets in it."""
    for _ in range(MOST_ROUNDS):
        edits = _edits(config, rule, text, language)
        if not edits:
            return text
        text = edited(text, edits)
    raise _endless(rule)


def _edits(config: Redact, rule: str, text: str, language: str | None) -> list[Edit]:
    return merged(_found(config, rule, text, language))


def _found(config: Redact, rule: str, text: str, language: str | None) -> Iterator[tuple[int, int, str]]:
    regions = redaction.regions_of(language, config.regions)
    finders: Mapping[Secret, Callable[[str], Iterator[redaction.Span]]] = {
        Secret.EMAIL: redaction.addresses,
        Secret.IBAN: redaction.accounts,
        Secret.CARD: redaction.cards,
        Secret.PHONE: partial(redaction.phones, regions=regions),
    }
    for kind, find in finders.items():
        if kind in config.kinds:
            words = config.replacement.replace("{kind}", kind.value)
            for start, end in find(text):
                yield start, end, words
    words = config.replacement.replace("{kind}", "text")
    for pattern in config.patterns:
        compiled = patterns.compiled(pattern, ignore_case=config.ignore_case)
        for start, end in patterns.spans(compiled, text, rule):
            yield start, end, words


def _endless(rule: str) -> UnreadableContentError:
    return UnreadableContentError(
        f"the rule {rule!r} finds its own replacement on it: choose another `replacement`, or narrower patterns",
        reason=patterns.FAILED,
    )
