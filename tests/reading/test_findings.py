"""The sentences about any study, from invented facts."""

from __future__ import annotations

from dataclasses import replace

import pytest

from foldertune.protocol import Trial, TrialName
from foldertune.reading import findings
from foldertune.reading.alarms import nameless
from foldertune.reading.importance import Importance
from foldertune.reading.results import Results
from foldertune.study_file import study_from_record

RECORD = {
    "name": "toy", "strategy": "random", "trials": 20, "metric": "score", "direction": "maximize", "objective": "mine:train",
    "collapsed": "score < 0.1",
    "space": {
        "rate": {"type": "float", "low": 0.0, "high": 1.0},
        "width": {"type": "int", "low": 1, "high": 64},
        "decay": {"type": "float", "low": 0.0, "high": 0.9},
    },
    "metrics": {"score": {"label": "hit rate", "unit": "%"}},
    "derived": {"pull": {"value": "rate / (1 - decay)", "label": "pull RATE/(1−D)"}},
}  # fmt: skip


def results_of(scores, **facts):
    """The results of counted trials with these scores."""
    trials = [
        Trial(
            TrialName(k, 1, "seen"),
            {"rate": k / 100, "width": 1 + k, "decay": 0.5},
            result={"score": score, "seconds": 1.0},
        )
        for k, score in enumerate(scores)
    ]
    return Results.of(study_from_record(RECORD, "toy"), trials, **facts)


def with_importance(results, importance):
    """The same results, with this importance."""
    vars(results)["importance"] = importance  # where the cached property keeps it
    return results


IMPORTANCE = Importance(
    trials=20, of=20, shares={"width": 0.5, "rate": 0.3, "decay": 0.2},
    predicted={
        ("rate",): -0.1, ("width",): 0.2, ("decay",): -0.3, ("pull",): 0.25, ("rate", "width"): 0.1,
        ("rate", "decay"): -0.1, ("width", "decay"): 0.05, ("pull", "width"): 0.4, ("rate", "width", "decay"): 0.3,
    },
    derived={"pull": frozenset({"rate", "decay"})},
)  # fmt: skip


def test_a_metric_is_said_by_its_label_and_in_its_unit():
    said = findings.say_best(results_of([0.2, 0.9, 0.8, 0.7, 0.6, 0.5]))
    assert said == [
        "Best hit rate: 90.00 % in trial 1, with rate 0.01, width 2, decay 0.5.",
        "The five best trials lie between 90.00 % and 50.00 %, the median of all 6 at 65.00 %.",
    ]
    assert findings.say_best(results_of([])) == ["Best settings: not enough data; no trial has a hit rate yet."]


def test_what_collapsed_is_what_the_study_says():
    said = findings.say_losses(results_of([0.5, 0.05, 0.01, 0.9]))
    assert said == ["2 of 4 trials collapsed (50 %), by the study's rule: score < 0.1."]
    assert findings.say_losses(results_of([0.5, 0.05]), collapsed=False) == []


def test_a_name_that_no_trial_has_is_told():
    """Else a rule that is misspelt calls nothing collapsed, and nobody knows."""
    results = results_of([0.5, 0.05])
    assert nameless(results) == []
    study = replace(results.study, collapsed="scor < 0.1", derived={"pull": "rat * 2", "twice": "pull * 2"})
    assert nameless(Results.of(study, [])) == [], "there may be all of them later"
    mend = "; if it is misspelt, correct the study's file and start the master again"
    assert nameless(Results.of(study, results.trials)) == [
        f"pull: no trial has 'rat' yet (did you mean 'rate'?){mend}",
        f"collapsed: no trial has 'scor' yet (did you mean 'score'?){mend}",
    ]
    over_epochs = replace(study, collapsed="", derived={"error": "1 - accuracy"})
    reported = [replace(trial, epochs=[{"epoch": 1, "accuracy": 0.5}]) for trial in results.trials]
    assert nameless(Results.of(over_epochs, reported)) == []
    assert nameless(Results.of(over_epochs, results.trials, has_curves=False)) == [], "nobody has looked"


def test_a_derived_quantity_is_said_by_its_label_beside_what_it_is_made_of():
    said = findings.say_importance(with_importance(results_of([]), IMPORTANCE))
    assert said == [
        "One at a time, by their share of the variance of the trials' ranks: width 50 %, rate 30 %, decay 20 %.",
        "Together: a forest of trees that knows only pull and width predicts 40 % of that variance for trials that it "
        "has not seen; with the best single hyperparameter, width, 20 %; with all 3, 30 %.",
        "All 3 predict less than these two: 20 trials are too few to learn from 3 hyperparameters at once.",
        "The pull RATE/(1−D) alone predicts 25 %; rate alone nothing, decay alone nothing.",
    ]


def test_what_predicts_nothing_is_told_as_too_few_trials():
    nothing = replace(IMPORTANCE, predicted={names: -abs(share) for names, share in IMPORTANCE.predicted.items()})
    (said,) = findings.say_importance(with_importance(results_of([]), nothing))
    assert said.startswith("Which hyperparameters matter: not enough data; 20 trials are too few to predict")
    (said,) = findings.say_importance(with_importance(results_of([]), None))
    assert "not enough data (fewer than 8 trials" in said


@pytest.mark.parametrize("alone", [0.1, -0.1])
def test_two_hyperparameters_that_tell_less_together_than_one(alone):
    importance = Importance(
        20, 20, {"width": 0.9, "rate": 0.1}, {("rate",): -0.2, ("width",): alone, ("rate", "width"): -0.1}
    )
    said = findings.say_importance(with_importance(results_of([]), importance))
    if alone > 0:
        assert (
            "knows only rate and width predicts nothing" in said[1] and "width, 10 %; with all 2, nothing." in said[1]
        )
    else:
        assert len(said) == 1 and "too few" in said[0]


def test_files_that_cannot_be_read_are_counted_and_the_first_three_named():
    said = findings.say_losses(results_of([0.5], complaints=["a: cut off", "b: empty", "c: odd", "d: odd"]))
    assert said == ["4 files could not be read: a: cut off; b: empty; c: odd."]
