"""When the budget is spent, the best settings are trained again with new seeds, and the best mean wins."""

from __future__ import annotations

import csv
import dataclasses
import json
import os
import statistics
from collections import Counter

import pytest

from foldertune.budget import Budget
from foldertune.confirm import FIRST, number_of, told_by
from foldertune.errors import StudyError
from foldertune.protocol import Proposal, Trial, TrialName, new_owner
from foldertune.reading.explain import not_confirmed_yet
from foldertune.reading.reader import read_results
from foldertune.running.stopper import Stopper
from foldertune.spending import cost, spans_at_work, why_over
from foldertune.strategies import load
from tests.conftest import wait_for


def study_of(bench, extra="", objective="noisy", trials=8, head="", name="toy"):
    file = bench.path / f"{name}.toml"
    file.write_text(
        f'objective = "tests.objectives:{objective}"\nstrategy = "random"\nmetric = "loss"\n'
        f"{f'trials = {trials}' if trials else ''}\n{head}\n{extra}\n"
        "[confirm]\nbest = 3\nrepeats = 4\n"
        '[space]\nx = { type = "float", low = 0.0, high = 1.0 }\n'
    )
    return file


def by_kind(bench):
    """The trials of the search by number, and the confirmations by the trial that they confirm."""
    results = read_results(bench.logs)
    found, again = {}, {}
    for trial in results.trials:
        if trial.name.number < FIRST:
            found[trial.name.number] = trial
        else:
            again.setdefault(trial.why["confirms"], []).append(trial)
    return found, again, results


def test_the_best_mean_of_new_seeds_wins(bench):
    said = bench.search(study_of(bench, head="seed = 2"), "--workers", 2)
    assert "8 trials, then 12 more to confirm the best 3" in said
    found, again, results = by_kind(bench)
    best = sorted(found, key=lambda number: found[number].result["loss"])[:3]
    assert f"12 more trials to confirm the best 3, with new seeds: trials {', '.join(map(str, best))}" in said
    assert results.progress == "8 of 8 trials, 12 of 12 confirmations" and results.complete
    assert len(found) == 8 and again.keys() == set(best)
    for number, trials in again.items():
        assert [trial.name.number for trial in trials] == [number_of(number, repeat) for repeat in (1, 2, 3, 4)]
        assert len({trial.settings["seed"] for trial in (*trials, found[number])}) == 5
        assert {trial.settings["x"] for trial in trials} == {found[number].settings["x"]}
        assert [trial.why for trial in trials] == [{"confirms": number, "repeat": k} for k in (1, 2, 3, 4)]
    means = {number: statistics.mean(trial.result["loss"] for trial in trials) for number, trials in again.items()}
    winner = min(means, key=means.get)
    assert winner != best[0], "the luckiest of the search is not the best: otherwise this test shows nothing"
    deviation = statistics.stdev(trial.result["loss"] for trial in again[winner])
    told = f"loss {means[winner]:.3g} ± {deviation:.2g} (4 runs) with the settings of trial {winner}"
    process = bench.start("-m", "foldertune", "best", "--logs", bench.logs, stderr=-1)
    settings, beside = process.communicate(timeout=60)
    assert json.loads(settings) == found[winner].settings and told in beside
    for command in ("status", "results"):
        assert told.split(" (")[0].split(" ±")[0].split()[1][:4] in bench.finish(
            bench.start("-m", "foldertune", command, "--logs", bench.logs)
        )
    rows = bench.folder.results.read_text().splitlines()
    assert rows[0].endswith(",confirms") and [row.rpartition(",")[2] for row in rows[1:]] == [
        *[""] * 8, *(str(number) for number in sorted(again) for _ in range(4))
    ]  # fmt: skip
    grouped = ("-m", "foldertune", "results", "--logs", bench.logs, "--all", "--format", "csv", "--group")
    tables = [[*csv.DictReader(bench.finish(bench.start(*grouped, by)).splitlines())] for by in ("x", "x,confirms")]
    assert Counter(row["trials"] for row in tables[0]) == {"1": 8}, "what the search has seen"
    assert Counter(row["trials"] for row in tables[1]) == {"1": 8, "4": 3}
    assert bench.search(study_of(bench, head="seed = 2")), "a second master finds nothing to do"
    assert len(by_kind(bench)[2].trials) == 20


