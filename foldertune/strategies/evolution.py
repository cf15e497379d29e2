"""Evolution: new settings come from the best of those before. NSGA-II crosses them, CMA-ES follows their distribution.

Both keep nothing but what stands in the trials' files. NSGA-II takes its parents from all results, whenever it is asked
(a steady state; Durillo et al., 2008), so it needs no generations. CMA-ES does: the trial's file says to which one it
belongs, and the distribution is found again by telling the generations to the algorithm, one after another.
"""

from __future__ import annotations

import copy
import itertools
import random
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from foldertune.errors import StudyError, missing_extra
from foldertune.metrics import Losses, best_of
from foldertune.protocol import Proposal, Trial, TrialName
from foldertune.space import Categorical, Dimension, share_of
from foldertune.strategies.distinct import Unused, is_discrete
from foldertune.strategies.drawing import draw, permitted
from foldertune.strategies.interface import Answer, History
from foldertune.strategies.model import MOST_ASKED, MOST_SEEN, ModelSearch
from foldertune.strategies.plain import RandomSearch
from foldertune.study import Study

if TYPE_CHECKING:
    from cmaes import CMA
    from optuna.samplers import BaseSampler
    from optuna.study import Study as OptunaStudy
    from optuna.trial import FrozenTrial

POPULATION = 20  # parents of NSGA-II; so many trials are drawn at random before
GENERATION = "generation"  # in a proposal's `why`, from 0
SPREAD = 0.25  # of the first generation of CMA-ES, as a share of each range (a standard deviation)
FAILED = 1e300  # a loss that is worse than all others: only their order counts


class NSGA2Search(ModelSearch):
    """Crosses two of the best settings, and changes some of them (NSGA-II; Deb et al., IEEE TEC 2002)."""

    enough = POPULATION
    tries = 20

    def __init__(self, study: Study) -> None:
        super().__init__(study)
        self._unused = Unused(study)  # a child may be its parent once more, even where ranges are continuous

    def sampler(self, seed: int) -> BaseSampler:
        """Optuna's NSGA-II, in which all results so far are one generation, and each new trial begins the next."""
        import optuna

        class SteadyState(optuna.samplers.NSGAIISampler):
            def get_population(self, study: OptunaStudy, generation: int) -> list[FrozenTrial]:
                return study.get_trials(deepcopy=False, states=[optuna.trial.TrialState.COMPLETE])

            def get_trial_generation(self, study: OptunaStudy, trial: FrozenTrial) -> int:
                return int(len(self.get_population(study, 0)) >= POPULATION)

        return SteadyState(population_size=POPULATION, seed=seed)

    def most_useful(self, losses: Mapping[int, Losses]) -> list[int]:
        """The first front, the second, and so on: the parents are among them."""
        return sorted(best_of(losses, MOST_SEEN))


@dataclass
class State:
    """What CMA-ES knows when a generation begins."""

    optimizer: CMA
    restarts: int = 0
    told: list[TrialName] = field(default_factory=list)  # the trials of this generation, when it is complete


