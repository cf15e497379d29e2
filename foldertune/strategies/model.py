"""Strategies that learn from results: Optuna's samplers, asked for one trial at a time.

For each proposal, the history is put into a new study of Optuna's in memory, with a new sampler whose seed comes from
the study's seed and the trial's number. So a proposal is a function of history and number: a master that is killed
goes on as if nothing had happened. Nothing is kept anywhere but in the trials' files.
"""

from __future__ import annotations

import itertools
import random
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from foldertune.errors import UserError, missing_extra
from foldertune.metrics import Known, Losses, best_of
from foldertune.protocol import Proposal
from foldertune.space import Categorical, Dimension, Float, Int, identity, values_of
from foldertune.strategies.distinct import Unused, is_discrete
from foldertune.strategies.drawing import draw, evenly, known_inside, permitted
from foldertune.strategies.guesses import Trust
from foldertune.strategies.interface import Answer, History
from foldertune.strategies.plain import RandomSearch
from foldertune.study import Study

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.samplers import BaseSampler
    from optuna.trial import FrozenTrial

MOST_ASKED = 100  # times for one trial, until its settings meet the constraints
MOST_BEST = 25  # TPE sets no more than this many best trials apart from the others
MOST_SEEN = 250  # trials that a sampler is shown: from this number on, TPE has so many best ones
AT_RANDOM = 1 / 2  # of the settings in a schedule (in BOHB a third; Falkner et al., ICML 2018): a model may mislead
RANDOM = "random"  # in a proposal's `why`: its settings are drawn at random


class ModelSearch(RandomSearch):
    """A search by one of Optuna's samplers."""

    is_reproducible = False
    is_adaptive = True
    learns = True
    enough = 10  # results; the samplers draw at random until then
    tries = 3  # for one trial, that may bring what other trials have
    contrasts = False  # must it know bad settings from the whole space?

    def __init__(self, study: Study) -> None:
        super().__init__(study)
        import_optuna()
        self._distributions = {name: self._distribution(dimension) for name, dimension in study.space.items()}
        self._unused = Unused(study) if is_discrete(study) else None
        self._trust = Trust(study) if study.guesses else None
        self._known_before = () if study.is_scheduled else known_inside(study)

    def sampler(self, seed: int) -> BaseSampler:
        """A new sampler."""
        raise NotImplementedError

    def propose(self, number: int, history: History) -> Proposal | Answer:
        """The settings that the sampler asks for, now that the results are these. In a discrete space, unused ones.

        With a schedule, some are drawn at random. If a person has guesses, these and the first ones are drawn near
        them, as far as the results allow.
        """
        rng = random.Random(self._seed(number))
        is_random = self.study.is_scheduled and rng.random() < AT_RANDOM
        drawn: dict[str, Any] | None = None
        why: dict[str, Any] = {RANDOM: True}
        if self._trust and (is_random or self._is_blind(history)):
            drawn, near = self._trust.draw(rng, history)
            asked, why = iter([drawn]), near or why
        elif is_random:
            asked = iter([draw(self.study, rng)])
        else:  # a sampler that is blind draws at random
            asked = self._asked(number, history)
            why = {"results": len(history.counted), **(why if self._is_blind(history) else {})}
        chosen: dict[str, Any] | None
        if self._unused is None:
            chosen = next(asked, None) or draw(self.study, rng)
        else:
            chosen = self._unused.choose(itertools.islice(asked, self.tries), rng, history)
            why = {RANDOM: True} if drawn is not None and chosen != drawn else why
        return self.proposal(self.complete(number, chosen), **why) if chosen else Answer.EXHAUSTED

    def _asked(self, number: int, history: History) -> Iterator[dict[str, Any]]:
        """The settings that the sampler asks for, one after another, as far as they meet the study's constraints."""
        import optuna

        study = optuna.create_study(
            sampler=self.sampler(self._seed(number)), directions=["minimize"] * len(self.study.metrics)
        )
        for trial in self._shown(history):
            study.add_trial(trial)
        for _ in range(MOST_ASKED):
            asked = study.ask(self._distributions).params
            values = {name: _value(dimension, asked[name]) for name, dimension in self.study.space.items()}
            if (chosen := permitted(self.study, values)) is not None:
                yield chosen

    def choose(self, number: int, rng: random.Random) -> dict[str, Any]:
        """Nothing: the sampler chooses."""
        return {}

    def _seed(self, number: int) -> int:
        return random.Random(f"{self.study.seed}/{number}/{self.study.strategy}").randrange(2**32)

    # ---- the history, as a sampler sees it

    def _shown(self, history: History) -> list[FrozenTrial]:
        """The most useful results, and then the trials that have none yet, each by number."""
        counted = {number: trial for number, trial in history.counted.items() if not trial.dropped}
        losses = {number: self.study.losses(trial.result) for number, trial in counted.items()}
        for trial in history.behind if self.contrasts else ():
            counted[trial.name.number], losses[trial.name.number] = trial, None
        settings = {number: trial.settings for number, trial in counted.items()}
        shows_behind = self.contrasts and not self._is_blind(history)
        for place, each in enumerate(self._known(history), start=1):  # numbers that no trial has
            if each.values or shows_behind:
                result = dict(zip(self.study.metric_names, each.values, strict=bool(each.values)))
                losses[-place], settings[-place] = self.study.losses(result), each.settings
        failed = worse_than([each for each in losses.values() if each] or [(0.0,) * len(self.study.metrics)])
        known = {number: each or failed for number, each in losses.items()}
        shown = [self._frozen(settings[number], known[number]) for number in self.most_useful(known)]
        shown += [self._frozen(proposal.settings) for _, proposal in sorted(history.open.items()) if proposal]
        return [trial for trial in shown if trial]

    def _known(self, history: History) -> Sequence[Known]:
        """The results of another study that the sampler is shown; with a schedule, only beside its whole trainings."""
        return history.known if self.study.is_scheduled else self._known_before

    def _is_blind(self, history: History) -> bool:
        """Are there too few results for a model?"""
        return len(history.counted) + sum(bool(each.values) for each in self._known(history)) < self.enough

    def most_useful(self, losses: Mapping[int, Losses]) -> list[int]:
        """The numbers of the trials that the sampler is shown."""
        return most_useful(losses)

    def _frozen(self, settings: Mapping[str, Any], losses: Losses | None = None) -> FrozenTrial | None:
        """A trial of Optuna's, with its values or running; None if a person chose settings outside of the space."""
        import optuna

        if not self.study.contains({**settings, **self.study.fixed}):
            return None
        there = {name: dimension for name, dimension in self.study.space.items() if name in settings}
        state = optuna.trial.TrialState
        return optuna.create_trial(
            state=state.RUNNING if losses is None else state.COMPLETE,
            values=losses,
            params={name: _parameter(dimension, settings[name]) for name, dimension in there.items()},
            distributions={name: self._distributions[name] for name in there},
        )

    @property
    def _is_conditional(self) -> bool:
        return any(dimension.when for dimension in self.study.space.values())

    def _distribution(self, dimension: Dimension) -> BaseDistribution:
        import optuna

        distributions, values = optuna.distributions, values_of(dimension)
        if isinstance(dimension, Categorical) and not dimension.ordered:
            return distributions.CategoricalDistribution(range(len(dimension.choices)))
        if values is not None:
            return distributions.IntDistribution(0, len(values) - 1)
        if isinstance(dimension, Int):
            return distributions.IntDistribution(dimension.low, dimension.high, log=dimension.log)
        assert isinstance(dimension, Float)
        return distributions.FloatDistribution(dimension.low, dimension.high, log=dimension.log)


