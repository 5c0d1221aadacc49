"""The rules of one data source, as a sync applies them to what it reads and to what is stored."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING
from uuid import UUID

from sqlalchemy import Connection

from workstation_pipelines.db import data_sources, transformations
from workstation_pipelines.db.rulings import Original, Ruling
from workstation_pipelines.errors import FilteredError, SkipItemError
from workstation_pipelines.model import Extracted, Item, ItemFailure, SourceType, UserId
from workstation_pipelines.sync.delta import document_title
from workstation_pipelines.sync.intake import storable, storable_title

if TYPE_CHECKING:
    from workstation_pipelines.text.rules.expressions import Metadata
    from workstation_pipelines.text.rules.ruleset import Ruleset, Transformed

UNKNOWN_NAME = "(a redaction failed on this name)"

TIMED_OUT = "rule_timeout"
MOST_TIMEOUTS = 20
"""After so many documents on which a rule took too long, the others of a run fail without being tried."""


@dataclass(frozen=True, slots=True)
class Ruled:
    """What is stored of an item: its text as the rules left it, its title and URL, and the ruling beside them.

    `ruling` is None when there are no rules, and the document was never under any.
    """

    extracted: Extracted
    title: str
    url: str | None
    ruling: Ruling | None


class SourceRules:
    """The active rules of a source at one moment. Without any, everything is passed on as it is, at no cost."""

    def __init__(self, ruleset: Ruleset | None, *, source_name: str, source_type: SourceType | None) -> None:
        self._ruleset = ruleset
        self._source_name = source_name
        self._source_type = source_type
        self._timeouts = 0
        self._gave_up: SkipItemError | None = None

    @property
    def hash(self) -> str:
        return self._ruleset.hash if self._ruleset is not None else ""

    @property
    def redacts(self) -> bool:
        return self._ruleset is not None and bool(self._ruleset.redactions)

    def left_out(self, item: Item) -> FilteredError | None:
        """Return why an item is left out whatever its content is. Raises UnreadableContentError for a rule that fails."""
        if self._ruleset is None:
            return None
        from workstation_pipelines.text.rules import ruleset

        rule = ruleset.dropped_unread(self._ruleset, self._metadata(item))
        return _filtered(rule) if rule is not None else None

    def apply(self, item: Item, extracted: Extracted, *, had_rules: bool) -> Ruled:
        """Apply the rules to what was read of an item.

        `had_rules` tells that its document was made under some. Raises FilteredError when one leaves it out, and
        UnreadableContentError when one cannot be applied.
        """
        if self._ruleset is None:
            ruling = Ruling("", extracted.language, extracted.headings) if had_rules else None
            return Ruled(extracted, document_title(item, None, extracted.title), item.external_url, ruling)
        made = self._made(item, extracted)
        if made.dropped_by is not None:
            raise _filtered(made.dropped_by)
        ruling = Ruling(
            rules_hash=self._ruleset.hash,
            language=made.language,
            headings=made.headings,
            original=None if made.forget_original else _original(extracted, made),
            is_forgotten=made.forget_original,
            project=storable(made.project) if made.project else None,
            tags=[storable(tag) for tag in made.tags],
        )
        text = replace(extracted, text=made.text, headings=made.headings, language=made.language)
        url = storable(made.url) if made.url else item.external_url
        return Ruled(text, storable_title(made.title), url, ruling)

    def transformed(self, item: Item, extracted: Extracted) -> Transformed:
        """Return what the rules make of an item, left out or not. Raises UnreadableContentError as apply() does."""
        from workstation_pipelines.text.rules import ruleset

        return ruleset.apply(self._ruleset or ruleset.NO_RULES, extracted, self._metadata(item))

    def _made(self, item: Item, extracted: Extracted) -> Transformed:
        if self._gave_up is not None:
            raise self._gave_up
        try:
            return self.transformed(item, extracted)
        except SkipItemError as error:
            if error.reason == TIMED_OUT:
                self._timeouts += 1
                if self._timeouts >= MOST_TIMEOUTS:  # a pattern that is slow on so many is not tried on all the others
                    self._gave_up = error
            raise

    def without_secrets(self, extracted: Extracted) -> Extracted:
        """Return a text and its title without what the redactions take away, whatever other rules say of it.

        The same object when there is nothing to take. Raises UnreadableContentError when one cannot be applied.
        """
        if self._ruleset is None:
            return extracted
        from workstation_pipelines.text.rules import ruleset

        return ruleset.without_secrets(self._ruleset, extracted)

    def shown(self, item: Item) -> Item:
        """Return the item with names as they may be stored; the same object when nothing is to be taken from them."""
        if not self.redacts:
            return item
        title, path = self.shown_words(item.title), self.shown_path(item.external_path)
        if (title, path) == (item.title, item.external_path):
            return item
        return replace(item, title=title, external_path=path)

    def shown_failure(self, failure: ItemFailure) -> ItemFailure:
        return replace(failure, external_path=self.shown_path(failure.external_path)) if self.redacts else failure

    def shown_words(self, words: str) -> str:
        """Return a title or path without what the redactions take away; nothing of it when one cannot be applied."""
        if not self.redacts or self._ruleset is None:
            return words
        try:
            return self._ruleset.redacted(words)
        except SkipItemError:
            return UNKNOWN_NAME

    def shown_path(self, path: str) -> str:
        # There a path is all by which a file is found again.
        return path if self._source_type in (None, SourceType.LOCAL_FOLDER) else self.shown_words(path)

    def _metadata(self, item: Item) -> Metadata:
        from workstation_pipelines.text.rules.expressions import metadata_of

        return metadata_of(item, source_name=self._source_name, source_type=self._source_type or "")


NO_RULES = SourceRules(None, source_name="", source_type=SourceType.LOCAL_FOLDER)


def load(connection: Connection, *, user_id: UserId, data_source_id: UUID) -> SourceRules:
    """Return the rules that a source has now. Raises InvalidRequestError for a stored rule that is no longer understood."""
    source = data_sources.get(connection, user_id=user_id, data_source_id=data_source_id)
    rules_hash, rows = transformations.effective(connection, user_id=user_id, data_source_id=data_source_id)
    if not rows:
        return SourceRules(None, source_name=source.name, source_type=source.source_type)
    from workstation_pipelines.text.rules.ruleset import Ruleset, parse

    rules = [parse(row.name, row.transformation_type, row.config) for row in rows]
    return SourceRules(Ruleset(rules, rules_hash), source_name=source.name, source_type=source.source_type)


def load_processed(connection: Connection, *, user_id: UserId) -> SourceRules:
    """Return the rules of documents that are of no source: those for all that a user has."""
    rules_hash, rows = transformations.for_everything(connection, user_id=user_id)
    if not rows:
        return SourceRules(None, source_name="", source_type=None)
    from workstation_pipelines.text.rules.ruleset import Ruleset, parse

    rules = [parse(row.name, row.transformation_type, row.config) for row in rows]
    return SourceRules(Ruleset(rules, rules_hash), source_name="", source_type=None)


def _filtered(rule: str) -> FilteredError:
    return FilteredError(f"the rule {rule!r} leaves it out: `workstation transform show` tells what it does", rule=rule)


def _original(extracted: Extracted, made: Transformed) -> Original:
    return Original(
        title=storable_title(extracted.title) if extracted.title else None,
        language=extracted.language,
        text=extracted.text if extracted.text != made.text else None,
        headings=extracted.headings if tuple(extracted.headings) != tuple(made.headings) else None,
    )
