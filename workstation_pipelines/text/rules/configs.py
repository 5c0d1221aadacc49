"""The settings of each type of rule, as people write them; whatever is wrong with one is said when it is saved."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Annotated, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from workstation_pipelines.errors import InvalidRequestError
from workstation_pipelines.text.rules import expressions, patterns, templates

MOST_TAGS = 20
MOST_PATTERNS = 50


def _refusing(check: Callable[[str], object]) -> AfterValidator:
    """Turn our refusals into pydantic's, which know the field."""

    def checked(value: str) -> str:
        try:
            check(value)
        except InvalidRequestError as error:
            raise ValueError(error.message) from None
        return value

    return AfterValidator(checked)


def _storable(value: str) -> str:
    if "\0" in value or any("\ud800" <= char <= "\udfff" for char in value):
        raise ValueError("it holds a character that cannot be stored")
    return value


Text = Annotated[str, AfterValidator(_storable)]
Pattern = Annotated[Text, _refusing(patterns.compiled)]
Expression = Annotated[Text, _refusing(expressions.checked)]
Template = Annotated[Text, Field(min_length=1, max_length=500), _refusing(templates.checked)]
TagName = Annotated[Text, Field(min_length=1, max_length=100, pattern=r"\S")]
ProjectName = Annotated[Text, Field(min_length=1, max_length=200, pattern=r"\S")]
LanguageCode = Annotated[str, Field(pattern=r"^[a-z]{2}$")]
Region = Annotated[str, Field(pattern=r"^[A-Z]{2}$")]


class Mode(StrEnum):
    INCLUDE = "include"
    EXCLUDE = "exclude"


class Secret(StrEnum):
    EMAIL = "email"
    PHONE = "phone"
    CARD = "card"
    IBAN = "iban"


class RuleConfig(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class RegexReplace(RuleConfig):
    pattern: Pattern
    replacement: Text = ""
    ignore_case: bool = False
    dot_all: bool = False

    @model_validator(mode="after")
    def _groups_exist(self) -> Self:
        try:
            patterns.checked_template(patterns.compiled(self.pattern), self.replacement)
        except InvalidRequestError as error:
            raise ValueError(error.message) from None
        return self


class RemoveBoilerplate(RuleConfig):
    repeated_lines: bool = True
    repeats: Annotated[int, Field(ge=3, le=100)] = 4
    notices: bool = True


class RemoveSignature(RuleConfig):
    pass


class RemoveQuotedMail(RuleConfig):
    pass


class Redact(RuleConfig):
    """`regions` are where phone numbers without a country's code are from; none: where the text's language is spoken."""

    kinds: tuple[Secret, ...] = tuple(Secret)
    regions: Annotated[tuple[Region, ...], Field(max_length=10)] = ()
    patterns: Annotated[tuple[Pattern, ...], Field(max_length=MOST_PATTERNS)] = ()
    ignore_case: bool = False
    replacement: Annotated[Text, Field(max_length=100)] = "[redacted {kind}]"
    forget_original: bool = True

    @model_validator(mode="after")
    def _replacement_is_no_secret(self) -> Self:
        if not (self.kinds or self.patterns):
            raise ValueError("it finds nothing: name `kinds` or `patterns`")
        shown = [self.replacement.replace("{kind}", kind) for kind in (*self.kinds, "text")]
        for pattern in self.patterns:
            compiled = patterns.compiled(pattern, ignore_case=self.ignore_case)
            if compiled.fullmatch(""):
                raise ValueError(f"{pattern!r} matches nothing at all places: say what it is to find")
            if any(compiled.search(each, timeout=patterns.DEADLINE_S) for each in shown):
                raise ValueError(f"{pattern!r} would find its own replacement: choose another `replacement`")
        return self


class MapFields(RuleConfig):
    """Each is an expression over the item's metadata; one that selects nothing leaves the field as it is."""

    title: Expression | None = None
    url: Expression | None = None
    language: Expression | None = None
    project: Expression | None = None
    tags: Expression | None = None


class Filter(RuleConfig):
    mode: Mode
    expression: Expression


class SetTitle(RuleConfig):
    template: Template
    when: Expression | None = None


class AssignProject(RuleConfig):
    project: ProjectName
    when: Expression | None = None


class AddTags(RuleConfig):
    tags: Annotated[tuple[TagName, ...], Field(min_length=1, max_length=MOST_TAGS)]
    when: Expression | None = None


class LanguageFilter(RuleConfig):
    """`unknown` says what becomes of texts whose language is not certain."""

    mode: Mode
    languages: Annotated[tuple[LanguageCode, ...], Field(min_length=1)]
    unknown: Mode = Mode.INCLUDE


class StripHtml(RuleConfig):
    pass


class Truncate(RuleConfig):
    max_characters: Annotated[int, Field(ge=1)]
