"""`strategy = "auto"`: the strategy that suits a study, and why, in words.

The choice depends on the space, the budget, the fidelity and the number of workers. It is made once, when the study
begins, and kept in study.json.
"""

from __future__ import annotations

import math
from dataclasses import replace
from importlib.util import find_spec

from foldertune.space import values_of
from foldertune.strategies.schedules import schedule_of
from foldertune.study import Study
from foldertune.text import counted

AUTO = "auto"
CHOICES = ("random", "halton", "tpe")  # none of them needs another number of trials, so a search may go on with any
PACKAGES = {"tpe": ("optuna",), "halton": ("scipy",)}  # that they need
ENOUGH = 20  # trials; TPE draws the first ten at random
ROUNDS = 3  # trials per worker; with fewer, most trials begin before there are results


def choose(study: Study, workers: int | None, *, is_warm: bool = False) -> Study:
    """The study with a strategy that has a name of its own.

    Args:
        workers: how many train at once, as far as we know.
        is_warm: will it know results of another study?
    """
    name, why = _choose(study, workers or 1, is_warm)
    lacking = [package for package in PACKAGES.get(name, ()) if find_spec(package) is None]
    if lacking:
        why = f"{name} would suit it, but needs {' and '.join(lacking)}: pip install 'foldertune[model]'"
        name = "random"
    return replace(study, strategy=name, why=why)


def _choose(study: Study, workers: int, is_warm: bool) -> tuple[str, str]:
    trials, size = _trials(study), _size(study)
    if is_warm:
        return "tpe", "it learns from the results that are known"
    if study.fidelity and study.is_scheduled:
        schedule, settings = schedule_of(study), _settings(study)
        if settings < ROUNDS * workers:
            return _without_model(study, f"most settings begin before {_have_results(workers)}")
        if settings < 2 * schedule.settings_to_learn_from:  # a model would have no say in most of them
            return _without_model(
                study, f"too few of {counted(int(settings), 'setting')} come far enough to learn from"
            )
        return "tpe", f"{study.fidelity.schedule} tries many settings, and it learns from those that come far"
    if size < math.inf and size * study.repeats <= trials:
        return "halton", f"there are only {counted(int(size), 'combination')}; it tries them all"
    if trials < ENOUGH:
        return _without_model(study, f"{counted(int(trials), 'trial')} are too few to learn from")
    if trials < ROUNDS * workers:
        return _without_model(study, f"most of {trials:,} trials begin before {_have_results(workers)}")
    return "tpe", "it learns from results where to look"


def _have_results(workers: int) -> str:
    return f"{counted(workers, 'worker')} {'has' if workers == 1 else 'have'} results"


def _without_model(study: Study, cause: str) -> tuple[str, str]:
    if study.guesses:
        return "random", f"{cause}; it draws half of them around your guess, fewer if that is no good"
    return "halton", f"{cause}; it covers the space evenly"


def _trials(study: Study) -> float:
    """How many trials the budget pays for at most: their number, or the epochs if each has the same."""
    each = study.fixed.get(study.fidelity.setting) if study.fidelity else None
    epochs = study.budget.epochs
    if epochs is None or not isinstance(each, int | float) or each <= 0:
        return study.most_trials
    return min(study.most_trials, int(epochs // each))


def _settings(study: Study) -> float:
    """How many settings a budget with a schedule pays for, with the promotions of the best; infinite without one."""
    return min((study.budget.epochs or math.inf) / schedule_of(study).epochs_of_a_setting, study.most_trials)


def _size(study: Study) -> float:
    """How many combinations the space has; infinite if a hyperparameter has a range without a step."""
    values = [values_of(dimension) for dimension in study.space.values()]
    return math.prod(math.inf if each is None else len(each) for each in values)
