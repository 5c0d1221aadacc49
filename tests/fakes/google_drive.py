"""A Google Drive that answers like the documented one, oddities included: `python -m tests.fakes.google_drive`."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar
from urllib.parse import quote

from tests.fakes import google_drive_contract as contract
from tests.fakes.google_drive_exports import EXPORT_NAMES, exported
from tests.fakes.google_drive_fields import BadSelectorError, selected
from tests.fakes.google_drive_state import ME, NATIVE_PREFIX, SHORTCUT, DriveState, Log, Node
from tests.fakes.server import LOGIN_PAGE, Answer, FakeVendor, Request

_TERM = re.compile(
    r"(?:(?P<field>mimeType|trashed) (?P<sign>=|!=) (?P<value>'(?:[^'\\]|\\.)*'|true|false))"
    r"|(?:'(?P<parent>(?:[^'\\]|\\.)*)' in parents)"
)


class RefusalError(Exception):
    """An error answer, in Google's shape."""

    def __init__(self, status: int, reason: str, message: str, location: str = "") -> None:
        super().__init__(message)
        first: dict[str, Any] = {"message": message, "domain": "global", "reason": reason}
        if location:
            first |= {"location": location, "locationType": "header" if location == "Authorization" else "parameter"}
        self.answer = Answer.of({"error": {"code": status, "message": message, "errors": [first]}}, status)


@dataclass(frozen=True)
class _Paging:
    """What a listing's page token stands for: the query it belongs to and the files that are left of it."""

    query: tuple[object, ...]
    left: tuple[str, ...]


