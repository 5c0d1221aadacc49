"""Documents that belong to no data source: extracted, cut, embedded and stored like any other, found again by their origin."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from hashlib import md5
from uuid import UUID

from sqlalchemy import Connection

from workstation_pipelines.db import documents, index_settings, library, origins, vectors
from workstation_pipelines.db.documents import DocumentWrite
from workstation_pipelines.db.engine import Database
from workstation_pipelines.db.filing import Filing, file
from workstation_pipelines.db.origins import StoredOrigin
from workstation_pipelines.db.rulings import FILTERED, Ruling
from workstation_pipelines.db.wire import TsvectorPacker
from workstation_pipelines.errors import FilteredError, RetryableError, SkipItemError, UnreadableContentError
from workstation_pipelines.index.contract import Extractor
from workstation_pipelines.model import Attachment, Content, DocumentId, Extracted, NewId, Usage, UserId
from workstation_pipelines.sync.intake import storable
from workstation_pipelines.sync.prepare import MOST_NESTING
from workstation_pipelines.sync.processed import item_of, own_title, path_of
from workstation_pipelines.sync.rules import SourceRules
from workstation_pipelines.sync.subjects import Read
from workstation_pipelines.sync.vectorize import Cut, Vectorized, Vectorizer, content_hash
from workstation_pipelines.text.lexemes import lexer_for


@dataclass(frozen=True, slots=True)
class Labels:
    """What every document gets besides its text. A project of None leaves documents where they are."""

    project_id: UUID | None = None
    tags: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class _Piece:
    """One text: the subject's own, under the key "", or that of something inside it.

    `cuts` of None: it is stored so; then `is_redescribed` tells that what describes it is new.
    """

    key: str
    document_id: DocumentId
    stored: StoredOrigin | None
    title: str
    mime_type: str
    size_bytes: int
    extracted: Extracted
    digest: str
    external_url: str | None
    ruling: Ruling | None
    cuts: Sequence[Cut] | None = None
    is_redescribed: bool = False

    @property
    def is_new(self) -> bool:
        return self.cuts is not None or self.is_redescribed


@dataclass(frozen=True, slots=True)
class Prepared:
    """A subject with all that is new in it cut, before it has vectors. `stored` is what was known of its origin.

    `left_out` says why what is inside is not taken; `filtered` of that are documents that a rule leaves out now.

    `using` cuts and embeds under the index config that is wanted for it.
    """

    read: Read
    pieces: Sequence[_Piece]
    stored: Sequence[StoredOrigin]
    using: Vectorizer
    left_out: Sequence[str] = ()
    filtered: Sequence[DocumentId] = ()

    @property
    def document_id(self) -> DocumentId:
        return self.pieces[0].document_id

    @property
    def title(self) -> str:
        return self.pieces[0].title

    @property
    def is_new(self) -> bool:
        return not self.stored

    @property
    def is_unchanged(self) -> bool:
        """Whether nothing of it need be written."""
        return not any(piece.is_new for piece in self.pieces) and not self.vanished

    @property
    def vanished(self) -> list[DocumentId]:
        """What was inside before, and is not now."""
        kept = {piece.document_id for piece in self.pieces}
        return [each.document_id for each in self.stored if each.document_id not in kept and not each.is_deleted]


def _is_stored(piece: _Piece, stored: StoredOrigin, using: Vectorizer) -> bool:
    original = piece.ruling.original.text if piece.ruling is not None and piece.ruling.original is not None else None
    return (
        stored.content_hash,
        stored.index_config_id,
        stored.rules_hash,
        stored.is_original_forgotten,
        stored.original_md5,
    ) == (
        piece.digest,
        using.config.id,
        piece.ruling.rules_hash if piece.ruling is not None else "",
        piece.ruling.is_forgotten if piece.ruling is not None else False,
        md5(original.encode(), usedforsecurity=False).hexdigest() if original is not None else None,
    )


def _is_described_anew(piece: _Piece, stored: StoredOrigin) -> bool:
    return (piece.title, piece.external_url) != (stored.title, stored.external_url)


class StandaloneDocuments:
    """Prepares and stores documents of one user. Thread-safe; nothing is held open between two calls."""

    def __init__(
        self, *, database: Database, user_id: UserId, extractor: Extractor, vectorizer: Vectorizer, new_id: NewId
    ) -> None:
        self.rules = SourceRules(None, source_name="", source_type=None)
        self._database = database
        self._user_id = user_id
        self._extractor = extractor
        self._vectorizer = vectorizer
        self._new_id = new_id
        self._packer = TsvectorPacker()

    def extract(self, read: Read) -> tuple[list[tuple[str, Content, Extracted]], list[str]]:
        """Return the texts of a subject by key, its own first, and why others inside were left out.

        Raises SkipItemError when the subject itself has none.
        """
        texts = [("", read.content, self._extractor.extract(read.content))]
        left_out: list[str] = []
        level = [("", child) for child in texts[0][2].children]
        for _ in range(MOST_NESTING):
            found = list(self._inside(level, left_out))
            texts += found
            level = [(f"{key}/", child) for key, _, extracted in found for child in extracted.children]
        return texts, left_out

    def prepare(self, read: Read, texts: Sequence[tuple[str, Content, Extracted]]) -> Prepared:
        """Cut what is not stored like this already. Raises SkipItemError, RetryableError."""
        with self._database.transaction_with_rls(self._user_id) as connection:
            stored = origins.find(connection, user_id=self._user_id, origin=read.origin)
            wanted = index_settings.of_documents(
                connection, user_id=self._user_id, document_ids=[each.document_id for each in stored[:1]]
            )
        using = self._vectorizer.of(wanted.get(stored[0].document_id) if stored else None)
        root_id = stored[0].document_id if stored else DocumentId(self._new_id())
        known = {each.origin: each for each in stored}
        pieces: list[_Piece] = []
        left_out: list[str] = []
        filtered: list[DocumentId] = []
        outer_title = own_title(texts[0][2].title, read.title)
        for key, content, text in texts:
            try:
                pieces.append(self._piece(using, read, root_id, known, key, content, text, outer_title))
            except SkipItemError as problem:
                if not key:
                    raise
                left_out.append(problem.message)
                before = known.get(origins.inside_of(root_id, key))
                if isinstance(problem, FilteredError) and before is not None:
                    filtered.append(before.document_id)
        if pieces[0].cuts is not None and not pieces[0].cuts:
            raise UnreadableContentError(
                f"{read.content.name}: nothing in its text can be searched for: open it and look", reason="no_text"
            )
        return Prepared(
            read, [piece for piece in pieces if piece.cuts is None or piece.cuts], stored, using, left_out, filtered
        )

    def vectorize(self, prepared: Prepared) -> Vectorized:
        """Return the vectors of what was cut. Raises RetryableError, InvalidRequestError: for this subject as for any."""
        cuts = (cut for piece in prepared.pieces for cut in piece.cuts or ())
        return prepared.using.vectorize(cuts, partial(self._embedded_before, prepared.using))

    def tokens(self, prepared: Prepared) -> int:
        """Return how many tokens are to be embedded for what was cut."""
        wanted = {cut.text_hash: cut.chunk.token_count for piece in prepared.pieces for cut in piece.cuts or ()}
        return sum(wanted[key] for key in wanted.keys() - self._embedded_before(prepared.using, wanted).keys())

    def usages(self, prepared: Prepared, vectorized: Vectorized, *, job_id: UUID) -> list[Usage]:
        """Return what the vectors are to be billed."""
        cuts = ((piece.document_id, piece.cuts or ()) for piece in prepared.pieces)
        tokens = vectorized.tokens_by_document(cuts)
        return prepared.using.usages(tokens, data_source_id=None, job_id=job_id)

    def store(self, connection: Connection, prepared: Prepared, vectorized: Vectorized, labels: Labels) -> bool:
        """Store what is new, in the caller's transaction; False when another process has stored this origin meanwhile.

        Then nothing is written, and it is to be prepared again.
        """
        user_id, read = self._user_id, prepared.read
        origins.lock(connection, user_id=user_id, origin=read.origin)
        if origins.find(connection, user_id=user_id, origin=read.origin) != list(prepared.stored):
            return False
        documents.store(
            connection,
            user_id=user_id,
            data_source_id=None,
            project_id=labels.project_id,
            writes=[self._write(prepared, piece, vectorized) for piece in prepared.pieces if piece.is_new],
            packer=self._packer,
        )
        for piece in prepared.pieces:
            if piece.stored is None:
                origin = read.origin if not piece.key else origins.inside_of(prepared.document_id, piece.key)
                parent = prepared.document_id if piece.key else None
                origins.assign(
                    connection, user_id=user_id, document_id=piece.document_id, origin=origin, parent_document_id=parent
                )
        file(
            connection,
            user_id=user_id,
            default_project=labels.project_id,
            filings=[
                Filing(piece.document_id, piece.ruling.project, piece.ruling.tags)
                for piece in prepared.pieces
                if piece.cuts is not None and piece.ruling is not None
            ],
            new_id=self._new_id,
        )
        filtered = [each for each in prepared.vanished if each in prepared.filtered]
        documents.tombstone(connection, user_id=user_id, document_ids=filtered, reason=FILTERED)
        documents.tombstone(connection, user_id=user_id, document_ids=prepared.vanished)
        self._label(connection, [piece.document_id for piece in prepared.pieces], labels)
        return True

    def drop(self, connection: Connection, read: Read, *, reason: str = "") -> DocumentId | None:
        """Hide the documents of an origin that has no text any more, in the caller's transaction; return the first's id."""
        stored = origins.find(connection, user_id=self._user_id, origin=read.origin)
        live = [each.document_id for each in stored if not each.is_deleted]
        documents.tombstone(connection, user_id=self._user_id, document_ids=live, reason=reason)
        return stored[0].document_id if stored else None

    def _inside(
        self, children: Sequence[tuple[str, Attachment]], left_out: list[str]
    ) -> Iterator[tuple[str, Content, Extracted]]:
        for prefix, child in children:
            content = Content(child.body, storable(child.name), storable(child.mime_type), "")
            try:
                yield prefix + storable(child.key), content, self._extractor.extract(content)
            except (SkipItemError, RetryableError) as error:
                left_out.append(error.message)

    def _piece(
        self,
        using: Vectorizer,
        read: Read,
        root_id: DocumentId,
        known: Mapping[str, StoredOrigin],
        key: str,
        content: Content,
        extracted: Extracted,
        outer_title: str,
    ) -> _Piece:
        stored = known.get(origins.inside_of(root_id, key) if key else read.origin)
        new_id = root_id if not key else DocumentId(self._new_id())
        title = read.title if not key else content.name.rpartition(".")[0] or content.name
        titled = replace(extracted, title=own_title(extracted.title, title))
        mime_type = storable(extracted.mime_type or content.mime_type)
        item = item_of(
            read.origin if not key else origins.inside_of(root_id, key),
            title=titled.title or "",
            mime_type=mime_type,
            size_bytes=len(content.body),
            modified_at=read.modified_at,
            external_url=read.external_url,
            parent_path=path_of(read.origin, outer_title) if key else None,
        )
        ruled = self.rules.apply(item, titled, had_rules=stored is not None and bool(stored.rules_hash))
        piece = _Piece(
            key=key,
            document_id=stored.document_id if stored is not None else new_id,
            stored=stored,
            title=ruled.title,
            mime_type=mime_type,
            size_bytes=len(content.body),
            extracted=ruled.extracted,
            digest=content_hash(ruled.extracted.text),
            external_url=ruled.url,
            ruling=ruled.ruling,
        )
        is_retyped = read.is_described and stored is not None and stored.mime_type != mime_type
        if stored is not None and not stored.is_deleted and not is_retyped and _is_stored(piece, stored, using):
            return replace(piece, is_redescribed=read.is_described and _is_described_anew(piece, stored))
        return replace(piece, cuts=using.cut(ruled.extracted.text, ruled.extracted.headings, ruled.extracted.language))

    def _write(self, prepared: Prepared, piece: _Piece, vectorized: Vectorized) -> DocumentWrite:
        read = prepared.read
        return DocumentWrite(
            id=piece.document_id,
            is_new=piece.stored is None,
            title=piece.title,
            title_lexemes=lexer_for(None).counted(piece.title),
            mime_type=piece.mime_type,
            external_url=piece.external_url,
            size_bytes=piece.size_bytes,
            ruling=piece.ruling,
            source_created_at=None,
            source_modified_at=read.modified_at,
            content_hash=piece.digest,
            language=piece.extracted.language,
            text=piece.extracted.text,
            headings=piece.extracted.headings,
            generation=(piece.stored.live_generation if piece.stored is not None else 0) + 1,
            index_config_id=prepared.using.config.id,
            chunks=None if piece.cuts is None else vectorized.chunks(piece.cuts),
        )

    def _label(self, connection: Connection, document_ids: Sequence[DocumentId], labels: Labels) -> None:
        user_id = self._user_id
        for document_id in document_ids if labels.project_id is not None else ():
            library.assign(connection, user_id=user_id, document_id=document_id, project=labels.project_id)
        for name in sorted(
            set(labels.tags)
        ):  # in one order, so that two documents do not wait for each other in a ring
            tag_id = library.ensure_tag(connection, user_id=user_id, name=name, new_id=self._new_id)
            for document_id in document_ids:
                library.tag(connection, user_id=user_id, document_id=document_id, tag_id=tag_id)

    def _embedded_before(self, using: Vectorizer, hashes: Iterable[bytes]) -> Mapping[bytes, bytes]:
        with self._database.transaction_with_rls(self._user_id) as connection:
            return vectors.embedded_before(
                connection, user_id=self._user_id, index_config_id=using.config.id, text_hashes=hashes
            )
