"""Rungs: what all schedules have in common. They say which trials go on; a strategy chooses the settings.

A rung is a level of the fidelity, such as 1, 3, 9 and 27 epochs. A promotion is a trial of its own with the settings
and the seed of its parent, and a higher fidelity; it goes on with the parent's checkpoint. What has been promoted, and
what may be, is read from the trials: a master that is killed goes on where it was.
"""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from foldertune.protocol import SECONDS, Parent, Proposal, Trial
from foldertune.strategies.drawing import evenly, known_inside
from foldertune.strategies.interface import Answer, History, Strategy
from foldertune.strategies.plain import STRATEGY
from foldertune.study import Study
from foldertune.tables import finite

ENOUGH = 10  # results of a rung to learn from, at least
LEARNT = "learnt"  # in a proposal's `why`: how long the trials had trained from which a model has chosen the settings
BEHIND = 2  # trials left behind that a model is shown for each result: TPE then takes the best third for the good ones


class Schedule:
    """What all schedules have in common.

    Args:
        strategy: chooses the settings of each trial that does not go on with another.
    """

    is_reproducible: bool = False
    is_adaptive: bool = True

    def __init__(self, study: Study, strategy: Strategy) -> None:
        assert study.fidelity is not None and study.fidelity.highest is not None
        self.study, self.strategy, self.fidelity = study, strategy, study.fidelity
        self.rungs, self._known = self.levels(), tuple(known_inside(study))

    def levels(self) -> list[float]:
        """The fidelities at which trials are compared, the highest last."""
        return rungs(self.fidelity.lowest, self.fidelity.highest or 0, self.fidelity.factor)

    @property
    def factors(self) -> list[float]:
        """One of so many trials goes on from each rung but the highest."""
        return [self.fidelity.factor] * (len(self.rungs) - 1)

    @property
    def epochs_of_a_setting(self) -> float:
        """The epochs that each of the settings takes on average, with the promotions of the best."""
        return epochs_per_setting(self.rungs, self.factors)[-1]

    @property
    def settings_to_learn_from(self) -> float:
        """So many settings begin before a model learns from the second rung."""
        return ENOUGH * (self.factors[0] if self.factors else 1)

    def propose(self, number: int, history: History) -> Proposal | Answer:
        """A promotion, or settings that were not tried yet."""
        raise NotImplementedError

    def needs(self, history: History) -> Collection[int]:
        """The trials below the highest rung with which none has gone on, those that are nearest to it first."""
        gone_on = {trial.parent.number for trial in history.counted.values() if trial.parent}
        ranks, results = dict[int, float](), by_rung(self, history)  # below 1: it is among those that go on
        for rung, factor in enumerate(self.factors):
            for trials in self.compared(results[rung]):
                ranked = self.ranked(trials)
                ranks |= {
                    trial.name.number: factor * place / len(ranked)
                    for place, trial in enumerate(ranked)
                    if self.has_value(trial)
                }
        return sorted(ranks.keys() - gone_on, key=lambda number: (ranks[number], number))

    def compared(self, trials: Sequence[Trial]) -> Iterator[Sequence[Trial]]:
        """The trials of a rung, in groups whose members are compared with each other."""
        yield trials

    def left_behind(self, results: Mapping[int | None, list[Trial]], rung: int, promoted: set[int]) -> list[Trial]:
        """The trials that did not come as far as this rung, by number."""
        there = (trial for lower in range(rung) for trial in results[lower])
        behind = (trial for trial in there if trial.name.number not in promoted and not trial.dropped)
        return sorted(behind, key=lambda trial: trial.name.number)

    def rung_of(self, trial: Trial | Proposal) -> int | None:
        """The rung to which a trial was trained; None if a person has queued it with another fidelity."""
        value = trial.settings.get(self.fidelity.setting)
        return self.rungs.index(value) if value in self.rungs else None

    def begin(self, number: int, history: History, rung: int, why: dict[str, Any]) -> Proposal | Answer:
        """A trial with new settings, which the strategy chooses by the results of one rung."""
        learnt, comparable = self._comparable(history)
        answer = self.strategy.propose(number, comparable)
        if not isinstance(answer, Proposal):  # what is open may be promoted
            return Answer.WAIT if answer is Answer.EXHAUSTED and history.open else answer
        settings = {**answer.settings, self.fidelity.setting: self.rungs[rung]}
        learns = {} if learnt is None or "results" not in answer.why else {LEARNT: self.rungs[learnt]}
        return Proposal(settings, why={**answer.why, **learns, "rung": rung, **why})

    def promote(self, trial: Trial, place: int, among: int, why: dict[str, Any]) -> Proposal:
        """The trial that goes on with this one, which has this place (from 1) among so many."""
        name, setting = trial.name, self.fidelity.setting
        rung = (self.rung_of(trial) or 0) + 1
        first = trial.parent.first if trial.parent else name.number
        chosen = {key: trial.why[key] for key in (STRATEGY, LEARNT) if key in trial.why}
        seconds = finite((trial.result or {}).get(SECONDS))
        return Proposal(
            {**trial.settings, setting: self.rungs[rung]},
            Parent(name.number, name.attempt, {setting: trial.settings[setting]}, first, seconds),
            {"rung": rung, "place": place, "among": among, **chosen, **why},
        )

    def promote_best(
        self, ranked: Sequence[Trial], most: int, promoted: Collection[int], why: dict[str, Any]
    ) -> Proposal | None:
        """The promotion of the best of these that has not gone on yet, if it is one of the first `most`."""
        for place, trial in enumerate(ranked[:most], start=1):
            if trial.name.number not in promoted and self.has_value(trial):
                return self.promote(trial, place, len(ranked), why)
        return None

    def has_value(self, trial: Trial) -> bool:
        """May others go on with it? Not if it has failed, or if its training has diverged."""
        return self.study.losses(trial.result) is not None

    def ranked(self, trials: Iterable[Trial]) -> list[Trial]:
        """These trials, the best in the first metric first; those without a value last."""

        def loss(trial: Trial) -> tuple[float, int]:
            losses = self.study.losses(trial.result)
            return math.inf if losses is None else losses[0], trial.name.number

        return sorted(trials, key=loss)

    def _comparable(self, history: History) -> tuple[int | None, History]:
        """A rung, and its results with what has begun without a parent; no rung if none has enough for a model.

        It is the highest with enough results (BOHB; Falkner et al., ICML 2018). A model never learns from the lowest:
        what it chooses by the shortest trainings does well there, and crowds out what is better in the end. Without
        trials that were left behind, it would know bad settings only where the good ones lie, too, and avoid them.
        Another study's whole trainings are results of the highest rung.
        """
        begun = {number: each for number, each in history.open.items() if each and not each.parent}
        results, enough = by_rung(self, history), getattr(self.strategy, "enough", 0)
        least = min(1, len(self.rungs) - 1) if enough else 0
        highest = len(self.rungs) - 1
        known = self._known if enough else ()
        there = [len(results[rung]) for rung in range(len(self.rungs))]
        there[highest] += sum(bool(each.values) for each in known)
        filled = (rung for rung in range(least, len(self.rungs)) if there[rung] >= max(enough, ENOUGH))
        rung = max(filled, default=None if enough else 0)
        if rung is None:
            return None, History({}, begun, others=history.whole)
        counted = {trial.name.number: trial for trial in results[rung]}
        behind = evenly(self.left_behind(results, rung, parents(history)), BEHIND * there[rung])
        known = known if rung == highest else ()
        return rung, History(counted, begun, others=history.whole, behind=behind, known=known)


