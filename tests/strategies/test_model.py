"""Sequences and model-based search: what they promise about numbers, histories and results."""

from __future__ import annotations

import itertools
import math
import statistics
import sys
from dataclasses import replace

import pytest

from foldertune.errors import UserError
from foldertune.metrics import Metric, layers
from foldertune.protocol import Proposal, Trial, TrialName
from foldertune.space import Categorical, Float, Int
from foldertune.strategies import History, new_strategy
from foldertune.strategies.model import MOST_BEST, MOST_SEEN, most_useful, worse_than
from foldertune.study import Study

SPACE = {"rate": Float(1e-4, 1.0, log=True), "width": Int(4, 99), "kind": Categorical((None, [1, 2], "1", 1))}
ADAPTIVE = ["tpe", "gp", "nsga-ii", "cma-es"]


def new_study(strategy, **changes):
    return replace(Study("toy", strategy, 100, "loss", objective="mine:train", space=SPACE), **changes)


def loss_of(settings):
    """Lowest at a rate of 1e-2 and a width of 40, with [1, 2]."""
    return (math.log10(settings["rate"]) + 2) ** 2 + ((settings["width"] - 40) / 50) ** 2 + (settings["kind"] != [1, 2])


def counted(number, settings, loss=None):
    result = None if loss is None else {"loss": loss}
    return Trial(TrialName(number, 1, "seen"), settings, result=result, error=None if result else "failed")


def search(study, trials, loss=loss_of):
    """The trials of a search, one after another."""
    strategy, history = new_strategy(study), {}
    for number in range(trials):
        proposal = strategy.propose(number, History(history))
        assert study.contains(proposal.settings)
        history[number] = counted(number, proposal.settings, loss(proposal.settings))
        history[number].why = proposal.why
    return history


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_tpe_finds_better_settings_than_random_search(direction):
    sign = 1 if direction == "minimize" else -1
    best = {}
    for name in ("random", "tpe"):
        study = new_study(name, direction=direction)
        last = [
            list(search(replace(study, seed=seed), 40, lambda s: sign * loss_of(s)).values())[20:] for seed in range(3)
        ]
        best[name] = statistics.median(loss_of(trial.settings) for trials in last for trial in trials)
    print(best)
    assert best["tpe"] < best["random"] / 3


@pytest.mark.parametrize("name", ["tpe", "gp"])
def test_trials_that_fail_count_as_the_worst(name):
    """A model that left them out would go on to propose what fails."""
    study = new_study(name)
    draws = [new_strategy(replace(study, strategy="random", seed=seed)).settings(0) for seed in range(14)]
    history = {k: counted(k, each, 1.0 if each["width"] > 50 else None) for k, each in enumerate(draws)}
    strategy = new_strategy(study)
    widths = [strategy.propose(k, History(history)).settings["width"] for k in range(30, 34)]
    assert sum(width > 50 for width in widths) >= 3, widths


def test_what_still_runs_is_not_proposed_again():
    """Not even where results are best: that is left to the trials that run there."""
    study = new_study("tpe", space={"x": Float(0.0, 1.0)})
    strategy = new_strategy(study)
    results = {k: counted(k, {"x": k / 20}, abs(k / 20 - 0.5)) for k in range(21)}

    def middle(open_trials):
        proposed = [strategy.propose(k, History(results, open_trials)).settings["x"] for k in range(30, 50)]
        return sum(abs(x - 0.5) < 0.08 for x in proposed)

    assert middle({k: Proposal({"x": 0.5 + (k - 25) / 200}) for k in range(21, 30)}) < middle({})


@pytest.mark.parametrize("name", ["tpe", "nsga-ii", "cma-es"])
def test_settings_from_elsewhere_do_no_harm(name):
    """A person may have queued a trial outside of the space, or with other settings."""
    study = new_study(name)
    results = search(study, 12)
    results[12] = counted(12, {"rate": 7.0, "width": 4, "kind": 1}, 0.0)
    results[13] = counted(13, {"other": 1}, 0.0)
    opened = {14: None, 15: Proposal({"rate": "fast"})}
    assert study.contains(new_strategy(study).propose(16, History(results, opened)).settings)


SPACE_OF_ALL_TYPES = {
    "optimizer": Categorical(("sgd", "adam")),
    "rate": Float(1e-4, 1.0, log=True),
    "dropout": Float(0.0, 0.5, step=0.1),
    "batch": Int(16, 256, log=True),
    "width": Int(10, 90, step=20),
    "depth": Categorical((1, 2, 4), ordered=True),
    "layers": Categorical((None, [64], {"a": 1})),
    "momentum": Float(0.0, 0.99, when={"optimizer": ("sgd",)}),
    "nesterov": Categorical((True, False), when={"momentum": (0.5,), "optimizer": ("sgd",)}),
}


