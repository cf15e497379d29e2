"""The six scenarios of the exercise: the questions that each is there to answer, put to the measured data."""

from __future__ import annotations

import itertools
import math
import random
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from foldertune.protocol import Trial
from foldertune.reading import findings, plots
from foldertune.reading.archive import Search
from foldertune.reading.findings import (
    NOT_ENOUGH,
    Findings,
    Picture,
    Table,
    at_end,
    count,
    duration,
    grouped,
    has_collapsed,
    listed,
    score,
    words,
)
from foldertune.reading.importance import effective_rate, measure_importance
from foldertune.reading.plots import Look, Panel
from foldertune.reading.samples import SIGNIFICANT, Sample, chance_of_difference, finite, show, verdict
from foldertune.reading.timeline import Span, elapsed, most_at_once, spans
from foldertune.study import SEED
from foldertune.tables import short

LOSS, ERROR = "training_loss", "validation_error"
CHANCE_LOSS = math.log(10)  # ten digits, each as likely as the others
VALIDATION_IMAGES = {"small": 1_000, "full": 10_000}
SHORT_BUDGET = 10.0  # seconds of training, of scenario 4
BARS = "bars: standard deviation over runs"
RUNS_AND_MEDIAN = "thin: single runs, thick: their median"
SIMULATED, DRAWN = 1000, 20  # searches; how many of them are drawn
FEWEST_SIMULATED = 5  # results from which searches are simulated


@dataclass(frozen=True)
class Group:
    """The runs of equal settings."""

    key: tuple[Any, ...]
    trials: list[Trial]

    @property
    def trained(self) -> list[Trial]:
        """The runs that did not collapse."""
        return [trial for trial in self.trials if not has_collapsed(trial)]

    def sample(self, measure: str) -> Sample:
        """A measure after the last epoch; runs that collapsed say little of the others, and are left out."""
        values = [at_end(trial, measure) for trial in self.trained]
        return Sample.of([*values, *[None] * self.collapsed])

    def sample_of_all(self, measure: str) -> Sample:
        """A measure after the last epoch of all runs, the collapsed ones, too."""
        return Sample.of(at_end(trial, measure) for trial in self.trials)

    @property
    def collapsed(self) -> int:
        """How many runs diverged or ended at chance level."""
        return len(self.trials) - len(self.trained)

    @property
    def seconds(self) -> float:
        """The mean training time."""
        return Sample.of((t.result or {}).get("seconds") for t in self.trials).mean


def groups_of(search: Search, *names: str) -> list[Group]:
    """The runs that have ended, by their values of these settings: those of the study, not what was queued besides."""
    ended = [t for t in search.trials if t.result is not None and t.epochs and search.study.contains(t.settings)]
    sensible = [t for t in ended if all(is_sensible(name, t.settings.get(name)) for name in names)]
    return [Group(key, trials) for key, trials in grouped(sensible, names).items()]


def is_sensible(name: str, value: Any) -> bool:
    """Can one reckon with this value of a setting of the exercise?"""
    number = finite(value)
    return number is not None and (0 <= number < 1 if name == "momentum" else number > 0)


def labelled(groups: Sequence[Group]) -> dict[str, Group]:
    """The groups by texts that tell them apart."""
    texts = [", ".join(map(short, group.key)) for group in groups]
    if len(set(texts)) < len(texts):
        texts = [", ".join(map(str, group.key)) for group in groups]
    return dict(zip(texts, groups, strict=True))


def by_loss(groups: Sequence[Group]) -> list[Group]:
    """The lowest final training loss first; those with collapsed runs last."""
    return sorted(groups, key=lambda group: (group.collapsed > 0, group.sample(LOSS).mean))


def epochs_of(search: Search) -> int:
    """How many epochs the longest run had."""
    return max((len(trial.epochs) for trial in search.trials), default=0)


def look_of_pairs(groups: Sequence[Group], names: Sequence[str]) -> tuple[dict[str, list[Trial]], dict[str, Look]]:
    """Curves of two settings: the first is the line's style, the second its colour."""
    first = list(dict.fromkeys(group.key[0] for group in groups))
    second = plots.looks([group.key[1] for group in groups])
    labels = labelled(groups)
    styles = {
        label: replace(second[group.key[1]], style=plots.STYLES[first.index(group.key[0]) % 4])
        for label, group in labels.items()
    }
    return {label: group.trials for label, group in labels.items()}, styles