def test_an_extended_study_confirms_only_what_is_new(bench):
    bench.search(study_of(bench), "--workers", 2)
    before = {trial.name: trial.result for trial in read_results(bench.logs).trials}
    bench.search(study_of(bench), "--workers", 2, "--trials", 40)
    found, again, results = by_kind(bench)
    best = sorted(found, key=lambda number: found[number].result["loss"])[:3]
    assert len(found) == 40 and {trial.name.attempt for trial in results.trials} == {1}
    assert set(best) <= again.keys() and not set(best) <= {name.number for name in before}
    assert all(len(trials) == 4 for trials in again.values())
    assert before.items() <= {trial.name: trial.result for trial in results.trials}.items()
    straight = bench.path / "straight"
    bench.finish(bench.start("master.py", study_of(bench), "--trials", 40, "--workers", 1, "--logs", straight))
    expected = {trial.name.number: trial.result["loss"] for trial in read_results(straight).trials}
    mine = {trial.name.number: trial.result["loss"] for trial in results.trials}
    assert expected.items() <= mine.items(), "the numbers and seeds of confirmations are functions of study and trial"


def test_confirmations_of_a_schedule_are_whole_trainings_beyond_the_budget(bench):
    head = '[fidelity]\nsetting = "epochs"\nlowest = 1\nhighest = 9\n[budget]\nepochs = 100\n'
    said = bench.search(study_of(bench, head, trials=0), "--workers", 2)
    found, again, results = by_kind(bench)
    assert "of 100 epochs are spent" in said and said.index("are spent") < said.index("more trials to confirm")
    assert results.progress == f"{len(found)} trials, {sum(t.result['trained'] for t in found.values())} of 100 epochs, " \
        f"{sum(map(len, again.values()))} of {4 * len(again)} confirmations"  # fmt: skip
    whole = {number for number, trial in found.items() if trial.settings["epochs"] == 9}
    assert again and again.keys() <= whole and len(again) == min(3, len(whole))
    for trials in again.values():
        assert len(trials) == 4
        for trial in trials:
            assert trial.result["trained"] == 9 and not trial.parent and not trial.resumed
    number = results.best[0][0].name.number
    assert number in again and results.best[1].values == tuple(t.result["loss"] for t in again[number])


def test_a_confirmation_that_fails_is_left_out_and_told(bench):
    bench.search(study_of(bench, objective="fragile", trials=12), "--workers", 1, "--max-attempts", 1)
    _, again, results = by_kind(bench)
    trials = [trial for trials in again.values() for trial in trials]
    assert len(trials) == 12 and any(trial.result is None for trial in trials), "not tried for ever"
    for each in results.confirmation.ranked:
        lacks = sum(trial.result is None for trial in each.confirmations)
        assert each.sample.left_out == lacks and len(each.sample.values) == 4 - lacks
    assert "left out" in bench.finish(bench.start("-m", "foldertune", "results", "--logs", bench.logs))


@pytest.mark.parametrize("rule", ["median", "plateau"])
def test_no_rule_that_compares_stops_a_confirmation(bench, rule):
    """Both trials are as bad. A plateau compares no trials, and is a part of how the study trains."""
    folder, study = bench.folder, load(str(study_of(bench, f'[stopping]\nrule = "{rule}"\n')))
    folder.prepare()
    stopper = Stopper(folder, study, print)
    names = [TrialName(number, 1) for number in (0, number_of(0, 1))]
    for name, why in zip(names, ({}, {"confirms": 0, "repeat": 1}), strict=True):
        folder.publish(name, Proposal({"x": 0.5}, why=why), lease=60.0)
    taken = [name.to("taken", new_owner()) for name in names]
    for name, then in zip(names, taken, strict=True):
        os.rename(folder.locate(name), folder.locate(then))
        with open(folder.locate(then), "a") as file:
            file.write('{"claimed": "a"}\n' + "".join(f'{{"epoch": {k}, "loss": 1.0}}\n' for k in range(1, 9)))
    for number in range(1, 7):
        stopper.note(dataclasses.replace(trial(number, 0.1), epochs=[{"epoch": 8, "loss": 0.1}]))
    stopper.look(taken)
    stopped = [name.number for name in bench.folder.names() if (bench.logs / str(name.to("stop"))).exists()]
    assert stopped == [0] if rule == "median" else [0, number_of(0, 1)]


