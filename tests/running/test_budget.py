"""A study ends at the limit that is reached first: exactly, whatever is killed, and with late workers."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from foldertune.budget import Budget
from foldertune.errors import StudyError
from foldertune.fidelity import Fidelity
from foldertune.protocol import Folder, Parent, Proposal, Trial, TrialName, utc_now
from foldertune.reading.reader import read_results
from foldertune.running.ledger import Ledger
from foldertune.running.master import Master
from foldertune.running.supply import Supply
from foldertune.space import Float
from foldertune.spending import cost, hours_of, spans_at_work, why_over
from foldertune.strategies import Answer, load, plan
from foldertune.study import Study
from foldertune.study_file import study_from_record
from tests.conftest import settings_of, wait_for

HEAD = 'strategy = "random"\nmetric = "validation_error"\n'
SPACE = '[space]\nx = { type = "float", low = 0.0, high = 1.0 }\n'
EPOCHS = f'{SPACE}epochs = {{ type = "int", low = 1, high = 9 }}\n[fidelity]\nsetting = "epochs"\n'


def write_study(bench, rest, objective="quick", head=HEAD, name="budget.toml"):
    file = bench.path / name
    file.write_text(f'objective = "tests.objectives:{objective}"\n{head}{rest}')
    return str(file)


def as_far_as_it_goes(study, epochs):
    """The first trials, as many as these epochs allow."""
    trials, begun = [], 0
    while begun + (wanted := settings_of(study, len(trials))["epochs"]) <= epochs:
        trials, begun = [*trials, wanted], begun + wanted
    return trials


# ---------------------------------------------------------------- what a person writes


def test_a_table_says_the_same_as_trials_above_the_tables(bench):
    above = load(write_study(bench, f"trials = 7\n{SPACE}"))
    table = load(write_study(bench, f"{SPACE}[budget]\ntrials = 7\n"))
    assert table == above and table.trials == 7 and not table.budget
    assert "budget" not in table.to_record(), "the definition of a study with trials alone is as it was"
    every = "[budget]\ntrials = 7\nepochs = 40\nhours = 1.5\ntarget = 0.1\npatience = 5\n"
    study = load(write_study(bench, EPOCHS + every), budget=Budget(target=-2.0, epochs=50.0))
    assert study.budget == Budget(50.0, 1.5, -2.0, 5)
    assert study_from_record(study.to_record(), "x") == study
    limits = "7 trials, 50 epochs, 1.5 hours, until validation_error is -2 or better"
    assert study.budget_in_words == f"{limits}, until 5 trials bring no better value"


@pytest.mark.parametrize(
    "rest, said",
    [
        (SPACE, "trials: is missing"),
        (f"trials = 3\n{SPACE}[budget]\ntrials = 4\n", "budget.trials: stands above the tables as well"),
        (f"{SPACE}[budget]\nepoch = 4\n", "budget.epoch: unknown key; did you mean 'epochs'?"),
        (f"{SPACE}[budget]\npatience = 0\n", "budget.patience: must be at least 1"),
        (f"{SPACE}[budget]\nhours = -1\n", "budget.hours: must be above 0"),
        (f"{SPACE}[budget]\ntarget = true\n", "budget.target: must be a number"),
        (f"{SPACE}[budget]\nepochs = 9\n", "epochs in the budget: of which setting?"),
        (f'{SPACE}[budget]\nepochs = 9\n[fidelity]\nsetting = "epochs"\n', "must be in [fixed] or [space]"),
        (f"{EPOCHS}[budget]\nepochs = 0.5\n", "epochs in the budget: 0.5 pay for no trial, the shortest has 1 epochs"),
        (
            f'{SPACE}[fixed]\nepochs = 9\n[fidelity]\nsetting = "epochs"\n[budget]\nepochs = 8\n',
            "8 pay for no trial, the shortest has 9 epochs; raise them",
        ),
        (
            f'{SPACE}[fidelity]\nsetting = "epochs"\nlowest = 3\nhighest = 9\n[budget]\nepochs = 2\n',
            "2 pay for no trial, the shortest has 3 epochs",
        ),
        (
            f'{SPACE}[fidelity]\nsetting = "epochs"\nlowest = 1\nhighest = 20\n[budget]\nepochs = 1\n',
            "1 pay for no trial, the shortest has 2 epochs",
        ),
        (
            f"{SPACE}epochs = [3, 9]\n[fidelity]\nsetting = 'epochs'\n[budget]\nepochs = 2\n",
            "the shortest has 3 epochs",
        ),
    ],
)
def test_a_budget_that_can_not_be_kept_is_an_error_in_words(bench, rest, said):
    with pytest.raises(StudyError, match=r"budget\.toml: ") as error:
        load(write_study(bench, rest))
    assert said in str(error.value).replace(" (did you mean 'epochs'?)", "; did you mean 'epochs'?")


def test_a_grid_is_whole_unless_a_limit_comes_first(bench):
    grid = write_study(
        bench, "[space]\nx = [0.1, 0.2, 0.3]\n[budget]\ntarget = 0.0\n", head=HEAD.replace("random", "grid")
    )
    assert load(grid).trials == 3
    bench.search(grid, "--workers", 1)
    bench.assert_complete(3)


# ---------------------------------------------------------------- epochs


def test_epochs_are_never_exceeded_and_extend_a_study_whoever_is_killed(bench):
    file = write_study(bench, EPOCHS + "[budget]\nepochs = 60\n", objective="brief")
    bench.worker("brief")
    bench.worker("brief")
    for results in (2, 5):
        master = bench.master(file)
        wait_for(lambda enough=results: len(bench.names("seen")) >= enough)
        master.kill()
        master.wait()
    said = bench.search(file)
    first = as_far_as_it_goes(load(file), 60)
    bench.assert_complete(len(first))
    assert f"no more trials begin: {sum(first)} of 60 epochs are spent, and the next trial would need" in said
    assert [row.settings["epochs"] for row in bench.rows()] == first
    results = read_results(bench.logs)
    assert (
        results.progress == f"{len(first)} trials, {sum(first)} of 60 epochs" and results.complete and results.has_all
    )
    bench.search(file, "--epochs", 90, "--workers", 1)
    bench.assert_complete(len(as_far_as_it_goes(load(file), 90)))
    bench.search(file, "--epochs", 90, "--trials", len(first), code=2)  # more have begun
    before = bench.folder.settled()
    bench.search(file, "--epochs", 20)  # a smaller budget removes nothing
    assert sorted(map(str, bench.folder.settled())) == sorted(map(str, before))


def test_what_a_person_queues_is_tried_and_counts_among_the_epochs(bench):
    file = write_study(bench, EPOCHS + "[budget]\nepochs = 30\n")
    bench.folder.seen.mkdir(parents=True)
    bench.folder.publish(TrialName(1000, 1), {"x": 0.5, "epochs": 21}, lease=60.0)
    bench.search(file, "--workers", 1)
    numbers = [row.trial for row in bench.rows()]
    assert numbers == [*range(len(as_far_as_it_goes(load(file), 9))), 1000] and bench.folder.names() == []


def test_the_cost_of_a_trial_is_what_it_adds():
    study = Study("s", "random", 1, "loss", fidelity=Fidelity("epochs"))
    settings, parent = {"epochs": 27}, Parent(3, 1, {"epochs": 9}, 3)
    assert [cost(study, each) for each in (Proposal(settings), Proposal(settings, parent), Proposal({}))] == [27, 18, 0]


# ---------------------------------------------------------------- target, patience


def test_late_workers_are_counted_and_what_waits_is_withdrawn_until_the_target_is_raised(bench):
    hold = bench.path / "hold"
    hold.touch()
    head = HEAD + 'direction = "maximize"\n'
    file = write_study(bench, f"{SPACE}[budget]\ntarget = 0.6\n", objective="late", head=head)
    values = [settings_of(load(file), number)["x"] for number in range(100)]
    master = bench.master(file)
    for _ in range(2):  # both get stuck with a value that is high enough
        bench.worker("late", env={**os.environ, "HOLD": str(hold)})
    wait_for(lambda: sum(values[name.number] > 0.5 for name in bench.names("taken")) == 2)
    bench.worker("late", env={**os.environ, "HOLD": str(bench.path / "none")})
    wait_for(lambda: bench.folder.withdrawn() and len(bench.names("taken")) == 2)
    master.kill()
    master.wait()
    running = {name.number for name in bench.names("taken")}
    counted = {name.number for state in ("done", "seen") for name in bench.names(state)}
    assert bench.names("pending") == [], "nobody begins what the killed master has withdrawn"
    log = bench.path / "log.txt"
    with log.open("w") as stdout:
        master = bench.master(file, stdout=stdout)
    wait_for(lambda: "no more trials begin" in log.read_text())  # the new master does not begin anything either
    assert {name.number for name in bench.names("taken")} == running and bench.names("pending") == []
    hold.unlink()
    bench.finish(master)
    said, rows = log.read_text(), bench.rows()
    assert "the target is reached: validation_error is 0." in said
    assert "what runs now is finished and counted (2 trials)" in said
    assert {row.trial for row in rows} == running | counted and bench.folder.names() == []
    best = max(values[row.trial] for row in rows)
    assert best >= 0.6

    status = bench.finish(bench.start("-m", "foldertune", "status", "--logs", bench.logs))
    assert "complete: the target is reached" in " ".join(status.split()) and f"{len(rows)} trials" in status
    bench.search(file, "--workers", 1)
    assert len(bench.rows()) == len(rows), "nothing begins again"

    higher = min(value for value in values if value > best)
    bench.search(file, "--target", higher, "--workers", 3, env={**os.environ, "HOLD": str(hold)})
    rows = bench.rows()
    assert max(values[row.trial] for row in rows) >= higher and len(rows) > len(running | counted)
    assert all(row.settings["x"] == values[row.trial] for row in rows)
    assert any(row.attempt > 1 for row in rows), "withdrawn trials begin again, as a later attempt"


def ended(number, value, second, **settings):
    """A counted trial that took a second, and ended then."""
    trial = Trial(TrialName(number, 1, "seen"), settings, result={"loss": value} if value is not None else None)
    trial.claim = {"claimed": "a-1-b", "time": f"2026-01-01T00:{second // 60:02}:{second % 60:02}Z"}
    trial.finished = f"2026-01-01T00:{(second + 1) // 60:02}:{(second + 1) % 60:02}Z"
    return trial


def test_patience_counts_the_trials_that_ended_after_the_best_in_the_order_of_their_ends():
    study = Study("s", "random", 0, "loss", budget=Budget(patience=3))
    trials = [ended(9, 0.5, 0), ended(0, 0.2, 1), ended(1, 0.3, 2), ended(2, None, 3)]
    assert why_over(study, trials) == ""
    trials.append(ended(3, 0.2, 4))  # as good is not better
    assert why_over(study, trials) == "3 trials had no better loss than trial 0"
    assert why_over(study, trials[::-1]) == why_over(study, trials)
    assert why_over(study, [*trials, ended(4, 0.1, 5)]) == "", "a late better one gives it new patience"
    assert why_over(study, [ended(n, None, n) for n in range(3)]) == "3 trials had no loss"
    most = Study("s", "random", 0, "loss", direction="maximize", budget=Budget(target=0.5))
    assert "trial 9" in why_over(most, trials) and why_over(most, trials[1:]) == ""


def test_with_a_schedule_only_whole_trainings_count_for_target_and_patience():
    def trained(number, value, second, epochs):
        return ended(number, value, second, epochs=epochs)

    study = Study("s", "random", 0, "loss", fidelity=Fidelity("epochs", 1, 9), budget=Budget(patience=2))
    trials = [trained(0, 0.5, 0, 9), *(trained(number, 0.1, number, 1) for number in range(1, 9))]
    assert why_over(study, trials) == ""
    trials += [trained(9, 0.6, 20, 9), trained(10, 0.7, 21, 9)]
    assert why_over(study, trials) == "2 whole trainings had no better loss than trial 0"
    hopeless = [trained(number, None, number, 1) for number in range(2)]
    assert why_over(study, hopeless) == "2 trials had no loss", "no training will ever be whole"
    assert why_over(study, [*hopeless, trained(2, 0.5, 2, 1)]) == ""
    study = replace(study, budget=Budget(target=0.2))
    assert why_over(study, trials) == ""
    assert "loss is 0.15 in trial 11" in why_over(study, [*trials, trained(11, 0.15, 22, 9)])


def test_a_study_ends_when_its_patience_does_and_a_restart_changes_nothing(bench):
    file = write_study(bench, f"{SPACE}[budget]\npatience = 12\ntrials = 500\n")
    bench.search(file, "--workers", 2)
    results = read_results(bench.logs)
    in_order = sorted(results.trials, key=lambda trial: (trial.finished, trial.name.number))
    values = [trial.result["validation_error"] for trial in in_order]
    assert len(values) - 1 - values.index(min(values)) >= 12 and len(values) < 500
    assert results.asked == len(values) and results.complete
    assert "12 trials had no better validation_error" in bench.search(file)
    assert len(bench.names("seen")) == len(values)


# ---------------------------------------------------------------- hours


def test_hours_are_time_at_work():
    trials = [ended(0, 1.0, 0), ended(1, 1.0, 5), ended(2, 1.0, 600)]
    trials[2].earlier = [{"claimed": "c-1-d", "time": "2026-01-01T00:05:00Z", "until": "2026-01-01T00:06:00Z"}]
    assert round(3600 * hours_of(spans_at_work(trials))) == 6 + 60 + 1


def test_no_trial_begins_after_the_hours(bench):
    file = write_study(bench, f"{SPACE}[budget]\nhours = 0.0002\n", objective="brief")  # 0.72 seconds
    said = bench.search(file, "--workers", 2)
    assert "no more trials begin: the time of 0.0002 hours is over" in said
    rows = bench.rows()
    assert rows and bench.folder.names() == [] and bench.folder.study_done.exists()
    bench.search(file, "--workers", 1)
    assert len(bench.rows()) == len(rows), "the folder alone says that the time is over"
    bench.search(file, "--hours", 0.0004, "--workers", 1)
    assert len(bench.rows()) > len(rows)


# ---------------------------------------------------------------- a worker that dies at the end


def search_by_hand(folder, said, **budget):
    """A master in this process."""
    study = Study(
        "s", "random", 0, "loss", space={"x": Float(0.0, 1.0, False)}, budget=Budget(**budget), objective="o:o"
    )
    master = Master(folder, plan(study, "s"), lease=0.3, max_attempts=3, say=said.append)
    master.take_stock()
    return master


def test_a_broken_file_costs_nothing_but_its_attempt(bench):
    """A person has queued it, with a mistake, when nothing is left of the epochs: neither more of them, nor a hang."""
    for schedule in ("", "lowest = 1\nhighest = 9\n"):
        fixed = "" if schedule else "[fixed]\nepochs = 9\n"
        study = load(
            write_study(bench, f'[budget]\nepochs = 90\n[fidelity]\nsetting = "epochs"\n{schedule}{fixed}{SPACE}')
        )
        ledger = Ledger()
        supply = Supply(study, ledger)
        while answer := supply.next():
            name, proposal = answer
            ledger.note(name, proposal)
            result = {"validation_error": proposal.settings["x"]}
            ledger.count(
                Trial(name.to("seen"), proposal.settings, parent=proposal.parent, why=proposal.why, result=result)
            )
        assert supply.is_over() and sum(cost(study, each.proposal) for each in ledger.counted.values()) == 90
        for number in (90001, len(ledger.counted)):
            ledger.reopen(TrialName(number, 1), None)
            assert supply.again(number) is Answer.EXHAUSTED, "it can't become another trial"
            ledger.count(Trial(TrialName(number, 1, "seen"), {}, error="torn"))


def test_the_checkpoint_of_a_promotion_that_waits_is_kept(bench):
    """Whatever becomes of its parent: that may have been dropped, or lie outside of a changed study."""
    rungs = '[budget]\nepochs = 90\n[fidelity]\nsetting = "epochs"\nlowest = 1\nhighest = 9\n'
    ledger = Ledger()
    supply = Supply(load(write_study(bench, f"{rungs}{SPACE}")), ledger)
    for number, x in ((0, 0.5), (4, 7.0)):
        name = TrialName(number, 1, "seen")
        ledger.count(Trial(name, {"x": x, "epochs": 2}, result={"validation_error": 0.5}))
    ledger.note(TrialName(9, 1), Proposal({"x": 7.0, "epochs": 9}, Parent(4, 1, {"epochs": 2}, 4)))
    assert supply.needed == [4]


def test_a_trial_that_is_lost_when_the_target_is_reached_is_not_tried_again_before_it_is_lowered(tmp_path):
    folder, said = Folder(tmp_path), []
    folder.prepare()
    master = search_by_hand(folder, said, target=0.5)
    master.step()
    owner = "elsewhere-1-abcdefgh"
    claims = [folder.claim(owner, iter([TrialName(number, 1)])) for number in range(2)]
    for claim in claims:
        claim.append({"claimed": owner, "time": utc_now()})
    claims[0].finish({"result": {"loss": 0.5}, "time": utc_now()})  # the other one falls silent
    master.step()
    assert [name.number for name in folder.names()] == [1] and len(folder.withdrawn()) == 6

    def is_done():
        master.step()
        return master.is_done()

    wait_for(is_done)
    assert [str(name) for name in folder.settled() if name.state == "lost"] == ["trial-00001-1.jsonl.lost"]
    assert len(folder.withdrawn()) == 6, "no worker could have begun its next attempt"
    again = search_by_hand(folder, said, target=0.5)
    again.step()
    assert again.is_done() and folder.names() == []
    more = search_by_hand(folder, said, target=0.4)
    assert not more.is_done()
    more.step()
    more.step()
    names = {name.number: name for name in folder.names()}
    assert all(names[number].state == "pending" and names[number].attempt > 1 for number in range(1, 8))
    assert all(folder.read(name).settings == settings_of(more.study, number) for number, name in names.items())
