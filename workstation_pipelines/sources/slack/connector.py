"""Slack, by its Web API (docs.slack.dev/reference/methods, read 2026-11-22): one item a thread.

Slack keeps no feed of changes for those who ask. A delta lists what is new, compares a window of `window_days` again, reads
recent threads again, and compares a slice of older history each time (delta.py). What that means:

- New messages and threads, edits and deletions within the window: with the next delta. Late replies to, edits and deletions
  of older parents: with the next delta in small channels, in large ones when the slice comes by.
- An edited or deleted reply is seen while its thread is active (`reread_days`); afterwards only a deletion is, or a full sync
  finds it.
- Only channels one is a member of are read. What is stored of a channel goes when one leaves it and stays when it is archived.

Traps: `ok: false` with status 200; cursors that die (pages are asked for by time); `oldest` without `latest` begins at the
wrong end; replies that show in the channel too; deleted parents as tombstones; login pages instead of files; one request
a minute and 15 messages a page for apps sold outside Slack's marketplace, for whom each request is a page of its own here.
Workspaces only: organisation-wide tokens, which want a `team_id` everywhere, are not supported.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from hashlib import blake2b
from threading import Lock
from typing import Any, ClassVar, Literal

from pydantic import Field

from workstation_pipelines.errors import InvalidRequestError, SkipItemError, UnexpectedReplyError
from workstation_pipelines.model import Content, Cursor, Delta, Item, ItemFailure, JobType, Page, SourceType
from workstation_pipelines.sources import SourceContext
from workstation_pipelines.sources.config import VendorConfig
from workstation_pipelines.sources.contract import Account, Known
from workstation_pipelines.sources.credentials import OAuthGrant
from workstation_pipelines.sources.http import Call
from workstation_pipelines.sources.slack import messages
from workstation_pipelines.sources.slack import text as rendering
from workstation_pipelines.sources.slack.api import CALLS, CHANNEL, CHANNELS, REPLIES, SlackApi, list_of
from workstation_pipelines.sources.slack.channels import (
    Channel,
    Watermarks,
    missing_picks,
    picked,
    read_channel,
    taken,
)
from workstation_pipelines.sources.slack.delta import list_changes
from workstation_pipelines.sources.slack.listing import (
    DELTA,
    LIST,
    Position,
    Reading,
    list_everything,
    unreadable_channel,
)
from workstation_pipelines.sources.slack.people import People
from workstation_pipelines.sources.slack.threads import PAGE_MESSAGES, Threads, Workspace

DEFAULT_API_URL = "https://slack.com/api"
DEFAULT_FILES_URL = "https://files.slack.com"
RECONCILE_EVERY = timedelta(days=30)
"""The slices of a delta get round to everything by themselves; this is for what they cannot see, such as new names."""

ChannelType = Literal["public_channel", "private_channel", "im", "mpim"]
_SCOPES: Mapping[str, str] = {"public_channel": "channels", "private_channel": "groups", "im": "im", "mpim": "mpim"}
_ALWAYS_NEEDED = ("users:read", "files:read")
_SAMPLE_CHANNELS = 5
JOIN = "you are not a member: join it, or leave it out of `channels`"
CHECK_PICK = "no such channel is visible: check its name, the setting `types`, and that you were invited"

OAUTH = OAuthGrant(
    authorize_url="https://slack.com/oauth/v2/authorize",
    token_url="https://slack.com/api/oauth.v2.access",  # noqa: S106 - an address
    scopes=(*(f"{name}:{what}" for name in _SCOPES.values() for what in ("read", "history")), *_ALWAYS_NEEDED),
    scope_separator=",",
    # A person's own token sees what that person sees; a bot's would show its channels to whoever connects it.
    scope_parameter="user_scope",
    token_path=("authed_user",),
    uses_pkce=False,
    rotates=True,
)


class SlackConfig(VendorConfig):
    """What to take from a workspace. Everything but the first three may change without listing all of it again."""

    channels: tuple[str, ...] = ()
    """Names or ids; none means all that one is a member of."""

    types: tuple[ChannelType, ...] = Field(("public_channel",), min_length=1)
    skip_bots: bool = False
    """Leave out what apps write, in channels and in threads."""

    window_days: float = Field(30.0, gt=0, le=3650)
    reread_days: float = Field(7.0, gt=0, le=365)
    poll_minutes: float = Field(15.0, gt=0)
    """How often a poll without other signs starts a delta."""

    def scope(self) -> str:
        chosen = {
            "channels": sorted(set(self.channels)),
            "types": sorted(set(self.types)),
            "skip_bots": self.skip_bots,
            "max_file_bytes": self.max_file_bytes,
        }
        return blake2b(json.dumps(chosen, sort_keys=True).encode(), digest_size=12).hexdigest()


class Slack:
    """The source `slack`; `config` is described in SlackConfig. Credentials are a user's token or a bot's."""

    source_type: ClassVar[SourceType] = SourceType.SLACK
    delta: ClassVar[Delta] = Delta.WINDOW
    proves_absence: ClassVar[bool] = False
    page_size: ClassVar[int] = PAGE_MESSAGES
    fetch_threads: ClassVar[int] = 2  # more would only queue for Slack's 50 requests a minute
    oauth: ClassVar[OAuthGrant] = OAUTH
    calls: ClassVar[tuple[Call, ...]] = CALLS
    default_urls: ClassVar[Mapping[str, str]] = {"api": DEFAULT_API_URL, "files": DEFAULT_FILES_URL}

    def __init__(self, config: Mapping[str, Any], context: SourceContext) -> None:
        self._config = SlackConfig.parse(config)
        self._context = context
        self._api = SlackApi(context, {**self.default_urls, **context.urls})
        self._people = People(self._api)
        self._lock = Lock()
        self._threads: Threads | None = None
        self._channel_names: dict[str, str] = {}

    @classmethod
    def open(cls, config: Mapping[str, Any], context: SourceContext) -> Slack:
        return cls(config, context)

    @property
    def scope(self) -> str:
        return self._config.scope()

    @property
    def reconcile_every(self) -> timedelta | None:
        return self._config.reconciled_every(RECONCILE_EVERY)

    @property
    def provider_calls(self) -> int:
        return self._api.provider_calls

    @staticmethod
    def same_content(old_hash: str, new_hash: str) -> bool:
        """Whether two hashes promise equal bytes; a listing's, which says nothing of replies' texts, equals a fetch's."""
        return messages.same_content(old_hash, new_hash)

    def check(self) -> Account:
        """Name the account and its channels. Raises InvalidRequestError for a picked channel that is not there."""
        workspace = self._opened().workspace
        channels = self._listed_channels()
        missing = missing_picks(channels, self._config.channels)
        if missing:
            raise InvalidRequestError(
                f"slack: no channel {', '.join(missing)} is visible to {workspace.label}: check the name, the setting"
                " `types`, and that you were invited"
            )
        mine = list(taken(picked(channels, self._config.channels), {}).values())
        labels = ", ".join(channel.label for channel in mine[:_SAMPLE_CHANNELS])
        granted = self._api.granted
        return Account(
            external_account=f"{workspace.team_id}:{workspace.user_id}",
            label=workspace.label,
            details={"url": workspace.url, "channels": len(mine)},
            scopes=tuple(sorted(granted)),
            missing_scopes=tuple(scope for scope in self._needed_scopes() if granted and scope not in granted),
            sample=f"{len(mine)} channels: {labels}" if mine else "no channel that you are a member of",
        )

    def probe(self, since: str | None, cursor: Cursor | None) -> str:
        """Return the number of the present poll interval; Slack has no cheap sign of change, so nothing is asked."""
        return str(int(self._context.clock().timestamp() // (self._config.poll_minutes * 60)))

    def start_cursor(self) -> Cursor | None:
        """Return the cursor of every delta: what it goes on from is remembered with each channel."""
        return Position(DELTA).cursor()

    def pages(self, cursor: Cursor | None, known: Known, job_type: JobType) -> Iterator[Page]:
        """Yield threads channel by channel, each from its newest message down; see the contract."""
        at = Position.of(cursor)
        reading = self._reading(known, is_forced=job_type is JobType.FULL_SYNC)
        yield from list_everything(reading, at) if at.mode == LIST else list_changes(reading, at)

    def fetch_calls(self, item: Item) -> tuple[Call, ...]:
        return (REPLIES,)

    def fetch(self, item: Item) -> Content:
        """Read one thread with its replies and files; thread-safe. Raises as the contract says."""
        threads = self._opened()
        _, channel_id, ts = item.external_id.split(":")
        content = threads.content(threads.thread(channel_id, ts))
        threads.read_again.add(item.external_id)
        return content

    def close(self) -> None:
        self._api.close()

    def _reading(self, known: Known, *, is_forced: bool) -> Reading:
        threads = self._opened()
        remembered = {container.external_id: container for container in known.containers()}
        listed = self._listed_channels()
        channels = taken(picked(listed, self._config.channels), remembered)
        unlisted = remembered.keys() - {channel.id for channel in listed}
        return Reading(
            threads=threads,
            known=known,
            channels=channels,
            marks={channel_id: Watermarks.of(box.details) for channel_id, box in remembered.items()},
            labels={channel_id: box.name for channel_id, box in remembered.items()},
            kept=frozenset(channel_id for channel_id in unlisted if self._is_still_there(channel_id)),
            now=self._context.clock(),
            window=timedelta(days=self._config.window_days),
            reread=timedelta(days=self._config.reread_days),
            notices=self._notices(threads.workspace, listed, channels),
            is_forced=is_forced,
        )

    def _notices(
        self, workspace: Workspace, listed: Sequence[Channel], channels: Mapping[str, Channel]
    ) -> Sequence[ItemFailure]:
        """Say which channels were picked by hand and cannot be read; the others are read all the same."""
        picks = self._config.channels
        closed = (
            [one for one in picked(listed, picks) if one.id not in channels and not one.is_archived] if picks else []
        )
        return [
            *(unreadable_channel(workspace.team_id, one.id, one.label, "not_in_channel", JOIN) for one in closed),
            *(
                unreadable_channel(workspace.team_id, pick, pick, "channel_not_found", CHECK_PICK)
                for pick in missing_picks(listed, picks)
            ),
        ]

    def _opened(self) -> Threads:
        with self._lock:
            if self._threads is None:
                names = rendering.Names(user=self._people.name, channel=lambda id_: self._channel_names.get(id_, id_))
                self._threads = Threads(
                    api=self._api,
                    context=self._context,
                    workspace=self._workspace(),
                    names=names,
                    skip_bots=self._config.skip_bots,
                    max_file_bytes=self._config.max_file_bytes,
                )
            return self._threads

    def _workspace(self) -> Workspace:
        found = self._api.auth_test()
        team_id, user_id, url = found.get("team_id"), found.get("user_id"), found.get("url")
        if not (isinstance(team_id, str) and team_id and isinstance(user_id, str) and user_id):
            raise UnexpectedReplyError("slack auth.test: the answer names no team and user", wait_s=60)
        address = url if isinstance(url, str) and url.startswith("https://") else "https://slack.com/"
        label = f"{found.get('user') or user_id} @ {found.get('team') or team_id}"
        return Workspace(team_id, user_id, address.rstrip("/") + "/", label)

    def _listed_channels(self) -> list[Channel]:
        """List every channel of the configured types that the token sees, archived ones too."""
        types = ",".join(sorted(set(self._config.types)))
        found: list[Channel] = []
        for page in self._api.listed(CHANNELS, "channels", types=types, exclude_archived=False, limit=200):
            found += [channel for raw in page if (channel := read_channel(raw, self._people.name)) is not None]
        self._channel_names.update({channel.id: channel.label.removeprefix("#") for channel in found})
        return found

    def _is_still_there(self, channel_id: str) -> bool:
        """Ask about a channel that is remembered and was not listed: only Slack's word makes its items go."""
        try:
            raw = self._api.get(CHANNEL, channel=channel_id).get("channel")
        except SkipItemError:
            return False
        channel = read_channel(raw, self._people.name)
        if channel is None:
            list_of({}, "channel", CHANNEL)  # no channel in the answer: nothing can be concluded
            return True
        is_picked = channel.kind in self._config.types and bool(picked([channel], self._config.channels))
        return is_picked and (channel.is_member or channel.is_archived)

    def _needed_scopes(self) -> Sequence[str]:
        kinds = [_SCOPES[kind] for kind in _SCOPES if kind in self._config.types]
        return [*(f"{kind}:{what}" for kind in kinds for what in ("read", "history")), *_ALWAYS_NEEDED]
