"""Replay searches in virtual time, on losses that are known for any settings and any number of epochs.

    python -m bench.replay artificial [--seeds 200]           Hyperband beside random search, on an artificial loss
    python -m bench.replay tables [--seeds N] [--trials 20 60 120] [--workers 1 8 64] [--rows N]
                                                              all schedules, and plain Optuna, on tables of real curves;
                                                              what is missing of them: hours in all
    python -m bench.replay keep FOLDER NAME                   add the trials of a folder to such a table

Rows are trained by `python master.py bench/tables/wide.toml --seed 2 --logs FOLDER`, with another seed for each folder.

Nothing is trained: a trial takes as much virtual time as it has epochs, and its loss is looked up. Searches ask the
same strategies, with the same histories, as a master does. `artificial` draws docs/figures/artificial.png. Everything
else is kept in bench/results/; the tables are in bench/tables/.
"""

from __future__ import annotations

import csv
import heapq
import itertools
import json
import math
import os
import random
import shlex
import statistics
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from bench.strategies import RESULTS, machine
from foldertune.budget import Budget
from foldertune.cli import new_parser
from foldertune.errors import UserError
from foldertune.fidelity import Fidelity
from foldertune.protocol import Proposal, Trial, TrialName, write_whole
from foldertune.reading.reader import read_results
from foldertune.space import Float, Int
from foldertune.spending import cost
from foldertune.strategies import History, ask, new_strategy
from foldertune.study import Study
from foldertune.study_file import load_study

TABLES = Path(__file__).resolve().parent / "tables"
FIGURE = Path(__file__).resolve().parents[1] / "docs" / "figures" / "artificial.png"
LOSS = "validation_loss"
Losses = Callable[[dict[str, Any], int], float]  # of settings after so many epochs
METHODS: dict[str, tuple[str, str | None]] = {  # strategy and schedule; None: each trial in full
    "random": ("random", None),
    "one-epoch": ("random", "one-epoch"),
    "asha": ("random", "asha"),
    "screening": ("random", "screening"),
    "hyperband": ("random", "hyperband"),
    "tpe": ("tpe", None),
    "tpe, asha": ("tpe", "asha"),
    "tpe, screening": ("tpe", "screening"),
    "halton, screening": ("halton", "screening"),
    "tpe, hyperband": ("tpe", "hyperband"),
}
AUTO = {"tpe, screening": " (`auto`)", "halton, screening": " (`auto` with many workers or few epochs)"}
VERSION = 5  # of the rules: a loss is reached with the report of its epoch, with Optuna and without
SEEDS = {20: 200, 60: 100, 120: 40}  # searches of each kind: short ones differ more, and are soon replayed
ROWS = {20: 720, 60: 720, 120: 1200}  # of a table, from its top: ten for each training, or more
FOR_TARGET = 2000  # random searches of which the median gives the target
OPTUNA = "optuna"  # its TPE with its Hyperband pruner


# ---------------------------------------------------------------- one search


@dataclass(order=True)
class Ended:
    """A trial that has ended at this time, when all workers together had trained so many epochs."""

    time: float
    number: int
    trial: Trial = field(compare=False)
    trained: float = field(compare=False)  # the epochs that it has trained itself
    spent: float = field(compare=False, default=0.0)


