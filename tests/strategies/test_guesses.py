"""A person's guesses: they are tried first, drawn around, and trusted less when results contradict them."""

from __future__ import annotations

import math
import random
import statistics
from dataclasses import replace

import pytest

from foldertune.errors import StudyError
from foldertune.protocol import Trial, TrialName
from foldertune.strategies import STRATEGIES, History, new_strategy, plan
from foldertune.strategies.guesses import Trust, draw_near
from foldertune.study import SEED
from foldertune.study_file import study_from_record

RATE = {"type": "float", "low": 0.0001, "high": 1.0, "log": True, "guess": 0.01}
RECORD = {
    "name": "toy", "metric": "loss", "trials": 30, "objective": "mine:train", "fixed": {"epochs": 3},
    "space": {
        "rate": RATE,
        "width": {"type": "int", "low": 10, "high": 90, "step": 20, "guess": 50},
        "clip": {"type": "categorical", "choices": [0.5, None], "guess": None},
        "kind": ["a", "b"],
        "decay": {"type": "float", "low": 0, "high": 1, "guess": 1, "when": {"kind": "b"}},
    },
}  # fmt: skip
LISTS = {"kind": ["a", "b"], "size": {"type": "int", "low": 1, "high": 3, "step": 1, "guess": 2}}


def new_study(strategy="random", **changes):
    return plan(study_from_record({**RECORD, "strategy": strategy, **changes}, "toy.toml"), "toy.toml")


def search(study, trials, loss):
    strategy, history = new_strategy(study), {}
    for number in range(trials):
        proposal = strategy.propose(number, History(history))
        assert study.contains(proposal.settings)
        result = {"loss": loss(proposal.settings)}
        name, parent = TrialName(number, 1, "seen"), proposal.parent
        history[number] = Trial(name, proposal.settings, result=result, why=proposal.why, parent=parent)
    return list(history.values())


@pytest.mark.parametrize("name", STRATEGIES)
def test_the_trial_of_all_guesses_is_the_first(name):
    study = new_study(name, space=LISTS, trials=6)
    trials = search(study, 6, lambda settings: settings["size"])
    assert trials[0].settings["size"] == 2 and isinstance(trials[0].settings[SEED], int)
    assert len({(trial.settings["kind"], trial.settings["size"]) for trial in trials}) == 6
    again = new_strategy(study)
    history = {trial.name.number: trial for trial in trials[:3]}
    assert again.propose(3, History(history)).settings == trials[3].settings, "after a restart"


def test_what_has_no_guess_is_drawn_and_conditions_hold():
    firsts = [new_strategy(new_study(seed=seed)).propose(0, History()).settings for seed in range(8)]
    assert all((each["rate"], each["width"], each["clip"], each["epochs"]) == (0.01, 50, None, 3) for each in firsts)
    assert {(each["kind"], each.get("decay")) for each in firsts} == {("a", None), ("b", 1.0)}


def test_one_trial_can_be_tried_before_any_other():
    """As `master.py --try 5` does."""
    strategy = new_strategy(new_study("sobol"))
    assert strategy.propose(5, History()) == strategy.propose(
        5, History({0: Trial(TrialName(0, 1), {}, why={"first": 1})})
    )


def test_after_the_guess_a_sequence_begins_at_its_beginning():
    study = new_study("sobol")
    plain = replace(study, space={name: replace(each, guess=()) for name, each in study.space.items()})
    guessed, without = new_strategy(study), new_strategy(plain)
    history = {0: Trial(TrialName(0, 1, "seen"), {}, result={"loss": 1.0}, why={"first": 1})}
    assert [guessed.propose(k + 1, History(history)) for k in range(5)] == [
        without.propose(k, History()) for k in range(5)
    ]


def test_no_such_trial_is_lost_or_doubled_whoever_takes_its_number():
    study = replace(new_study(), first=({"rate": 0.1}, {"rate": 0.2}))
    person = Trial(TrialName(1, 1, "seen"), {"rate": 0.9}, result={"loss": 1.0})

    def rates(strategy, opened, numbers):
        for number in numbers:
            opened[number] = strategy.propose(number, History({1: person}, opened))
        return [opened[number].settings["rate"] for number in numbers]

    opened = {}
    assert rates(new_strategy(study), opened, [0, 2, 3]) == [0.01, 0.1, 0.2]
    torn = {**opened, 2: None}
    again = new_strategy(study)
    assert again.propose(4, History({1: person}, torn)).settings["rate"] not in (0.01, 0.1, 0.2)
    assert again.propose(2, History({1: person}, torn)) == opened[2]


def test_draws_lie_around_guesses():
    study = new_study(constraints=["width < 90"])
    draws = [draw_near(study, random.Random(seed)) for seed in range(400)]
    assert all(study.contains({**each, "epochs": 3}) for each in draws)
    assert 0.55 < sum(abs(math.log10(each["rate"]) + 2) < 1 for each in draws) / 400 < 0.8
    assert sum(each["width"] == 50 for each in draws) > 1.5 * sum(each["width"] == 10 for each in draws)
    assert 0.68 < sum(each["clip"] is None for each in draws) / 400 < 0.82
    assert 0.4 < sum(each["kind"] == "a" for each in draws) / 400 < 0.6, "it has no guess"