def summary_table(groups: Sequence[Group], names: Sequence[str]) -> Table:
    """A row a group: runs, final loss and error, time."""
    rows = []
    for group in groups:
        row = dict(zip(map(words, names), group.key, strict=True))
        rate = effective_rate(group.trials[0].settings)
        if "momentum" in names and rate is not None:
            row["effective rate"] = rate
        for measure in (LOSS, ERROR):
            sample = group.sample(measure)
            row[words(measure)] = sample.mean if sample.values else None
            row[f"deviation of {words(measure)}"] = sample.deviation
        best = Sample.of(score(trial, ERROR) for trial in group.trained)
        row["best validation error"] = best.mean if best.values else None
        row |= {"runs": len(group.trials), "collapsed": group.collapsed, "seconds": finite(group.seconds)}
        rows.append(row)
    return Table("Means over runs after the last epoch, and their standard deviation, collapsed runs left out.", rows)


# ---------------------------------------------------------------- 1


def learning_rate(search: Search) -> Findings:
    """Scenario 1: what small and large learning rates do, and what makes runs of equal settings differ."""
    groups = groups_of(search, "learning_rate")
    found = Findings()
    if len(groups) < 2:
        found.answers.append(f"How the learning rate acts: {NOT_ENOUGH}; fewer than two rates have been tried.")
    else:
        first, last = groups[0], groups[-1]
        found.answers += [
            say_best_rate(groups),
            f"The smallest rate, {short(first.key[0])}: {say_course(first)}",
            f"The largest rate, {short(last.key[0])}: {say_course(last)}",
            say_collapsed(groups),
            *say_differences(groups),
        ]
    labels = labelled(groups)
    styles = dict(zip(labels, plots.looks([group.key[0] for group in groups]).values(), strict=True))
    curves = {label: group.trials for label, group in labels.items()}
    for name, measure in (("training-loss", LOSS), ("validation-loss", "validation_loss"), ("validation-error", ERROR)):
        panel = [Panel(measure)]
        caption = f"{words(measure).capitalize()} over epochs, every run drawn, by learning rate."
        found.pictures.append(
            Picture(name, caption, lambda panel=panel: plots.draw_groups(curves, styles, panel, "learning rate"))  # type: ignore[misc]
        )
    found.tables.append(summary_table(groups, ["learning_rate"]))
    return found if groups else Findings(found.answers)


def say_best_rate(groups: Sequence[Group]) -> str:
    """The rate with the lowest final training loss, and the runner-up."""
    best, second, *_ = by_loss(groups)
    a, b = best.sample(LOSS), second.sample(LOSS)
    if not a.values:
        return f"Best learning rate: {NOT_ENOUGH}; every run diverged or stayed at chance level."
    ahead = f"; next is {short(second.key[0])} with {b.show(LOSS)}: {verdict(a, b)}" if b.values else ""
    return f"Best learning rate: {short(best.key[0])}, with a final training loss of {a.show(LOSS)}{ahead}."


