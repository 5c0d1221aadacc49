"""A Slack workspace: its Web API methods that read, and files, by docs.slack.dev/reference/methods (read 2026-11-22).

Oddities that are Slack's own: every answer has status 200 but for rate limits; `history` without `latest` begins at
`oldest`; replies that were also sent to the channel show in both places; a parent is repeated on each page of its replies;
a reply's own `ts` gives that message alone; a deleted parent with replies stays as a tombstone; a file asked for with a bad
token is a login page. By hand: `python -m tests.fakes.slack`.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl

from tests.fakes import slack_contract
from tests.fakes.server import LOGIN_PAGE, Answer, Request
from tests.fakes.slack_workspace import ALL_SCOPES, KINDS, START, TEAM, TOKEN, FakeChannel, SlackWorkspace

__all__ = ["ALL_SCOPES", "START", "TEAM", "TOKEN", "FakeSlack", "SlackError"]


class SlackError(Exception):
    """What the vendor answers with `ok: false`."""

    def __init__(self, code: str, **fields: Any) -> None:
        super().__init__(code)
        self.code = code
        self.fields = fields


class FakeSlack(SlackWorkspace):
    """A workspace that answers."""

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
