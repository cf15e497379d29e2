"""Measure the minutes until a good validation loss is found, by three ways to search, each alone on the machine.

    python -m bench.headline                    what is missing of three searches of each kind, and of ten of `auto`
                                                (a night on two cores)
    python -m bench.headline --seeds 0          the searches with this seed only
    python -m bench.headline --kinds random     the searches of this kind only

All search the same wide space (bench/tables/wide.toml) with two workers, one thread each, for at most the epochs of 40
whole trainings:

    random     the recipe of bench/stock.py, Optuna's random search, its journal as storage
    hyperband  the same with Optuna's TPE and its Hyperband pruner
    auto       `master.py --workers 2`, with the strategy that foldertune chooses

The target is the median of the losses that the random searches have found in the end; so they come first. The others
stop when they have reached it. The clock begins when the first process is started. Optuna's searches reach the target
with an epoch's report, ours with a trial's result. Each search is kept in bench/results/headline.json when it has
ended, so the measurement may be ended and started again. With each is kept how fast the machine was just before: the
seconds that an epoch of the recipe takes with the settings of `exercise3.py`.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.replay import LOSS, TABLES, suggested
from bench.strategies import RESULTS, machine
from foldertune.cli import new_parser
from foldertune.reading.reader import read_results
from foldertune.study_file import load_study

ROOT = Path(__file__).resolve().parent.parent
KEPT = RESULTS / "headline.json"
KINDS = {"random": 3, "hyperband": 3, "auto": 10}  # how many searches; one of `auto` takes a few minutes
Course = list[tuple[float, float]]  # the seconds at which a lower loss was found, and that loss

STUDY = """
strategy = "auto"
metric = "validation_loss"
seed = {seed}
[budget]
epochs = {budget}
{target}
[fidelity]
setting = "epochs"
lowest = 1
highest = {epochs}
[fixed]
data = "small"
"""


def search_ours(directory: Path, seed: int, size: Size, target: float | None) -> Course:
    """Search by `master.py`."""
    text = STUDY.format(
        seed=seed,
        budget=size.trainings * size.epochs,
        epochs=size.epochs,
        target="" if target is None else f"target = {target}",
    )
    file, logs = directory / "headline.toml", directory / "logs"
    file.write_text(text + "[space]\n" + (TABLES / "wide.toml").read_text().partition("[space]\n")[2])
    begun = time.time()
    command = [sys.executable, "master.py", file, "--logs", logs, "--workers", size.workers]
    subprocess.run(list(map(str, command)), cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    found = []
    for trial in read_results(logs, epochs=False).trials:
        if trial.result and trial.finished and trial.result[LOSS] is not None:
            ended = datetime.fromisoformat(trial.finished).astimezone(UTC).timestamp()
            found.append((ended - begun, float(trial.result[LOSS])))
    return improvements(found)


def search_with_optuna(kind: str, directory: Path, seed: int, size: Size, target: float | None) -> Course:
    """Search by processes that share a study in Optuna's journal."""
    context, begun = multiprocessing.get_context("spawn"), time.time()
    files = [directory / f"{number}.jsonl" for number in range(size.workers)]
    processes = [
        context.Process(target=_optimize, args=(kind, str(directory), str(file), seed, size, target)) for file in files
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert all(process.exitcode == 0 for process in processes)
    lines = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    return improvements([(ended - begun, loss) for ended, loss in lines])


def _optimize(kind: str, directory: str, file: str, seed: int, size: Size, target: float | None) -> None:
    """One of these processes: train what Optuna suggests, and write each epoch's time and loss into a file."""
    import optuna
    import torch

    from bench import stock
    from bench.coordination import open_optuna
    from training.settings import complete

    torch.set_num_threads(1)
    storage, random_sampler, create_study = open_optuna(f"{directory}/journal.log")
    where = int(Path(file).stem)
    pruner: optuna.pruners.BasePruner
    if kind == "random":
        sampler, pruner = type(random_sampler)(seed=1000 * seed + where), optuna.pruners.NopPruner()
    else:
        sampler = optuna.samplers.TPESampler(seed=1000 * seed + where, multivariate=True, constant_liar=True)
        pruner = optuna.pruners.HyperbandPruner(1, size.epochs, 3)
    study = create_study(study_name="headline", storage=storage, load_if_exists=True, sampler=sampler, pruner=pruner)
    space = load_study(str(TABLES / "wide.toml"))
    done = Path(directory) / "done"

    def spent() -> int:
        return sum(len(trial.intermediate_values) for trial in study.get_trials(deepcopy=False))

    with open(file, "a") as lines:
        while not done.exists() and spent() < size.trainings * size.epochs:
            trial = study.ask()
            settings = complete({**suggested(space, trial), "data": "small", "seed": 1000 * seed + trial.number})
            losses: list[float] = []
            pruned = False

            def after_epoch(
                seconds: float, accuracy: float, loss: float, trial: Any = trial, losses: list[float] = losses
            ) -> bool:
                nonlocal pruned
                losses.append(loss if math.isfinite(loss) else 1e9)
                lines.write(json.dumps([time.time(), losses[-1]]) + "\n")
                lines.flush()
                if target is not None and losses[-1] <= target:
                    done.touch()
                trial.report(losses[-1], len(losses))
                pruned = len(losses) < size.epochs and (trial.should_prune() or done.exists())
                return pruned or len(losses) == size.epochs

            stock.train(settings, lambda: None, after_epoch)
            study.tell(trial, None if pruned else min(losses), optuna.trial.TrialState.PRUNED if pruned else None)


def improvements(found: Course) -> Course:
    """Those that were better than all before."""
    course: Course = []
    for seconds, loss in sorted(found):
        if not course or loss < course[-1][1]:
            course.append((round(seconds, 1), loss))
    return course


def reached(course: Course, target: float) -> float:
    """The seconds until the target was reached; infinite if it was not."""
    return next((seconds for seconds, loss in course if loss <= target), math.inf)


class Size(argparse.Namespace):
    """How much is searched: `trainings` of `epochs` each, by so many `workers`."""

    trainings: int
    epochs: int
    workers: int


def seconds_of_an_epoch() -> float:
    """Of the recipe, in a process of its own with one thread: the quickest of three."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_seconds_of_an_epoch).result()


def _seconds_of_an_epoch() -> float:
    import torch

    from bench import stock
    from training.settings import complete

    torch.set_num_threads(1)
    taken: list[float] = []

    def after_epoch(seconds: float, accuracy: float, loss: float) -> bool:
        taken.append(seconds)
        return len(taken) == 3

    stock.train(complete({"data": "small", "seed": 0}), lambda: None, after_epoch)
    return round(min(taken), 2)


def measure(kind: str, seed: int, size: Size, target: float | None) -> Course:
    """Search once, in a directory of its own."""
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        if kind == "auto":
            return search_ours(Path(directory), seed, size, target)
        return search_with_optuna(kind, Path(directory), seed, size, target)


def main() -> None:
    """Measure what is missing, and print the minutes."""
    parser = new_parser(__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", help="default: 0 1 2, of auto 0 to 9")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=[*KINDS], help="default: all, in this order")
    parser.add_argument("--trainings", type=int, default=40, help="the budget in whole trainings (default: 40)")
    parser.add_argument("--epochs", type=int, default=27, help="of a whole training (default: 27)")
    parser.add_argument("--workers", type=int, default=2, help="default: 2")
    parser.add_argument(
        "--results", type=Path, default=KEPT, metavar="FILE", help="default: bench/results/headline.json"
    )
    arguments = parser.parse_args()
    size = Size(trainings=arguments.trainings, epochs=arguments.epochs, workers=arguments.workers)
    record = json.loads(arguments.results.read_text()) if arguments.results.exists() else {"searches": []}
    searches: list[dict[str, Any]] = record["searches"]
    for kind in arguments.kinds:
        random = [each["course"][-1][1] for each in searches if each["kind"] == "random"]
        target = statistics.median(random) if random and kind != "random" else None
        for seed in arguments.seeds or range(KINDS[kind]):
            if any((each["kind"], each["seed"]) == (kind, seed) for each in searches):
                continue
            epoch = seconds_of_an_epoch()
            course = measure(kind, seed, size, target)
            searches.append({"kind": kind, "seed": seed, "target": target, "epoch_seconds": epoch, "course": course})
            told = {"command": "python -m bench.headline", **machine(), **vars(size), "searches": searches}
            arguments.results.write_text(json.dumps(told, indent=1) + "\n")
            print(f"{kind}, seed {seed}: loss {course[-1][1]:.5g} after {course[-1][0] / 60:.1f} min", flush=True)
    random = [each["course"][-1][1] for each in searches if each["kind"] == "random"]
    if random:
        target = statistics.median(random)
        print(f"minutes until a validation loss of {target:.5g}:")
        for kind in KINDS:
            times = sorted(reached(each["course"], target) / 60 for each in searches if each["kind"] == kind)
            print(f"    {kind:10} {', '.join(f'{minutes:.1f}' for minutes in times)}")


if __name__ == "__main__":
    main()
