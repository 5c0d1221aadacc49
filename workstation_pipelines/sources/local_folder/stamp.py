"""The `external_hash` of a file: its stat, so that most files need not be opened, and the digest of its bytes.

Text form: `lf1:<size>:<mtime_ns>:<inode>:<device>:<digest>`, digest being BLAKE2b-128 in hex, or empty while nobody has
read the file. `lf1r:` in front marks a racy stamp: the file was modified so shortly before it was looked at that a
later edit could leave the same stat (git's racy index, https://git-scm.com/docs/racy-git), so the next listing reads
it once. The device comes after the inode since a remount may number devices anew without touching a file.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

RACY_NS = 2_000_000_000
"""The coarsest time stamp of a file system in use: FAT counts in steps of 2 s."""

_FUTURE_NS = 24 * 3600 * 1_000_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Stamp:
    """What one look at a file showed."""

    size_bytes: int
    mtime_ns: int
    inode: int
    device: int
    digest: str = ""
    racy: bool = False

    def __str__(self) -> str:
        tag = "lf1r" if self.racy else "lf1"
        return f"{tag}:{self.size_bytes}:{self.mtime_ns}:{self.inode}:{self.device}:{self.digest}"

    def has_stat_of(self, other: Stamp) -> bool:
        return (self.size_bytes, self.mtime_ns, self.inode) == (other.size_bytes, other.mtime_ns, other.inode)


def stamp_of(stat: os.stat_result, *, seen_at: datetime, digest: str = "") -> Stamp:
    """Stamp a stat taken at or after `seen_at`.

    A time up to a day ahead counts as racy, since a file server's clock may be ahead of ours; one that is years ahead
    was set by hand, and the next edit will replace it.
    """
    age_ns = (seen_at - _EPOCH) // timedelta(microseconds=1) * 1000 - stat.st_mtime_ns
    racy = -_FUTURE_NS < age_ns < RACY_NS
    return Stamp(stat.st_size, stat.st_mtime_ns, stat.st_ino, stat.st_dev, digest, racy)


def parse(external_hash: str) -> Stamp | None:
    """Read the text form; None for anything else, such as the hash of a former version."""
    tag, *fields = external_hash.split(":")
    if tag not in ("lf1", "lf1r") or len(fields) != 5:
        return None
    try:
        size_bytes, mtime_ns, inode, device = (int(field) for field in fields[:4])
    except ValueError:
        return None
    return Stamp(size_bytes, mtime_ns, inode, device, fields[4], tag == "lf1r")


def unchanged_prefix(stat: os.stat_result) -> str:
    """How the hash of a file with exactly this stat begins when it was safely stamped."""
    return f"lf1:{stat.st_size}:{stat.st_mtime_ns}:{stat.st_ino}:"


def digest_of(body: bytes) -> str:
    return hashlib.blake2b(body, digest_size=16).hexdigest()


def same_content(old_hash: str, new_hash: str) -> bool:
    """True when both hashes carry the same digest, or both carry none and the stat proves equality."""
    old, new = parse(old_hash), parse(new_hash)
    if old is None or new is None:
        return False
    if old.digest or new.digest:
        return old.digest == new.digest
    return old.has_stat_of(new) and not (old.racy or new.racy)
