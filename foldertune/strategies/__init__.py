"""Strategies choose the settings of trials.

A strategy is made for one study. The master asks it for the settings of the trial with a certain number, and gives it
the history: the results so far, and the trials without a result. To add a strategy, write a file with a class like
those in `plain.py`, and a line in STRATEGIES.
"""

from __future__ import annotations

from dataclasses import replace

from foldertune.budget import Budget
from foldertune.changing import before_last_change
from foldertune.errors import StudyError, did_you_mean
from foldertune.protocol import Proposal
from foldertune.shipped import DEFAULT_OBJECTIVE
from foldertune.space import Float, Int
from foldertune.stopping import chosen
from foldertune.strategies.auto import AUTO, CHOICES, choose
from foldertune.strategies.changed import SCOUTS, ChangedSearch, widened
from foldertune.strategies.distinct import is_discrete
from foldertune.strategies.drawing import reseeded
from foldertune.strategies.evolution import CMASearch, NSGA2Search
from foldertune.strategies.first import FirstSearch, check_guesses
from foldertune.strategies.guesses import GuidedSearch
from foldertune.strategies.interface import Answer, History, NamedStrategy, Strategy, ask
from foldertune.strategies.model import GPSearch, ModelSearch, TPESearch
from foldertune.strategies.own import OwnSearch
from foldertune.strategies.plain import GridSearch, RandomSearch
from foldertune.strategies.schedules import SCHEDULES, schedule_of
from foldertune.strategies.sequences import HaltonSearch, SobolSearch
from foldertune.study import Study
from foldertune.study_file import load_study
from foldertune.text import amount

__all__ = [
    "CHOICES",
    "STRATEGIES",
    "Answer",
    "History",
    "Proposal",
    "Strategy",
    "ask",
    "check_first",
    "check_known",
    "in_words",
    "load",
    "new_strategy",
    "plan",
    "replanned",
    "reseeded",
]

OWN = ":"  # in the name of a person's own strategy, FILE:FUNCTION
STRATEGIES: dict[str, type[NamedStrategy]] = {
    "grid": GridSearch,
    "random": RandomSearch,
    "sobol": SobolSearch,
    "halton": HaltonSearch,
    "tpe": TPESearch,
    "gp": GPSearch,
    "nsga-ii": NSGA2Search,
    "cma-es": CMASearch,
}


def in_words(study: Study) -> str:
    """The study's strategy with its schedule: `tpe search in screening (epochs 1, 3, 9, 27)`."""
    if study.fidelity is None or not study.is_scheduled:
        return f"{study.strategy} search"
    rungs = f"{study.fidelity.setting} {', '.join(map(amount, schedule_of(study).rungs))}"
    return f"{study.strategy} search in {study.fidelity.schedule} ({rungs})"


def new_strategy(study: Study) -> Strategy:
    """The strategy for this study, with its schedule. Raises StudyError if there is no strategy of that name."""
    if not study.changes:
        return _present(study, _kind(study, study.name)(study))
    old, first = before_last_change(study), study.changes[-1].trial
    before = new_strategy(old) if _needs_no_results(old) else None
    chosen = _kind(study, study.name)(study)
    if isinstance(chosen, RandomSearch) and is_discrete(study):
        earlier = None
        if before:
            proposed = (before.propose(number, History()) for number in range(first))
            earlier = [study.filled(each.settings) for each in proposed if isinstance(each, Proposal)]
        chosen.follow(first, earlier)
    now, wider = _present(study, chosen), widened(study)
    if wider is None or study.is_scheduled or not isinstance(chosen, ModelSearch):  # half of a schedule is random
        return ChangedSearch(study, before, now)
    scout = RandomSearch(study)
    scout.follow(first, None)
    return ChangedSearch(study, before, now, _present(study, scout), wider + SCOUTS)


def _needs_no_results(study: Study) -> bool:
    """Are settings a function of study and number? If not, the strategy is not even made: it may be a person's code."""
    while True:
        if study.first or study.is_scheduled or OWN in study.strategy:
            return False
        if not _kind(study, study.name).is_reproducible or (study.guesses and not is_exhaustive(study)):
            return False
        if not study.changes:
            return True
        study = before_last_change(study)


def is_exhaustive(study: Study) -> bool:
    """Must each trial of the study's strategy be tried?"""
    return getattr(_kind(study, study.name), "is_exhaustive", False)


def replanned(study: Study) -> Study:
    """After a change: if the study is to try everything, with as many trials as that takes, with those of before."""
    if not study.changes or not is_exhaustive(study):
        return study
    everything = GridSearch(replace(study, changes=())).most
    now = new_strategy(study)
    if not isinstance(now, ChangedSearch) or not isinstance(now.now, GridSearch) or study.trials != everything:
        return study
    return replace(study, trials=now.now.most)


def _present(study: Study, strategy: Strategy) -> Strategy:
    """This strategy with what the study says of first trials, and of a schedule."""
    if (study.first or study.guesses) and not getattr(strategy, "is_exhaustive", False):
        strategy = FirstSearch(study, strategy)
    if study.fidelity is None or not study.is_scheduled:
        return strategy
    return SCHEDULES[study.fidelity.schedule](study, strategy)


