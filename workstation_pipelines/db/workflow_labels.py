"""What workflows and templates are called: checked before the database would refuse it with an error of its own."""

from __future__ import annotations

import re
from collections.abc import Sequence

from workstation_pipelines.errors import InvalidRequestError

LONGEST_SLUG, LONGEST_NAME, LONGEST_DESCRIPTION, LONGEST_CATEGORY = 60, 200, 5000, 100
MOST_TAGS, LONGEST_TAG = 50, 100

_SLUG = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


def refuse_unstorable(
    *,
    slug: str | None = None,
    name: str | None = None,
    description: str | None = None,
    category: str | None = None,
    tags: Sequence[str] | None = None,
) -> None:
    """Raise InvalidRequestError for the first of these that a row cannot have; None is not looked at."""
    if slug is not None and not is_slug(slug):
        raise InvalidRequestError(
            f"the slug {slug[:LONGEST_SLUG]!r} cannot be used: up to {LONGEST_SLUG} small letters, digits and single"
            " hyphens between them"
        )
    if name is not None and not 0 < len(name.strip()) <= len(name) <= LONGEST_NAME:
        raise InvalidRequestError(f"a name has 1 to {LONGEST_NAME} characters")
    if description is not None and len(description) > LONGEST_DESCRIPTION:
        raise InvalidRequestError(f"a description has at most {LONGEST_DESCRIPTION} characters")
    if category is not None and len(category) > LONGEST_CATEGORY:
        raise InvalidRequestError(f"a category has at most {LONGEST_CATEGORY} characters")
    if tags is not None and (len(tags) > MOST_TAGS or any(not 0 < len(tag) <= LONGEST_TAG for tag in tags)):
        raise InvalidRequestError(f"there are at most {MOST_TAGS} tags, of 1 to {LONGEST_TAG} characters each")
    if any(
        "\x00" in part or not _is_unicode(part)
        for part in (name or "", description or "", category or "", *(tags or ()))
    ):
        raise InvalidRequestError("names, descriptions, categories and tags are Unicode text without NUL characters")


def is_slug(name: str) -> bool:
    return len(name) <= LONGEST_SLUG and _SLUG.fullmatch(name) is not None


def _is_unicode(part: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in part)
