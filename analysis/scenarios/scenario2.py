"""Scenario 2, batch size and learning rate: the best rate for each batch size, and the time each one takes."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from analysis.scenarios.common import (
    BARS,
    EVERY_RUN,
    LOSS,
    by_loss,
    final,
    groups_of,
    shown,
    summary_table,
    training_images,
)
from foldertune.reading.figures import draw_points, groups_picture
from foldertune.reading.findings import NOT_ENOUGH, Findings, Picture
from foldertune.reading.results import Group, Results
from foldertune.reading.samples import SIGNIFICANT, Sample, chance_of_difference, verdict
from foldertune.reading.words import duration, listed
from foldertune.tables import short

NAMES = ("batch_size", "learning_rate")
Sizes = Mapping[Any, Sequence[Group]]  # the groups by batch size


def answer(results: Results) -> Findings:
    """The findings: the best rate for each batch size, how the two depend on each other, and the training times."""
    groups = groups_of(results, *NAMES)
    if len(groups) < 2:
        return Findings([f"How batch size and learning rate depend on each other: {NOT_ENOUGH}."])
    sizes = {size: list(members) for size, members in itertools.groupby(groups, key=lambda group: group.key[0])}
    dependence = say_dependence(sizes)
    answers = [*say_best_rates(sizes), dependence, *say_times(sizes)]
    return Findings(answers, pictures_of(groups, sizes), [summary_table(groups, NAMES)], headline=dependence)


def pictures_of(groups: Sequence[Group], sizes: Sizes) -> list[Picture]:
    """The pictures of the loss over epochs and over time, and of the final loss over the rate."""
    pictures = [
        groups_picture(
            name,
            f"Training loss over {what}: a panel for each batch size, a colour for each learning rate; {EVERY_RUN}.",
            groups,
            NAMES,
            LOSS,
            over,
        )
        for name, over, what in (
            ("over-epochs", "epoch", "epochs"),
            ("over-time", "seconds", "training time, both axes logarithmic"),
        )
    ]
    study = groups[0].results.study
    lines = {size: [(g.key[1], g.sample_of_all(LOSS)) for g in members] for size, members in sizes.items()}
    rate, loss = replace(study.quantity("learning_rate"), scale="log"), final(study.quantity(LOSS))
    caption = f"Final training loss over the learning rate, a line a batch size; {BARS}."
    return [*pictures, Picture("rates", caption, lambda: draw_points(lines, rate, loss, "batch size"))]


def say_best_rates(sizes: Sizes) -> list[str]:
    """`Best learning rate for batch size 20: 0.1 (training loss 0.031 ± 0.002 (3 runs); …`"""
    answers = []
    for size, members in sizes.items():
        best, *others = by_loss(members)
        sample = best.sample(LOSS)
        if not sample.values or not others:
            answers.append(f"Best learning rate for batch size {short(size)}: {NOT_ENOUGH}.")
            continue
        second, chance = others[0], chance_of_difference(sample, others[0].sample(LOSS))
        next_best = f"next {short(second.key[1])} with {shown(second, LOSS)}, {verdict(chance)}"
        if second.collapsed:
            collapsed = sum(other.collapsed for other in others)
            next_best = f"the others collapsed in {collapsed} of their runs"
        answers.append(
            f"Best learning rate for batch size {short(size)}: {short(best.key[1])} "
            f"(training loss {shown(best, LOSS)}; {next_best})."
        )
    return answers


def say_dependence(sizes: Sizes) -> str:
    """Tell how the best rate changes with the batch size."""
    ordered = {size: by_loss(members) for size, members in sizes.items()}
    best = {size: groups[0].key[1] for size, groups in ordered.items() if groups[0].sample(LOSS).values}
    if len(best) < 2:
        return f"How the best rate depends on the batch size: {NOT_ENOUGH}."
    path = listed(f"{short(rate)} at {short(size)}" for size, rate in best.items())
    unsure = [size for size in best if not _is_decided(ordered[size])]
    noise = f"; not more than chance decides it for {listed(map(short, unsure))}" if unsure else ""
    rates = sorted({group.key[1] for members in sizes.values() for group in members})
    edges = [size for size, rate in best.items() if rate in (rates[0], rates[-1])]
    edge = f"; for {listed(map(short, edges))} it lies at the edge of the rates tried, so a better one may lie beyond"
    return f"The best rate over batch sizes: {path}: {_trend(list(best.values()))}{noise}{edge if edges else ''}."


def _trend(rates: Sequence[Any]) -> str:
    """The trend of the best rates, in the order of growing batch sizes, in words."""
    strict = len(set(rates)) == len(rates)
    if len(set(rates)) == 1:
        return "it is the same for all batch sizes tried"
    if rates == sorted(rates):
        return "the larger the batch, the larger the best rate" if strict else "it never falls as the batch grows"
    if rates == sorted(rates, reverse=True):
        return "the larger the batch, the smaller the best rate" if strict else "it never rises as the batch grows"
    return "it does not move in one direction"


def _is_decided(ordered: Sequence[Group]) -> bool:
    """Is the first group better than the second by more than chance, or the only one that did not collapse?"""
    if len(ordered) < 2 or ordered[1].collapsed:
        return True
    chance = chance_of_difference(ordered[0].sample(LOSS), ordered[1].sample(LOSS))
    return chance is not None and chance < SIGNIFICANT


def say_times(sizes: Sizes) -> list[str]:
    """Tell the time of equal numbers of epochs, and why it is not proportional to the batch size."""
    means = {size: Sample.of(group.seconds for group in members) for size, members in sizes.items()}
    seconds = {size: sample.mean for size, sample in means.items() if sample.values and sample.mean > 0}
    groups = [group for members in sizes.values() for group in members]
    epochs = {len(trial.epochs) for group in groups for trial in group.trials}
    if len(seconds) < 2 or len(epochs) != 1:
        return [f"Run times for equal epochs: {NOT_ENOUGH}."]
    smallest, largest = min(seconds), max(seconds)
    steps = {size: training_images(groups[0]) // int(size) * max(epochs) for size in seconds}
    each = listed(f"{duration(value)} with batch size {short(size)}" for size, value in seconds.items())
    text = (
        f"Run times for {max(epochs)} epochs: {each}. Batch size {short(smallest)} takes "
        f"{seconds[smallest] / seconds[largest]:.2f} times as long as {short(largest)}, though it makes "
        f"{steps[smallest] / max(steps[largest], 1):.3g} times as many steps"
    )
    cost = statistics.linear_regression(list(steps.values()), list(seconds.values()))
    if cost.slope < 0 or cost.intercept < 0:
        return [f"{text}."]
    share = 100 * min(cost.intercept / seconds[largest], 1)
    return [
        f"{text}: a straight line through these times has {1000 * cost.slope:.2f} ms for each step and "
        f"{duration(cost.intercept)} that the number of steps does not change, which is {share:.0f} % of the time with "
        f"batch size {short(largest)}: it goes with the images, which are as many whatever the batch."
    ]
