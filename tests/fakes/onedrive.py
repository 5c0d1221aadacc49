"""A fake OneDrive: Microsoft Graph v1.0 as documented, for one personal or work account and the drives shared with it.

By hand: `python -m tests.fakes.onedrive [personal]`.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, ClassVar

from tests.fakes import onedrive_contract
from tests.fakes.onedrive_drives import Drive, Drives, Node
from tests.fakes.server import Answer, FakeVendor, Request

ME = "user-1"
OTHER = "user-2"
_DOWNLOAD_LINK = "@microsoft.graph.downloadUrl"
_TOKEN = re.compile(r"(?:/root/delta|/root/microsoft\.graph\.delta)\(token='([^']*)'\)\Z")


@dataclass(frozen=True)
class Reading:
    """What a token of the feed stands for: `queue` comes first, then all that changed after number `seq`."""

    seq: int = 0
    queue: tuple[str, ...] = ()
    told: frozenset[str] = frozenset()
    is_first: bool = True
    select: str | None = None
    top: int = 200


class FakeOneDrive(FakeVendor):
    """`is_work` chooses the kind of account. Its switches:

    `tells_ancestors`: the feed shows the folders above a changed item, as Graph does. `tells_descendants`: deleting or
    restoring a folder is told of for what it held as well. `resync_code` and `has_location` shape a 410. `repeats` makes
    every item of a page come twice, in an earlier state first; `reverses` turns each page round. `ends_empty` gives the
    deltaLink on a page of its own. `loops` gives the same nextLink for ever. `shuffles_case` writes personal ids now so,
    now so. `shows_links` False lists without download links, `refuses_links` takes being asked for them for a mistake.
    """

    provider: ClassVar[str] = "onedrive"

    def __init__(self, *, is_work: bool = True, latency_s: float = 0.0) -> None:
        self.drives = Drives()
        self.mine = self.drives.add_drive(ME, is_work=is_work)
        self.page_size = 200
        self.tells_ancestors = True
        self.tells_descendants = is_work
        self.resync_code = "resyncRequired"
        self.has_location = True
        self.repeats = False
        self.reverses = False
        self.ends_empty = False
        self.shuffles_case = not is_work
        self.loops = False
        self.shows_links = True
        self.refuses_links = False
        self._readings: dict[str, Reading] = {}
        self._expired: set[str] = set()
        self._tickets: dict[str, str] = {}
        self._spent: set[str] = set()
        self.ticket_uses: int | None = None
        """How often a download link may be used before it is refused; None is always."""
        super().__init__(latency_s=latency_s)

    # What people do

    def folder(self, name: str, parent: str | None = None, drive: Drive | None = None) -> str:
        with self.lock:
            return self.drives.put((drive or self.mine).id, name, parent, kind="folder")

    def file(
        self,
        name: str,
        text: str | bytes,
        parent: str | None = None,
        drive: Drive | None = None,
        *,
        mime: str = "text/plain",
    ) -> str:
        body = text.encode() if isinstance(text, str) else text
        with self.lock:
            return self.drives.put((drive or self.mine).id, name, parent, body=body, mime=mime)

    def notebook(self, name: str, parent: str | None = None) -> str:
        with self.lock:
            return self.drives.put(self.mine.id, name, parent, kind="package")

    def shortcut(self, target: str, parent: str | None = None, name: str | None = None) -> str:
        """Add a shared item to one's own drive."""
        with self.lock:
            node = self.drives.nodes[target]
            node_id = self.drives.put(self.mine.id, name or node.name, parent, kind="remote")
            self.drives.nodes[node_id].target = target
            return node_id

    def other(self, *, is_work: bool = True) -> Drive:
        """Somebody else's drive."""
        with self.lock:
            return self.drives.add_drive(OTHER, is_work=is_work)

    def share(self, node_id: str) -> None:
        with self.lock:
            self.drives.nodes[node_id].shared_with.add(ME)

    def unshare(self, node_id: str) -> None:
        with self.lock:
            self.drives.nodes[node_id].shared_with.discard(ME)

    def edit(self, node_id: str, text: str | bytes) -> None:
        with self.lock:
            self.drives.edit(node_id, text.encode() if isinstance(text, str) else text)

    def rename(self, node_id: str, name: str) -> None:
        with self.lock:
            self.drives.rename(node_id, name)

    def move(self, node_id: str, parent: str | None = None) -> None:
        with self.lock:
            self.drives.move(node_id, parent or self.mine.root)

    def delete(self, node_id: str) -> None:
        """To the recycle bin: for the API it is deleted."""
        with self.lock:
            self.drives.delete(node_id, tell_descendants=self.tells_descendants)

    def restore(self, node_id: str) -> None:
        with self.lock:
            self.drives.restore(node_id, tell_descendants=self.tells_descendants)

    def age(self, node_id: str) -> None:
        with self.lock:
            self.drives.age(node_id)

    def node(self, node_id: str) -> Node:
        return self.drives.nodes[node_id]

    # What the service does

    def expire_cursors(self) -> None:
        with self.lock:
            self._expired |= self._readings.keys()

    def expire_downloads(self) -> None:
        """Refuse the links given out so far."""
        with self.lock:
            self._spent |= self._tickets.keys()

    def is_write(self, request: Request) -> bool:
        return request.method != "GET"

    def violation(self, request: Request, answer: Answer) -> str | None:
        if any(node.broken for node in self.drives.nodes.values()):
            answer = Answer(404, error(404, "itemNotFound", "Broken on purpose").body)
        return onedrive_contract.violation(request, answer)

    def answer(self, request: Request) -> Answer:
        if request.steps[0] == "download":
            return self._download(request)
        user = self.tokens.get(request.token or "")
        if user is None:
            return error(401, "InvalidAuthenticationToken", "Access token has expired or is not yet valid.")
        path = request.path.removeprefix("/v1.0")
        if request.method != "GET":
            return error(405, "methodNotAllowed", "This fake is only read.")
        if self.refuses_links and "content.downloadUrl" in (request.one("$select") or ""):
            return error(400, "invalidRequest", "Could not find a property named 'content.downloadUrl'.")
        if path == "/me/drive":
            return Answer.of(self._drive(self.mine))
        if path.startswith(("/me/drive/root/delta", f"/drives/{self.mine.id}/root/")):
            return self._delta(request)
        return self._of_item(request, user)

    def _of_item(self, request: Request, user: str) -> Answer:
        steps = request.steps[1:]
        if len(steps) < 4 or steps[0] != "drives" or steps[2] != "items":
            return error(400, "invalidRequest", "Resource not found for the segment.")
        node = self.drives.find(steps[1], steps[3].removesuffix(":"))
        if node is not None and steps[3].endswith(":"):
            wanted = steps[4].casefold()
            node = next((child for child in self.drives.children(node.id) if child.name.casefold() == wanted), None)
            steps = steps[:4]
        if node is None or node.is_deleted:
            return error(404, "itemNotFound", "Item does not exist")
        if not self.drives.can_read(user, node.id):
            return error(403, "accessDenied", "Access denied")
        what = steps[4] if len(steps) > 4 else ""
        if what == "content":
            return self._content(node)
        if what == "children":
            return self._children(request, node)
        return Answer.of(self._selected(self._item(node, in_delta=False), request.one("$select")))

    # The feed

    def _delta(self, request: Request) -> Answer:
        found = _TOKEN.search(request.path)
        token = found[1] if found else request.one("token")
        if token == "latest":  # the present, without what is there
            reading = Reading(seq=max(node.seq for node in self.drives.nodes.values()), is_first=False)
            return self._page([], reading, request, is_last=True)
        reading = Reading() if token is None else self._readings.get(token, None) or Reading(seq=-1)
        if token is not None and (token in self._expired or reading.seq < 0):
            return self._resync(is_known=token in self._expired)
        reading = replace(reading, select=request.one("$select") or reading.select)
        reading = replace(reading, top=int(request.one("$top") or reading.top))
        told, following = self._read(reading)
        is_last = not following.queue and self.drives.after(self.mine.id, following.seq) is None
        if self.loops and token is not None:
            following, is_last = reading, False
            return self._page(told, following, request, is_last=False, token=token)
        return self._page(told, following, request, is_last=is_last and not (told and self.ends_empty))

    def _read(self, reading: Reading) -> tuple[list[Node], Reading]:
        """Tell of up to a page's items, and return where that leads."""
        most = min(reading.top, self.page_size)
        queue, seq, seen = list(reading.queue), reading.seq, set(reading.told)
        told: list[Node] = []
        while len(told) < most:
            if not queue:
                following = self.drives.after(self.mine.id, seq)
                if following is None:
                    break
                seq = following.seq
                if following.is_deleted and reading.is_first and following.id not in seen:
                    continue  # it was never there, unless this enumeration has told of it
                chain = [node.id for node in self.drives.above(following.id)][1:] if self.tells_ancestors else []
                queue = [*(one for one in reversed(chain) if one not in seen), following.id]
            node_id = queue.pop(0)
            seen.add(node_id)
            told.append(self.drives.nodes[node_id])
        return told, replace(reading, seq=seq, queue=tuple(queue), told=frozenset(seen))

    def _page(
        self, told: list[Node], following: Reading, request: Request, *, is_last: bool, token: str | None = None
    ) -> Answer:
        value = [self._selected(self._item(node, in_delta=True), following.select) for node in told]
        value = value[::-1] if self.reverses else value
        value = [state for item in value for state in (_earlier(item), item)] if self.repeats else value
        if is_last:
            following = Reading(following.seq, is_first=False, select=following.select)
        link = self._link(following, token)
        return Answer.of(
            {
                "@odata.context": f"{self.url}/v1.0/$metadata#Collection(driveItem)",
                "@odata.deltaLink" if is_last else "@odata.nextLink": link,
                "value": value,
            }
        )

    def _link(self, reading: Reading, token: str | None = None) -> str:
        token = token or f"t{len(self._readings) + 1}"
        self._readings[token] = reading
        if self.mine.is_work:
            return f"{self.url}/v1.0/me/drive/root/delta(token='{token}')"
        return f"{self.url}/v1.0/me/drive/root/delta?token={token}"

    def _resync(self, *, is_known: bool) -> Answer:
        if not is_known:
            return error(400, "invalidRequest", "The provided token is not valid.")
        location = {"Location": self._link(Reading())} if self.has_location else {}
        status = 404 if self.resync_code in ("itemNotFound", "SyncStateNotFound") else 410
        if self.resync_code == "invalidRequest":
            status = 400
        return error(status, self.resync_code, "Resync required. Replace any local items.", location)

    # Items

    def _drive(self, drive: Drive) -> dict[str, Any]:
        return {
            "@odata.context": f"{self.url}/v1.0/$metadata#drives/$entity",
            "id": drive.id,
            "driveType": "business" if drive.is_work else "personal",
            "name": "OneDrive",
            "owner": {"user": {"id": drive.owner, "displayName": "Ada Example", "email": "ada@example.com"}},
            "quota": {"total": 1 << 40, "used": 1 << 20, "remaining": 1 << 39, "deleted": 0, "state": "normal"},
            "webUrl": "https://example-my.sharepoint.com/personal/ada/Documents",
        }

    def _children(self, request: Request, node: Node) -> Answer:
        skip = int(request.one("$skiptoken") or 0)
        top = min(int(request.one("$top") or 200), self.page_size)
        children = self.drives.children(node.id)
        select = request.one("$select")
        shown = [self._selected(self._item(child, in_delta=False), select) for child in children[skip : skip + top]]
        reply: dict[str, Any] = {"@odata.context": f"{self.url}/v1.0/$metadata#children", "value": shown}
        if skip + top < len(children):
            query = f"$skiptoken={skip + top}&$top={top}" + (f"&$select={select}" if select else "")
            reply["@odata.nextLink"] = f"{self.url}{request.raw_path}?{query}"
        return Answer.of(reply)

    def _content(self, node: Node) -> Answer:
        if node.is_folder or node.target is not None:
            return error(400, "invalidRequest", "You cannot get content for a folder")
        if node.is_malware:
            return error(403, "malwareDetected", "Malware detected")
        return Answer(302, b"", {"Location": self._ticket(node)})

    def _ticket(self, node: Node) -> str:
        ticket = f"{len(self._tickets) + 1}-secret"
        self._tickets[ticket] = node.id
        elsewhere = self.url.replace("127.0.0.1", "localhost")  # another host than Graph, as it is there
        return f"{elsewhere}/download/{ticket}?tempauth=v1.secret"

    def _download(self, request: Request) -> Answer:
        """The pre-authenticated link, which belongs to another service: it refuses Graph's tokens."""
        ticket = request.steps[1]
        node_id = self._tickets.get(ticket)
        if node_id is None or ticket in self._spent or "authorization" in request.headers:
            return Answer(401, b"The access token is expired", {"Content-Type": "text/plain"})
        if self.ticket_uses is not None:
            if self.ticket_uses <= 0:
                return Answer(401, b"The access token is expired", {"Content-Type": "text/plain"})
            self.ticket_uses -= 1
        node = self.drives.nodes[node_id]
        if node.is_deleted:
            return Answer(404, b"Item not found", {"Content-Type": "text/plain"})
        body = node.body if node.served is None else node.served
        return Answer(200, body, {"Content-Type": node.mime})

    def _item(self, node: Node, *, in_delta: bool) -> dict[str, Any]:
        drive = self.drives.drives[node.drive]
        if node.is_deleted:
            return self._deleted(node, drive)
        item: dict[str, Any] = {
            "id": self._cased(node.id, drive, node.seq),
            "name": node.name,
            "size": len(node.body),
            "eTag": f'"{{{node.id}}},{node.version}"',
            "createdDateTime": _stamp(node.created),
            "lastModifiedDateTime": _stamp(node.modified),
            "fileSystemInfo": {
                "createdDateTime": _stamp(node.created),
                "lastModifiedDateTime": _stamp(node.modified),
            },
            "webUrl": f"https://example-my.sharepoint.com/personal/ada/Documents/{node.id}",
            "parentReference": self._parent(node, drive, in_delta=in_delta),
            **self._facets(node),
        }
        if not (in_delta and drive.is_work):
            item["lastModifiedBy"] = {"user": {"displayName": "Ada Example", "id": drive.owner}}
            if not (drive.is_work and node.is_folder):
                item["cTag"] = f'"c:{{{node.id}}},{len(node.body)}"'
        return _broken(item, node.broken)

    def _facets(self, node: Node) -> dict[str, Any]:
        if node.target is not None:
            return {"remoteItem": self._remote(self.drives.nodes[node.target])}
        if node.kind == "package":
            return {"package": {"type": "oneNote"}}
        if node.is_folder:
            folder = {"folder": {"childCount": len(self.drives.children(node.id))}}
            return {**folder, "root": {}} if node.kind == "root" else folder
        hashes = {"quickXorHash": node.quick_xor_hash} if node.has_hash and node.body else {}
        file: dict[str, Any] = {"file": {"mimeType": node.mime, "hashes": hashes}}
        if node.is_malware:
            return {**file, "malware": {"description": "EICAR"}}
        return {**file, _DOWNLOAD_LINK: self._ticket(node)}

    def _remote(self, target: Node) -> dict[str, Any]:
        drive = self.drives.drives[target.drive]
        facets = self._facets(target)
        return {
            "id": self._cased(target.id, drive, target.seq),
            "name": target.name,
            "size": len(target.body),
            "parentReference": {
                "driveId": self._cased(drive.id, drive, 1),
                "driveType": _type(drive),
                "id": target.parent,
            },
            **{name: facets[name] for name in ("file", "folder", "package") if name in facets},
        }

    def _deleted(self, node: Node, drive: Drive) -> dict[str, Any]:
        """Without what the documentation's table leaves out; its parent is the root, wherever it was."""
        item: dict[str, Any] = {
            "id": self._cased(node.id, drive, node.seq),
            "deleted": {"state": "deleted"},
            "parentReference": {"driveId": drive.id, "driveType": _type(drive), "id": drive.root},
        }
        facets = self._facets(node)
        item |= {name: facets[name] for name in ("file", "folder", "package") if name in facets}
        if drive.is_work:
            return _broken({**item, "size": len(node.body), "eTag": f'"{{{node.id}}},{node.version}"'}, node.broken)
        return _broken({**item, "name": node.name}, node.broken)

    def _parent(self, node: Node, drive: Drive, *, in_delta: bool) -> dict[str, Any]:
        parent: dict[str, Any] = {
            "driveId": self._cased(drive.id, drive, node.seq + in_delta),
            "driveType": _type(drive),
        }
        if node.parent is not None:
            parent["id"] = self._cased(node.parent, drive, node.seq + 1)
            if not in_delta:
                path = self.drives.path(node.parent)
                parent["path"] = f"/drives/{drive.id}/root:" + (f"/{path}" if path else "")
        return parent

    def _cased(self, one: str, drive: Drive, turn: int) -> str:
        return one.lower() if self.shuffles_case and not drive.is_work and turn % 2 else one

    def _selected(self, item: dict[str, Any], select: str | None) -> dict[str, Any]:
        if not select:
            return item
        wanted = set(select.split(",")) - {_DOWNLOAD_LINK}  # by its own name it is not to be had
        if "content.downloadUrl" in wanted and self.shows_links:
            wanted.add(_DOWNLOAD_LINK)
        return {name: value for name, value in item.items() if name in wanted}


