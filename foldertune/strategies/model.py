"""Strategies that learn from results: Optuna's samplers, asked for one trial at a time.

For each proposal, the history is put into a new study of Optuna's in memory, with a new sampler whose seed comes from
the study's seed and the trial's number. So a proposal is a function of history and number: a master that is killed
goes on as if nothing had happened. Nothing is kept anywhere but in the trials' files.
"""

from __future__ import annotations

import random
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from foldertune.errors import missing_extra
from foldertune.protocol import Trial
from foldertune.space import Categorical, Dimension, Float, identity
from foldertune.strategies.interface import Answer, History, Proposal
from foldertune.strategies.plain import RandomSearch
from foldertune.study import Study
from foldertune.tables import finite

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.samplers import BaseSampler
    from optuna.trial import FrozenTrial

MOST_BEST = 25  # TPE sets no more than this many best trials apart from the others
MOST_SEEN = 250  # trials that a sampler is shown: from this number on, TPE has so many best ones


class ModelSearch(RandomSearch):
    """A search by one of Optuna's samplers."""

    is_reproducible = False
    is_adaptive = True

    def __init__(self, study: Study) -> None:
        super().__init__(study)
        import_optuna()
        self._distributions = {name: self._distribution(dimension) for name, dimension in study.space.items()}

    def sampler(self, seed: int) -> BaseSampler:
        """A new sampler."""
        raise NotImplementedError

    def propose(self, number: int, history: History) -> Proposal | Answer:
        """The settings that the sampler asks for, now that the results are these."""
        import optuna

        study = optuna.create_study(sampler=self.sampler(self._seed(number)))
        for trial in self._shown(history):
            study.add_trial(trial)
        asked = study.ask(self._distributions).params
        chosen = {name: _value(dimension, asked[name]) for name, dimension in self.study.space.items()}
        return Proposal({**self.settings(number), **chosen})

    def choose(self, number: int, rng: random.Random) -> dict[str, Any]:
        """Nothing: the sampler chooses."""
        return {}

    def _seed(self, number: int) -> int:
        return random.Random(f"{self.study.seed}/{number}/{self.study.strategy}").randrange(2**32)

    # ---- the history, as a sampler sees it

    def _shown(self, history: History) -> list[FrozenTrial]:
        """The most useful results, and then the trials that have none yet, each by number."""
        losses = {number: self._loss(trial) for number, trial in history.counted.items()}
        values = [loss for loss in losses.values() if loss is not None] or [0.0]
        best, worst = min(values), max(values)
        failed = worst + ((worst - best) or 1.0)
        known = {number: failed if loss is None else loss for number, loss in losses.items()}
        shown = [self._frozen(history.counted[number].settings, known[number]) for number in most_useful(known)]
        shown += [self._frozen(settings) for _, settings in sorted(history.open.items()) if settings]
        return [trial for trial in shown if trial]

    def _loss(self, trial: Trial) -> float | None:
        """The value of the metric, the less the better. None if there is none: that is worse than all others."""
        value = finite((trial.result or {}).get(self.study.metric))
        return value if value is None or self.study.direction == "minimize" else -value

    def _frozen(self, settings: Mapping[str, Any], loss: float | None = None) -> FrozenTrial | None:
        """A trial of Optuna's, with its value or running; None if a person chose settings outside of the space."""
        import optuna

        space = self.study.space
        if not all(name in settings and dimension.contains(settings[name]) for name, dimension in space.items()):
            return None
        state = optuna.trial.TrialState
        return optuna.create_trial(
            state=state.RUNNING if loss is None else state.COMPLETE,
            value=loss,
            params={name: _parameter(dimension, settings[name]) for name, dimension in space.items()},
            distributions=self._distributions,
        )

    def _distribution(self, dimension: Dimension) -> BaseDistribution:
        import optuna

        distributions = optuna.distributions
        if isinstance(dimension, Categorical):
            return distributions.CategoricalDistribution(range(len(dimension.choices)))
        if isinstance(dimension, Float):
            return distributions.FloatDistribution(dimension.low, dimension.high, log=dimension.log)
        return distributions.IntDistribution(dimension.low, dimension.high, log=dimension.log)


class TPESearch(ModelSearch):
    """Models where good and where bad results lie (tree-structured Parzen estimator; Bergstra et al., NeurIPS 2011).

    All hyperparameters together (Falkner et al., ICML 2018). Trials that still run count as bad, so that workers try
    different settings at the same time.
    """

    def sampler(self, seed: int) -> BaseSampler:
        """Optuna's TPE."""
        import optuna

        return optuna.samplers.TPESampler(seed=seed, multivariate=True, constant_liar=True)


class GPSearch(ModelSearch):
    """Models the metric by a Gaussian process, and takes where improvement is likeliest. For up to some 200 trials."""

    def sampler(self, seed: int) -> BaseSampler:
        """Optuna's Gaussian process."""
        import optuna

        return optuna.samplers.GPSampler(seed=seed)


def most_useful(losses: Mapping[int, float]) -> list[int]:
    """The numbers of the trials that a sampler is shown: all, or the best, and of the others an even sample."""
    numbers = sorted(losses)
    if len(numbers) <= MOST_SEEN:
        return numbers
    best = sorted(numbers, key=losses.__getitem__)[:MOST_BEST]
    others, room = sorted(set(numbers) - set(best)), MOST_SEEN - MOST_BEST
    return sorted([*best, *(others[k * len(others) // room] for k in range(room))])


def _parameter(dimension: Dimension, value: Any) -> Any:
    """A value as Optuna knows it: of a choice, its place in the list."""
    if not isinstance(dimension, Categorical):
        return value
    return next(place for place, choice in enumerate(dimension.choices) if identity(choice) == identity(value))


def _value(dimension: Dimension, parameter: Any) -> Any:
    """The value that Optuna's parameter means."""
    return dimension.choices[parameter] if isinstance(dimension, Categorical) else parameter


def import_optuna() -> None:
    """Import Optuna, and silence it. Raises UserError if it is not installed."""
    try:
        import optuna  # it takes a second to import
    except ModuleNotFoundError as error:
        raise missing_extra("model", error) from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
