"""Grid and random search. They use only the study and the trial's number, and ignore the history.

So the settings of trial 7 are always the same: at any time, after any restart, and with any number of workers.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

from foldertune.errors import StudyError
from foldertune.protocol import Proposal
from foldertune.strategies.distinct import Draws, Unused, is_discrete
from foldertune.strategies.drawing import check_constraints, combinations, draw, generator, place_of, places_of
from foldertune.strategies.interface import Answer, History
from foldertune.study import SEED, Study

STRATEGY = "strategy"  # in a proposal's `why`: the name of the strategy that has chosen its settings


class RandomSearch:
    """Draws each hyperparameter anew, independent of the others (Bergstra and Bengio, JMLR 2012).

    In a discrete space the settings of lower numbers are not drawn again, unless the study has repeats.
    """

    is_reproducible: bool = True
    is_adaptive: bool = False

    def __init__(self, study: Study) -> None:
        self.study = study
        self._draws = Draws(study, self.draw) if is_discrete(study) and not study.is_scheduled else None
        self._unused = Unused(study) if is_discrete(study) and self._draws is None else None

    @classmethod
    def plan(cls, study: Study, source: str, trials: int | None, repeats: int | None) -> Study:
        """The study with its number of trials. Raises StudyError if the number is missing, or repeats can't be."""
        told = f"{source}: repeats" if repeats is None else f"--repeats {repeats}"
        study = replace(study, repeats=repeats or study.repeats)
        if study.repeats != 1 and not is_discrete(study):
            raise StudyError(
                f"{told}: only for a space of lists and steps, and this one has ranges, in which {study.strategy} "
                f"search tries no settings twice; raise 'trials' for more"
            )
        if not (trials or study.trials or study.budget):
            raise StudyError(f"{source}: trials: is missing; add, for example, trials = 40, or a table [budget]")
        check_constraints(study, source)
        return replace(study, trials=trials or study.trials)

    def follow(self, first: int, earlier: Sequence[dict[str, Any]] | None) -> None:
        """Begin with this number, because the study was changed.

        Args:
            earlier: the settings of the trials before; None if the history alone knows them.
        """
        if self._draws is not None and earlier is not None:
            self._draws = Draws(self.study, self.draw, earlier)
        elif self._draws is not None:
            self._draws, self._unused, self.is_reproducible = None, Unused(self.study), False

    def settings(self, number: int) -> dict[str, Any]:
        """The settings of a trial: the chosen ones, a seed for its training, and the fixed ones."""
        seed, rng = generator(self.study, number)
        return self._completed(self.choose(number, rng), seed)

    def complete(self, number: int, chosen: dict[str, Any]) -> dict[str, Any]:
        """Chosen settings with a seed for the training, and the fixed ones."""
        seed, _ = generator(self.study, number)
        return self._completed(chosen, seed)

    def proposal(self, settings: dict[str, Any], **why: Any) -> Proposal:
        """A trial with these settings, and what to say of their choice besides the strategy's name."""
        return Proposal(settings, why={STRATEGY: self.study.strategy, **why})

    def _completed(self, chosen: dict[str, Any], seed: int) -> dict[str, Any]:
        return {**chosen, SEED: chosen.get(SEED, seed), **self.study.fixed}

    def choose(self, number: int, rng: random.Random) -> dict[str, Any]:
        """The value of each active hyperparameter: those drawn, or others if lower numbers have them."""
        return self.draw(number, rng) if self._draws is None else self._draws.get(number) or {}

    def draw(self, number: int, rng: random.Random) -> dict[str, Any]:
        """The value of each active hyperparameter, drawn from the trial's own random generator."""
        return draw(self.study, rng)

    def propose(self, number: int, history: History) -> Proposal | Answer:
        """The settings of a trial; EXHAUSTED if others have all that the space has."""
        if self._draws is not None and self._draws.get(number) is None:
            return Answer.EXHAUSTED
        if self._unused is None:
            return self.proposal(self.settings(number))
        _, rng = generator(self.study, number)
        unused = self._unused.choose([self.draw(number, rng)], rng, history)
        return self.proposal(self.complete(number, unused)) if unused else Answer.EXHAUSTED

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
        self.most = self.size * study.repeats  # trials in all
        self._guessed = place_of(study.guesses, self.combinations)
        self._first, self._used = 0, Counter[int]()  # after a change: our first trial, and what the earlier ones have

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
        """The combination with this number. After the last combination, the first follows again.

        The one that a person guesses comes before all others.
        """
        turn, used = number - self._first, list[int]()
        for repeat in range(self.study.repeats):
            used = sorted(place for place, times in self._used.items() if times > repeat)
            if turn < self.size - len(used):
                break
            turn -= self.size - len(used)
        for place in used:  # each moves the rest on by one
            turn += place <= turn
        return dict(self.combinations[self._combination_at(turn % self.size)])

    def follow(self, first: int, earlier: Sequence[dict[str, Any]] | None) -> None:
        """Begin with this number, with those combinations that the trials before the study's change have not had."""
        if earlier is None:
            raise StudyError(
                f"{self.study.name}: strategy: can't become {self.study.strategy}: what earlier trials have tried "
                f"depends on their results; use another --logs"
            )
        ours = [settings for settings in earlier if self.study.contains({**self.study.fixed, **settings})]
        self._first, self._used = first, Counter(map(self._turn_of, places_of(ours, self.combinations)))
        self.most = first + sum(max(self.study.repeats - self._used[turn], 0) for turn in self._used)
        self.most += (self.size - len(self._used)) * self.study.repeats

    def _combination_at(self, turn: int) -> int:
        """The place of the combination that comes at this turn: first the guess, then the others in their order."""
        return turn if turn > self._guessed else turn - 1 if turn else self._guessed

    def _turn_of(self, place: int) -> int:
        return place if place > self._guessed else 0 if place == self._guessed else place + 1

    def propose(self, number: int, history: History) -> Proposal | Answer:
        """The settings of a trial; EXHAUSTED when each combination has had all its repeats."""
        return Answer.EXHAUSTED if number >= self.most else self.proposal(self.settings(number))
