"""No connector can write: not by what it declares, not by what it is granted, not by what it tries.

Evidence that a call reads, by vendor: Google's discovery documents name the HTTP method and scopes of each path; Dropbox's
package names the scope each route needs; Graph and Slack calls are GETs of documented reading methods; Notion's two POSTs
are documented as searches. A call that is not in one of these tables fails here until someone has looked it up.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from importlib import import_module, resources
from pathlib import Path
from typing import Any

import httpx
import pytest

from workstation_pipelines.errors import InvalidRequestError
from workstation_pipelines.model import SourceType
from workstation_pipelines.sources import SOURCES, source_class
from workstation_pipelines.sources.credentials import StaticToken
from workstation_pipelines.sources.http import Call, ReadOnly, VendorApi
from workstation_pipelines.sources.pacing import Unpaced

VENDORS = sorted(source_type for source_type in SOURCES if source_type is not SourceType.LOCAL_FOLDER)

DROPBOX_DOCS = "https://www.dropbox.com/developers/documentation/http/documentation"
NOTION_DOCS = "https://developers.notion.com/reference"

POSTS_THAT_READ = {
    (SourceType.DROPBOX, "/2/users/get_current_account"): f"{DROPBOX_DOCS}#users-get_current_account",
    (SourceType.DROPBOX, "/2/files/list_folder"): f"{DROPBOX_DOCS}#files-list_folder",
    (SourceType.DROPBOX, "/2/files/list_folder/continue"): f"{DROPBOX_DOCS}#files-list_folder-continue",
    (
        SourceType.DROPBOX,
        "/2/files/list_folder/get_latest_cursor",
    ): f"{DROPBOX_DOCS}#files-list_folder-get_latest_cursor",
    (SourceType.DROPBOX, "/2/files/get_metadata"): f"{DROPBOX_DOCS}#files-get_metadata",
    (SourceType.DROPBOX, "/2/files/download"): f"{DROPBOX_DOCS}#files-download",
    (SourceType.DROPBOX, "/2/files/export"): f"{DROPBOX_DOCS}#files-export",
    (SourceType.NOTION, "/v1/search"): f"{NOTION_DOCS}/post-search",
    (SourceType.NOTION, "/v1/data_sources/{}/query"): f"{NOTION_DOCS}/query-a-data-source",
}
"""POSTs that only read, each with the vendor's page that describes it."""

SLACK_READS = frozenset(
    {
        "/auth.test",
        "/conversations.history",
        "/conversations.info",
        "/conversations.list",
        "/conversations.members",
        "/conversations.replies",
        "/files.info",
        "/files.list",
        "/team.info",
        "/users.conversations",
        "/users.info",
        "/users.list",
    }
)
"""Slack takes GET for methods that write, too: https://docs.slack.dev/apis/web-api/#basics. These only read."""

GRAPH_WRITING_STEPS = re.compile(
    r"/(copy|createLink|createUploadSession|checkin|checkout|follow|unfollow|invite|restore|permanentDelete)\b", re.I
)

SCOPES_THAT_READ = {
    SourceType.GOOGLE_DRIVE: {"https://www.googleapis.com/auth/drive.readonly"},
    SourceType.GMAIL: {"https://www.googleapis.com/auth/gmail.readonly"},
    SourceType.NOTION: set[str](),  # it has none: the connection's capabilities are set by whoever registers it
    SourceType.SLACK: {
        *(f"{kind}:{what}" for kind in ("channels", "groups", "im", "mpim") for what in ("read", "history")),
        "files:read",
        "team:read",
        "users:read",
    },
    SourceType.DROPBOX: {"account_info.read", "files.metadata.read", "files.content.read", "sharing.read"},
    SourceType.ONEDRIVE: {"Files.Read", "Files.Read.All", "User.Read", "offline_access"},
}
"""What may be asked for, by the vendors' lists of scopes."""


def calls_of(source_type: SourceType) -> tuple[Call, ...]:
    calls: tuple[Call, ...] = source_class(source_type).calls
    return calls


def described(call: Call) -> str:
    return re.sub(r"\{\w+\}", "{}", call.path)


ALL_CALLS = [(source_type, call) for source_type in VENDORS for call in calls_of(source_type)]


def of(*source_types: SourceType) -> pytest.MarkDecorator:
    """Parametrise by the calls of these vendors."""
    found = [(source_type, call) for source_type, call in ALL_CALLS if source_type in source_types]
    return pytest.mark.parametrize(
        ("source_type", "call"), found, ids=[f"{source_type}-{call.name}" for source_type, call in found]
    )


@of(*VENDORS)
def test_every_call_gets_or_is_a_known_read(source_type: SourceType, call: Call) -> None:
    if call.method != "GET":
        assert call.method == "POST"
        evidence = POSTS_THAT_READ.get((source_type, described(call)))
        assert evidence is not None, "look it up at the vendor, then name the page that says it only reads"
        assert evidence.startswith("https://")


