"""Names for user ids, asked for once a run: the list of members, then one by one whoever is not on it."""

from __future__ import annotations

from collections.abc import Mapping
from threading import Lock
from typing import Any, TypeGuard

from workstation_pipelines.errors import RateLimitedError, ReauthorizeError, SkipItemError
from workstation_pipelines.sources.slack.api import USER, USERS, SlackApi

MOST_PAGES = 25
"""Of members' names, 200 each: where there are more, whoever speaks is asked for by id."""


class People:
    """The names of a workspace's members. Thread-safe; asks Slack only when a name is wanted."""

    def __init__(self, api: SlackApi) -> None:
        self._api = api
        self._lock = Lock()
        self._names: dict[str, str] | None = None

    def name(self, user_id: str) -> str:
        """Return a member's name, or the id where Slack does not tell. Raises RetryableError, ReauthorizeError."""
        with self._lock:
            if self._names is None:
                self._names = self._listed()
            if user_id not in self._names:
                self._names[user_id] = self._asked(user_id)
            return self._names[user_id]

    def _listed(self) -> dict[str, str]:
        names = {"USLACKBOT": "Slackbot"}
        try:
            for number, page in enumerate(self._api.listed(USERS, "members", limit=200), 1):
                names.update(_named(raw) for raw in page if _has_id(raw))
                if number == MOST_PAGES:
                    break
        except RateLimitedError:
            return names  # a job that waited here would begin this list anew each time
        except ReauthorizeError as error:
            _unless_only_names_are_missing(error)
        return names

    def _asked(self, user_id: str) -> str:
        if not (user_id.isascii() and user_id.isalnum()):
            return user_id  # none of Slack's, and perhaps nothing that a request can carry
        try:
            raw = self._api.get(USER, user=user_id).get("user")
        except SkipItemError:
            return user_id
        except ReauthorizeError as error:
            _unless_only_names_are_missing(error)
            return user_id
        return _named(raw)[1] if _has_id(raw) else user_id


def _unless_only_names_are_missing(error: ReauthorizeError) -> None:
    # Without the scope users:read people are shown by their ids, and `source check` says what is missing.
    if error.details.get("code") != "missing_scope":
        raise error


def _has_id(raw: Any) -> TypeGuard[dict[str, Any]]:
    return isinstance(raw, dict) and isinstance(raw.get("id"), str)


def _named(raw: Mapping[str, Any]) -> tuple[str, str]:
    profile = raw.get("profile")
    fields = profile if isinstance(profile, dict) else {}
    wanted = (fields.get("display_name"), fields.get("real_name"), raw.get("real_name"), raw.get("name"))
    name = next((name for name in wanted if isinstance(name, str) and name.strip()), raw["id"])
    return raw["id"], str(name).strip()
