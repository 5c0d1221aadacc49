"""Globs, names and stamps of a local folder: pure functions."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.sources.folder_store import FolderStore
from workstation_pipelines.errors import InvalidRequestError
from workstation_pipelines.sources.local_folder import globs, names
from workstation_pipelines.sources.local_folder import stamp as stamps
from workstation_pipelines.sources.local_folder.config import FolderConfig
from workstation_pipelines.sources.local_folder.stamp import Stamp


def leaves_out(patterns: list[str], path: str, *, hidden: bool = True) -> bool:
    """Whether the walk would leave out `path`; a last slash marks a directory."""
    excluded = globs.excludes(patterns, hidden=hidden)
    parts = path.rstrip("/").split("/")
    for depth, name in enumerate(parts):
        above = "".join(f"{part}/" for part in parts[:depth])
        if excluded(name, above, depth < len(parts) - 1 or path.endswith("/")):
            return True
    return False


@pytest.mark.parametrize(
    ("pattern", "matching", "others"),
    [
        ("build", ["build", "build/x", "a/build/x"], ["builds", "a/rebuild"]),
        ("build/", ["build/x", "a/build/x"], ["build", "a/build"]),
        ("/build", ["build", "build/x"], ["a/build"]),
        ("docs/*.md", ["docs/a.md"], ["a/docs/a.md", "docs/b/a.md", "docs/a.mdx"]),
        ("docs/**", ["docs/a", "docs/b/c"], ["docs/", "a/docs/b"]),
        ("**/cache", ["cache", "a/cache", "a/b/cache/x"], ["caches"]),
        ("a/**/z", ["a/z", "a/b/z", "a/b/c/z"], ["az", "b/a/z"]),
        ("*.log", ["x.log", "a/.x.log", "a/b.log/c"], ["x.log2", "log"]),
        ("draft*", ["draft", "drafts/x", "draft.txt"], ["adraft"]),
        ("?.txt", ["a.txt"], ["ab.txt", ".txt2"]),
        ("[a-c].txt", ["a.txt"], ["d.txt"]),
        ("[!a-c].txt", ["d.txt"], ["a.txt"]),
        ("[^a].txt", ["b.txt"], ["a.txt"]),
        ("[]x].txt", ["].txt", "x.txt"], ["y.txt"]),
        ("[z-a].txt", ["[z-a].txt"], ["b.txt"]),
        ("[open", ["[open"], ["open"]),
        (r"\*.txt", ["*.txt"], ["a.txt"]),
        (r"\!important", ["!important"], ["important"]),
        ("a+b(c).txt", ["a+b(c).txt"], ["aab(c).txt"]),
        ("line\nbreak*", ["line\nbreak.txt"], ["line"]),
    ],
)
def test_glob_matches_as_gitignore_does(pattern: str, matching: list[str], others: list[str]) -> None:
    for path in matching:
        assert leaves_out([pattern], path, hidden=False), path
    for path in others:
        assert not leaves_out([pattern], path, hidden=False), path
    for path in matching:
        assert leaves_out([pattern, "!unrelated"], path, hidden=False), path
    for path in others:
        assert not leaves_out([pattern, "!unrelated"], path, hidden=False), path


@pytest.mark.parametrize(
    "path",
    [
        ".git/config",
        "a/node_modules/x",
        "__pycache__/x.pyc",
        ".venv/x",
        ".DS_Store",
        "a/Thumbs.db",
        "~$letter.docx",
        "a.tmp",
        ".a.txt.swp",
    ],
)
def test_debris_is_left_out_even_when_hidden_files_are_wanted(path: str) -> None:
    assert leaves_out([], path, hidden=False)
    assert leaves_out([], path, hidden=True)


def test_hidden_files_are_left_out_unless_wanted() -> None:
    assert leaves_out([], ".ssh/id_ed25519", hidden=True)
    assert not leaves_out([], ".ssh/id_ed25519", hidden=False)


def test_last_matching_glob_decides_and_a_mark_takes_back() -> None:
    assert not leaves_out(["*.md", "!keep.md"], "keep.md")
    assert leaves_out(["!keep.md", "*.md"], "keep.md")
    assert not leaves_out(["!*.tmp"], "a.tmp")
    assert not leaves_out(["!.env"], ".env")
    assert leaves_out(["!keep.md", "docs"], "docs/keep.md")


def test_include_takes_matching_files_and_all_below_a_matching_directory(folder: Path) -> None:
    for path in ("a.md", "a.txt", "docs/b.txt", "docs/deep/c.txt", "other/d.md", "other/e.txt"):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text("x")
    store = FolderStore(folder, include=["*.md", "docs/"], exclude=["c.txt"])
    store.sync()
    assert set(store.live()) == {"a.md", "docs/b.txt", "other/d.md"}


# Names


@given(st.binary(min_size=1, max_size=40) | st.from_regex(rb"(%|2|5|8|A|F|\xe9)*", fullmatch=True))
def test_every_name_is_storable_and_comes_back(raw: bytes) -> None:
    name = os.fsdecode(raw)
    path = names.storable(name)
    path.encode()
    assert names.on_disk(path) == name


@given(st.binary(max_size=8), st.binary(max_size=8))
def test_two_names_never_become_one(one: bytes, other: bytes) -> None:
    assert (names.storable(os.fsdecode(one)) == names.storable(os.fsdecode(other))) == (one == other)


def test_usual_names_stay_as_they_are() -> None:
    for name in ("Überblick 100%.md", "a%20b.txt", "日本語/ファイル", "e\u0301", "line\nbreak"):
        assert names.storable(name) == name
    assert names.storable(os.fsdecode(b"caf\xe9 %E9 %25")) == "caf%E9 %25E9 %2525"


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("report.final.pdf", "report.final"),
        ("README", "README"),
        (".bashrc", ".bashrc"),
        ("two\nlines\t.txt", "two lines"),
        ("evil\u202egnp.exe", "evilgnp"),
        ("e\u0301te\u0301.txt", "été"),
        ("\udce9.txt", "\ufffd"),
        ("\u200b", "untitled"),
        ("क्\u200cष.txt", "क्\u200cष"),
    ],
)
def test_title_is_clean(name: str, title: str) -> None:
    assert names.title(name) == title


def test_odd_names_are_listed_and_read(folder: Path, store: FolderStore) -> None:
    odd = [b"caf\xe9.txt", "café.txt".encode(), "cafe\u0301.txt".encode(), b"new\nline", b"\x01\x7f", b"a" * 255]
    odd += ["\u202eevil".encode(), b"%E9.txt", b"100%.txt", b" ", b"-rf", b"a\\b", b"d\xff/inner \xfe.txt"]
    for number, raw in enumerate(odd):
        path = folder / os.fsdecode(raw)
        path.parent.mkdir(exist_ok=True)
        path.write_text(str(number))
    store.sync()
    assert sorted(store.live().values()) == sorted(str(number).encode() for number in range(len(odd)))
    for stored in store.live():
        stored.encode()
    assert store.items_seen["caf%E9.txt"].title == "caf\ufffd"
    assert store.items_seen["caf%E9.txt"].external_url == f"{folder.as_uri()}/caf%E9.txt"
    outcome = store.sync()
    assert outcome.is_quiet
    assert outcome.unchanged == len(odd)


def test_path_longer_than_path_max_is_listed_and_read(folder: Path, store: FolderStore) -> None:
    here = os.open(folder, os.O_RDONLY)
    for _ in range(20):
        os.mkdir("d" * 250, dir_fd=here)
        here, above = os.open("d" * 250, os.O_RDONLY, dir_fd=here), here
        os.close(above)
    with os.fdopen(os.open("deep.txt", os.O_WRONLY | os.O_CREAT, dir_fd=here), "w") as file:
        file.write("deep")
    os.close(here)
    assert store.sync().failures == []
    assert list(store.live().values()) == [b"deep"]
    assert store.sync().is_quiet


@pytest.mark.parametrize(
    "mtime_ns", [-(2**63), -62_135_596_800_000_000_000, -1, 0, 2**62, 2**63 - 1, 10**30, -(10**30)]
)
def test_any_time_stamp_becomes_a_moment_that_every_zone_can_hold(mtime_ns: int) -> None:
    moment = names.moment(mtime_ns)
    for hours in (-12, 14):
        moment.astimezone(datetime.now(UTC).tzinfo) + timedelta(hours=hours)


def test_times_before_1970_are_kept() -> None:
    assert names.moment(-86_400 * 10**9) == datetime(1969, 12, 31, tzinfo=UTC)


# Stamps


@given(st.integers(0), st.integers(), st.integers(0), st.integers(0), st.sampled_from(["", "ab12"]), st.booleans())
def test_stamp_survives_its_text_form(size: int, mtime: int, inode: int, device: int, digest: str, racy: bool) -> None:
    stamp = Stamp(size, mtime, inode, device, digest, racy)
    assert stamps.parse(str(stamp)) == stamp


@pytest.mark.parametrize("text", ["", "lf1", "md5:abc", "lf1:1:2:3:4", "lf1:a:2:3:4:", "lf2:1:2:3:4:"])
def test_foreign_hash_is_no_stamp_and_never_the_same_content(text: str) -> None:
    assert stamps.parse(text) is None
    assert not stamps.same_content(text, text)


@pytest.mark.parametrize(
    ("old", "new", "same"),
    [
        ("lf1:1:2:3:4:aa", "lf1:9:9:9:9:aa", True),
        ("lf1r:1:2:3:4:aa", "lf1:1:2:3:4:aa", True),
        ("lf1:1:2:3:4:aa", "lf1:1:2:3:4:bb", False),
        ("lf1:1:2:3:4:aa", "lf1:1:2:3:4:", False),
        ("lf1:1:2:3:4:", "lf1:1:2:3:4:aa", False),
        ("lf1:1:2:3:4:", "lf1:1:2:3:5:", True),
        ("lf1:1:2:3:4:", "lf1:1:3:3:4:", False),
        ("lf1r:1:2:3:4:", "lf1r:1:2:3:4:", False),
    ],
)
def test_same_content_compares_digests_and_trusts_only_a_safe_stat(old: str, new: str, same: bool) -> None:
    assert stamps.same_content(old, new) is same


# Config


@pytest.mark.parametrize(
    ("config", "key"),
    [
        ({}, "path"),
        ({"path": ""}, "path"),
        ({"path": "relative/folder"}, "path"),
        ({"path": "/nul\0"}, "path"),
        ({"path": 3}, "path"),
        ({"path": "/x", "includes": []}, "includes"),
        ({"path": "/x", "include": "*.md"}, "include"),
        ({"path": "/x", "include": [3]}, "include"),
        ({"path": "/x", "exclude": [""]}, "exclude"),
        ({"path": "/x", "exclude": ["!"]}, "exclude"),
        ({"path": "/x", "follow_symlinks": "yes"}, "follow_symlinks"),
        ({"path": "/x", "include_hidden": 1}, "include_hidden"),
        ({"path": "/x", "max_file_bytes": 0}, "max_file_bytes"),
        ({"path": "/x", "max_file_bytes": True}, "max_file_bytes"),
        ({"path": "/x", "max_file_bytes": 1.5}, "max_file_bytes"),
    ],
)
def test_unusable_config_is_refused_by_the_name_of_its_key(config: dict[str, Any], key: str) -> None:
    with pytest.raises(InvalidRequestError, match=f"`{key}`") as caught:
        FolderConfig.parse(config)
    assert caught.value.details == {"key": key}
