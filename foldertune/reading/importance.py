"""Measures which hyperparameters matter, one at a time and together."""

from __future__ import annotations

import itertools
import math
import random
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from foldertune.protocol import Trial
from foldertune.space import Categorical, Int, identity
from foldertune.study import Study
from foldertune.tables import finite

FEWEST = 8  # trials; with fewer, there is no importance
MOST = 200  # trials; if there are more, this many are drawn at random, because fANOVA's time grows with the square
TREES = 100
MOST_PAIRED = 5  # the most important hyperparameters, which form pairs


@dataclass(frozen=True)
class Importance:
    """The importance of the hyperparameters of a study.

    shares: each hyperparameter's share of the variance of the trials' ranks; the shares add up to 1.
    predicted: for a set of hyperparameters, the share of that variance that a random forest predicts for unseen trials
        if it knows only this set (R² out of bag). Below 0 it predicts worse than the mean rank does.
    derived: the quantities in `predicted` that are derived from settings, each with those settings.
    """

    trials: int  # the number of trials that were used
    of: int  # the number of all trials
    shares: dict[str, float]
    predicted: dict[tuple[str, ...], float] = field(default_factory=dict)
    derived: dict[str, frozenset[str]] = field(default_factory=dict)

    @property
    def best_pair(self) -> tuple[str, str] | None:
        """The pair that predicts best (one of the two may be derived).

        If no pair predicts anything, it is the pair with the largest shares. None if there is no pair.
        """
        pairs = [names for names in self.predicted if len(names) == 2]
        ordered = sorted(self.shares, key=lambda name: -self.shares[name])
        best = max(pairs, key=lambda names: self.predicted[names], default=None)
        if best is not None and self.predicted[best] <= 0:
            return next(names for names in pairs if {*names} == {*ordered[:2]})
        return best

    @property
    def predicts_nothing(self) -> bool:
        """Does no set of hyperparameters predict better than the mean rank? Then there are too few trials."""
        return all(share <= 0 for names, share in self.predicted.items() if not {*names} <= self.derived.keys())


def rank_all(values: Sequence[float]) -> list[float]:
    """The rank of each value, from 1; equal values share the mean of theirs."""
    from scipy.stats import rankdata  # half a second to import

    return [float(rank) for rank in rankdata(values)]


def measure_importance(
    study: Study,
    names: Sequence[str],
    trials: Sequence[Trial],
    values: Sequence[float | None],
    setting: Callable[[Trial, str], Any],
) -> Importance | None:
    """Importance by Optuna's fANOVA (Hutter, Hoos and Leyton-Brown, ICML 2014), and by a random forest's predictions.

    Both use ranks instead of values, because a few diverged trials would make up nearly all the variance of the values.
    A trial without a value ranks last. None with fewer than `FEWEST` trials, or if all settings or all results
    are equal.

    Args:
        names: the hyperparameters that vary.
        trials: the ended trials of the study's own space.
        values: the metric of each trial; None where there is no finite one.
        setting: returns a trial's value of a setting, or of a quantity derived from settings.
    """
    pairs, count = list(zip(trials, values, strict=True)), len(trials)
    if count > MOST:
        pairs = random.Random(0).sample(pairs, MOST)
    settings = {identity([_value(study, trial, name) for name in names]) for trial, _ in pairs}
    if len(pairs) < FEWEST or len(settings) < 2 or len({value for _, value in pairs}) < 2:
        return None
    worst = math.inf if study.direction == "minimize" else -math.inf
    targets = rank_all([worst if value is None else value for _, value in pairs])
    columns = {name: [_value(study, trial, name) for trial, _ in pairs] for name in names}
    shares = _fanova(study, columns, targets)
    derived = {}
    for name in study.derived:
        column = [setting(trial, name) for trial, _ in pairs]
        if study.parts(name) <= {*names} and None not in column:
            derived[name], columns[name] = study.parts(name), column
    predicted = {
        chosen: _predicted(columns, chosen, targets) for chosen in dict.fromkeys(_sets(names, shares, derived, columns))
    }
    return Importance(len(pairs), count, shares, predicted, derived)


def _value(study: Study, trial: Trial, name: str) -> Any:
    """A trial's value of a hyperparameter; where it has none, because of a condition, the middle one."""
    return trial.settings[name] if name in trial.settings else study.space[name].at(0.5)


def _sets(
    names: Sequence[str], shares: dict[str, float], derived: dict[str, frozenset[str]], columns: dict[str, list[Any]]
) -> list[tuple[str, ...]]:
    """The sets that a forest is told: single hyperparameters, pairs of the most important ones, and all."""
    most = sorted(names, key=lambda name: -shares[name])[:MOST_PAIRED]
    pairs = itertools.combinations([name for name in names if name in most], 2)
    with_derived = [(quantity, name) for quantity, parts in derived.items() for name in most if name not in parts]
    return [*itertools.combinations(columns, 1), *pairs, *with_derived, tuple(names)]


def _fanova(study: Study, columns: dict[str, list[Any]], targets: list[float]) -> dict[str, float]:
    import optuna
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    kinds: dict[str, Any] = {}
    for name in columns:
        dimension = study.space[name]
        if isinstance(dimension, Categorical):
            places = {identity(choice): place for place, choice in enumerate(dimension.choices)}
            kinds[name] = CategoricalDistribution(range(len(places)))  # Optuna takes 1 and true for the same choice
            if dimension.ordered:
                kinds[name] = IntDistribution(0, len(places) - 1)
            columns = {**columns, name: [places[identity(value)] for value in columns[name]]}
        else:
            kind: Any = IntDistribution if isinstance(dimension, Int) else FloatDistribution
            kinds[name] = kind(dimension.low, dimension.high, log=dimension.log)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        asked = optuna.create_study()
        asked.add_trials(
            optuna.trial.create_trial(
                params={name: column[k] for name, column in columns.items()}, distributions=kinds, value=target
            )
            for k, target in enumerate(targets)
        )
        evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
        return dict(optuna.importance.get_param_importances(asked, evaluator=evaluator))


def _predicted(columns: dict[str, list[Any]], chosen: Sequence[str], targets: list[float]) -> float:
    """The coefficient of determination out of bag: each trial is predicted by the trees that have not seen it."""
    import numpy as np
    from sklearn.ensemble import RandomForestRegressor

    features = np.column_stack([_numbers(columns[name]) for name in chosen])
    forest = RandomForestRegressor(TREES, min_samples_leaf=2, oob_score=True, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a trial that every tree has seen
        return float(forest.fit(features, np.asarray(targets)).oob_score_)


def _numbers(column: list[Any]) -> Any:
    """A column of numbers; if some values are not numbers, a column of zeros and ones for each choice."""
    import numpy as np

    if all(finite(value) is not None for value in column):
        return np.asarray(column, dtype=float)
    values = list(map(identity, column))
    choices = sorted(set(values), key=str)
    return np.asarray([[value == choice for choice in choices] for value in values], dtype=float)
