"""An index at Pinecone under Dagster: syncs fill it, the sweep catches up with what they could not, and a check sees gaps."""

from __future__ import annotations

import dagster as dg
from pydantic import SecretStr

from tests.defs.place import Place, failed_checks
from tests.fakes.pinecone import API_KEY, FakePinecone
from tests.fakes.server import Answer
from workstation_pipelines.settings import IndexStore


def tick(place: Place) -> str:
    repository = place.definitions.get_repository_def()
    with dg.build_sensor_context(
        place.instance, repository_def=repository, resources={"workspace": place.resource}
    ) as context:
        ticked = repository.get_sensor_def("index_sweep_sensor").evaluate_tick(context)
    assert not ticked.run_requests
    return str(ticked.skip_message)


def test_what_a_sync_could_not_send_the_sweep_sends_and_a_check_sees_what_is_missing(place: Place) -> None:
    assert tick(place) == "there is no index outside the database"
    with FakePinecone() as pinecone:
        settings = {
            "index": IndexStore.PINECONE,
            "pinecone_api_key": SecretStr(API_KEY),
            "pinecone_url": pinecone.url,
        }
        place.workspace.settings = place.workspace.settings.model_copy(update=settings)
        place.workspace.__dict__.pop("external_index")
        place.write("a.md")
        pinecone.fail("upsert", answer=Answer.of({"message": "down"}, 503), times=10)
        ran = place.run()
        assert ran.success
        assert "index_outside_agrees" in failed_checks(ran)
        pinecone.faults.clear()
        place.ask("UPDATE app.index_outbox SET next_try_at = now()")
        assert tick(place).startswith("1 documents: ")
        assert len(pinecone.ids()) == place.ask("SELECT count(*)::int FROM app.chunks")[0][0]
        assert "index_outside_agrees" not in failed_checks(place.run())
        pinecone.tamper(lambda held: held.clear())
        assert "index_outside_agrees" in failed_checks(place.run_checks())
        place.workspace.close()