class FakeGoogleDrive(FakeVendor):
    """One Google Workspace domain of two people; `state` is edited by its own methods.

    `page_cap` limits pages whatever is asked for. `is_incomplete` says of listings that not all was searched. `repeats`
    shows the last file of a page once more on the next. `meanwhile` is called after each page of a listing.
    `strict_every` refuses each so many-th request once, as a busy account sees it. `is_checked` False leaves out the check of
    the contract, which takes longer than the answer: for measuring.
    """

    provider: ClassVar[str] = "google_drive"

    def __init__(self, *, latency_s: float = 0.0) -> None:
        super().__init__(latency_s=latency_s)
        self.reset()

    def reset(self) -> None:
        """Begin anew with an empty Drive, at the same address."""
        with self.lock:
            self.requests.clear()
            self.faults.clear()
            self.violations.clear()
            self.state = DriveState(self.lock)
            self.page_cap = 1000
            self.is_incomplete = False
            self.repeats = False
            self.is_reversed = False
            self.strict_every = 0
            self.is_checked = True
            self.sees_own_files_only = False
            self.meanwhile: Callable[[], None] = lambda: None
            self._pagings: dict[str, _Paging] = {}
            self._issued: dict[str, set[str]] = {}
            self._strict_count = 0

    @property
    def export_url(self) -> str:
        return f"{self.url}/docs-host"

    def expire_page_tokens(self) -> None:
        """What Drive does to a listing's page tokens after some hours."""
        with self.lock:
            self._pagings.clear()

    def expire_change_tokens(self, corpus: str | None = None) -> None:
        with self.lock:
            for name in [corpus] if corpus is not None else list(self._issued):
                self._issued[name] = set()

    def throttle(self, part: str, *, status: int = 429, retry_after: str | None = None, times: int = 1) -> None:
        reason = "rateLimitExceeded" if status == 429 else "userRateLimitExceeded"
        answer = RefusalError(status, reason, "Rate Limit Exceeded").answer
        headers = {**answer.headers, **({"Retry-After": retry_after} if retry_after is not None else {})}
        self.fail(part, answer=Answer(status, answer.body, headers), times=times)

    def is_write(self, request: Request) -> bool:
        return request.method not in ("GET", "HEAD")

    def violation(self, request: Request, answer: Answer) -> str | None:
        if request.path.startswith("/docs-host/") or not self.is_checked:
            return None
        found = contract.method_of(request)
        if found is None:
            return "no method of drive.v3 that reads"
        return contract.broken_request(request, *found) or contract.broken_answer(found[0], request, answer)

    def answer(self, request: Request) -> Answer:
        try:
            self._refuse_sometimes()
            return self._answer(request)
        except RefusalError as refusal:
            return refusal.answer
        except BadSelectorError as error:
            return RefusalError(400, "invalidParameter", f"Invalid field selection {error}", "fields").answer

    def _refuse_sometimes(self) -> None:
        self._strict_count += 1
        if self.strict_every and self._strict_count % self.strict_every == 0:
            raise RefusalError(403, "userRateLimitExceeded", "User Rate Limit Exceeded")

    def _answer(self, request: Request) -> Answer:
        user = self.tokens.get(request.token or "")
        if request.path.startswith("/docs-host/"):
            return self._export_link(request, user)
        if user is None:
            raise RefusalError(401, "authError", "Invalid Credentials", "Authorization")
        found = contract.method_of(request)
        if found is None:
            raise RefusalError(404, "notFound", "Not Found")
        method_id, in_path = found
        answers: dict[str, Callable[[], Answer]] = {
            "drive.about.get": lambda: self._about(request, user),
            "drive.changes.getStartPageToken": lambda: self._start_token(request, user),
            "drive.changes.list": lambda: self._changes(request, user),
            "drive.drives.list": lambda: self._drives(request, user),
            "drive.drives.get": lambda: self._drive(request, user, in_path["driveId"]),
            "drive.files.list": lambda: self._files(request, user),
            "drive.files.get": lambda: self._file(request, user, in_path["fileId"]),
            "drive.files.export": lambda: self._export(request, user, in_path["fileId"]),
        }
        return answers[method_id]()

    # Accounts and shared drives

    def _about(self, request: Request, user: str) -> Answer:
        if request.one("fields") is None:
            raise RefusalError(400, "required", "The 'fields' parameter is required for this method.", "fields")
        about = {
            "kind": "drive#about",
            "user": {
                "kind": "drive#user",
                "displayName": user.title(),
                "emailAddress": f"{user}@example.com",
                "permissionId": f"permission-of-{user}",
                "me": True,
            },
        }
        return Answer.of(selected(about, request.one("fields")))

    def _drives(self, request: Request, user: str) -> Answer:
        mine = [drive for drive in self.state.drives.values() if user in drive.members]
        size = min(int(request.one("pageSize") or 10), self.page_cap)
        start = int(request.one("pageToken") or 0)
        answer: dict[str, Any] = {
            "kind": "drive#driveList",
            "drives": [
                {"kind": "drive#drive", "id": drive.id, "name": drive.name} for drive in mine[start : start + size]
            ],
        }
        if start + size < len(mine):
            answer["nextPageToken"] = str(start + size)
        return Answer.of(selected(answer, request.one("fields")))

    def _drive(self, request: Request, user: str, drive_id: str) -> Answer:
        drive = self.state.drives.get(drive_id)
        if drive is None or user not in drive.members:
            raise RefusalError(404, "notFound", f"Shared drive not found: {drive_id}", "driveId")
        fields = {"kind": "drive#drive", "id": drive.id, "name": drive.name}
        return Answer.of(selected(fields, request.one("fields")))

    # Logs

    def _log(self, request: Request, user: str) -> tuple[str, Log]:
        drive_id = request.one("driveId")
        if drive_id is None:
            return "user", self.state.user_logs[user]
        if request.one("supportsAllDrives") != "true":
            raise RefusalError(403, "teamDrivesNotSupported", "supportsAllDrives must be true", "supportsAllDrives")
        self._drive(request, user, drive_id)
        return f"drive:{drive_id}", self.state.drive_logs[drive_id]

    def _issue(self, corpus: str, sequence: int) -> str:
        token = str(sequence + 1)
        self._issued.setdefault(corpus, set()).add(token)
        return token

    def _start_token(self, request: Request, user: str) -> Answer:
        corpus, log = self._log(request, user)
        answer = {"kind": "drive#startPageToken", "startPageToken": self._issue(corpus, log.sequence)}
        return Answer.of(selected(answer, request.one("fields")))

    def _changes(self, request: Request, user: str) -> Answer:
        corpus, log = self._log(request, user)
        token = request.one("pageToken") or ""
        if token not in self._issued.get(corpus, set()):
            raise RefusalError(400, "invalid", f"Invalid Value: {token}", "pageToken")
        size = min(int(request.one("pageSize") or 100), self.page_cap)
        waiting = sorted(
            (sequence, kind, thing, at)
            for (kind, thing), (sequence, at) in log.entries.items()
            if sequence >= int(token)
        )
        some = waiting[:size]
        changes = [self._change(request, user, corpus, *entry[1:]) for entry in some]
        answer: dict[str, Any] = {
            "kind": "drive#changeList",
            "changes": [change for change in changes if change is not None],
        }
        if len(waiting) > size:
            answer["nextPageToken"] = self._issue(corpus, some[-1][0])
        else:
            answer["newStartPageToken"] = self._issue(corpus, log.sequence)
        default = "kind,nextPageToken,newStartPageToken,changes(kind,removed,fileId,file(kind,id,name,mimeType))"
        return Answer.of(selected(answer, request.one("fields") or default))

    def _change(
        self, request: Request, user: str, corpus: str, kind: str, thing: str, at: datetime
    ) -> dict[str, Any] | None:
        common = {"kind": "drive#change", "changeType": kind, "time": _time(at)}
        if kind == "drive":
            drive = self.state.drives.get(thing)
            is_member = drive is not None and user in drive.members
            shown = {"drive": {"kind": "drive#drive", "id": thing, "name": drive.name}} if drive and is_member else {}
            return {**common, "driveId": thing, "removed": not is_member, **shown}
        node = self.state.nodes.get(thing)
        is_seen = node is not None and self.state.sees(user, thing)
        is_here = is_seen and node is not None and self._is_in(user, corpus, node)
        takes_drives = request.one("includeItemsFromAllDrives") == "true" and request.one("supportsAllDrives") == "true"
        if node is not None and node.drive is not None and not takes_drives:
            return None
        found: dict[str, Any] = {**common, "fileId": thing, "removed": not is_here}
        if node is not None and is_seen and (is_here or request.one("includeCorpusRemovals") == "true"):
            found["file"] = self._described(node, user)
        elif request.one("includeRemoved") == "false":
            return None
        return found

    def _is_in(self, user: str, corpus: str, node: Node) -> bool:
        if corpus == "user":
            return self.state.is_listed_for_user(user, node.id)
        return f"drive:{node.drive}" == corpus

    # Listing

    def _files(self, request: Request, user: str) -> Answer:
        takes_drives = request.one("includeItemsFromAllDrives") == "true" and request.one("supportsAllDrives") == "true"
        corpora, drive_id = request.one("corpora") or "user", request.one("driveId")
        if (drive_id is None) != (corpora != "drive"):
            raise RefusalError(400, "invalid", "corpora=drive and driveId belong together", "corpora")
        if drive_id is not None:
            if not takes_drives:
                raise RefusalError(403, "teamDrivesNotSupported", "both all-drives parameters must be true", "driveId")
            self._drive(request, user, drive_id)
        terms = _terms(request.one("q"), self, user)
        query = (corpora, drive_id, request.one("q"), user)
        left = self._left(request, query, terms, takes_drives=takes_drives)
        size = min(int(request.one("pageSize") or 100), self.page_cap)
        some, more = left[:size], left[size:]
        shown = [self.state.nodes[node_id] for node_id in some if node_id in self.state.nodes]
        answer: dict[str, Any] = {
            "kind": "drive#fileList",
            "incompleteSearch": self.is_incomplete,
            "files": [self._described(node, user) for node in shown if all(term(node) for term in terms)],
        }
        if more:
            token = f"~!!~page-{len(self._pagings) + 1}-{len(self.requests)}"
            again = (some[-1],) if self.repeats and size > 1 else ()
            self._pagings[token] = _Paging(query, (*again, *more))
            answer["nextPageToken"] = token
        self.meanwhile()
        default = "kind,incompleteSearch,nextPageToken,files(kind,id,name,mimeType)"
        return Answer.of(selected(answer, request.one("fields") or default))

    def _left(
        self,
        request: Request,
        query: tuple[object, ...],
        terms: Sequence[Callable[[Node], bool]],
        *,
        takes_drives: bool,
    ) -> tuple[str, ...]:
        token = request.one("pageToken")
        if token is not None:
            paging = self._pagings.get(token)
            if paging is None or paging.query != query:
                raise RefusalError(400, "invalid", "Invalid Value", "pageToken")
            return paging.left
        _, drive_id, _, user = query
        found = [
            node.id
            for node in self.state.nodes.values()
            if self._is_listed(node, str(user), drive_id, takes_drives=takes_drives)
            and all(term(node) for term in terms)
        ]
        return tuple(reversed(found) if self.is_reversed else found)

    def _is_listed(self, node: Node, user: str, drive_id: object, *, takes_drives: bool) -> bool:
        if self.sees_own_files_only or (node.parent is None and node.name == "My Drive"):
            return False
        if drive_id is not None:
            return node.drive == drive_id and node.id != drive_id
        if (node.drive is not None and not takes_drives) or node.id in self.state.drives:
            return False
        return self.state.is_listed_for_user(user, node.id)

    # Files

    def _described(self, node: Node, user: str) -> dict[str, Any]:
        is_plain = not node.is_native
        parent = node.parent if node.parent is not None and self.state.sees(user, node.parent) else None
        fields: dict[str, Any] = {
            "kind": "drive#file",
            "id": node.id,
            "name": node.name,
            "mimeType": node.mime_type,
            "trashed": self.state.is_trashed(node.id),
            "explicitlyTrashed": node.is_trashed,
            "createdTime": _time(node.created),
            "modifiedTime": _time(node.modified),
            # It counts what nobody can see, too.
            "version": str(len(self.requests) + 1),
            "webViewLink": f"https://drive.google.com/file/d/{node.id}/view?usp=drivesdk",
            "capabilities": {"canDownload": node.can_download},
        }
        if parent is not None:
            fields["parents"] = [parent]
        if node.drive is not None:
            fields["driveId"] = node.drive
        else:
            fields["ownedByMe"] = node.owner == user
        if is_plain:
            fields |= {"size": str(len(node.content)), "headRevisionId": f"0B{node.md5[:12]}"}
        elif node.mime_type.startswith(NATIVE_PREFIX) and node.mime_type in EXPORT_NAMES:
            fields["size"] = "1024"
            fields["exportLinks"] = {
                mime_type: f"{self.export_url}/feeds/download/export?id={quote(node.id)}&exportFormat={quote(name)}"
                for mime_type, name in EXPORT_NAMES[node.mime_type].items()
            }
        if is_plain and node.has_checksum:
            fields |= {"md5Checksum": node.md5, "sha256Checksum": node.sha256}
        if node.resource_key is not None:
            fields["resourceKey"] = node.resource_key
        if node.mime_type == SHORTCUT and node.target is not None:
            target = self.state.nodes.get(node.target)
            kind = target.mime_type if target is not None else "application/octet-stream"
            fields["shortcutDetails"] = {"targetId": node.target, "targetMimeType": kind}
        return {**{name: value for name, value in fields.items() if name not in node.without}, **node.instead}

    def _seen(self, request: Request, user: str, file_id: str) -> Node:
        file_id = self.state.root(user) if file_id == "root" else file_id
        node = self.state.nodes.get(file_id)
        is_hidden = node is None or not self.state.sees(user, file_id)
        if node is not None and node.drive is not None and request.one("supportsAllDrives") != "true":
            is_hidden = is_hidden or not request.path.endswith("/export")
        if node is not None and node.resource_key is not None and user not in (node.owner, *node.opened_by):
            keys = request.headers.get("x-goog-drive-resource-keys", "").split(",")
            is_hidden = is_hidden or f"{node.id}/{node.resource_key}" not in keys
        if is_hidden or node is None:
            raise RefusalError(404, "notFound", f"File not found: {file_id}.", "fileId")
        return node

    def _file(self, request: Request, user: str, file_id: str) -> Answer:
        node = self._seen(request, user, file_id)
        if request.one("alt") != "media":
            return Answer.of(selected(self._described(node, user), request.one("fields") or "kind,id,name,mimeType"))
        if node.is_native:
            raise RefusalError(403, "fileNotDownloadable", "Only files with binary content can be downloaded.", "alt")
        if not node.can_download:
            raise RefusalError(403, "cannotDownloadFile", "This file cannot be downloaded by the user.")
        if node.is_abusive and request.one("acknowledgeAbuse") != "true":
            raise RefusalError(403, "cannotDownloadAbusiveFile", "This file has been identified as malware or spam.")
        return Answer(200, node.content, {"Content-Type": node.mime_type})

    def _export(self, request: Request, user: str, file_id: str) -> Answer:
        node, mime_type = self._seen(request, user, file_id), request.one("mimeType") or ""
        if node.mime_type not in EXPORT_NAMES:
            raise RefusalError(403, "fileNotExportable", "Export only supports Docs Editors files.")
        if mime_type not in EXPORT_NAMES[node.mime_type]:
            raise RefusalError(400, "badRequest", "The requested conversion is not supported.", "convertTo")
        if not node.can_download:
            raise RefusalError(403, "cannotExportFile", "This file cannot be exported by the user.")
        if node.is_export_too_large:
            raise RefusalError(403, "exportSizeLimitExceeded", "This file is too large to be exported.")
        return Answer(200, exported(node.content.decode(), mime_type), {"Content-Type": mime_type})

    def _export_link(self, request: Request, user: str | None) -> Answer:
        """What docs.google.com does: a sign-in page, with status 200, for who is not known."""
        node = self.state.nodes.get(request.one("id") or "")
        if user is None or node is None or not self.state.sees(user, node.id):
            return LOGIN_PAGE
        kinds = {name: mime_type for mime_type, name in EXPORT_NAMES[node.mime_type].items()}
        mime_type = kinds[request.one("exportFormat") or ""]
        return Answer(200, exported(node.content.decode(), mime_type), {"Content-Type": mime_type})


