"""Google's own client library reads the fake, and finds what our connector finds."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import httplib2
import pytest
from googleapiclient.discovery import build
from googleapiclient.errors import HttpError
from googleapiclient.http import HttpRequest, MediaIoBaseDownload

from tests.fakes.google_drive import FakeGoogleDrive
from tests.fakes.google_drive_state import COLLEAGUE, ME
from tests.sources.google_drive_account import Account
from workstation_pipelines.sources.google_drive.files import FILE_FIELDS

FOLDER = "application/vnd.google-apps.folder"


class _WithToken(httplib2.Http):  # type: ignore[misc]
    """The library's transport with a token that never changes."""

    def __init__(self, token: str) -> None:
        super().__init__(timeout=10)
        self._token = token

    def request(self, uri: str, method: str = "GET", **more: Any) -> Any:
        more["headers"] = {**(more.get("headers") or {}), "authorization": f"Bearer {self._token}"}
        return super().request(uri, method, **more)


@pytest.fixture(scope="module")
def fake() -> Iterator[FakeGoogleDrive]:
    with FakeGoogleDrive() as opened:
        yield opened


@pytest.fixture
def account(fake: FakeGoogleDrive) -> Iterator[Account]:
    with Account(fake) as opened:
        state = opened.state
        opened.fake.page_cap = 3
        for number in range(7):
            state.add_file(f"{number}.txt", f"text {number}", state.add_folder(f"F{number}"))
        drive = state.add_drive("Sales")
        state.add_file("sold.txt", "sold", drive)
        state.add_doc("Minutes", "The council met.")
        state.add_file("shared.txt", "shared", owner=COLLEAGUE, readers={ME})
        yield opened


@pytest.fixture
def drive(account: Account) -> Iterator[Any]:
    """The library's client of Drive, pointed at the fake, with the discovery document that it ships."""
    http = _WithToken("test-token")
    client = build(
        "drive",
        "v3",
        http=http,
        static_discovery=True,
        client_options={"api_endpoint": f"{account.fake.url}/drive/v3/"},
        cache_discovery=False,
    )
    yield client
    client.close()
    http.close()


def listed(drive: Any, **corpus: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    request = drive.files().list(
        q="trashed = false",
        fields=f"nextPageToken,files({FILE_FIELDS})",
        supportsAllDrives=True,
        includeItemsFromAllDrives=True,
        **corpus,
    )
    while request is not None:
        answer = request.execute()
        found += answer["files"]
        request = drive.files().list_next(request, answer)
    return found


def everything(drive: Any) -> dict[str, dict[str, Any]]:
    found = listed(drive, corpora="user")
    for shared in drive.drives().list().execute()["drives"]:
        found += listed(drive, corpora="drive", driveId=shared["id"])
    return {file["id"]: file for file in found if file["mimeType"] != FOLDER}


def downloaded(request: HttpRequest) -> bytes:
    body = io.BytesIO()
    download = MediaIoBaseDownload(body, request)
    is_done = False
    while not is_done:
        _, is_done = download.next_chunk()
    return body.getvalue()


def test_the_library_lists_what_the_connector_found(account: Account, drive: Any) -> None:
    account.sync()
    found = everything(drive)
    assert {key: file["name"] for key, file in found.items()} == {
        key: item.title for key, item in account.mirror.live.items()
    }
    assert {key: f"sha256:{file['sha256Checksum']}" for key, file in found.items() if "sha256Checksum" in file} == {
        key: item.external_hash for key, item in account.mirror.live.items() if item.external_hash.startswith("sha256:")
    }


def test_the_library_downloads_what_the_connector_fetched(account: Account, drive: Any) -> None:
    account.sync()
    for key, content in account.mirror.contents.items():
        if account.mirror.live[key].mime_type == "text/plain":
            assert downloaded(drive.files().get_media(fileId=key, supportsAllDrives=True)) == content.body
        else:
            exported = drive.files().export(fileId=key, mimeType="text/markdown").execute()
            assert content.body.strip() in exported


def test_the_library_is_told_of_the_changes_that_the_connector_made_out(account: Account, drive: Any) -> None:
    account.sync()
    token = drive.changes().getStartPageToken(supportsAllDrives=True).execute()["startPageToken"]
    keys = sorted(key for key, item in account.mirror.live.items() if item.external_path.startswith("My Drive/F"))
    account.state.edit(keys[0], "other")
    account.state.rename(keys[1], "renamed.txt")
    account.state.trash(keys[2])
    account.state.delete(keys[3])
    gone: set[str] = set()
    kept: set[str] = set()
    request = drive.changes().list(pageToken=token, fields="*", supportsAllDrives=True, includeItemsFromAllDrives=True)
    while request is not None:
        answer = request.execute()
        for change in answer["changes"]:
            is_gone = change["removed"] or change["file"]["trashed"]
            (gone if is_gone else kept).add(change["fileId"])
        request = drive.changes().list_next(request, answer)
    report = account.sync()
    assert answer["newStartPageToken"] == account.mirror.cursor["tokens"]["user"]  # type: ignore[index]
    assert (set(report.deleted), set(report.upserted)) == (gone, kept)
    assert (gone, kept) == (set(keys[2:4]), set(keys[:2]))


def test_the_library_reads_the_fakes_refusals(account: Account, drive: Any) -> None:
    with pytest.raises(HttpError) as missing:
        drive.files().get(fileId="1Gone").execute()
    assert (missing.value.status_code, missing.value.error_details[0]["reason"]) == (404, "notFound")
    with pytest.raises(HttpError) as expired:
        drive.changes().list(pageToken="7").execute()
    assert (expired.value.status_code, expired.value.error_details[0]["location"]) == (400, "pageToken")
    assert drive.about().get(fields="user").execute()["user"]["emailAddress"] == "user-1@example.com"


def test_a_parameter_that_drive_does_not_know_is_a_violation(account: Account, drive: Any) -> None:
    request = drive.files().list()
    request.uri += "&includeEverything=true"
    request.execute()
    assert account.fake.violations == [
        "GET /drive/v3/files: parameter includeEverything is unknown to drive.files.list"
    ]
    account.fake.violations.clear()


def test_an_answer_that_drive_would_not_give_is_a_violation(account: Account, drive: Any) -> None:
    key = account.state.add_file("a.txt", "alpha", instead={"size": 5})
    drive.files().get(fileId=key, fields="id,size").execute()
    assert account.fake.violations == [f"GET /drive/v3/files/{key}: $.size: 5 is not of type 'string'"]
    account.fake.violations.clear()
