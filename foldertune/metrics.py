"""The metrics of a study: which way each is better, and which results no other result beats in all of them.

With several metrics, the first one gives the order where one is needed; the others decide who is on the Pareto front.
"""

from __future__ import annotations

import bisect
import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, NoReturn

from foldertune.nesting import nest

DIRECTIONS = ("minimize", "maximize")
Losses = tuple[float, ...]  # a value of each metric, the less the better


class Metric(NamedTuple):
    """A number in a trial's result that the study makes as low or as high as possible."""

    name: str
    direction: str = DIRECTIONS[0]

    @property
    def sign(self) -> int:
        """The factor that makes less better."""
        return 1 if self.direction == DIRECTIONS[0] else -1


@dataclass(frozen=True)
class Known:
    """A result of another study in the same search space: its settings, and its value of each metric.

    Without values it was left behind by a schedule: worse than all that have some.
    """

    settings: dict[str, Any]
    values: tuple[float, ...]

    def to_record(self) -> dict[str, Any]:
        """As study.json has it."""
        values = {"values": list(self.values)} if len(self.values) > 1 else {"value": next(iter(self.values), None)}
        return {"settings": nest(self.settings), **values}


def losses_of(metrics: Sequence[Metric], result: Mapping[str, Any]) -> Losses | None:
    """A result's value of each metric, the less the better; None unless all are finite numbers."""
    losses = list[float]()
    for metric in metrics:
        value: Any = result.get(metric.name)
        if type(value) not in (int, float) or not abs(value) < math.inf:
            return None
        losses.append(float(metric.sign * value))
    return tuple(losses)


def read_metrics(record: Mapping[str, Any], fail: Callable[[str, str], NoReturn]) -> tuple[Metric, ...]:
    """The metrics in a study's definition: `metric` and `direction` are texts, or lists of texts."""
    if record.get("metric") is None:
        fail("metric", 'is missing; add metric = "loss", a key of what the objective returns')
    told, directions = record["metric"], record.get("direction", DIRECTIONS[0])
    names = told if isinstance(told, list) else [told]
    if not names or not all(isinstance(name, str) for name in names):
        form = 'a list such as ["loss", "seconds"]' if isinstance(told, list) else "text in quotes"
        fail("metric", f"must be {form}, not {told!r}")
    if len(set(names)) < len(names):
        fail("metric", f"names one metric twice: {', '.join(names)}; remove one of them")
    each = directions if isinstance(directions, list) else [directions] * len(names)
    if len(each) != len(names):
        fail("direction", f"must have one direction for each metric ({', '.join(names)}), not {directions!r}")
    for direction in each:
        if direction not in DIRECTIONS:
            fail("direction", f"must be {' or '.join(map(quoted, DIRECTIONS))}, not {direction!r}")
    return tuple(Metric(name, direction) for name, direction in zip(names, each, strict=True))


def quoted(text: str) -> str:
    """A text as it stands in a study's file."""
    return f'"{text}"'


# ---------------------------------------------------------------- the Pareto front


def dominates(one: Losses, other: Losses) -> bool:
    """Is one result better than the other in a metric, and worse in none?"""
    return one != other and all(map(operator.le, one, other))


def layers(losses: Mapping[int, Losses], enough: float = math.inf) -> list[list[int]]:
    """The Pareto front: those that no other dominates; then the front of what is left, and so on.

    Each begins with the best in the first metric. When they hold enough, what lies behind all of them is left out.
    """
    fronts: list[list[int]] = []
    held = 0
    for number in sorted(losses, key=lambda number: (losses[number], number)):  # whoever dominates others comes first
        is_free = partial(_is_free, losses, losses[number])
        if held >= enough and not is_free(fronts[-1]):
            continue
        place = bisect.bisect_left(fronts, True, key=is_free)  # whom one front dominates, those before it do, too
        if place == len(fronts):
            fronts.append([])
        fronts[place].append(number)
        held += 1
    return fronts


def _is_free(losses: Mapping[int, Losses], own: Losses, front: list[int]) -> bool:
    """Does nobody on this front dominate what comes after it? Of two metrics its last one is best in the second."""
    rivals = front[-1:] if len(own) <= 2 else front
    return not any(dominates(losses[other], own) for other in rivals)


def front_of(losses: Mapping[int, Losses]) -> list[int]:
    """Those on the Pareto front, the best in the first metric first."""
    return layers(losses, 1)[0] if losses else []


def best_of(losses: Mapping[int, Losses], most: int) -> list[int]:
    """So many, front after front; of the last front an even sample. With one metric, those are simply the best."""
    chosen: list[int] = []
    for front in layers(losses, most):
        room = min(most - len(chosen), len(front))
        chosen += [front[k * len(front) // room] for k in range(room)]
    return chosen
