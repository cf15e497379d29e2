"""What a study's data say: sentences, pictures and tables, for any study at all.

Every sentence is computed from the trials; where they can't answer, it says so.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from foldertune.protocol import Trial
from foldertune.reading import plots
from foldertune.reading.archive import Search
from foldertune.reading.importance import EFFECTIVE_RATE, FEWEST, Importance, effective_rate, measure_importance
from foldertune.reading.samples import Sample, finite, show
from foldertune.reading.timeline import elapsed, most_at_once, spans
from foldertune.tables import short

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NOT_ENOUGH = "not enough data"


@dataclass(frozen=True)
class Picture:
    """A figure, drawn when it is asked for; its name is that of its files."""

    name: str
    caption: str
    draw: Callable[[], Figure]


@dataclass(frozen=True)
class Table:
    """A table of a page: rows by columns."""

    caption: str
    rows: list[dict[str, Any]]


@dataclass
class Findings:
    """The answers, and what shows them."""

    answers: list[str] = field(default_factory=list)
    pictures: list[Picture] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)


# ---------------------------------------------------------------- words


def words(name: str) -> str:
    """The name of a setting or measure in a sentence."""
    return name.replace("_", " ")


def listed(texts: Iterable[Any]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    *most, last = [str(text) for text in texts]
    return f"{', '.join(most)} and {last}" if most else last


def count(number: int, noun: str) -> str:
    """`1 trial`, `2 trials`."""
    return f"{number:,} {noun}{'s' * (number != 1)}"


def duration(seconds: float) -> str:
    """`40 s`, `12.5 min`, `2.4 h`."""
    if seconds < 120:
        return f"{seconds:.3g} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def described(settings: Mapping[str, Any], names: Iterable[str]) -> str:
    """`learning rate 0.1, momentum 0.5`."""
    return ", ".join(f"{words(name)} {short(settings.get(name))}" for name in names)


# ---------------------------------------------------------------- trials


def grouped(trials: Iterable[Trial], names: Sequence[str]) -> dict[tuple[Any, ...], list[Trial]]:
    """The trials by their values of these settings, in the order of the values."""
    groups: dict[tuple[Any, ...], list[Trial]] = {}
    for trial in trials:
        key = tuple(trial.settings.get(name) for name in names)
        if all(isinstance(value, str | int | float) for value in key):  # a file may say anything
            groups.setdefault(key, []).append(trial)
    try:
        return dict(sorted(groups.items()))
    except TypeError:  # numbers among texts
        return groups


def at_end(trial: Trial, measure: str) -> float | None:
    """A measure after the last epoch; None if it was not finite, or there is no epoch."""
    return plots.measure_of(trial.epochs[-1], measure) if trial.epochs else None


def score(trial: Trial, metric: str) -> float | None:
    """The metric of a trial; None if it has no finite one."""
    return finite((trial.result or {}).get(metric))


def has_collapsed(trial: Trial) -> bool:
    """Did training end at chance level, or with a loss that is not finite?"""
    return trial.result is not None and trial.result.get("diverged") is True


def best_settings(search: Search) -> tuple[list[Trial], Sample] | None:
    """The trials of the best settings, the best first, and their metric: its mean where a grid repeats its settings.

    Those of which a run diverged come after those of which none did.
    """
    study, ended = search.study, [trial for trial in search.trials if trial.result is not None]
    groups: Iterable[list[Trial]] = [[trial] for trial in ended]
    if study.repeats > 1:
        groups = grouped([trial for trial in ended if study.contains(trial.settings)], list(study.space)).values()
    sign = 1 if study.direction == "minimize" else -1

    def value(trial: Trial) -> float | None:
        return None if has_collapsed(trial) else score(trial, study.metric)

    def order(trial: Trial) -> float:
        return math.inf if (known := value(trial)) is None else sign * known

    samples = [(sorted(trials, key=order), Sample.of(map(value, trials))) for trials in groups]
    known = [(trials, sample) for trials, sample in samples if sample.values]
    return min(known, key=lambda pair: (pair[1].left_out > 0, sign * pair[1].mean), default=None)


# ---------------------------------------------------------------- any study


def find(search: Search) -> Findings:
    """What any study is asked for."""
    findings = Findings()
    importance = measure_importance(search)
    findings.answers += [*say_best(search), *say_importance(importance), *say_course(search), *say_losses(search)]
    findings.pictures += general_pictures(search, importance)
    if failures := failures_of(search):
        findings.tables.append(Table("Failures and lost attempts, with their reasons.", failures))
    return findings


def say_best(search: Search) -> list[str]:
    """The best settings, and how far ahead they are."""
    study, best = search.study, best_settings(search)
    if best is None:
        return [f"Best settings: {NOT_ENOUGH}; no trial has a {words(study.metric)} yet."]
    (first, *_), sample = best
    where = f" in trial {first.name.number}" if len(sample.values) == 1 else ""
    text = f"Best {words(study.metric)}: {sample.show(study.metric) if not where else show(sample.mean, study.metric)}"
    answers = [f"{text}{where}, with {described(first.settings, study.space)}."]
    scores = [value for _, value in plots.scored(search)]
    if len(scores) >= 5:
        answers.append(
            f"The five best trials lie between {show(scores[0], study.metric)} and {show(scores[4], study.metric)}, "
            f"the median of all {len(scores):,} at {show(statistics.median(scores), study.metric)}."
        )
    return answers


def say_importance(importance: Importance | None) -> list[str]:
    """Which hyperparameters matter, alone and together."""
    if importance is None:
        return [
            f"Which hyperparameters matter: {NOT_ENOUGH} (fewer than {FEWEST} trials of this space, or equal ones)."
        ]
    ordered = sorted(importance.shares.items(), key=lambda item: -item[1])
    text = "One at a time, by their share of the variance of the trials' ranks: "
    answers = [text + ", ".join(f"{words(name)} {100 * share:.0f} %" for name, share in ordered) + "."]
    single = {names: share for names, share in importance.predicted.items() if len(names) == 1}
    searched = {names: share for names, share in single.items() if names != (EFFECTIVE_RATE,)}
    pair, everything = importance.best_pair, max(importance.predicted, key=len)
    together = [importance.predicted[names] for names in importance.predicted if len(names) > 1]
    if pair and max(*searched.values(), *together) <= 0:
        answers.append(
            f"Neither one nor two nor all of them let a forest of trees predict the ranks of trials that it has not "
            f"seen: {importance.trials} trials are too few for that."
        )
    elif pair and len(everything) > 1:
        (alone,), share = max(searched.items(), key=lambda item: item[1])
        answers.append(
            f"Together: a forest of trees that knows only {words(pair[0])} and {words(pair[1])} predicts "
            f"{_share(importance.predicted[pair])} of that variance for trials that it has not seen; with the best "
            f"single hyperparameter, {words(alone)}, {_share(share)}; with all {len(importance.shares)}, "
            f"{_share(importance.predicted[everything])}."
        )
    if (EFFECTIVE_RATE,) in single:
        answers.append(
            f"The effective rate LR/(1−M) alone predicts {_share(single[EFFECTIVE_RATE,])}; learning rate alone "
            f"{_share(single['learning_rate',])}, momentum alone {_share(single['momentum',])}."
        )
    return answers


def _share(value: float) -> str:
    return f"{100 * value:.0f} %" if value > 0 else "nothing"


def say_course(search: Search) -> list[str]:
    """How long it took whom, and when the best was found."""
    study, found = search.study, spans(search)
    if not found or not search.trials:
        return []
    workers, hosts = {s.worker for s in found}, {s.host for s in found}
    seconds = elapsed(found)
    rate = f", {3600 * len(search.trials) / seconds:.3g} trials an hour" if seconds > 0 and search.trials else ""
    at_once = most_at_once(found)
    answers = [
        f"{count(len(search.trials), 'trial')} by {count(len(workers), 'worker')} on {count(len(hosts), 'host')}, "
        f"at most {at_once} at once, in {duration(seconds)}{rate}."
    ]
    ended = sorted((s for s in found if s.state == "seen"), key=lambda s: s.end)
    values = {t.name.number: score(t, study.metric) for t in search.trials}
    numbers = [value for s in ended if (value := values.get(s.number)) is not None]
    if len(numbers) > 1:
        course = plots.best_so_far(numbers, study)
        when = course.index(course[-1]) + 1
        answers.append(f"The best was there when {when:,} of the {len(numbers):,} trials with a value had ended.")
    return answers


def say_losses(search: Search) -> list[str]:
    """What diverged, failed, was lost, or could not be read."""
    failed = sum(trial.result is None for trial in search.trials)
    collapsed = [trial for trial in search.trials if has_collapsed(trial)]
    answers = []
    if collapsed:
        share = 100 * len(collapsed) / len(search.trials)
        many = f"{count(len(collapsed), 'trial')} of {len(search.trials):,}"
        answers.append(f"{many} diverged or stayed at chance level ({share:.0f} %).")
    if failed:
        answers.append(f"{count(failed, 'trial')} failed: no attempt ended with a result; the reasons are below.")
    if search.lost:
        answers.append(f"{say_lost(search)}; see the timeline.")
    if search.surplus:
        numbers = listed(sorted({trial.name.number for trial in search.surplus}))
        answers.append(f"Of trial {numbers} there is another file, which is not counted.")
    if search.complaints:
        answers.append(
            f"{count(len(search.complaints), 'file')} could not be read: {'; '.join(search.complaints[:3])}."
        )
    return answers


def say_lost(search: Search) -> str:
    """`2 attempts were lost and tried again`."""
    return f"{count(len(search.lost), 'attempt')} {'was' if len(search.lost) == 1 else 'were'} lost and tried again"


def failures_of(search: Search) -> list[dict[str, Any]]:
    """A row for each attempt that was lost and each trial that failed."""
    reasons: dict[int, list[str]] = {}
    for trial in (*search.trials, *search.in_hand):
        reasons[trial.name.number] = list(trial.lost)
    rows = []
    for trial in search.lost:
        told = dict(enumerate(reasons.get(trial.name.number, []), start=1)).get(trial.name.attempt)
        reason = trial.error or told or trial.shortcoming(search.study.metric) or "the trial was counted already"
        rows.append(_failure(trial, "lost attempt", reason))
    rows += [_failure(t, "failed", t.error or "") for t in search.trials if t.result is None]
    return sorted(rows, key=lambda row: (row["trial"], row["attempt"]))


def _failure(trial: Trial, what: str, reason: str) -> dict[str, Any]:
    epochs = trial.epochs[-1]["epoch"] if trial.epochs else 0
    worker = trial.claim.get("claimed")
    return {"trial": trial.name.number, "attempt": trial.name.attempt, "what": what, "worker": worker,
            "epochs": epochs, "reason": reason}  # fmt: skip


def general_pictures(search: Search, importance: Importance | None) -> list[Picture]:
    """The pictures that the data allow, the most telling first."""
    study, scored = search.study, plots.scored(search)
    begun = [trial for trial in (*search.trials, *search.in_hand) if trial.epochs]
    names = [name for name in study.space if len({short(t.settings.get(name)) for t, _ in scored}) > 1]
    pictures = []
    if plots.measures(begun):
        best = min(len(scored), plots.HIGHLIGHTED)
        caption = f"Learning curves of {count(len(begun), 'trial')}; the best {best} in colour{_drawn(begun)}."
        pictures.append(Picture("learning-curves", caption, lambda: plots.draw_learning_curves(study, begun)))
    if len(scored) > 1 and spans(search):
        caption = f"The best {words(study.metric)} so far, over trials and over time."
        pictures.append(Picture("best-so-far", caption, lambda: plots.draw_best_so_far(search)))
    if len(scored) > 1 and names:
        rates = [effective_rate(t.settings) for t, _ in scored]
        both = {"learning_rate", "momentum"} <= set(names) and None not in rates
        chosen = [*names, EFFECTIVE_RATE] if both else names
        caption = (
            f"Each hyperparameter against {words(study.metric)}; the best {plots.HIGHLIGHTED} trials in the colours of "
            f"their curves."
        )
        pictures.append(Picture("hyperparameters", caption, lambda: plots.draw_hyperparameters(search, chosen[:12])))
        caption = (
            f"A line a trial through its settings to its {words(study.metric)}; the better, the darker{_drawn(scored)}."
        )
        pictures.append(Picture("parallel-coordinates", caption, lambda: plots.draw_parallel_coordinates(search)))
    if importance:
        pictures.append(importance_picture(importance))
    pair = (importance and importance.best_pair) or (tuple(names[:2]) if len(names) > 1 and len(scored) > 2 else None)
    if pair:
        which = "the pair that matters most" if importance else "two of what was searched"
        names_of = f"{words(pair[0]).capitalize()} and {words(pair[1])}"
        caption = f"{names_of}, {which}; colour is {words(study.metric)}{_drawn(scored)}."
        pictures.append(Picture("pair", caption, lambda: plots.draw_pair(search, pair)))  # type: ignore[arg-type]
    if spans(search):
        pictures.append(timeline_picture(search))
    return pictures


def _drawn(lines: Sequence[Any]) -> str:
    return f", of the others {plots.MOST_DRAWN:,} drawn at random" if len(lines) > plots.MOST_DRAWN else ""


def importance_picture(importance: Importance) -> Picture:
    """What matters, one at a time and together."""
    of = "" if importance.trials == importance.of else f", drawn at random from {importance.of:,}"
    caption = (
        f"Importance over {count(importance.trials, 'trial')}{of}, of the ranks of their results. Left: Optuna's "
        f"fANOVA. Right: the share of the variance that a random forest told only these predicts for trials it has "
        f"not seen; orange: with the effective rate, grey: two or more together."
    )
    return Picture("importance", caption, lambda: plots.draw_importance(importance))


def timeline_picture(search: Search) -> Picture:
    """Who trained what when."""
    workers = len({span.worker for span in spans(search)})
    some = f"; {plots.MOST_WORKERS} of {workers} workers, first those that lost an attempt"
    caption = (
        f"Who trained what when: a line a worker, a bar a trial with its number, by the clocks of the workers' hosts"
        f"{some if workers > plots.MOST_WORKERS else ''}."
    )
    return Picture("timeline", caption, lambda: plots.draw_timeline(search))
