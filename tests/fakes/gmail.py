"""A Gmail in memory, as its API v1 documents it (discovery revision 20261005).

What surprises and is kept: listings tell ids only, drafts and chats among them; `messages` is missing where there are
none, and `history` where nothing happened; history is of the whole mailbox, `labelId` filters it by what messages have
now; a position that is too old, 0 or 1 is 404; attachment ids differ in each answer; records repeat their changes in
`messages`; a rate limit is 403, its time stands in a sentence.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, ClassVar

from tests.fakes import gmail_contract
from tests.fakes.gmail_mailbox import File, Mailbox, Stored
from tests.fakes.server import Answer, FakeVendor, Request

READ_SCOPES = frozenset(
    ["https://mail.google.com/", *(f"https://www.googleapis.com/auth/gmail.{name}" for name in ("modify", "readonly"))]
)
_UNITS = {"profile": 1, "labels": 1, "messages": 5, "history": 2, "threads": 10}
_STATUS = {400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "NOT_FOUND"}

_FIELD_OF_TYPE = {
    "messageAdded": "messagesAdded",
    "messageDeleted": "messagesDeleted",
    "labelAdded": "labelsAdded",
    "labelRemoved": "labelsRemoved",
}


def error(status: int, reason: str, message: str = "", headers: Mapping[str, str] | None = None) -> Answer:
    """An answer in Google's envelope."""
    entry = {"domain": "global", "reason": reason, "message": message or reason}
    named = "FAILED_PRECONDITION" if reason == "failedPrecondition" else _STATUS.get(status, "UNKNOWN")
    fields = {"code": status, "message": message or reason, "errors": [entry], "status": named}
    return Answer.of({"error": fields}, status, headers)


