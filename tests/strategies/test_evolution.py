"""NSGA-II and CMA-ES: what they need stands in the trials' files, and a master that is started again goes on."""

from __future__ import annotations

import json
import random
import statistics
from dataclasses import replace

import pytest

from foldertune.errors import StudyError
from foldertune.metrics import Known, Metric
from foldertune.protocol import Proposal, Trial, TrialName
from foldertune.space import Categorical, Float, Int
from foldertune.strategies import Answer, History, new_strategy, plan
from foldertune.strategies.evolution import GENERATION, POPULATION
from foldertune.study import Study
from tests.reading.test_facts import write
from tests.strategies.test_model import loss_of, search_two

NAMES = ["nsga-ii", "cma-es"]
SPACE = {"rate": Float(1e-4, 1.0, log=True), "width": Int(4, 99), "kind": Categorical((None, [1, 2], "1", 1))}


def new_study(strategy, **changes):
    return replace(Study("toy", strategy, 100, "loss", objective="mine:train", space=SPACE), **changes)


def ended(number, proposal, loss):
    result = None if loss is None else {"loss": loss}
    return Trial(
        TrialName(number, 1, "seen"),
        proposal.settings,
        why=proposal.why,
        result=result,
        error=None if result else "failed",
    )


def search(study, trials, loss=loss_of, workers=1, seed=0, again=None):
    """All trials of a search by several workers whose trials end in any order.

    `again` is called with a number, what is counted and what runs, before each proposal.
    """
    strategy, counted, running, rng = new_strategy(study), {}, {}, random.Random(seed)
    for number in range(trials):
        proposal = strategy.propose(number, History(counted, running))
        if again:
            assert again(number, counted, running) == proposal, number
        assert study.contains(proposal.settings)
        running[number] = proposal
        while len(running) >= workers:
            over = rng.choice(sorted(running))
            counted[over] = ended(over, running[over], loss(running.pop(over).settings))
    return counted


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("workers", [1, 4])
def test_a_master_that_is_killed_at_any_moment_goes_on_as_if_nothing_had_happened(name, workers, folder):
    """A new one, which reads the files and knows nothing else, proposes what the old one does. Trials come late, too."""
    study, read = new_study(name), {}

    def again(number, counted, running):
        return new_strategy(study).propose(number, History(dict(reversed(read_all(counted).items())), running))

    def read_all(counted):
        for number in counted.keys() - read.keys():
            trial = counted[number]
            end = {"result": trial.result} if trial.result else {"error": "failed"}
            write(folder, trial.name, [trial.proposal.to_record(), {"claimed": "h-1-a"}, end])
            read[number] = folder.read(trial.name)
        return {number: read[number] for number in counted}

    found = search(
        study, 60, workers=workers, seed=workers, again=again, loss=lambda s: loss_of(s) if s["width"] < 90 else None
    )
    assert len({tuple(repr(trial.settings[key]) for key in SPACE) for trial in found.values()}) == len(found)
    if name == "cma-es":
        generations = [found[number].why[GENERATION] for number in sorted(found)]
        assert generations == sorted(generations) and generations[-1] >= 6
        assert json.loads(json.dumps(generations)) == generations, "plain numbers"


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_they_find_better_settings_than_random_search(name, direction):
    sign = 1 if direction == "minimize" else -1
    last = {}
    for strategy in ("random", name):
        study = new_study(strategy, direction=direction)
        found = [search(replace(study, seed=seed), 90, lambda s: sign * loss_of(s)) for seed in range(3)]
        last[strategy] = statistics.median(loss_of(each[n].settings) for each in found for n in range(60, 90))
    print(last)
    assert last[name] < last["random"] / 2


@pytest.mark.parametrize("name", NAMES)
def test_trials_that_fail_are_the_worst(name):
    """So the search leaves the half of the space where all trials fail, although the best would be there."""
    study = new_study(name, space={"x": Float(0.0, 1.0), "y": Float(0.0, 1.0)})
    found = search(study, 60, lambda s: None if s["x"] > 0.5 else -s["x"])
    assert sum(found[number].settings["x"] > 0.5 for number in range(40, 60)) <= 10
    assert len(search(study, 40, lambda s: None)) == 40, "all fail"


def test_a_flat_valley_is_left_for_another_place():
    """Where all results are equal, nothing is to be followed: after some generations the search begins elsewhere."""
    study = new_study("cma-es", space={"x": Float(0.0, 1.0), "y": Float(0.0, 1.0)})
    strategy, counted = new_strategy(study), {}
    for number in range(160):
        counted[number] = ended(number, strategy.propose(number, History(counted)), 1.0)
    assert strategy._states[-1].restarts >= 1
    assert new_strategy(study).propose(160, History(counted)) == strategy.propose(160, History(counted))


