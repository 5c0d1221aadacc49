"""apollo_enrich: what Apollo knows of a person, of up to ten people, or of a company (docs.apollo.io, November 2026).

`POST /api/v1/people/match` answers `{person}`, null or missing where nobody matches; `POST /api/v1/people/bulk_match` with
`{details: [...]}` answers `{matches, credits_consumed, missing_records}`, the matches in the order of the details and null for
a miss; `GET /api/v1/organizations/enrich?domain=` answers `{organization}`. Phone numbers come later, to a webhook of one's
own: they are not asked for. Only the bulk answer tells its credits; for one record they are taken to be one if it was found.
"""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, SecretStr, model_validator

from workstation_pipelines.errors import InvalidRequestError
from workstation_pipelines.model import Usage
from workstation_pipelines.workflow_model import BlockResult
from workstation_pipelines.workflows import answers
from workstation_pipelines.workflows.blocks.contract import BlockCall, BlockConfig
from workstation_pipelines.workflows.outbound import Incoming, Outbound
from workstation_pipelines.workflows.vendor import Key, Vendor, key_of

MOST_PEOPLE = 10
_MOST_CREDITS = 1_000_000
_NOT_FOUND = 404


class Person(BlockConfig):
    """What is known of somebody; the more, the better the match."""

    id: str | None = None
    email: str | None = Field(None, repr=False)
    hashed_email: str | None = Field(None, repr=False)
    name: str | None = Field(None, repr=False)
    first_name: str | None = Field(None, repr=False)
    last_name: str | None = Field(None, repr=False)
    organization_name: str | None = None
    domain: str | None = None
    linkedin_url: str | None = Field(None, repr=False)

    @property
    def given(self) -> dict[str, str]:
        return {name: value for name, value in self.model_dump().items() if value}


class Organization(BlockConfig):
    domain: str | None = None
    website: str | None = None
    linkedin_url: str | None = None
    name: str | None = None


class ApolloEnrichConfig(BlockConfig):
    """One of `person`, `people` and `organization`."""

    person: Person | None = None
    people: list[Person] | None = Field(None, min_length=1, max_length=MOST_PEOPLE)
    organization: Organization | None = None
    reveal_personal_emails: bool = False
    key: SecretStr | None = None

    @model_validator(mode="after")
    def _asks_one_thing(self) -> Self:
        if sum(each is not None for each in (self.person, self.people, self.organization)) != 1:
            raise ValueError("give one of person, people and organization")
        return self


def run(call: BlockCall[ApolloEnrichConfig]) -> BlockResult:
    """Output: {person, ...}, {matches, missing, ...} or {organization, ...}, each with {credits, is_estimated}.

    What Apollo does not know is null and no error; matches are in the order of `people`.
    """
    vendor = _vendor(call)
    if call.config.people is not None:
        output = _people(vendor, call.config)
    elif call.config.person is not None:
        output = _person(vendor, call.config, call.config.person)
    else:
        output = _organization(vendor, call.config.organization or Organization())
    kind: Literal["people", "organizations"] = "organizations" if "organization" in output else "people"
    call.log(f"Apollo was asked about {kind}, for {output['credits']:,} credits")
    usages = (
        Usage("apollo_enrich", "apollo", kind, 1, None, "calls"),
        Usage("apollo_enrich", "apollo", kind, output["credits"], None, "credits"),
    )
    return BlockResult(output, tuple(usage for usage in usages if usage.quantity))


def _vendor(call: BlockCall[ApolloEnrichConfig]) -> Vendor:
    settings = call.workspace.settings
    value, hint = key_of(call.config.key, settings.apollo_api_key, variable="APOLLO_API_KEY", block="apollo_enrich")
    key = Key(value, hint, header="x-api-key", scheme="")
    return Vendor(call, settings.apollo_api_url, key, Outbound(operator_url=settings.apollo_api_url))


def _person(vendor: Vendor, config: ApolloEnrichConfig, person: Person) -> dict[str, Any]:
    if not person.given:
        raise InvalidRequestError("apollo_enrich: nothing is said of the person: give an email, or a name and a domain")
    body = {**person.given, "reveal_personal_emails": config.reveal_personal_emails}
    answer = vendor.ask("POST", "/api/v1/people/match", body=body, expected=(_NOT_FOUND,))
    return _one(vendor, answer, "person")


def _organization(vendor: Vendor, organization: Organization) -> dict[str, Any]:
    given = organization.model_dump()
    if not any(given[name] for name in ("domain", "website", "linkedin_url")):
        raise InvalidRequestError("apollo_enrich: give the organization's domain, website or linkedin_url")
    query = {name: value or None for name, value in given.items()}
    answer = vendor.ask("GET", "/api/v1/organizations/enrich", query=query, expected=(_NOT_FOUND,))
    return _one(vendor, answer, "organization")


def _one(vendor: Vendor, answer: Incoming, name: str) -> dict[str, Any]:
    fields = {} if answer.status == _NOT_FOUND else vendor.fields(answer)
    found = fields.get(name)
    if found is not None and not isinstance(found, dict):
        raise answers.misunderstood(answer, f"its {name} is no object")
    told = _count(fields.get("credits_consumed"))
    credits = (1 if found else 0) if told is None else told
    return {name: found or None, "credits": credits, "is_estimated": told is None}


def _people(vendor: Vendor, config: ApolloEnrichConfig) -> dict[str, Any]:
    people = config.people or []
    body = {
        "details": [person.given for person in people],
        "reveal_personal_emails": config.reveal_personal_emails,
    }
    answer = vendor.ask("POST", "/api/v1/people/bulk_match", body=body)
    fields = vendor.fields(answer)
    matches = fields.get("matches")
    if not isinstance(matches, list) or len(matches) != len(people):
        raise answers.misunderstood(answer, "its matches are not one for each person")
    found = [match if isinstance(match, dict) and match else None for match in matches]
    number = sum(match is not None for match in found)
    told = _count(fields.get("credits_consumed"))
    return {
        "matches": found,
        "missing": len(found) - number,
        "credits": number if told is None else told,
        "is_estimated": told is None,
    }


def _count(found: object) -> int | None:
    return found if isinstance(found, int) and not isinstance(found, bool) and 0 <= found <= _MOST_CREDITS else None