def test_a_good_guess_helps_and_a_bad_one_is_given_up():
    def loss(settings):
        return (math.log10(settings["rate"]) + 3.5) ** 2 + abs(settings["width"] - 10) / 40

    def median_of(**guesses):
        space = {**RECORD["space"]}
        for key, guess in guesses.items():
            space[key] = {**space[key], "guess": guess}
        found = [search(new_study(seed=seed, space=space), 40, loss) for seed in range(5)]
        near = statistics.mean(bool(trial.why.get("near")) for trials in found for trial in trials[20:])
        return statistics.median(trial.result["loss"] for trials in found for trial in trials), near

    (good, often), (bad, rarely) = median_of(rate=0.0003, width=10), median_of(rate=0.5, width=90)
    assert good < bad and rarely < 0.35 < 0.6 < often


@pytest.mark.parametrize("schedule", [None, "screening", "hyperband"])
@pytest.mark.parametrize("name", ["tpe", "nsga-ii"])
def test_models_draw_near_guesses_what_they_draw_at_random(name, schedule):
    rungs = {"setting": "epochs", "lowest": 1, "highest": 4, "factor": 2, "schedule": schedule}

    def drawn(guess):
        """Of the trials that are drawn at random, those near the guess, in the first and in the second half."""
        space = {"rate": {**RATE, "guess": guess}}
        study = new_study(name, space=space, fixed={}, fidelity=rungs) if schedule else new_study(name, space=space)
        trials = search(study, 80, lambda settings: (math.log10(settings["rate"]) + 3.5) ** 2 / settings["epochs"])
        begun = [trial for trial in trials[1:] if not trial.parent and "results" not in trial.why]
        near = ["near" in trial.why for trial in begun]
        assert all(near_ or trial.why["random"] for near_, trial in zip(near, begun, strict=True))
        assert all("learnt" not in trial.why for trial in begun), "with a schedule they are compared apart"
        half = len(near) // 2
        return len(near), sum(near[:half]) / half, sum(near[half:]) / half

    (count, _, late), (_, _, late_if_bad) = drawn(0.0003), drawn(0.5)
    enough = 20 if name == "nsga-ii" else 10
    assert count > enough + 9 if schedule else count == enough - 1
    assert late_if_bad < late if schedule else late > 0


def test_results_outside_of_the_space_say_nothing_of_a_guess():
    """After a change they may be all that there are."""
    space = {"rate": RATE}
    far = {n: Trial(TrialName(n, 1), {"rate": 5.0, "epochs": 1}, result={"loss": float(n)}) for n in range(40)}
    near = {n: replace(trial, settings={"rate": 0.9 if n < 20 else 0.01, "epochs": 1}) for n, trial in far.items()}
    rungs = {"setting": "epochs", "lowest": 1, "highest": 4}
    scheduled = new_study("tpe", space=space, fixed={}, fidelity=rungs)
    for study, trials, is_trusted in (
        (new_study("tpe", space=space), far, True),
        (scheduled, far, True),
        (scheduled, near, False),
    ):
        share = Trust(study).share_near(History({}, {}, others=History(trials)))
        assert share == 0.5 if is_trusted else share < 0.4


def test_what_was_not_drawn_near_a_guess_is_not_called_so():
    """Where others have all settings near it, one from elsewhere is taken."""
    study = new_study(space={"size": {"type": "int", "low": 1, "high": 30, "step": 1, "guess": 15}}, trials=30)
    trials = search(study, 30, lambda settings: abs(settings["size"] - 15))
    near = [trial.settings["size"] for trial in trials if "near" in trial.why]
    assert near and len({trial.settings["size"] for trial in trials}) == 30
    strategy = new_strategy(study)
    used = {trial.name.number: trial for trial in trials if trial.settings["size"] != 1}
    assert all("near" not in strategy.propose(n, History(used)).why for n in range(31, 61)), "it is far from the guess"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"space": {"x": {**RATE, "guess": 2}}}, r"space.x: guess must be one of its values from 0.0001 to 1.0, not 2"),
        ({"space": {"x": {"type": "int", "low": 0, "high": 9, "step": 3, "guess": 4}}}, r"0 to 9 in steps of 3, not 4"),
        ({"space": {"x": {"type": "categorical", "choices": [1, "1"], "guess": True}}}, "one of its choices, not True"),
        (
            {"constraints": ["rate * width < 0.5"]},
            r"constraints: no settings with all guesses \(rate = 0.01, width = 50",
        ),
    ],
)
def test_a_guess_that_can_not_be_is_refused(changes, says):
    with pytest.raises(StudyError, match=f"^toy.toml: .*{says}"):
        new_study(**changes)


def test_guesses_belong_to_the_definition():
    study = new_study()
    record = study.to_record()
    assert study_from_record(record, "study.json") == study and record["space"]["clip"]["guess"] is None
