"""The search of a study that was changed while it ran: for each trial the strategy and the space of its time.

Trials below the number of the last change are facts in their files. If one of them has to be computed again, the
strategy of that time is asked, so it comes out as it was. That strategy is only there if it needs no results.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from foldertune.changing import before_last_change
from foldertune.protocol import Proposal
from foldertune.space import Categorical, Dimension, values_of
from foldertune.strategies.first import FIRST
from foldertune.strategies.interface import Answer, History, Strategy
from foldertune.strategies.model import RANDOM
from foldertune.study import Study

SCOUTS = 10  # trials that are drawn at random in a wider space: a model stays where its results lie


def is_wider(old: Study, new: Study) -> bool:
    """Has a changed study settings that it had not before?"""
    is_freer = not {*old.constraints} <= {*new.constraints}
    return is_freer or any(_is_wider(old.space.get(name), dimension) for name, dimension in new.space.items())


def _is_wider(old: Dimension | None, new: Dimension) -> bool:
    if old is None or (old.when and old.when != new.when):
        return True
    values = values_of(new)
    if values is None and not isinstance(new, Categorical):
        is_finer = isinstance(old, Categorical) or old.step is not None or type(old) is not type(new)
        return is_finer or not (old.contains(new.low) and old.contains(new.high))
    return not all(old.contains(value) for value in values or ())


def widened(study: Study) -> int | None:
    """The first trial after the last change that made the study's space wider; None if none did."""
    while study.changes:
        old = before_last_change(study)
        if is_wider(old, study):
            return study.changes[-1].trial
        study = old
    return None


class ChangedSearch:
    """Asks the strategy of the time for trials of that time, and the study's present one for all others.

    The present one does not see trials that lie outside of the space as it is now, or have other values of what is
    fixed.

    Args:
        before: the strategy until the last change; None if it looked at results.
        now: the strategy since then.
        scout: what chooses the first trials in a space that became wider; None if `now` does.
        until: the first trial that the scout does not choose any more.
    """

    def __init__(
        self, study: Study, before: Strategy | None, now: Strategy, scout: Strategy | None = None, until: int = 0
    ) -> None:
        self.study, self.before, self.now, self.scout = study, before, now, scout
        self.first = study.changes[-1].trial
        self.until = until
        self.is_adaptive = now.is_adaptive
        self.is_reproducible = now.is_reproducible and before is not None
        self.is_exhaustive: bool = getattr(now, "is_exhaustive", False)
        self._judged: dict[int, tuple[Mapping[str, Any], bool]] = {}  # which trials lie inside, with their settings

    def propose(self, number: int, history: History) -> Proposal | Answer:
        """What the strategy of that number's time proposes."""
        if number < self.first and self.before is not None:
            answer = self.before.propose(number, history)
            if isinstance(answer, Proposal):
                answer = replace(answer, settings=self.study.filled(answer.settings))
            return answer
        inside = self._inside(history)
        if self.scout and self.first <= number < self.until:
            answer = self.scout.propose(number, inside)
            if isinstance(answer, Proposal) and FIRST not in answer.why:
                answer = replace(answer, why={**answer.why, RANDOM: True})
            return answer
        return self.now.propose(number, inside)

    def needs(self, history: History) -> Collection[int]:
        """Those that the present strategy needs."""
        return self.now.needs(self._inside(history))

    def _inside(self, history: History) -> History:
        """The trials that lie in the space as it is now."""
        counted = {
            number: trial for number, trial in history.counted.items() if self._lies_inside(number, trial.settings)
        }
        waiting = {
            number: each
            for number, each in history.open.items()
            if each is None or self._lies_inside(number, each.settings)
        }
        return History(counted, waiting, others=history.whole)

    def _lies_inside(self, number: int, settings: Mapping[str, Any]) -> bool:
        known = self._judged.get(number)
        if known is None or known[0] is not settings:
            known = self._judged[number] = settings, self.study.contains({**self.study.fixed, **settings})
        return known[1]
