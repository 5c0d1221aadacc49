"""The configuration of a local folder, checked key by key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from hashlib import blake2b
from pathlib import Path
from typing import Any

from workstation_pipelines.errors import InvalidRequestError

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class FolderConfig:
    """What to list below `path`, an absolute folder.

    `include` and `exclude` are globs in the manner of .gitignore (see globs.py), relative to `path`. Without `include`
    every file qualifies. `exclude` comes after the built-in exclusions, so `!*.tmp` takes one of them back. Files above
    `max_file_bytes` are listed and refused at fetch.
    """

    path: Path
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    include_hidden: bool = False
    follow_symlinks: bool = False
    max_file_bytes: int = 50 * MIB

    def scope(self) -> str:
        """A digest of all that decides what is listed and taken."""
        return blake2b(repr(self).encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()

    @classmethod
    def parse(cls, raw: Mapping[str, Any]) -> FolderConfig:
        """Check `raw`, a decoded JSON object. Raises InvalidRequestError that names the key and how to mend it."""
        allowed = [field.name for field in fields(cls)]
        unknown = sorted(set(raw) - set(allowed))
        if unknown:
            raise _refused(unknown[0], f"is not a setting of a local folder; use one of {', '.join(allowed)}")
        return cls(
            path=_path(raw),
            include=_globs(raw, "include"),
            exclude=_globs(raw, "exclude"),
            include_hidden=_flag(raw, "include_hidden"),
            follow_symlinks=_flag(raw, "follow_symlinks"),
            max_file_bytes=_size(raw, "max_file_bytes", default=50 * MIB),
        )


def _path(raw: Mapping[str, Any]) -> Path:
    value = raw.get("path")
    if not isinstance(value, str) or not value:
        raise _refused("path", "must be the absolute path of a folder")
    if "\0" in value or not Path(value).is_absolute():
        raise _refused("path", f"must be an absolute path without NUL, and {value!r} is not; start it with /")
    return Path(value)


def _globs(raw: Mapping[str, Any], key: str) -> tuple[str, ...]:
    value = raw.get(key, ())
    if not isinstance(value, list | tuple) or not all(isinstance(glob, str) and glob.strip("!/ ") for glob in value):
        raise _refused(key, 'must be a list of globs such as ["*.md", "drafts/"]')
    return tuple(value)


def _flag(raw: Mapping[str, Any], key: str) -> bool:
    value = raw.get(key, False)
    if not isinstance(value, bool):
        raise _refused(key, "must be true or false")
    return value


def _size(raw: Mapping[str, Any], key: str, *, default: int) -> int:
    value = raw.get(key, default)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise _refused(key, "must be a whole number of bytes above 0")
    return value


def _refused(key: str, reason: str) -> InvalidRequestError:
    return InvalidRequestError(f"config key `{key}` {reason}.", key=key)
