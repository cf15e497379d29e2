"""The rule by which running trials are stopped early, in a study's table [stopping], and what it says of a trial.

`running/stopper.py` reads the learning curves and asks for the stops; nothing here touches a file.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NoReturn

from foldertune.errors import StudyError, did_you_mean
from foldertune.text import counted

TABLE = "stopping"  # its table in a study's file
RULES = {  # the parameters of each rule, with their defaults
    "median": {"warmup": 1, "startup": 5},
    "halving": {"warmup": 1, "factor": 3},
    "plateau": {"warmup": 1, "patience": 5},
}
LEAST = {"warmup": 1, "startup": 1, "factor": 2, "patience": 1}
NONE = "none"  # on the command line: the study's rule does not hold


@dataclass(frozen=True)
class Stopping:
    """A rule with its parameters. Epochs are those that trials report.

    Attributes:
        rule: a key of RULES.
        warmup: no trial is stopped before this epoch; for "halving", the first rung.
        startup: for "median": no trial is stopped before so many others can be compared with it.
        factor: for "halving": of all trials that have reached a rung, one in so many goes on.
        patience: for "plateau": a trial is stopped after so many epochs without a better value.
    """

    rule: str
    warmup: int = 1
    startup: int = 5
    factor: int = 3
    patience: int = 5

    @property
    def compares(self) -> bool:
        """Does it compare a trial with others?"""
        return self.rule != "plateau"

    def to_record(self) -> dict[str, Any]:
        """The rule and its parameters, as in a study's file."""
        return {key: value for key, value in asdict(self).items() if key == "rule" or key in RULES[self.rule]}


def read_stopping(table: Any, fail: Callable[[str, str], NoReturn]) -> Stopping | None:
    """The rule in a study's definition; None if there is none."""
    if not isinstance(table, dict):
        fail(TABLE, f'must be a table, [{TABLE}], with rule = "median", not {table!r}')
    if not table:
        return None
    rule = table.get("rule")
    if not isinstance(rule, str) or rule not in RULES:
        known = " or ".join(f'"{name}"' for name in RULES)
        fail(f"{TABLE}.rule", "is missing; add rule = " + known if rule is None else f"must be {known}, not {rule!r}")
    known_keys = ("rule", *RULES[rule])
    for key, value in table.items():
        if key not in known_keys:
            hint = f"unknown key of the rule {rule}{did_you_mean(key, known_keys)}"
            fail(f"{TABLE}.{key}", f"{hint}; known: {', '.join(known_keys)}")
        if key != "rule" and (not isinstance(value, int) or isinstance(value, bool)):
            fail(f"{TABLE}.{key}", f"must be a whole number, not {value!r}")
        if key != "rule" and value < LEAST[key]:
            fail(f"{TABLE}.{key}", f"must be at least {LEAST[key]}, not {value}")
    return Stopping(**table)


def chosen(rule: str, before: Stopping | None) -> Stopping | None:
    """The rule that `--stopping` names: with the parameters of the study, if it is the same. Raises StudyError."""
    if rule not in (*RULES, NONE):
        known = f"{', '.join(RULES)} or {NONE}"
        raise StudyError(f"--stopping: must be {known}, not {rule!r}{did_you_mean(rule, [*RULES, NONE])}")
    if rule == NONE:
        return None
    return before if before and before.rule == rule else Stopping(rule)


# ---------------------------------------------------------------- learning curves


class Curve:
    """The best value so far over the epochs of one training.

    Args:
        points: epoch and value of each report; None: no value. Epochs that are no numbers are left out.
        sign: 1 if a smaller value is better, otherwise -1.

    Attributes:
        last: the last epoch with a value; minus infinity if there is none.
    """

    def __init__(self, points: Iterable[tuple[Any, Any]], sign: int = 1) -> None:
        self.last = -math.inf
        self._epochs: list[float] = []  # at which it became better
        self._losses: list[float] = []  # smaller is better
        for epoch, value in points:
            if not _is_number(epoch) or not _is_number(value):
                continue
            self.last = max(self.last, epoch)
            if not self._losses or sign * value < self._losses[-1]:
                self._epochs.append(epoch)
                self._losses.append(sign * value)

    def best_until(self, epoch: float) -> float | None:
        """The best value until then, smaller is better; None if there was none."""
        place = bisect.bisect_right(self._epochs, epoch)
        return self._losses[place - 1] if place else None

    @property
    def best_at(self) -> float:
        """The epoch of the best value."""
        return self._epochs[-1] if self._epochs else -math.inf


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