def say_course(group: Group) -> str:
    """What training at one rate looks like."""
    sample, everything, runs = group.sample(LOSS), group.sample_of_all(LOSS), len(group.trials)
    if not everything.values:
        return f"the loss is not finite in the end, in all of {count(runs, 'run')}."
    if group.collapsed == runs:
        return (
            f"all of {count(runs, 'run')} collapse to a constant training loss of {everything.mean:.3f}; "
            f"that of chance is ln 10 = {CHANCE_LOSS:.3f}."
        )
    first, epochs = Sample.of(_loss_after(t, 1) for t in group.trained), max(len(t.epochs) for t in group.trained)
    before = Sample.of(_loss_after(t, epochs - max(epochs // 5, 1)) for t in group.trained)
    text = f"the training loss goes from {first.mean:.3g} to {sample.show(LOSS)} in {count(epochs, 'epoch')}"
    if before.values and before.mean > 0:
        share = 100 * (1 - sample.mean / before.mean)
        text += f", {'falling' if share > 0 else 'rising'} by {abs(share):.1f} % over the last fifth of them"
    some = f"; {group.collapsed} of {runs} collapsed" if group.collapsed else ""
    return f"{text}; the validation error ends at {group.sample(ERROR).show(ERROR)}{some}."


def _loss_after(trial: Trial, epochs: int) -> float | None:
    return plots.measure_of(trial.epochs[epochs - 1], LOSS) if 0 < epochs <= len(trial.epochs) else None


def say_collapsed(groups: Sequence[Group]) -> str:
    """Which rates end at chance level."""
    collapsed = [group for group in groups if group.collapsed]
    if not collapsed:
        return "No setting collapses to a constant loss."
    each = [f"{short(group.key[0])} ({group.collapsed} of {count(len(group.trials), 'run')})" for group in collapsed]
    infinite = [short(group.key[0]) for group in collapsed if group.sample_of_all(LOSS).left_out]
    overflow = f" At {listed(infinite)} the loss is not finite in the end." if infinite else ""
    return f"Learning rates that collapse to a constant loss: {listed(each)}.{overflow}"


def say_differences(groups: Sequence[Group]) -> list[str]:
    """By how much runs of equal settings differ."""
    spread = {
        group.key[0]: deviation
        for group in groups
        if not group.collapsed and (deviation := group.sample(ERROR).deviation) is not None
    }
    if not spread:
        return [f"How much runs of equal settings differ: {NOT_ENOUGH}; no setting has two runs that trained."]
    largest = max(spread, key=lambda rate: spread[rate])
    resolution = standard_error(
        statistics.median(g.sample(ERROR).mean for g in groups if g.key[0] in spread), groups[0]
    )
    return [
        f"Runs of equal settings differ in nothing but their seed, which draws the initial weights, the order of the "
        f"examples and the dropout masks. By that alone their final validation errors deviate by "
        f"{100 * statistics.median(spread.values()):.2f} percentage points (median over {count(len(spread), 'rate')}), "
        f"most at rate {short(largest)}: {100 * spread[largest]:.2f} points. Which of the three it is they can't tell, "
        f"for each seed draws all of them. Besides, the {validation_images(groups[0]):,} validation images, the same "
        f"for all, leave an error uncertain by {100 * resolution:.2f} points."
    ]


def validation_images(group: Group) -> int:
    """How many images an error was measured on."""
    return VALIDATION_IMAGES.get(str(group.trials[0].settings.get("data")), VALIDATION_IMAGES["small"])


def standard_error(error: float, group: Group) -> float:
    """Of an error measured on so many images: that of a binomial share."""
    return math.sqrt(max(error * (1 - error), 0.0) / validation_images(group))


# ---------------------------------------------------------------- 2


def batch_size(search: Search) -> Findings:
    """Scenario 2: the best learning rate for each batch size, and what a batch size costs."""
    names = ("batch_size", "learning_rate")
    groups = groups_of(search, *names)
    found = Findings()
    if len(groups) < 2:
        return Findings([f"How batch size and learning rate depend on each other: {NOT_ENOUGH}."])
    sizes = {size: list(members) for size, members in itertools.groupby(groups, key=lambda group: group.key[0])}
    found.answers += [*say_best_rates(sizes), say_dependence(sizes), *say_times(sizes)]
    curves, styles = look_of_pairs(groups, names)
    for name, panel, caption in (
        ("over-epochs", Panel(LOSS), "Training loss over epochs"),
        ("over-time", Panel(LOSS, "seconds", log_x=True), "Training loss over training time, both axes logarithmic"),
    ):
        text = f"{caption}, by batch size (line style) and learning rate (colour); {RUNS_AND_MEDIAN}."
        found.pictures.append(
            Picture(name, text, lambda panel=panel: plots.draw_groups(curves, styles, [panel], "batch size, rate"))  # type: ignore[misc]
        )
    lines = {short(size): [(g.key[1], g.sample_of_all(LOSS)) for g in members] for size, members in sizes.items()}
    shades = {short(size): Look(plots.INK, plots.STYLES[k % 4]) for k, size in enumerate(sizes)}
    caption = f"Final training loss over the learning rate, a line a batch size; {BARS}."
    found.pictures.append(
        Picture(
            "rates", caption, lambda: plots.draw_points(lines, shades, "learning_rate", LOSS, "batch size", "final")
        )
    )
    found.tables.append(summary_table(groups, names))
    return found


def say_best_rates(sizes: Mapping[Any, Sequence[Group]]) -> list[str]:
    """`Best learning rate for batch size 20: 0.1 (training loss 0.031 ± 0.002 (3 runs)); …`"""
    answers = []
    for size, members in sizes.items():
        best, *others = by_loss(members)
        sample = best.sample(LOSS)
        if not sample.values or not others:
            answers.append(f"Best learning rate for batch size {short(size)}: {NOT_ENOUGH}.")
            continue
        second = others[0].sample(LOSS)
        next_best = f"next {short(others[0].key[1])} with {second.show(LOSS)}, {verdict(sample, second)}"
        if others[0].collapsed:
            next_best = f"the others collapsed in {sum(o.collapsed for o in others)} of their runs"
        answers.append(
            f"Best learning rate for batch size {short(size)}: {short(best.key[1])} "
            f"(training loss {sample.show(LOSS)}; {next_best})."
        )
    return answers


def say_dependence(sizes: Mapping[Any, Sequence[Group]]) -> str:
    """How the best rate moves with the batch size."""
    ordered = {size: by_loss(members) for size, members in sizes.items()}
    best = {size: groups[0].key[1] for size, groups in ordered.items() if groups[0].sample(LOSS).values}
    values = list(best.values())
    if len(values) < 2:
        return f"How the best rate depends on the batch size: {NOT_ENOUGH}."
    path = listed(f"{short(rate)} at {short(size)}" for size, rate in best.items())
    strict = len(set(values)) == len(values)
    if len(set(values)) == 1:
        trend = "it is the same for all batch sizes tried"
    elif values == sorted(values):
        trend = "the larger the batch, the larger the best rate" if strict else "it never falls as the batch grows"
    elif values == sorted(values, reverse=True):
        trend = "the larger the batch, the smaller the best rate" if strict else "it never rises as the batch grows"
    else:
        trend = "it does not move in one direction"
    unsure = [size for size in best if not _is_decided(ordered[size])]
    noise = f"; not more than chance decides it for {listed(map(short, unsure))}" if unsure else ""
    edges = [size for size, rate in best.items() if rate in (_rates(sizes)[0], _rates(sizes)[-1])]
    edge = f"; for {listed(map(short, edges))} it lies at the edge of the rates tried, so a better one may lie beyond"
    return f"The best rate over batch sizes: {path}: {trend}{noise}{edge if edges else ''}."


def _is_decided(ordered: Sequence[Group]) -> bool:
    """Is the first of these ahead of the second by more than chance, or the only one that did not collapse?"""
    if len(ordered) < 2 or ordered[1].collapsed:
        return True
    chance = chance_of_difference(ordered[0].sample(LOSS), ordered[1].sample(LOSS))
    return chance is not None and chance < SIGNIFICANT


def _rates(sizes: Mapping[Any, Sequence[Group]]) -> list[Any]:
    return sorted({group.key[1] for members in sizes.values() for group in members})


def say_times(sizes: Mapping[Any, Sequence[Group]]) -> list[str]:
    """What the same number of epochs costs, and why not in the ratio of the batch sizes."""
    means = {size: Sample.of(group.seconds for group in members) for size, members in sizes.items()}
    seconds = {size: sample.mean for size, sample in means.items() if sample.values and sample.mean > 0}
    trials = [trial for members in sizes.values() for group in members for trial in group.trials]
    epochs = {len(trial.epochs) for trial in trials}
    if len(seconds) < 2 or len(epochs) != 1:
        return [f"Run times for equal epochs: {NOT_ENOUGH}."]
    smallest, largest = min(seconds), max(seconds)
    images = TRAINING.get(str(trials[0].settings.get("data")), TRAINING["small"])
    steps = {size: images // int(size) * max(epochs) for size in seconds}
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


TRAINING = {"small": 5_000, "full": 50_000}


# ---------------------------------------------------------------- 3


def momentum(search: Search) -> Findings:
    """Scenario 3: the best combinations of learning rate and momentum, and where momentum makes training diverge."""
    names = ("momentum", "learning_rate")
    groups = groups_of(search, *names)
    found = Findings()
    if len(groups) < 2:
        return Findings([f"How momentum acts: {NOT_ENOUGH}."])
    found.answers += [*say_order(groups), *say_momentum(groups), *say_effective_rate(groups)]
    curves, styles = look_of_pairs(groups, names)
    caption = f"Training loss over epochs, by momentum (line style) and learning rate (colour); {RUNS_AND_MEDIAN}."
    found.pictures.append(
        Picture("training-loss", caption, lambda: plots.draw_groups(curves, styles, [Panel(LOSS)], "momentum, rate"))
    )
    looks = plots.looks([group.key[1] for group in groups])
    lines = {
        short(rate): [
            (effective_rate(g.trials[0].settings) or math.nan, g.sample_of_all(LOSS))
            for g in groups
            if g.key[1] == rate
        ]
        for rate in looks
    }
    shades = {short(rate): look for rate, look in looks.items()}
    caption = f"Final training loss over the effective rate LR/(1−M), a line a learning rate; {BARS}."
    found.pictures.append(
        Picture(
            "effective-rate",
            caption,
            lambda: plots.draw_points(lines, shades, "effective rate", LOSS, "learning rate", "final"),
        )
    )
    found.tables.append(summary_table(by_loss(groups), names))
    return found


def _effective(group: Group) -> float:
    return float(group.key[1] / (1 - group.key[0]))


def _combination(group: Group) -> str:
    return f"rate {short(group.key[1])}, momentum {short(group.key[0])} (effective {_effective(group):.3g})"


def say_order(groups: Sequence[Group]) -> list[str]:
    """All combinations, the best first, and which neighbours can't be told apart."""
    ordered = by_loss(groups)
    each = [
        f"{k}. {_combination(group)}: " + (f"collapsed in {group.collapsed} of {count(len(group.trials), 'run')}"
        if group.collapsed else group.sample(LOSS).show(LOSS))
        for k, group in enumerate(ordered, start=1)
    ]  # fmt: skip
    best, second = (group.sample(LOSS) for group in ordered[:2])
    if not second.values:
        return [f"Best combination of learning rate and momentum: {NOT_ENOUGH}; fewer than two trained."]
    answers = [
        f"Best combination: {_combination(ordered[0])}, with a final training loss of {best.show(LOSS)}; next is "
        f"{_combination(ordered[1])} with {second.show(LOSS)}: {verdict(best, second)}.",
        f"Combinations by their final training loss, the best first: {'; '.join(each)}.",
    ]
    trained = [group for group in ordered if not group.collapsed]
    chances = [chance_of_difference(a.sample(LOSS), b.sample(LOSS)) for a, b in itertools.pairwise(trained)]
    if not chances or None in chances:
        return [*answers, "Whether neighbours in this order differ by more than chance, so few runs can't tell."]
    equal = [
        f"{k} and {k + 1}" for k, chance in enumerate(chances, start=1) if chance is not None and chance >= SIGNIFICANT
    ]
    text = f"neighbours within noise: {listed(equal)}" if equal else "every neighbour in it differs by more than chance"
    return [*answers, f"Of this order, {text} (Welch's t-test at {SIGNIFICANT:g})."]


def say_momentum(groups: Sequence[Group]) -> list[str]:
    """For each learning rate: does momentum help, and does it diverge?"""
    answers = []
    for rate in sorted({group.key[1] for group in groups}):
        members = sorted((g for g in groups if g.key[1] == rate), key=lambda g: g.key[0])
        plain, others = members[0], members[1:]
        if plain.key[0] != 0 or not others or not plain.sample(LOSS).values:
            answers.append(f"What momentum does at learning rate {short(rate)}: {NOT_ENOUGH}.")
            continue
        best = by_loss(others)[0]
        a, b = plain.sample(LOSS), best.sample(LOSS)
        text = f"At learning rate {short(rate)} the training loss is {a.show(LOSS)} without momentum"
        if best.collapsed == len(best.trials) or not b.values:
            text += "; with any momentum tried, training collapses"
        else:
            helps = "momentum helps" if b.mean < a.mean else "momentum does not help"
            text += f" and at best {b.show(LOSS)} with it, at {short(best.key[0])}: {helps}, {verdict(a, b)}"
        worse = [f"{short(g.key[0])} ({g.sample(LOSS).show(LOSS)})" for g in others if rises(g)]
        text += f"; the loss rises again in training at momentum {listed(worse)}" if worse else ""
        broken = [f"{short(g.key[0])} ({g.collapsed} of {count(len(g.trials), 'run')})" for g in others if g.collapsed]
        text += f"; training diverges or collapses at momentum {listed(broken)}" if broken else ""
        answers.append(text + ".")
    return answers


def rises(group: Group) -> bool:
    """Does the median of the runs end at more than 1.5 times the lowest loss that it has had?"""
    losses = plots.median_curve(group.trials, Panel(LOSS))[1]
    return not group.collapsed and bool(losses) and losses[-1] > 1.5 * min(losses)


def say_effective_rate(groups: Sequence[Group]) -> list[str]:
    """How far LR/(1−M) alone explains the order."""
    from scipy.stats import spearmanr

    trained = [group for group in groups if not group.collapsed and group.sample(LOSS).values]
    if len(trained) < 4:
        return [f"The effective rate LR/(1−M): {NOT_ENOUGH}."]
    rates = [_effective(group) for group in trained]
    losses = [group.sample(LOSS).mean for group in trained]
    best = rates[losses.index(min(losses))]
    below = [(rate, loss) for rate, loss in zip(rates, losses, strict=True) if rate <= best]
    text = f"The final training loss is lowest at an effective rate LR/(1−M) of {best:.3g}"
    if len(below) > 2:
        text += f"; up to there the two have a rank correlation of {spearmanr(*zip(*below, strict=True)).statistic:.2f}"
    beyond = [
        f"{'collapsed' if group.collapsed else show(group.sample(LOSS).mean, LOSS)} at {rate:.3g}"
        for rate, group in sorted(((_effective(group), group) for group in groups), key=lambda pair: pair[0])
        if rate > best
    ]
    text += f"; beyond it: {', '.join(beyond)}" if beyond else ""
    answers = [f"{text}."]
    pairs = [
        (a, b)
        for (x, a), (y, b) in itertools.combinations(zip(rates, trained, strict=True), 2)
        if abs(math.log(x / y)) < 0.01
    ]
    for a, b in pairs:
        answers.append(
            f"Equal effective rate: {_combination(a)} ends at {a.sample(LOSS).show(LOSS)}, {_combination(b)} at "
            f"{b.sample(LOSS).show(LOSS)}: {verdict(a.sample(LOSS), b.sample(LOSS))}."
        )
    return answers


# ---------------------------------------------------------------- 4


def filters(search: Search) -> Findings:
    """Scenario 4: how many filters, for a number of epochs and for a time."""
    groups = groups_of(search, "filters")
    found = Findings()
    if len(groups) < 2:
        return Findings([f"How many filters to choose: {NOT_ENOUGH}."])
    total = sum(group.seconds for group in groups if math.isfinite(group.seconds))
    budgets = {
        f"{epochs_of(search)} epochs": math.inf,
        f"{SHORT_BUDGET:g} seconds": SHORT_BUDGET,
        f"{duration(total / len(groups))}, an equal share of the {duration(total)} that all took": total / len(groups),
    }
    found.answers += [say_budget(groups, name, seconds) for name, seconds in budgets.items()]
    found.answers.append(say_cost(groups))
    labels = labelled(groups)
    styles = dict(zip(labels, plots.looks([group.key[0] for group in groups]).values(), strict=True))
    curves = {label: group.trials for label, group in labels.items()}
    for name, panel, caption in (
        ("training-loss", Panel(LOSS), "Training loss over epochs"),
        ("training-loss-over-time", Panel(LOSS, "seconds", log_x=True), "Training loss over training time"),
        ("validation-error-over-time", Panel(ERROR, "seconds", log_x=True), "Validation error over training time"),
    ):
        text = f"{caption}, by the number of filters."
        found.pictures.append(
            Picture(name, text, lambda panel=panel: plots.draw_groups(curves, styles, [panel], "filters"))  # type: ignore[misc]
        )
    lines = {
        name.split(",")[0]: [(g.key[0], Sample.of(best_within(t, seconds) for t in g.trials)) for g in groups]
        for name, seconds in budgets.items()
    }
    shades = {name: Look(plots.KINDS[k], plots.STYLES[k]) for k, name in enumerate(lines)}
    caption = "Best validation error within a budget, over the number of filters; no point: not one epoch in that time."
    found.pictures.append(
        Picture("budgets", caption, lambda: plots.draw_points(lines, shades, "filters", ERROR, "budget", "best"))
    )
    found.tables.append(summary_table(groups, ["filters"]))
    return found


def best_within(trial: Trial, seconds: float) -> float | None:
    """The lowest validation error of the epochs that ended within so many seconds of training."""
    values = [plots.measure_of(e, ERROR) for e in trial.epochs if (finite(e.get("seconds")) or math.inf) <= seconds]
    return min((value for value in values if value is not None), default=None)


def say_budget(groups: Sequence[Group], name: str, seconds: float) -> str:
    """The number of filters to choose for a budget, and which others are as good for all we can tell."""
    found = {g.key[0]: s for g in groups if (s := Sample.of(best_within(t, seconds) for t in g.trials)).values}
    if len(found) < 2:
        return f"Filters for {name}: {NOT_ENOUGH}; {count(len(found), 'network')} ended an epoch in that time."
    best = min(found, key=lambda number: found[number].mean)
    error = standard_error(found[best].mean, groups[0])
    equal = [n for n, s in found.items() if s.mean - found[best].mean < 2 * error and n != best]
    late = [g.key[0] for g in groups if g.key[0] not in found]
    text = f"Filters for {name}: {short(best)}, with a validation error of {found[best].show(ERROR)}"
    text += f"; within two standard errors of that ({100 * 2 * error:.2f} points, of {validation_images(groups[0]):,} "
    text += f"images): {listed(map(short, equal)) if equal else 'no other'}"
    return text + (f"; {listed(map(short, late))} did not end one epoch" if late else "") + "."


def say_cost(groups: Sequence[Group]) -> str:
    """What more filters cost and gain."""
    few, many = groups[0], groups[-1]
    if not (0 < few.seconds < math.inf and 0 < many.seconds < math.inf):
        return f"What filters cost: {NOT_ENOUGH}."
    losses = [show(group.sample(LOSS).mean, LOSS) for group in (many, few)]
    return (
        f"The network with filters {short(many.key[0])} takes {duration(many.seconds)}, that with "
        f"{short(few.key[0])} {duration(few.seconds)}: {many.seconds / few.seconds:.3g} times as long; the training "
        f"loss ends at {listed(losses)}."
    )


# ---------------------------------------------------------------- 5


def random_search(search: Search) -> Findings:
    """Scenario 5: the best configurations, how long a search has to be, and which hyperparameters matter."""
    importance, study = measure_importance(search), search.study
    values = [value for _, value in plots.scored(search)]
    searches = simulate(values, search) if len(values) >= FEWEST_SIMULATED else []
    found = Findings([*findings.say_best(search), say_searches(values, searches, study.metric)])
    found.answers += findings.say_importance(importance)
    found.answers += [*say_collapse(search), *findings.say_course(search)]
    scored = plots.scored(search)
    best = []
    for trial, value in scored[:10]:
        row = {"trial": trial.name.number, words(study.metric): value, "test error": _test_error(trial.result or {})}
        row |= {words(name): trial.settings.get(name) for name in study.space}
        row |= {"effective rate": effective_rate(trial.settings), "seconds": (trial.result or {}).get("seconds")}
        best.append(row)
    if searches:
        caption = (
            f"Best {words(study.metric)} so far over the number of evaluations: {DRAWN} simulated searches (the "
            f"results of this one in another order) and the median of {SIMULATED:,}."
        )
        median = median_of(searches)
        found.pictures.append(
            Picture(
                "simulated-searches",
                caption,
                lambda: plots.draw_simulated_searches(searches[:DRAWN], median, study.metric),
            )
        )
    found.pictures += findings.general_pictures(search, importance)
    if best:
        found.tables.append(Table("The ten best trials.", best))
    return found


def _test_error(result: Mapping[str, Any]) -> float | None:
    accuracy = finite(result.get("test_accuracy"))
    return None if accuracy is None else 1 - accuracy


def simulate(values: Sequence[float], search: Search) -> list[list[float]]:
    """The best so far of searches that meet these results in another order."""
    rng = random.Random(0)
    return [plots.best_so_far(rng.sample(values, len(values)), search.study) for _ in range(SIMULATED)]


def median_of(searches: Sequence[Sequence[float]]) -> list[float]:
    """The median of the searches after each evaluation."""
    return [statistics.median(column) for column in zip(*searches, strict=True)]


def say_searches(values: Sequence[float], searches: Sequence[Sequence[float]], metric: str) -> str:
    """How soon a random search is nearly as good as it gets."""
    if not searches:
        return f"How long a search has to be: {NOT_ENOUGH}."
    median = median_of(searches)
    marks = [n for n in (1, 2, 4, 8, 16, 32, 64, 128) if n < len(median)]
    path = listed(f"{show(median[n - 1], metric)} after {n}" for n in marks)
    return (
        f"The median of {SIMULATED:,} simulated searches reaches {path} evaluations; the best of all is "
        f"{show(values[0], metric)}."
    )


def _span(values: Sequence[float]) -> str:
    low, high = f"{min(values):.3g}", f"{max(values):.3g}"
    return low if low == high else f"{low} to {high}"


def say_collapse(search: Search) -> list[str]:
    """The share that collapsed, and at which effective rates."""
    ended = [trial for trial in search.trials if trial.result is not None]
    collapsed = [trial for trial in ended if has_collapsed(trial)]
    if not ended:
        return []
    text = f"Collapsed: {len(collapsed)} of {count(len(ended), 'trial')} ({100 * len(collapsed) / len(ended):.0f} %)"
    bad, good = (
        [rate for t in trials if (rate := effective_rate(t.settings)) is not None]
        for trials in (collapsed, [t for t in ended if not has_collapsed(t)])
    )
    if bad and good:
        text += f"; effective rates LR/(1−M) of these: {_span(bad)}; of the others: {_span(good)}"
    return [text + "."]


# ---------------------------------------------------------------- 6


def distributed(search: Search, others: Mapping[str, Search]) -> Findings:
    """Scenario 6: one worker and several; who trained what when; that each settings file was evaluated once.

    Args:
        others: by name, the searches that are to be compared, this one among them.
    """
    found = Findings()
    same = {name: other for name, other in others.items() if _same_search(search, other) and _counted(other)}
    if not same:
        return Findings([f"Who trained what when: {NOT_ENOUGH}; no trial has ended."])
    found.answers += [say_once(name, other) for name, other in same.items()]
    crews = {name: Crew(counted) for name, other in same.items() if elapsed(counted := _counted(other)) > 0}
    found.answers += [say_throughput(name, crew) for name, crew in crews.items()]
    found.answers.append(say_gain(list(crews.values())))
    for name, other in sorted(same.items(), key=lambda item: -most_at_once(spans(item[1]))):
        caption = f"Who trained what when in {name}: a line a worker, a bar a trial with its number."
        stem = f"timeline-{len(found.pictures) + 1}"
        found.pictures.append(Picture(stem, caption, lambda other=other: plots.draw_timeline(other)))  # type: ignore[misc]
    if len(crews) > 1:
        courses = {f"{name} ({count(crew.workers, 'worker')})": crew.counted for name, crew in crews.items()}
        caption = "Trials that have ended over time, by one worker and by several."
        found.pictures.append(Picture("throughput", caption, lambda: plots.draw_progress(courses)))
    return found


def _same_search(a: Search, b: Search) -> bool:
    return (a.study.space, a.study.fixed, a.study.seed) == (b.study.space, b.study.fixed, b.study.seed)


def _counted(search: Search) -> list[Span]:
    return [span for span in spans(search) if span.state == "seen"]


def say_once(name: str, search: Search) -> str:
    """Was each settings file evaluated exactly once?"""
    settings = {str(sorted((k, v) for k, v in trial.settings.items() if k != SEED)) for trial in search.trials}
    workers = {span.worker for span in _counted(search)}
    text = (
        f"{name}: {count(len(search.trials), 'settings file')}, {len(settings)} different settings, "
        f"{sum(t.result is not None for t in search.trials)} results by {count(len(workers), 'worker')}"
    )
    if len(settings) == len(search.trials) and not search.lost and not search.surplus:
        return f"{text}: each evaluated exactly once."
    parts = [findings.say_lost(search)] if search.lost else []
    if search.surplus:
        parts.append(f"trial {listed(sorted({t.name.number for t in search.surplus}))} was evaluated more than once")
    if len(settings) < len(search.trials):
        parts.append(f"{len(search.trials) - len(settings)} had settings that another had, too")
    return f"{text}; {listed(parts)}; each is counted once."


@dataclass(frozen=True)
class Crew:
    """The workers of one search, and how much they got done."""

    counted: list[Span]

    @property
    def workers(self) -> int:
        """How many worked at once, at most."""
        return most_at_once(self.counted)

    @property
    def busy(self) -> float:
        """The share of their time, from a worker's first trial to its last, that was spent on trials that count."""
        by_worker = [[s for s in self.counted if s.worker == worker] for worker in {s.worker for s in self.counted}]
        there = sum(map(elapsed, by_worker))
        return sum(s.end - s.start for s in self.counted) / there if there > 0 else 1.0

    @property
    def rate(self) -> float:
        """Trials an hour."""
        return 3600 * len(self.counted) / elapsed(self.counted)


def say_throughput(name: str, crew: Crew) -> str:
    """Trials an hour."""
    return (
        f"Throughput of {name}: {count(len(crew.counted), 'trial')} in {duration(elapsed(crew.counted))} by "
        f"{count(crew.workers, 'worker')} at once, {crew.rate:.3g} an hour; from its first trial "
        f"to its last a worker trained {100 * crew.busy:.1f} % of the time."
    )


def say_gain(crews: Sequence[Crew]) -> str:
    """What several workers gain over fewer, told from the trials that both have trained."""
    if len(crews) < 2:
        return f"One worker against several: {NOT_ENOUGH}; it takes two searches."
    few, many = min(crews, key=lambda crew: crew.workers), max(crews, key=lambda crew: crew.workers)
    times = [{s.number: s.end - s.start for s in crew.counted} for crew in (few, many)]
    common = [number for number in times[0].keys() & times[1].keys() if times[0][number] > 0]
    if few.workers == many.workers or not common:
        return f"One worker against several: {NOT_ENOUGH}; it takes two searches with trials in common."
    slower = statistics.median(times[1][number] / times[0][number] for number in common)
    gain = many.workers * many.busy / (few.workers * few.busy) / slower
    return (
        f"{many.workers} workers against {few.workers}: of the {count(len(common), 'trial')} that both have, one takes "
        f"{slower:.2f} times as long (median); with the shares of time spent training that is {gain:.2f} times the "
        f"throughput."
    )


Question = Callable[[Search], Findings]
NEEDED: dict[str, tuple[str, ...]] = {
    "scenario1": ("learning_rate",),
    "scenario2": ("batch_size", "learning_rate"),
    "scenario3": ("learning_rate", "momentum"),
    "scenario4": ("filters",),
    "scenario5": ("batch_size", "learning_rate", "momentum", "filters"),
    "scenario6": ("batch_size", "learning_rate", "momentum", "filters"),
}
QUESTIONS: dict[str, Question] = {
    "scenario1": learning_rate,
    "scenario2": batch_size,
    "scenario3": momentum,
    "scenario4": filters,
    "scenario5": random_search,
}


def scenario_of(search: Search) -> str | None:
    """Which scenario this is: by its name, and the hyperparameters that it searches; None for another study."""
    needed = NEEDED.get(search.study.name)
    return search.study.name if needed is not None and set(needed) == set(search.study.space) else None


def find(search: Search, others: Mapping[str, Search]) -> Findings:
    """What this scenario, or any other study, is asked for."""
    name = scenario_of(search)
    if name is None:
        return findings.find(search)
    found = distributed(search, others) if name == "scenario6" else QUESTIONS[name](search)
    losses = findings.say_losses(search)
    found.answers += losses[1:] if name == "scenario5" and any(map(has_collapsed, search.trials)) else losses
    if failures := findings.failures_of(search):
        found.tables.append(Table("Failures and lost attempts, with their reasons.", failures))
        if name in ("scenario1", "scenario2", "scenario3", "scenario4"):
            found.pictures.append(findings.timeline_picture(search))
    return found
