"""A Slack workspace: its Web API methods that read, and files, by docs.slack.dev/reference/methods (read 2026-11-22).

Oddities that are Slack's own: every answer has status 200 but for rate limits; `history` without `latest` begins at
`oldest`; replies that were also sent to the channel show in both places; a parent is repeated on each page of its replies;
a reply's own `ts` gives that message alone; a deleted parent with replies stays as a tombstone; a file asked for with a bad
token is a login page. By hand: `python -m tests.fakes.slack`.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar
from urllib.parse import parse_qsl

from tests.fakes import slack_contract
from tests.fakes.server import LOGIN_PAGE, Answer, FakeVendor, Request

START = datetime(2026, 11, 22, 9, 0, tzinfo=UTC)
TEAM = "T0ACME"
TOKEN = "test-token"

ALL_SCOPES = (
    *(f"{kind}:{what}" for kind in ("channels", "groups", "im", "mpim") for what in ("read", "history")),
    "users:read",
    "files:read",
)
KINDS = {"public_channel": "channels", "private_channel": "groups", "im": "im", "mpim": "mpim"}


class SlackError(Exception):
    """What the vendor answers with `ok: false`."""

    def __init__(self, code: str, **fields: Any) -> None:
        super().__init__(code)
        self.code = code
        self.fields = fields


@dataclass
class FakeChannel:
    id: str
    name: str
    kind: str = "public_channel"
    members: set[str] = field(default_factory=set)
    is_archived: bool = False
    previous_names: list[str] = field(default_factory=list)
    messages: dict[str, dict[str, Any]] = field(default_factory=dict)
    """By ts: parents and replies alike."""


class FakeSlack(FakeVendor):
    """One workspace. `user-1`, whom the test token belongs to, is Ana; Slack's own ids are used, so she is U1ANA.

    `now` moves by a second with each message and when told to. `most_objects` is the largest page of messages;
    `per_minute` gives methods a limit of their own, which `restrict()` sets to what unlisted commercial apps get.
    """

    provider: ClassVar[str] = "slack"

    def __init__(self, *, latency_s: float = 0.0, now: datetime = START) -> None:
        super().__init__(latency_s=latency_s)
        self.now = now
        self.tokens = {TOKEN: "U1ANA"}
        self.scopes: dict[str, tuple[str, ...]] = {TOKEN: ALL_SCOPES}
        self.bots: set[str] = set()
        """Users that are bots: they read only channels they were invited to."""
        self.refusals: dict[str, str] = {}
        """Token -> the error code that it is refused with."""
        self.users: dict[str, dict[str, Any]] = {}
        self.channels: dict[str, FakeChannel] = {}
        self.files: dict[str, tuple[dict[str, Any], bytes]] = {}
        self.checked_files: set[str] = set()
        """Files that messages show only as `check_file_info`."""
        self.most_objects = 1000
        self.is_reversed = False
        self.per_minute: dict[str, int] = {}
        self._calls: dict[str, list[datetime]] = {}
        self._counter = 0
        for user_id, name, full in (
            ("U1ANA", "ana", "Ana Gómez"),
            ("U2BOB", "bob", "Bob Lee"),
            ("U3EVE", "eve", "Eve"),
        ):
            self.add_user(user_id, name, full)

    # What people do.

    def add_user(self, user_id: str, name: str, full: str) -> None:
        profile = {"display_name": "", "real_name": full, "email": f"{name}@acme.example"}
        with self.lock:
            self.users[user_id] = {
                "id": user_id,
                "team_id": TEAM,
                "name": name,
                "deleted": False,
                "real_name": full,
                "profile": profile,
                "is_bot": False,
                "updated": 1,
            }

    def add_channel(
        self, name: str, *, kind: str = "public_channel", members: Iterable[str] = ("U1ANA", "U2BOB")
    ) -> str:
        with self.lock:
            self._counter += 1
            stem = "".join(character for character in name.upper() if character.isascii() and character.isalnum())[:6]
            letter = {"im": "D", "private_channel": "G"}.get(kind, "C")
            channel = FakeChannel(f"{letter}{self._counter:03d}{stem}", name, kind, set(members))
            self.channels[channel.id] = channel
            return channel.id

    def join(self, channel_id: str, user: str = "U1ANA") -> None:
        with self.lock:
            self.channels[channel_id].members.add(user)

    def leave(self, channel_id: str, user: str = "U1ANA") -> None:
        with self.lock:
            self.channels[channel_id].members.discard(user)

    def archive(self, channel_id: str) -> None:
        with self.lock:
            self.channels[channel_id].is_archived = True

    def unarchive(self, channel_id: str) -> None:
        with self.lock:
            self.channels[channel_id].is_archived = False

    def delete_channel(self, channel_id: str) -> None:
        with self.lock:
            del self.channels[channel_id]

    def rename_channel(self, channel_id: str, name: str) -> None:
        with self.lock:
            channel = self.channels[channel_id]
            channel.previous_names.append(channel.name)
            channel.name = name

    def later(self, **interval: float) -> None:
        """Let time pass."""
        with self.lock:
            self.now += timedelta(**interval)

    def clock(self) -> datetime:
        return self.now

    def post(
        self,
        channel_id: str,
        text: str,
        *,
        user: str | None = "U1ANA",
        thread: str | None = None,
        is_broadcast: bool = False,
        ago: timedelta | None = None,
        files: Iterable[str] = (),
        **fields: Any,
    ) -> str:
        """Write a message, or a reply in `thread`; returns its ts. With `ago` it was written so long before now."""
        with self.lock:
            ts = self._new_ts(ago)
            message: dict[str, Any] = {"type": "message", "user": user, "text": text, "ts": ts, "team": TEAM}
            message["blocks"] = [{"type": "rich_text", "block_id": "b1", "elements": []}]
            file_objects = [self._file_in_message(file_id) for file_id in files]
            if file_objects:
                message |= {"files": file_objects, "upload": False}
            if thread is not None:
                message |= {"thread_ts": thread, "parent_user_id": self.message(channel_id, thread).get("user", "")}
                if is_broadcast:
                    message |= {"subtype": "thread_broadcast", "root": {"ts": thread}}
            message |= fields
            self.channels[channel_id].messages[ts] = {
                name: value for name, value in message.items() if value is not None
            }
            return ts

    def edit(self, channel_id: str, ts: str, text: str) -> None:
        with self.lock:
            message = self.message(channel_id, ts)
            message |= {"text": text, "edited": {"user": message.get("user", "U1ANA"), "ts": self._new_ts(None)}}

    def delete(self, channel_id: str, ts: str) -> None:
        """Delete a message; a parent with replies leaves a tombstone, and goes with its last reply."""
        with self.lock:
            messages = self.channels[channel_id].messages
            gone = messages.pop(ts)
            parent_ts = gone.get("thread_ts", ts)
            replies = self._replies(channel_id, parent_ts)
            if parent_ts == ts and replies:
                messages[ts] = {
                    "type": "message",
                    "subtype": "tombstone",
                    "text": "This message was deleted.",
                    "user": "USLACKBOT",
                    "hidden": True,
                    "ts": ts,
                }
            elif parent_ts != ts and not replies and messages.get(parent_ts, {}).get("subtype") == "tombstone":
                del messages[parent_ts]

    def add_file(self, name: str, body: bytes, *, mime_type: str, **fields: Any) -> str:
        """Upload a file; share it with `post(files=[...])`."""
        with self.lock:
            self._counter += 1
            file_id = f"F{self._counter:04d}"
            link = f"{self.url}/files-pri/{TEAM}-{file_id}/download/{name}"
            file = {
                "id": file_id,
                "created": 1,
                "timestamp": 1,
                "name": name,
                "title": name,
                "mimetype": mime_type,
                "filetype": name.rpartition(".")[2],
                "user": "U1ANA",
                "size": len(body),
                "mode": "hosted",
                "is_external": False,
                "url_private": link,
                "url_private_download": link,
                "permalink": f"https://acme.slack.com/files/U1ANA/{file_id}/{name}",
            }
            self.files[file_id] = ({**file, **fields}, body)
            return file_id

    def delete_file(self, file_id: str) -> None:
        with self.lock:
            del self.files[file_id]
            for channel in self.channels.values():
                for message in channel.messages.values():
                    files = message.get("files", [])
                    message.update({"files": [_tombstone_of(file, file_id) for file in files]} if files else {})

    def message(self, channel_id: str, ts: str) -> dict[str, Any]:
        return self.channels[channel_id].messages[ts]

    def path(self, channel_id: str, ts: str) -> str:
        """What our items of it are called."""
        moment = datetime.fromtimestamp(int(ts.partition(".")[0]), UTC)
        return f"#{self.channels[channel_id].name}/{moment:%Y-%m-%d} {ts}"

    def restrict(self) -> None:
        """Be as mean as to commercial apps outside the marketplace: 15 objects, one request a minute."""
        self.most_objects = 15
        self.per_minute = {"conversations.history": 1, "conversations.replies": 1}

    # What it answers.

    def is_write(self, request: Request) -> bool:
        if request.path.startswith("/files-pri/"):
            return request.method != "GET"
        return _method(request) not in slack_contract.READS

    def violation(self, request: Request, answer: Answer) -> str | None:
        if request.path.startswith("/files-pri/"):
            return None
        return slack_contract.violation(_method(request), _arguments(request), answer)

    def answer(self, request: Request) -> Answer:
        token = request.token or ""
        if request.path.startswith("/files-pri/"):
            return self._download(request, token)
        method = _method(request)
        headers = {"X-OAuth-Scopes": ",".join(self.scopes.get(token, ()))}
        try:
            self._pace(method)
            user = self._user_of(token)
            found = getattr(self, f"_{method.replace('.', '_')}", None)
            if found is None or method not in slack_contract.READS:
                raise SlackError("unknown_method")
            handler: Callable[[dict[str, str], str, str], dict[str, Any]] = found
            return Answer.of({"ok": True, **handler(_arguments(request), user, token)}, headers=headers)
        except _LimitedError as limited:
            return Answer.of({"ok": False, "error": "ratelimited"}, 429, {"Retry-After": str(limited.wait_s)})
        except SlackError as error:
            return Answer.of({"ok": False, "error": error.code, **error.fields}, headers=headers)

    def _pace(self, method: str) -> None:
        limit = self.per_minute.get(method)
        if limit is None:
            return
        recent = [at for at in self._calls.get(method, []) if self.now - at < timedelta(seconds=60)]
        if len(recent) >= limit:
            raise _LimitedError(max(int(60 - (self.now - recent[0]).total_seconds()), 1))
        self._calls[method] = [*recent, self.now]

    def _user_of(self, token: str) -> str:
        if token in self.refusals:
            raise SlackError(self.refusals[token])
        if token not in self.tokens:
            raise SlackError("invalid_auth" if token else "not_authed")
        return self.tokens[token]

    def _need(self, token: str, scope: str) -> None:
        granted = self.scopes.get(token, ALL_SCOPES)
        if scope not in granted:
            raise SlackError("missing_scope", needed=scope, provided=",".join(granted))

    def _auth_test(self, _args: dict[str, str], user: str, _token: str) -> dict[str, Any]:
        fields = {"url": "https://acme.slack.com/", "team": "Acme", "team_id": TEAM, "user_id": user}
        return {**fields, "user": self.users[user]["name"], "is_enterprise_install": False}

    def _conversations_list(self, args: dict[str, str], user: str, token: str) -> dict[str, Any]:
        kinds = args.get("types", "public_channel").split(",")
        for kind in kinds:
            if kind not in KINDS:
                raise SlackError("invalid_types")
            self._need(token, f"{KINDS[kind]}:read")
        shown = [
            self._conversation(channel, user)
            for channel in self.channels.values()
            if channel.kind in kinds and self._sees(channel, user)
            if not (channel.is_archived and args.get("exclude_archived", "false").lower() in ("true", "1"))
        ]
        return self._paged("channels", shown, args, default=100, most=999)

    def _conversations_info(self, args: dict[str, str], user: str, token: str) -> dict[str, Any]:
        channel = self._visible(args, user)
        self._need(token, f"{KINDS[channel.kind]}:read")
        return {"channel": self._conversation(channel, user)}

    def _conversations_history(self, args: dict[str, str], user: str, token: str) -> dict[str, Any]:
        channel = self._readable(args, user, token)
        oldest, latest = args.get("oldest", "0"), args.get("latest", "")
        is_inclusive = args.get("inclusive", "false").lower() in ("true", "1")
        found = sorted(ts for ts, message in channel.messages.items() if _is_in_history(message))
        found = [ts for ts in found if _is_within(ts, oldest, latest, is_inclusive)]
        limit = self._limit(args, default=100, most=999)
        cursor = args.get("cursor")
        if cursor:
            found = [ts for ts in found if ts < _position(cursor)]
        is_from_oldest = float(oldest or 0) > 0 and not latest and not cursor
        page = found[:limit] if is_from_oldest else found[-limit:]
        has_more = len(found) > len(page)
        shown = [self._shown(channel.id, ts) for ts in sorted(page, reverse=not self.is_reversed)]
        fields: dict[str, Any] = {"messages": shown, "has_more": has_more, "pin_count": 0}
        if has_more:
            fields["response_metadata"] = {"next_cursor": _cursor(page[0])}
        return fields

    def _conversations_replies(self, args: dict[str, str], user: str, token: str) -> dict[str, Any]:
        channel = self._readable(args, user, token)
        ts = args["ts"]
        if ts not in channel.messages:
            raise SlackError("thread_not_found")
        replies = self._replies(channel.id, ts)
        limit = max(self._limit(args, default=1000, most=1000) - 1, 1)
        after = _position(args["cursor"]) if args.get("cursor") else ""
        waiting = [reply for reply in replies if reply > after]
        shown = [self._shown(channel.id, one) for one in (ts, *waiting[:limit])]
        has_more = len(waiting) > limit
        fields: dict[str, Any] = {"messages": shown, "has_more": has_more}
        if has_more:
            fields["response_metadata"] = {"next_cursor": _cursor(waiting[limit - 1])}
        return fields

    def _users_list(self, args: dict[str, str], _user: str, token: str) -> dict[str, Any]:
        self._need(token, "users:read")
        members = [user for user in self.users.values() if not user.get("is_stranger")]
        return {**self._paged("members", members, args, default=1000, most=1000), "cache_ts": 1}

    def _users_info(self, args: dict[str, str], _user: str, token: str) -> dict[str, Any]:
        self._need(token, "users:read")
        if args["user"] not in self.users:
            raise SlackError("user_not_found")
        return {"user": self.users[args["user"]]}

    def _files_info(self, args: dict[str, str], _user: str, token: str) -> dict[str, Any]:
        self._need(token, "files:read")
        if args["file"] not in self.files:
            raise SlackError("file_not_found")
        return {"file": self.files[args["file"]][0]}

    def _download(self, request: Request, token: str) -> Answer:
        file_id = request.steps[1].rpartition("-")[2]
        is_allowed = token in self.tokens and token not in self.refusals
        if not is_allowed or "files:read" not in self.scopes.get(token, ALL_SCOPES):
            return LOGIN_PAGE
        if file_id not in self.files:
            return Answer(404, b"not found", {"Content-Type": "text/plain"})
        file, body = self.files[file_id]
        return Answer(200, body, {"Content-Type": file["mimetype"]})

    def _new_ts(self, ago: timedelta | None) -> str:
        self._counter += 1
        if ago is None:
            self.now += timedelta(seconds=1)
        moment = self.now - (ago or timedelta(0))
        return f"{int(moment.timestamp()):010d}.{self._counter:06d}"

    def _file_in_message(self, file_id: str) -> dict[str, Any]:
        if file_id in self.checked_files:
            return {"id": file_id, "mode": "file_access", "file_access": "check_file_info"}
        return dict(self.files[file_id][0])

    def _replies(self, channel_id: str, parent_ts: str) -> list[str]:
        messages = self.channels[channel_id].messages.values()
        return sorted(one["ts"] for one in messages if one.get("thread_ts") == parent_ts and one["ts"] != parent_ts)

    def _shown(self, channel_id: str, ts: str) -> dict[str, Any]:
        message = self.message(channel_id, ts)
        replies = self._replies(channel_id, ts)
        if not replies:
            return message
        writers = list(dict.fromkeys(self.message(channel_id, reply).get("user", "B1") for reply in replies))
        return {
            **message,
            "thread_ts": ts,
            "reply_count": len(replies),
            "reply_users_count": len(writers),
            "latest_reply": replies[-1],
            "reply_users": writers,
            "is_locked": False,
            "subscribed": False,
        }

    def _sees(self, channel: FakeChannel, user: str) -> bool:
        return channel.kind == "public_channel" or user in channel.members

    def _visible(self, args: dict[str, str], user: str) -> FakeChannel:
        channel = self.channels.get(args["channel"])
        if channel is None or not self._sees(channel, user):
            raise SlackError("channel_not_found")
        return channel

    def _readable(self, args: dict[str, str], user: str, token: str) -> FakeChannel:
        channel = self._visible(args, user)
        self._need(token, f"{KINDS[channel.kind]}:history")
        if user in self.bots and user not in channel.members:
            raise SlackError("not_in_channel")
        return channel

    def _conversation(self, channel: FakeChannel, user: str) -> dict[str, Any]:
        shown: dict[str, Any] = {"id": channel.id, "created": 1, "updated": 1, "is_archived": channel.is_archived}
        shown |= {"is_im": channel.kind == "im", "is_org_shared": False, "context_team_id": TEAM}
        if channel.kind == "im":
            other = next((member for member in sorted(channel.members) if member != user), user)
            return {**shown, "user": other, "is_user_deleted": False, "priority": 0}
        return {
            **shown,
            "name": channel.name,
            "name_normalized": channel.name,
            "previous_names": channel.previous_names,
            "is_channel": channel.kind == "public_channel",
            "is_group": False,
            "is_mpim": channel.kind == "mpim",
            "is_private": channel.kind != "public_channel",
            "is_general": False,
            # An archived channel has no members any more.
            "is_member": user in channel.members and not channel.is_archived,
            "num_members": len(channel.members),
            "creator": "U1ANA",
            "topic": {"value": "", "creator": "", "last_set": 0},
            "purpose": {"value": "", "creator": "", "last_set": 0},
        }

    def _limit(self, args: Mapping[str, str], *, default: int, most: int) -> int:
        limit = int(args.get("limit") or default)
        if not 1 <= limit <= most:
            raise SlackError("invalid_limit")
        return min(limit, self.most_objects)

    def _paged(
        self, name: str, values: list[dict[str, Any]], args: Mapping[str, str], *, default: int, most: int
    ) -> dict[str, Any]:
        start = int(_position(args["cursor"])) if args.get("cursor") else 0
        end = start + self._limit(args, default=default, most=most)
        return {
            name: values[start:end],
            # Slack gives an empty cursor on the last page of these.
            "response_metadata": {"next_cursor": _cursor(str(end)) if end < len(values) else ""},
        }


class _LimitedError(Exception):
    def __init__(self, wait_s: int) -> None:
        super().__init__(wait_s)
        self.wait_s = wait_s


def _method(request: Request) -> str:
    return request.path.removeprefix("/api/")


def _arguments(request: Request) -> dict[str, str]:
    """Methods take a query, a form or both; SDKs send forms."""
    form = parse_qsl(request.body.decode()) if request.body else []
    return {**dict(request.query), **dict(form)}


def _is_in_history(message: Mapping[str, Any]) -> bool:
    return message.get("thread_ts", message["ts"]) == message["ts"] or message.get("subtype") == "thread_broadcast"


def _is_within(ts: str, oldest: str, latest: str, is_inclusive: bool) -> bool:
    if is_inclusive and ts in (oldest, latest):
        return True
    return (oldest in ("", "0") or ts > oldest) and (not latest or ts < latest)


def _tombstone_of(file: dict[str, Any], file_id: str) -> dict[str, Any]:
    return {"id": file_id, "mode": "tombstone"} if file["id"] == file_id else file


def _cursor(position: str) -> str:
    return base64.b64encode(f"next:{position}".encode()).decode()


def _position(cursor: str) -> str:
    try:
        start, _, position = base64.b64decode(cursor, validate=True).decode().partition(":")
    except ValueError:
        raise SlackError("invalid_cursor") from None
    if start != "next":
        raise SlackError("invalid_cursor")
    return position


def main() -> None:
    from tests.fakes.by_hand import serve

    vendor = FakeSlack(now=datetime.now(UTC))
    general = vendor.add_channel("general")
    first = vendor.post(general, "Welcome to the *workspace*, <@U2BOB>", ago=timedelta(days=40))
    vendor.post(general, "Thank you &amp; hello", user="U2BOB", thread=first)
    plan = vendor.add_file("plan.md", b"# Plan\n\nBuild the pipelines.\n", mime_type="text/markdown")
    vendor.post(general, "Here is the plan", files=[plan])
    serve(vendor, {"SLACK_API_URL": f"{vendor.url}/api", "SLACK_FILES_URL": vendor.url})


if __name__ == "__main__":
    main()