def rungs(lowest: float, highest: float, factor: int) -> list[float]:
    """The highest fidelity, a factor less of it, and so on down to the lowest: 2 to 20 by 3 gives 2, 7 and 20."""
    steps = int(math.log(highest / lowest) / math.log(factor) + 1e-9)
    values = [highest / factor**k for k in range(steps, -1, -1)]
    if isinstance(lowest, int) and isinstance(highest, int):
        return [max(lowest, round(value)) for value in values]
    return values


def steps(rungs: Sequence[float]) -> list[float]:
    """The epochs from the rung below to each rung."""
    return [high - low for low, high in itertools.pairwise([0.0, *rungs])]


def epochs_per_setting(rungs: Sequence[float], factors: Sequence[float]) -> list[float]:
    """The epochs that all trainings up to each rung take, for each of the settings that begin."""
    came = itertools.accumulate(factors, lambda share, factor: share / factor, initial=1.0)
    return list(itertools.accumulate(step * share for step, share in zip(steps(rungs), came, strict=True)))


def by_rung(schedule: Schedule, history: History) -> dict[int | None, list[Trial]]:
    """The counted trials of each rung; those of no rung under None."""
    found = defaultdict[int | None, list[Trial]](list)
    for trial in history.counted.values():
        found[schedule.rung_of(trial)].append(trial)
    return found


def is_chosen_by_model(trial: Trial) -> bool:
    """Or was it drawn at random, or queued by a person?"""
    return LEARNT in trial.why


def all_of(history: History) -> Iterator[Trial | Proposal]:
    """The trials that have a result, and those that have none yet."""
    yield from history.counted.values()
    yield from (proposal for proposal in history.open.values() if proposal)


def parents(history: History) -> set[int]:
    """The numbers of the trials with which others have gone on, or will."""
    return {each.parent.number for each in all_of(history) if each.parent}
