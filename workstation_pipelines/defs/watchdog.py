"""Watches Dagster from outside of it: what a killed code server leaves behind, nothing inside would ever mend."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import dagster as dg
import httpx

from workstation_pipelines.db.engine import Database
from workstation_pipelines.defs import mirroring, reaping, runs
from workstation_pipelines.identity import utc_now

LOCATIONS_EVERY_S = 10.0
JOBS_EVERY_S = 30.0
MIRROR_EVERY_S = 2.0
RELOAD_TIMEOUT_S = 120.0
RELOAD_AGAIN_AFTER_S = 45.0
"""A new server imports the project, on a busy machine for long; another reload would start it over again."""

LISTED_AFTER_S = 30.0
"""A saved workflow's page may wait: whoever saves one often runs it next, and a reload would take the processor from that."""

LISTED_EVERY_S = 60.0

_STATES = """{ workspaceOrError { ... on Workspace { locationEntries {
    name loadStatus locationOrLoadError { __typename } } } } }"""
_RELOAD = (
    """mutation Reload($name: String!) { reloadRepositoryLocation(repositoryLocationName: $name) { __typename } }"""
)


class Listing:
    """When the location of workflows is to be reloaded so that it lists the newest versions; runs need no reload."""

    def __init__(
        self,
        newest: Callable[[], datetime | None],
        *,
        after_s: float = LISTED_AFTER_S,
        every_s: float = LISTED_EVERY_S,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`newest` says when anybody last saved a version. What there is at the beginning is taken for listed."""
        self._newest = newest
        self._after_s, self._every_s, self._monotonic = after_s, every_s, monotonic
        self._is_begun = False
        self._listed: datetime | None = None
        self._noticed_s: float | None = None
        self._reloaded_s = -every_s

    def is_due(self) -> bool:
        """Return whether to reload now; it is taken for done then."""
        newest, now_s = self._newest(), self._monotonic()
        if not self._is_begun:
            self._is_begun, self._listed = True, newest
        if newest == self._listed:
            return False
        self._noticed_s = now_s if self._noticed_s is None else self._noticed_s
        if now_s - self._noticed_s < self._after_s or now_s - self._reloaded_s < self._every_s:
            return False
        self._listed, self._noticed_s, self._reloaded_s = newest, None, now_s
        return True


@dataclass(frozen=True, slots=True)
class Watchdog:
    """Reloads code locations in error through the web server, reconciles jobs with runs and mirrors what runs have done to
    executions; each at its own interval.

    The location of workflows is reloaded also when it does not list the newest of them; see Listing.

    A look that fails is said on stderr once, and made again: Dagster may be starting, or the database restarting.
    """

    instance: dg.DagsterInstance
    database: Database
    web_url: str
    locations_every_s: float = LOCATIONS_EVERY_S
    jobs_every_s: float = JOBS_EVERY_S
    mirror_every_s: float = MIRROR_EVERY_S
    grace: timedelta = reaping.GRACE
    listing: Listing | None = None
    _stop: threading.Event = field(default_factory=threading.Event)
    _reloaded_s: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watch in threads of their own until the block ends."""
        looks = (
            (self._mend_locations, self.locations_every_s),
            (self._reconcile, self.jobs_every_s),
            (self._mirror, self.mirror_every_s),
        )
        threads = [threading.Thread(target=self._repeat, args=look, daemon=True) for look in looks]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._stop.set()
            for thread in threads:
                thread.join(timeout=5)

    def _repeat(self, look: Callable[[], str], every_s: float) -> None:
        said = ""
        while not self._stop.wait(every_s):
            try:
                told = look()
            except httpx.TransportError:
                continue  # the web server is starting or stopping
            except Exception as error:  # noqa: BLE001 - the thread's rim: said, and tried again
                told = f"{type(error).__name__} while watching Dagster; trying again"
            if told and told != said:
                sys.stderr.write(f"workstation: {told}\n")
            said = told

    def _mend_locations(self) -> str:
        now_s = time.monotonic()
        broken = [
            name
            for name in broken_locations(self.web_url)
            if now_s - self._reloaded_s.get(name, -RELOAD_AGAIN_AFTER_S) >= RELOAD_AGAIN_AFTER_S
        ]
        if self.listing is not None and self.listing.is_due() and runs.WORKFLOWS not in broken:
            reload_location(self.web_url, runs.WORKFLOWS)
            self._reloaded_s[runs.WORKFLOWS] = time.monotonic()
        for name in broken:
            reload_location(self.web_url, name)
            self._reloaded_s[name] = time.monotonic()
        return f"reloading what has lost its code server: {', '.join(broken)}" if broken else ""

    def _reconcile(self) -> str:
        done = reaping.reconcile(self.database, self.instance, clock=utc_now, grace=self.grace)
        return str(done) if done.jobs or done.run_ids else ""

    def _mirror(self) -> str:
        done = mirroring.mirror(self.database, self.instance)
        return str(done) if done.repaired or done.failures else ""


def broken_locations(web_url: str) -> list[str]:
    """Return the names of the code locations that are in error. Raises httpx.HTTPError."""
    answer = _ask(web_url, {"query": _STATES})
    return [
        entry["name"] for entry in answer["data"]["workspaceOrError"].get("locationEntries", ()) if _is_broken(entry)
    ]


def reload_location(web_url: str, name: str) -> None:
    """Let a code location start a new server; it may take longer than this. Raises httpx.HTTPError."""
    _ask(web_url, {"query": _RELOAD, "variables": {"name": name}})


def _ask(web_url: str, question: Mapping[str, object]) -> dict[str, Any]:
    with httpx.Client(base_url=web_url, timeout=RELOAD_TIMEOUT_S, trust_env=False) as client:
        answer: dict[str, Any] = client.post("/graphql", json=question).raise_for_status().json()
        return answer


def _is_broken(entry: Mapping[str, object]) -> bool:
    found = entry["locationOrLoadError"]
    is_error = isinstance(found, dict) and found["__typename"] == "PythonError"
    return entry["loadStatus"] == "LOADED" and is_error
