"""Settings that a study's space, conditions and constraints allow: drawn at random, or all of them in their order."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from foldertune.derived import library_is_there, needs_library
from foldertune.errors import StudyError
from foldertune.metrics import Known
from foldertune.space import Categorical, identity, values_of
from foldertune.study import SEED, Study

PROBES, ENOUGH = 10_000, 10  # draws before a search begins, and how many of them must meet the constraints
T = TypeVar("T")
MOST_DRAWS = 100_000  # for one trial; if one in a thousand is allowed, none ever needs so many
MOST_VALUES, MOST_COMBINATIONS = 10_000, 100_000  # of a range in a grid; of a grid with conditions or constraints
_REMEDY = "loosen them, or change [space]"


def evenly(items: Sequence[T], most: int) -> list[T]:
    """All of these, or an even sample of them."""
    return [items[k * len(items) // most] for k in range(most)] if len(items) > most else [*items]


def known_inside(study: Study) -> list[Known]:
    """The results of another study that lie in the search space as it is now."""
    known = (replace(each, settings=study.filled(each.settings)) for each in study.known)
    return [each for each in known if study.contains({**each.settings, **study.fixed})]


# ---------------------------------------------------------------- at random


def draw(study: Study, rng: random.Random) -> dict[str, Any]:
    """A value for each active hyperparameter, drawn again until they meet the constraints."""
    for _ in range(MOST_DRAWS):
        if (drawn := permitted(study, _draw_once(study, rng))) is not None:
            return drawn
    raise StudyError(f"{study.name}: constraints: none of {MOST_DRAWS:,} random settings met them; {_REMEDY}")


def generator(study: Study, number: int | str) -> tuple[int, random.Random]:
    """The seed of a trial's training, and the generator from which its settings are drawn."""
    rng = random.Random(f"{study.seed}/{number}")
    return rng.randrange(2**31), rng


def reseeded(study: Study, settings: Mapping[str, Any], number: int | str) -> dict[str, Any]:
    """The same settings with another seed for the training, unless the study fixes or searches the seed."""
    if SEED in study.fixed or SEED in study.space:
        return dict(settings)
    return {**settings, SEED: generator(study, number)[0]}


def permitted(study: Study, values: Mapping[str, Any]) -> dict[str, Any] | None:
    """Of a value for each hyperparameter, those of the active ones; None if they don't meet the constraints."""
    if study.is_free:
        return dict(values)
    chosen = _without_absent(study, values)
    return chosen if study.allowed({**chosen, **study.fixed}) else None


def _draw_once(study: Study, rng: random.Random) -> dict[str, Any]:
    """One draw. An absent hyperparameter takes its random number, too, so that all the others keep theirs."""
    return {name: dimension.at(rng.random()) for name, dimension in study.space.items()}


def _without_absent(study: Study, chosen: Mapping[str, Any]) -> dict[str, Any]:
    there = study.active({**study.fixed, **chosen})
    return {name: value for name, value in chosen.items() if name in there}


def check_constraints(study: Study, source: str) -> None:
    """Raise StudyError, naming `source`, if random settings practically never meet the study's constraints."""
    _check_library(study, source)
    rng, met, enough = random.Random(0), _Tally(study), 0
    for _ in range(PROBES if study.constraints else 0):
        enough += met.add(_without_absent(study, _draw_once(study, rng)))
        if enough == ENOUGH:
            return
    if study.constraints:
        raise StudyError(
            f"{source}: constraints: {enough} of {PROBES:,} random settings met them, and {met.rarest}; {_REMEDY}"
        )


# ---------------------------------------------------------------- a grid


