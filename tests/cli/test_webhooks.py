"""`workstation webhooks`: the secret is shown once, and a test says what came of it."""

from __future__ import annotations

import pytest
from pydantic import SecretStr

from tests.cli.program import Program
from tests.fakes.receiver import Receiver
from workstation_pipelines.sources.sealing import new_key


@pytest.fixture
def telling(workstation: Program) -> Program:
    """The program with a key to seal with, allowed to call this machine."""
    allowed = {"token_keys": SecretStr(new_key("k1")), "webhook_loopback": True}
    workstation.settings = workstation.settings.model_copy(update=allowed)
    return workstation


def test_life_of_a_webhook(telling: Program) -> None:
    with Receiver() as receiver:
        added = telling("webhooks", "add", "pager", f"{receiver.url}/hook", "--kind", "sync_failed", "--json").value
        assert added["secret"].startswith("whsec_")
        assert added["kinds"] == ["sync_failed"]
        assert telling("webhooks", "test", "pager").out == "pager answered with status 204.\n"
        assert len(receiver.take()) == 1
        receiver.answers = [503, 410]
        failed = telling("webhooks", "test", "pager")
        assert (failed.code, "status 503; it is tried again later" in failed.out) == (1, True)
        assert "it is not tried again" in telling("webhooks", "test", "pager").out
        listed = telling("webhooks", "list", "--json")
        assert added["secret"].removeprefix("whsec_") not in listed.out
        (row,) = listed.value
        assert (row["is_active"], row["delivered"], row["waiting"], row["given_up"]) == (False, 1, 1, 1)
        disabled = telling("webhooks", "test", "pager")
        assert (disabled.code, "is disabled" in disabled.out) == (1, True)
        assert telling("webhooks", "enable", "pager").out == "pager is told again.\n"
        assert "pager" in telling("webhooks", "list").out
        # What another key sealed stays readable after a change of keys.
        both = f"{new_key('k2')},{(telling.settings.token_keys or SecretStr('')).get_secret_value()}"
        telling.settings = telling.settings.model_copy(update={"token_keys": SecretStr(both)})
        assert telling("keys", "rotate", "--json").value["rewrapped"] == 1
        telling.settings = telling.settings.model_copy(update={"token_keys": SecretStr(both.partition(",")[0])})
        assert telling("webhooks", "test", "pager").code == 0
    assert telling("webhooks", "remove", "pager", "--yes").out == "Removed pager.\n"
    assert telling("webhooks", "list", "--json").value == []


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["add", "pager", "http://receiver.example/hook"], "https on port 443"),
        (["add", "pager", "https://receiver.example/hook", "--kind", "lunch"], "no kind of event 'lunch'"),
        (["add", " pager", "https://receiver.example/hook"], "no blanks at its ends"),
        (["test", "absent"], "no webhook named 'absent'"),
        (["remove", "absent", "--yes"], "no webhook named 'absent'"),
    ],
)
def test_wrong_input_is_one_line(telling: Program, arguments: list[str], complaint: str) -> None:
    ran = telling("webhooks", *arguments)
    assert (ran.code, ran.err.count("\n")) == (2, 1)
    assert complaint in ran.err