class CMASearch(RandomSearch):
    """Draws from a normal distribution that moves, turns and shrinks with the results (CMA-ES; Hansen, 2016).

    It models numbers, and lists whose neighbours are alike. What else there is, or is there under a condition, is drawn
    at random.
    """

    is_reproducible = False
    is_adaptive = True
    learns = True  # it begins at the best known result

    def __init__(self, study: Study) -> None:
        super().__init__(study)
        self._draws, self._unused = None, Unused(study) if is_discrete(study) else None
        self._modelled = modelled(study)
        self._states = [State(self._begin(0))]  # one for each generation
        self._met: dict[int, tuple[Trial, int | None]] = {}  # trials, each with its generation

    @classmethod
    def plan(cls, study: Study, source: str, trials: int | None, repeats: int | None) -> Study:
        """The same as for random search. Raises StudyError also if nothing has an order, or for several metrics."""
        if study.others:
            raise StudyError(f'{source}: strategy: cma-es searches for one metric; take "nsga-ii" or "tpe"')
        if not modelled(study):
            raise StudyError(
                f"{source}: strategy: cma-es needs a hyperparameter that is a range, or an ordered list, "
                f'without a condition; for this space take "tpe"'
            )
        return super().plan(study, source, trials, repeats)

    def propose(self, number: int, history: History) -> Proposal | Answer:
        """Settings drawn from the present generation's distribution. In a discrete space, unused ones."""
        generation = self._replay(history.whole)
        rng = random.Random(f"{self.study.seed}/{number}/{self.study.strategy}")
        asked = self._asked(self._states[generation].optimizer, rng)
        if self._unused is None:
            chosen: dict[str, Any] | None = next(asked, None) or draw(self.study, rng)
        else:
            chosen = self._unused.choose([*itertools.islice(asked, ModelSearch.tries)], rng, history)
        if chosen is None:
            return Answer.EXHAUSTED
        return self.proposal(self.complete(number, chosen), **{GENERATION: generation})

    def _asked(self, optimizer: CMA, rng: random.Random) -> Iterator[dict[str, Any]]:
        """Draws from the distribution, as far as they meet the study's constraints."""
        optimizer.reseed_rng(rng.randrange(2**32))
        for _ in range(MOST_ASKED):
            shares = {name: rng.random() for name in self.study.space}
            shares |= dict(zip(self._modelled, map(float, optimizer.ask()), strict=True))
            values = {name: dimension.at(shares[name]) for name, dimension in self.study.space.items()}
            if (chosen := permitted(self.study, values)) is not None:
                yield chosen

    # ---- the generations

    def _replay(self, history: History) -> int:
        """Tell the algorithm all complete generations, as far as they are not those that we know. Returns the next."""
        members = self._members(history)
        for generation in itertools.count():
            state = self._states[generation]
            size = state.optimizer.population_size
            complete = sorted(members[generation], key=lambda trial: trial.name.number)[:size]
            if len(complete) < size:
                return generation
            names = [trial.name for trial in complete]
            if state.told != names:
                state.told = names
                del self._states[generation + 1 :]
                self._states.append(self._next(state, complete))
        raise AssertionError

    def _members(self, history: History) -> Mapping[int, list[Trial]]:
        """The counted trials of each generation. A change of the study is a new beginning: its space is another."""
        members, first = (
            defaultdict[int, list[Trial]](list),
            max((each.trial for each in self.study.changes), default=0),
        )
        for number, trial in history.counted.items():
            if number < first or trial.dropped:
                continue
            known = self._met.get(number)
            if known is None or known[0] is not trial:
                known = self._met[number] = trial, self._generation_of(trial)
            if known[1] is not None:
                members[known[1]].append(trial)
        return members

    def _generation_of(self, trial: Trial) -> int | None:
        """None if it is nobody's: a person has queued it, or it goes on with another."""
        generation = trial.why.get(GENERATION)
        is_ours = type(generation) is int and not trial.parent
        there = (
            name in trial.settings and each.contains(trial.settings[name]) for name, each in self._modelled.items()
        )
        return generation if is_ours and all(there) else None

    def _next(self, before: State, generation: Sequence[Trial]) -> State:
        """The state after this generation. If the distribution has shrunk to a point, the search begins elsewhere."""
        import numpy

        optimizer = copy.deepcopy(before.optimizer)
        with numpy.errstate(all="ignore"):
            try:
                optimizer.tell([(self._place(trial), self._loss(trial)) for trial in generation])
                is_over = optimizer.should_stop()
            except numpy.linalg.LinAlgError:
                is_over = True
        if is_over:
            return State(self._begin(before.restarts + 1), before.restarts + 1)
        return State(optimizer, before.restarts)

    def _begin(self, restarts: int) -> CMA:
        """A wide distribution around the best known settings, the guesses or the middle; later around any point."""
        try:
            import numpy
            from cmaes import CMA
        except ModuleNotFoundError as error:
            raise missing_extra("model", error) from None
        rng = random.Random(f"{self.study.seed}/{restarts}/{self.study.strategy}")
        start = {**self.study.guesses}
        if known := [each for each in self.study.known if each.values]:
            start = min(known, key=lambda each: self.study.sign * each.values[0]).settings
        there = {n: start[n] for n, each in self._modelled.items() if n in start and each.contains(start[n])}
        mean = [
            rng.random() if restarts else share_of(each, there[name]) if name in there else 0.5
            for name, each in self._modelled.items()
        ]
        bounds = numpy.array([[0.0, 1.0]] * len(mean))
        return CMA(numpy.clip(mean, 0.0, 1.0), SPREAD, bounds, seed=0)

    def _place(self, trial: Trial) -> Any:
        import numpy

        return numpy.array([share_of(each, trial.settings[name]) for name, each in self._modelled.items()])

    def _loss(self, trial: Trial) -> float:
        losses = self.study.losses(trial.result)
        return FAILED if losses is None else losses[0]


def modelled(study: Study) -> dict[str, Dimension]:
    """The hyperparameters with an order that are always there."""
    return {
        name: each
        for name, each in study.space.items()
        if not each.when and (each.ordered if isinstance(each, Categorical) else True)
    }
