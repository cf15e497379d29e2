"""Schedules: train many settings for a short time, and go on with the best of them. The strategy chooses the settings.

A rung is a level of the fidelity, such as 1, 3, 9 and 27 epochs. A promotion is a trial of its own with the settings
and the seed of its parent, and a higher fidelity; it goes on with the parent's checkpoint. What has been promoted, and
what may be, is read from the trials: a master that is killed goes on where it was.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any

from foldertune.protocol import Parent, Proposal, Trial
from foldertune.strategies.interface import Answer, History, Strategy
from foldertune.study import Study

BRACKET = "bracket"  # in a proposal's `why`: the number of the bracket to which the trial belongs
REST = "rest"  # in a proposal's `why`: it has what is left of the budget
ENOUGH: float = 1  # results per hyperparameter (and as many more) of a rung to learn from: few, as in BOHB


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
        self.rungs = self.levels()

    def levels(self) -> list[float]:
        """The fidelities at which trials are compared, the highest last."""
        return rungs(self.fidelity.lowest, self.fidelity.highest or 0, self.fidelity.factor)

    @property
    def factor(self) -> int:
        """One of so many trials is promoted."""
        return self.fidelity.factor

    @property
    def epochs_of_a_setting(self) -> float:
        """The epochs that each of the settings takes on average, with the promotions of the best."""
        return epochs_per_setting(self.rungs, self.factor)[-1]

    def propose(self, number: int, history: History) -> Proposal | Answer:
        """A promotion, or settings that were not tried yet."""
        raise NotImplementedError

    def needs(self, history: History) -> Collection[int]:
        """The trials below the highest rung with which no counted trial has gone on, the best of each rung first."""
        gone_on = {trial.parent.number for trial in history.counted.values() if trial.parent}
        shares = dict[int, float]()
        for rung, trials in by_rung(self, history).items():
            if rung is not None and rung < len(self.rungs) - 1:
                ranked = self.ranked(trials)
                shares |= {t.name.number: place / len(ranked) for place, t in enumerate(ranked) if self.has_value(t)}
        return sorted(shares.keys() - gone_on, key=lambda number: (shares[number], number))

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
        learns = {"learnt": self.rungs[learnt]} if "results" in answer.why else {}
        return Proposal(settings, why={**answer.why, **learns, "rung": rung, **why})

    def promote(self, trial: Trial, place: int, among: int, why: dict[str, Any]) -> Proposal:
        """The trial that goes on with this one, which has this place (from 1) among so many."""
        name, setting = trial.name, self.fidelity.setting
        rung = (self.rung_of(trial) or 0) + 1
        first = trial.parent.first if trial.parent else name.number
        return Proposal(
            {**trial.settings, setting: self.rungs[rung]},
            Parent(name.number, name.attempt, {setting: trial.settings[setting]}, first),
            {"rung": rung, "place": place, "among": among, **why},
        )

    def has_value(self, trial: Trial) -> bool:
        """May others go on with it? Not if it has failed, or if its training has diverged."""
        return self.study.losses(trial.result) is not None

    def ranked(self, trials: Iterable[Trial]) -> list[Trial]:
        """These trials, the best in the first metric first; those without a value last."""

        def loss(trial: Trial) -> tuple[float, int]:
            losses = self.study.losses(trial.result)
            return math.inf if losses is None else losses[0], trial.name.number

        return sorted(trials, key=loss)

    def _comparable(self, history: History) -> tuple[int, History]:
        """A rung, and its results with what has begun without a parent.

        It is the highest with enough results (BOHB; Falkner et al., ICML 2018): short trainings mislead a model, too.
        """
        results, enough = by_rung(self, history), ENOUGH * (len(self.study.space) + 1)
        rung = max((rung for rung, trials in results.items() if rung and len(trials) >= enough), default=0)
        begun = {number: each for number, each in history.open.items() if each and not each.parent}
        return rung, History({trial.name.number: trial for trial in results[rung]}, begun, others=history.whole)


class AshaSchedule(Schedule):
    """Promotes a trial as soon as it is among the best of its rung (ASHA; Li et al., MLSys 2020).

    It never waits, unless the study has a budget of epochs: then the lower rungs leave to the higher ones what they
    need. Many workers would spend all of it on short trainings before the first promotions end.
    """

    def propose(self, number: int, history: History) -> Proposal | Answer:
        """The promotion to the highest rung that is possible; if there is none, new settings."""
        affordable = self._affordable(history)
        if promotion := self._promotion(history, affordable, self.factor, {}):
            return promotion
        if affordable[0]:
            return self.begin(number, history, 0, {})
        if any(each is None or self._may_go_on(each) for each in history.open.values()):
            return Answer.WAIT
        rest = {REST: True}  # it is for the best that there are, and what begins now is not waited for
        return self._promotion(history, [True] * len(self.rungs), 1, rest) or self.begin(number, history, 0, rest)

    def _promotion(self, history: History, affordable: list[bool], factor: int, why: dict[str, Any]) -> Proposal | None:
        """The promotion to the highest rung that is possible, if one of so many is promoted."""
        promoted, results = parents(history), by_rung(self, history)
        for rung in reversed(range(len(self.rungs) - 1)):
            done = self.ranked(results[rung]) if affordable[rung + 1] else []
            for place, trial in enumerate(done[: len(done) // factor], start=1):
                if trial.name.number not in promoted and self.has_value(trial):
                    return self.promote(trial, place, len(done), why)
        return None

    def _may_go_on(self, trial: Proposal) -> bool:
        """Is the result of this trial to be waited for, because it may be among the best of its rung?"""
        rung = self.rung_of(trial)
        return rung is not None and rung < len(self.rungs) - 1 and REST not in trial.why

    def _affordable(self, history: History) -> list[bool]:
        """May one more trial begin at each rung, by the budget?

        If one of `factor` goes on from each rung to the next, each rung takes a certain share of all epochs. This one
        and the lower ones together must not have had more than their shares.
        """
        if self.study.budget.epochs is None:
            return [True] * len(self.rungs)
        begun = Counter(self.rung_of(each) for each in all_of(history))
        others = self._not_compared(history)
        budget = self.study.budget.epochs - sum(
            self.fidelity.trained(each.settings, each.parent.settings if each.parent else {}) for each in others
        )
        spent = itertools.accumulate(begun[rung] * step for rung, step in enumerate(steps(self.rungs)))
        plan = epochs_per_setting(self.rungs, self.factor)
        return [had < budget * planned / plan[-1] for had, planned in zip(spent, plan, strict=True)]

    def _not_compared(self, history: History) -> Iterator[Trial | Proposal]:
        """The trials that are on no rung of this search: queued by a person, or from before a change of its space."""
        whole = history.whole
        for number, each in (*whole.counted.items(), *whole.open.items()):
            is_ours = number in history.counted or number in history.open
            if each and not (is_ours and self.rung_of(each) is not None):
                yield each


class OneEpochSchedule(AshaSchedule):
    """The lowest fidelity for all, and the best in full (Egele et al., AutoML 2023): half of the epochs for each."""

    def levels(self) -> list[float]:
        """The lowest and the highest."""
        return [self.fidelity.lowest, self.fidelity.highest or 0]

    @property
    def factor(self) -> int:
        """So many trials at the lowest fidelity cost as much as one that goes on to the highest."""
        return max(2, math.ceil(self.rungs[-1] / self.rungs[0]))


class HyperbandSchedule(Schedule):
    """Synchronous brackets (Li et al., JMLR 2018): few settings that begin at a high rung, or many at a low one.

    When a bracket waits for results, the next one begins, so no worker waits.
    """

    def propose(self, number: int, history: History) -> Proposal | Answer:
        """The next trial of the first bracket that waits for no result."""
        members = defaultdict[int, list[Trial | Proposal]](list)
        for each in all_of(history):
            if isinstance(bracket := each.why.get(BRACKET), int):
                members[bracket].append(each)
        promoted = parents(history)
        for bracket in range(max(members, default=-1) + 2):
            answer = self._next_of(bracket, members[bracket], promoted, number, history)
            if answer is not None:
                return answer
        return Answer.WAIT

    def start_of(self, bracket: int) -> int:
        """The rung at which this bracket begins: each in turn, the lowest first."""
        return bracket % len(self.rungs)

    def size_of(self, bracket: int) -> int:
        """The number of settings in this bracket, so that all cost about the same."""
        steps, highest = len(self.rungs) - 1 - self.start_of(bracket), len(self.rungs)
        lowest_of_all: int = self.fidelity.factor**steps
        return math.ceil(highest * lowest_of_all / (steps + 1))

    @property
    def epochs_of_a_setting(self) -> float:
        """The epochs that each of the settings takes on average, over all brackets."""
        sizes = {self.start_of(bracket): self.size_of(bracket) for bracket in range(len(self.rungs))}
        epochs = [size * epochs_per_setting(self.rungs[start:], self.factor)[-1] for start, size in sizes.items()]
        return sum(epochs) / sum(sizes.values())

    def _next_of(
        self, bracket: int, members: list[Trial | Proposal], promoted: set[int], number: int, history: History
    ) -> Proposal | Answer | None:
        """The next trial of a bracket; None if it waits for results, or is complete."""
        rung, size = self.start_of(bracket), self.size_of(bracket)
        if sum(not each.parent for each in members) < size:
            answer = self.begin(number, history, rung, {BRACKET: bracket})
            if isinstance(answer, Proposal) or not members:
                return answer
            size = sum(not each.parent for each in members)  # the strategy is exhausted: no more will come
        for level in range(rung, len(self.rungs) - 1):
            done = self.ranked(each for each in members if isinstance(each, Trial) and self.rung_of(each) == level)
            if len(done) < size:
                return None
            size = max(size // self.fidelity.factor, 1)
            for place, trial in enumerate(done[:size], start=1):
                if trial.name.number not in promoted and self.has_value(trial):
                    return self.promote(trial, place, len(done), {BRACKET: bracket})
            size = min(size, sum(map(self.has_value, done[:size])))
        return None


class HalvingSchedule(HyperbandSchedule):
    """Successive halving (Jamieson and Talwalkar, AISTATS 2016): Hyperband's bracket that begins at the lowest rung."""

    def start_of(self, bracket: int) -> int:
        """The lowest rung."""
        return 0


SCHEDULES: dict[str, type[Schedule]] = {
    "asha": AshaSchedule,
    "one-epoch": OneEpochSchedule,
    "halving": HalvingSchedule,
    "hyperband": HyperbandSchedule,
}


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


def epochs_per_setting(rungs: Sequence[float], factor: int) -> list[float]:
    """The epochs that all trainings up to each rung take, for each of the settings that begin."""
    return list(itertools.accumulate(step / factor**rung for rung, step in enumerate(steps(rungs))))


def by_rung(schedule: Schedule, history: History) -> dict[int | None, list[Trial]]:
    """The counted trials of each rung; those of no rung under None."""
    found = defaultdict[int | None, list[Trial]](list)
    for trial in history.counted.values():
        found[schedule.rung_of(trial)].append(trial)
    return found


def all_of(history: History) -> Iterator[Trial | Proposal]:
    """The trials that have a result, and those that have none yet."""
    yield from history.counted.values()
    yield from (proposal for proposal in history.open.values() if proposal)


def parents(history: History) -> set[int]:
    """The numbers of the trials with which others have gone on, or will."""
    return {each.parent.number for each in all_of(history) if each.parent}
