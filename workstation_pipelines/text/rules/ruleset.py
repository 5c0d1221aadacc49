"""Rules in their order, and what they make of a document. Deterministic; no rule sees another document."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from pydantic import ValidationError

from workstation_pipelines.errors import InvalidRequestError
from workstation_pipelines.model import Extracted, Heading
from workstation_pipelines.text.rules import configs, expressions
from workstation_pipelines.text.rules.draft import Draft
from workstation_pipelines.text.rules.edits import stands_at
from workstation_pipelines.text.rules.expressions import Metadata
from workstation_pipelines.text.rules.redacting import redacted_words
from workstation_pipelines.text.rules.types import TYPES


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule, its settings checked."""

    name: str
    type: str
    config: configs.RuleConfig


@dataclass(frozen=True, slots=True)
class Ruleset:
    """The active rules of one data source in order. `hash` is what tells two such sets apart; "" is that of no rules."""

    rules: Sequence[Rule] = ()
    hash: str = ""

    @property
    def redactions(self) -> list[Rule]:
        return [rule for rule in self.rules if isinstance(rule.config, configs.Redact)]

    def redacted(self, words: str) -> str:
        """Return a title or path without what the redactions take away."""
        for rule in self.redactions:
            words = redacted_words(_redact_config(rule), rule.name, words, language=None)
        return words


@dataclass(frozen=True, slots=True)
class Transformed:
    """What is to be stored instead of what was extracted.

    `url`, `project` and `tags` are None or empty where no rule said anything. `dropped_by` names the rule that leaves the
    document out: nothing else counts then. `forget_original` tells that what was extracted must not be kept.
    """

    text: str
    headings: Sequence[Heading]
    title: str
    language: str | None
    url: str | None
    project: str | None
    tags: Sequence[str]
    dropped_by: str | None
    forget_original: bool


NO_RULES = Ruleset()


def parse(name: str, transformation_type: str, config: Mapping[str, Any]) -> Rule:
    """Return a rule. Raises InvalidRequestError that says which setting is wrong and how to mend it."""
    kind = TYPES.get(transformation_type)
    if kind is None:
        raise InvalidRequestError(f"there is no type {transformation_type!r}: the types are {', '.join(TYPES)}")
    try:
        return Rule(name, transformation_type, kind.config.model_validate_json(_json(config)))
    except ValidationError as error:
        told = "; ".join(_told(each) for each in error.errors(include_url=False, include_input=False))
        raise InvalidRequestError(f"the settings of a {transformation_type} rule do not fit: {told}") from None


def dropped_unread(ruleset: Ruleset, metadata: Metadata) -> str | None:
    """Return the name of the rule that leaves an item out whatever its content is, or None.

    Raises UnreadableContentError when a rule cannot be evaluated on it.
    """
    for rule in ruleset.rules:
        if isinstance(rule.config, configs.Filter):
            is_selected = expressions.is_true(rule.config.expression, metadata, rule.name)
            if is_selected is (rule.config.mode is configs.Mode.EXCLUDE):
                return rule.name
    return None


def apply(ruleset: Ruleset, extracted: Extracted, metadata: Metadata) -> Transformed:
    """Apply the rules in order; the title is the text's own, else the item's.

    A rule that leaves no text drops the document. What redactions take from the text is taken from title, headings, tags
    and project too, whichever rule put it there. Raises UnreadableContentError when a rule cannot be applied to it.
    """
    before = Draft(
        text=extracted.text,
        headings=tuple(extracted.headings),
        title=extracted.title or str(metadata["title"]),
        metadata=metadata,
        language=extracted.language,
    )
    unread = dropped_unread(ruleset, metadata)
    draft = replace(before, dropped_by=unread)
    for rule in ruleset.rules:
        if draft.dropped_by is not None:
            break
        draft = TYPES[rule.type].apply(rule.config, rule.name, draft)
        if draft.text is not before.text and not draft.text.strip() and before.text.strip():
            draft = replace(draft, dropped_by=rule.name)
    draft = _without_secrets(ruleset, draft)
    return Transformed(
        text=draft.text,
        headings=draft.headings,
        title=draft.title,
        language=draft.language,
        url=draft.url,
        project=draft.project,
        tags=draft.tags,
        dropped_by=draft.dropped_by,
        forget_original=_holds_secrets(ruleset, before, draft),
    )


def without_secrets(ruleset: Ruleset, extracted: Extracted) -> Extracted:
    """Return text, title and headings without what the redactions take away; the same object when there is nothing."""
    draft = Draft(extracted.text, tuple(extracted.headings), extracted.title or "", {}, language=extracted.language)
    before = draft
    for rule in ruleset.redactions:
        draft = TYPES[rule.type].apply(rule.config, rule.name, draft)
    draft = _without_secrets(ruleset, draft)
    if (draft.text, draft.title, draft.headings) == (before.text, before.title, before.headings):
        return extracted
    return replace(extracted, text=draft.text, title=draft.title, headings=draft.headings)


def _without_secrets(ruleset: Ruleset, draft: Draft) -> Draft:
    for rule in ruleset.redactions:
        words = partial(redacted_words, _redact_config(rule), rule.name, language=draft.language)
        headings = [replace(heading, text=words(heading.text)) for heading in draft.headings]
        draft = replace(
            draft,
            title=words(draft.title),
            headings=tuple(each for each in headings if stands_at(draft.text, each.offset, each.text)),
            url=words(draft.url) if draft.url else draft.url,
            project=words(draft.project) if draft.project else draft.project,
            tags=tuple(words(tag) for tag in draft.tags),
        )
    return draft


def _holds_secrets(ruleset: Ruleset, before: Draft, after: Draft) -> bool:
    """Return whether what was extracted holds what a redaction takes away, even where another rule removed it first."""
    for rule in ruleset.redactions:
        config = _redact_config(rule)
        if not config.forget_original:
            continue
        originals = (before.text, before.title, *(heading.text for heading in before.headings))
        if any(redacted_words(config, rule.name, each, language=before.language) != each for each in originals):
            return True
    return False


def _redact_config(rule: Rule) -> configs.Redact:
    if not isinstance(rule.config, configs.Redact):
        raise AssertionError(f"{rule.type} redacts nothing")
    return rule.config


def _json(config: Mapping[str, Any]) -> str:
    import json

    return json.dumps(dict(config))


def _told(error: Any) -> str:
    place = ".".join(str(part) for part in error["loc"])
    message = str(error["msg"]).removeprefix("Value error, ")
    return f"{place}: {message}" if place else message
