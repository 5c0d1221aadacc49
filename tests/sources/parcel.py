"""The smallest connector there can be, and its vendor, for tests of what is around connectors: credentials and connecting.

It stands in for any vendor: `registered` puts it in that one's place.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, ClassVar, cast

from tests.fakes.server import Answer, FakeVendor, Request
from workstation_pipelines import sources
from workstation_pipelines.model import (
    Change,
    ChangeKind,
    Content,
    Cursor,
    Delta,
    Item,
    ItemType,
    JobType,
    Page,
    SourceType,
)
from workstation_pipelines.sources import SourceContext
from workstation_pipelines.sources.config import VendorConfig
from workstation_pipelines.sources.contract import Account, Known
from workstation_pipelines.sources.credentials import OAuthGrant
from workstation_pipelines.sources.http import Call, Reply, VendorApi

ME = Call("me", "GET", "/v1/me", per_s=1000)
FILES = Call("files", "GET", "/v1/files", per_s=1000)
FILE = Call("file", "GET", "/v1/files/{id}", per_s=1000)
SEARCH = Call("search", "POST", "/v1/search", per_s=1000)
CALLS = (ME, FILES, FILE, SEARCH)

_AT = "https://vendor.example"
GRANTS: Mapping[str, OAuthGrant] = {
    "google": OAuthGrant(
        f"{_AT}/authorize",
        f"{_AT}/token",
        ("files.read", "profile"),
        authorize_params=(("access_type", "offline"), ("prompt", "consent")),
    ),
    "microsoft": OAuthGrant(
        f"{_AT}/authorize",
        f"{_AT}/token",
        ("Files.Read", "offline_access"),
        rotates=True,
        refresh_scopes=True,
        redirect_host="localhost",
    ),
    "dropbox": OAuthGrant(
        f"{_AT}/authorize",
        f"{_AT}/token",
        ("files.metadata.read",),
        authorize_params=(("token_access_type", "offline"),),
    ),
    "notion": OAuthGrant(
        f"{_AT}/authorize",
        f"{_AT}/token",
        (),
        authorize_params=(("owner", "user"),),
        client_auth="client_secret_basic",
        uses_pkce=False,
        rotates=True,
        sends_json=True,
    ),
    "slack": OAuthGrant(
        f"{_AT}/authorize",
        f"{_AT}/token",
        ("channels:read", "channels:history"),
        scope_separator=",",
        scope_parameter="user_scope",
        rotates=True,
        token_path=("authed_user",),
    ),
}


class ParcelOffice(FakeVendor):
    """A vendor whose users have texts. Every answer is for whoever the token belongs to."""

    provider = "parcel"

    def __init__(self) -> None:
        super().__init__()
        self.files: dict[str, dict[str, str]] = {
            "user-1": {"f1": "a letter", "f2": "a list"},
            "user-2": {"g1": "a note"},
        }

    def is_write(self, request: Request) -> bool:
        return request.method not in ("GET", "POST")

    def violation(self, request: Request, answer: Answer) -> str | None:
        return None

    def answer(self, request: Request) -> Answer:
        user = self.tokens.get(request.token or "")
        if user is None:
            return Answer.of({"error": "unauthorized"}, 401)
        if request.path == "/v1/me":
            return Answer.of({"id": user, "name": user.title()})
        if request.path == "/v1/files":
            return Answer.of({"files": sorted(self.files[user])})
        if request.path == "/v1/search":
            return Answer.of({"asked": request.json, "files": sorted(self.files[user])})
        text = self.files[user].get(request.steps[-1])
        if text is None:
            return Answer.of({}, 404)
        return Answer(200, text.encode(), {"Content-Type": "application/octet-stream"})


class Parcel:
    source_type: ClassVar[SourceType] = SourceType.DROPBOX
    delta: ClassVar[Delta] = Delta.NONE
    proves_absence: ClassVar[bool] = False
    page_size: ClassVar[int] = 100
    fetch_threads: ClassVar[int] = 4
    oauth: ClassVar[OAuthGrant] = GRANTS["google"]
    default_urls: ClassVar[Mapping[str, str]] = {"api": _AT}
    reconcile_every: timedelta | None = None

    def __init__(self, config: VendorConfig, context: SourceContext) -> None:
        assert context.credentials is not None
        self._config = config
        self._credentials = context.credentials
        self.api = VendorApi(
            provider="parcel",
            account=context.account,
            urls={**self.default_urls, **context.urls},
            calls=CALLS,
            credentials=context.credentials,
            pacer=context.pacer,
            clock=context.clock,
            classify=_classify,
            sleep=lambda _s: None,
        )

    @classmethod
    def open(cls, config: Mapping[str, Any], context: SourceContext) -> Parcel:
        return cls(VendorConfig.parse(config), context)

    @property
    def scope(self) -> str:
        return self._config.scope()

    @property
    def provider_calls(self) -> int:
        return self.api.provider_calls

    @staticmethod
    def same_content(old_hash: str, new_hash: str) -> bool:
        return old_hash == new_hash

    def check(self) -> Account:
        me = self.api.json(ME)
        files = self.api.json(FILES)["files"]
        granted = self._credentials.scopes()
        missing = [
            scope for scope in self.oauth.scopes if granted and scope not in granted and scope != "offline_access"
        ]
        return Account(me["id"], me["name"], {}, sorted(granted), missing, f"{len(files)} files")

    def probe(self, since: str | None, cursor: Cursor | None) -> str:
        return ",".join(self.api.json(FILES)["files"])

    def start_cursor(self) -> Cursor | None:
        return None

    def pages(self, cursor: Cursor | None, known: Known, job_type: JobType) -> Iterator[Page]:
        found = self.api.json(FILES)["files"]
        yield Page([Change(ChangeKind.UPSERT, name, _item(name)) for name in found], complete=True)

    def fetch_calls(self, item: Item) -> tuple[()]:
        return ()

    def fetch(self, item: Item) -> Content:
        body = self.api.download(FILE, path={"id": item.external_id}, limit_bytes=1000).body
        return Content(body, item.title, "text/plain", item.external_hash)

    def close(self) -> None:
        self.api.close()


def _item(name: str) -> Item:
    return Item(name, f"box/{name}.txt", f"id:{name}", ItemType.FILE, f"{name}.txt", "text/plain")


def _classify(_reply: Reply) -> None:
    return None


@contextmanager
def registered(source_type: SourceType, grant: str = "google") -> Iterator[type[Parcel]]:
    """Let the type's connector be this one meanwhile."""
    table = cast("dict[SourceType, str]", sources.SOURCES)
    before = table.get(source_type)
    module = f"{sources.__name__}.parcel"
    shown = type("Parcel", (Parcel,), {"source_type": source_type, "oauth": GRANTS[grant]})
    sys.modules[module] = cast("Any", type("module", (), {"Parcel": shown}))
    table[source_type] = "parcel:Parcel"
    try:
        yield shown
    finally:
        del sys.modules[module]
        if before is None:
            del table[source_type]
        else:
            table[source_type] = before