@pytest.mark.parametrize("name", ["random", "sobol", "halton", *ADAPTIVE])
def test_every_type_of_hyperparameter_condition_and_constraint(name):
    """All settings lie in the space and meet the constraints; conditional ones are there only when they should be."""
    study = new_study(name, space=SPACE_OF_ALL_TYPES, constraints=("width * depth <= 100", "batch > 20"))
    trials = 13 if name == "gp" else 40

    def loss(settings):
        return settings["dropout"] + abs(settings.get("momentum", 0.3) - 0.9) + (settings["layers"] is not None)

    settings = [trial.settings for trial in search(study, trials, loss).values()]  # which looks at the space
    assert {each["optimizer"] for each in settings} == {"sgd", "adam"}
    assert all(("momentum" in each) == (each["optimizer"] == "sgd") for each in settings)


@pytest.mark.parametrize("name", ADAPTIVE)
def test_a_restarted_master_does_not_propose_the_same_again(name):
    """Optuna's samplers begin with the same draw after each restart; ours depend on the trial's number."""
    study = new_study(name)
    settings = [new_strategy(study).propose(number, History()).settings["rate"] for number in range(5)]
    assert len(set(settings)) == 5


def test_the_sampler_sees_the_best_and_an_even_sample_of_the_others():
    few = dict.fromkeys(range(MOST_SEEN), (0.0,))
    assert most_useful(few) == list(few)
    many = {number: (float((number * 7919) % 10_000),) for number in range(10_000)}
    seen = most_useful(many)
    assert len(seen) == MOST_SEEN and seen == sorted(seen)
    assert {number for number, loss in many.items() if loss[0] < MOST_BEST} <= set(seen)
    assert max(b - a for a, b in itertools.pairwise(seen)) < 3 * 10_000 / MOST_SEEN


@pytest.mark.parametrize("name", ["sobol", "halton"])
def test_sequences_cover_the_space_evenly(name):
    """Of 16 points, each sixteenth of each range has about one: random search leaves many empty."""
    study = new_study(name, space={"x": Float(0.0, 1.0), "y": Float(0.0, 1.0)})
    strategy = new_strategy(study)
    points = [strategy.propose(number, History()).settings for number in range(16)]
    for key in ("x", "y"):
        assert len({int(16 * point[key]) for point in points}) >= 11
    assert strategy.propose(3, History()).settings == points[3]  # a number that has passed
    assert new_strategy(study).propose(11, History()).settings == points[11]  # after a restart


def test_a_missing_library_is_named_with_its_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(UserError, match=r"optuna is not installed; .*pip install 'foldertune\[model\]'"):
        new_strategy(new_study("tpe"))


# ---------------------------------------------------------------- several metrics

TWO = {"metric": "loss", "others": (Metric("size", "maximize"),), "space": {"x": Float(0.0, 1.0), "y": Float(0.0, 1.0)}}


def search_two(name, trials, seed=0):
    """Two metrics that pull x apart, and that are both best where y is 0.8."""
    study = new_study(name, seed=seed, **TWO)
    strategy, history = new_strategy(study), {}
    for number in range(trials):
        settings = strategy.propose(number, History(history)).settings
        x, lack = settings["x"], abs(settings["y"] - 0.8)
        history[number] = Trial(TrialName(number, 1, "seen"), settings, result={"loss": x + lack, "size": x - lack})
    return [trial.settings for trial in history.values()]


@pytest.mark.parametrize("name", ["tpe"])
def test_with_two_metrics_the_whole_front_is_found(name):
    late = [settings for seed in range(3) for settings in search_two(name, 60, seed)[30:]]
    assert statistics.median(abs(settings["y"] - 0.8) for settings in late) < 0.12, "random search: 0.3"
    assert min(each["x"] for each in late) < 0.3 and max(each["x"] for each in late) > 0.7


def test_a_gaussian_process_models_two_metrics():
    late = search_two("gp", 14)[10:]
    assert statistics.median(abs(settings["y"] - 0.8) for settings in late) < 0.12


def test_with_two_metrics_the_front_is_seen_and_what_fails_is_worst_in_both():
    lost = {k: (float(k % 100), float(k * 7919 % 10_007)) for k in range(10_000)}
    seen = most_useful(lost)
    assert len(seen) == MOST_SEEN and set(layers(lost)[0]) <= set(seen)
    assert worse_than([(1.0, 5.0), (3.0, 5.0)]) == (5.0, 6.0)
    line = {k: (float(k), float(-k)) for k in range(10_000)}  # a front that is much too long
    assert {0, 400, 9600} <= set(most_useful(line)) and len(most_useful(line)) == MOST_SEEN