class FakeGmail(FakeVendor):
    """Mailboxes by user; `mailbox` is the first user's.

    `page_cap` bounds every page. `overlap` repeats so many entries of a page on the next one, `is_shuffled` turns the
    entries of each page round. `is_bare` leaves labels out of the history. `units_left`, when a number, is the quota:
    at 0 everything is refused until `refill`. `scopes` are what each token was granted; all that is needed by default.
    """

    provider: ClassVar[str] = "gmail"

    def __init__(self, **server: Any) -> None:
        self.mailbox = Mailbox("me@example.com")
        self.mailboxes = {"user-1": self.mailbox}
        self.scopes: dict[str, frozenset[str]] = {}
        self.page_cap = 500
        self.overlap = 0
        self.is_shuffled = False
        self.is_bare = False
        self.units_left: int | None = None
        self.units_spent = 0
        self.refused_tokens = 0
        """So many page tokens are refused."""
        self.repeats_token = False
        self._answers = 0
        super().__init__(**server)

    def is_write(self, request: Request) -> bool:
        return request.method != "GET"

    def violation(self, request: Request, answer: Answer) -> str | None:
        return gmail_contract.broken(request, answer)

    def throttle(
        self, part: str = "", *, times: int = 1, status: int = 403, until: str = "", retry_after: str = ""
    ) -> None:
        """Refuse requests whose path has `part` for going too fast: `until` in the sentence, `retry_after` in the header."""
        message = f"User-rate limit exceeded.  Retry after {until}" if until else "Rate Limit Exceeded"
        headers = {"Retry-After": retry_after} if retry_after else {}
        reason = "rateLimitExceeded" if status == 429 else "userRateLimitExceeded"
        self.fail(part, answer=error(status, reason, message, headers), times=times)

    def answer(self, request: Request) -> Answer:
        user = self.tokens.get(request.token or "")
        if user is None:
            return error(401, "authError", "Invalid Credentials")
        mailbox = self.mailboxes[user]
        steps = request.steps
        if steps[:3] != ["gmail", "v1", "users"] or len(steps) < 5 or request.method != "GET":
            return error(404, "notFound", "Not Found")
        if steps[3] not in ("me", mailbox.address):
            return error(403, "forbidden", f"Delegation denied for {mailbox.address}")
        refusal = self._refusal(request, steps[4:])
        if refusal is not None:
            return refusal
        self._answers += 1
        match steps[4:]:
            case ["profile"]:
                return self._answer_profile(mailbox)
            case ["labels"]:
                return Answer.of({"labels": [_label(key, name) for key, name in mailbox.labels.items()]})
            case ["messages"]:
                return self._answer_messages(mailbox, request)
            case ["messages", message_id]:
                return self._answer_message(mailbox, message_id, request)
            case ["messages", message_id, "attachments", attachment_id]:
                return self._answer_attachment(mailbox, message_id, attachment_id)
            case ["threads", thread_id]:
                return self._answer_thread(mailbox, thread_id, request)
            case ["history"]:
                return self._answer_history(mailbox, request)
        return error(404, "notFound", "Not Found")

    def _refusal(self, request: Request, steps: list[str]) -> Answer | None:
        granted = self.scopes.get(request.token or "", READ_SCOPES)
        needs_body = request.one("format", "full") in ("full", "raw") and len(steps) > 1 and steps[0] != "labels"
        if not granted & READ_SCOPES and (needs_body or request.one("q")):
            return error(403, "insufficientPermissions", "Request had insufficient authentication scopes.")
        units = 20 if len(steps) > 1 and steps[0] == "messages" else 40 if len(steps) > 1 else _UNITS.get(steps[0], 1)
        if self.units_left is not None:
            if self.units_left < units:
                return error(
                    403,
                    "rateLimitExceeded",
                    "Quota exceeded for quota metric 'Queries' and limit 'Queries per minute per user' of service"
                    " 'gmail.googleapis.com' for consumer 'project_number:1'.",
                )
            self.units_left -= units
        self.units_spent += units
        return None

    def refill(self) -> None:
        """A minute passes."""
        self.units_left = 6000

    def _answer_profile(self, mailbox: Mailbox) -> Answer:
        threads = {message.thread_id for message in mailbox.messages.values()}
        return Answer.of(
            {
                "emailAddress": mailbox.address,
                "messagesTotal": len(mailbox.messages),
                "threadsTotal": len(threads),
                "historyId": str(mailbox.history_id),
            }
        )

    def _answer_messages(self, mailbox: Mailbox, request: Request) -> Answer:
        unknown = [label for label in request.all("labelIds") if label not in mailbox.labels]
        if unknown:
            return error(400, "invalidArgument", f"Invalid label: {unknown[0]}")
        found = mailbox.listed(
            request.all("labelIds"), request.one("q") or "", spam_and_trash=request.one("includeSpamTrash") == "true"
        )
        entries = [{"id": message.message_id, "threadId": message.thread_id} for message in found]
        # A page goes on below the last entry of the one before, so that new mail moves nothing.
        keys = [f"{message.came_at.timestamp():.0f}-{message.message_id}" for message in found]
        page = self._page(entries, keys, request, is_descending=True)
        if isinstance(page, Answer):
            return page
        shown, token = page
        return Answer.of(
            {**({"messages": shown} if shown else {}), **token, "resultSizeEstimate": len(found) - len(found) % 3}
        )

    def _answer_message(self, mailbox: Mailbox, message_id: str, request: Request) -> Answer:
        message = mailbox.messages.get(message_id)
        if message is None:
            return error(404, "notFound", "Requested entity was not found.")
        return Answer.of(self._described(message, request.one("format", "full") or "full"))

    def _answer_thread(self, mailbox: Mailbox, thread_id: str, request: Request) -> Answer:
        messages = mailbox.in_thread(thread_id)
        if not messages:
            return error(404, "notFound", "Requested entity was not found.")
        detail = request.one("format", "full") or "full"
        return Answer.of(
            {
                "id": thread_id,
                "historyId": str(max(message.history_id for message in messages)),
                "messages": [self._described(message, detail) for message in messages],
            }
        )

    def _described(self, message: Stored, detail: str) -> dict[str, Any]:
        found: dict[str, Any] = {
            "id": message.message_id,
            "threadId": message.thread_id,
            **({"labelIds": sorted(message.labels)} if message.labels else {}),
            "snippet": message.text[:80],
            "sizeEstimate": message.size,
            "historyId": str(message.history_id),
            "internalDate": str(int(message.came_at.timestamp() * 1000)),
        }
        if detail == "full":
            found["payload"] = message.payload or message.mime.referred(self._answers)
        return found

    def _answer_attachment(self, mailbox: Mailbox, message_id: str, attachment_id: str) -> Answer:
        message = mailbox.messages.get(message_id)
        serial, _, part_id = attachment_id.removeprefix("ANG").partition("-")
        body = message.mime.attachments.get(part_id) if message is not None else None
        if body is None or not serial.isdigit() or int(serial) > self._answers:
            return error(404, "notFound", "Requested entity was not found.")
        return Answer.of({"size": len(body), "data": _padded(body)})

    def _answer_history(self, mailbox: Mailbox, request: Request) -> Answer:
        start = request.one("startHistoryId") or ""
        if not start.isdigit():
            return error(400, "invalidArgument", "Invalid startHistoryId")
        if not mailbox.oldest_history_id <= int(start) <= mailbox.history_id:
            return error(404, "notFound", "Requested entity was not found.")
        wanted = [_FIELD_OF_TYPE[kind] for kind in request.all("historyTypes")]
        records = [self._record(record, wanted) for record in mailbox.history if int(record["id"]) > int(start)]
        shown = [record for record in records if len(record) > 2]
        page = self._page(shown, [f"{record['id']:>20}" for record in shown], request, is_descending=False)
        if isinstance(page, Answer):
            return page
        entries, token = page
        return Answer.of({**({"history": entries} if entries else {}), **token, "historyId": str(mailbox.history_id)})

    def _record(self, record: Mapping[str, Any], wanted: list[str]) -> dict[str, Any]:
        kinds = [kind for kind in record if kind not in ("id", "messages") and (not wanted or kind in wanted)]
        found = {"id": record["id"], "messages": record["messages"], **{kind: record[kind] for kind in kinds}}
        if self.is_bare:
            for kind in kinds:
                found[kind] = [{**entry, "message": _bare(entry["message"])} for entry in record[kind]]
        return found

    def _page(
        self, entries: list[dict[str, Any]], keys: list[str], request: Request, *, is_descending: bool
    ) -> tuple[list[dict[str, Any]], dict[str, str]] | Answer:
        token = request.one("pageToken")
        if token is not None and (self.refused_tokens > 0 or not token.startswith("t")):
            self.refused_tokens -= 1
            return error(400, "invalidArgument", "Invalid pageToken")
        start = 0
        if token is not None:
            last = token[1:]
            start = next((n for n, key in enumerate(keys) if (key < last if is_descending else key > last)), len(keys))
        most = max(1, min(int(request.one("maxResults") or 100), self.page_cap))
        shown = entries[start : start + most]
        following = {}
        if start + most < len(entries):
            following = {"nextPageToken": "tRound" if self.repeats_token else f"t{keys[start + most - 1]}"}
        shown = entries[max(0, start - self.overlap) : start] + shown
        return shown[::-1] if self.is_shuffled else shown, following


