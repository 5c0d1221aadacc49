"""Google Drive: My Drive, shared drives and what others share, by the Drive API v3 (discovery revision 20261106).

Read 2026-11-22: developers.google.com/workspace/drive/api, guides about-changes and about-changelogs, and the discovery
document's own words.

- Changes are the user's log and one log for each shared drive, in token spaces of their own; a move between logs looks
  like a removal, which `includeCorpusRemovals` tells apart. Positions are taken before anything is listed.
- An entry is the present state of a file, whatever its modifiedTime: uploads, restored and shared files may be years old.
- A folder that moves is one entry: paths below it are made anew here, and what newly lies in scope is listed.
- Docs, Sheets and Slides have no bytes and no checksum: they are exported, above 10 MB by the links that Drive gives.
- `version` counts what nobody can see, `corpora=allDrives` may leave files out, `modifiedTime` is set by uploaders.
- Shortcuts are no items: what they point to is indexed once, where it lies. Nothing is followed, so nothing can loop.
- Nothing promises an entry when something is unshared, so everything is listed once in 30 days.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, ClassVar

from workstation_pipelines.errors import (
    CursorExpiredError,
    InvalidRequestError,
    ReauthorizeError,
    SkipItemError,
)
from workstation_pipelines.model import Container, Content, Cursor, Delta, Item, ItemFailure, JobType, Page, SourceType
from workstation_pipelines.sources import SourceContext
from workstation_pipelines.sources.contract import Account, Known
from workstation_pipelines.sources.credentials import OAuthGrant
from workstation_pipelines.sources.google_drive import files
from workstation_pipelines.sources.google_drive.calls import CALLS, DriveCalls
from workstation_pipelines.sources.google_drive.content import UNKNOWN_TYPES, Contents
from workstation_pipelines.sources.google_drive.errors import classify
from workstation_pipelines.sources.google_drive.files import BadFieldError, DriveFile
from workstation_pipelines.sources.google_drive.listing import Reading, close_listing, list_due
from workstation_pipelines.sources.google_drive.logs import read_logs
from workstation_pipelines.sources.google_drive.places import (
    ROOT,
    GoogleDriveConfig,
    Places,
    drive_container,
    folder_container,
    root_container,
)
from workstation_pipelines.sources.google_drive.position import FOLDERS, USER, Listing, Position, drive_corpus
from workstation_pipelines.sources.http import Call, VendorApi

DEFAULT_API_URL = "https://www.googleapis.com"
DEFAULT_EXPORT_URL = "https://docs.google.com"
READ_SCOPE = "https://www.googleapis.com/auth/drive.readonly"

_WIDER_SCOPES = frozenset({"https://www.googleapis.com/auth/drive"})
_RECONCILE_EVERY = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class _Corpora:
    """What there is to read at this moment: what is listed, and the folders and shared drives known from the outset."""

    listed: tuple[str, ...]
    logs: tuple[str, ...]
    containers: tuple[Container, ...]
    failures: tuple[ItemFailure, ...]


class GoogleDrive:
    """The source `google_drive`; `config` is described in places.py."""

    source_type: ClassVar[SourceType] = SourceType.GOOGLE_DRIVE
    delta: ClassVar[Delta] = Delta.FEED
    proves_absence: ClassVar[bool] = False
    page_size: ClassVar[int] = 1000
    fetch_threads: ClassVar[int] = 12  # so that 50 requests a second are reached though each takes 240 ms
    oauth: ClassVar[OAuthGrant] = OAuthGrant(
        authorize_url="https://accounts.google.com/o/oauth2/v2/auth",
        token_url="https://oauth2.googleapis.com/token",  # noqa: S106 - an address
        scopes=(READ_SCOPE,),
        # Without `consent` Google gives a refresh token the first time only.
        authorize_params=(("access_type", "offline"), ("prompt", "consent")),
    )
    calls: ClassVar[tuple[Call, ...]] = CALLS
    default_urls: ClassVar[Mapping[str, str]] = {"api": DEFAULT_API_URL, "export": DEFAULT_EXPORT_URL}

    def __init__(self, config: GoogleDriveConfig, api: VendorApi, context: SourceContext) -> None:
        self._config = config
        self._api = api
        self._drive = DriveCalls(api)
        self._context = context
        self._corpora: _Corpora | None = None
        self._contents = Contents(
            api=api,
            calls=self._drive,
            has_text=context.has_text,
            detect=context.detect,
            max_file_bytes=config.max_file_bytes,
            urls=tuple({**self.default_urls, **context.urls}.values()),
        )

    @classmethod
    def open(cls, config: Mapping[str, Any], context: SourceContext) -> GoogleDrive:
        if context.credentials is None:
            raise ReauthorizeError("google_drive: it is not connected: connect it: `workstation source connect NAME`")
        chosen = GoogleDriveConfig.parse(config)
        api = VendorApi(
            provider=cls.source_type.value,
            account=context.account,
            urls={**cls.default_urls, **context.urls},
            calls=CALLS,
            credentials=context.credentials,
            pacer=context.pacer,
            clock=context.clock,
            classify=lambda reply: classify(reply, context.clock),
            rates=context.rates,
        )
        return cls(chosen, api, context)

    @property
    def scope(self) -> str:
        return self._config.scope()

    @property
    def reconcile_every(self) -> timedelta | None:
        return self._config.reconciled_every(_RECONCILE_EVERY)

    @property
    def provider_calls(self) -> int:
        return self._api.provider_calls

    @staticmethod
    def same_content(old_hash: str, new_hash: str) -> bool:
        """An empty `mt:` is that of a Doc whose time Drive does not tell, and promises nothing."""
        return old_hash == new_hash and not new_hash.endswith(":")

    def check(self) -> Account:
        user = self._drive.account()
        granted = self._context.credentials.scopes() if self._context.credentials is not None else frozenset()
        # `drive.file` shows what this app made, which is nothing: a sync that finds an empty Drive without an error.
        is_enough = not granted or READ_SCOPE in granted or not granted.isdisjoint(_WIDER_SCOPES)
        shared = {drive_id for drive_id, _ in self._drive.drives()}
        self._refuse_unknown(shared)
        page = self._drive.files(USER, FOLDERS, None)
        more = "at least " if page.next_token is not None else ""
        return Account(
            external_account=user["permissionId"],
            label=str(user.get("emailAddress") or user.get("displayName") or user["permissionId"]),
            details={"shared_drives": len(shared)},
            scopes=sorted(granted),
            missing_scopes=() if is_enough else (READ_SCOPE,),
            sample=f"{more}{len(page.files)} folders, {len(shared)} shared drives",
        )

    def probe(self, since: str | None, cursor: Cursor | None) -> str:
        """One request for the user's log and, while nothing is found, one for each shared drive that is read."""
        changed = hashlib.blake2b(
            json.dumps([since, dict(cursor or {})], sort_keys=True).encode(), digest_size=12
        ).hexdigest()
        try:
            at = Position.parse(cursor) if cursor is not None else Position()
            if not at.tokens or at.listing is not None:
                return changed
            logs = sorted(at.tokens, key=lambda corpus: (corpus != USER, corpus))
            has_changes = any(self._drive.has_changes(corpus, at.tokens[corpus]) for corpus in logs)
        except (CursorExpiredError, SkipItemError):
            return changed
        return changed if has_changes else since or "unchanged"

    def start_cursor(self) -> Cursor | None:
        # The user's log is marked first: a shared drive joined after it is found there.
        tokens = {USER: self._drive.start_token(USER)}
        self._corpora = self._present_corpora()
        tokens |= {corpus: self._drive.start_token(corpus) for corpus in self._corpora.logs}
        return Position(tokens).cursor()

    def pages(self, cursor: Cursor | None, known: Known, job_type: JobType) -> Iterator[Page]:
        """See the contract. Entries and listings come as Drive gives them, a folder's effects before its own page."""
        if cursor is None:
            at, opening = self._begun_listing()
            yield opening
            reading = self._reading(known, opening.containers)
        else:
            at = Position.parse(cursor)
            sweep = at.listing.sweep if at.is_full_listing and at.listing is not None else None
            # A listing that is resumed knows what it has shown itself, and nothing older.
            shown = [box for box in known.containers() if sweep is None or box.details.get("sweep") == sweep]
            reading = self._reading(known, shown)
        at = yield from list_due(reading, at)
        yield from close_listing(reading, at) if at.is_full_listing else read_logs(reading, at)

    def fetch_calls(self, item: Item) -> tuple[Call, ...]:
        return self._contents.fetch_calls(item)

    def fetch(self, item: Item) -> Content:
        return self._contents.fetch(item)

    def close(self) -> None:
        self._api.close()

    # What there is

    def _begun_listing(self) -> tuple[Position, Page]:
        corpora, self._corpora = self._corpora or self._present_corpora(), None
        sweep = str(self._context.new_id())
        at = Position(listing=Listing(corpora.listed, sweep))
        containers = [_of_sweep(container, sweep) for container in corpora.containers]
        return at, Page([], at.cursor(), failures=corpora.failures, containers=containers)

    def _present_corpora(self) -> _Corpora:
        root = self._drive.root()
        containers = [root_container(root, sweep="")]
        drives = dict(self._drive.drives())
        picked, failures = self._picked(root) if self._config.folders else ([], [])
        chosen = [drive_id for drive_id in drives if self._chooses(drive_id, picked)]
        containers += [
            drive_container(drive_id, name, is_chosen=drive_id in chosen) for drive_id, name in drives.items()
        ]
        containers += [
            folder_container(folder, is_unlisted=True)
            for folder in picked
            if folder.id != root.id and folder.id not in drives
        ]
        logs = tuple(drive_corpus(drive_id) for drive_id in chosen)
        is_user_listed = not self._config.folders or any(folder.drive_id not in chosen for folder in picked)
        return _Corpora((USER, *logs) if is_user_listed else logs, logs, tuple(containers), tuple(failures))

    def _picked(self, root: DriveFile) -> tuple[list[DriveFile], list[ItemFailure]]:
        picked, failures = [], []
        for folder_id in self._config.folders:
            try:
                folder = root if folder_id in (ROOT, root.id) else files.parse(self._drive.file(folder_id))
            except (SkipItemError, BadFieldError) as error:
                failures.append(_not_picked(folder_id, f"it is not there for this account ({type(error).__name__})"))
                continue
            if not folder.is_folder or folder.is_trashed:
                failures.append(
                    _not_picked(folder_id, "it is no folder" if not folder.is_folder else "it is in the trash")
                )
                continue
            picked.append(folder)
        return picked, failures

    def _refuse_unknown(self, shared: set[str]) -> None:
        """Raises InvalidRequestError for a setting that picks what this account does not have."""
        if self._config.folders:
            _, failures = self._picked(self._drive.root())
            if failures:
                raise InvalidRequestError(f"`folders`: {failures[0].message}")
        elif not isinstance(self._config.shared_drives, str):
            unknown = [drive_id for drive_id in self._config.shared_drives if drive_id not in shared]
            if unknown:
                raise InvalidRequestError(
                    f"`shared_drives`: this account is no member of the shared drive {unknown[0]}: join it, or take it out"
                )

    def _chooses(self, drive_id: str, picked: list[DriveFile]) -> bool:
        if self._config.folders:
            return any(drive_id in (folder.drive_id, folder.id) for folder in picked)
        return self._config.shared_drives == "all" or drive_id in self._config.shared_drives

    def _chooses_joined(self, drive_id: str) -> bool:
        if not self._config.folders:
            return self._chooses(drive_id, [])
        return self._chooses(drive_id, self._picked(self._drive.root())[0])

    def _reading(self, known: Known, containers: Any) -> Reading:
        places = Places(self._config, containers)
        return Reading(self._drive, places, known, self._mime_type, self._chooses_joined)

    def _mime_type(self, file: DriveFile) -> str:
        """Trust the name where Drive knows no type, or one without text: a `.ts` file is a video to it."""
        if files.is_native(file.mime_type):
            return file.mime_type
        if file.mime_type not in UNKNOWN_TYPES and self._context.has_text(file.mime_type):
            return file.mime_type
        by_name = self._context.detect(file.name, b"")
        return by_name if by_name not in UNKNOWN_TYPES and self._context.has_text(by_name) else file.mime_type


def _of_sweep(container: Container, sweep: str) -> Container:
    return Container(
        container.external_id, container.name, container.parent_external_id, {**container.details, "sweep": sweep}
    )


def _not_picked(folder_id: str, why: str) -> ItemFailure:
    return ItemFailure(
        external_id=folder_id,
        external_path="",
        stage="list",
        error_class="ItemGoneError",
        reason="folder_unavailable",
        message=f"The picked folder {folder_id} cannot be listed: {why}. Pick another, or have it shared again.",
        permanent=False,
    )
