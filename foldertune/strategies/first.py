"""Settings that are tried first: the trial made of all guesses, and the list that the study was begun with.

They are trials of the study like all others, and count in its budget. Each says in its file which of them it is, so a
master that is started again knows which have been tried.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from foldertune.changing import before_last_change
from foldertune.errors import StudyError
from foldertune.protocol import Proposal, Trial
from foldertune.space import active
from foldertune.strategies.drawing import generator, permitted
from foldertune.strategies.interface import Answer, History, Strategy
from foldertune.study import SEED, Study

FIRST = "first"  # in a proposal's `why`: its place among these trials, from 1
MOST_DRAWS = 1000  # of what such a trial lacks, until the constraints are met


class FirstSearch:
    """Proposes these trials, and then what the strategy proposes."""

    is_reproducible = False  # which of them are tried is read from the history

    def __init__(self, study: Study, strategy: Strategy) -> None:
        self.strategy, self.is_adaptive = strategy, strategy.is_adaptive
        self.enough = getattr(strategy, "enough", 0)
        self._past = [*_past(study)]
        self._guesses = study.guesses
        self._all: dict[int, Proposal] = {}
        for place, chosen in enumerate(first_settings(study), start=1):
            seed, _ = generator(study, f"{FIRST}/{place}")
            self._all[place] = Proposal({**chosen, SEED: chosen.get(SEED, seed), **study.fixed}, why={FIRST: place})
        self._waiting = [*self._all]  # those that nobody has begun; when there are none, that stays so

    def propose(self, number: int, history: History) -> Proposal | Answer:
        """The first of these trials that nobody has begun; if there is none, what the strategy proposes."""
        if self._waiting:
            everything = history.whole
            others = [*everything.counted.items(), *((n, p) for n, p in everything.open.items() if n != number)]
            begun = {self._place_of(n, each) for n, each in others if each and not each.parent}
            self._waiting = [place for place in self._all if place not in begun]
            if self._waiting and others and all(each for _, each in others):
                return self._all[self._waiting[0]]
            if number + 1 in self._waiting:  # those that can't be read may be any of the rest
                return self._all[number + 1]
        before = len(self._all)  # whoever goes by the number alone begins with 0 after them
        skipped = 0 if self.strategy.is_adaptive or number < before or self._past else before
        return self.strategy.propose(number - skipped, history)

    def needs(self, history: History) -> Collection[int]:
        """Those that the strategy needs."""
        return self.strategy.needs(history)

    def _place_of(self, number: int, trial: Trial | Proposal) -> int | None:
        """Which of these trials this one is; None if it is none. Until a change, there may have been another guess."""
        place = trial.why.get(FIRST)
        guesses = next((guesses for first, guesses in self._past if number < first), self._guesses)
        if not isinstance(place, int) or guesses == self._guesses:
            return place
        in_list = place - bool(guesses)
        return in_list + bool(self._guesses) if in_list else None


def _past(study: Study) -> Iterator[tuple[int, dict[str, Any]]]:
    """What was guessed before each change, with the number of the first trial after it."""
    if study.changes:
        old = before_last_change(study)
        yield from _past(old)
        yield study.changes[-1].trial, old.guesses


def first_settings(study: Study) -> list[dict[str, Any]]:
    """What each of these trials chooses, in their order. What they do not say is drawn."""
    given = [study.guesses, *study.first] if study.guesses else [*study.first]
    generators = [generator(study, f"{FIRST}/{place}")[1] for place in range(1, len(given) + 1)]
    return [
        complete(study, each, rng) or _as_given(study, each, rng) for each, rng in zip(given, generators, strict=True)
    ]


def complete(study: Study, given: Mapping[str, Any], rng: random.Random) -> dict[str, Any] | None:
    """These values, and drawn ones for the other hyperparameters; None if they can't meet the constraints."""
    tries = 1 if study.space.keys() <= given.keys() else MOST_DRAWS
    drawn = (permitted(study, {**_draw(study, rng), **given}) for _ in range(tries))
    return next((chosen for chosen in drawn if chosen is not None), None)


def check_guesses(study: Study, source: str) -> None:
    """Raise StudyError, naming `source`, if no trial can have all guesses."""
    if study.guesses and complete(study, study.guesses, random.Random(0)) is None:
        told = ", ".join(f"{name} = {value}" for name, value in study.guesses.items())
        raise StudyError(f"{source}: constraints: no settings with all guesses ({told}) meet them; change a guess")


def _draw(study: Study, rng: random.Random) -> dict[str, Any]:
    return {name: dimension.at(rng.random()) for name, dimension in study.space.items()}


def _as_given(study: Study, given: Mapping[str, Any], rng: random.Random) -> dict[str, Any]:
    """As a person wants it, whatever the constraints say."""
    kept = active(study.space, {**study.fixed, **_draw(study, rng), **given})
    return {name: value for name, value in kept.items() if name in study.space or name == SEED}