def _padded(body: bytes) -> str:
    """Attachments come with padding, bodies without."""
    return base64.urlsafe_b64encode(body).decode()


def _bare(message: Mapping[str, Any]) -> dict[str, Any]:
    return {"id": message["id"], "threadId": message["threadId"]}


def _label(label_id: str, name: str) -> dict[str, str]:
    return {"id": label_id, "name": name, "type": "user" if label_id.startswith("Label_") else "system"}


def sample() -> FakeGmail:
    """A small account to try by hand."""
    vendor = FakeGmail()
    mailbox = vendor.mailbox
    thread = mailbox.receive("Offer for the roof", "The roof costs 12,400 EUR, scaffolding included.")
    mailbox.reply(thread, "Can it be done before October?", sender="Me <me@example.com>", labels=("SENT",))
    mailbox.receive(
        "Minutes", "See the attached minutes.", files=[File("minutes.txt", b"We agreed on Tuesday.", "text/plain")]
    )
    mailbox.receive("Old news", html="<h1>News</h1><p>The bridge opens in spring.</p>", age=timedelta(days=400))
    mailbox.save_draft("Not yet", "unfinished")
    return vendor


if __name__ == "__main__":
    from tests.fakes.by_hand import serve

    found = sample()
    serve(found, {"GMAIL_API_URL": found.url})
