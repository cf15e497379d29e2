"""Measures, groups of equal settings, and tables that several scenarios share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from foldertune.reading.findings import Table
from foldertune.reading.results import Group, Results
from foldertune.study import Quantity
from foldertune.tables import finite

LOSS, ERROR = "training_loss", "epoch_error"  # after an epoch
BEST_ERROR = "validation_error"  # a trial's best error over its epochs
EFFECTIVE_RATE = "effective_rate"
TRAINING_IMAGES = {"small": 5_000, "full": 50_000}
VALIDATION_IMAGES = {"small": 1_000, "full": 10_000}
BARS = "bars: standard deviation over runs; points that would cover each other stand a little apart"
EVERY_RUN = "every run drawn"


# ---------------------------------------------------------------- groups


def groups_of(results: Results, *names: str) -> list[Group]:
    """The trials with a learning curve, grouped by these settings. Values that make no sense are left out."""
    sensible = [group for group in results.groups(*names) if all(map(is_sensible, names, group.key))]
    groups = [replace(group, trials=[trial for trial in group.trials if trial.epochs]) for group in sensible]
    return [group for group in groups if group.trials]


def is_sensible(name: str, value: Any) -> bool:
    """Is this a possible value of a setting of the exercise?"""
    number = finite(value)
    return number is not None and (0 <= number < 1 if name == "momentum" else number > 0)


def by_loss(groups: Sequence[Group]) -> list[Group]:
    """The groups sorted by final training loss, lowest first. Groups with collapsed runs come last."""
    return sorted(groups, key=lambda group: (group.collapsed > 0, group.sample(LOSS).mean))


def shown(group: Group, measure: str) -> str:
    """The measure after the last epoch, over the runs that did not collapse: `0.031 ± 0.002 (3 runs)`."""
    return group.sample(measure).show(group.results.study.quantity(measure))


def final(quantity: Quantity) -> Quantity:
    """The same quantity, labelled as the value after the last epoch, for an axis."""
    return replace(quantity, label=f"final {quantity.label}")


# ---------------------------------------------------------------- numbers of images


def training_images(group: Group) -> int:
    """The number of images in an epoch."""
    return TRAINING_IMAGES.get(str(group.trials[0].settings.get("data")), TRAINING_IMAGES["small"])


def validation_images(group: Group) -> int:
    """The number of images on which an error was measured."""
    return VALIDATION_IMAGES.get(str(group.trials[0].settings.get("data")), VALIDATION_IMAGES["small"])


def standard_error(error: float, group: Group) -> float:
    """The standard error of a measured error: that of a binomial share of the validation images."""
    return math.sqrt(max(error * (1 - error), 0.0) / validation_images(group))


# ---------------------------------------------------------------- tables


def summary_table(groups: Sequence[Group], names: Sequence[str]) -> Table:
    """A table with one row per group: settings, final loss and error, best error, runs and time."""
    study = groups[0].results.study
    settings = [*names, EFFECTIVE_RATE] if "momentum" in names else list(names)
    quantities = {name: study.quantity(name) for name in settings}
    for measure, label in ((LOSS, "training loss"), (ERROR, "validation error")):
        quantities[measure] = replace(study.quantity(measure), label=f"{label}, last epoch")
        quantities[_deviation(measure)] = replace(study.quantity(measure), label=f"deviation of {label}")
    quantities[BEST_ERROR] = replace(study.quantity(BEST_ERROR), label="validation error, best epoch")
    quantities["seconds"] = Quantity("training time (s)")
    rows = []
    for group in groups:
        row = {name: group.results.setting(group.trials[0], name) for name in settings}
        for measure in (LOSS, ERROR):
            sample = group.sample(measure)
            row[measure] = sample.mean if sample.values else None
            row[_deviation(measure)] = sample.deviation
        best = group.sample_of_results(BEST_ERROR)
        row[BEST_ERROR] = best.mean if best.values else None
        rows.append(row | {"runs": len(group.trials), "collapsed": group.collapsed, "seconds": finite(group.seconds)})
    return Table("Means over runs, and their standard deviations; runs that collapsed are left out.", rows, quantities)


def _deviation(measure: str) -> str:
    return f"{measure}_deviation"