def test_what_stands_in_files_does_no_harm():
    """Trials that a person queued, or whose generation is none, belong to no generation of CMA-ES."""
    study = new_study("cma-es")
    strategy = new_strategy(study)
    odd = [10**30, -1, True, "0", None, [0], 0.0, float("nan")]
    settings = strategy.propose(0, History()).settings
    counted = {
        90000 + k: ended(90000 + k, Proposal(settings, why={GENERATION: each}), 0.0) for k, each in enumerate(odd)
    }
    counted[80000] = ended(80000, Proposal({"rate": 7.0, "width": "wide"}, why={GENERATION: 0}), 0.0)
    counted[80001] = ended(80001, Proposal({}, why={GENERATION: 0}), 0.0)
    assert strategy.propose(0, History(counted, {5: None})) == strategy.propose(0, History())


@pytest.mark.parametrize("name", NAMES)
def test_what_is_known_is_begun_with(name):
    """CMA-ES begins at the best known result, or at a person's guess; NSGA-II has known results among its parents."""
    space = {"x": Float(0.0, 1.0), "y": Float(0.0, 1.0, guess=(0.9,))}
    known = tuple(Known({"x": 0.02 * k, "y": 0.1}, (abs(0.02 * k - 0.8),)) for k in range(2 * POPULATION + 1))

    def proposed(study):
        strategy = new_strategy(study)
        return [strategy.propose(k, History()).settings for k in range(1, 41)]

    study = new_study(name, space=space)
    begun = proposed(replace(study, known=known))
    if name == "nsga-ii":
        xs = {each.settings["x"] for each in known if each.values[0] < 0.25}
        assert sum(each["x"] in xs for each in begun) > 8, "inherited"
        assert sum(each["y"] == 0.1 for each in begun) > 8
    else:
        assert statistics.mean(abs(each["x"] - 0.8) for each in begun) < 0.25
        assert statistics.mean(each["y"] for each in begun) < 0.35
        assert statistics.mean(each["y"] for each in proposed(study)) > 0.65


def test_with_two_metrics_nsga_ii_finds_the_whole_front():
    late = [settings for seed in range(3) for settings in search_two("nsga-ii", 100, seed)[70:]]
    assert statistics.median(abs(settings["y"] - 0.8) for settings in late) < 0.2, "random search: 0.3"
    assert min(each["x"] for each in late) < 0.2 and max(each["x"] for each in late) > 0.8


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"others": (Metric("size"),)}, 'cma-es searches for one metric; take "nsga-ii" or "tpe"'),
        (
            {"space": {"kind": Categorical((1, 2))}},
            "cma-es needs a hyperparameter that is a range, or an ordered list,",
        ),
        ({"space": {"a": Categorical((1, 2)), "x": Float(0, 1, when={"a": (1,)})}}, 'for this space take "tpe"'),
    ],
)
def test_cma_es_refuses_what_it_cannot_search(changes, complaint):
    with pytest.raises(StudyError) as caught:
        plan(new_study("cma-es", **changes), "toy.toml")
    assert str(caught.value).startswith("toy.toml: strategy: ") and complaint in str(caught.value)


def test_cma_es_begins_where_an_ordered_list_holds_null():
    space = {"clip": Categorical((None, 0.5, 1.0), ordered=True), "x": Float(0.0, 1.0)}
    assert len(search(new_study("cma-es", space=space), 9, loss=lambda s: s["x"])) == 9


def test_nsga_ii_finds_what_is_left_where_a_range_has_a_condition():
    """All settings without x are used, and most draws have none."""
    kinds = tuple(range(20))
    study = new_study("nsga-ii", space={"kind": Categorical(kinds), "x": Float(0.0, 1.0, when={"kind": (19,)})})
    used = {n: ended(n, Proposal({"kind": n, "seed": n}), float(n)) for n in kinds[:19]}
    strategy = new_strategy(study)
    assert {strategy.propose(n, History(used)).settings["kind"] for n in range(19, 79)} == {19}


def test_a_single_number_is_enough_for_cma_es_and_a_small_space_is_used_up():
    study = new_study("cma-es", space={"x": Float(0.0, 1.0)})
    found = search(study, 60, lambda s: abs(s["x"] - 0.77))
    assert abs(found[59].settings["x"] - 0.77) < 0.02
    small = new_study(
        "cma-es",
        space={"size": Categorical(("s", "m", "l"), ordered=True), "n": Int(1, 4), "step": Float(0, 1, step=0.5)},
    )
    found = search(small, 36, lambda s: s["n"])
    assert len({(t.settings["size"], t.settings["n"], t.settings["step"]) for t in found.values()}) == 36
    assert new_strategy(small).propose(36, History(found)) is Answer.EXHAUSTED
