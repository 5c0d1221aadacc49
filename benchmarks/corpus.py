"""A seeded folder of text and Markdown files, and the step that changes, adds and deletes one percent of it.

Sizes are lognormal with a median of 3,000 bytes, cut at 200 KB; 0.3 % have exactly 200 KB, 1 % repeat another file,
1 % hold text beyond ASCII, 0.2 % are empty. The words follow Zipf's law. The same seed gives the same bytes and times.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_SYLLABLES = "ba co di fu ga hel in jo ka lor me nu or pi que ra si ta un ver wo xi yo zen"
_BEYOND_ASCII = ("größe", "naïve", "数据", "поиск", "東京", "emoji😀", "smørbrød", "café")
_FOLDERS = 50
_FIRST_MTIME_S = 1_700_000_000
_LARGEST_BYTES = 200_000


@dataclass(frozen=True, slots=True)
class _Words:
    """A vocabulary with the probability of each word."""

    words: NDArray[np.object_]
    shares: NDArray[np.float64]


def generate(root: Path, files: int, *, seed: int) -> None:
    """Write `files` files below `root`, which must not exist."""
    rng = np.random.default_rng(seed)
    vocabulary = _vocabulary(rng)
    sizes = _sizes(rng, files)
    kinds = rng.random(files)
    for folder in range(_FOLDERS):
        (root / f"d{folder:02d}").mkdir(parents=True)
    before = b""
    for number in range(files):
        if kinds[number] < 0.010 and before:
            body = before
        elif kinds[number] < 0.012:
            body = b""
        else:
            body = before = _body(rng, vocabulary, int(sizes[number]), f"document {number}", kinds[number] > 0.99)
        path = _path(root, number)
        path.write_bytes(body)
        os.utime(path, (_FIRST_MTIME_S + number, _FIRST_MTIME_S + number))


def mutate(root: Path, *, seed: int, share: float = 0.01) -> int:
    """Change, add and delete `share` of the files each; return how many that is."""
    rng = np.random.default_rng(seed + 1)
    vocabulary = _vocabulary(rng)
    paths = sorted(map(Path, walk(root)), key=lambda path: path.name)
    count = max(1, round(len(paths) * share))
    chosen = [paths[place] for place in rng.permutation(len(paths))]
    for path in chosen[:count]:
        body = path.read_bytes()
        cut = body.find(b" ", len(body) // 2)
        cut = cut if cut >= 0 else len(body)
        path.write_bytes(body[:cut] + b" changedword" + body[cut:] + _body(rng, vocabulary, 400, "appendix", False))
    for path in chosen[count : 2 * count]:
        path.unlink()
    first = int(paths[-1].stem[3:]) + 1
    for place, size in enumerate(_sizes(rng, count)):
        _path(root, first + place).write_bytes(_body(rng, vocabulary, int(size), f"added {place}", False))
    return count


def walk(root: Path) -> Iterator[str]:
    """Yield the path of every file, in no order."""
    pending = [str(root)]
    while pending:
        with os.scandir(pending.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    pending.append(entry.path)
                else:
                    yield entry.path


def _vocabulary(rng: np.random.Generator, size: int = 6000) -> _Words:
    syllables = _SYLLABLES.split()
    found: set[str] = set()
    while len(found) < size:
        found.add("".join(rng.choice(syllables, rng.integers(1, 5))))
    words = sorted(found)
    rng.shuffle(words)
    shares = 1.0 / (np.arange(size) + 10.0)
    return _Words(np.array(words, dtype=object), shares / shares.sum())


def _sizes(rng: np.random.Generator, files: int) -> NDArray[np.int64]:
    sizes = np.clip(rng.lognormal(np.log(3000), 0.9, files), 40, _LARGEST_BYTES).astype(np.int64)
    sizes[rng.random(files) < 0.003] = _LARGEST_BYTES
    return sizes


def _body(rng: np.random.Generator, vocabulary: _Words, size_bytes: int, title: str, beyond_ascii: bool) -> bytes:
    count = max(1, size_bytes // 6)
    words = vocabulary.words[rng.choice(len(vocabulary.words), count, p=vocabulary.shares)].tolist()
    if beyond_ascii:
        for place in range(0, count, 17):
            words[place] = _BEYOND_ASCII[place % len(_BEYOND_ASCII)]
    paragraphs, at = [f"# {title}\n\n"], 0
    while at < count:
        length = int(rng.integers(40, 120))
        paragraphs.append(" ".join(words[at : at + length]) + ".\n\n")
        at += length
    whole = "".join(paragraphs).encode()[: size_bytes - 1].decode(errors="ignore")
    # Blanks at a line's end are what extraction removes, so none are written: the truth is then the file itself.
    return (whole.rstrip() + "\n").encode()


def _path(root: Path, number: int) -> Path:
    return root / f"d{number % _FOLDERS:02d}" / f"doc{number:06d}.{'md' if number % 2 else 'txt'}"
