"""Scenario 4, filters: the number to choose for a number of epochs, and for a training time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from analysis.scenarios.common import (
    ERROR,
    LOSS,
    groups_of,
    standard_error,
    summary_table,
    validation_images,
)
from foldertune.protocol import Trial
from foldertune.reading.figures import draw_points, groups_picture
from foldertune.reading.findings import NOT_ENOUGH, Findings, Picture
from foldertune.reading.results import Group, Results
from foldertune.reading.samples import Sample
from foldertune.reading.words import duration, listed
from foldertune.tables import short
from foldertune.text import counted

SHORT_BUDGET = 10.0  # seconds of training


@dataclass(frozen=True)
class Budget:
    """Training time for one network."""

    name: str
    seconds: float
    origin: str = ""  # the reason for this time

    def sample(self, group: Group) -> Sample:
        """The best validation error of each of the group's trials within the budget."""
        return Sample.of(best_within(group.results, trial, self.seconds) for trial in group.trials)


def answer(results: Results) -> Findings:
    """The findings: the number of filters to choose for each budget, and the cost of filters."""
    groups = groups_of(results, "filters")
    if len(groups) < 2:
        return Findings([f"How many filters to choose: {NOT_ENOUGH}."])
    budgets = budgets_of(groups)
    answers = [*(say_budget(groups, budget) for budget in budgets), say_cost(groups)]
    return Findings(answers, pictures_of(groups, budgets), [summary_table(groups, ["filters"])])


def budgets_of(groups: Sequence[Group]) -> list[Budget]:
    """The budgets: all epochs, ten seconds, and an equal share of the time that all networks took."""
    epochs = max(len(trial.epochs) for group in groups for trial in group.trials)
    total = sum(group.seconds for group in groups if math.isfinite(group.seconds))
    share = total / len(groups)
    return [
        Budget(f"{epochs} epochs", math.inf),
        Budget(f"{SHORT_BUDGET:g} seconds", SHORT_BUDGET),
        Budget(
            f"{duration(share)} per network",
            share,
            f"an equal share of the {duration(total)} that all {len(groups)} took",
        ),
    ]


def pictures_of(groups: Sequence[Group], budgets: Sequence[Budget]) -> list[Picture]:
    """The pictures of loss and error over epochs and time, and of the best error within each budget."""
    study = groups[0].results.study
    pictures = [
        groups_picture(name, f"{caption}, by the number of filters.", groups, ["filters"], measure, over)
        for name, measure, over, caption in (
            ("training-loss", LOSS, "epoch", "Training loss over epochs"),
            ("training-loss-over-time", LOSS, "seconds", "Training loss over training time"),
            ("validation-error-over-time", ERROR, "seconds", "Validation error over training time"),
        )
    ]
    lines = {budget.name: [(group.key[0], budget.sample(group)) for group in groups] for budget in budgets}
    caption = (
        "Best validation error within a budget, over the number of filters; points are set apart a little where they "
        f"would lie on each other; no point: not one epoch in that time. {budgets[-1].name} is {budgets[-1].origin}."
    )
    best = replace(study.quantity(ERROR), label="best validation error")
    draw = partial(draw_points, lines, study.quantity("filters"), best, "budget")
    return [*pictures, Picture("budgets", caption, draw)]


def best_within(results: Results, trial: Trial, seconds: float) -> float | None:
    """The lowest validation error of the epochs that ended within this training time; None if none did."""
    curve = results.curve(trial, ERROR, over="seconds")
    if math.isinf(seconds):
        curve = results.curve(trial, ERROR)
    return min((error for at, error in zip(curve.xs, curve.ys, strict=True) if at <= seconds), default=None)


def say_budget(groups: Sequence[Group], budget: Budget) -> str:
    """Tell the number of filters to choose for a budget, and those that can't be told apart from it."""
    origin = f", {budget.origin}" if budget.origin else ""
    found = {group.key[0]: sample for group in groups if (sample := budget.sample(group)).values}
    if len(found) < 2:
        networks = counted(len(found), "network")
        return f"Filters for {budget.name}{origin}: {NOT_ENOUGH}; {networks} ended an epoch in that time."
    best = min(found, key=lambda number: found[number].mean)
    margin = 2 * standard_error(found[best].mean, groups[0])
    equal = [n for n, sample in found.items() if sample.mean - found[best].mean < margin and n != best]
    late = [group.key[0] for group in groups if group.key[0] not in found]
    shown = found[best].show(groups[0].results.study.quantity(ERROR))
    text = f"Filters for {budget.name}{origin}: {short(best)}, with a validation error of {shown}"
    text += f"; within two standard errors of that ({100 * margin:.2f} points, of {validation_images(groups[0]):,} "
    text += f"images): {listed(map(short, equal)) if equal else 'no other'}"
    return text + (f"; {listed(map(short, late))} did not end one epoch" if late else "") + "."


def say_cost(groups: Sequence[Group]) -> str:
    """Tell the cost and the gain of more filters."""
    few, many = groups[0], groups[-1]
    if not (0 < few.seconds < math.inf and 0 < many.seconds < math.inf):
        return f"What filters cost: {NOT_ENOUGH}."
    quantity = few.results.study.quantity(LOSS)
    losses = [quantity.show(group.sample(LOSS).mean) for group in (many, few)]
    return (
        f"The network with filters {short(many.key[0])} takes {duration(many.seconds)}, that with "
        f"{short(few.key[0])} {duration(few.seconds)}: {many.seconds / few.seconds:.3g} times as long; the training "
        f"loss ends at {listed(losses)}."
    )
