"""A study: the search space, the strategy, the budget, and the meaning of the metrics.

`study_file.py` reads a study; `strategies/` choose the settings of its trials.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

from foldertune.budget import Budget
from foldertune.changes import CHANGES, Change
from foldertune.confirm import Confirm
from foldertune.derived import evaluate, library_is_there, names_in, needs_library
from foldertune.fidelity import Fidelity
from foldertune.metrics import Known, Losses, Metric, losses_of
from foldertune.nesting import nest
from foldertune.shipped import DEFAULT_OBJECTIVE
from foldertune.space import Dimension, active, dimension_record, identity
from foldertune.stopping import Stopping

SEED = "seed"  # every trial has this setting, with a value of its own unless the study fixes it
PERCENT = "%"
SCALES = ("auto", "linear", "log")


@dataclass(frozen=True)
class Quantity:
    """How tables and figures show a setting, a metric or a derived quantity."""

    label: str
    unit: str = ""  # "%": the value is a share from 0 to 1, and shown in per cent
    scale: str = "auto"  # of an axis: one of SCALES

    @property
    def title(self) -> str:
        """The label with its unit, for an axis or a column: `validation loss`, `training time (s)`."""
        return f"{self.label} ({self.unit})" if self.unit else self.label

    def show(self, value: float, digits: int = 3) -> str:
        """The value in text: `0.71 %` for a share, otherwise `digits` significant digits, such as `0.0753`."""
        if self.unit == PERCENT:
            return f"{100 * value:.2f} %"
        return f"{value:.{digits}g} {self.unit}".rstrip()

    def tick(self, value: float) -> str:
        """The value at an axis, in the unit of its title."""
        shown = 100 * value if self.unit == PERCENT else value
        return f"{shown:.6g}" if 1e-4 <= abs(shown) < 1e5 or shown == 0 else f"{shown:.0e}"


def label_of(name: str) -> str:
    """The label of a quantity to which the study gives none: `training loss` for `training_loss`."""
    return name.replace("_", " ")


@dataclass(frozen=True)
class Study:
    """One search. The fields from `quantities` to `program` only describe it: they never change what is searched."""

    name: str
    strategy: str
    trials: int  # exactly this many results; 0: no limit, or as many as the strategy has, see strategies.plan
    metric: str
    direction: str = "minimize"
    description: str = ""
    objective: str = DEFAULT_OBJECTIVE
    repeats: int = 1
    seed: int = 0
    fixed: dict[str, Any] = field(default_factory=dict)  # by dotted names, as in Trial.settings
    space: dict[str, Dimension] = field(default_factory=dict)
    constraints: tuple[str, ...] = ()  # expressions over settings; all must be true
    quantities: dict[str, Quantity] = field(default_factory=dict)
    derived: dict[str, str] = field(default_factory=dict)  # name -> expression over settings and metrics
    collapsed: str | None = None  # an expression; a result has collapsed if it is true
    program: str | None = None  # a command that trains once, with the settings as options
    fidelity: Fidelity | None = None
    budget: Budget = field(default_factory=Budget)  # the limits besides `trials`
    first: tuple[dict[str, Any], ...] = ()  # settings to try first, by dotted names; those that lack are drawn
    known: tuple[Known, ...] = ()  # results of another study
    stopping: Stopping | None = None  # the rule by which running trials are stopped early
    before: dict[str, Any] = field(default_factory=dict)  # what trials have that were made before a setting was there
    changes: tuple[Change, ...] = ()  # of this definition while the study ran, the first one first
    confirm: Confirm | None = None  # what is trained again when the budget is spent
    why: str | None = None  # why "auto" chose this strategy; None: a person named it
    others: tuple[Metric, ...] = ()  # the metrics after the first one

    @cached_property
    def metrics(self) -> tuple[Metric, ...]:
        """All metrics. The first gives the order where one is needed."""
        return Metric(self.metric, self.direction), *self.others

    @property
    def metric_names(self) -> list[str]:
        """The names of all metrics."""
        return [metric.name for metric in self.metrics]

    @property
    def sign(self) -> int:
        """The factor that makes less of the first metric better."""
        return self.metrics[0].sign

    def losses(self, result: Mapping[str, Any] | None) -> Losses | None:
        """A result's value of each metric, the less the better; None unless all are finite numbers."""
        return losses_of(self.metrics, result or {})

    @property
    def most_trials(self) -> float:
        """The trials of the study have numbers below this one: `trials`, or infinity if that is no limit."""
        return self.trials or math.inf

    @property
    def is_scheduled(self) -> bool:
        """Does a schedule say how long each trial trains, and which trials go on?"""
        return self.fidelity is not None and self.fidelity.highest is not None

    def trains_whole(self, settings: Mapping[str, Any]) -> bool:
        """Are these settings of a whole training: with a schedule, one to the highest fidelity?"""
        return (
            self.fidelity is None
            or not self.is_scheduled
            or settings.get(self.fidelity.setting) == self.fidelity.highest
        )

    @property
    def searched(self) -> list[str]:
        """The settings that differ between trials: those of the space, and the fidelity that a schedule chooses."""
        chosen = [self.fidelity.setting] if self.fidelity and self.is_scheduled else []
        return [*self.space, *chosen]

    @property
    def most_checkpoints(self) -> float:
        """Bytes of checkpoints that are kept for trials that may go on."""
        return self.fidelity.disk_gb * 1e9 if self.fidelity else math.inf

    @property
    def guesses(self) -> dict[str, Any]:
        """What a person would try first, of the hyperparameters that have a guess."""
        return {name: dimension.guess[0] for name, dimension in self.space.items() if dimension.guess}

    @cached_property
    def is_free(self) -> bool:
        """Is every combination of the space's values allowed?"""
        return not self.constraints and not any(dimension.when for dimension in self.space.values())

    @property
    def budget_in_words(self) -> str:
        """All limits at which the study ends, and what follows: `40 trials, 500 epochs`."""
        words = self.budget.in_words(self.trials, self.metric, self.fidelity.setting if self.fidelity else "epochs")
        return f"{words}, {self.confirm.in_words}" if self.confirm else words

    def contains(self, settings: Mapping[str, Any]) -> bool:
        """Could a trial of this study have these settings? One queued by hand may have others."""
        missing = object()
        fixed = all(identity(settings.get(key, missing)) == identity(value) for key, value in self.fixed.items())
        searched = all(
            key in settings and d.contains(settings[key]) if d.is_active(settings) else key not in settings
            for key, d in self.space.items()
        )
        return fixed and searched and self.allowed(settings)

    def filled(self, settings: dict[str, Any]) -> dict[str, Any]:
        """The settings with what [before] says of those that they lack, unless their conditions do not hold."""
        lacking = {name: value for name, value in self.before.items() if name not in settings}
        if not lacking:
            return settings
        there = self.active({**settings, **lacking})
        return {**settings, **{name: value for name, value in lacking.items() if name in there}}

    def active(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """The settings without those hyperparameters whose condition does not hold."""
        return active(self.space, settings)

    def allowed(self, settings: Mapping[str, Any]) -> bool:
        """Do settings meet all constraints? One about an absent setting holds; one without a value does not."""
        return all(self.meets(settings, constraint) for constraint in self.constraints)

    def meets(self, settings: Mapping[str, Any], constraint: str) -> bool:
        """Do settings meet this constraint? Where simpleeval is missing, nobody can tell, and it holds."""
        if needs_library(constraint) and not library_is_there():
            return True
        return not names_in(constraint) <= settings.keys() or bool(evaluate(constraint, settings))

    def is_better(self, value: float, other: float) -> bool:
        """Is one value of the metric better than another?"""
        return value < other if self.direction == "minimize" else value > other

    def quantity(self, name: str) -> Quantity:
        """How tables and figures show this setting, metric or derived quantity."""
        return self.quantities.get(name) or Quantity(label_of(name))

    def derive(self, settings: Mapping[str, Any], metrics: Mapping[str, Any]) -> dict[str, float | None]:
        """All derived quantities of a trial, or of one of its epochs. One that can't be computed is None.

        A name in an expression means a setting; if there is none, a metric; if there is none, a quantity derived
        earlier. If a result has a metric with the name of a derived quantity, the metric counts.
        """
        known: dict[str, Any] = {**metrics, **settings}
        values = {}
        for name, expression in self.derived.items():
            values[name] = evaluate(expression if metrics.get(name) is None else name, known)
            known[name] = values[name]
        return values

    def derive_one(self, name: str, settings: Mapping[str, Any], metrics: Mapping[str, Any]) -> float | None:
        """One derived quantity of a trial; None if it can't be computed."""
        return self.derive(settings, metrics)[name]

    def parts(self, name: str) -> frozenset[str]:
        """The settings and metrics from which a derived quantity is computed."""
        parts = names_in(self.derived[name])
        below = [self.parts(part) for part in parts if part in self.derived and part != name]
        return frozenset(part for part in parts if part not in self.derived).union(*below)

    def has_collapsed(self, settings: Mapping[str, Any], metrics: Mapping[str, Any]) -> bool:
        """Did this result collapse, as the study defines it? False if that can't be computed."""
        if self.collapsed is None:
            return False
        values = {**metrics, **settings}
        if names_in(self.collapsed) & self.derived.keys():
            values = {**self.derive(settings, metrics), **values}
        return bool(evaluate(self.collapsed, values))

    def missing_library(self) -> str | None:
        """A line that names the derived quantities that need simpleeval, if it is not installed; otherwise None."""
        asked = {**self.derived, **({"collapsed": self.collapsed} if self.collapsed else {})}
        names = [name for name, expression in asked.items() if needs_library(expression)]
        if not names or library_is_there():
            return None
        return f"without simpleeval there is no {', '.join(names)}; install it with: pip install 'foldertune[report]'"

    def to_record(self) -> dict[str, Any]:
        """The study's definition for study.json; it has the form of a study's file."""
        record: dict[str, Any] = {key: getattr(self, key) for key in _PLAIN if getattr(self, key) is not None}
        if not self.trials:
            del record["trials"]
        if self.others:
            record["metric"] = self.metric_names
            record["direction"] = [metric.direction for metric in self.metrics]
        record["fixed"] = nest(self.fixed)
        record["space"] = nest({name: dimension_record(dimension) for name, dimension in self.space.items()})
        metrics = {name: _quantity_record(name, q) for name, q in self.quantities.items() if name not in self.derived}
        expressions = {
            name: {"value": expression, **_quantity_record(name, self.quantities[name])}
            if name in self.quantities
            else expression
            for name, expression in self.derived.items()
        }
        if self.constraints:
            record["constraints"] = list(self.constraints)
        tables = {
            "budget": self.budget.to_record(),
            "fidelity": self.fidelity.to_record() if self.fidelity else {},
            "stopping": self.stopping.to_record() if self.stopping else {},
            "confirm": self.confirm.to_record() if self.confirm else {},
            "metrics": metrics,
            "derived": expressions,
            "first": [nest(settings) for settings in self.first],
            "known": [each.to_record() for each in self.known],
            "before": nest(self.before),
            CHANGES: [change.to_record() for change in self.changes],
        }
        return record | {key: table for key, table in tables.items() if table}


_PLAIN = (
    "name", "description", "objective", "program", "strategy", "trials", "repeats", "seed", "metric", "direction",
    "collapsed", "why",
)  # fmt: skip


def _quantity_record(name: str, quantity: Quantity) -> dict[str, str]:
    plain = asdict(Quantity(label_of(name)))
    return {key: value for key, value in asdict(quantity).items() if value != plain[key]}
