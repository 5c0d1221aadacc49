"""Looks into a few items as a sync would: fetched, extracted and cut, and nothing written."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from workstation_pipelines.db import documents, metering, vectors
from workstation_pipelines.db.engine import Database
from workstation_pipelines.errors import RetryableError, SkipItemError
from workstation_pipelines.index.contract import Extractor
from workstation_pipelines.model import Attachment, Content, Item, UserId
from workstation_pipelines.sources.contract import Source
from workstation_pipelines.sync.estimate import (
    SAMPLED_ITEMS,
    Candidates,
    Sampled,
    StoredRatio,
    StratumKey,
    is_enough,
    pilots,
    shares,
)
from workstation_pipelines.sync.prepare import MOST_NESTING
from workstation_pipelines.sync.vectorize import Cut, Vectorizer

_WORDS = " ".join(f"word {number} of a text that only takes time" for number in range(200))


@dataclass(frozen=True, slots=True)
class Sampler:
    """What looking into items takes. `most_items` of 0 looks into none: what is stored has to do."""

    database: Database
    user_id: UserId
    extractor: Extractor
    vectorizer: Vectorizer
    most_items: int = SAMPLED_ITEMS

    def stored_ratios(self) -> dict[str, StoredRatio]:
        """Return tokens and bytes of stored documents by MIME type."""
        with self.database.transaction_with_rls(self.user_id) as connection:
            rows = documents.token_ratios(connection, user_id=self.user_id)
        return {row.mime_type: StoredRatio(row.documents, row.size_bytes, row.tokens) for row in rows}

    def look(self, source: Source, candidates: Candidates, stored: Mapping[str, StoredRatio]) -> list[Sampled]:
        """Look into some candidates of which the stored documents say too little. Raises ReauthorizeError."""
        strata = {
            key: stratum
            for key, stratum in candidates.strata.items()
            # An edited document has most of its texts embedded already, which no other document tells.
            if key.is_update or not is_enough(stored.get(key.mime_type))
        }
        chosen = {key: stratum.chosen() for key, stratum in strata.items()}
        first = [(key, chosen[key].pop(0)) for key in pilots(strata, at_most=self.most_items)]
        seen: set[bytes] = set()
        piloted = list(self._look_into(source, first, seen))
        given = shares(strata, piloted, at_most=self.most_items - len(first))
        rest = [(key, each) for key, count in given.items() for each in chosen[key][:count]]
        return [*piloted, *self._look_into(source, rest, seen)]

    def tokens_per_s(self) -> float | None:
        """Return how quickly this user's texts were embedded so far, else how quickly a few words are where that is free."""
        with self.database.transaction_with_rls(self.user_id) as connection:
            rows = metering.metrics(connection, user_id=self.user_id)
        sums = {(row.step, row.name): row.total for row in rows}
        tokens, seconds = sums.get(("embed", metering.SPENT_TOKENS), 0.0), sums.get(("embed", "duration_s"), 0.0)
        return tokens / seconds if tokens and seconds else self._timed()

    def _timed(self) -> float | None:
        if self.vectorizer.token_price != Decimal(0) or not self.most_items:
            return None
        cuts = self.vectorizer.cut(_WORDS, [], None)
        self.vectorizer.embed({cuts[0].text_hash: cuts[0].chunk.text})  # loads the model
        begun_s = time.perf_counter()
        self.vectorizer.embed({cut.text_hash: cut.chunk.text for cut in cuts})
        return sum(cut.chunk.token_count for cut in cuts) / max(time.perf_counter() - begun_s, 1e-6)

    def _look_into(
        self, source: Source, chosen: Sequence[tuple[StratumKey, tuple[Item, Content | None]]], seen: set[bytes]
    ) -> Iterator[Sampled]:
        for key, (item, listed) in chosen:
            calls, begun_s = source.provider_calls, time.perf_counter()
            try:
                content = listed or source.fetch(item)
            except SkipItemError:
                content = None
            except RetryableError:
                continue  # says nothing of what it holds
            fetch_s = time.perf_counter() - begun_s
            cuts = list(self._cuts(content, 0)) if content is not None else []
            extract_s = time.perf_counter() - begun_s - fetch_s
            new = self._new(cuts, seen)
            yield Sampled(
                key=key,
                weight=1.0 if key.is_update else float(max(len(listed.body) if listed else item.size_bytes, 1)),
                tokens=sum(new.values()),
                size_bytes=len(content.body) if content is not None else 0,
                fetch_s=fetch_s,
                extract_s=extract_s,
                calls=source.provider_calls - calls,
            )

    def _cuts(self, content: Content, depth: int) -> Iterator[Cut]:
        try:
            extracted = self.extractor.extract(content)
        except (SkipItemError, RetryableError):
            return
        yield from self.vectorizer.cut(extracted.text, extracted.headings, extracted.language)
        attachments: Sequence[Attachment] = [*content.attachments, *extracted.children]
        for attached in attachments if depth < MOST_NESTING else ():
            inner = Content(attached.body, attached.name, attached.mime_type, "")
            yield from self._cuts(inner, depth + 1)

    def _new(self, cuts: Sequence[Cut], seen: set[bytes]) -> dict[bytes, int]:
        """Return the tokens of texts that were neither embedded before nor met in the sample."""
        tokens = {cut.text_hash: cut.chunk.token_count for cut in cuts if cut.text_hash not in seen}
        seen |= tokens.keys()
        with self.database.transaction_with_rls(self.user_id) as connection:
            known = vectors.embedded_before(
                connection,
                user_id=self.user_id,
                index_config_id=self.vectorizer.config.id,
                text_hashes=tokens,
            )
        return {key: count for key, count in tokens.items() if key not in known}
