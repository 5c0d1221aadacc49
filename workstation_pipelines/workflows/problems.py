"""What is wrong with a definition: every error at once, each with the place where it stands."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from workstation_pipelines.errors import InvalidRequestError

MOST_TOLD = 10
"""How many errors the message of InvalidDefinitionError tells; `problems` has all."""


@dataclass(frozen=True, slots=True)
class Problem:
    """`path` is a JSON pointer such as /nodes/3/config/url, "" for the whole; the message names the node and says what to do."""

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path or '/'}: {self.message}"


class InvalidDefinitionError(InvalidRequestError):
    """Raised for a workflow that cannot be saved or run; `problems` are all its errors in the order of their places."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        told = "; ".join(map(str, problems[:MOST_TOLD]))
        rest = len(problems) - MOST_TOLD
        more = f"; and {rest} more" if rest > 0 else ""
        errors = "1 error" if len(problems) == 1 else f"{len(problems):,} errors"
        super().__init__(f"the workflow has {errors}: {told}{more}")
        self.problems = tuple(problems)


def pointer(*parts: str | int) -> str:
    """Return the JSON pointer (RFC 6901) that leads through these names and places."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in parts)


def quoted(text: object, most: int = 60) -> str:
    """Return what somebody wrote, on one line and not too long, to be shown in a message."""
    written = repr(text[: most + 1]) if isinstance(text, str) else type(text).__name__
    return written if len(written) <= most + 2 else f"{written[: most - 3]}...'"


def nearest(name: str, known: Iterable[str]) -> str:
    """Return ": did you mean 'x'?" with the known name that is most like this one, else ": use one of ...", else ""."""
    names = sorted(known)
    found = difflib.get_close_matches(name[:60], names, n=1)
    if found:
        return f": did you mean {found[0]!r}?"
    return f": use one of {', '.join(names[:30])}" if names else ""
