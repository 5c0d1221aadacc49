"""What a person may set for a source at a vendor, and when two settings mean the same."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given
from pydantic import Field

from workstation_pipelines.errors import InvalidRequestError
from workstation_pipelines.sources.config import MIB, VendorConfig


class BoxConfig(VendorConfig):
    """A vendor's settings, with pickers of each kind."""

    folders: tuple[str, ...] = ()
    include_shared: bool = True
    window_days: float = Field(30, gt=0)
    label: str | None = None


FILLED: dict[str, Any] = {"folders": ["b", "a"], "include_shared": False, "window_days": 7, "max_file_bytes": 100}


def test_nothing_set_is_all_defaults() -> None:
    config = BoxConfig.parse({})
    assert config.max_file_bytes == 50 * MIB
    assert config.reconcile_days is None
    assert config.folders == ()


def test_json_lists_become_tuples() -> None:
    assert BoxConfig.parse(FILLED).folders == ("b", "a")


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        ({"folder": "a"}, "`folder` is not a setting of this source; use one of folders, include_shared, label"),
        ({"folders": "a"}, "`folders` "),
        ({"folders": [1]}, "`folders.0` "),
        ({"folders": [None]}, "`folders.0` "),
        ({"include_shared": "yes"}, "`include_shared` "),
        ({"include_shared": 1}, "`include_shared` "),
        ({"window_days": 0}, "`window_days` "),
        ({"window_days": "7"}, "`window_days` "),
        ({"max_file_bytes": 0}, "`max_file_bytes` "),
        ({"max_file_bytes": 1.5}, "`max_file_bytes` "),
        ({"max_file_bytes": 2**31 + 1}, "`max_file_bytes` "),
        ({"max_file_bytes": True}, "`max_file_bytes` "),
        ({"reconcile_days": 0}, "`reconcile_days` "),
        ({"reconcile_days": -1}, "`reconcile_days` "),
        ({"reconcile_days": 1e12}, "`reconcile_days` "),
        ({"reconcile_days": float("inf")}, "`reconcile_days` "),
        ({"reconcile_days": float("nan")}, "`reconcile_days` "),
        ({"window_days": float("nan")}, "`window_days` "),
        ({"label": 3}, "`label` "),
        ({"label": 3}, "cannot be used: `label` should be a valid string."),
        ({"folders": "a"}, "`folders` should be a valid list, such as [...]."),
    ],
)
def test_wrong_setting_is_named(raw: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        BoxConfig.parse(raw)
    assert words in caught.value.message


def test_every_wrong_setting_is_named_at_once() -> None:
    with pytest.raises(InvalidRequestError) as caught:
        BoxConfig.parse({"folder": "a", "window_days": -1})
    assert "`folder` " in caught.value.message
    assert "`window_days` " in caught.value.message


@pytest.mark.parametrize(
    "raw", [{"folders": "canary"}, {"canary_key": 1, "label": ["canary"]}, {"label": {"canary": 1}}]
)
def test_refusal_names_keys_and_never_values(raw: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        BoxConfig.parse(raw)
    error = caught.value
    assert "canary" not in error.message.replace("canary_key", "")
    assert error.__cause__ is None
    assert error.__suppress_context__


@pytest.mark.parametrize("raw", [{1: 2}, {"label": "\ud800"}, {"folders": [["a"]]}])
def test_odd_json_is_the_callers_mistake(raw: dict[Any, Any]) -> None:
    with pytest.raises(InvalidRequestError, match="config cannot be used"):
        BoxConfig.parse(raw)


def test_config_cannot_change() -> None:
    with pytest.raises(ValueError, match="frozen"):
        BoxConfig.parse({}).label = "x"  # type: ignore[misc]


@given(st.permutations(list(FILLED)))
def test_scope_is_the_same_in_any_order_of_keys(keys: list[str]) -> None:
    assert BoxConfig.parse({key: FILLED[key] for key in keys}).scope() == BoxConfig.parse(FILLED).scope()


@pytest.mark.parametrize(
    "written_out",
    [
        {"folders": []},
        {"include_shared": True},
        {"window_days": 30},
        {"window_days": 30.0},
        {"label": None},
        {"max_file_bytes": 50 * MIB},
        {"reconcile_days": 3},
    ],
)
def test_scope_is_the_same_with_defaults_written_out(written_out: dict[str, Any]) -> None:
    assert BoxConfig.parse(written_out).scope() == BoxConfig.parse({}).scope()


def test_each_picker_makes_another_scope() -> None:
    scopes = {BoxConfig.parse({key: value}).scope() for key, value in FILLED.items()}
    assert len(scopes | {BoxConfig.parse({}).scope()}) == len(FILLED) + 1


def test_scope_is_short_and_survives_json() -> None:
    scope = BoxConfig.parse(FILLED).scope()
    assert len(scope) == 24
    assert json.loads(json.dumps(scope)) == scope


def test_scope_stays_what_is_stored_today() -> None:
    """A scope is compared with a stored one: another way to compute it would list every account once more."""
    assert VendorConfig.parse({}).scope() == VendorConfig().scope() == "5ae7d8ba993bdc8b39ffc0f3"


def test_reconciling_is_the_sources_choice_unless_set() -> None:
    default = timedelta(days=30)
    assert BoxConfig.parse({}).reconciled_every(default) == default
    assert BoxConfig.parse({}).reconciled_every(None) is None
    assert BoxConfig.parse({"reconcile_days": 0.5}).reconciled_every(default) == timedelta(hours=12)
