"""Scenario 3, momentum: the best combinations with the learning rate, and where momentum makes training diverge."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from analysis.scenarios.common import (
    BARS,
    EFFECTIVE_RATE,
    EVERY_RUN,
    LOSS,
    by_loss,
    final,
    groups_of,
    shown,
    summary_table,
)
from foldertune.reading.figures import draw_points, groups_picture
from foldertune.reading.findings import NOT_ENOUGH, Findings, Picture
from foldertune.reading.results import Group, Results
from foldertune.reading.samples import SIGNIFICANT, chance_of_difference, verdict
from foldertune.reading.words import listed
from foldertune.tables import finite, short
from foldertune.text import counted

NAMES = ("momentum", "learning_rate")


def answer(results: Results) -> Findings:
    """The findings: the order of the combinations, the effect of momentum at each rate, and of the effective rate."""
    groups = groups_of(results, *NAMES)
    if len(groups) < 2:
        return Findings([f"How momentum acts: {NOT_ENOUGH}."])
    answers = [*say_order(groups), *say_momentum(groups), *say_effective_rate(groups)]
    return Findings(answers, pictures_of(groups), [summary_table(by_loss(groups), NAMES)])


def pictures_of(groups: Sequence[Group]) -> list[Picture]:
    """The pictures of the loss over epochs, and of the final loss over the effective rate."""
    study = groups[0].results.study
    lines = {
        rate: [(at, group.sample_of_all(LOSS)) for group, at in by_effective_rate(groups) if group.key[1] == rate]
        for rate in sorted({group.key[1] for group in groups})
    }
    return [
        groups_picture(
            "training-loss",
            f"Training loss over epochs: a panel for each momentum, a colour for each learning rate; {EVERY_RUN}.",
            groups,
            NAMES,
            LOSS,
        ),
        Picture(
            "effective-rate",
            f"Final training loss over the effective rate LR/(1−M), a line a learning rate; {BARS}.",
            lambda: draw_points(lines, study.quantity(EFFECTIVE_RATE), final(study.quantity(LOSS)), "learning rate"),
        ),
    ]


def effective_rate(group: Group) -> float | None:
    """LR/(1−M) of a group's trials, as the study derives it; None if it derives none above 0."""
    rate = finite(group.results.setting(group.trials[0], EFFECTIVE_RATE))
    return rate if rate is not None and rate > 0 else None


def by_effective_rate(groups: Sequence[Group]) -> list[tuple[Group, float]]:
    """The groups that have an effective rate, each with it, lowest first."""
    known = [(group, rate) for group in groups if (rate := effective_rate(group)) is not None]
    return sorted(known, key=lambda pair: pair[1])


def _combination(group: Group) -> str:
    rate = effective_rate(group)
    effective = "" if rate is None else f" (effective {rate:.3g})"
    return f"rate {short(group.key[1])}, momentum {short(group.key[0])}{effective}"


def _collapses(group: Group) -> str:
    return f"{group.collapsed} of {counted(len(group.trials), 'run')}"


def say_order(groups: Sequence[Group]) -> list[str]:
    """Tell all combinations, best first, and the neighbours that can't be told apart."""
    ordered = by_loss(groups)
    each = [
        f"{k}. {_combination(group)}: {f'collapsed in {_collapses(group)}' if group.collapsed else shown(group, LOSS)}"
        for k, group in enumerate(ordered, start=1)
    ]
    best, second = (group.sample(LOSS) for group in ordered[:2])
    chance = chance_of_difference(best, second)
    if not second.values:
        return [f"Best combination of learning rate and momentum: {NOT_ENOUGH}; fewer than two trained."]
    answers = [
        f"Best combination: {_combination(ordered[0])}, with a final training loss of {shown(ordered[0], LOSS)}; next "
        f"is {_combination(ordered[1])} with {shown(ordered[1], LOSS)}: {verdict(chance)}.",
        f"Combinations by their final training loss, the best first: {'; '.join(each)}.",
    ]
    trained = [group for group in ordered if not group.collapsed]
    chances = [chance_of_difference(a.sample(LOSS), b.sample(LOSS)) for a, b in itertools.pairwise(trained)]
    if not chances or None in chances:
        return [*answers, "There are too few runs to tell whether neighbours in this order differ by more than chance."]
    equal = [
        f"{k} and {k + 1}" for k, chance in enumerate(chances, start=1) if chance is not None and chance >= SIGNIFICANT
    ]
    text = f"neighbours within noise: {listed(equal)}" if equal else "every neighbour in it differs by more than chance"
    return [*answers, f"Of this order, {text} (Welch's t-test at {SIGNIFICANT:g})."]