def combinations(study: Study, source: str) -> Sequence[dict[str, Any]]:
    """All allowed combinations, each once, the last hyperparameter changing fastest.

    Raises StudyError, naming `source`, if there are none, or if a hyperparameter has a range without a step.
    """
    product = _Product({name: _values(study, source, name) for name in study.space})
    if study.is_free:
        return product
    _check_library(study, source)
    if len(product) > MOST_COMBINATIONS:
        raise StudyError(
            f"{source}: strategy: a grid with conditions or constraints may have {MOST_COMBINATIONS:,} combinations, "
            f'not {len(product):,}; give fewer values, or take "random"'
        )
    distinct: dict[Any, dict[str, Any]] = {}  # those that differ in absent settings alone are one
    for each in product:
        chosen = _without_absent(study, each)
        distinct.setdefault(identity(chosen), chosen)
    met = _Tally(study)
    allowed = [chosen for chosen in distinct.values() if met.add(chosen)]
    if not allowed:
        raise StudyError(f"{source}: constraints: no combination of the grid meets them, and {met.rarest}; {_REMEDY}")
    return allowed


def place_of(values: Mapping[str, Any], among: Sequence[dict[str, Any]]) -> int:
    """The place of the first combination that has these values, as far as it has the hyperparameters at all."""
    if isinstance(among, _Product):
        return among.place_of(values)
    wanted = {name: identity(value) for name, value in values.items()}
    fits = (all(identity(each[name]) == wanted[name] for name in wanted if name in each) for each in among)
    return next((place for place, does in enumerate(fits) if does), 0)


def places_of(several: Iterable[Mapping[str, Any]], among: Sequence[dict[str, Any]]) -> list[int]:
    """The place of each of these settings, which are combinations with a seed and what is fixed."""
    if isinstance(among, _Product):
        return [among.place_of(settings) for settings in several]
    names, index = set().union(*among), {identity(each): place for place, each in enumerate(among)}
    return [index[identity({name: value for name, value in each.items() if name in names})] for each in several]


@dataclass(frozen=True)
class _Product(Sequence[dict[str, Any]]):
    """Every combination of values. It may be much larger than memory."""

    values: Mapping[str, Sequence[Any]]

    def __len__(self) -> int:
        return math.prod(map(len, self.values.values()))

    def __getitem__(self, number: Any) -> Any:
        if not 0 <= number < len(self):
            raise IndexError(number)
        chosen = {}
        for name in reversed([*self.values]):
            number, place = divmod(number, len(self.values[name]))
            chosen[name] = self.values[name][place]
        return {name: chosen[name] for name in self.values}

    def place_of(self, chosen: Mapping[str, Any]) -> int:
        """The place of the first combination with these values."""
        place = 0
        for name, values in self.values.items():
            wanted = identity(chosen[name]) if name in chosen else None
            digit = next((k for k, value in enumerate(values) if wanted is not None and identity(value) == wanted), 0)
            place = place * len(values) + digit
        return place


def _values(study: Study, source: str, name: str) -> Sequence[Any]:
    """The values of a hyperparameter in a grid."""
    dimension = study.space[name]
    values = values_of(dimension)
    if values is not None and (isinstance(dimension, Categorical) or len(values) <= MOST_VALUES):
        return values
    assert not isinstance(dimension, Categorical)
    raise StudyError(
        f"{source}: space.{name}: a grid needs the values themselves, not a range: "
        f"a list such as [{dimension.low}, {dimension.high}], or a step"
    )


# ---------------------------------------------------------------- constraints


class _Tally:
    """Counts how many settings meet each constraint."""

    def __init__(self, study: Study) -> None:
        self.study, self.counts, self.asked = study, dict.fromkeys(study.constraints, 0), 0

    def add(self, chosen: dict[str, Any]) -> bool:
        """Count these settings. Returns whether they meet all constraints."""
        settings = {**chosen, **self.study.fixed}
        held = [constraint for constraint in self.counts if self.study.meets(settings, constraint)]
        for constraint in held:
            self.counts[constraint] += 1
        self.asked += 1
        return len(held) == len(self.counts)

    @property
    def rarest(self) -> str:
        """The constraint that was met least often, in words."""
        constraint = min(self.counts, key=lambda text: self.counts[text])
        return f'{self.counts[constraint]} met "{constraint}"'


def _check_library(study: Study, source: str) -> None:
    if any(map(needs_library, study.constraints)) and not library_is_there():
        raise StudyError(f"{source}: constraints: need simpleeval: pip install 'foldertune[report]'")