def replay(study: Study, losses: Losses, epochs: float, workers: int) -> Iterator[Ended]:
    """Search with this budget, in epochs. Yields the trials as they end.

    As in a real search, one trial is ready whenever a worker has claimed the last one.
    """
    assert study.fidelity
    strategy, history = new_strategy(study), History({}, {})
    counted: dict[int, Trial] = history.counted  # type: ignore[assignment]
    waiting: dict[int, Proposal] = history.open  # type: ignore[assignment]
    running: list[Ended] = []
    ready: list[int] = []  # the numbers of the pending trials
    now = begun = 0.0

    def fits(proposal: Proposal) -> bool:
        return begun + sum(cost(study, each) for each in (proposal, *(waiting[number] for number in ready))) <= epochs

    def publish() -> bool:
        number = len(counted) + len(waiting)
        proposal = ask(strategy, number, history, fits)
        if not isinstance(proposal, Proposal) or not fits(proposal):
            return False
        waiting[number] = proposal
        ready.append(number)
        return True

    while True:
        while len(running) < workers and (ready or publish()):
            proposal = waiting[number := ready.pop(0)]
            begun += (needed := cost(study, proposal))
            loss = losses(proposal.settings, int(proposal.settings[study.fidelity.setting]))
            result = {study.metric: loss if math.isfinite(loss) else None}
            trial = Trial(TrialName(number, 1, "seen"), proposal.settings, parent=proposal.parent, result=result)
            trial.why = proposal.why
            heapq.heappush(running, Ended(now + needed, number, trial, needed))
        if not running:
            return
        if not ready:
            publish()
        ended = heapq.heappop(running)
        now = ended.time
        del waiting[ended.number]
        counted[ended.number] = ended.trial
        ended.spent = begun - sum(each.time - now for each in running)
        yield ended


def reports(ends: Iterable[Ended], curve: Callable[[dict[str, Any]], Sequence[float]]) -> list[tuple[int, float]]:
    """What the trials reported after each epoch, in the order of time: the epochs spent by then, and the loss."""
    told, busy = list[tuple[int, float]](), Counter[int]()  # by the time: how many were training
    for ended in ends:
        begun, losses = int(ended.time - ended.trained), curve(ended.trial.settings)
        before = int(ended.trial.settings["epochs"] - ended.trained)
        told += [(begun + k, losses[before + k - 1]) for k in range(1, int(ended.trained) + 1)]
        busy.update(range(begun, int(ended.time)))
    spent = list(itertools.accumulate((busy[time] for time in range(len(busy))), initial=0))
    return [(spent[time], loss) for time, loss in sorted(told)]


def replay_optuna(study: Study, losses: Losses, epochs: float, workers: int) -> Iterator[tuple[float, float]]:
    """The same by Optuna's TPE and its Hyperband pruner. Yields the epochs spent, and the loss of each report."""
    import optuna

    assert study.fidelity and study.fidelity.highest
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    lowest, highest, factor = int(study.fidelity.lowest), int(study.fidelity.highest), study.fidelity.factor
    theirs = optuna.create_study(
        study_name=str(study.seed),  # the pruner's brackets depend on it
        sampler=optuna.samplers.TPESampler(seed=study.seed, multivariate=True, constant_liar=workers > 1),
        pruner=optuna.pruners.HyperbandPruner(lowest, highest, factor),
    )
    running: list[tuple[int, int, optuna.Trial, dict[str, Any], int]] = []  # the time of its next report, and its epoch
    spent = now = 0
    while True:
        while len(running) < workers and spent + len(running) < epochs:
            trial = theirs.ask()
            heapq.heappush(running, (now + 1, trial.number, trial, suggested(study, trial), 1))
        if not running:
            return
        now, number, trial, settings, epoch = heapq.heappop(running)
        spent += 1
        loss = losses(settings, epoch)
        if not math.isfinite(loss):
            theirs.tell(trial, state=optuna.trial.TrialState.FAIL)
            continue
        yield spent, loss
        trial.report(loss, epoch)
        if epoch < highest and not trial.should_prune():
            if spent + len(running) < epochs:
                heapq.heappush(running, (now + 1, number, trial, settings, epoch + 1))
        else:
            pruned = epoch < highest
            theirs.tell(trial, None if pruned else loss, optuna.trial.TrialState.PRUNED if pruned else None)


def suggested(study: Study, trial: Any) -> dict[str, Any]:
    """What Optuna suggests for a trial in the space of the study."""
    settings = {}
    for name, dimension in study.space.items():
        assert isinstance(dimension, Float | Int)
        suggest = trial.suggest_float if isinstance(dimension, Float) else trial.suggest_int
        settings[name] = suggest(name, dimension.low, dimension.high, log=dimension.log)
    return settings


# ---------------------------------------------------------------- an artificial loss


