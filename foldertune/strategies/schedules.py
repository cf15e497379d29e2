"""Schedules: train many settings for a short time, and go on with the best of them. rungs.py has what all share."""

from __future__ import annotations

import itertools
import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence

from foldertune.protocol import Proposal, Trial
from foldertune.strategies.interface import Answer, History
from foldertune.strategies.plain import RandomSearch
from foldertune.strategies.rungs import (
    Schedule,
    all_of,
    by_rung,
    epochs_per_setting,
    is_chosen_by_model,
    parents,
    steps,
)
from foldertune.study import Study

BRACKET = "bracket"  # in a proposal's `why`: the number of the bracket to which the trial belongs
REST = "rest"  # in a proposal's `why`: it has what is left of the budget


class AshaSchedule(Schedule):
    """Promotes a trial as soon as it is among the best of its rung (ASHA; Li et al., MLSys 2020).

    It never waits, unless the study has a budget of epochs: then the lower rungs leave to the higher ones what they
    need. Many workers would spend all of it on short trainings before the first promotions end.
    """

    def propose(self, number: int, history: History) -> Proposal | Answer:
        """The promotion to the highest rung that is possible; if there is none, new settings."""
        affordable = self._affordable(history)
        if promotion := self._promotion(history, affordable):
            return promotion
        if affordable[0]:
            answer = self.begin(number, history, 0, {})
            if answer is Answer.EXHAUSTED and not by_rung(self, history)[len(self.rungs) - 1]:  # none is whole
                return self._rest(history) or answer
            return answer
        if any(each is None or self._may_go_on(each) for each in history.open.values()):
            return Answer.WAIT
        return self._rest(history) or self.begin(number, history, 0, {REST: True})

    def compared(self, trials: Sequence[Trial]) -> Iterator[Sequence[Trial]]:
        """Those whose settings were drawn at random, and those that a model has chosen, each among themselves.

        So a model that is mistaken can't crowd out the others: at worst the search does half of its work at random.
        """
        for by_model in (False, True):
            yield [trial for trial in trials if is_chosen_by_model(trial) == by_model]

    def _promotion(self, history: History, affordable: list[bool]) -> Proposal | None:
        """The promotion to the highest rung that is possible, if one of so many goes on from each rung."""
        promoted, results = parents(history), by_rung(self, history)
        for rung in reversed(range(len(self.rungs) - 1)):
            groups = self.compared(results[rung]) if affordable[rung + 1] else ()
            for group in sorted(groups, key=lambda group: sum(trial.name.number in promoted for trial in group)):
                most = int(len(group) / self.factors[rung])
                if promotion := self.promote_best(self.ranked(group), most, promoted, {}):
                    return promotion
        return None

    def _rest(self, history: History) -> Proposal | None:
        """The promotion of the best trial of the highest rung that is possible: what is left is for the best.

        Nothing waits for the result of what begins now.
        """
        promoted, results = parents(history), by_rung(self, history)
        for rung in reversed(range(len(self.rungs) - 1)):
            ranked = self.ranked(results[rung])
            if promotion := self.promote_best(ranked, len(ranked), promoted, {REST: True}):
                return promotion
        return None

    def _may_go_on(self, trial: Proposal) -> bool:
        """Is the result of this trial to be waited for, because it may be among the best of its rung?"""
        rung = self.rung_of(trial)
        return rung is not None and rung < len(self.rungs) - 1 and REST not in trial.why

    def _affordable(self, history: History) -> list[bool]:
        """May one more trial begin at each rung, by the budget?

        If one of so many goes on from each rung to the next, each rung takes a certain share of all epochs. This one
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
        plan = epochs_per_setting(self.rungs, self.factors)
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
    def factors(self) -> list[float]:
        """So many trials at the lowest fidelity cost as much as one that goes on to the highest."""
        return [max(2, math.ceil(self.rungs[-1] / self.rungs[0]))]


class ScreeningSchedule(AshaSchedule):
    """ASHA in which most trials end at the lowest rung: one of `factor`² goes on from there.

    Later fewer are left behind, so that as many come to the highest rung as in ASHA. A setting takes fewer epochs, so
    more settings are tried.
    """

    @property
    def factors(self) -> list[float]:
        """All together as in ASHA."""
        factor, later = self.fidelity.factor, len(self.rungs) - 2  # the steps after the first
        return [factor**2, *[factor ** ((later - 1) / later)] * later] if later > 0 else super().factors


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

    def left_behind(self, results: Mapping[int | None, list[Trial]], rung: int, promoted: set[int]) -> list[Trial]:
        """Only those of whose bracket and rung others have gone on: in the others nothing is decided yet."""
        trials = itertools.chain.from_iterable(results.values())
        decided = {(each.why.get(BRACKET), self.rung_of(each)) for each in trials if each.name.number in promoted}
        behind = super().left_behind(results, rung, promoted)
        return [trial for trial in behind if (trial.why.get(BRACKET), self.rung_of(trial)) in decided]

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
        epochs = [
            size * epochs_per_setting(self.rungs[start:], self.factors[start:])[-1] for start, size in sizes.items()
        ]
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
            if promotion := self.promote_best(done, size, promoted, {BRACKET: bracket}):
                return promotion
            size = min(size, sum(map(self.has_value, done[:size])))
        return None


class HalvingSchedule(HyperbandSchedule):
    """Successive halving (Jamieson and Talwalkar, AISTATS 2016): Hyperband's bracket that begins at the lowest rung."""

    def start_of(self, bracket: int) -> int:
        """The lowest rung."""
        return 0


SCHEDULES: dict[str, type[Schedule]] = {
    "screening": ScreeningSchedule,
    "asha": AshaSchedule,
    "one-epoch": OneEpochSchedule,
    "halving": HalvingSchedule,
    "hyperband": HyperbandSchedule,
}


def schedule_of(study: Study) -> Schedule:
    """The study's schedule, which must be there, to be asked for its rungs: with random settings inside."""
    assert study.fidelity
    return SCHEDULES[study.fidelity.schedule](study, RandomSearch(study))
