"""Sealed records open for one user and one row only, keys change without touching what is sealed, secrets stay masked."""

from __future__ import annotations

import base64
import copy
import json
import pickle
import stat
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from threading import Barrier
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workstation_pipelines.errors import InvalidRequestError
from workstation_pipelines.settings import Settings
from workstation_pipelines.sources.credentials import Secret, Tokens
from workstation_pipelines.sources.sealing import Binding, KeyRing, SealError, new_key, rewrap, seal, unseal
from workstation_pipelines.sync.token_keys import key_ring

NOW = datetime(2026, 11, 22, tzinfo=UTC)
ROW = UUID(int=1)
HERE = Binding("tokens", "alice", ROW)
OLD, NEW = new_key("old"), new_key("new")


def ring(*keys: str) -> KeyRing:
    return KeyRing.parse(",".join(keys), origin="WORKSTATION_TOKEN_KEYS")


def test_sealed_value_comes_back_and_does_not_show() -> None:
    record = seal(ring(OLD), {"token": "canary"}, HERE)
    assert unseal(ring(OLD), record, HERE) == {"token": "canary"}
    assert set(record) == {"v", "kid", "wk", "ct"}
    assert "canary" not in json.dumps(record)
    assert b"canary" not in base64.b64decode(record["ct"])


def test_same_value_is_never_sealed_the_same_way_twice() -> None:
    first, second = (seal(ring(OLD), {"token": "x"}, HERE) for _ in range(2))
    assert (first["ct"], first["wk"]) != (second["ct"], second["wk"])


@pytest.mark.parametrize(
    "elsewhere",
    [
        Binding("tokens", "bob", ROW),
        Binding("tokens", "alice", UUID(int=2)),
        Binding("secrets", "alice", ROW),
        Binding("token", "salice", ROW),  # the same letters, cut elsewhere
    ],
)
def test_record_opens_for_no_other_user_row_or_purpose(elsewhere: Binding) -> None:
    record = seal(ring(OLD), {"token": "canary"}, HERE)
    with pytest.raises(SealError, match="belong to another user or source"):
        unseal(ring(OLD), record, elsewhere)
    with pytest.raises(SealError):
        rewrap(ring(NEW, OLD), record, elsewhere)


def test_parts_of_two_records_do_not_go_together() -> None:
    first, second = (seal(ring(OLD), {"token": name}, HERE) for name in "ab")
    with pytest.raises(SealError):
        unseal(ring(OLD), first | {"ct": second["ct"]}, HERE)


@given(at=st.integers(0, 10_000), part=st.sampled_from(["wk", "ct"]), bit=st.integers(0, 7))
def test_any_changed_bit_is_noticed(at: int, part: str, bit: int) -> None:
    record = seal(ring(OLD), {"token": "canary"}, HERE)
    raw = bytearray(base64.b64decode(record[part]))
    raw[at % len(raw)] ^= 1 << bit
    with pytest.raises(SealError):
        unseal(ring(OLD), record | {part: base64.b64encode(raw).decode()}, HERE)


@pytest.mark.parametrize(
    "broken", [{"ct": None}, {"wk": "="}, {"wk": ""}, {"ct": 7}, {"v": 2}, {"kid": None}, {"kid": ["x"]}]
)
def test_malformed_record_is_a_seal_error(broken: dict[str, object]) -> None:
    with pytest.raises(SealError):
        unseal(ring(OLD), {**seal(ring(OLD), {}, HERE), **broken}, HERE)


def test_missing_key_is_named_with_what_to_do() -> None:
    record = seal(ring(OLD), {}, HERE)
    with pytest.raises(SealError, match=r"the key 'old'.*add it to WORKSTATION_TOKEN_KEYS behind the newest"):
        unseal(ring(NEW), record, HERE)


def test_other_key_of_the_same_id_does_not_open() -> None:
    with pytest.raises(SealError, match="replaced under the same id"):
        unseal(ring(new_key("old")), seal(ring(OLD), {}, HERE), HERE)


def test_newest_key_writes_and_every_key_reads() -> None:
    before = seal(ring(OLD), {"token": "canary"}, HERE)
    both = ring(NEW, OLD)
    assert seal(both, {}, HERE)["kid"] == "new"
    assert unseal(both, before, HERE) == {"token": "canary"}
    after = rewrap(both, before, HERE)
    assert (after["kid"], after["ct"]) == ("new", before["ct"])
    assert unseal(ring(NEW), after, HERE) == {"token": "canary"}


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "holds no key"),
        ("canary", "entry 1 is not"),
        (f"{OLD},canary:AAAA", "entry 2 is not"),
        (f"{OLD},{new_key('old')}", "two keys are named 'old'"),
        ("a b:" + OLD.partition(":")[2], "entry 1 is not"),
    ],
    ids=["none", "no key", "a short one", "the same name twice", "a blank in the name"],
)
def test_unusable_keys_are_refused_without_being_quoted(text: str, complaint: str) -> None:
    with pytest.raises(InvalidRequestError, match=complaint) as refused:
        KeyRing.parse(text, origin="WORKSTATION_TOKEN_KEYS")
    assert "WORKSTATION_TOKEN_KEYS" in refused.value.message
    assert "canary" not in refused.value.message
    assert OLD.partition(":")[2] not in refused.value.message


def test_keys_do_not_show_when_printed() -> None:
    assert OLD.partition(":")[2][:10] not in repr(ring(OLD))
    assert "key=" not in repr(ring(OLD))


def test_database_of_ones_own_wants_keys_set(tmp_path: Path) -> None:
    settings = Settings(WORKSTATION_HOME=tmp_path, DATABASE_URL="postgresql://db/x")
    with pytest.raises(InvalidRequestError, match=r"WORKSTATION_TOKEN_KEYS is not set.*`workstation keys new`"):
        key_ring(settings, NOW)
    assert list(tmp_path.iterdir()) == []


def test_embedded_database_has_a_key_of_its_own_for_the_owner_alone(tmp_path: Path) -> None:
    settings = Settings(WORKSTATION_HOME=tmp_path / "home")
    made = key_ring(settings, NOW)
    file = tmp_path / "home" / "token.keys"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert key_ring(settings, NOW) == made
    assert made.newest.key_id == "k20261122000000"
    assert [path.name for path in file.parent.iterdir()] == ["token.keys"]
    file.chmod(0o644)
    with pytest.raises(InvalidRequestError, match="can be read by others"):
        key_ring(settings, NOW)


def test_callers_that_race_for_the_first_key_agree(tmp_path: Path) -> None:
    settings, barrier = Settings(WORKSTATION_HOME=tmp_path), Barrier(8)

    def make(_number: int) -> bytes:
        barrier.wait()
        return key_ring(settings, NOW).newest.key

    with ThreadPoolExecutor(8) as threads:
        assert len(set(threads.map(make, range(8)))) == 1


def test_secret_shows_itself_only_when_asked() -> None:
    secret = Secret("canary")
    tokens = Tokens(secret, Secret("canary"))
    shown = f"{secret} {secret!r} {secret!s} {secret:>20} {tokens} {[secret]} {vars} {dir(secret)}"
    assert "canary" not in shown
    assert secret.reveal() == "canary"
    assert secret == Secret("canary")
    assert secret != Secret("other")
    assert secret != "canary"


@pytest.mark.parametrize("leak", [pickle.dumps, copy.deepcopy, json.dumps])
def test_secret_cannot_be_carried_away(leak: object) -> None:
    assert callable(leak)
    for holder in (Secret("canary"), Tokens(Secret("canary"))):
        with pytest.raises(TypeError):
            leak(holder)
