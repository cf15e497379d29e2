"""In a space without continuous ranges, no settings are tried twice, unless the study asks for it."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from foldertune.fidelity import Fidelity
from foldertune.protocol import Proposal, Trial, TrialName
from foldertune.space import Categorical, Float, Int
from foldertune.strategies import Answer, History, new_strategy
from foldertune.strategies.distinct import MOST_LISTED
from foldertune.study import Study

SMALL = {
    "optimizer": Categorical(("sgd", "adam", "lion")),
    "width": Int(4, 7, log=True),
    "momentum": Float(0.0, 0.9, step=0.3, when={"optimizer": ("sgd",)}),
}
ALLOWED = 2 * 3 + 4 * 3  # three widths of four, and four momenta with one of three optimizers
ALL = [
    "random",
    "sobol",
    "halton",
    "tpe",
    "nsga-ii",
    "cma-es",
]  # gp differs from tpe in nothing here, and takes its time


def new_study(strategy, **changes):
    study = Study("toy", strategy, 100, "loss", objective="mine:train", space=SMALL, constraints=("width != 5",))
    return replace(study, **changes)


def chosen(study, settings):
    return tuple((name, settings[name]) for name in study.space if name in settings)


def search(study, most):
    """The settings of all trials, one after another, until nothing is left."""
    strategy, history = new_strategy(study), {}
    while len(history) < most and (answer := strategy.propose(len(history), History(history))) is not Answer.EXHAUSTED:
        number = len(history)
        settings = answer.settings
        assert study.contains(settings)
        loss = {"loss": settings["width"] + settings.get("momentum", 0)}
        history[number] = Trial(
            TrialName(number, 1, "seen"), settings, result=loss, parent=answer.parent, why=answer.why
        )
    return [trial.settings for trial in history.values()]


@pytest.mark.parametrize("name", ALL)
def test_a_search_tries_all_that_a_small_space_has_and_is_exhausted(name):
    study = new_study(name)
    settings = search(study, 2 * ALLOWED)
    assert len(settings) == len({chosen(study, each) for each in settings}) == ALLOWED
    assert len({each["seed"] for each in settings}) == ALLOWED


@pytest.mark.parametrize("name", ["random", "tpe", "nsga-ii", "cma-es"])
def test_repeats_are_as_many_as_the_study_asks_for(name):
    study = new_study(name, repeats=2)
    counts = Counter(chosen(study, each) for each in search(study, 3 * ALLOWED))
    assert len(counts) == ALLOWED and set(counts.values()) == {2}
    assert search(study, ALLOWED) == search(replace(study, repeats=1), ALLOWED), "repeats come later"


GUESSED = {**SMALL, "width": Int(4, 7, log=True, guess=(6,))}


@pytest.mark.parametrize(
    ("name", "space"), [("random", GUESSED), ("tpe", SMALL), ("nsga-ii", SMALL), ("cma-es", SMALL)]
)
def test_with_repeats_a_master_that_was_started_again_proposes_the_same(name, space):
    study, history = new_study(name, repeats=3, space=space), {}
    living = new_strategy(study)
    while (answer := living.propose(len(history), History(history))) is not Answer.EXHAUSTED:
        number = len(history)
        assert new_strategy(study).propose(number, History(history)) == answer, number
        loss = {"loss": answer.settings["width"] + answer.settings.get("momentum", 0)}
        history[number] = Trial(TrialName(number, 1, "seen"), answer.settings, result=loss, why=answer.why)
    assert len(history) == 3 * ALLOWED


@pytest.mark.parametrize("name", ["random", "sobol"])
def test_settings_depend_on_the_number_alone_although_others_have_them(name):
    study = new_study(name)
    forward = search(study, ALLOWED)
    backward = new_strategy(study)
    assert [backward.propose(k, History()).settings for k in reversed(range(ALLOWED))] == forward[::-1]
    assert search(replace(study, seed=1), ALLOWED) != forward


def test_a_space_too_large_to_be_listed_has_no_repeats_either():
    never = Int(1, MOST_LISTED, when={"width": (0,)})
    study = new_study("random", space={"width": Int(1, 5), "never": never}, constraints=())
    assert sorted(each["width"] for each in search(study, 100)) == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("name", ["tpe", "gp", "nsga-ii"])
def test_trials_that_run_and_those_of_a_person_count(name):
    study = new_study(name, space={"x": Categorical((1, 2, 3, 4))}, constraints=())
    counted = {90001: Trial(TrialName(90001, 1, "seen"), {"x": 2}, result={"loss": 0.0})}
    strategy, running = new_strategy(study), {7: Proposal({"x": 4}), 8: None, 9: Proposal({"other": 1})}
    for number in (0, 1):
        running[number] = strategy.propose(number, History(counted, running))
    assert {running[0].settings["x"], running[1].settings["x"]} == {1, 3}
    assert strategy.propose(2, History(counted, running)) is Answer.EXHAUSTED
    del running[7]  # it was withdrawn
    assert strategy.propose(2, History(counted, running)).settings["x"] == 4


def test_a_promotion_uses_nothing_new():
    """All settings are begun once, although numbers go to promotions, and results of higher rungs are looked at."""
    fidelity = Fidelity("epochs", 1, 9, 3, "asha")
    for name in ("random", "tpe", "nsga-ii", "cma-es"):
        settings = search(new_study(name, fidelity=fidelity), 60)
        begun = [chosen(new_study(name), each) for each in settings if each["epochs"] == 1]
        assert len(begun) == len(set(begun)) == ALLOWED
        assert sum(each["epochs"] == 3 for each in settings) >= ALLOWED // 3
