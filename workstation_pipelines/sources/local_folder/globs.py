"""Which names below the folder take part: globs in the manner of .gitignore, compiled for speed.

A glob without a slash (other than a last one) matches a name at any depth; one with a slash is anchored at the folder.
A last slash matches directories only. `*` and `?` stop at a slash, `**` does not, `[a-z]` and `[!a-z]` are classes, a
backslash takes the next character literally. What lies below a matching directory goes with it. A leading `!` takes
back what an earlier glob matched; as in git, nothing comes back from below an excluded directory.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

DEFAULT_EXCLUDES = (
    ".git",
    "node_modules",
    "__pycache__",
    ".venv",
    ".DS_Store",
    "Thumbs.db",
    "~$*",
    "*.tmp",
    "*.swp",
)

Excludes = Callable[[str, str, bool], bool]
"""(name, path of its directory with a last slash or "", is a directory) -> leave it out."""

_MAGIC = re.compile(r"[*?\[\\/!]")


def excludes(globs: Sequence[str], *, hidden: bool) -> Excludes:
    """Compile exclusion globs; the built-in ones come first. `hidden` also leaves out names that start with a dot."""
    if any(glob.startswith("!") for glob in globs):
        ordered = [_compiled(glob) for glob in ([".*"] if hidden else []) + [*DEFAULT_EXCLUDES, *globs]]
        return lambda name, above, is_dir: _last_match(ordered, name, above, is_dir)
    every = [*DEFAULT_EXCLUDES, *globs]
    names = frozenset(glob for glob in every if not _MAGIC.search(glob))
    suffixes = tuple(glob[1:] for glob in every if glob[0] == "*" and len(glob) > 1 and not _MAGIC.search(glob[1:]))
    prefixes = tuple(glob[:-1] for glob in every if glob[-1] == "*" and len(glob) > 1 and not _MAGIC.search(glob[:-1]))
    prefixes += (".",) if hidden else ()
    simple = names | {f"*{suffix}" for suffix in suffixes} | {f"{prefix}*" for prefix in prefixes}
    others = [_compiled(glob) for glob in every if glob not in simple]

    def excluded(name: str, above: str, is_dir: bool) -> bool:
        if name in names or name.startswith(prefixes) or name.endswith(suffixes):
            return True
        return bool(others) and _last_match(others, name, above, is_dir)

    return excluded


def includes(globs: Sequence[str]) -> Excludes | None:
    """Compile inclusion globs to "this one matches"; None when there are none, so everything qualifies."""
    if not globs:
        return None
    ordered = [_compiled(glob) for glob in globs]
    return lambda name, above, is_dir: _last_match(ordered, name, above, is_dir)


@dataclass(frozen=True, slots=True)
class _Glob:
    pattern: re.Pattern[str]
    anchored: bool
    directories_only: bool
    takes_back: bool


def _compiled(glob: str) -> _Glob:
    takes_back = glob.startswith("!")
    body = glob[1:] if takes_back else glob
    directories_only = body.endswith("/")
    body = body.rstrip("/")
    anchored = "/" in body
    return _Glob(re.compile(_expression(body.lstrip("/")), re.DOTALL), anchored, directories_only, takes_back)


def _last_match(globs: Sequence[_Glob], name: str, above: str, is_dir: bool) -> bool:
    for glob in reversed(globs):
        if glob.directories_only and not is_dir:
            continue
        if glob.pattern.fullmatch(above + name if glob.anchored else name):
            return not glob.takes_back
    return False


_TOKEN = re.compile(r"(?P<deep>(?:(?<=/)|^)\*\*/)|(?P<rest>(?<=/)\*\*$)|(?P<star>\*+)|(?P<one>\?)"
                    r"|(?P<set>\[[!^]?\]?[^\]/]*\])|\\(?P<quoted>.)|(?P<plain>.)", re.DOTALL)  # fmt: skip


def _expression(body: str) -> str:
    parts = []
    for token in _TOKEN.finditer(body):
        kind = token.lastgroup
        if kind == "deep":
            parts.append("(?:.*/)?")
        elif kind == "rest":
            parts.append(".+")
        elif kind == "star":
            parts.append("[^/]*")
        elif kind == "one":
            parts.append("[^/]")
        elif kind == "set":
            parts.append(_character_class(token["set"]))
        else:
            parts.append(re.escape(token[kind or "plain"]))
    return "".join(parts)


def _character_class(text: str) -> str:
    negated = text[1] in "!^"
    members = text[2 if negated else 1 : -1].replace("\\", "\\\\").replace("[", "\\[").replace("]", "\\]")
    members = re.sub(r"([-&~|])\1", r"\1\\\1", members).replace("^", "\\^")
    expression = f"[^/{members}]" if negated else f"[{members}]"
    try:
        re.compile(expression)
    except re.error:
        return re.escape(text)
    return expression