@pytest.mark.parametrize("source_type", VENDORS)
def test_calls_are_told_apart_by_name(source_type: SourceType) -> None:
    names = [call.name for call in calls_of(source_type)]
    assert len(names) == len(set(names))
    assert names, "a vendor without a call cannot be read"


@pytest.mark.parametrize("source_type", VENDORS)
def test_only_scopes_that_read_are_asked_for(source_type: SourceType) -> None:
    grant = source_class(source_type).oauth
    assert set(grant.scopes) <= SCOPES_THAT_READ[source_type]
    assert "scope" not in dict(grant.authorize_params)


@cache
def discovery(name: str) -> list[tuple[str, str, frozenset[str]]]:
    """(path without base, HTTP method, scopes any of which suffices) of every method in a Google discovery document."""
    text = (resources.files("googleapiclient") / "discovery_cache" / "documents" / f"{name}.json").read_text()
    document = json.loads(text)

    def methods(resource: dict[str, Any]) -> Iterator[tuple[str, str, frozenset[str]]]:
        for method in resource.get("methods", {}).values():
            path = f"/{document['servicePath']}{method.get('flatPath', method['path'])}"
            yield re.sub(r"\{\+?\w+\}", "{}", path), method["httpMethod"], frozenset(method.get("scopes", ()))
        for inner in resource.get("resources", {}).values():
            yield from methods(inner)

    return list(methods(document))


EXPORT_LINK_HOST = "https://docs.google.com"


@of(SourceType.GOOGLE_DRIVE, SourceType.GMAIL)
def test_google_calls_are_reads_of_the_discovery_document(source_type: SourceType, call: Call) -> None:
    source = source_class(source_type)
    if source.default_urls[call.base] == EXPORT_LINK_HOST:
        assert call.method == "GET"  # links of `exportLinks`, which the document describes as read-only
        return
    document = discovery({SourceType.GOOGLE_DRIVE: "drive.v3", SourceType.GMAIL: "gmail.v1"}[source_type])
    path = described(call).replace("/users/me/", "/users/{}/")
    found = [(verb, scopes) for at, verb, scopes in document if at == path and verb == call.method]
    assert found, f"{call.method} {path} is not in the discovery document"
    assert all(scopes & set(source.oauth.scopes) for _, scopes in found), "a read-only scope suffices for it"


def dropbox_route(path: str) -> tuple[str, str]:
    """(scope, style) of a route, from Dropbox's own package: the scope is told in the documentation of its method."""
    base = import_module("dropbox.base").DropboxBase
    namespace, _, name = path.removeprefix("/2/").partition("/")
    scope = re.search(r"scope: ([a-z_.]+)", getattr(base, f"{namespace}_{name.replace('/', '_')}").__doc__ or "")
    assert scope is not None
    return scope[1], import_module(f"dropbox.{namespace}").ROUTES[name].attrs["style"]


@of(SourceType.DROPBOX)
def test_dropbox_routes_need_a_read_scope(source_type: SourceType, call: Call) -> None:
    scope, style = dropbox_route(call.path)
    assert scope.endswith(".read")
    assert scope in source_class(source_type).oauth.scopes
    assert style == {"api": "rpc", "content": "download"}[call.base]


def test_dropbox_route_that_writes_would_be_noticed() -> None:
    assert dropbox_route("/2/files/upload") == ("files.content.write", "upload")
    assert dropbox_route("/2/sharing/create_shared_link_with_settings")[0] == "sharing.write"


@of(SourceType.SLACK)
def test_slack_methods_are_known_reads(source_type: SourceType, call: Call) -> None:
    assert call.method == "GET"
    if call.base == "api":
        assert call.path in SLACK_READS


@of(SourceType.ONEDRIVE)
def test_graph_calls_get_and_name_no_action(source_type: SourceType, call: Call) -> None:
    assert call.method == "GET"
    assert not GRAPH_WRITING_STEPS.search(call.path)


class Beyond(httpx.BaseTransport):
    """What lies behind the guard: nothing should get here."""

    def __init__(self) -> None:
        self.requests: list[httpx.Request] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        return httpx.Response(200, json={})


def api_of(source_type: SourceType, beyond: Beyond) -> VendorApi:
    source = source_class(source_type)
    return VendorApi(
        provider=source_type,
        account="a",
        urls=source.default_urls,
        calls=source.calls,
        credentials=StaticToken("token"),
        pacer=Unpaced(),
        clock=lambda: datetime(2026, 11, 22, tzinfo=UTC),
        classify=lambda _reply: None,
        transport=beyond,
    )


def steps_of(call: Call) -> dict[str, str]:
    return dict.fromkeys(re.findall(r"\{(\w+)\}", call.path), "some-id")


