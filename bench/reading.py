"""Measure the time to read 10,000 trials: for the table of results, and for the page.

    python -m bench.reading [--trials 10000] [--rounds 5]

Makes a study's folder of synthetic trials in the temporary directory. Each trial
is counted and has the lines of ten epochs. Then real processes read the folder,
in turns. The first round warms up and is left out. Wall seconds are the time that
a person waits; CPU seconds (user and system) show the work on a busy machine.
It writes everything to bench/results/.
"""

from __future__ import annotations

import json
import os
import platform
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from foldertune.cli import new_parser
from foldertune.protocol import Folder, Record, TrialName, to_line, write_whole
from foldertune.strategies.plain import RandomSearch
from foldertune.study import Study
from foldertune.study_file import study_from_record

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "bench" / "results" / "reading.json"
EPOCHS = 10
PROGRAMS = {
    "results": ["-m", "foldertune", "results"],
    "results, all as CSV": ["-m", "foldertune", "results", "--all", "--format", "csv"],
    "report": ["-m", "foldertune", "report"],
}


def new_study(trials: int) -> Study:
    """A random search over four hyperparameters, like that of scenario 6."""
    space = {
        "learning_rate": {"type": "float", "low": 0.001, "high": 1.0, "log": True},
        "momentum": {"type": "float", "low": 0.0, "high": 0.99},
        "batch_size": {"type": "int", "low": 16, "high": 255, "log": True},
        "filters": {"type": "int", "low": 10, "high": 99},
    }
    record = {
        "name": "synthetic",
        "strategy": "random",
        "metric": "validation_error",
        "trials": trials,
        "fixed": {"epochs": EPOCHS},
        "space": space,
    }
    return study_from_record(record, "bench.reading")


def make_folder(path: Path, trials: int) -> Study:
    """Make a folder as a master leaves it, every trial with a learning curve. It depends only on `trials`."""
    folder, study = Folder(path), new_study(trials)
    folder.prepare()
    folder.write_study(study.to_record())
    for number in range(trials):
        write_whole(folder.locate(TrialName(number, 1, "seen")), story(study, number))
    folder.complete_study({})
    return study


def story(study: Study, number: int) -> bytes:
    """The lines of one trial's file."""
    chance = random.Random(number)
    worker, limit, start = f"gpu{number % 8:02d}-4711-k3f9", chance.uniform(0.01, 0.5), 60 * number
    curve = [
        {
            "epoch": epoch,
            "seconds": round(epoch * 2.9, 3),
            "training_loss": limit + chance.random() / epoch,
            "validation_loss": limit + chance.random() / epoch,
            "validation_accuracy": round(1 - limit - chance.random() / (4 * epoch), 4),
        }
        for epoch in range(1, EPOCHS + 1)
    ]
    accuracy = max(epoch["validation_accuracy"] for epoch in curve)
    result = {
        "validation_error": round(1 - accuracy, 6),
        "training_loss": curve[-1]["training_loss"],
        "seconds": curve[-1]["seconds"],
        "epochs_trained": EPOCHS,
        "diverged": False,
        "device": "cpu",
    }
    lines: list[Record] = [
        {"settings": RandomSearch(study).settings(number), "lease": 180.0},
        {"claimed": worker, "host": worker.split("-")[0], "pid": 4711, "time": clock(start)},
        *curve,
        {"result": result, "time": clock(start + 30)},
    ]
    return b"".join(map(to_line, lines))


def clock(second: int) -> str:
    """A time, this many seconds after the start of a year, as trials write it."""
    return time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(1767225600 + second))


def seconds_of(command: list[str]) -> dict[str, float]:
    """Run a Python program and return its wall and CPU seconds."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([sys.executable, *command], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"wall": round(wall, 3), "cpu": round(cpu, 3)}


def measure(trials: int, rounds: int) -> dict[str, list[dict[str, float]]]:
    """Wall and CPU seconds of each program, round by round."""
    raw: dict[str, list[dict[str, float]]] = {}
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        make_folder(Path(directory), trials)
        for number in range(rounds + 1):
            for name, command in PROGRAMS.items():
                taken = seconds_of([*command, "--logs", directory])
                if number:
                    raw.setdefault(name, []).append(taken)
    return raw


def main() -> None:
    """Measure, print the medians, and write bench/results/."""
    parser = new_parser(__doc__)
    parser.add_argument("--trials", type=int, default=10_000, metavar="N", help="trials in the folder (default: 10000)")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="rounds (default: 5)")
    arguments = parser.parse_args()
    raw = measure(arguments.trials, arguments.rounds)
    print(f"{arguments.trials:,} trials, median seconds     wall     CPU")
    for name, rounds in raw.items():
        wall, cpu = (statistics.median(each[kind] for each in rounds) for kind in ("wall", "cpu"))
        print(f"{name:34} {wall:6.2f}  {cpu:6.2f}")
    machine = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
    command = f"python -m bench.reading --trials {arguments.trials} --rounds {arguments.rounds}"
    record = {"command": command, "trials": arguments.trials, "machine": machine}
    RESULTS.write_text(json.dumps({**record, "raw": raw}, indent=1) + "\n")


if __name__ == "__main__":
    main()