class TPESearch(ModelSearch):
    """Models where good and where bad results lie (tree-structured Parzen estimator; Bergstra et al., NeurIPS 2011).

    All hyperparameters together (Falkner et al., ICML 2018). Trials that still run count as bad, so that workers try
    different settings at the same time.
    """

    contrasts = True

    def sampler(self, seed: int) -> BaseSampler:
        """Optuna's TPE."""
        import optuna

        return optuna.samplers.TPESampler(seed=seed, multivariate=True, group=self._is_conditional, constant_liar=True)


class GPSearch(ModelSearch):
    """Models the metric by a Gaussian process, and takes where improvement is likeliest. For up to some 100 trials."""

    def __init__(self, study: Study) -> None:
        super().__init__(study)
        if find_spec("torch") is None:
            raise UserError('strategy: "gp" needs torch, which is not installed; install it with: pip install torch')

    def sampler(self, seed: int) -> BaseSampler:
        """Optuna's Gaussian process."""
        import optuna

        if "torch" in sys.modules:  # Optuna imports it when it needs it
            sys.modules["torch"].set_num_threads(1)  # several get in each other's way: the matrices are small
        return optuna.samplers.GPSampler(seed=seed)


def most_useful(losses: Mapping[int, Losses]) -> list[int]:
    """The numbers of the trials that a sampler is shown: all, or the best, and of the others an even sample.

    With several metrics the best are those on the Pareto front, then those that would be if these were not there.
    """
    numbers = sorted(losses)
    if len(numbers) <= MOST_SEEN:
        return numbers
    best = best_of(losses, MOST_BEST)
    return sorted([*best, *evenly(sorted(set(numbers) - set(best)), MOST_SEEN - MOST_BEST)])


def worse_than(all_losses: Sequence[Losses]) -> Losses:
    """Losses for a trial that has failed: in each metric as far behind the worst as that is behind the best."""
    columns = zip(*all_losses, strict=True)
    return tuple(max(column) + ((max(column) - min(column)) or 1.0) for column in columns)


def _parameter(dimension: Dimension, value: Any) -> Any:
    """A value as Optuna knows it: of a list or a range with a step, its place there."""
    if isinstance(dimension, Categorical):
        return next(place for place, choice in enumerate(dimension.choices) if identity(choice) == identity(value))
    return value if dimension.step is None else round((value - dimension.low) / dimension.step)


def _value(dimension: Dimension, parameter: Any) -> Any:
    """The value that Optuna's parameter means."""
    values = values_of(dimension)
    return parameter if values is None else values[parameter]


def import_optuna() -> None:
    """Import Optuna, and silence it. Raises UserError if it is not installed."""
    try:
        import optuna  # it takes a second to import
    except ModuleNotFoundError as error:
        raise missing_extra("model", error) from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
