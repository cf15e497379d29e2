"""Sentences about the results of any study. They quote facts of `Results`; all they add are counts, shares and orders.

If the trials can't answer a question, the sentence says so.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

from foldertune.protocol import opened, printable, read_tail
from foldertune.reading import figures
from foldertune.reading.content import Findings, Picture, Printed, Table
from foldertune.reading.explain import confirmed_table, rungs_table, say_confirmed, say_rungs
from foldertune.reading.facts import Setback
from foldertune.reading.importance import FEWEST, Importance
from foldertune.reading.results import Results
from foldertune.reading.words import best_first, described, duration, hourly, listed, names_of_metrics, words
from foldertune.stopping import is_cut_short
from foldertune.tables import cell_of
from foldertune.text import amount, counted

__all__ = ["NOT_ENOUGH", "Findings", "Picture", "Table", "find"]

NOT_ENOUGH = "not enough data"
FEW = 5  # the best trials; a sentence tells how close they are
NOISE = 0.05  # by which predicted shares of the variance differ in any case
MOST_COMPLAINTS = 3
LINES_PRINTED, MOST_PRINTED = (
    12,
    4096,
)  # the last lines of what a failed training printed; bytes in which they are sought


def find(results: Results) -> Findings:
    """The answers, pictures and tables for any study."""
    tables = [front_table(results)] if results.front else []
    tables += [confirmed_table(results)] if results.confirmation.ranked else []
    tables += [rungs_table(results)] if results.rungs else []
    tables += [setbacks_table(results)] if results.setbacks else []
    answers = [
        *say_best(results),
        *say_front(results),
        *say_rungs(results),
        *say_importance(results),
        *say_course(results),
        *say_losses(results),
    ]
    return Findings(answers, figures.pictures(results), tables)


# ---------------------------------------------------------------- what is best


def say_best(results: Results) -> list[str]:
    """Tell the best settings, and how far ahead they are."""
    from statistics import median  # takes a tenth of a second

    study, best = results.study, results.best
    quantity = study.quantity(study.metric)
    if best is None:
        return [f"Best settings: {NOT_ENOUGH}; no trial has a {quantity.label} yet."]
    (first, *_), sample = best
    value = sample.show(quantity)
    if len(sample.values) == 1:
        value = f"{quantity.show(sample.mean)} in trial {first.name.number}"
    if results.confirmation.winner:
        value = f"{sample.show(quantity)} for the settings of trial {first.name.number}"
    answers = [f"Best {quantity.label}: {value}, with {described(first.settings, study.space)}."]
    answers += say_confirmed(results)
    scores = [value for trial, value in results.scored if not is_cut_short(trial.stopped)]
    if len(scores) >= FEW and not results.rungs:  # they trained equally long
        all_of_them = (
            f"all {len(scores):,}" if len(scores) == len(results.scored) else f"the {len(scores):,} whole ones"
        )
        answers.append(
            f"The five best trials lie between {quantity.show(scores[0])} and {quantity.show(scores[FEW - 1])}, "
            f"the median of {all_of_them} at {quantity.show(median(scores))}."
        )
    return answers


def say_front(results: Results) -> list[str]:
    """Tell how many settings lie on the Pareto front, if the study has several metrics."""
    if not results.front:
        return []
    lie = "lies" if len(results.on_front) == 1 else "lie"
    return [
        f"{len(results.on_front):,} of {counted(len(results.scored), 'trial')} {lie} on the Pareto front of "
        f"{names_of_metrics(results.study)}: no other is better in one of them and worse in none."
    ]


def front_table(results: Results) -> Table:
    """A table with a row for each point of the Pareto front."""
    study = results.study
    rows = [
        {
            "trial": point.trials[0].name.number,
            **dict(zip(study.metric_names, point.values, strict=True)),
            **{name: cell_of(point.trials[0].settings, name) for name in study.searched},
        }
        for point in results.front
    ]
    caption = f"The Pareto front of {names_of_metrics(study)}, {best_first(study)}."
    return Table(caption, rows, {name: study.quantity(name) for name in (*study.metric_names, *study.searched)})


# ---------------------------------------------------------------- what matters


def say_importance(results: Results) -> list[str]:
    """Tell which hyperparameters matter, alone and together."""
    importance = results.importance
    if importance is None:
        return [
            f"Which hyperparameters matter: {NOT_ENOUGH} (fewer than {FEWEST} trials of this space, or equal ones)."
        ]
    if importance.predicts_nothing:
        return [
            f"Which hyperparameters matter: {NOT_ENOUGH}; {counted(importance.trials, 'trial')} are too few to predict "
            f"the ranks of unseen ones from any hyperparameter, alone or together with others."
        ]
    ordered = sorted(importance.shares.items(), key=lambda item: -item[1])
    shares = ", ".join(f"{words(name)} {100 * share:.0f} %" for name, share in ordered)
    return [
        f"One at a time, by their share of the variance of the {_ranks(results)}: {shares}.",
        *_say_together(importance),
        *_say_derived(results, importance),
    ]


def _ranks(results: Results) -> str:
    """Whose ranks hyperparameters explain: with a schedule, those of the trials of one rung."""
    fidelity = results.study.fidelity
    if not results.rungs or fidelity is None:
        return "trials' ranks"
    return f"ranks of the {len(results.compared):,} trials with {fidelity.setting} {amount(results.compared_level)}"


def _say_together(importance: Importance) -> list[str]:
    """Tell how much better two hyperparameters predict than one, and all of them than two."""
    pair = importance.best_pair
    if pair is None:
        return []
    everything = max(importance.predicted, key=len)
    alone = max(importance.shares, key=lambda name: importance.predicted[name,])
    two, all_of_them = importance.predicted[pair], importance.predicted[everything]
    answers = [
        f"Together: a forest of trees that knows only {words(pair[0])} and {words(pair[1])} predicts {_share(two)} of "
        f"that variance for trials that it has not seen; with the best single hyperparameter, {words(alone)}, "
        f"{_share(importance.predicted[alone,])}; with all {len(importance.shares)}, {_share(all_of_them)}."
    ]
    if len(everything) > 2 and all_of_them < two - NOISE:
        answers.append(
            f"All {len(everything)} predict less than these two: {counted(importance.trials, 'trial')} are too few to "
            f"learn from {len(everything)} hyperparameters at once."
        )
    return answers


def _say_derived(results: Results, importance: Importance) -> list[str]:
    """Tell how much derived quantities predict, and how much the settings in them do."""
    answers = []
    for name, parts in importance.derived.items():
        each = [
            f"{words(part)} alone {_share(importance.predicted[part,])}"
            for part in results.study.space
            if part in parts
        ]
        label, share = results.study.quantity(name).label, _share(importance.predicted[name,])
        answers.append(f"The {label} alone predicts {share}; {', '.join(each)}.")
    return answers


def _share(value: float) -> str:
    return f"{100 * value:.0f} %" if value > 0 else "nothing"


# ---------------------------------------------------------------- how it went


def say_course(results: Results) -> list[str]:
    """Tell the numbers of trials and workers, the time they took, and when the best trial was found."""
    work = results.work
    if not work.spans or not results.trials:
        return []
    rate = "" if results.per_hour is None else f", {hourly(results.per_hour)} trials an hour"
    answers = [
        f"{counted(len(results.trials), 'trial')} by {counted(len(work.workers), 'worker')} on "
        f"{counted(len(work.machines), 'host')}, at most {work.most_at_once} at once, "
        f"in {duration(work.at_work)}{rate}."
    ]
    if results.best_after and len(results.course.values) > 1:
        ended = f"{results.best_after:,} of the {len(results.course.values):,} trials with a value had ended"
        answers.append(f"The best was there when {ended}.")
    return answers


def say_losses(results: Results, *, collapsed: bool = True) -> list[str]:
    """Tell which trials were stopped early, collapsed, failed, were lost, or could not be read.

    Args:
        collapsed: whether to tell the trials that collapsed; other sentences may have done so already.
    """
    answers = []
    if results.stopped:
        answers.append(
            f"{len(results.stopped):,} of {counted(len(results.trials), 'trial')} "
            f"{'was' if len(results.stopped) == 1 else 'were'} stopped early; the last values they reported count, but "
            f"those of trials that were cut short rank after whole trainings."
        )
    if collapsed and results.collapsed:
        share = 100 * len(results.collapsed) / len(results.trials)
        answers.append(
            f"{len(results.collapsed):,} of {counted(len(results.trials), 'trial')} collapsed ({share:.0f} %), by the "
            f"study's rule: {results.study.collapsed}."
        )
    if results.valueless:
        answers.append(
            f"{len(results.valueless):,} of {counted(len(results.trials), 'trial')} ended without a value of "
            f"{names_of_metrics(results.study)}: what is not a number ranks last, and is in no figure"
            f"{' but that of the rungs' * bool(results.rungs)}."
        )
    answers += [f"Trial {trial.name.number} has no rank: {trial.dropped}." for trial in results.dropped]
    if results.failed:
        answers.append(
            f"{counted(len(results.failed), 'trial')} failed: no attempt ended with a result; the reasons are below."
        )
    if results.lost:
        answers.append(f"{say_lost(results)}; see the timeline.")
    if results.surplus:
        answers.append(f"Of trial {listed(results.surplus_numbers)} there is another file, which is not counted.")
    if results.complaints:
        told = "; ".join(results.complaints[:MOST_COMPLAINTS])
        answers.append(f"{counted(len(results.complaints), 'file')} could not be read: {told}.")
    return answers


def say_lost(results: Results) -> str:
    """The number of lost attempts as `2 attempts were lost and tried again`."""
    return f"{counted(len(results.lost), 'attempt')} {'was' if len(results.lost) == 1 else 'were'} lost and tried again"


def setbacks_table(results: Results) -> Table:
    """A table with a row for each lost attempt and each failed trial."""
    any_printed = any(setback.output or setback.traceback for setback in results.setbacks)
    rows = [
        {
            "trial": setback.name.number,
            "attempt": setback.name.attempt,
            "what": "failed" if setback.is_final else "lost attempt",
            "worker": setback.worker,
            "epochs": setback.epochs,
            "reason": setback.reason,
            **({"printed": _printed(setback)} if any_printed else {}),
        }
        for setback in results.setbacks
    ]
    return Table("Failures and lost attempts, with their reasons.", rows)


def _printed(setback: Setback) -> Printed | None:
    """What an attempt printed; of a failed trial the last lines, with its traceback."""
    if not setback.is_final:
        return Printed(setback.output) if setback.output else None
    tail = _end_of(setback.output).decode(errors="replace") if setback.output else ""
    lines = [*tail.splitlines(), *(setback.traceback or "").splitlines()][-LINES_PRINTED:]
    return Printed(setback.output, "\n".join(map(printable, lines))) if lines else None


def _end_of(output: Path) -> bytes:
    """The last bytes of what a training printed; its directory must not be a link."""
    with contextlib.suppress(OSError), opened(output.parent) as inside:
        return read_tail(str(output), MOST_PRINTED, inside)
    return b""
