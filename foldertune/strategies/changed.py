"""The search of a study that was changed while it ran: for each trial the strategy and the space of its time.

Trials below the number of the last change are facts in their files. If one of them has to be computed again, the
strategy of that time is asked, so it comes out as it was. That strategy is only there if it needs no results.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from foldertune.protocol import Proposal
from foldertune.strategies.interface import Answer, History, Strategy
from foldertune.study import Study


class ChangedSearch:
    """Asks the strategy of the time for trials of that time, and the study's present one for all others.

    The present one does not see trials that lie outside of the space as it is now, or have other values of what is
    fixed.

    Args:
        before: the strategy until the last change; None if it looked at results.
        now: the strategy since then.
    """

    def __init__(self, study: Study, before: Strategy | None, now: Strategy) -> None:
        self.study, self.before, self.now = study, before, now
        self.first = study.changes[-1].trial
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
        return self.now.propose(number, self._inside(history))

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
