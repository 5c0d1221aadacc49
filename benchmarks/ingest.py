"""How long the engine takes to load, re-sync and repair a folder, next to the least work that could be done at all.

    python -m benchmarks.ingest                              2,000 and 10,000 files, three rounds
    python -m benchmarks.ingest --sizes 2000 --rounds 7 --json
    python -m benchmarks.ingest --embedder minilm            share of the time that the real model takes

The floor (floor.py) and the engine take turns phase by phase in every round, and a ratio is the median of the rounds'
own ratios: what else the machine does weighs on both. Every phase is a process of its own; its start is not counted.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import corpus
from benchmarks.phases import KillPoint, Measurement, PhaseRunner
from benchmarks.server import Server, private_server
from benchmarks.truth import Truth, engine_rows_wrong, floor_rows_wrong, truth_of

KILL_POINTS = (KillPoint(0.5), KillPoint(), KillPoint(0.85), KillPoint(0.25))
SEED = 7


@dataclass(slots=True)
class Round:
    """One round's measurements by phase; `wrong` counts the engine's wrong rows after any of them."""

    floor: dict[str, Measurement] = field(default_factory=dict)
    engine: dict[str, Measurement] = field(default_factory=dict)
    killed_after_s: float | None = None
    wrong: dict[str, int] = field(default_factory=dict)

    def ratio(self, phase: str, of: Callable[[Measurement], float | None]) -> float | None:
        floor = of(self.floor["unchanged" if phase == "full_sync" else phase])
        engine = of(self.engine[phase])
        return engine / floor if floor and engine is not None else None

    def restart_over_initial(self) -> float | None:
        if self.killed_after_s is None:
            return None
        return (self.killed_after_s + self.engine["restart"].work_s) / self.engine["initial"].work_s


class Bench:
    """The rounds over one corpus. `base` is never changed: each round works on a copy."""

    def __init__(self, server: Server, work: Path, files: int) -> None:
        self._server = server
        self._work = work
        self._runner = PhaseRunner(server, work / "measured.json")
        self._base = work / f"corpus_{files}"
        if not self._base.exists():
            unfinished = work / "corpus_unfinished"
            shutil.rmtree(unfinished, ignore_errors=True)
            corpus.generate(unfinished, files, seed=SEED)
            unfinished.rename(self._base)
        self._truth = truth_of(self._base)
        self.chunks = self._truth.chunk_count

    def round(self, kill_at: KillPoint) -> Round:
        """Load, sync again, sync in full, change one percent and sync; then load anew, kill, and start again."""
        found = Round()
        with (
            self._server.floor_database("bench_floor") as floor_url,
            self._server.engine_database("bench_engine") as url,
            self._copy() as folder,
        ):
            for phase in ("initial", "unchanged"):
                found.floor[phase] = self._run("floor", folder, floor_url)
                found.engine[phase] = self._run("engine", folder, url)
                self._check(found, url, self._truth, phase)
            found.engine["full_sync"] = self._run("engine", folder, url, "--full")
            corpus.mutate(folder, seed=SEED)
            truth = truth_of(folder)
            found.floor["delta"] = self._run("floor", folder, floor_url)
            found.engine["delta"] = self._run("engine", folder, url)
            self._check(found, url, truth, "delta")
            if wrong := floor_rows_wrong(floor_url, truth):
                raise SystemExit(f"the floor itself stored wrong rows, so its times mean nothing: {wrong}")
        with self._server.engine_database("bench_engine") as url:
            self._kill_and_restart(found, url, kill_at)
        return found

    def _kill_and_restart(self, found: Round, url: str, kill_at: KillPoint) -> None:
        whole = found.engine["initial"].wal_bytes
        found.killed_after_s = self._runner.run_and_kill("engine", self._base, url, kill_at, whole_wal_bytes=whole)
        found.engine["restart"] = self._run("engine", self._base, url)
        self._check(found, url, self._truth, f"restart after a kill at {kill_at}")

    def _run(self, module: str, folder: Path, url: str, *options: str) -> Measurement:
        return self._runner.run(module, folder, url, *options)

    def _check(self, found: Round, url: str, truth: Truth, when: str) -> None:
        for kind, wrong in engine_rows_wrong(url, truth).items():
            found.wrong[f"{when}: {kind}"] = wrong

    @contextmanager
    def _copy(self) -> Iterator[Path]:
        folder = self._work / "folder"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(self._base, folder)
        try:
            yield folder
        finally:
            shutil.rmtree(folder)


def figures(files: int, rounds: Sequence[Round]) -> dict[str, Any]:
    """Return the medians over the rounds; `rows_wrong` and the peaks are over all of them."""

    def ratio(phase: str, of: Callable[[Measurement], float | None] = _work_s) -> float | None:
        return _median([one.ratio(phase, of) for one in rounds])

    measurements = [one for each in rounds for one in each.engine.values()]
    told: dict[str, Any] = {
        "n": files,
        "initial_x_floor": ratio("initial"),
        "unchanged_x_floor": ratio("unchanged"),
        "delta_x_floor": ratio("delta"),
        "restart_over_initial": _median([one.restart_over_initial() for one in rounds]),
        "peak_rss_mb": max(one.peak_rss_bytes for one in measurements) / 1e6,
        "rows_wrong": sum(sum(one.wrong.values()) for one in rounds),
        "full_sync_x_floor": ratio("full_sync"),
    }
    for phase in ("initial", "unchanged", "delta"):
        told[f"{phase}_cpu_x_floor"] = ratio(phase, lambda one: one.cpu_s)
    for phase in rounds[0].engine:
        told[f"{phase}_s"] = _median([one.engine[phase].work_s for one in rounds])
    for phase in rounds[0].floor:
        told[f"floor_{phase}_s"] = _median([one.floor[phase].work_s for one in rounds])
    told["initial_client_cpu_s"] = _median([one.engine["initial"].client_cpu_s for one in rounds])
    told["initial_server_cpu_s"] = _median([one.engine["initial"].server_cpu_s for one in rounds])
    told["initial_wal_mb"] = _median([one.engine["initial"].wal_bytes / 1e6 for one in rounds])
    return {name: round(value, 3) if isinstance(value, float) else value for name, value in told.items()}


def print_table(all_figures: Sequence[dict[str, Any]]) -> None:
    print(f"| {'figure':24} |" + "".join(f" {told['n']:>8} files |" for told in all_figures))
    print("|---|" + "---:|" * len(all_figures))
    for name in all_figures[0]:
        if name != "n":
            cells = "".join(f" {'-' if told[name] is None else told[name]:>14} |" for told in all_figures)
            print(f"| {name:24} |{cells}")


def minilm_share(server: Server, work: Path, files: int) -> dict[str, Any]:
    """Load a small corpus with the product's own splitter and model; tell how much of the time the model took."""
    bench = Bench(server, work, files)
    with server.engine_database("bench_minilm") as url:
        done = bench._run("engine", bench._base, url, "--embedder", "minilm")
    spent_s = done.told["onnxruntime_s"]
    return {
        "n": files,
        "work_s": round(done.work_s, 3),
        "onnxruntime_s": round(spent_s, 3),
        "onnxruntime_share": round(spent_s / done.work_s, 3),
        "chunks": done.told["counts"]["chunks_embedded"],
        "peak_rss_mb": round(done.peak_rss_bytes / 1e6, 1),
    }