@of(*VENDORS)
def test_declared_call_passes_the_guard(source_type: SourceType, call: Call) -> None:
    beyond = Beyond()
    api_of(source_type, beyond).json(call, path=steps_of(call))
    assert [request.method for request in beyond.requests] == [call.method]
    base = httpx.URL(source_class(source_type).default_urls[call.base])
    assert (beyond.requests[0].url.scheme, beyond.requests[0].url.host) == (base.scheme, base.host)


@of(*VENDORS)
def test_everything_beside_a_declared_call_is_refused(source_type: SourceType, call: Call) -> None:
    beyond = Beyond()
    api = api_of(source_type, beyond)
    undeclared: list[Call] = [
        *(replace(call, method=method) for method in ("PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "get")),  # type: ignore[arg-type]
        replace(call, method="POST" if call.method == "GET" else "GET"),
        replace(call, path=f"{call.path}/delete"),
        replace(call, path=f"{call.path}/../delete"),
        replace(call, path=f"{call.path}%2Fdelete"),
        replace(call, path=f"/other{call.path}"),
        replace(call, name="of-another-name"),
    ]
    for other in undeclared:
        with pytest.raises(InvalidRequestError):
            api.json(other, path=steps_of(other))
    assert beyond.requests == []


@of(*VENDORS)
def test_guard_trusts_no_label(source_type: SourceType, call: Call) -> None:
    """A request that claims to be a declared call must look like it, too."""
    beyond = Beyond()
    source = source_class(source_type)
    guard = ReadOnly(beyond, source.calls, bases=source.default_urls)
    base = source.default_urls[call.base].rstrip("/")
    path = call.path.format(**steps_of(call))
    good = httpx.Request(call.method, base + path, extensions={"call": call})
    guard.handle_request(good)
    assert beyond.requests == [good]
    other_method = "POST" if call.method == "GET" else "GET"
    requests = [
        httpx.Request(call.method, base + path),
        httpx.Request(call.method, base + path, extensions={"call": call.name}),
        httpx.Request(other_method, base + path, extensions={"call": call}),
        *(httpx.Request(verb, base + path, extensions={"call": call}) for verb in ("PUT", "PATCH", "DELETE")),
        httpx.Request("POST", base + path, extensions={"call": call, "is_given": True}),
        httpx.Request(call.method, f"https://evil.example{path}", extensions={"call": call}),
        httpx.Request(call.method, f"{base}{path}/more", extensions={"call": call}),
        httpx.Request(call.method, f"{base}/x{path}", extensions={"call": call}),
        httpx.Request(call.method, f"{base}{path}%2f..%2fmore", extensions={"call": call}),
        httpx.Request(call.method, f"{base}{path}/%2e%2e/more", extensions={"call": call}),
        httpx.Request(
            call.method, base + path, headers={"X-HTTP-Method-Override": "DELETE"}, extensions={"call": call}
        ),
        httpx.Request(call.method, base + path, headers={"X-HTTP-Method": "PATCH"}, extensions={"call": call}),
    ]
    for request in requests:
        with pytest.raises(InvalidRequestError, match="only reads"):
            guard.handle_request(request)
    assert beyond.requests == [good]


@of(*[source_type for source_type, call in ALL_CALLS if "{" in call.path])
def test_no_id_leads_out_of_its_step(source_type: SourceType, call: Call) -> None:
    beyond = Beyond()
    api = api_of(source_type, beyond)
    base = source_class(source_type).default_urls[call.base]
    steps = httpx.URL(base + call.path.format(**steps_of(call))).raw_path.count(b"/")
    for step in ("../delete", "..", "a/b", "a%2fb/../..", "a\\b", "", "a?b", "a#b", "a;b"):
        try:
            api.json(call, path=dict.fromkeys(steps_of(call), step))
        except InvalidRequestError:
            continue
        sent = beyond.requests[-1].url
        assert sent.raw_path.count(b"/") == steps
        assert sent.query == b""


def test_vendors_are_reached_through_the_transport_only() -> None:
    """No connector opens connections of its own: only the transport and the two token desks import a client."""
    sources = Path(import_module("workstation_pipelines.sources").__path__[0])
    allowed = {"oauth.py", "composio.py", "credentials.py"}
    own = re.compile(
        r"httpx\.(Client|AsyncClient|get|post|put|patch|delete|request|stream|HTTPTransport)\b"
        r"|^\s*(import|from) (requests|urllib3|urllib\.request|http\.client|socket|aiohttp|googleapiclient|slack_sdk"
        r"|notion_client|dropbox|msgraph)\b",
        re.MULTILINE,
    )
    offenders = [
        path.name
        for path in sources.rglob("*.py")
        if path.name not in allowed and not path.name.startswith("http") and own.search(path.read_text("utf-8"))
    ]
    assert offenders == []
