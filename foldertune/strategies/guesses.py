"""Draws around a person's guesses, less often the more the results contradict them.

After PriorBand (Mallik et al., NeurIPS 2023), with two ways to draw: uniformly, or near the guesses. Each is taken in
proportion to how often its draws are among the best quarter of the results. To which of the two a trial belongs is not
asked, but how likely: by how close it is to the guesses. So every trial is evidence, also one queued by hand.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Mapping
from typing import Any

from foldertune.protocol import Proposal, Trial
from foldertune.space import Categorical, Dimension, identity, share_of
from foldertune.strategies.distinct import Unused, is_discrete
from foldertune.strategies.drawing import draw, generator, permitted
from foldertune.strategies.interface import Answer, History
from foldertune.strategies.plain import RandomSearch
from foldertune.study import Study

SPREAD = 0.25  # of what is drawn near a guess, as a share of the range (a standard deviation)
SURE = 0.5  # the share of draws near a guess that take it itself, if it is one of several values in no order
BEST = 4  # one of so many results is among the best
JUDGED = 200  # results, those of the lowest numbers, that say how good the guesses are
NEAR = "near"  # in a proposal's `why`
MOST_DRAWS = 1000  # near the guesses, until they meet the constraints


class GuidedSearch(RandomSearch):
    """Draws uniformly, or near the guesses."""

    is_reproducible = False
    is_adaptive = True

    def __init__(self, study: Study) -> None:
        super().__init__(study)
        self._draws, self._unused = None, Unused(study) if is_discrete(study) else None
        self._trust = Trust(study)

    def propose(self, number: int, history: History) -> Proposal | Answer:
        """New settings near the guesses, or from anywhere; EXHAUSTED if other trials have all that there is."""
        _, rng = generator(self.study, number)
        drawn, why = self._trust.draw(rng, history)
        chosen = drawn if self._unused is None else self._unused.choose([drawn], rng, history)
        if chosen is None:
            return Answer.EXHAUSTED
        return self.proposal(self.complete(number, chosen), **(why if chosen == drawn else {}))


class Trust:
    """How much the results say for a person's guesses: the share of draws near them begins with a half."""

    def __init__(self, study: Study) -> None:
        self.study = study
        self._judged: dict[int, tuple[Trial, tuple[float, int], float]] = {}  # each with its loss and its nearness

    def draw(self, rng: random.Random, history: History) -> tuple[dict[str, Any], dict[str, Any]]:
        """Settings drawn near the guesses, or from anywhere, and what to say of that in a proposal's `why`."""
        if rng.random() < self.share_near(history):
            return draw_near(self.study, rng), {NEAR: "guess"}
        return draw(self.study, rng), {}

    def share_near(self, history: History) -> float:
        """The share of trials to draw near the guesses: a half without results, less if the best ones lie elsewhere.

        As long as a schedule has nothing else to compare, those that began anew are compared.
        """
        is_early = self.study.is_scheduled and not history.counted
        trials = history.whole.counted if is_early else history.counted
        known = (trial for _, trial in sorted(trials.items()) if not trial.dropped)
        if is_early:
            known = (
                trial
                for trial in known
                if not trial.parent and self.study.contains({**trial.settings, **self.study.fixed})
            )
        judged = sorted(self._judge(trial) for trial in itertools.islice(known, JUDGED))
        nearness = [near for _, near in judged]
        best = nearness[: len(nearness) // BEST]
        rate_near = (sum(best) + 1) / (sum(nearness) + BEST)
        rate_anywhere = (len(best) - sum(best) + 1) / (len(nearness) - sum(nearness) + BEST)
        return rate_near / (rate_near + rate_anywhere)

    def _judge(self, trial: Trial) -> tuple[tuple[float, int], float]:
        """A trial's loss, with its number, and how near it is to the guesses."""
        number, known = trial.name.number, self._judged.get(trial.name.number)
        if known is None or known[0] is not trial:
            losses = self.study.losses(trial.result)
            known = self._judged[number] = (
                trial,
                (losses[0] if losses else math.inf, number),
                nearness(self.study, trial.settings),
            )
        return known[1:]


def nearness(study: Study, settings: Mapping[str, Any]) -> float:
    """How likely settings are drawn near the guesses, if half of all draws are: from 0 to 1."""
    density = 1.0
    for name, dimension in study.space.items():
        if dimension.guess and name in settings and dimension.contains(settings[name]):
            density *= _density(dimension, settings[name])
    return density / (density + 1)


def draw_near(study: Study, rng: random.Random) -> dict[str, Any]:
    """A value near its guess for each active hyperparameter that has one, until they meet the constraints."""
    for _ in range(MOST_DRAWS):
        values = {name: _near(dimension, rng) for name, dimension in study.space.items()}
        if (chosen := permitted(study, values)) is not None:
            return chosen
    return draw(study, rng)


# ---------------------------------------------------------------- one hyperparameter


def _near(dimension: Dimension, rng: random.Random) -> Any:
    """A value near the guess; anywhere, if there is no guess."""
    if not dimension.guess:
        return dimension.at(rng.random())
    if _has_no_order(dimension):
        return dimension.guess[0] if rng.random() < SURE else dimension.at(rng.random())
    middle = share_of(dimension, dimension.guess[0])
    while not 0 <= (u := rng.gauss(middle, SPREAD)) < 1:
        pass
    return dimension.at(u)


def _density(dimension: Dimension, value: Any) -> float:
    """How much more often a value is drawn near the guess than anywhere."""
    if isinstance(dimension, Categorical) and _has_no_order(dimension):
        is_guess = identity(value) == identity(dimension.guess[0])
        return 1 - SURE + (SURE * len(dimension.choices) if is_guess else 0.0)
    middle = share_of(dimension, dimension.guess[0])
    inside = (math.erf((1 - middle) / SPREAD / math.sqrt(2)) + math.erf(middle / SPREAD / math.sqrt(2))) / 2
    distance = (share_of(dimension, value) - middle) / SPREAD
    return math.exp(-distance * distance / 2) / (SPREAD * math.sqrt(2 * math.pi) * inside)


def _has_no_order(dimension: Dimension) -> bool:
    return isinstance(dimension, Categorical) and not dimension.ordered
