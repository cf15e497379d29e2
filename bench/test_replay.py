"""Searches that are replayed in virtual time: they keep to their budget and their workers, and train no epoch twice."""

from __future__ import annotations

import itertools
import random
from functools import partial

import pytest

from bench.replay import METHODS, Table, _study_of, artificial, replay, replay_optuna, reports
from foldertune.space import Float
from foldertune.study import Study

HIGHEST = 9
SEED = 3


def study_with(schedule, strategy="random"):
    study = Study("toy", strategy, 0, "loss", space={"x": Float(0.0, 1.0)})
    return _study_of(study, schedule, 1, HIGHEST, SEED, 30 * HIGHEST)


def losses():
    return partial(artificial, 0.4, 0.2, 0.0, random.Random(SEED))


@pytest.mark.parametrize("schedule", sorted({schedule for _, schedule in METHODS.values() if schedule}))
@pytest.mark.parametrize("workers", [1, 5])
def test_a_search_with_a_schedule(schedule, workers):
    ends = list(replay(study_with(schedule), losses(), 30 * HIGHEST, workers))
    by_number = {ended.number: ended.trial for ended in ends}
    begun = {number: trial.parent and by_number[trial.parent.number] for number, trial in by_number.items()}
    trained = sum(
        trial.settings["epochs"] - (begun[number].settings["epochs"] if begun[number] else 0)
        for number, trial in by_number.items()
    )
    assert 29 * HIGHEST < trained <= 30 * HIGHEST and ends[-1].spent == trained
    assert all(a.spent <= b.spent and a.time <= b.time for a, b in itertools.pairwise(ends))
    assert ends[-1].time >= trained / workers and (workers > 1 or ends[-1].time == trained)
    assert all(one.settings["x"] == trial.settings["x"] for n, trial in by_number.items() if (one := begun[n]))
    assert any(trial.settings["epochs"] == HIGHEST and trial.parent for trial in by_number.values())


def test_random_search_trains_in_full():
    ends = list(replay(study_with(None), losses(), 10 * HIGHEST + 5, 4))
    assert len(ends) == 10 and {ended.trial.settings["epochs"] for ended in ends} == {HIGHEST}
    assert [ended.time for ended in ends] == [9, 9, 9, 9, 18, 18, 18, 18, 27, 27]
    assert [ended.spent for ended in ends] == [36] * 4 + [72] * 4 + [90] * 2


@pytest.mark.parametrize(("schedule", "workers"), [(None, 1), (None, 4), ("asha", 1), ("asha", 5), ("hyperband", 3)])
def test_each_epoch_is_reported_once_when_it_was_trained(schedule, workers):
    """Against a count by hand: what all trials had trained by the time of the report."""
    ends = list(replay(study_with(schedule), losses(), 30 * HIGHEST, workers))
    told = reports(ends, lambda settings: [settings["x"] - epoch for epoch in range(1, HIGHEST + 1)])
    expected = []
    for each in ends:
        for epoch in range(1, each.trial.settings["epochs"] + 1):
            time = each.time - each.trial.settings["epochs"] + epoch
            if time > each.time - each.trained:
                spent = sum(min(other.trained, max(0, time - other.time + other.trained)) for other in ends)
                expected.append((spent, each.trial.settings["x"] - epoch))
    assert sorted(told) == sorted(expected) and len(told) == ends[-1].spent
    assert [spent for spent, _ in told] == sorted(spent for spent, _ in told)


def test_optuna_keeps_to_the_same_budget():
    pytest.importorskip("optuna", reason="pip install -r requirements-dev.txt")
    spent = [epochs for epochs, _ in replay_optuna(study_with("hyperband"), losses(), 20 * HIGHEST, 4)]
    assert spent == sorted(spent) and 10 * HIGHEST < spent[-1] <= 20 * HIGHEST


def test_the_nearest_settings_of_a_table():
    space = {"rate": Float(0.01, 1.0, log=True), "x": Float(0.0, 10.0)}
    rows = [{"rate": 0.01, "x": 0.0}, {"rate": 0.1, "x": 5.0}, {"rate": 1.0, "x": 10.0}]
    table = Table(Study("toy", "random", 0, "loss", space=space), rows, [[3.0, 2.0], [2.0, 1.0], [9.0, 9.0]])
    assert [table.loss({"rate": rate, "x": 5.0}, 2) for rate in (0.02, 0.05, 0.5)] == [1.0, 1.0, 1.0]
    assert table.loss({"rate": 0.012, "x": 1.0}, 1) == 3.0 and table.loss({"rate": 0.9, "x": 9.0}, 2) == 9.0
