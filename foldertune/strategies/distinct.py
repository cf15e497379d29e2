"""Settings that no trial has yet. In a space without a continuous range, a search would soon repeat itself.

No settings are chosen more often than the study's `repeats` says. Draws that bring nothing new are drawn again; when
many in a row do, the settings that are left are listed, if the space is small. When none is left, the search ends.
"""

from __future__ import annotations

import itertools
import math
import random
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

from foldertune.space import Categorical, Dimension, Int, identity, values_of
from foldertune.strategies.drawing import combinations, draw, generator
from foldertune.strategies.first import first_settings
from foldertune.strategies.interface import History
from foldertune.study import Study

FEW_DRAWS = 20  # that brought nothing new; then what is left of a small space is listed
MOST_DRAWS = 1000  # that brought nothing new; then a larger space counts as used up
MOST_LISTED = 10_000  # combinations of a small space
MOST_COMPARED = 100_000  # trials of a search that ignores history; later ones may repeat settings of a space so large


def is_discrete(study: Study) -> bool:
    """Has no hyperparameter a continuous range, so that the same settings may come again?"""
    return all(_values(dimension) is not None for dimension in study.space.values())


def _values(dimension: Dimension) -> Sequence[Any] | None:
    if isinstance(dimension, Int) and dimension.step is None:
        return range(dimension.low, dimension.high + 1)
    return values_of(dimension)


class Unused:
    """The settings of a discrete space that no trial has; when there are none left, those that one has, and so on.

    No settings are used more than `repeats` times.
    """

    def __init__(self, study: Study) -> None:
        self.study = study
        self._used = self._used_elsewhere()
        self._most = 1  # times that settings may be used for now
        self._known: dict[int, tuple[Mapping[str, Any], Hashable]] = {}  # trials of a history that we have met

    def use(self, settings: Mapping[str, Any]) -> Hashable:
        """Note that a trial has these settings. Returns what makes them the same as others."""
        key = self._key(settings)
        self._used[key] += 1
        return key

    def choose(
        self, draws: Iterable[dict[str, Any]], rng: random.Random, history: History | None = None
    ) -> dict[str, Any] | None:
        """The first of these draws that is unused; or others, drawn at random; None if all are used.

        Args:
            history: whose trials use settings; None: those that we were told of.
        """
        if history is not None:
            self._learn(history.whole)
        if not self._is_listed:
            self._most = 1  # others may be found this time
        beginning = rng.getstate()
        while self._most <= self.study.repeats:
            again, draws = itertools.tee(draws)
            if (chosen := self._choose(again, rng)) is not None:
                return chosen
            self._set_most(self._most + 1)
            rng.setstate(beginning)  # as if we had known that all are used so often
        return None

    def _choose(self, draws: Iterable[dict[str, Any]], rng: random.Random) -> dict[str, Any] | None:
        at_random = (draw(self.study, rng) for _ in itertools.count())
        several = itertools.chain(draws, itertools.islice(at_random, FEW_DRAWS))
        if (chosen := self._first_unused(several)) is not None:
            return chosen
        if self._left is None:
            return self._first_unused(itertools.islice(at_random, MOST_DRAWS))
        self._left = [pair for pair in self._left if self._used[pair[0]] < self._most]
        return rng.choice(self._left)[1] if self._left else None

    def _first_unused(self, draws: Iterable[dict[str, Any]]) -> dict[str, Any] | None:
        return next((drawn for drawn in draws if self._used[self._key(drawn)] < self._most), None)

    def _learn(self, history: History) -> None:
        """Note what all trials of a history use, and nothing else. Those that go on with others use nothing new."""
        there = 0
        for number, each in itertools.chain(history.counted.items(), history.open.items()):
            if each and not each.parent and self._may_use(each.settings):
                there += 1
                known = self._known.get(number)
                if known is None or known[0] is not each.settings:
                    key = self.use(each.settings)
                    self._forget(number, key)
                    self._known[number] = each.settings, key
        if there < len(self._known):  # some were withdrawn
            for number in self._known.keys() - history.counted.keys() - history.open.keys():
                self._forget(number, None)

    def _may_use(self, settings: Mapping[str, Any]) -> bool:
        """Would such settings be tried again? Those from before a change would, if something is fixed otherwise now."""
        return not self.study.changes or self.study.contains({**self.study.fixed, **settings})

    def _forget(self, number: int, new: Hashable) -> None:
        """Take back what this trial uses, if it is known; it has other settings now, or `new` is the same."""
        if number in self._known:
            _, key = self._known.pop(number)
            self._used[key] -= 1
            if key != new:
                self._set_most(1)

    def _set_most(self, most: int) -> None:
        self._most = most
        self.__dict__.pop("_left", None)

    def _used_elsewhere(self) -> Counter[Hashable]:
        known = (each.settings for each in self.study.known if each.values)
        return Counter(self._key(self.study.filled(settings)) for settings in known)

    def _key(self, settings: Mapping[str, Any]) -> Hashable:
        return tuple(identity(settings[name]) if name in settings else None for name in self.study.space)

    @cached_property
    def _is_listed(self) -> bool:
        """Is the space small enough for a list of what is left?"""
        sizes = (len(_values(dimension) or ()) for dimension in self.study.space.values())
        return is_discrete(self.study) and math.prod(sizes) <= MOST_LISTED

    @cached_property
    def _left(self) -> list[tuple[Hashable, dict[str, Any]]] | None:
        """The settings of a small space that may still be unused; None if the space is larger, or has a range."""
        if not self._is_listed:
            return None
        values = {name: _values(dimension) or () for name, dimension in self.study.space.items()}
        lists: dict[str, Dimension] = {
            name: Categorical(tuple(values[name]), when=each.when) for name, each in self.study.space.items()
        }
        listed = combinations(replace(self.study, space=lists), self.study.name)
        return [(self._key(settings), settings) for settings in listed]


class Draws:
    """The settings of trial 0, 1, … as a function of their number alone: what lower numbers have is not drawn again.

    More `repeats` change nothing of the settings before.

    Args:
        draw_one: settings for the trial with this number, by its generator, whatever the others have.
        earlier: the settings of the first trials, if they were chosen before the study was changed.
    """

    def __init__(
        self,
        study: Study,
        draw_one: Callable[[int, random.Random], dict[str, Any]],
        earlier: Sequence[dict[str, Any]] = (),
    ) -> None:
        self.study, self._unused, self._draw_one = study, Unused(study), draw_one
        for settings in (*first_settings(study), *earlier):
            if not earlier or study.contains({**study.fixed, **settings}):
                self._unused.use(settings)
        self._chosen: list[dict[str, Any]] = [*earlier]
        self._is_used_up = False

    def get(self, number: int) -> dict[str, Any] | None:
        """The settings of this trial; None if there are not so many."""
        while len(self._chosen) <= min(number, MOST_COMPARED) and not self._is_used_up:
            self._add(len(self._chosen))
        if number < len(self._chosen):
            return self._chosen[number]
        return None if self._is_used_up else self._draw_one(number, generator(self.study, number)[1])

    def _add(self, number: int) -> None:
        _, rng = generator(self.study, number)
        chosen = self._unused.choose((self._draw_one(number, rng),), rng)
        if chosen is None:
            self._is_used_up = True
        else:
            self._unused.use(chosen)
            self._chosen.append(chosen)
