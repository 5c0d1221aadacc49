"""Writes small compound files (the container of MSG and of encrypted Office files), which no library at hand does.

Layout by [MS-CFB]: version 3, sectors of 512 bytes, streams below 4,096 bytes in the mini stream.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

_SECTOR = 512
_MINI_SECTOR = 64
_MINI_STREAM_BELOW = 4096
_FREE, _END, _FAT = 0xFFFFFFFF, 0xFFFFFFFE, 0xFFFFFFFD
_STORAGE, _STREAM, _ROOT = 1, 2, 5

Tree = dict[str, "bytes | Tree"]


@dataclass
class _Entry:
    name: str
    kind: int
    body: bytes = b""
    children: list[_Entry] = field(default_factory=list)
    index: int = 0
    start: int = _END
    left: int = _FREE
    right: int = _FREE
    child: int = _FREE


def compound_file(tree: Tree) -> bytes:
    """Return the bytes of a compound file: a dict is a storage, bytes are a stream. At most 6 MB."""
    root = _Entry("Root Entry", _ROOT, children=_entries(tree))
    entries: list[_Entry] = []
    _number(root, entries)
    sectors: list[bytes] = []
    fat: list[int] = []
    mini_stream, mini_fat = bytearray(), []
    for entry in entries:
        if entry.kind == _STREAM and entry.body and len(entry.body) < _MINI_STREAM_BELOW:
            entry.start = len(mini_stream) // _MINI_SECTOR
            count = -(-len(entry.body) // _MINI_SECTOR)
            mini_fat += [*range(entry.start + 1, entry.start + count), _END]
            mini_stream += entry.body.ljust(count * _MINI_SECTOR, b"\0")
        elif entry.kind == _STREAM and entry.body:
            entry.start = _store(entry.body, sectors, fat)
    root.start = _store(bytes(mini_stream), sectors, fat)
    root.body = bytes(mini_stream)
    mini_fat_bytes = struct.pack(f"<{len(mini_fat)}I", *mini_fat)
    mini_fat_bytes = mini_fat_bytes.ljust(-(-len(mini_fat_bytes) // _SECTOR) * _SECTOR, b"\xff")
    mini_fat_start = _store(mini_fat_bytes, sectors, fat)
    directory_start = _store(b"".join(_directory_entry(entry) for entry in entries), sectors, fat)
    return _assemble(sectors, fat, directory_start, mini_fat_start, len(mini_fat_bytes) // _SECTOR)


def _entries(tree: Tree) -> list[_Entry]:
    return [
        _Entry(name, _STREAM, body=value)
        if isinstance(value, bytes)
        else _Entry(name, _STORAGE, children=_entries(value))
        for name, value in tree.items()
    ]


def _number(entry: _Entry, entries: list[_Entry]) -> None:
    entry.index = len(entries)
    entries.append(entry)
    for child in entry.children:
        _number(child, entries)
    # Siblings form a search tree, shorter names first.
    ordered = sorted(entry.children, key=lambda child: (len(child.name), child.name.upper()))
    entry.child = _balance(ordered)


def _balance(ordered: list[_Entry]) -> int:
    if not ordered:
        return _FREE
    middle = len(ordered) // 2
    entry = ordered[middle]
    entry.left, entry.right = _balance(ordered[:middle]), _balance(ordered[middle + 1 :])
    return entry.index


def _store(body: bytes, sectors: list[bytes], fat: list[int]) -> int:
    if not body:
        return _END
    start = len(sectors)
    count = -(-len(body) // _SECTOR)
    sectors += [body[at : at + _SECTOR].ljust(_SECTOR, b"\0") for at in range(0, len(body), _SECTOR)]
    fat += [*range(start + 1, start + count), _END]
    return start


def _directory_entry(entry: _Entry) -> bytes:
    name = entry.name.encode("utf-16-le") + b"\0\0"
    start = 0 if entry.kind == _STORAGE else entry.start
    return struct.pack(
        "<64sHBBIII16sIQQIQ", name, len(name), entry.kind, 1, entry.left, entry.right, entry.child, b"", 0, 0, 0, start,
        len(entry.body),
    )  # fmt: skip


def _assemble(sectors: list[bytes], fat: list[int], directory: int, mini_fat: int, mini_fat_sectors: int) -> bytes:
    fat_sectors = 1
    while (len(sectors) + fat_sectors) * 4 > fat_sectors * _SECTOR:
        fat_sectors += 1
    places = list(range(len(sectors), len(sectors) + fat_sectors))
    table = [*fat, *([_FAT] * fat_sectors)]
    table += [_FREE] * (fat_sectors * _SECTOR // 4 - len(table))
    header = struct.pack(
        "<8s16sHHHHH6sIIIIIIIIII", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", b"", 0x3E, 3, 0xFFFE, 9, 6, b"", 0, fat_sectors,
        directory, 0, _MINI_STREAM_BELOW, mini_fat, mini_fat_sectors, _END, 0, *places[:1],
    )  # fmt: skip
    header += struct.pack(f"<{len(places) - 1}I", *places[1:]).ljust((109 - 1) * 4, b"\xff")
    return header + b"".join(sectors) + struct.pack(f"<{len(table)}I", *table)