def _terms(query: str | None, fake: FakeGoogleDrive, user: str) -> list[Callable[[Node], bool]]:
    found: list[Callable[[Node], bool]] = []
    for part in (query or "").split(" and ") if query else []:
        match = _TERM.fullmatch(part.strip())
        if match is None:
            raise RefusalError(400, "invalid", f"Invalid Value: {part}", "q")
        found.append(_term(match.groupdict(), fake, user))
    return found


def _term(term: Mapping[str, str | None], fake: FakeGoogleDrive, user: str) -> Callable[[Node], bool]:
    parent = term["parent"]
    if parent is not None:
        parent = re.sub(r"\\(.)", r"\1", parent)
        if not fake.state.sees(user, parent):
            raise RefusalError(404, "notFound", f"File not found: {parent}.", "fileId")
        return lambda node: node.parent == parent
    value, is_equal = term["value"] or "", term["sign"] == "="
    if term["field"] == "trashed":
        return lambda node: (fake.state.is_trashed(node.id) == (value == "true")) == is_equal
    return lambda node: (node.mime_type == value.strip("'")) == is_equal


def _time(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%S.000Z")


def _sample() -> FakeGoogleDrive:
    fake = FakeGoogleDrive()
    state = fake.state
    plans = state.add_folder("Plans")
    state.add_file("Budget.txt", "The budget of the harbour is twelve million.", plans)
    state.add_doc("Minutes", "# Minutes\n\nThe council met on Tuesday.", plans)
    sales = state.add_drive("Sales")
    state.add_file("Offer.md", "# Offer\n\nThree pumps by June.", sales, "text/markdown")
    state.add_file("Letter.txt", "A letter from a colleague.", owner="user-2", readers={ME})
    return fake


if __name__ == "__main__":
    from tests.fakes.by_hand import serve

    sample = _sample()
    serve(sample, {"GOOGLE_DRIVE_API_URL": sample.url, "GOOGLE_DRIVE_EXPORT_URL": sample.export_url})
