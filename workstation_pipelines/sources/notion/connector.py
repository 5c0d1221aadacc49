"""Notion, API version 2026-03-11: the pages and database rows that are shared with one connection.

Notion keeps no change feed. A full listing unites search, the rows of each data source and the children that pages hold,
since search is documented not to be exhaustive; a known page that none of them shows is asked for by itself before it
counts as gone. A window lists again what was edited since the last pass began, ten minutes earlier to be sure, and what is
in the trash. What is unshared, deleted for good, or comes into view unedited is found by the daily full listing only.

- `last_edited_time` is rounded down to the minute: see stamp.py for edits within the same one.
- An answer of HTTP 200 may be cut off after 10,000 results, which only `request_status` tells: see calls.py.
- An unedited parent may have edited children and the other way round, so that listing never follows the tree.
- Addresses of files are signed anew in each answer and expire: no such address gets into a text or a hash.
- Content that other programs edit through Notion's API may keep its time (seen by others, undocumented): it is noticed with
  the page's next edit. Comments are not read.

Sources: developers.notion.com/reference (search-optimizations-and-limitations, request-limits, status-codes,
retrieve-page-markdown) and /guides/data-apis/query-large-data-sources, all seen 2026-11-22.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import timedelta
from hashlib import blake2b
from typing import Any, ClassVar
from uuid import UUID

from pydantic import field_validator

from workstation_pipelines.errors import (
    CursorExpiredError,
    InvalidRequestError,
    ItemTooLargeError,
    ReauthorizeError,
    SkipItemError,
    UnexpectedReplyError,
    UnsupportedContentError,
)
from workstation_pipelines.model import Content, Cursor, Delta, Item, JobType, Page, SourceType
from workstation_pipelines.sources import SourceContext
from workstation_pipelines.sources.config import VendorConfig
from workstation_pipelines.sources.contract import Account, Known
from workstation_pipelines.sources.credentials import CredentialProvider, OAuthGrant
from workstation_pipelines.sources.http import Call, VendorApi
from workstation_pipelines.sources.notion.calls import CALLS, MARKDOWN, MOST_RESULTS, NotionCalls
from workstation_pipelines.sources.notion.errors import classifier
from workstation_pipelines.sources.notion.intake import Intake
from workstation_pipelines.sources.notion.listing import Listing
from workstation_pipelines.sources.notion.memory import Memory
from workstation_pipelines.sources.notion.objects import mappings, moment, same_id
from workstation_pipelines.sources.notion.places import Places
from workstation_pipelines.sources.notion.reading import Reader
from workstation_pipelines.sources.notion.stamp import stamp
from workstation_pipelines.sources.notion.window import Window, position

DEFAULT_API_URL = "https://api.notion.com"
NOTION_VERSION = "2026-03-11"

OAUTH = OAuthGrant(
    authorize_url="https://api.notion.com/v1/oauth/authorize",
    token_url="https://api.notion.com/v1/oauth/token",  # noqa: S106 - an address
    scopes=(),  # Notion has none: the user picks pages, the connection's owner its capabilities
    authorize_params=(("owner", "user"),),
    client_auth="client_secret_basic",
    uses_pkce=False,
    rotates=True,
    sends_json=True,
)

RECONCILE_EVERY = timedelta(days=1)
"""How long what was unshared or deleted for good may stay here: no window shows it."""

PROBE_EVERY = timedelta(hours=1)
"""The trash does not show in a probe, so that its answer changes by itself after so long."""


class NotionConfig(VendorConfig):
    """Ids as Notion writes them, with or without dashes; with none of them everything that is shared is in scope."""

    pages: tuple[str, ...] = ()
    """These pages, with everything below them."""

    databases: tuple[str, ...] = ()
    """The rows of all data sources of these databases, with everything below them."""

    data_sources: tuple[str, ...] = ()
    """The rows of these data sources, with everything below them."""

    @field_validator("pages", "databases", "data_sources")
    @classmethod
    def _ids(cls, ids: tuple[str, ...]) -> tuple[str, ...]:
        try:
            return tuple(sorted({str(UUID(external_id)) for external_id in ids}))
        except ValueError:
            raise ValueError("takes ids of 32 hexadecimal digits: the last part of a page's address") from None

    def roots(self) -> dict[str, tuple[str, ...]]:
        return {"page": self.pages, "database": self.databases, "data_source": self.data_sources}


class Notion:
    """The source `notion`; `config` is a NotionConfig."""

    source_type: ClassVar[SourceType] = SourceType.NOTION
    delta: ClassVar[Delta] = Delta.WINDOW
    proves_absence: ClassVar[bool] = False
    page_size: ClassVar[int] = MOST_RESULTS
    fetch_threads: ClassVar[int] = 3  # enough for 3 requests a second of a second each
    oauth: ClassVar[OAuthGrant] = OAUTH
    calls: ClassVar[tuple[Call, ...]] = CALLS
    default_urls: ClassVar[Mapping[str, str]] = {"api": DEFAULT_API_URL}

    def __init__(self, config: NotionConfig, context: SourceContext, credentials: CredentialProvider) -> None:
        self._config = config
        self._clock = context.clock
        self._new_id = context.new_id
        self._has_text = context.has_text
        self._credentials = credentials
        self._api = VendorApi(
            provider=self.source_type.value,
            account=context.account,
            urls={**self.default_urls, **context.urls},
            calls=self.calls,
            credentials=credentials,
            pacer=context.pacer,
            clock=context.clock,
            classify=classifier(context.clock),
            headers={"Notion-Version": NOTION_VERSION},
            rates=context.rates,
        )
        self._notion = NotionCalls(self._api)
        self._memory = Memory()
        self._reader = Reader(self._notion, self._memory, self._clock, limit_bytes=config.max_file_bytes)

    @classmethod
    def open(cls, config: Mapping[str, Any], context: SourceContext) -> Notion:
        """Contact nobody. Raises InvalidRequestError, and ReauthorizeError for a source that is not connected."""
        parsed = NotionConfig.parse(config)
        if context.credentials is None:
            raise ReauthorizeError("Notion is not connected; connect it: `workstation source connect NAME`")
        return cls(parsed, context, context.credentials)

    @property
    def scope(self) -> str:
        return self._config.scope()

    @property
    def reconcile_every(self) -> timedelta | None:
        return self._config.reconciled_every(RECONCILE_EVERY)

    @property
    def provider_calls(self) -> int:
        return self._api.provider_calls

    @staticmethod
    def same_content(old_hash: str, new_hash: str) -> bool:
        """Whether both are of the same minute, and neither of a reading that the minute might have outlasted."""
        return old_hash == new_hash

    def check(self) -> Account:
        me = self._notion.me()
        bot = me.get("bot")
        bot = bot if isinstance(bot, Mapping) else {}
        if not isinstance(me.get("id"), str):
            raise UnexpectedReplyError("notion me: the answer has no `id`", wait_s=60)
        workspace = _text(bot.get("workspace_name")) or "a workspace"
        self._refuse_unknown_roots()
        newest = self._notion.newest("page")
        return Account(
            external_account=_text(bot.get("workspace_id")) or me["id"],
            label=f"{workspace} ({_text(me.get('name')) or 'connection'})",
            details={"bot_id": me["id"]},
            scopes=sorted(self._credentials.scopes()),
            sample="at least one page is shared with this connection"
            if newest
            else "nothing is shared with this connection: open a page in Notion and add it under ••• > Connections",
        )

    def probe(self, since: str | None, cursor: Cursor | None) -> str:
        """Digest what was edited last. While that may still be edited within the same minute, and each hour, it differs."""
        now = self._clock()
        parts = [str(int(now.timestamp() // PROBE_EVERY.total_seconds()))]
        for newest in mappings(self._notion.newest(None)):
            edited_at = _text(newest.get("last_edited_time"))
            parts += [_text(newest.get("id")), stamp(edited_at, moment(edited_at), now)]
        return blake2b("\n".join(parts).encode("utf-8", "replace"), digest_size=12).hexdigest()

    def start_cursor(self) -> Cursor | None:
        """The time of the last edit so far, on Notion's clock: whatever is edited from now on has this one or a later."""
        edits = (moment(newest.get("last_edited_time")) for newest in mappings(self._notion.newest("page")))
        return position(next(edits, None))

    def pages(self, cursor: Cursor | None, known: Known, job_type: JobType) -> Iterator[Page]:
        """List what changed or everything; see the contract, and listing.py and window.py for the order."""
        if cursor is not None and cursor.get("v") != 1:
            raise CursorExpiredError("notion: this cursor was made by another version: list everything once")
        sweep = cursor.get("sweep") if cursor is not None else str(self._new_id())
        roots = self._config.roots()
        chosen = frozenset(external_id for ids in roots.values() for external_id in ids)
        places = Places(
            self._notion,
            self._memory,
            known.containers(),
            roots=chosen,
            sweep=str(sweep) if sweep is not None else None,
        )
        intake = Intake(self._notion, places, self._memory, self._clock)
        if sweep is not None:
            listing = Listing(self._notion, intake, places, self._memory, known, roots=roots, sweep=str(sweep))
            yield from listing.pages(cursor or {})
            return
        after = moment(cursor.get("after")) if cursor is not None else None
        yield from Window(self._notion, intake, places, self._memory, known, after=after).pages()

    def fetch_calls(self, item: Item) -> tuple[Call, ...]:
        is_read = self._has_text(item.mime_type) and item.size_bytes <= self._config.max_file_bytes
        return (MARKDOWN,) if is_read else ()

    def fetch(self, item: Item) -> Content:
        if not self._has_text(item.mime_type):
            raise UnsupportedContentError(
                f"notion: nothing here reads {item.mime_type}, which pages are", reason="unsupported"
            )
        if item.size_bytes > self._config.max_file_bytes:
            raise ItemTooLargeError(
                f"notion: page {item.external_id} has {item.size_bytes} bytes, above `max_file_bytes` ="
                f" {self._config.max_file_bytes}: raise that, or leave it out",
                reason="too_large",
            )
        return self._reader.read(item)

    def close(self) -> None:
        self._api.close()

    def _refuse_unknown_roots(self) -> None:
        ask = {"page": self._notion.page, "database": self._notion.database, "data_source": self._notion.data_source}
        for kind, ids in self._config.roots().items():
            for external_id in ids:
                try:
                    ask[kind](same_id(external_id))
                except SkipItemError as error:
                    raise InvalidRequestError(
                        f"the {kind.replace('_', ' ')} {external_id} cannot be seen by this connection: share it with the"
                        " connection in Notion, or take it out of the settings"
                    ) from error


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
