"""Scenario 5, random search: the best settings, the length a search needs, and the important hyperparameters."""

from __future__ import annotations

import random
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from analysis.scenarios.common import EFFECTIVE_RATE
from foldertune.reading import figures, findings
from foldertune.reading.findings import NOT_ENOUGH, Findings, Picture, Table
from foldertune.reading.results import Results
from foldertune.reading.words import listed
from foldertune.tables import finite
from foldertune.text import counted

SIMULATED, DRAWN = 1000, 20  # simulated searches; the number of them in the figure
FEWEST_SIMULATED = 5  # results; with fewer, no searches are simulated
TEST_ERROR = "test_error"


@dataclass(frozen=True)
class Simulation:
    """Searches that get the results of this one in random orders: the best so far of each, and their median."""

    searches: list[list[float]]
    median: list[float]


def answer(results: Results) -> Findings:
    """The findings: the best trials, simulated searches, importance, and the share that collapsed."""
    simulation = simulate(results)
    answers = [
        *findings.say_best(results),
        say_searches(results, simulation),
        *findings.say_importance(results),
        *say_collapse(results),
        *findings.say_course(results),
    ]
    pictures = [simulated_picture(results, simulation)] if simulation else []
    tables = [table_of_best(results)] if results.scored else []
    return Findings(answers, [*pictures, *figures.pictures(results)], tables)


def simulate(results: Results) -> Simulation | None:
    """Simulate searches; None if there are too few results."""
    values = [value for _, value in results.scored]
    if len(values) < FEWEST_SIMULATED:
        return None
    rng = random.Random(0)
    searches = [results.best_so_far(rng.sample(values, len(values))) for _ in range(SIMULATED)]
    return Simulation(searches, [statistics.median(column) for column in zip(*searches, strict=True)])


def simulated_picture(results: Results, simulation: Simulation) -> Picture:
    """The picture of the best so far, for some simulated searches and their median."""
    metric = results.study.quantity(results.study.metric)
    caption = (
        f"Best {metric.label} so far over the number of evaluations: {DRAWN} simulated searches (the results of this "
        f"one in another order) and the median of {SIMULATED:,}."
    )
    draw = partial(figures.draw_simulated_searches, simulation.searches[:DRAWN], simulation.median, SIMULATED, metric)
    return Picture("simulated-searches", caption, draw)


def table_of_best(results: Results) -> Table:
    """A table of the ten best trials, with their errors and settings."""
    study = results.study
    settings = [*study.space, EFFECTIVE_RATE]
    quantities = {name: study.quantity(name) for name in (study.metric, TEST_ERROR, *settings, "seconds")}
    rows = []
    for trial, value in results.scored[:10]:
        row = {"trial": trial.name.number, study.metric: value, TEST_ERROR: results.setting(trial, TEST_ERROR)}
        row |= {name: results.setting(trial, name) for name in settings}
        rows.append(row | {"seconds": finite((trial.result or {}).get("seconds"))})
    return Table("The ten best trials.", rows, quantities)


def say_searches(results: Results, simulation: Simulation | None) -> str:
    """Tell how soon a random search is nearly as good as it gets."""
    if simulation is None:
        return f"How long a search has to be: {NOT_ENOUGH}."
    median, show = simulation.median, results.study.quantity(results.study.metric).show
    marks = [n for n in (1, 2, 4, 8, 16, 32, 64, 128) if n < len(median)]
    path = listed(f"{show(median[n - 1])} after {n}" for n in marks)
    return (
        f"The median of {SIMULATED:,} simulated searches reaches {path} evaluations; the best of all is "
        f"{show(results.scored[0][1])}."
    )


def say_collapse(results: Results) -> list[str]:
    """Tell the share of the trials that collapsed, and their effective rates."""
    if not results.ended:
        return []
    share = 100 * len(results.collapsed) / len(results.ended)
    bad, good = effective_rates(results, collapsed=True), effective_rates(results, collapsed=False)
    text = f"Collapsed: {len(results.collapsed)} of {counted(len(results.ended), 'trial')} ({share:.0f} %)"
    if bad and good:
        text += f"; effective rates LR/(1−M) of these: {_range(bad)}; of the others: {_range(good)}"
    return [text + "."]


def effective_rates(results: Results, *, collapsed: bool) -> list[float]:
    """The effective rates of the trials that collapsed, or of those that did not."""
    chosen = [trial for trial in results.ended if results.has_collapsed(trial) is collapsed]
    rates = (finite(results.setting(trial, EFFECTIVE_RATE)) for trial in chosen)
    return [rate for rate in rates if rate is not None]


def _range(values: Sequence[float]) -> str:
    low, high = f"{min(values):.3g}", f"{max(values):.3g}"
    return low if low == high else f"{low} to {high}"