def say_momentum(groups: Sequence[Group]) -> list[str]:
    """Tell, for each learning rate, whether momentum helps and whether it makes training diverge."""
    answers = []
    for rate in sorted({group.key[1] for group in groups}):
        plain, *others = sorted((g for g in groups if g.key[1] == rate), key=lambda group: group.key[0])
        if plain.key[0] != 0 or not others or not plain.sample(LOSS).values:
            answers.append(f"What momentum does at learning rate {short(rate)}: {NOT_ENOUGH}.")
            continue
        best = by_loss(others)[0]
        a, b = plain.sample(LOSS), best.sample(LOSS)
        chance = chance_of_difference(a, b)
        text = f"At learning rate {short(rate)} the training loss is {shown(plain, LOSS)} without momentum"
        if best.collapsed == len(best.trials) or not b.values:
            text += "; with any momentum tried, training collapses"
        else:
            helps = "momentum helps" if b.mean < a.mean else "momentum does not help"
            text += f" and at best {shown(best, LOSS)} with it, at {short(best.key[0])}: {helps}, {verdict(chance)}"
        worse = [f"{short(group.key[0])} ({shown(group, LOSS)})" for group in others if rises(group)]
        text += f"; the loss rises again in training at momentum {listed(worse)}" if worse else ""
        broken = [f"{short(group.key[0])} ({_collapses(group)})" for group in others if group.collapsed]
        text += f"; training diverges or collapses at momentum {listed(broken)}" if broken else ""
        answers.append(text + ".")
    return answers


def rises(group: Group) -> bool:
    """Does the median of the runs end at more than 1.5 times its lowest loss?"""
    losses = group.runs(LOSS).median.ys
    return not group.collapsed and bool(losses) and losses[-1] > 1.5 * min(losses)


def say_effective_rate(groups: Sequence[Group]) -> list[str]:
    """Tell how far LR/(1−M) alone explains the order."""
    rated = by_effective_rate(groups)
    trained = [(group, rate) for group, rate in rated if not group.collapsed and group.sample(LOSS).values]
    if len(trained) < 4:
        return [f"The effective rate LR/(1−M): {NOT_ENOUGH}."]
    losses = [group.sample(LOSS).mean for group, _ in trained]
    best = trained[losses.index(min(losses))][1]
    correlation = rank_correlation(
        [(rate, loss) for (_, rate), loss in zip(trained, losses, strict=True) if rate <= best]
    )
    beyond = [(group, rate) for group, rate in rated if rate > best]
    text = f"The final training loss is lowest at an effective rate LR/(1−M) of {best:.3g}"
    if correlation is not None:
        text += f"; up to there the two have a rank correlation of {correlation:.2f}"
    if beyond:
        quantity = groups[0].results.study.quantity(LOSS)
        ends = ["collapsed" if group.collapsed else quantity.show(group.sample(LOSS).mean) for group, _ in beyond]
        text += f"; beyond it: {', '.join(f'{end} at {rate:.3g}' for end, (_, rate) in zip(ends, beyond, strict=True))}"
    return [f"{text}.", *say_equal_rates(trained)]


def rank_correlation(pairs: Sequence[tuple[float, float]]) -> float | None:
    """Spearman's rank correlation; None for fewer than three pairs."""
    if len(pairs) < 3:
        return None
    from scipy.stats import spearmanr

    return float(spearmanr(*zip(*pairs, strict=True)).statistic)


def say_equal_rates(trained: Sequence[tuple[Group, float]]) -> list[str]:
    """Tell whether combinations with equal effective rates end equally."""
    answers = []
    for (a, one), (b, other) in itertools.combinations(trained, 2):
        if abs(math.log(one / other)) < 0.01:
            chance = chance_of_difference(a.sample(LOSS), b.sample(LOSS))
            answers.append(
                f"Equal effective rate: {_combination(a)} ends at {shown(a, LOSS)}, {_combination(b)} at "
                f"{shown(b, LOSS)}: {verdict(chance)}."
            )
    return answers