def load(
    name_or_path: str,
    *,
    trials: int | None = None,
    seed: int | None = None,
    repeats: int | None = None,
    strategy: str | None = None,
    budget: Budget | None = None,
    stopping: str | None = None,
    objective: str = DEFAULT_OBJECTIVE,
    workers: int | None = None,
    is_warm: bool = False,
) -> Study:
    """The study with this name in studies/, or in this TOML file, checked by its strategy. Raises StudyError.

    Args:
        strategy: instead of the study's.
        budget: the limits to change, besides `trials`.
        stopping: the rule by which trials are stopped early, instead of the study's.
        objective: for a study that names none.
        workers: how many are to train at once, if that is known.
        is_warm: will it know results of another study?
    """
    study, source = load_study(name_or_path, objective), name_or_path
    if strategy is None and OWN in study.strategy:  # a study file from elsewhere must not run code here
        raise StudyError(f"{source}: strategy: your own stands on the command line: --strategy {study.strategy}")
    if strategy is not None:
        study, source = replace(study, strategy=strategy), f"{name_or_path}, --strategy {strategy}"
    if stopping is not None:
        study = replace(study, stopping=chosen(stopping, study.stopping))
    return plan(
        study, source, trials=trials, seed=seed, repeats=repeats, budget=budget, workers=workers, is_warm=is_warm
    )


def plan(
    study: Study,
    source: str,
    *,
    trials: int | None = None,
    seed: int | None = None,
    repeats: int | None = None,
    budget: Budget | None = None,
    workers: int | None = None,
    is_warm: bool = False,
) -> Study:
    """The study with the changes that the command line asks for.

    Raises StudyError, naming `source` or the option, if its strategy can't search it.
    """
    for option, value in (("--trials", trials), ("--repeats", repeats)):
        if value is not None and value < 1:
            raise StudyError(f"{option}: must be at least 1")
    if budget:
        study = replace(study, budget=study.budget.changed(budget))
    _check_epochs(study, source)
    if study.stopping and study.is_scheduled:
        raise StudyError(
            f"{source}: stopping: the schedule in [fidelity] ends trials early; remove 'highest', or the rule"
        )
    if study.strategy == AUTO:
        asked = replace(study, trials=trials or study.trials, repeats=repeats or study.repeats)
        study = choose(asked, workers, is_warm=is_warm)
    kind = _kind(study, source)
    if kind is GridSearch and study.is_scheduled:
        raise StudyError(f'{source}: fidelity.highest: a grid tries everything in full; remove it, or take "random"')
    check_guesses(study, source)
    check_first(study, source)
    return kind.plan(study if seed is None else replace(study, seed=seed), source, trials, repeats)


def check_first(study: Study, source: str) -> None:
    """Raise StudyError, naming `source`, if the study's strategy can't begin with settings from a list."""
    if study.first and getattr(_kind(study, source), "is_exhaustive", False):
        raise StudyError(f"{source}: settings to try first: a {study.strategy} tries all of its own; remove them")


def check_known(study: Study, source: str) -> None:
    """Raise StudyError, naming `source`, if the study's strategy can't learn from the results of another study."""
    if not getattr(_kind(study, source), "learns", False):
        names = " or ".join(f'"{name}"' for name, kind in STRATEGIES.items() if getattr(kind, "learns", False))
        raise StudyError(f"{source}: {study.strategy} search does not learn from results; take strategy {names}")


def _check_epochs(study: Study, source: str) -> None:
    """Raise StudyError if epochs are limited, and the settings don't say how many a trial has."""
    if study.budget.epochs is None:
        return
    if study.fidelity is None:
        example = 'add a table [fidelity] with setting = "epochs", the setting that says how long a trial trains'
        raise StudyError(f"{source}: epochs in the budget: of which setting? {example}")
    if not study.is_scheduled and study.fidelity.setting not in {*study.space, *study.fixed}:
        raise StudyError(
            f"{source}: fidelity.setting: with epochs in the budget, "
            f"'{study.fidelity.setting}' must be in [fixed] or [space]; add it there"
        )
    least = _least_epochs(study)
    if least is not None and least > study.budget.epochs:
        raise StudyError(
            f"{source}: epochs in the budget: {amount(study.budget.epochs)} pay for no trial, the shortest has "
            f"{amount(least)} {study.fidelity.setting}; raise them"
        )


def _least_epochs(study: Study) -> float | None:
    """The fidelity of the shortest trial; None if it is no number."""
    assert study.fidelity
    if study.is_scheduled:
        return schedule_of(study).rungs[0]
    dimension = study.space.get(study.fidelity.setting)
    if isinstance(dimension, Float | Int):
        return dimension.low
    values = [study.fixed.get(study.fidelity.setting)] if dimension is None else dimension.choices
    return min((float(value) for value in values if isinstance(value, int | float)), default=None)


def _kind(study: Study, source: str) -> type[NamedStrategy]:
    if OWN in study.strategy:
        return OwnSearch
    kind = STRATEGIES.get(study.strategy)
    if kind is None:
        *names, last = (f'"{name}"' for name in (AUTO, *STRATEGIES))
        known = f"{', '.join(names)} or {last}"
        hint = did_you_mean(study.strategy, (AUTO, *STRATEGIES))
        raise StudyError(f"{source}: strategy: must be {known}, not {study.strategy!r}{hint}")
    return GuidedSearch if kind is RandomSearch and study.guesses else kind
