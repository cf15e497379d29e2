"""Measure the cost of coordination: trials without work per second, with real processes, compared with Optuna.

    python -m bench.coordination                    in the temporary directory
    python -m bench.coordination --dir /shared/me   on the filesystem you want to use
    python -m bench.coordination --before ../old    another checkout, in the same turns
    python -m tests.explorers.nfs --bench FILE      on NFS, between guests

With 1 worker and with 8 it makes the same number of trials, each with four
hyperparameters and one reported epoch: first with `master.py` and `worker.py`
processes, then with as many processes that share a study in the journal file of
Optuna, and of Rustuna if it is installed (which takes no reports). Ours and Optuna's wait until every
result is on stable storage (fsync). The start of the processes does not count:
ours are timed from the first claim of the worker that starts last to the last
collected result, the others from when all are ready. The sides take turns. It
prints the medians and ratios, and writes all to bench/results/.
"""

from __future__ import annotations

import functools
import importlib.metadata
import json
import multiprocessing
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from foldertune.cli import new_parser
from foldertune.doctor.folder import mount_of

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "bench" / "results" / "coordination.json"
STUDY = """\
objective = "bench.noop:train"
strategy = "random"
metric = "validation_error"
trials = {trials}
[space]
x = {{ type = "float", low = 0.0, high = 1.0 }}
y = {{ type = "float", low = 0.01, high = 0.3, log = true }}
n = {{ type = "int", low = 16, high = 255, log = true }}
m = {{ type = "int", low = 10, high = 99 }}
"""


def time_ours(directory: Path, workers: int, trials: int, checkout: Path = ROOT) -> float:
    """Trials per second of a master with that many workers, once all of them work."""
    study, logs = directory / "noop.toml", directory / "logs"
    study.write_text(STUDY.format(trials=trials))
    command = [sys.executable, "master.py", str(study), "--logs", str(logs), "--workers", str(workers)]
    subprocess.run(command, cwd=checkout, check=True, stdout=subprocess.DEVNULL)
    end = (logs / "study.json.done").stat().st_ctime  # the time of its rename, after the last result was collected
    seen = list((logs / "seen").glob("*.seen"))
    assert len(seen) == trials, f"{len(seen)} of {trials}"
    claims: dict[str, list[float]] = {}
    for claim in (json.loads(file.read_text().splitlines()[1]) for file in seen):
        claims.setdefault(claim["claimed"], []).append(datetime.fromisoformat(claim["time"]).timestamp())
    start = max(map(min, claims.values()))
    return sum(time >= start for times in claims.values() for time in times) / (end - start)


