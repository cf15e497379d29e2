"""What a person is told about a search with a schedule and confirmations: why trials exist, rungs, whole curves."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from foldertune.confirm import number_of
from foldertune.protocol import Folder, Parent, Trial, TrialName, parse_time
from foldertune.reading.explain import how, why
from foldertune.reading.figures import draw_best_so_far, draw_confirmed, learning_curves_picture, rungs_picture
from foldertune.reading.figures.rungs import Climb, draw_rungs
from foldertune.reading.findings import find, say_importance
from foldertune.reading.page.curves import curves_of
from foldertune.reading.results import Results
from foldertune.reading.terminal.live import summary
from foldertune.study_file import study_from_record
from tests.conftest import ROOT

STUDY = {
    "name": "toy", "strategy": "tpe", "metric": "loss", "budget": {"epochs": 30}, "confirm": {"best": 2, "repeats": 3},
    "fidelity": {"setting": "epochs", "lowest": 1, "highest": 9, "schedule": "hyperband"},
    "space": {"x": {"type": "float", "low": 0.0, "high": 100.0}},
}  # fmt: skip
# Trial 1 was promoted twice (4, 6), trial 2 once (5). At its second rung, trial 4 did better than trial 6 at its third.
CHAIN = [(0, None, 1, 3.0), (1, None, 1, 2.0), (2, None, 1, 2.5), (3, None, 1, 4.0), (4, 1, 3, 0.5), (5, 2, 3, 1.5),
         (6, 4, 9, 0.6)]  # fmt: skip


def ended(number, settings, epochs, loss, minute, parent=None, why=None, resumed=False):
    time = f"2026-01-01T00:{minute:02d}"
    head = {"settings": settings, "why": why or {}, **({"parent": parent} if parent else {})}
    lines = [head, {"claimed": "gpu01-7-abcd", "host": "gpu01", "time": f"{time}:00.000Z"}]
    lines += [{"resumed": "a checkpoint"}] if resumed else []
    lines += [{"epoch": k, "loss": loss + 1 / k} for k in epochs]
    lines.append({"result": {"loss": loss}, "time": f"{time}:50.000Z"})
    return TrialName(number, 1, "seen"), lines


def files():
    """The files of a search, and of confirmations of trial 6."""
    begun = {number: epochs for number, _, epochs, _ in CHAIN}
    for number, parent, epochs, loss in CHAIN:
        first = {4: 1, 5: 2, 6: 1}.get(number, number)
        told = {"trial": parent, "attempt": 1, "settings": {"epochs": begun.get(parent, 0)}, "first": first}
        why = (
            {"rung": 1, "place": 1, "among": 4, "bracket": 0}
            if parent is not None
            else {"results": number, "random": True, "rung": 0, "bracket": 0}
        )
        own = range(begun[parent] + 1 if parent is not None else 1, epochs + 1)
        yield ended(number, {"x": first, "epochs": epochs, "seed": first}, own, loss, number,
                    told if parent is not None else None, why, parent is not None)  # fmt: skip
    for repeat, loss in enumerate((0.7, 0.8, 0.9), start=1):
        why = {"confirms": 6, "repeat": repeat}
        yield ended(number_of(6, repeat), {"x": 1, "epochs": 9, "seed": repeat}, range(1, 10), loss, 10, why=why)


@pytest.fixture
def results():
    trials = [Trial.from_records(name, lines, "test") for name, lines in files()]
    return Results.of(study_from_record(STUDY, "test"), trials, complete=True)


def by_number(results, number):
    return next(trial for trial in results.trials if trial.name.number == number)


def test_each_trial_says_why_it_exists(results):
    said = {trial.name.number: why(results.study, trial) for trial in results.trials}
    assert said[0] == "drawn at random, before there was enough to learn from, bracket 0"
    assert said[6] == "goes on with trial 4 (epochs 3), place 1 of 4, bracket 0"
    assert said[number_of(6, 2)] == "confirms trial 6, repeat 2"
    by_number(results, 0).why = {"generation": 2}
    assert why(results.study, by_number(results, 0)) == "tpe, generation 2"
    plain = study_from_record({**STUDY, "strategy": "random", "trials": 9, "budget": {}}, "test")
    one = by_number(results, 0)
    one.why = {"strategy": "random"}
    assert why(plain, one) == "" and how(plain, one) == "random search"
    one.why = {"strategy": "sobol"}
    assert why(plain, one) == "sobol search"
    one.why = {"near": "guess"}
    assert why(plain, one) == "drawn near the guess"
    one.why = {"rung": 0}
    assert how(plain, one) == "random search, begins with epochs 1"
    one.why = {"results": 24, "learnt": 3, "rung": 0}
    assert why(results.study, one) == "tpe, from 24 results with epochs 3"
    promoted = by_number(results, 6)
    promoted.why["learnt"] = 9
    assert why(results.study, promoted).endswith("place 1 of 4, bracket 0"), "brackets compare all of a rung"
    del promoted.why["bracket"]
    assert why(results.study, promoted).endswith("place 1 of 4 chosen by tpe")
    one.why = {"random": True, "rung": 0}
    assert why(results.study, one) == "drawn at random"
    one.why = {}
    assert why(results.study, one) == how(results.study, one) == "queued by hand", "whatever its number"
    one.lease = 60.0
    assert how(plain, one) == "random search", "of a master before files said so"
    one.name = TrialName(90_001, 1)
    assert how(plain, one) == "queued by hand"


def test_a_curve_is_that_of_the_whole_training(results):
    trial = by_number(results, 6)
    assert [epoch["epoch"] for epoch in results.epochs_of(trial)] == list(range(1, 10))
    assert results.curve(trial, "loss").ys[:3] == [3.0, 1.0, 0.5 + 1 / 3]
    assert results.epochs_trained(trial) == 6 and results.course.epochs[-1] == 4 + 2 + 2 + 6
    drawn = json.loads(curves_of(results))
    assert drawn["trials"]["6"][0] == list(range(1, 10))
    assert [trial.name.number for trial in results.begun] == [0, 3, 5, 6], "each training once, no confirmation"
    picture = learning_curves_picture(results)
    assert picture.caption.startswith("Learning curves of 4 trainings, each through all of its rungs")
    picture.draw()
    anew = by_number(results, 6)
    anew.epochs = [{"epoch": k, "loss": 7.0} for k in range(1, 10)]
    assert results.curve(anew, "loss").ys == [7.0] * 9, "its checkpoint was missing: what it trained again counts"


def test_parents_that_form_a_circle_end_nowhere(results):
    first, second = by_number(results, 4), by_number(results, 1)
    second.parent = first.parent.__class__(4, 1, {"epochs": 1}, 1)
    assert {trial.name.number for trial in results.chain(first)} == {1, 4}


def test_settings_count_once_and_longer_trainings_first(results):
    assert [trial.name.number for trial, _ in results.scored] == [6, 5, 0, 3]
    assert results.best[0][0].name.number == 6 and results.best[1].mean == pytest.approx(0.8)
    assert [trial.name.number for trial in results.compared] == [1, 2, 0, 3], "one rung, each settings once"
    assert results.course.best == [3.0, 2.0, 2.0, 2.0, 0.5, 0.5, 0.5], "the best value at whatever rung never rises"


def test_rungs_say_who_was_promoted(results):
    assert [(rung.level, len(rung.trials), rung.promoted) for rung in results.rungs] == [
        (1, 4, 2),
        (3, 2, 1),
        (9, 1, 0),
    ]
    said = " ".join(find(results).answers)
    assert "Rungs of hyperband: epochs 1: 4 trials, epochs 3: 2 trials, epochs 9: 1 trial" in said
    assert "on to the next went 2 of 4 and 1 of 2" in said
    (axes,) = rungs_picture(results).draw().axes
    assert axes.get_xlabel() == "epochs" and [text.get_text() for text in axes.get_xticklabels()] == ["1", "3", "9"]
    best = next(line for line in axes.lines if line.get_label() == "best: trial 6")
    assert list(zip(*best.get_data(), strict=True)) == [(1, 2.0), (3, 0.5), (9, 0.6)]


def diverged():
    """The same search, but trial 5 has no value, and trial 6, at the highest rung, ended worse than trial 4."""
    values = {5: None, 6: 0.9}
    trials = [Trial.from_records(name, lines, "test") for name, lines in files()]
    for trial in trials:
        trial.result = {"loss": values.get(trial.name.number, trial.result["loss"])}
    return Results.of(study_from_record({**STUDY, "confirm": {}}, "test"), trials[: len(CHAIN)], complete=True)


def test_a_training_that_diverged_after_its_promotion_does_not_keep_its_early_value():
    results = diverged()
    assert [trial.name.number for trial, _ in results.scored] == [6, 0, 3], (
        "trial 2 went on as trial 5, without a value"
    )
    assert results.scores.numbers == [6, 0, 3]
    assert [trial.name.number for trial in results.valueless] == [5]
    assert "7 succeeded (1 of them without a value)" in summary(results)
    assert "1 of 7 trials ended without a value of loss" in " ".join(find(results).answers)
    (axes,) = rungs_picture(results).draw().axes
    (cross,) = [line for line in axes.lines if line.get_marker() == "x"]
    assert list(zip(*cross.get_data(), strict=True)) == [(1, 2.5)], "trial 2, of which trial 5 has no value"
    climbs = [Climb(k, [1], [1.0 + k], has_diverged=k > 5) for k in range(8)]
    (axes,) = draw_rungs(climbs, results.study.quantity("epochs"), results.study.quantity("loss")).axes
    (cross,) = [line for line in axes.lines if line.get_marker() == "x"]
    assert list(cross.get_ydata()) == [7.0, 8.0]


def test_the_best_was_there_when_the_best_trial_had_ended_not_a_better_one_of_a_lower_rung():
    results = diverged()
    assert results.best[0][0].name.number == 6 and results.course.best[-1] == 0.5
    assert results.best_after == 6
    assert "The best was there when 6 of the 6 trials with a value had ended." in find(results).answers


def test_of_repeats_one_that_diverged_after_its_promotion_is_left_out():
    """Settings that did so once rank after those that never did, as if the training had diverged at once."""
    study = study_from_record({**STUDY, "repeats": 2, "confirm": {}}, "test")
    trials = []
    for number, x, loss in ((0, 1, 0.1), (1, 1, 0.2), (2, 2, 0.5), (3, 2, 0.7)):
        trials.append(Trial.from_records(*ended(number, {"x": x, "epochs": 1}, [1], loss, number), "test"))
    alone, sample = Results.of(study, trials).best
    assert [trial.name.number for trial in alone] == [0, 1] and sample.mean == pytest.approx(0.15)
    parent = {"trial": 0, "attempt": 1, "settings": {"epochs": 1}, "first": 0}
    trials.append(Trial.from_records(*ended(4, {"x": 1, "epochs": 3}, [2, 3], 9.0, 4, parent), "test"))
    trials[-1].result = {"loss": None}
    best, sample = Results.of(study, trials).best
    assert [trial.name.number for trial in best] == [2, 3] and sample.mean == pytest.approx(0.6)


def test_the_seconds_of_a_promoted_trial_are_those_of_the_whole_training():
    """They may be a metric. A training that began anew has taken its own only, and one that says its own knows better."""
    for resumed, result, seconds in ((True, {}, 150.5), (False, {}, 50.0), (True, {"seconds": 7.0}, 7.0)):
        parent = {"trial": 4, "attempt": 1, "settings": {"epochs": 3}, "first": 1, "seconds": 100.5}
        name, lines = ended(6, {"x": 1, "epochs": 9}, range(4, 10), 0.6, 6, parent, resumed=resumed)
        lines[-1]["result"].update(result)
        trial = Trial.from_records(name, lines, "test")
        assert trial.result["seconds"] == seconds and trial.seconds_at_work == 50.0
        assert Parent.from_record(trial.parent.to_record()).seconds == 100.5
    for odd in ("1", -1, float("inf"), None, True):
        assert Parent.from_record({**parent, "seconds": odd}).seconds is None


def test_groups_compare_what_trained_equally_long(tmp_path):
    """By default the longest trainings; by their epochs, each rung by itself; of one rung alone, all of it."""
    seen = tmp_path / "seen"
    seen.mkdir()
    study = study_from_record(STUDY, "test")
    Folder(tmp_path).write_study(study.to_record())
    for name, lines in files():
        (seen / str(name)).write_text("".join(json.dumps(line) + "\n" for line in lines))

    def groups(*options):
        command = [sys.executable, "-m", "foldertune", "results", "--logs", str(tmp_path), "--format", "json", *options]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        return json.loads(done.stdout)

    (whole,) = groups("--group", "status")
    assert (whole["trials"], whole["left_out"], whole["loss_mean"]) == (7, 6, 0.6)
    by_epochs = {
        row["epochs"]: (row["trials"], row["left_out"], row["loss_mean"]) for row in groups("--group", "epochs")
    }
    assert by_epochs == {1: (4, 0, 2.875), 3: (2, 0, 1.0), 9: (1, 0, 0.6)}
    (lowest,) = groups("--group", "status", "--where", "epochs=1")
    assert (lowest["trials"], lowest["left_out"], lowest["loss_mean"]) == (4, 0, 2.875)
    for number, epochs, loss in ((7, 9, None), (90_001, 50, 0.01)):  # one diverged; a person queued the other
        name, lines = ended(number, {"x": 5, "epochs": epochs}, [epochs], 0.0, 20)
        lines[-1]["result"]["loss"] = loss
        (seen / str(name)).write_text("".join(json.dumps(line) + "\n" for line in lines))
    (whole,) = groups("--group", "status")
    assert (whole["trials"], whole["left_out"], whole["loss_mean"]) == (9, 8, 0.6)


def test_importance_says_at_which_rung(results):
    trials = [Trial.from_records(*ended(k, {"x": k * 9, "epochs": 1}, [1], k, k), "test") for k in range(10)]
    said = " ".join(say_importance(Results.of(results.study, trials, complete=True)))
    assert "ranks of the 10 trials with epochs 1" in said


def test_a_list_to_try_first_is_counted_without_the_guess_that_the_study_had_then(results):
    """The guess comes before the list. A change may bring one or take it away."""
    x = {"type": "float", "low": 0.0, "high": 100.0}
    guess = {**x, "guess": 50.0}

    def said(now, changes):
        study = study_from_record({**STUDY, "space": {"x": now}, "changes": changes}, "test")
        trials = [replace(by_number(results, k), why={"first": place}) for k, place in ((0, 1), (1, 2))]
        return [why(study, trial) for trial in trials]

    def since(trial, was):
        return [
            {"trial": trial, "time": "2026-01-01T00:09:00Z", "by": "me", "what": ["x"], "was": {"space": {"x": was}}}
        ]

    listed = ["to try first, number 1", "to try first, number 2"]
    guessed = ["the guess, tried first", "to try first, number 1"]
    assert said(x, []) == listed and said(guess, []) == guessed
    assert said(guess, since(5, x)) == listed, "the guess came later"
    assert said({**x, "high": 200.0}, since(5, guess)) == guessed, "it went later"


def test_what_confirmations_take_is_part_of_the_time_to_go(results):
    """Six whole trainings of 50 s each are still to come; the trials of the search took 50 s each as well."""
    running = Trial.from_records(
        TrialName(number_of(6, 1), 1, "taken", "gpu01-7-abcd"),
        [
            {"settings": {"x": 1, "epochs": 9, "seed": 1}, "why": {"confirms": 6, "repeat": 1}},
            {"claimed": "gpu01-7-abcd", "host": "gpu01", "time": "2026-01-01T00:20:00.000Z"},
        ],
        "test",
    )
    search = [trial for trial in results.trials if trial.name.number < 1000]
    spent = replace(results.study, budget=replace(results.study.budget, epochs=14.0))
    now = parse_time("2026-01-01T00:20:00.000Z")
    waiting = Results.of(spent, [*search, running])
    whole = 50.0 * len(waiting.chain(search[6]))
    assert len(waiting.chain(search[6])) == 3
    assert waiting.remaining(now) == pytest.approx(waiting.confirmation.asked * whole)


def test_the_best_so_far_is_drawn_over_epochs_too(results):
    figure = draw_best_so_far(results.course, results.study.quantity("loss"))
    assert figure.axes[2].get_xlabel() == "epochs trained, of all trials"
    step = next(line for line in figure.axes[2].lines if line.get_label() == "best so far")
    assert list(step.get_xdata()) == [1, 2, 3, 4, 6, 8, 14]


def test_the_spread_of_confirmed_settings_is_drawn(results):
    figure = draw_confirmed(results.confirmation.ranked, results.study.quantity("loss"))
    (axes,) = figure.axes
    drawn = {line.get_label(): list(line.get_xdata()) for line in axes.lines}
    assert drawn["mean ± standard deviation"] == [pytest.approx(0.8)] and drawn["a confirmation"] == [0.7, 0.8, 0.9]
    assert drawn["in the search, for which it was chosen"] == [0.6]
    assert [text.get_text() for text in axes.get_yticklabels()] == ["trial 6"]
    names = [picture.name for picture in find(results).pictures]
    assert {"confirmed", "rungs"} <= set(names)
    tables = [table.caption for table in find(results).tables]
    assert tables[0].startswith("Confirmed settings") and tables[1].startswith("Rungs")


def test_the_terminal_tells_rungs_and_a_trial_in_80_columns(tmp_path):
    folder = Folder(tmp_path / "logs")
    folder.prepare()
    folder.write_study(study_from_record(STUDY, "test").to_record())
    for name, lines in files():
        Path(folder.locate(name)).write_text("".join(json.dumps(line) + "\n" for line in lines))

    def run(*command, code=0):
        program = [sys.executable, "-m", "foldertune", *map(str, command), "--logs", str(folder.path)]
        done = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, env={"COLUMNS": "80", **ENVIRONMENT})
        assert done.returncode == code, done.stderr
        return done.stdout + done.stderr

    ENVIRONMENT = {"PATH": "/usr/bin:/bin"}
    lines = [line.split() for line in run("status").splitlines()]
    assert ["9", "1", "0.6", "6"] in lines and ["3", "2", "1", "0.5", "4"] in lines
    story = run("results", "--why", 6)
    assert "why: goes on with trial 4 (epochs 3), place 1 of 4, bracket 0" in story
    assert "training: trial 1 (epochs 1, 2) → trial 4 (epochs 3, 0.5) → trial 6 (epochs 9, 0.6)" in story
    assert "confirmed: 0.8 ± 0.1 (3 runs), in trial 1000601, 1000602 and 1000603" in story
    assert "went on in trial 4" in run("results", "--why", 1)
    assert "--why 77: this trial does not exist" in run("results", "--why", 77, code=2)
    assert "leave out one" in run("results", "--why", 1, "--all", code=2)