def _work_s(one: Measurement) -> float:
    return one.work_s


def _median(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def _rounds(bench: Bench, files: int, rounds: int) -> list[Round]:
    done = []
    for number in range(rounds):
        kill_at = KILL_POINTS[number % len(KILL_POINTS)]
        one = bench.round(kill_at)
        done.append(one)
        ratios = ", ".join(
            f"{phase} {one.engine[phase].work_s:.3f} s ({one.ratio(phase, _work_s):.2f} x floor)"
            for phase in ("initial", "unchanged", "full_sync", "delta")
        )
        restart = one.restart_over_initial()
        told = f"{restart:.2f} x initial" if restart is not None else "ended before it could be killed"
        print(f"{files} files, round {number + 1}: {ratios}; killed at {kill_at}: {told}", file=sys.stderr, flush=True)
        if one.wrong:
            print(f"  WRONG ROWS: {one.wrong}", file=sys.stderr, flush=True)
    return done


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--sizes", default="2000,10000", help="numbers of files, with commas between")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--work", type=Path, help="folder for the corpora and the server; kept, and used again")
    parser.add_argument("--url", help="use this server instead of a private one; its role must be superuser")
    parser.add_argument("--json", action="store_true", help="print one JSON object a size instead of a table")
    parser.add_argument("--embedder", choices=["hashed", "minilm"], default="hashed")
    asked = parser.parse_args()
    with ExitStack() as stack:
        work: Path = asked.work or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ws-bench-")))
        work.mkdir(parents=True, exist_ok=True)
        work = work.resolve()
        server = Server(asked.url, None) if asked.url else stack.enter_context(private_server(work))
        server.migrate_template()
        stack.callback(server.drop_template)
        if asked.embedder == "minilm":
            print(json.dumps(minilm_share(server, work, 200)))
            return
        told = []
        for files in map(int, asked.sizes.split(",")):
            told.append(figures(files, _rounds(Bench(server, work, files), files, asked.rounds)))
            if asked.json:
                print(json.dumps(told[-1]), flush=True)
        if not asked.json:
            print_table(told)


if __name__ == "__main__":
    main()
