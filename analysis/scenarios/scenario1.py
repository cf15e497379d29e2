"""Scenario 1, the learning rate: the effect of small and large rates, and the differences between equal runs."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from analysis.scenarios.common import (
    ERROR,
    LOSS,
    by_loss,
    groups_of,
    shown,
    standard_error,
    summary_table,
    validation_images,
)
from foldertune.protocol import Trial
from foldertune.reading.figures import groups_picture
from foldertune.reading.findings import NOT_ENOUGH, Findings, Picture
from foldertune.reading.results import Group, Results
from foldertune.reading.samples import Sample, chance_of_difference, verdict
from foldertune.reading.words import listed
from foldertune.tables import short
from foldertune.text import counted

CHANCE_LOSS = math.log(10)  # ten digits, all equally likely


def answer(results: Results) -> Findings:
    """The findings: the best rate, the smallest and the largest, rates that collapse, differences of equal runs."""
    groups = groups_of(results, "learning_rate")
    if len(groups) < 2:
        answers = [f"How the learning rate acts: {NOT_ENOUGH}; fewer than two rates have been tried."]
    else:
        first, last = groups[0], groups[-1]
        answers = [
            say_best_rate(groups),
            f"The smallest rate, {short(first.key[0])}: {say_course(first)}",
            f"The largest rate, {short(last.key[0])}: {say_course(last)}",
            say_collapsed(groups),
            *say_differences(groups),
        ]
    if not groups:
        return Findings(answers)
    return Findings(answers, pictures_of(groups), [summary_table(groups, ["learning_rate"])])


def pictures_of(groups: Sequence[Group]) -> list[Picture]:
    """The pictures of loss and error over epochs, with every run, by learning rate."""
    pictures = []
    for name, measure in (("training loss", LOSS), ("validation loss", "validation_loss"), ("validation error", ERROR)):
        caption = f"{name.capitalize()} over epochs, every run drawn, by learning rate."
        pictures.append(groups_picture(name.replace(" ", "-"), caption, groups, ["learning_rate"], measure))
    return pictures


def say_best_rate(groups: Sequence[Group]) -> str:
    """Tell the rate with the lowest final training loss, and the second best."""
    best, second, *_ = by_loss(groups)
    a, b = best.sample(LOSS), second.sample(LOSS)
    if not a.values:
        return f"Best learning rate: {NOT_ENOUGH}; every run diverged or stayed at chance level."
    chance = chance_of_difference(a, b)
    ahead = f"; next is {short(second.key[0])} with {shown(second, LOSS)}: {verdict(chance)}" if b.values else ""
    return f"Best learning rate: {short(best.key[0])}, with a final training loss of {shown(best, LOSS)}{ahead}."


def say_course(group: Group) -> str:
    """Tell the course of training at one rate, from the first epoch to the last."""
    sample, everything, runs = group.sample(LOSS), group.sample_of_all(LOSS), len(group.trials)
    if not everything.values:
        return f"the loss is not finite in the end, in all of {counted(runs, 'run')}."
    if group.collapsed == runs:
        return (
            f"all of {counted(runs, 'run')} collapse to a constant training loss of {everything.mean:.3f}; "
            f"that of chance is ln 10 = {CHANCE_LOSS:.3f}."
        )
    epochs = max(len(trial.epochs) for trial in group.trained)
    first = Sample.of(_loss_after(group, trial, 1) for trial in group.trained)
    before = Sample.of(_loss_after(group, trial, epochs - max(epochs // 5, 1)) for trial in group.trained)
    text = f"the training loss goes from {first.mean:.3g} to {shown(group, LOSS)} in {counted(epochs, 'epoch')}"
    if before.values and before.mean > 0:
        share = 100 * (1 - sample.mean / before.mean)
        text += f", {'falling' if share > 0 else 'rising'} by {abs(share):.1f} % over the last fifth of them"
    some = f"; {group.collapsed} of {runs} collapsed" if group.collapsed else ""
    return f"{text}; the validation error ends at {shown(group, ERROR)}{some}."


def _loss_after(group: Group, trial: Trial, epochs: int) -> float | None:
    return group.results.measure(trial, trial.epochs[epochs - 1], LOSS) if 0 < epochs <= len(trial.epochs) else None


def say_collapsed(groups: Sequence[Group]) -> str:
    """Tell the rates that end at chance level."""
    collapsed = [group for group in groups if group.collapsed]
    if not collapsed:
        return "No setting collapses to a constant loss."
    each = [f"{short(group.key[0])} ({group.collapsed} of {counted(len(group.trials), 'run')})" for group in collapsed]
    infinite = [short(group.key[0]) for group in collapsed if group.sample_of_all(LOSS).left_out]
    overflow = f" At {listed(infinite)} the loss is not finite in the end." if infinite else ""
    return f"Learning rates that collapse to a constant loss: {listed(each)}.{overflow}"


def say_differences(groups: Sequence[Group]) -> list[str]:
    """Tell how much runs of equal settings differ."""
    samples = {group.key[0]: group.sample(ERROR) for group in groups if not group.collapsed}
    spread = {rate: sample.deviation for rate, sample in samples.items() if sample.deviation is not None}
    if not spread:
        return [f"How much runs of equal settings differ: {NOT_ENOUGH}; no setting has two runs that trained."]
    largest, typical = max(spread, key=lambda rate: spread[rate]), statistics.median(spread.values())
    uncertain = standard_error(statistics.median(samples[rate].mean for rate in spread), groups[0])
    return [
        f"Runs of equal settings differ in nothing but their seed, which draws the initial weights, the order of the "
        f"examples and the dropout masks. By that alone their final validation errors deviate by "
        f"{100 * typical:.2f} percentage points "
        f"(median over {counted(len(spread), 'rate')}), "
        f"most at rate {short(largest)}: {100 * spread[largest]:.2f} points. Which of the three it is they can't tell, "
        f"for each seed draws all of them. Besides, the {validation_images(groups[0]):,} validation images, the same "
        f"for all, leave an error uncertain by {100 * uncertain:.2f} points."
    ]