# ---------------------------------------------------------------- the rules

# Each says why a trial is to be stopped; nothing if it may go on. What it knows are facts that stay true: how good
# trials were at an epoch. So a master that is started again comes to the same end.


def why_stop(
    stopping: Stopping, curve: Curve, ended: Collection[Curve], running: Collection[Curve], show: Callable[[float], str]
) -> str:
    """Why this running trial is to be stopped; empty if it may go on.

    Args:
        ended: the curves of counted trials, also of those that were stopped.
        running: the curves of the other running trials.
        show: a value (smaller is better) for people.
    """
    if curve.last < stopping.warmup:  # also if it has no value
        return ""
    if stopping.rule == "plateau":
        return _plateau(stopping, curve, show)
    return (_median if stopping.rule == "median" else _halving)(stopping, curve, ended, running, show)


def _median(
    stopping: Stopping, curve: Curve, ended: Collection[Curve], running: Collection[Curve], show: Callable[[float], str]
) -> str:
    """Is it worse than the median of the others, each with its best value until the same epoch?

    One that has ended before that epoch keeps its last value: otherwise only good trials would be left to compare
    with, and the rule would become ever stricter.
    """
    import statistics  # a worker starts faster without it

    others = [*ended, *(other for other in running if other.last >= curve.last)]
    values = [value for other in others if (value := other.best_until(curve.last)) is not None]
    own = curve.best_until(curve.last)
    if own is None or len(values) < stopping.startup or own <= (median := statistics.median(values)):
        return ""
    return (
        f"{show(own)} until epoch {curve.last:g}; the median of {counted(len(values), 'other trial')} is {show(median)}"
    )


def _halving(
    stopping: Stopping, curve: Curve, ended: Collection[Curve], running: Collection[Curve], show: Callable[[float], str]
) -> str:
    """Is it among the best of those that have reached the same rung? Rungs are warmup, warmup × factor, …"""
    rung = last_rung(stopping, curve.last)
    own = curve.best_until(rung)
    values = [other.best_until(rung) for other in (*ended, *running) if other.last >= rung]
    reached = [value for value in values if value is not None]
    places = (len(reached) + 1) // stopping.factor
    if own is None or places == 0:  # too few to choose among
        return ""
    place = 1 + sum(value < own for value in reached)
    if place <= places:
        return ""
    return f"{show(own)} until epoch {rung:g} is place {place} of {len(reached) + 1}; the best {places} go on"


def _plateau(stopping: Stopping, curve: Curve, show: Callable[[float], str]) -> str:
    """Has it not become better for long?"""
    best = curve.best_until(curve.last)
    if best is None or curve.last - curve.best_at < stopping.patience:
        return ""
    return f"{show(best)} at epoch {curve.best_at:g} was not bettered until epoch {curve.last:g}"


def last_rung(stopping: Stopping, epoch: float) -> float:
    """The highest rung that a training has reached with this epoch."""
    rung = stopping.warmup
    while rung * stopping.factor <= epoch:
        rung *= stopping.factor
    return rung


def is_cut_short(stopped: str | None) -> bool:
    """Was a trial stopped before it could show what it is worth? Not if it only had become no better for long."""
    return stopped is not None and not stopped.startswith("plateau:")


def curve_of(epochs: Sequence[Mapping[str, Any]], metric: str, direction: str) -> Curve:
    """The learning curve that a trial's reports tell."""
    points = ((epoch.get("epoch"), epoch.get(metric)) for epoch in epochs)
    return Curve(points, 1 if direction == "minimize" else -1)
