"""Lists which messages a mailbox has, page by page, and gathers them into threads."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from workstation_pipelines.errors import UnexpectedReplyError
from workstation_pipelines.model import ItemFailure
from workstation_pipelines.sources.gmail.calls import MESSAGES
from workstation_pipelines.sources.gmail.history import unreadable
from workstation_pipelines.sources.gmail.scope import MailScope
from workstation_pipelines.sources.http import Call, PageTokens, VendorApi

MOST_AT_ONCE = 500
Query = list[tuple[str, str | int | bool | None]]


def list_threads(api: VendorApi, scope: MailScope, failures: list[ItemFailure]) -> dict[str, list[str]]:
    """Return thread id -> ids of its messages that count, of threads that the query finds. Holds some 200 bytes a message."""
    counting = list_counting(api, scope.label_ids, "", failures)
    threads: dict[str, list[str]] = {}
    for message_id, thread_id in counting.items():
        threads.setdefault(thread_id, []).append(message_id)
    if not scope.query:
        return threads
    found = list_counting(api, scope.label_ids, scope.query, failures)
    chosen = {counting[message_id] for message_id in found if message_id in counting}
    return {thread_id: message_ids for thread_id, message_ids in threads.items() if thread_id in chosen}


def list_counting(
    api: VendorApi, labels: Iterable[str] | None, query: str, failures: list[ItemFailure]
) -> dict[str, str]:
    """Return message id -> thread id of what counts: listings hold drafts and chats, without telling which they are."""
    found = _list_messages(api, labels, query, failures)
    for label in ("DRAFT", "CHAT"):
        for message_id in _list_messages(api, [label], query, failures):
            found.pop(message_id, None)
    return found


def _list_messages(
    api: VendorApi, labels: Iterable[str] | None, query: str, failures: list[ItemFailure]
) -> dict[str, str]:
    """All messages with one of the labels, spam and trash left out. Gmail would take several labels for "all of them"."""
    found: dict[str, str] = {}
    for label in [None] if labels is None else sorted(labels):
        for page in paged(api, MESSAGES, listing_of(label, query)):
            entries = page.get("messages", [])
            # Without a single message there is still the estimate of 0; an empty object proves nothing.
            if not isinstance(entries, list) or ("messages" not in page and "resultSizeEstimate" not in page):
                raise UnexpectedReplyError("gmail messages.list: the answer lists no messages", wait_s=60)
            for entry in entries:
                _take(entry, found, failures)
    return found


def listing_of(label: str | None, query: str, *, most: int = MOST_AT_ONCE) -> Query:
    return [("maxResults", most), ("includeSpamTrash", "false"), ("labelIds", label), ("q", query or None)]


def paged(api: VendorApi, call: Call, params: Query) -> Iterator[dict[str, Any]]:
    """Yield each page. A page token that is refused starts this listing over, once; entries may then come twice."""
    token: str | None = None
    tokens, has_restarted = PageTokens(f"gmail {call.name}"), False
    while True:
        try:
            page = api.json(call, params=[*params, ("pageToken", token)])
        except UnexpectedReplyError as error:
            if token is None or has_restarted or not error.details.get("is_parameter_refused"):
                raise
            token, tokens, has_restarted = None, PageTokens(f"gmail {call.name}"), True
            continue
        yield page
        following = page.get("nextPageToken")
        if not following:
            return
        if not isinstance(following, str):
            raise UnexpectedReplyError(f"gmail {call.name}: its page token is not one", wait_s=60)
        token = tokens.step(following)


def _take(entry: Any, found: dict[str, str], failures: list[ItemFailure]) -> None:
    fields = entry if isinstance(entry, Mapping) else {}
    message_id, thread_id = fields.get("id"), fields.get("threadId")
    if isinstance(message_id, str) and isinstance(thread_id, str) and message_id and thread_id:
        found[message_id] = thread_id
    else:
        named = message_id if isinstance(message_id, str) and message_id else "messages"
        failures.append(unreadable(named, "its entry in the listing lacks an id or a thread"))
