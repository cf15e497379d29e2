"""The rules for all strategies, and the proposals of grid and random search."""

from __future__ import annotations

from dataclasses import replace

import pytest

from foldertune.errors import StudyError
from foldertune.protocol import Trial, TrialName
from foldertune.strategies import STRATEGIES, Answer, History, Proposal, load, new_strategy, plan
from foldertune.study import SEED
from foldertune.study_file import study_from_record

RECORD = {
    "name": "toy", "metric": "loss", "trials": 6, "fixed": {"epochs": 3},
    "space": {"a": {"type": "categorical", "choices": [1, 2, 3], "ordered": True}, "b": ["x", "y"]},
}  # fmt: skip
BEFORE = [  # the release without strategies as objects proposed these, and folders exist that began with them
    ("quickstart", 7, {
        "learning_rate": 0.13761766140430534, "momentum": 0.6172343390139604, "batch_size": 168, "filters": 19,
        "seed": 768572164, "data": "small", "epochs": 3,
    }),
    ("scenario5", 0, {
        "batch_size": 60, "learning_rate": 0.038418151831944684, "momentum": 0.7819229021438854, "filters": 45,
        "seed": 1471817666, "data": "full", "epochs": 1000, "time_limit": 60.0,
    }),
    ("scenario3", 5, {
        "learning_rate": 0.01, "momentum": 0.9, "seed": 1749585192, "data": "small", "epochs": 50, "batch_size": 64,
        "filters": 32,
    }),
    ("scenario1", 9, {
        "learning_rate": 0.01, "seed": 429607176, "data": "small", "epochs": 50, "batch_size": 500, "momentum": 0.0,
        "filters": 32,
    }),
]  # fmt: skip


def new_study(strategy, **changes):
    return plan(study_from_record({**RECORD, "strategy": strategy, **changes}, "toy.toml"), "toy.toml")


def a_history(study, count):
    """A history in which the first trials have ended, all with the same result."""
    settings = {k: new_strategy(study).propose(k, History()).settings for k in range(count)}
    trials = {k: Trial(TrialName(k, 1, "seen"), settings=settings[k], result={"loss": 0.1 * k}) for k in settings}
    return History(trials, {count: None})


# ---------------------------------------------------------------- all strategies


@pytest.mark.parametrize("name", STRATEGIES)
def test_it_proposes_settings_of_the_study(name):
    study = new_study(name)
    strategy = new_strategy(study)
    for number in range(study.trials):
        proposal = strategy.propose(number, a_history(study, number))
        assert isinstance(proposal, Proposal)
        assert study.contains(proposal.settings) and isinstance(proposal.settings[SEED], int)
        assert set(proposal.settings) == {"a", "b", "epochs", SEED}


@pytest.mark.parametrize("name", STRATEGIES)
def test_the_same_history_gets_the_same_answer_whoever_asks(name):
    study = new_study(name)
    history = a_history(study, 4)
    first, second = new_strategy(study), new_strategy(study)
    assert [first.propose(k, history) for k in (4, 5)] == [second.propose(k, history) for k in (4, 5)]


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_fixed_seed_is_the_seed_of_all_trials(name):
    study = new_study(name, fixed={"seed": 5})
    assert {new_strategy(study).propose(k, History()).settings[SEED] for k in range(6)} == {5}


@pytest.mark.parametrize("name", [name for name, kind in STRATEGIES.items() if kind.is_reproducible])
def test_reproducible_settings_depend_on_study_seed_and_number_alone(name):
    study = new_study(name)
    strategy = new_strategy(study)
    forward = [strategy.propose(k, History()) for k in range(6)]
    assert [strategy.propose(k, a_history(study, 3)) for k in reversed(range(6))] == forward[::-1]
    other = new_strategy(replace(study, seed=1))
    assert [other.propose(k, History()) for k in range(6)] != forward


@pytest.mark.parametrize("name", STRATEGIES)
def test_it_is_planned_once_and_for_all(name):
    study = new_study(name)
    assert plan(study, "toy.toml") == study
    assert plan(study, "toy.toml", trials=2, seed=7) == replace(study, trials=2, seed=7)
    for option in ({"trials": 0}, {"repeats": 0}, {"trials": -1}):
        with pytest.raises(StudyError, match=rf"--{next(iter(option))}: must be at least 1"):
            plan(study, "toy.toml", **option)


def test_a_strategy_that_is_not_there():
    with pytest.raises(StudyError, match=r"toy: strategy: must be .* not 'grids' \(did you mean 'grid'\?\)"):
        plan(study_from_record({**RECORD, "strategy": "grids"}, "toy"), "toy")


# ---------------------------------------------------------------- grid and random


@pytest.mark.parametrize(("study", "number", "settings"), BEFORE)
def test_settings_are_those_of_earlier_releases(study, number, settings):
    strategy = "random" if study == "quickstart" else None  # which takes "auto" now
    proposal = new_strategy(load(study, strategy=strategy)).propose(number, History())
    assert proposal.settings == settings and list(proposal.settings) == list(settings)


@pytest.mark.parametrize("name", ["grid", "random"])
def test_grid_and_random_search_need_no_result(name):
    study = new_study(name)
    strategy = new_strategy(study)
    assert strategy.is_reproducible and not strategy.is_adaptive
    history = a_history(study, 4)
    assert not any(k in strategy.needs(history) for k in range(6))


def test_a_grid_ends_with_its_last_repeat():
    study = new_study("grid", repeats=2, trials=12)
    grid = new_strategy(study)
    assert study.trials == 12
    proposed = [grid.propose(k, History()) for k in range(12)]
    pairs = [(p.settings["a"], p.settings["b"]) for p in proposed]
    assert pairs == 2 * [(1, "x"), (1, "y"), (2, "x"), (2, "y"), (3, "x"), (3, "y")]
    assert len({p.settings[SEED] for p in proposed}) == 12
    assert {grid.propose(k, History()) for k in (12, 13, 10**9)} == {Answer.EXHAUSTED}


def test_a_grid_has_as_many_trials_as_combinations():
    record = {**RECORD, "strategy": "grid"}
    del record["trials"]
    study = study_from_record(record, "toy.toml")
    assert plan(study, "toy").trials == 6
    assert plan(study, "toy", repeats=4).trials == 24 and plan(study, "toy", repeats=4, trials=23).trials == 23
    with pytest.raises(StudyError, match=r"--trials 7: the grid in toy has 6 trials"):
        plan(study, "toy", trials=7)


def test_random_search_has_a_number_of_trials_and_repeats_only_what_could_come_again():
    record = {**RECORD, "strategy": "random"}
    assert plan(study_from_record(record, "toy"), "toy", repeats=2).repeats == 2
    ranges = {**record, "space": {"x": {"type": "float", "low": 0, "high": 1}}}
    with pytest.raises(StudyError, match=r"--repeats 2: only for a space of lists and steps, and this one has ranges"):
        plan(study_from_record(ranges, "toy"), "toy", repeats=2)
    with pytest.raises(StudyError, match=r"toy: repeats: only for a space of lists and steps"):
        plan(study_from_record({**ranges, "repeats": 2}, "toy"), "toy")
    del record["trials"]
    with pytest.raises(StudyError, match=r"toy: trials: is missing; add, for example, trials = 40"):
        plan(study_from_record(record, "toy"), "toy")
    assert plan(study_from_record(record, "toy"), "toy", trials=3).trials == 3