SHIFTS, NOISES, WHOLE = (0.0, 0.2, 0.4, 0.8), (0.0, 0.1), 81
BUDGET = 40  # whole trainings
STEPS = [BUDGET * WHOLE * k // 80 for k in range(1, 81)]  # epochs at which the courses are compared


def artificial(
    best: float, shift: float, noise: float, rng: random.Random, settings: dict[str, Any], epochs: int
) -> float:
    """(√|x_opt − x| + 0.5/n) · (1 + |N(0, σ²)|) with x_opt = x* − s/√n: short trainings prefer another x."""
    optimum = best - shift / math.sqrt(epochs)
    return (math.sqrt(abs(optimum - settings["x"])) + 0.5 / epochs) * (1 + abs(rng.gauss(0, noise)))


def course_on_artificial(method: str, shift: float, noise: float, seed: int) -> list[float]:
    """What the best settings so far would give in full and without noise, at each of STEPS."""
    strategy, schedule = METHODS[method]
    rng = random.Random(f"{seed}/{shift}/{noise}")
    best = rng.uniform(0.0, 1.0)
    study = _study_of(
        Study("artificial", strategy, 0, "loss", space={"x": Float(0.0, 1.0)}), schedule, 1, WHOLE, seed, BUDGET * WHOLE
    )
    losses = partial(artificial, best, shift, noise, rng)
    worth = partial(artificial, best, shift, 0.0, rng)
    found, chosen, course = (-math.inf, math.inf), math.nan, dict[int, float]()
    for ended in replay(study, losses, BUDGET * WHOLE, 1):
        epochs, loss = ended.trial.settings["epochs"], (ended.trial.result or {})["loss"]
        if epochs > found[0] or (epochs == found[0] and loss < found[1]):  # results of whole trainings count most
            found, chosen = (epochs, loss), worth(ended.trial.settings, WHOLE)
        course |= {step: chosen for step in STEPS if step >= ended.spent}
    return [course.get(step, math.nan) for step in STEPS]


def _study_of(study: Study, schedule: str | None, lowest: int, highest: int, seed: int, epochs: float) -> Study:
    """The study with this schedule and budget; without a schedule, each trial trains in full."""
    if schedule:
        study = replace(study, budget=Budget(epochs=epochs))
        return replace(study, seed=seed, fidelity=Fidelity("epochs", lowest, highest, schedule=schedule))
    return replace(study, seed=seed, fixed={**study.fixed, "epochs": highest}, fidelity=Fidelity("epochs", lowest))


def measure_artificial(seeds: int) -> None:
    """Replay random search and Hyperband for each shift and noise, and draw their courses."""
    methods = ("random", "hyperband")
    cases = [(method, shift, noise) for noise in NOISES for shift in SHIFTS for method in methods]
    courses: dict[tuple[str, float, float], list[list[float]]] = {}
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        for case in cases:
            courses[case] = list(pool.map(partial(course_on_artificial, *case), range(seeds), chunksize=8))
    record = []
    for method, shift, noise in cases:
        quartiles = [_quartiles(values) for values in zip(*courses[method, shift, noise], strict=True)]
        record.append({"method": method, "shift": shift, "noise": noise, "quartiles": quartiles})
        at = {share: quartiles[int(len(STEPS) * share) - 1][1] for share in (0.25, 0.5, 1.0)}
        shown = "  ".join(f"{share:.0%}: {median:.3f}" for share, median in at.items())
        print(f"noise {noise}, shift {shift}, {method:10} {shown}", flush=True)
    _write("artificial", {"epochs": STEPS, "courses": record})
    draw(record)


def draw(record: list[dict[str, Any]]) -> None:
    """One panel for each shift and noise: the median and the quartiles of both searches over the epochs spent."""
    import matplotlib.pyplot as plt

    looks = {"random": ("#c1440e", "--", "random search"), "hyperband": ("#1f5fa8", "-", "Hyperband, random")}
    figure, axes = plt.subplots(len(NOISES), len(SHIFTS), figsize=(11, 5.4), sharex=True, sharey=True, squeeze=False)
    for row, noise in enumerate(NOISES):
        for column, shift in enumerate(SHIFTS):
            panel = axes[row][column]
            for each in record:
                if (each["shift"], each["noise"]) == (shift, noise):
                    colour, line, label = looks[each["method"]]
                    low, middle, high = zip(*each["quartiles"], strict=True)
                    spent = [step / WHOLE for step in STEPS]
                    panel.fill_between(spent, low, high, color=colour, alpha=0.18, linewidth=0)
                    panel.plot(spent, middle, line, color=colour, label=label)
            panel.set_title(f"shift s = {shift:g}, noise σ = {noise:g}", fontsize=10)
            panel.set_yscale("log")
            panel.set_yticks([0.03, 0.1, 0.3], ["0.03", "0.1", "0.3"])
            panel.minorticks_off()
            panel.grid(alpha=0.3)
            if column == 0:
                panel.set_ylabel("loss of the best settings\nafter 81 epochs, without noise")
            if row == len(NOISES) - 1:
                panel.set_xlabel("epochs spent / 81")
    axes[0][0].legend(frameon=False, fontsize=9)
    figure.tight_layout()
    FIGURE.parent.mkdir(exist_ok=True)
    figure.savefig(FIGURE, dpi=130)


# ---------------------------------------------------------------- tables of real curves


@dataclass(frozen=True)
class Table:
    """Learning curves of many settings, drawn at random. Other settings have the curve of the nearest ones."""

    study: Study
    settings: list[dict[str, Any]]
    curves: list[list[float]]  # the lowest loss so far after each epoch, as exercise3.py returns it

    @classmethod
    def read(cls, name: str, most: int | None = None) -> Table:
        """The table that `keep` has made, or its first rows: it grows at its end."""
        study, path = load_study(str(TABLES / f"{name}.toml")), TABLES / f"{name}.csv"
        if not path.exists():
            raise UserError(f"{path}: is not there; make it with: python -m bench.replay keep FOLDER {name}")
        with open(path, newline="") as file:
            rows = list(csv.DictReader(file))[:most]
        settings = [{key: json.loads(row[key]) for key in study.space} for row in rows]
        curves = [list(itertools.accumulate((float(text) for text in row[LOSS].split()), min)) for row in rows]
        return cls(replace(study, strategy="random", metric=LOSS, trials=0, fixed={}), settings, curves)

    @property
    def highest(self) -> int:
        """The epochs of a whole training."""
        return len(self.curves[0])

    @cached_property
    def _points(self) -> Any:
        import numpy as np

        return np.array([self._point(settings) for settings in self.settings])

    def _point(self, settings: dict[str, Any]) -> list[float]:
        """The place in the unit cube."""
        point = []
        for name, dimension in self.study.space.items():
            assert isinstance(dimension, Float | Int)
            scale: Callable[[float], float] = math.log if dimension.log else float
            low, high = scale(dimension.low), scale(dimension.high)
            point.append((scale(settings[name]) - low) / (high - low))
        return point

    def curve(self, settings: dict[str, Any]) -> list[float]:
        """The curve of the nearest settings."""
        distances = ((self._points - self._point(settings)) ** 2).sum(axis=1)
        return self.curves[int(distances.argmin())]

    def loss(self, settings: dict[str, Any], epochs: int) -> float:
        """The loss of the nearest settings after so many epochs."""
        return self.curve(settings)[epochs - 1]


def keep(folder: Path, name: str) -> None:
    """Add the settings and the curves of a folder's trials to a table in bench/tables/, unless they are there."""
    study, path = load_study(str(TABLES / f"{name}.toml")), TABLES / f"{name}.csv"
    kept, columns = list[list[str]](), [*study.space, "seed"]
    if path.exists():
        with open(path, newline="") as file:
            kept = list(csv.reader(file))[1:]
    known = {tuple(row[1 : len(columns) + 1]) for row in kept}
    for trial in sorted(read_results(folder, epochs=True).trials, key=lambda each: each.name.number):
        told = [json.dumps(trial.settings[key]) for key in columns]
        if trial.result and tuple(told) not in known:
            values = [epoch.get(LOSS) for epoch in trial.epochs]
            curve = [math.inf if value is None else value for value in values]
            curve += [math.inf] * (int(study.fixed["epochs"]) - len(curve))  # it has diverged, and ended
            seconds = str(trial.result.get("seconds"))
            kept.append([str(len(kept)), *told, seconds, " ".join(f"{value:.6g}" for value in curve)])
    with open(path, "w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([["number", *columns, "seconds", LOSS], *kept])
    print(f"{path}: {len(kept)} trials")


def course_on_table(table: Table, method: str, trials: int, workers: int, seed: int) -> list[tuple[float, float]]:
    """The epochs spent when a trial reported a better loss, and that loss."""
    study, budget = table.study, trials * table.highest
    if method == OPTUNA:
        chosen = _study_of(study, "hyperband", 1, table.highest, seed, budget)
        found: Iterable[tuple[float, float]] = replay_optuna(chosen, table.loss, budget, workers)
    else:
        strategy, schedule = METHODS[method]
        chosen = _study_of(replace(study, strategy=strategy), schedule, 1, table.highest, seed, budget)
        found = reports(replay(chosen, table.loss, budget, workers), table.curve)
    course, best = list[tuple[float, float]](), math.inf
    for spent, loss in found:
        if loss < best:
            best = loss
            course.append((spent, loss))
    return course


def best_at_random(table: Table, trainings: int, seed: int) -> float:
    """The best that random search finds in so many whole trainings."""
    return course_on_table(table, "random", trainings, 1, seed)[-1][1]


def measure_tables(
    names: Sequence[str], wanted: int | None, trials: Sequence[int], workers: Sequence[int], rows: int | None = None
) -> None:
    """The share of random search's epochs until its median final best is reached, for each table, budget and number.

    What has been measured on a table of this size stays, so this may be ended and started again.
    """
    methods, path = [*METHODS, OPTUNA], RESULTS / "replay-tables.json"
    before = json.loads(path.read_text())["searches"] if path.exists() else []
    kept = [each for each in before if each.get("version") == VERSION and each["method"] in methods]
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        for name, budget in itertools.product(names, trials):
            table, seeds = Table.read(name, rows or ROWS.get(budget)), wanted or SEEDS.get(budget, 40)
            target = statistics.median(
                pool.map(partial(best_at_random, table, budget), range(FOR_TARGET), chunksize=50)
            )
            print(f"{name}: {len(table.curves)} rows; {budget} trainings; target {target:.5g}", flush=True)
            for crowd, method in itertools.product(workers, methods):
                case = {"version": VERSION, "table": name, "trainings": budget, "workers": crowd, "method": method}
                known: dict[str, Any] = next((each for each in kept if case.items() <= each.items()), {})
                if known.get("rows") != len(table.curves) or len(known["shares"]) < seeds:
                    courses = list(pool.map(partial(course_on_table, table, method, budget, crowd), range(seeds)))
                    kept = [each for each in kept if each is not known]
                    known = {**case, "rows": len(table.curves), "target": target}
                    known |= _shares(courses, target, table, budget)
                    kept.append(known)
                    kept.sort(
                        key=lambda each: (
                            each["table"],
                            each["trainings"],
                            each["workers"],
                            methods.index(each["method"]),
                        )
                    )
                    _write("tables", {"searches": kept})
                low, middle, high = _in_words(known["shares"])
                print(f"    {crowd:3} workers  {method:17} {middle} ({low} to {high})", flush=True)
    print(*to_markdown(kept), sep="\n\n")


def _shares(
    courses: list[list[tuple[float, float]]], target: float, table: Table, budget: int
) -> dict[str, list[float] | dict[str, list[float]]]:
    """Of each search: its share of the epochs until the target, and its best after a quarter and a half of them."""
    epochs = budget * table.highest
    bests = {f"{share:g}": [_best(course, share * epochs) for course in courses] for share in (0.25, 0.5)}
    return {"shares": [_reached(course, target) / epochs for course in courses], "bests": bests}


def _reached(course: list[tuple[float, float]], target: float) -> float:
    return next((spent for spent, loss in course if loss <= target), math.inf)


def _best(course: list[tuple[float, float]], epochs: float) -> float:
    return min((loss for spent, loss in course if spent <= epochs), default=math.inf)


def _in_words(shares: Sequence[float], digits: int = 3) -> tuple[str, str, str]:
    low, middle, high = ("never" if math.isinf(share) else f"{share:.{digits}f}" for share in _quartiles(shares))
    return low, middle, high


def _quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """The quartiles; what is infinite counts as such."""
    ranked = sorted(values)
    low, middle, high = (ranked[round(share * (len(ranked) - 1))] for share in (0.25, 0.5, 0.75))
    return low, middle, high


def to_markdown(searches: Sequence[dict[str, Any]]) -> list[str]:
    """The tables of docs/savings.md: the median shares of each budget; with the least one, what one worker comes to."""
    tables, budgets = [], sorted({each["trainings"] for each in searches})
    for trainings in budgets:
        there = [each for each in searches if each["trainings"] == trainings]
        heads = [f"median of {len(there[0]['shares'])} searches, {trainings} trainings"]
        for each in (each for each in there if each["method"] == OPTUNA):
            heads.append(f"{each['table']}, 1 worker" if each["workers"] == 1 else str(each["workers"]))
        tables.append(_table(heads, there, lambda each: [_in_words(each["shares"], 2)[1]]))
    alone = [each for each in searches if (each["trainings"], each["workers"]) == (budgets[0], 1)]
    heads = [f"{budgets[0]} trainings, 1 worker"]
    for each in (each for each in alone if each["method"] == OPTUNA):
        heads += [f"{each['table']}: quartiles", "after 1/4", "after 1/2"]
    return [*tables, *([_table(heads, alone, _spread)] if alone else [])]


def _spread(search: dict[str, Any]) -> list[str]:
    """The quartiles, and the mean of the best losses after a quarter and a half of the epochs."""
    low, _, high = _in_words(search["shares"], 2)
    return [f"{low} to {high}", *(f"{statistics.mean(search['bests'][share]):.4f}" for share in ("0.25", "0.5"))]


def _table(heads: list[str], searches: Sequence[dict[str, Any]], cells: Callable[[dict[str, Any]], list[str]]) -> str:
    """A table in Markdown with a row for each method."""
    rows = {method: [_label(method)] for method in (*METHODS, OPTUNA)}
    for each in searches:
        rows[each["method"]] += cells(each)
    lines = [heads, ["---", *["---:"] * (len(heads) - 1)], *rows.values()]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _label(method: str) -> str:
    if method == OPTUNA:
        return "Optuna: TPE, Hyperband pruner"
    strategy, schedule = METHODS[method]
    return f"`{strategy}`, {f'`{schedule}`' if schedule else 'each trial in full'}{AUTO.get(method, '')}"


# ---------------------------------------------------------------- the command line


def _write(name: str, record: dict[str, Any]) -> None:
    path, command = RESULTS / f"replay-{name}.json", shlex.join(["python", "-m", "bench.replay", *sys.argv[1:]])
    text = json.dumps({"command": command, **machine(), **record})
    write_whole(path, (text.replace("}, {", "},\n{") + "\n").encode())


def main() -> int:
    """Replay what the command line asks for."""
    parser = new_parser(__doc__, "python -m bench.replay")
    parser.add_argument("what", choices=("artificial", "tables", "keep"))
    parser.add_argument("told", nargs="*", help="of keep: a folder, and the name of a table; of tables: their names")
    parser.add_argument("--seeds", type=int, help="searches of each kind (default: 200; of tables 200, 100 or 40)")
    parser.add_argument("--trials", type=int, nargs="+", default=[20, 60, 120], help="budgets, in whole trainings")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 8, 64], help="workers in virtual time")
    parser.add_argument("--rows", type=int, metavar="N", help="the first N rows of a table (default: 720, 720, 1200)")
    arguments = parser.parse_args()
    if arguments.what == "keep" and len(arguments.told) != 2:
        parser.error("keep: needs a folder and the name of its table")
    try:
        if arguments.what == "artificial":
            measure_artificial(arguments.seeds or 200)
        elif arguments.what == "keep":
            keep(Path(arguments.told[0]), arguments.told[1])
        else:
            names = arguments.told or ["narrow", "wide"]
            measure_tables(names, arguments.seeds, arguments.trials, arguments.workers, arguments.rows)
    except UserError as error:
        parser.error(str(error))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
