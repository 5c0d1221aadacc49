"""No secret is left in what is stored, in whatever form it stands there."""

from __future__ import annotations

import base64
import html
import json
import urllib.parse
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.pure.growth import is_linear
from workstation_pipelines.workflows.redaction import redacted

KEY = 'pä/"ss w+rd\\&='


@pytest.mark.parametrize(
    "form",
    [
        KEY,
        urllib.parse.quote(KEY),
        urllib.parse.quote(KEY, safe=""),
        urllib.parse.quote_plus(KEY),
        urllib.parse.urlencode({"k": KEY}).removeprefix("k="),
        "".join(f"%{byte:02x}" for byte in KEY.encode()),
        "%70" + urllib.parse.quote(KEY)[1:],
        json.dumps(KEY)[1:-1],
        json.dumps(KEY, ensure_ascii=False)[1:-1],
        json.dumps(KEY).replace("/", "\\/")[1:-1],
        json.dumps(json.dumps({"a": KEY}))[11:-4],
        "".join(f"\\u{ord(character):04x}" for character in KEY),
        html.escape(KEY),
        base64.b64encode(KEY.encode()).decode().rstrip("="),
        base64.urlsafe_b64encode(KEY.encode()).decode().rstrip("="),
        KEY.encode().hex(),
    ],
)
def test_every_form_of_a_secret_is_found(form: str) -> None:
    assert redacted(f"before {form} after", [KEY, "unrelated"]).startswith("before ***")
    assert redacted({"k": [f"x{form}y"]}, [KEY])["k"][0].startswith("x***")
    assert next(iter(redacted({f"<{form}>": 1}, [KEY]))).startswith("<***")


@pytest.mark.parametrize("before", ["", "u", "us", "user:"])
@pytest.mark.parametrize("after", ["", "!", "!?", " and more"])
def test_secret_within_base64_is_found(before: str, after: str) -> None:
    secret = "a-rather-long-password"
    code = base64.b64encode(f"{before}{secret}{after}".encode()).decode()
    hidden = redacted(f"Basic {code}", [secret])
    left = hidden.removeprefix("Basic ").split("***")
    assert len(left) == 2
    assert all(len(part) <= len(code) - 4 * len(secret) // 3 + 4 for part in left)


@pytest.mark.parametrize(
    ("text", "secrets", "hidden"),
    [
        ("abcdef", ["abcd", "cdef"], "***"),
        ("xabcdefy", ["abcd", "cdef"], "x***y"),
        ("abcdabcd abcd", ["abcd"], "*** ***"),
        ("abababab", ["ababab"], "***"),
        ("aabaabaa!", ["aabaa"], "***!"),
        ("aabaaabaa!", ["aabaa"], "***!"),
        ("xabcdefghy", ["abcdefgh", "cdef"], "x***y"),
        ("aaaaaaaaab", ["aaaa"], "***b"),
        ("password1", ["password", "password1"], "***"),
        ("abc abc", ["abc"], "abc abc"),
        ("abc", ["abc"], "***"),
        ("", [""], ""),
        ("text", [], "text"),
        ("100% of \\ and + stay", ["secret"], "100% of \\ and + stay"),
        ("%zz%4", ["secret"], "%zz%4"),
    ],
)
def test_places_of_secrets_are_hidden_and_no_more(text: str, secrets: list[str], hidden: str) -> None:
    assert redacted(text, secrets) == hidden


def test_every_depth_and_every_kind_of_value_is_looked_at() -> None:
    deep: Any = ["secret"]
    for _ in range(50_000):
        deep = [deep]
    found = redacted(
        {"a": deep, "n": 12345, "m": 123456, "b": True, "z": None, "f": 1.5}, ["secret", "12345", "1.5", "true"]
    )
    assert (found["n"], found["m"], found["b"], found["z"], found["f"]) == ("***", 123456, True, None, "***")
    inner = found["a"]
    for _ in range(50_000):
        inner = inner[0]
    assert inner == ["***"]


def test_keys_with_secrets_stay_apart() -> None:
    found = redacted({"secret": 1, "a secret": 2, "***": 3, "%73ecret": 4}, ["secret"])
    assert sorted(found.values()) == [1, 2, 3, 4]
    assert all(key.replace("a ", "").startswith("***") for key in found)


_SECRETS = st.lists(st.text('ab%\\u0061+& "/é😀', min_size=4, max_size=8), min_size=1, max_size=3)
_ENCODERS: list[Callable[[str], str]] = [
    lambda text: text,
    urllib.parse.quote,
    urllib.parse.quote_plus,
    lambda text: json.dumps(text)[1:-1],
    lambda text: json.dumps(json.dumps(text)),
    html.escape,
]


@settings(max_examples=150, deadline=None)
@given(
    _SECRETS,
    st.lists(st.tuples(st.integers(0, 2), st.sampled_from(_ENCODERS), st.text("ab%\\ ", max_size=3)), max_size=5),
)
def test_no_secret_is_left(secrets: list[str], parts: list[tuple[int, Callable[[str], str], str]]) -> None:
    texts = [encode(secrets[which % len(secrets)]) + noise for which, encode, noise in parts]
    value = {"joined": "".join(texts), "list": texts, **dict.fromkeys(texts, 1)}
    found = redacted(value, secrets)
    kept = [found["joined"], *found["list"], *found]
    assert not [(text, secret) for text in kept for secret in secrets if secret in text]
    for encoded, (which, _, _) in zip(found["list"], parts, strict=True):
        assert "***" in encoded, (secrets[which % len(secrets)], encoded)
    assert redacted(found, []) is found


@pytest.mark.parametrize("piece", ["a", "ab", "%61", "\\u0061", "\\\\", "+", "abcd", "YWJj", "%", "\\"])
def test_time_is_linear(piece: str) -> None:
    secrets = ["a" * 1000, "ab" * 500, "abcd", "b" * 999 + "a", "\\" * 50]
    assert is_linear(lambda text: redacted(text, secrets), piece, count=100_000 // len(piece))
