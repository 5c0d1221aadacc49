"""Texts that somebody saves: documents of their own, known by a key, found and ruled like any other of no data source.

A document is committed together with its bill. The same key updates the same document, so whoever was stopped half way
does it all again, and nothing comes out twice.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import partial
from uuid import UUID

from sqlalchemy import Connection

from workstation_pipelines.db import origins
from workstation_pipelines.db.engine import Database
from workstation_pipelines.db.rulings import FILTERED
from workstation_pipelines.errors import FilteredError, InvalidRequestError, SkipItemError, UnreadableContentError
from workstation_pipelines.model import Clock, Content, DocumentId, Extracted, NewId, Usage, UserId
from workstation_pipelines.sync import rules
from workstation_pipelines.sync.budget import Allowance, SharedAllowance
from workstation_pipelines.sync.faults import Faults
from workstation_pipelines.sync.intake import storable, storable_title
from workstation_pipelines.sync.standalone import Labels, StandaloneDocuments
from workstation_pipelines.sync.subjects import Read
from workstation_pipelines.sync.vectorize import Vectorizer
from workstation_pipelines.text.formats import plain
from workstation_pipelines.text.limits import ExtractionLimits

MARKDOWN, PLAIN = "text/markdown", "text/plain"

_READERS = {MARKDOWN: plain.read_markdown, PLAIN: plain.read}


class SaveOutcome(StrEnum):
    """`left_out`: a rule of the owner's says that there is to be no such document; one that there was is hidden."""

    CREATED = "created"
    UPDATED = "updated"
    UNCHANGED = "unchanged"
    LEFT_OUT = "left_out"


@dataclass(frozen=True, slots=True)
class TextToSave:
    """A text as somebody gives it. `key` is the user's own name for the document; no two documents have the same.

    `mime_type` is MARKDOWN or PLAIN. `project_id` of None leaves the document where it is; `tags` are added to those that
    it has.
    """

    key: str
    title: str
    text: str = field(repr=False)
    mime_type: str = MARKDOWN
    external_url: str | None = None
    project_id: UUID | None = None
    tags: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Saved:
    """What became of one text. `usages` are billed; `document_id` is None for what is left out and never was a document."""

    key: str
    outcome: SaveOutcome
    document_id: DocumentId | None
    title: str
    usages: Sequence[Usage] = ()


@dataclass(frozen=True, slots=True)
class SavingTerms:
    """On what terms whoever has texts saved has it done: which job pays, and how it stops.

    `transaction` opens the one that a document is stored in, and in which `bill` records what it has cost. `check` raises when
    the work is to end: it is asked before a text is embedded, and before it is stored.
    """

    user_id: UserId
    job_id: UUID
    transaction: Callable[[], AbstractContextManager[Connection]]
    bill: Callable[[Connection, Sequence[Usage]], object]
    check: Callable[[], object] = lambda: None


@dataclass(frozen=True, slots=True)
class SavingParts:
    """What saving works with; everything that differs between production and tests."""

    database: Database
    vectorizer: Vectorizer
    new_id: NewId
    clock: Clock
    faults: Faults = field(default_factory=Faults)
    after_commit: Callable[[], object] = lambda: None


def save_texts(parts: SavingParts, texts: Sequence[TextToSave], terms: SavingTerms) -> Generator[Saved, None, None]:
    """Store texts in order, each in a transaction of its own together with its bill; yields after each.

    Raises InvalidRequestError for a text that cannot be stored, BudgetReachedError and RetryableError; what was yielded
    before stays.
    """
    saver = _Saver(parts, terms)
    for text in texts:
        saved = saver.save(text)
        parts.faults.reach("text_committed")
        parts.after_commit()
        yield saved


class _Saver:
    def __init__(self, parts: SavingParts, terms: SavingTerms) -> None:
        self._parts = parts
        self._terms = terms
        user_id = terms.user_id
        self._documents = StandaloneDocuments(
            database=parts.database,
            user_id=user_id,
            extractor=_GivenText(),
            vectorizer=parts.vectorizer,
            new_id=parts.new_id,
        )
        with parts.database.transaction_with_rls(user_id) as connection:
            self._documents.rules = rules.load_processed(connection, user_id=user_id)
        self._allowance = SharedAllowance(
            Allowance(
                parts.database,
                user_id=user_id,
                data_source_id=None,
                token_price=parts.vectorizer.token_price,
                again="run it again",
            )
        )

    def save(self, text: TextToSave) -> Saved:
        read = self._read(text)
        try:
            return self._stored(text, read)
        except FilteredError:
            with self._parts.database.transaction_with_rls(self._terms.user_id) as connection:
                hidden = self._documents.drop(connection, read, reason=FILTERED)
            return Saved(text.key, SaveOutcome.LEFT_OUT, hidden, read.title)
        except SkipItemError as problem:
            raise InvalidRequestError(f"{read.title!r} cannot be saved: {problem.message}") from problem

    def _stored(self, text: TextToSave, read: Read) -> Saved:
        texts, _ = self._documents.extract(read)
        texts = [(key, content, replace(extracted, title=read.title)) for key, content, extracted in texts]
        labels = Labels(text.project_id, text.tags)
        while True:
            self._terms.check()
            prepared = self._documents.prepare(read, texts)
            with self._allowance.taking(partial(self._documents.tokens, prepared)):
                vectorized = self._documents.vectorize(prepared)
                self._terms.check()
                with self._terms.transaction() as connection:
                    if not self._documents.store(connection, prepared, vectorized, labels):
                        continue  # another has stored this key since it was looked up
                    usages = self._documents.usages(prepared, vectorized, job_id=self._terms.job_id)
                    self._terms.bill(connection, usages)
                    self._parts.faults.reach("text_before_commit")
            outcome = SaveOutcome.CREATED if prepared.is_new else SaveOutcome.UPDATED
            outcome = SaveOutcome.UNCHANGED if prepared.is_unchanged else outcome
            return Saved(text.key, outcome, prepared.document_id, prepared.title, usages)

    def _read(self, text: TextToSave) -> Read:
        if text.mime_type not in _READERS:
            raise InvalidRequestError(f"{text.mime_type!r} is not saved as text: use {MARKDOWN} or {PLAIN}")
        title = storable_title(text.title.strip()) or text.key
        return Read(
            origins.origin_of("saved", storable(text.key)),
            Content(text.text.encode("utf-8", "replace"), title, text.mime_type, ""),
            title,
            storable(text.external_url) if text.external_url else None,
            modified_at=self._parts.clock(),
            is_described=True,
        )


class _GivenText:
    """Takes a text for what it is said to be, whatever its first bytes look like."""

    def extract(self, content: Content) -> Extracted:
        extracted = _READERS[content.mime_type](content, ExtractionLimits())
        if not extracted.text or extracted.text.isspace():
            raise UnreadableContentError("its text is blank: give it some", reason="no_text")
        return replace(extracted, mime_type=content.mime_type)

    def is_inline(self, content: Content) -> bool:
        return True

    def close(self) -> None:
        pass
