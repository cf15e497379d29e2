"""Sobol and Halton sequences: points that cover the space evenly, however many there are.

Scrambled by the study's seed (Owen, 1998), and drawn by scipy. Like random search they ignore the history, so the
settings of trial 7 are always the same.
"""

from __future__ import annotations

import random
import warnings
from typing import TYPE_CHECKING, Any

from foldertune.errors import missing_extra
from foldertune.strategies.drawing import draw, permitted
from foldertune.strategies.plain import RandomSearch
from foldertune.study import Study

if TYPE_CHECKING:
    from scipy.stats.qmc import QMCEngine


class SobolSearch(RandomSearch):
    """Takes the points of a Sobol sequence in turn. Numbers of trials that are powers of two cover the space best."""

    engine = "Sobol"

    def __init__(self, study: Study) -> None:
        super().__init__(study)
        self._points = self._new_engine()
        self._number = 0  # of the point that comes next

    def draw(self, number: int, rng: random.Random) -> dict[str, Any]:
        """The values at the point with this number; drawn at random, if they don't meet the study's constraints."""
        point = zip(self.study.space.items(), self._point(number), strict=True)
        chosen = permitted(self.study, {name: dimension.at(u) for (name, dimension), u in point})
        return draw(self.study, rng) if chosen is None else chosen

    def _point(self, number: int) -> list[float]:
        if number < self._number:
            self._points, self._number = self._new_engine(), 0
        if number > self._number:
            self._points.fast_forward(number - self._number)
        self._number = number + 1
        with warnings.catch_warnings(action="ignore"):  # about numbers of points that are no powers of two
            return [min(float(u), 1 - 2**-53) for u in self._points.random(1)[0]]

    def _new_engine(self) -> QMCEngine:
        try:
            from scipy.stats import qmc  # it takes a second to import
        except ModuleNotFoundError as error:
            raise missing_extra("model", error) from None
        kind: type[QMCEngine] = getattr(qmc, self.engine)
        return kind(len(self.study.space), scramble=True, rng=self.study.seed)


class HaltonSearch(SobolSearch):
    """Takes the points of a Halton sequence in turn. Any number of trials covers the space well."""

    engine = "Halton"
