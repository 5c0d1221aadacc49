"""The alerts sensor writes what freshness has to say and tells webhooks, and it starts nothing."""

from __future__ import annotations

import json

import dagster as dg
from pydantic import SecretStr

from tests.defs.place import ALICE, Place
from tests.fakes.receiver import Receiver
from workstation_pipelines.sources.sealing import new_key
from workstation_pipelines.sync import webhooks
from workstation_pipelines.sync.alerts import open_sender


def tick(place: Place) -> str:
    repository = place.definitions.get_repository_def()
    resources = {"workspace": place.resource}
    with dg.build_sensor_context(place.instance, repository_def=repository, resources=resources) as context:
        ticked = repository.get_sensor_def("alerts_sensor").evaluate_tick(context)
    assert not ticked.run_requests
    return str(ticked.skip_message)


def test_missed_objective_reaches_the_owners_receiver_and_so_does_its_end(place: Place) -> None:
    assert tick(place) == "objectives: 0 missed, 0 kept again; webhooks: 0 told, 0 to be tried again, 0 given up"
    allowed = {"webhook_loopback": True, "token_keys": SecretStr(new_key("k1"))}
    place.workspace.settings = place.workspace.settings.model_copy(update=allowed)
    with Receiver() as receiver:
        sender = open_sender(place.workspace)
        webhooks.add(sender, user_id=ALICE, name="pager", url=f"{receiver.url}/hook")
        sender.caller.close()
        place.ask("UPDATE app.data_sources SET freshness_minutes = 5, created_at = now() - interval '6 minutes'")
        assert tick(place) == "objectives: 1 missed, 0 kept again; webhooks: 1 told, 0 to be tried again, 0 given up"
        assert tick(place).startswith("objectives: 0 missed")
        place.write("a.md")
        assert place.run().success
        assert tick(place).endswith("webhooks: 1 told, 0 to be tried again, 0 given up")
        said = [json.loads(received.body) for received in receiver.take()]
    assert [each["type"] for each in said] == ["freshness_missed.opened", "freshness_missed.resolved"]
    assert {each["data"]["data_source_name"] for each in said} == {"notes"}
