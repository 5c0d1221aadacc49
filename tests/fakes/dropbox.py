"""A Dropbox on loopback, for tests: accounts, listings, the feed, downloads and exports, as its documentation says.

`python -m tests.fakes.dropbox` serves a small account until Ctrl-C.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from tests.fakes import dropbox_contract
from tests.fakes.dropbox_space import Entry, Node, Space, hash_of, shown_below
from tests.fakes.server import Answer, FakeVendor, Request

SCOPES = {
    "/2/users/get_current_account": "account_info.read",
    "/2/files/list_folder": "files.metadata.read",
    "/2/files/list_folder/continue": "files.metadata.read",
    "/2/files/download": "files.content.read",
    "/2/files/export": "files.content.read",
}


@dataclass
class User:
    """An account. Its own files lie at `home_path` of `space`; outside a team that is the root itself."""

    account_id: str
    email: str
    space: Space = field(default_factory=Space)
    home_namespace: str = "1001"
    root_namespace: str = "1001"
    home_path: str = ""
    scopes: frozenset[str] = frozenset(SCOPES.values())

    def root_info(self) -> Entry:
        tag = "user" if self.home_namespace == self.root_namespace else "team"
        info = {".tag": tag, "root_namespace_id": self.root_namespace, "home_namespace_id": self.home_namespace}
        return {**info, "home_path": self.home_path} if tag == "team" else info


@dataclass(frozen=True)
class Listing:
    """What a cursor stands for. `after` is the last path listed; None once the listing has ended and the feed goes on."""

    account_id: str
    prefix: str
    folder: str
    is_recursive: bool
    with_mounted: bool
    limit: int
    seq: int
    after: str | None = ""
    last_entry: Entry | None = None


class DropboxError(Exception):
    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.status)
        self.answer = answer


class FakeDropbox(FakeVendor):
    """`space` is the first account's. With `repeats_entries` each page begins with the last entry of the one before, with
    `children_first` listings show children before their parents, with `is_stuck` a cursor leads back to itself, and with
    `is_strict` every second listing call is one too many. `spoil` alters entries in ways that no contract allows.
    """

    provider: ClassVar[str] = "dropbox"

    def __init__(self, *, latency_s: float = 0.0) -> None:
        self.users = {"user-1": User("dbid:AAH4f99T0taONIb-OurWxbNQ6ywGRopQngc", "ann@example.com")}
        self.page_size = 2000
        self.repeats_entries = False
        self.children_first = False
        self.is_stuck = False
        self.is_strict = False
        self.corrupt_downloads = 0
        self.hides_result = False
        self.spoil: Callable[[Entry], Entry] | None = None
        self._cursors: dict[str, Listing] = {}
        self._expired: set[str] = set()
        self._listings = 0
        super().__init__(latency_s=latency_s)

    @property
    def user(self) -> User:
        return self.users["user-1"]

    @property
    def space(self) -> Space:
        return self.user.space

    def urls(self) -> dict[str, str]:
        return {"api": self.url, "content": self.url}

    def add_user(self, token: str, email: str) -> User:
        with self.lock:
            user = User(f"dbid:AAH4f99T0taONIb-OurWxbNQ6ywGRop{len(self.users):04d}", email)
            self.tokens[token] = f"user-{len(self.users) + 1}"
            self.users[self.tokens[token]] = user
            return user

    def join_team(self, home_path: str, *, root_namespace: str = "2002") -> None:
        """The account's files become a folder in a team's space, which is the new root."""
        with self.lock:
            self.space.shift(home_path)
            self.user.root_namespace, self.user.home_path = root_namespace, home_path

    def expire_cursors(self) -> None:
        with self.lock:
            self._expired |= set(self._cursors)

    def throttle(self, part: str, *, retry_after_s: int, said_in: str = "both", times: int = 1) -> None:
        """Answer 429, with the time to wait said in the `header`, in the `body`, in `both`, or as plain `text`."""
        error = {"reason": {".tag": "too_many_requests"}, "retry_after": retry_after_s}
        headers = {"Retry-After": str(retry_after_s)} if said_in != "body" else {}
        if said_in == "header":
            del error["retry_after"]
        answer = _json({"error_summary": "too_many_requests/..", "error": error}, 429, headers)
        if said_in == "text":
            answer = Answer(429, b"too many requests", {"Content-Type": "text/plain", **headers})
        self.fail(part, answer=answer, times=times)

    def is_write(self, request: Request) -> bool:
        return request.raw_path not in SCOPES

    def violation(self, request: Request, answer: Answer) -> str | None:
        found = dropbox_contract.broken_request(request)
        if found is None and self.spoil is None and not self.hides_result:
            found = dropbox_contract.broken_answer(request, answer)
        return found

    def answer(self, request: Request) -> Answer:
        routes: Mapping[str, Callable[[Request, User, str], Answer]] = {
            "/2/users/get_current_account": self._account,
            "/2/files/list_folder": self._list,
            "/2/files/list_folder/continue": self._continue,
            "/2/files/download": self._download,
            "/2/files/export": self._export,
        }
        route = routes.get(request.raw_path)
        if route is None or request.method != "POST":
            return Answer(404, b"", {"Content-Type": "text/plain"})
        try:
            user = self._user(request)
            return route(request, user, self._prefix(request, user))
        except DropboxError as error:
            return error.answer

    def _user(self, request: Request) -> User:
        user = self.users.get(self.tokens.get(request.token or "", ""))
        if user is None:
            raise DropboxError(_error(401, {".tag": "invalid_access_token"}))
        scope = SCOPES[request.raw_path]
        if scope not in user.scopes:
            raise DropboxError(_error(401, {".tag": "missing_scope", "required_scope": scope}))
        return user

    def _prefix(self, request: Request, user: User) -> str:
        """The path that the request takes as its root: the account's home, unless a header says otherwise."""
        header = request.headers.get("dropbox-api-path-root")
        if header is None:
            return user.home_path
        root = json.loads(header)
        if root.get(".tag") == "home":
            return user.home_path
        if root.get(".tag") == "root" and root.get("root") == user.root_namespace:
            return ""
        if root.get(".tag") == "namespace_id" and root.get("namespace_id") == user.root_namespace:
            return ""
        raise DropboxError(_error(422, {".tag": "invalid_root", "invalid_root": user.root_info()}))

    def _account(self, request: Request, user: User, prefix: str) -> Answer:
        return _json(
            {
                "account_id": user.account_id,
                "name": {
                    "given_name": "Ann",
                    "surname": "Example",
                    "familiar_name": "Ann",
                    "display_name": "Ann Example",
                    "abbreviated_name": "AE",
                },
                "email": user.email,
                "email_verified": True,
                "disabled": False,
                "locale": "en",
                "referral_link": "https://www.dropbox.com/referrals/x",
                "is_paired": False,
                "account_type": {".tag": "basic"},
                "root_info": user.root_info(),
            }
        )

    def _list(self, request: Request, user: User, prefix: str) -> Answer:
        self._limit_strictly()
        arg = request.json
        path = arg["path"]
        if path == "/" or (path and not path.startswith(("/", "id:"))):
            text = (
                f'Error in call to API function "files/list_folder": request body: path: {path!r} did not match pattern'
            )
            return Answer(400, text.encode(), {"Content-Type": "text/plain; charset=utf-8"})
        folder = (prefix + path).lower()
        if folder and not self._is_folder(user.space, folder):
            tag = "not_folder" if folder in user.space.nodes else "not_found"
            return _error(409, {".tag": "path", "path": {".tag": tag}})
        listing = Listing(
            account_id=user.account_id,
            prefix=prefix,
            folder=folder,
            is_recursive=bool(arg.get("recursive")),
            with_mounted=bool(arg.get("include_mounted_folders", True)),
            limit=int(arg.get("limit", 500)),
            seq=len(user.space.log),
        )
        return self._page(user, listing)

    def _continue(self, request: Request, user: User, prefix: str) -> Answer:
        self._limit_strictly()
        token = request.json["cursor"]
        listing = self._cursors.get(token)
        if listing is None or listing.account_id != user.account_id:
            text = b'Error in call to API function "files/list_folder/continue": Invalid "cursor" parameter'
            return Answer(400, text, {"Content-Type": "text/plain; charset=utf-8"})
        if token in self._expired:
            return _error(409, {".tag": "reset"})
        if listing.prefix != prefix:
            self.violations.append("files/list_folder/continue: the path root is another one than the listing's")
        if listing.folder and not self._is_folder(user.space, listing.folder):
            return _error(409, {".tag": "path", "path": {".tag": "not_found"}})
        if self.is_stuck:
            return _json({"entries": [], "cursor": token, "has_more": True})
        return self._page(user, listing, token)

    def _page(self, user: User, listing: Listing, token: str | None = None) -> Answer:
        """List on after the last path, or, once all are listed, tell what has happened since the listing began."""
        most = max(1, min(listing.limit, self.page_size))
        if listing.after is not None:
            waiting = [node for node in self._listed(user.space, listing) if self._is_after(node.path, listing.after)]
            entries = [node.entry() for node in waiting[:most]]
            is_listed = len(waiting) <= most
            after = replace(listing, after=None if is_listed else waiting[most - 1].path)
        else:
            told = [(seq, event) for seq, event in user.space.events(listing.seq)]
            shown = [(seq, event.entry) for seq, event in told if self._is_in(event.path, event.mount, listing)]
            entries = [entry for _, entry in shown[:most]]
            after = replace(listing, seq=shown[most - 1][0] if len(shown) > most else len(user.space.log))
        has_more = after.after is not None or any(
            self._is_in(event.path, event.mount, after) for _, event in user.space.events(after.seq)
        )
        if self.repeats_entries and listing.last_entry is not None and entries:
            entries = [listing.last_entry, *entries]
        if entries:
            after = replace(after, last_entry=entries[-1])
        if after != listing or token is None:
            token = f"AAF{len(self._cursors):09d}" + "x" * 120
            self._cursors[token] = after
        shown_entries = [shown_below(entry, listing.prefix) for entry in entries]
        if self.spoil is not None:
            shown_entries = [self.spoil(entry) for entry in shown_entries]
        return _json({"entries": shown_entries, "cursor": token, "has_more": has_more})

    def _listed(self, space: Space, listing: Listing) -> list[Node]:
        found = [node for node in space.below(listing.folder) if self._is_in(node.path, node.mount, listing)]
        if listing.folder and listing.is_recursive and listing.folder != listing.prefix.lower():
            found.insert(0, space.at(listing.folder))
        return found[::-1] if self.children_first else found

    def _is_after(self, path: str, after: str) -> bool:
        return not after or (path < after if self.children_first else path > after)

    def _is_in(self, path: str, mount: str | None, listing: Listing) -> bool:
        if mount is not None and not listing.with_mounted:
            return False
        if path == listing.folder:
            return listing.is_recursive and listing.folder != listing.prefix.lower()
        is_below = path.startswith(listing.folder + "/")
        return is_below and (listing.is_recursive or "/" not in path[len(listing.folder) + 1 :])

    def _is_folder(self, space: Space, path: str) -> bool:
        return path in space.nodes and space.nodes[path].is_folder

    def _limit_strictly(self) -> None:
        self._listings += 1
        if self.is_strict and self._listings % 2 == 0:
            error = {"reason": {".tag": "too_many_requests"}, "retry_after": 1}
            raise DropboxError(_error(429, error, "too_many_requests", {"Retry-After": "1"}))

    def _file(self, request: Request, user: User, prefix: str) -> tuple[Entry, Node]:
        arg = json.loads(request.headers["dropbox-api-arg"])
        path = arg["path"]
        node = user.space.by_id(path) if path.startswith("id:") else user.space.nodes.get((prefix + path).lower())
        if node is None or not node.path.startswith(prefix.lower() + "/"):
            raise DropboxError(_error(409, {".tag": "path", "path": {".tag": "not_found"}}))
        if node.is_folder:
            raise DropboxError(_error(409, {".tag": "path", "path": {".tag": "not_file"}}))
        if node.is_restricted:
            raise DropboxError(_error(409, {".tag": "path", "path": {".tag": "restricted_content"}}))
        return arg, node

    def _download(self, request: Request, user: User, prefix: str) -> Answer:
        _, node = self._file(request, user, prefix)
        if not node.is_downloadable:
            return _error(409, {".tag": "unsupported_file"})
        entry = shown_below(node.entry(), prefix)
        del entry[".tag"]
        return self._bytes(node.body, entry)

    def _export(self, request: Request, user: User, prefix: str) -> Answer:
        arg, node = self._file(request, user, prefix)
        if node.is_downloadable or not (node.exports or node.export_as):
            return _error(409, {".tag": "non_exportable"})
        wanted = arg.get("export_format")
        if wanted is not None and wanted not in node.exports:
            return _error(409, {".tag": "invalid_export_format"})
        body = node.exports[wanted] if wanted else node.body
        entry = shown_below(node.entry(), prefix)
        del entry[".tag"]
        name = f"{node.name.rpartition('.')[0]}.{wanted or node.export_as}"
        export = {"name": name, "size": len(body), "export_hash": hash_of(body)}
        return self._bytes(body, {"export_metadata": export, "file_metadata": entry})

    def _bytes(self, body: bytes, result: Entry) -> Answer:
        if self.corrupt_downloads:
            self.corrupt_downloads -= 1
            body = body[::-1] + b"?"
        headers = {"Content-Type": "application/octet-stream"}
        if not self.hides_result:
            headers["Dropbox-API-Result"] = json.dumps(result)
        return Answer(200, body, headers)


def _json(fields: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Answer:
    return Answer.of(fields, status, {"Content-Type": "application/json", **(headers or {})})


def _error(status: int, error: Entry, summary: str | None = None, headers: Mapping[str, str] | None = None) -> Answer:
    tags = [error.get(".tag", "")]
    inner = error.get(tags[0])
    if isinstance(inner, dict):
        tags.append(inner.get(".tag", ""))
    return _json({"error_summary": f"{summary or '/'.join(tags)}/..", "error": error}, status, headers)


def sample() -> FakeDropbox:
    vendor = FakeDropbox()
    vendor.space.put("/Team/Reports/plan.txt", "The plan for the year.")
    vendor.space.put("/Team/Reports/Übersicht.md", "# Overview\n\nIn short: all is well.")
    vendor.space.put("/notes.txt", "Things to remember.")
    vendor.space.put("/photo.jpg", b"\xff\xd8\xff\xe0")
    return vendor


def _main() -> None:
    from tests.fakes.by_hand import serve

    vendor = sample()
    serve(vendor, {"DROPBOX_API_URL": vendor.url, "DROPBOX_CONTENT_URL": vendor.url})


if __name__ == "__main__":
    _main()
