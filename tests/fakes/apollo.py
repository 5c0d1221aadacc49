"""Apollo's enrichment as far as it concerns us, with the credits that it takes.

Written from its API reference: `x-api-key` authenticates, a 401 is plain text, other refusals are `{error, error_code}`; a
person nobody knows is null in a 200, a company nobody knows an empty 200 or a 404.
"""

from __future__ import annotations

from typing import Any, ClassVar

from tests.fakes.server import Answer, FakeVendor, Request

_PERSON = {
    "id",
    "email",
    "hashed_email",
    "name",
    "first_name",
    "last_name",
    "organization_name",
    "domain",
    "linkedin_url",
}
_REVEALS = {"reveal_personal_emails"}


class FakeApollo(FakeVendor):
    """`people` by email and `organizations` by domain; `credits` is what was taken so far."""

    provider: ClassVar[str] = "apollo"

    def __init__(self, key: str) -> None:
        super().__init__()
        self.key = key
        self.people: dict[str, dict[str, Any]] = {"ada@example.com": {"id": "p1", "name": "Ada", "title": "Countess"}}
        self.organizations: dict[str, dict[str, Any]] = {"example.com": {"id": "o1", "name": "Example"}}
        self.misses_with = 200
        self.tells_credits = True
        self.credits = 0

    def is_write(self, request: Request) -> bool:
        return False

    def violation(self, request: Request, answer: Answer) -> str | None:
        if request.one("api_key") is not None or "api_key" in str(request.body):
            return "the key is elsewhere than in its header"
        is_json = request.headers.get("content-type") == "application/json"
        return "the body is not announced as JSON" if request.method == "POST" and not is_json else None

    def answer(self, request: Request) -> Answer:
        given = request.headers.get("x-api-key")
        if given != self.key:
            return Answer(401, f"Invalid access credentials: {given}".encode(), {"Content-Type": "text/plain"})
        match (request.method, request.path):
            case ("POST", "/api/v1/people/match"):
                return self._match(request.json)
            case ("POST", "/api/v1/people/bulk_match"):
                return self._bulk(request.json)
            case ("GET", "/api/v1/organizations/enrich"):
                return self._enrich(request)
        return _refused(404, "NOT_FOUND", "no such endpoint")

    def _match(self, body: dict[str, Any]) -> Answer:
        if set(body) - _PERSON - _REVEALS or not set(body) & _PERSON:
            return _refused(422, "INVALID_PARAMETERS", f"cannot use {body}")
        found = self.people.get(body.get("email", ""))
        self.credits += found is not None
        return Answer.of({"person": found}, 200 if found else self.misses_with)

    def _bulk(self, body: dict[str, Any]) -> Answer:
        details = body.get("details")
        is_good = isinstance(details, list) and 1 <= len(details) <= 10 and not set(body) - _REVEALS - {"details"}
        if not is_good or any(set(each) - _PERSON for each in details or ()):
            return _refused(422, "INVALID_PARAMETERS", f"cannot use {body}")
        found = [self.people.get(each.get("email", "")) for each in details or ()]
        number = sum(each is not None for each in found)
        self.credits += number
        told: dict[str, Any] = {
            "status": "success",
            "error_code": None,
            "error_message": None,
            "total_requested_enrichments": len(found),
            "unique_enriched_records": number,
            "missing_records": len(found) - number,
            "matches": found,
        }
        return Answer.of(told | ({"credits_consumed": number} if self.tells_credits else {}))

    def _enrich(self, request: Request) -> Answer:
        names = {name for name, _ in request.query}
        if names - {"domain", "website", "linkedin_url", "name"} or not names - {"name"}:
            return _refused(422, "INVALID_PARAMETERS", f"cannot use {request.query}")
        found = self.organizations.get(request.one("domain") or "")
        self.credits += found is not None
        return Answer.of({"organization": found} if found else {}, 200 if found else self.misses_with)


def _refused(status: int, code: str, message: str) -> Answer:
    return Answer.of({"error": message, "error_code": code}, status)