def test_a_trial_that_was_dropped_does_not_win(bench):
    """Neither with its confirmations, nor in words; the next ones are confirmed when the master is started again."""
    bench.search(study_of(bench, head="seed = 2"), "--workers", 2)
    _, again, results = by_kind(bench)
    winner = results.confirmation.winner.number
    drop = ("-m", "foldertune", "drop", winner, "--logs", bench.logs, "--because", "a broken GPU")
    bench.finish(bench.start(*drop))
    results = read_results(bench.logs)
    (lacking,) = results.confirmation.lacking
    assert lacking not in again and results.confirmation.winner is None
    said = f"Not confirmed: the settings of trial {lacking}, since others were dropped; start the master again"
    assert said in not_confirmed_yet(results)
    bench.search(study_of(bench, head="seed = 2"), "--workers", 2)
    results = read_results(bench.logs)
    assert not results.confirmation.lacking and results.confirmation.winner.number != winner
    assert not_confirmed_yet(results) == ""


def test_a_seed_of_the_study_stays(bench):
    bench.search(study_of(bench, "[fixed]\nseed = 3\n"), "--workers", 1)
    _, again, results = by_kind(bench)
    assert {trial.settings["seed"] for trials in again.values() for trial in trials} == {3}
    assert results.confirmation.winner.sample.deviation == 0, "a spread of zero is fine"


# ---- budgets and numbers


def trial(number, loss, confirms=None, start="2026-01-01T10:00:00Z", end="2026-01-01T12:00:00Z"):
    why = {} if confirms is None else {"confirms": confirms, "repeat": 1}
    return Trial(TrialName(number, 1, "seen"), {"x": 0.0, "epochs": 9}, why=why, result={"loss": loss}, finished=end,
                 claim={"claimed": "a", "time": start})  # fmt: skip


def test_no_budget_counts_a_confirmation(bench):
    study = load(str(study_of(bench, '[fidelity]\nsetting = "epochs"\nlowest = 1\nhighest = 9\n')))
    own, again = trial(0, 0.5), trial(number_of(0, 1), 0.1, 0, "2026-01-01T14:00:00Z", "2026-01-01T15:00:00Z")
    assert cost(study, own.proposal) == 9 and cost(study, again.proposal) == 0
    assert spans_at_work([own, again]) == spans_at_work([own])
    for budget in (Budget(target=0.2), Budget(patience=2)):
        study = load(str(study_of(bench)), budget=budget)
        assert not why_over(study, [own, again, trial(number_of(0, 2), 0.9, 0)])


def test_the_number_of_a_confirmation_tells_what_it_confirms():
    assert number_of(7, 3) == 1000703 and told_by(1000703) == (7, 3)
    assert TrialName.parse(str(TrialName(number_of(10**11, 99), 1))), "however high the number"


@pytest.mark.parametrize(
    ("table", "complaint"),
    [
        ("best = 0", "confirm.best: must be at least 1, not 0"),
        ("repeats = 100", "confirm.repeats: must be at most 99, not 100"),
        ("repeats = true", "confirm.repeats: must be a whole number, not True"),
        ("repeat = 3", "confirm.repeat: unknown key (did you mean 'repeats'?); known: best, repeats"),
    ],
)
def test_a_table_that_says_nothing_sensible_is_refused(bench, table, complaint):
    file = bench.path / "odd.toml"
    file.write_text(f'strategy = "random"\ntrials = 3\nmetric = "loss"\n[confirm]\n{table}\n[space]\nx = [1, 2]\n')
    with pytest.raises(StudyError) as error:
        load(str(file))
    assert complaint in str(error.value)


def test_a_confirmation_whose_file_is_torn_is_published_again(bench):
    master = bench.master(study_of(bench, objective="slowly", extra="[fixed]\nepochs = 1\n", trials=3))
    bench.worker("slowly")
    name = wait_for(lambda: next((n for n in bench.names("pending") if n.number >= FIRST), None), "a confirmation")
    master.kill()
    master.wait()
    torn = max((n for n in bench.names("pending") if n.number >= FIRST), default=name, key=lambda n: n.number)
    path = bench.logs / str(torn)
    if path.exists():
        path.write_text('{"settings": {"x"')
    bench.search(study_of(bench, objective="slowly", extra="[fixed]\nepochs = 1\n", trials=3))
    _, again, results = by_kind(bench)
    assert sorted(map(len, again.values())) == [4, 4, 4] and not results.failed
    assert Proposal(results.trials[-1].settings).settings["seed"] == results.trials[-1].settings["seed"]