def time_journal(library: str, directory: Path, workers: int, trials: int) -> float:
    """Trials per second of that many processes with one journal file of Optuna's or Rustuna's."""
    context = multiprocessing.get_context("spawn")
    journal, barrier = str(directory / "journal.log"), context.Barrier(workers + 1)
    shares = [trials // workers + (number < trials % workers) for number in range(workers)]
    processes = [context.Process(target=_optimize, args=(library, journal, share, barrier)) for share in shares]
    for process in processes:
        process.start()
    barrier.wait()
    start = time.perf_counter()
    for process in processes:
        process.join()
    seconds = time.perf_counter() - start
    assert all(process.exitcode == 0 for process in processes)
    return trials / seconds


def _optimize(library: str, journal: str, trials: int, barrier) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
    storage, sampler, create_study = open_rustuna(journal) if library == "rustuna" else open_optuna(journal)

    def objective(trial):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
        x = trial.suggest_float("x", 0.0, 1.0)
        trial.suggest_float("y", 0.01, 0.3, log=True)
        trial.suggest_int("n", 16, 255, log=True)
        trial.suggest_int("m", 10, 99)
        if library == "optuna":  # Rustuna 0.2 takes no reports
            trial.report(x, 1)
        return x

    study = create_study(study_name="noop", storage=storage, load_if_exists=True, sampler=sampler)
    barrier.wait()
    study.optimize(objective, n_trials=trials)


def open_optuna(journal: str) -> tuple[Any, Any, Any]:
    """The journal storage, the random sampler and `create_study` of Optuna."""
    import optuna
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    storage = optuna.storages.JournalStorage(JournalFileBackend(journal))
    return storage, optuna.samplers.RandomSampler(), optuna.create_study


def open_rustuna(journal: str) -> tuple[Any, Any, Any]:
    """The same of Rustuna."""
    import rustuna  # type: ignore[import-untyped, import-not-found, unused-ignore]

    storage = rustuna.storages.JournalFileStorage(journal)
    return storage, rustuna.samplers.RandomSampler(), rustuna.create_study


def version_of(library: str) -> str | None:
    """The version of an installed library; None if it is not there."""
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return None


def main() -> None:
    """Measure, print the medians, and write bench/results/."""
    parser = new_parser(__doc__)
    parser.add_argument("--dir", type=Path, metavar="DIR", help="where to measure (default: the temporary directory)")
    parser.add_argument("--before", type=Path, metavar="DIR", help="a checkout of another version, to compare with")
    parser.add_argument(
        "--trials", type=int, default=4000, metavar="N", help="trials of each measurement (default: 4000)"
    )
    parser.add_argument("--repeats", type=int, default=3, metavar="N", help="rounds (default: 3)")
    parser.add_argument(
        "--results", type=Path, default=RESULTS, metavar="FILE", help="where to write all (default: bench/results/…)"
    )
    arguments = parser.parse_args()
    versions = {library: version for library in ("optuna", "rustuna") if (version := version_of(library))}
    sides: dict[str, Callable[[Path, int, int], float]] = {"ours": time_ours}
    if arguments.before:
        sides["before"] = functools.partial(time_ours, checkout=arguments.before)
    sides |= {library: functools.partial(time_journal, library) for library in versions}
    rates: dict[str, list[float]] = {}
    # Removed at the very end: ext4 is slow to create files for seconds after many were removed.
    top = Path(tempfile.mkdtemp(dir=arguments.dir, prefix="bench-"))
    for repeat in range(arguments.repeats):
        for workers in (1, 8):
            for side, measure in sides.items():
                directory = top / f"{side}-{workers}-{repeat}"
                directory.mkdir()
                rate = measure(directory, workers, arguments.trials)
                rates.setdefault(f"{side}, {workers}", []).append(round(rate, 1))
                print(f"{repeat + 1}: {side:6}  {workers} workers  {rate:8.0f} trials/s", flush=True)
    filesystem = " ".join(mount_of(top))
    shutil.rmtree(top)
    print("\nmedian trials/s      1 worker   8 workers")
    medians = {key: statistics.median(values) for key, values in rates.items()}
    for side in sides:
        print(f"{side:18} {medians[f'{side}, 1']:10.0f}  {medians[f'{side}, 8']:10.0f}")
    ratios = {
        f"ours / {side}, {workers}": round(medians[f"ours, {workers}"] / medians[f"{side}, {workers}"], 2)
        for side in list(sides)[1:]
        for workers in (1, 8)
    }
    for side in list(sides)[1:]:
        print(f"ours / {side:11} {ratios[f'ours / {side}, 1']:10.2f}  {ratios[f'ours / {side}, 8']:10.2f}")
    machine = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
    arguments.results.parent.mkdir(exist_ok=True)
    record = {
        "command": " ".join(["python -m bench.coordination", *sys.argv[1:]]),
        "trials": arguments.trials,
        "machine": machine,
        "kernel": platform.release(),
        "filesystem": filesystem,
        **versions,
    }
    arguments.results.write_text(json.dumps({**record, "trials per second": rates, "ratio": ratios}, indent=1) + "\n")


if __name__ == "__main__":
    main()
