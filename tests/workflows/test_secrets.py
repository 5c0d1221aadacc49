"""Secrets of workflows: sealed for their owner and place, opened for whoever runs the step, never shown."""

from __future__ import annotations

import json
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from pydantic import SecretStr

from tests.conftest import DatabaseUrls
from tests.workflows.tenant_cases import Actor
from workstation_pipelines.db.engine import Database
from workstation_pipelines.errors import InvalidRequestError, NotFoundError
from workstation_pipelines.identity import utc_now
from workstation_pipelines.model import UserId
from workstation_pipelines.settings import Settings
from workstation_pipelines.sources.sealing import SealError, new_key
from workstation_pipelines.sync.connect import Rotation
from workstation_pipelines.workflow_model import TenantId
from workstation_pipelines.workflows import secrets
from workstation_pipelines.workflows.secrets import SecretVault

VALUE = "s3cr3t-of-alice"


class Place:
    """Vaults with changing keys, and an actor."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.keys = new_key("first")
        self.actor = Actor(UserId(f"user-{uuid4().hex}"), TenantId("acme"))

    @property
    def vault(self) -> SecretVault:
        settings = Settings().model_copy(update={"token_keys": SecretStr(self.keys)})
        return SecretVault(self.database, settings, utc_now)

    def put(self, name: str, value: str, **other: Any) -> None:
        self.vault.put(**(self.owner | other), name=name, value=value, secret_id=uuid4())

    def open(self, *names: str, **other: Any) -> dict[str, str]:
        return self.vault.open(**(self.owner | other), names=names)

    @property
    def owner(self) -> dict[str, Any]:
        return {"user_id": self.actor.user_id, "tenant_id": self.actor.tenant_id}


@pytest.fixture
def place(shared: Database) -> Place:
    return Place(shared)


def test_secret_opens_by_its_name_and_the_last_value_counts(place: Place) -> None:
    place.put("TOKEN", "older")
    place.put("TOKEN", VALUE)
    place.put("PASSWORD", "correct horse")
    assert place.open("TOKEN", "NONE", "${odd}") == {"TOKEN": VALUE}
    assert place.open() == {}
    assert [each.name for each in place.vault.names(**place.owner)] == ["PASSWORD", "TOKEN"]
    place.vault.remove(**place.owner, name="TOKEN")
    assert place.open("TOKEN", "PASSWORD") == {"PASSWORD": "correct horse"}
    for name in ("TOKEN", "a\x00"):
        with pytest.raises(NotFoundError):
            place.vault.remove(**place.owner, name=name)


def test_nothing_shows_a_value(place: Place, shared_admin: psycopg.Connection[Any]) -> None:
    place.put("TOKEN", VALUE)
    shown = json.dumps(shared_admin.execute("SELECT to_jsonb(s) FROM app.workflow_secrets s").fetchall())
    shown += json.dumps(shared_admin.execute("SELECT to_jsonb(a) FROM app.audit_logs a").fetchall())
    shown += repr(place.vault.names(**place.owner)) + repr(vars(place.vault))
    assert "TOKEN" in shown
    assert VALUE not in shown
    assert place.keys.partition(":")[2] not in shown


def test_neither_another_user_nor_another_tenant_of_the_same_opens_it(
    place: Place, shared_admin: psycopg.Connection[Any]
) -> None:
    place.put("TOKEN", VALUE)
    assert place.open("TOKEN", tenant_id=TenantId("globex")) == {}
    assert place.open("TOKEN", user_id=UserId("bob")) == {}
    # Not even a row that was moved or copied behind the program's back.
    move = "UPDATE app.workflow_secrets SET user_id = %s, tenant_id = %s WHERE name = 'TOKEN' AND user_id = %s"
    bob, globex = UserId(f"bob-{uuid4().hex}"), TenantId("globex")
    shared_admin.execute(move, [place.actor.user_id, globex, place.actor.user_id])
    with pytest.raises(SealError, match="TOKEN does not open"):
        place.open("TOKEN", tenant_id=globex)
    shared_admin.execute(move, [bob, "acme", place.actor.user_id])
    with pytest.raises(SealError, match="TOKEN does not open"):
        place.open("TOKEN", user_id=bob)
    shared_admin.execute(move, [place.actor.user_id, "acme", bob])
    assert place.open("TOKEN") == {"TOKEN": VALUE}


@pytest.mark.parametrize("value", ["", "abc", "x" * 20_001, "with\x00nul"])
def test_value_that_could_not_be_kept_out_of_outputs_is_refused(place: Place, value: str) -> None:
    with pytest.raises(InvalidRequestError, match="4 to 20,000 characters"):
        place.put("TOKEN", value)


@pytest.mark.parametrize("name", ["", "1TOKEN", "a-b", "x" * 101, "a\n"])
def test_name_that_no_reference_could_hold_is_refused(place: Place, name: str) -> None:
    with pytest.raises(InvalidRequestError, match="secret's name"):
        place.put(name, VALUE)


def test_new_key_takes_over_and_a_lost_one_is_told(database_urls: DatabaseUrls) -> None:
    database = Database(database_urls.app_url)
    place = Place(database)
    place.put("TOKEN", VALUE)
    place.put("TOKEN", VALUE, tenant_id=TenantId("globex"))
    lost = place.keys
    place.keys = new_key("second")
    place.put("PASSWORD", VALUE)
    place.keys = f"{new_key('third')},{place.keys}"
    rotation = Rotation("third")
    secrets.rotate(place.vault, rotation)
    assert (rotation.rewrapped, len(rotation.refused), rotation.left) == (1, 2, {"first": 2})
    place.keys += f",{lost}"
    rotation = Rotation("third")
    secrets.rotate(place.vault, rotation)
    assert (rotation.rewrapped, rotation.refused, rotation.left) == (2, [], {})
    place.keys = place.keys.partition(",")[0]
    assert place.open("TOKEN", "PASSWORD") == {"TOKEN": VALUE, "PASSWORD": VALUE}
    place.keys = new_key("stranger")
    with pytest.raises(SealError, match="WORKSTATION_TOKEN_KEYS"):
        place.open("TOKEN")
    database.close()