def error(status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> Answer:
    """Graph's error object (learn.microsoft.com/graph/errors)."""
    inner = {"date": "2026-03-01T09:00:00", "request-id": "fake-request", "client-request-id": "fake-request"}
    return Answer.of({"error": {"code": code, "message": message, "innerError": inner}}, status, headers)


def _type(drive: Drive) -> str:
    return "business" if drive.is_work else "personal"


def _stamp(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"


def _earlier(item: dict[str, Any]) -> dict[str, Any]:
    """What a file was called before."""
    return {**item, "name": f"~{item['name']}"} if "name" in item and "file" in item else item


def _broken(item: dict[str, Any], broken: Mapping[str, object]) -> dict[str, Any]:
    """Replace fields; None leaves one out."""
    merged = {**item, **broken}
    return {name: value for name, value in merged.items() if value is not None}


def sample(*, is_work: bool = True) -> FakeOneDrive:
    """A small account to look at."""
    vendor = FakeOneDrive(is_work=is_work)
    documents = vendor.folder("Documents")
    vendor.file("welcome.txt", "Welcome to this OneDrive.", documents)
    vendor.file("plan.md", "# Plan\n\nShip it on Friday.", vendor.folder("Clients", documents), mime="text/markdown")
    vendor.notebook("Notes", documents)
    return vendor


if __name__ == "__main__":
    from tests.fakes.by_hand import serve

    by_hand = sample(is_work="personal" not in sys.argv[1:])
    serve(by_hand, {"ONEDRIVE_API_URL": by_hand.url})
