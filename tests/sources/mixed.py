"""Many items of mixed kinds and sizes, as people have them, for plans to be held against."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.fakes.google_drive_state import DOCUMENT, DriveState
from workstation_pipelines.model import Chunk, Heading

CHUNK_CHARACTERS = 800
_FIRST = ("ba", "co", "di", "fu", "ga", "hel", "in", "jo", "ka", "lor")
_WORDS = [f"{first}{second}" for first in _FIRST for second in ("me", "nu", "or", "pi", "que")]


@dataclass(frozen=True)
class Thing:
    """`body` is what a download gives, or the text of a native document."""

    name: str
    mime_type: str
    body: bytes


class CharacterSplitter:
    """Cuts every 800 characters and takes four for a token, so that a mixed text costs what its length says."""

    def split(self, text: str, headings: Sequence[Heading]) -> list[Chunk]:
        starts = range(0, len(text), CHUNK_CHARACTERS)
        ends = [min(start + CHUNK_CHARACTERS, len(text)) for start in starts]
        return [
            Chunk(ordinal, text[start:end], start, end, "", (end - start + 3) // 4)
            for ordinal, (start, end) in enumerate(zip(starts, ends, strict=True))
        ]


def things(count: int, *, seed: int = 7, with_documents: bool) -> Iterator[Thing]:
    """Half is plain text; the rest Markdown, tables, pages heavy with markup, pictures, and documents without a size."""
    chosen = random.Random(seed)  # noqa: S311 - the same things each time
    before = b""
    for number in range(count):
        kind = chosen.random()
        words = _prose(chosen, int(min(max(chosen.lognormvariate(7.2, 0.9), 60), 60_000)), number)
        if kind < 0.45:
            if with_documents and before and chosen.random() < 0.05:
                words = before.decode()  # a copy, which is fetched and not embedded
            before = words.encode()
            yield Thing(f"note {number}.txt", "text/plain", before)
        elif kind < 0.6:
            yield Thing(f"note {number}.md", "text/markdown", f"# Note {number}\n\n{words}".encode())
        elif kind < 0.7:
            rows = "\n".join(f"{n},{word},{n * 7}" for n, word in enumerate(words.split()))
            yield Thing(f"table {number}.csv", "text/csv", f"number,word,more\n{rows}\n".encode())
        elif kind < 0.85:
            markup = "".join(f'<p class="{"c" * 40}">{part}</p>' for part in words.split(". "))
            page = f"<html><head><style>{'a' * 3000}</style></head><body>{markup}</body></html>"
            yield Thing(f"page {number}.html", "text/html", page.encode())
        elif kind < 0.93 or not with_documents:
            yield Thing(f"picture {number}.png", "image/png", b"\x89PNG\r\n\x1a\n" + chosen.randbytes(20_000))
        else:
            yield Thing(f"document {number}", DOCUMENT, words.encode())


def fill_folder(folder: Path, count: int) -> None:
    folder.mkdir(exist_ok=True)
    for thing in things(count, with_documents=False):
        (folder / thing.name).write_bytes(thing.body)


def fill_drive(state: DriveState, parent: str, count: int) -> None:
    for thing in things(count, with_documents=True):
        if thing.mime_type == DOCUMENT:
            state.add_doc(thing.name, thing.body.decode(), parent)
        else:
            state.add_file(thing.name, thing.body, parent, mime_type=thing.mime_type)


def _prose(chosen: random.Random, size_bytes: int, number: int) -> str:
    sentences = [f"Paper {number}"]
    length = 0
    while length < size_bytes:
        sentence = " ".join(chosen.choices(_WORDS, k=12))
        sentences.append(f"{sentence} {chosen.randrange(100_000)}")
        length += len(sentences[-1]) + 2
    return ". ".join(sentences)
