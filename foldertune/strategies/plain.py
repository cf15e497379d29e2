"""Grid and random search. They use only the study and the trial's number, and ignore the history.

So the settings of trial 7 are always the same: at any time, after any restart, and with any number of workers.
"""

from __future__ import annotations

import random
from collections.abc import Collection
from dataclasses import replace
from typing import Any

from foldertune.errors import StudyError
from foldertune.protocol import Proposal
from foldertune.strategies.drawing import check_constraints, combinations, draw
from foldertune.strategies.interface import Answer, History
from foldertune.study import SEED, Study


class RandomSearch:
    """Draws each hyperparameter anew, independent of the others (Bergstra and Bengio, JMLR 2012)."""

    is_reproducible: bool = True
    is_adaptive: bool = False

    def __init__(self, study: Study) -> None:
        self.study = study

    @classmethod
    def plan(cls, study: Study, source: str, trials: int | None, repeats: int | None) -> Study:
        """The study with its number of trials. Raises StudyError if the number is missing, or if there are repeats."""
        if study.repeats != 1:
            raise StudyError(
                f"{source}: repeats: belongs to strategy \"grid\"; for more {study.strategy} trials raise 'trials'"
            )
        if repeats is not None:
            raise StudyError(f"--repeats {repeats}: only for a grid, and {source} is not a grid; use --trials for more")
        if not (trials or study.trials or study.budget):
            raise StudyError(f"{source}: trials: is missing; add, for example, trials = 40, or a table [budget]")
        check_constraints(study, source)
        return replace(study, trials=trials or study.trials)

    def settings(self, number: int) -> dict[str, Any]:
        """The settings of a trial: the chosen ones, a seed for its training, and the fixed ones."""
        rng = random.Random(f"{self.study.seed}/{number}")
        seed = rng.randrange(2**31)
        chosen = self.choose(number, rng)
        return {**chosen, SEED: chosen.get(SEED, seed), **self.study.fixed}

    def choose(self, number: int, rng: random.Random) -> dict[str, Any]:
        """The value of each active hyperparameter, drawn from the trial's own random generator."""
        return draw(self.study, rng)

    def propose(self, number: int, history: History) -> Proposal | Answer:
        """The settings of a trial. A random search is never exhausted."""
        return Proposal(self.settings(number))

    def needs(self, history: History) -> Collection[int]:
        """An empty set: no trial resumes from the checkpoint of another."""
        return frozenset()


class GridSearch(RandomSearch):
    """Tries every combination in turn, the last hyperparameter changing fastest, then again for each repeat."""

    is_exhaustive = True

    def __init__(self, study: Study) -> None:
        super().__init__(study)
        self.combinations = combinations(study, study.name)
        self.size = len(self.combinations)

    @classmethod
    def plan(cls, study: Study, source: str, trials: int | None, repeats: int | None) -> Study:
        """The study with its number of trials, by default the whole grid. Raises StudyError if the grid has fewer."""
        size = len(combinations(study, source))
        if study.trials > size * study.repeats:
            raise StudyError(
                f"{source}: trials: must be at most {size * study.repeats} (the grid with its repeats has no more), "
                f"not {study.trials}"
            )
        if repeats is not None:
            study = replace(study, repeats=repeats, trials=0)
        most = study.trials or size * study.repeats
        if trials is not None and trials > most:
            raise StudyError(
                f"--trials {trials}: the grid in {source} has {most} trials, repeats included; "
                f"raise 'repeats' for more, or use --repeats"
            )
        return replace(study, trials=trials or most)

    def choose(self, number: int, rng: random.Random) -> dict[str, Any]:
        """The combination with this number. After the last combination, the first follows again."""
        return dict(self.combinations[number % self.size])

    def propose(self, number: int, history: History) -> Proposal | Answer:
        """The settings of a trial; EXHAUSTED when each combination has had all its repeats."""
        return Answer.EXHAUSTED if number >= self.size * self.study.repeats else Proposal(self.settings(number))
