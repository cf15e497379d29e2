"""What a study has spent of its budget, and whether that ends it. The trials' files tell everything that is needed.

So a master that is killed and started again decides as before, and readers know what it decides. Confirmations come
after the search, and nothing of a budget is theirs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from foldertune.confirm import confirmed_by
from foldertune.protocol import Proposal, Trial, parse_time
from foldertune.stopping import is_cut_short
from foldertune.study import Study
from foldertune.text import counted

HOUR = 3600.0
PAUSE = 10.0  # seconds; while nobody trains for longer, the study is not at work
USED_UP = "the search is exhausted: nothing is left to try"  # why a study ends whose strategy proposes no more
Spans = list[tuple[float, float]]


def cost(study: Study, proposal: Proposal) -> float:
    """What a trial adds to the epochs: its fidelity, less that of the trial whose training it goes on with."""
    if study.fidelity is None or confirmed_by(proposal.why) is not None:
        return 0.0
    return study.fidelity.trained(proposal.settings, proposal.parent.settings if proposal.parent else {})


def searched(trials: Iterable[Trial]) -> Iterator[Trial]:
    """The trials that are part of the search: those that confirm no other one."""
    return (trial for trial in trials if confirmed_by(trial.why) is None)


def spent(study: Study, trials: Iterable[Trial]) -> float:
    """The epochs of these trials."""
    return sum(cost(study, trial.proposal) for trial in trials)


def spans_at_work(trials: Iterable[Trial]) -> Spans:
    """The times at which workers trained the trials of the search among these, by the clocks of their hosts."""
    times = (
        (parse_time(claim.get("time")), parse_time(claim.get("until", trial.finished)))
        for trial in searched(trials)
        for claim in (*trial.earlier, trial.claim)
    )
    return joined((start, end) for start, end in times if start is not None and end is not None)


def joined(spans: Iterable[tuple[float, float]]) -> Spans:
    """The same times in order, without overlap, and without short pauses between them."""
    found: Spans = []
    for start, end in sorted(span for span in spans if span[1] > span[0]):
        if found and start <= found[-1][1] + PAUSE:
            found[-1] = found[-1][0], max(found[-1][1], end)
        else:
            found.append((start, end))
    return found


def hours_of(spans: Spans) -> float:
    """The hours of a budget: time at work. While nobody trains, no time counts."""
    return sum(end - start for start, end in spans) / HOUR


def why_over(study: Study, trials: Iterable[Trial], *, is_late: bool = False) -> str:
    """Why no further trial is to begin, whatever it would cost; empty if one may.

    With a schedule only whole trainings count for target and patience, as for the best trial.

    Args:
        trials: the counted ones.
        is_late: are the hours over?
    """
    budget, ended = study.budget, sorted((t for t in searched(trials) if not t.dropped), key=_by_end)
    if any(study.losses(trial.result) for trial in ended):  # else no training will ever be whole
        ended = [trial for trial in ended if study.trains_whole(trial.settings)]
    best: tuple[Trial, float] | None = None
    since = 0  # the number of those that have ended since the best one
    for trial in ended:
        losses = None if is_cut_short(trial.stopped) else study.losses(trial.result)
        value = None if losses is None else (trial.result or {})[study.metric]
        since += 1
        if value is not None and (best is None or study.is_better(value, best[1])):
            best, since = (trial, value), 0
    if best and budget.target is not None and not study.is_better(budget.target, best[1]):
        value, number = best[1], best[0].name.number
        return (
            f"the target is reached: {study.metric} is {value:.6g} in trial {number}, asked for was {budget.target:g}"
        )
    if budget.hours is not None and is_late:
        return f"the time of {budget.hours:g} hours is over"
    if budget.patience is not None and since >= budget.patience:
        better = f"no better {study.metric} than trial {best[0].name.number}" if best else f"no {study.metric}"
        kind = "whole training" if study.is_scheduled and best else "trial"
        return f"{counted(budget.patience, kind)} had {better}"
    return ""


def _by_end(trial: Trial) -> tuple[float, int]:
    return parse_time(trial.finished) or 0.0, trial.name.number
