"""The life of a place in three versions, and what must be found after each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.sync.scripted import VendorAccount

PARAGRAPH = "the quick brown fox jumps over the lazy dog and then once more "


@dataclass(frozen=True)
class Version:
    """A state of the place: `truth` is path -> text."""

    name: str
    truth: dict[str, str]


def versions() -> list[Version]:
    """v1 -> v2 (edits, additions, renames) -> shrink (shorter texts, few items left)."""
    v1 = {f"note{n:02}.txt": f"note {n} " + PARAGRAPH * (1 + n % 3) for n in range(10)}
    v2 = dict(v1)
    for n in (1, 4, 7):
        v2[f"note{n:02}.txt"] = f"edited {n} " + PARAGRAPH * 2
    for n in (10, 11):
        v2[f"note{n:02}.txt"] = f"added {n} " + PARAGRAPH
    v2["moved03.txt"] = v2.pop("note03.txt")
    shrink = {path: text[:30] for path, text in list(v2.items())[:4]}
    return [Version("v1", v1), Version("v2", v2), Version("shrink", shrink)]


def write_folder(folder: Path, version: Version) -> None:
    """Bring a folder to a version. `moved03.txt` really is a rename of `note03.txt`."""
    folder.mkdir(exist_ok=True)
    if "moved03.txt" in version.truth and (folder / "note03.txt").exists():
        (folder / "note03.txt").rename(folder / "moved03.txt")
    for file in folder.iterdir():
        if file.name not in version.truth:
            file.unlink()
    for path, text in version.truth.items():
        file = folder / path
        if not file.exists() or file.read_text() != text:
            file.write_text(text)


def write_account(file: Path, version: Version) -> None:
    """Bring a scripted account to a version, by way of its change log. The id of an item is the path it had first."""
    account = VendorAccount.load(file)
    by_path = {path: external_id for external_id, path in account.paths.items() if external_id in account.texts}
    if "moved03.txt" in version.truth and "note03.txt" in by_path:
        account.rename("note03.txt", "moved03.txt")
        by_path["moved03.txt"] = by_path.pop("note03.txt")
    for path, external_id in by_path.items():
        if path not in version.truth:
            account.delete(external_id)
    for path, text in version.truth.items():
        external_id = by_path.get(path, path)
        if account.texts.get(external_id) != text:
            account.put(external_id, text, path)
    account.save()


PLACES: dict[str, Callable[[Path, Version], None]] = {"folder": write_folder, "account.json": write_account}


def story(directory: Path, place: str) -> Iterator[tuple[Version, Path]]:
    """Yield each version after bringing the place to it."""
    for version in versions():
        PLACES[place](directory / place, version)
        yield version, directory / place
