"""The subjects of bulk processing: a file's path, a URL, or an upload, read to bytes that know where they are from."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from uuid import UUID

from workstation_pipelines.db import origins, uploads
from workstation_pipelines.db.engine import Database
from workstation_pipelines.errors import InvalidRequestError, ItemGoneError
from workstation_pipelines.model import Content, UserId
from workstation_pipelines.sources import web
from workstation_pipelines.sources.local_folder import names
from workstation_pipelines.sources.local_folder.single import read_file
from workstation_pipelines.sources.web import WebFetcher
from workstation_pipelines.sync.intake import storable

UPLOAD = "upload:"


@dataclass(frozen=True, slots=True)
class Read:
    """A subject's bytes. `title` is for a text that has none of its own; `upload_id` names what is not needed any more.

    `is_described`: title, type and URL are given by whoever stores it, and stored anew when nothing but them is new.
    """

    origin: str
    content: Content
    title: str
    external_url: str | None
    modified_at: datetime | None = None
    upload_id: UUID | None = None
    is_described: bool = False


class SubjectReader:
    """Reads the subjects of one user. Thread-safe."""

    def __init__(
        self, *, database: Database, user_id: UserId, fetcher: WebFetcher, folder_roots: tuple[Path, ...] | None
    ) -> None:
        self._database = database
        self._user_id = user_id
        self._fetcher = fetcher
        self._folder_roots = folder_roots

    def read(self, subject: str) -> Read:
        """Return what a subject is now. Raises InvalidRequestError, SkipItemError and RetryableError for it alone."""
        if subject.startswith(UPLOAD):
            return self._upload(subject)
        return self._url(subject) if web.is_url(subject) else self._file(subject)

    def _file(self, subject: str) -> Read:
        found = read_file(names.on_disk(subject), roots=self._folder_roots)
        content = Content(found.body, found.name, "", "")
        origin = origins.origin_of("file", found.path)
        return Read(origin, content, found.title, found.url, found.modified_at)

    def _url(self, subject: str) -> Read:
        found = self._fetcher.fetch(subject)
        asked = self._fetcher.normalised(subject)
        content = Content(found.body, found.name, found.mime_type, "")
        return Read(origins.origin_of("url", asked), content, names.title(found.name), asked, found.modified_at)

    def _upload(self, subject: str) -> Read:
        upload_id = _upload_id(subject)
        with self._database.transaction_with_rls(self._user_id) as connection:
            found = uploads.get(connection, user_id=self._user_id, upload_id=upload_id)
        if found is None:
            raise ItemGoneError(f"upload {upload_id} is not there any more: upload it again", reason="gone")
        content = Content(found.body, found.name, found.mime_type, found.content_hash)
        origin = origins.origin_of("upload", found.content_hash)
        return Read(origin, content, names.title(found.name), None, upload_id=upload_id)


def upload_subject(upload_id: UUID) -> str:
    return f"{UPLOAD}{upload_id}"


def given(words: Iterable[str]) -> list[str]:
    """Return paths and URLs as subjects, each once, in order: paths absolute, so that they mean the same everywhere."""
    return list(dict.fromkeys(storable(word) if web.is_url(word) else _absolute(word) for word in words))


def _absolute(path: str) -> str:
    return names.storable(os.path.abspath(os.path.expanduser(path)))


def _upload_id(subject: str) -> UUID:
    try:
        return UUID(subject.removeprefix(UPLOAD))
    except ValueError:
        raise InvalidRequestError(f"{subject!r} is no upload: an upload is `{UPLOAD}` and its id") from None
