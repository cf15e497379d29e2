"""A study is changed while it runs: nothing is lost, earlier trials stay what they are, later ones follow the change."""

from __future__ import annotations

import json
import os
from collections import Counter
from dataclasses import replace

import pytest

from foldertune.changes import Change
from foldertune.changing import parts_of
from foldertune.confirm import number_of
from foldertune.errors import StudyError
from foldertune.finalists import finalists
from foldertune.protocol import Folder, Parent, Proposal, Trial, TrialName
from foldertune.reading.archive import open_study
from foldertune.reading.best import best, confirmed_line
from foldertune.reading.explain import how, why
from foldertune.reading.reader import read_results
from foldertune.running import change
from foldertune.running.change import first_free
from foldertune.running.master import Master
from foldertune.running.mastership import continued, open_folder
from foldertune.space import identity
from foldertune.strategies import History, load, new_strategy
from foldertune.strategies.changed import SCOUTS, widened
from foldertune.study_file import study_from_record
from tests.conftest import count, wait_for

HEAD = 'objective = "tests.objectives:quick"\nmetric = "validation_error"\n'
OLD = '[fixed]\nepochs = 3\n[space]\nx = { type = "float", low = 0.0, high = 1.0 }\nkind = ["a", "b"]\n'
NEW = """[before]
decay = 0.0
[space]
x = { type = "float", low = -1.0, high = 1.0 }
kind = ["a", "b", "c"]
epochs = [3, 9]
decay = { type = "float", low = 0.0, high = 0.5 }
"""


def written(bench, rest, head=HEAD, strategy="random", trials=12):
    file = bench.path / "mine.toml"
    limit = f"trials = {trials}\n" if trials else ""
    file.write_text(f'{head}strategy = "{strategy}"\n{limit}{rest}')
    return str(file)


def settings_in(folder):
    """The settings in each trial's own file, as they stand there."""
    names = {name.number: name for name in (*folder.settled(), *folder.names())}
    return {number: Folder(folder.path).read(names[number]).settings for number in sorted(names)}


def begun(bench, rest, numbers, **how):
    """A folder in which a study has these trials, all counted."""
    study = load(written(bench, rest, **how))
    open_folder(bench.folder, study)
    bench.folder.write_study(study.to_record())
    strategy = new_strategy(study)
    for number in range(numbers):
        count_by_x(bench, number, strategy.propose(number, read_history(bench)))
    return study


def count_by_x(bench, number, proposal):
    count(bench.folder, number, proposal, {"validation_error": proposal.settings.get("x", 0.0)})


def read_history(bench):
    trials = read_results(bench.logs).trials if bench.folder.read_study() else []
    return History({trial.name.number: trial for trial in trials})


def changed(bench, rest, said=None, **how):
    """The study after a change, as a master that is started later reads it."""
    study = load(written(bench, rest, **how))
    say = [].append if said is None else said.append
    open_folder(bench.folder, study, say=say, change=True)
    return continued(bench.folder, study)


# ---------------------------------------------------------------- real programs


def test_a_search_is_changed_while_it_runs(bench):
    """The whole way: refused, changed, killed, continued, shown. Trials of before stay as they are, to the byte."""
    file = written(bench, OLD, head=HEAD.replace("quick", "brief"), trials=24)
    master = bench.master(file)
    worker = bench.worker("brief")
    wait_for(lambda: len(bench.names("seen")) > 5, "results")
    worker.kill()
    worker.wait()
    file = written(bench, NEW, head=HEAD.replace("quick", "brief"), trials=36)
    said = bench.search(file, "--change", code=2)
    assert "is searching here; end that master first, wait for it with --standby" in said
    master.kill()
    master.wait()
    said = bench.search(file, code=2)
    assert "it differs in fixed.epochs" in said and "change the study here with --change" in said
    before = settings_in(bench.folder)
    output = bench.path / "output"
    with open(output, "w") as file_of_output:
        master = bench.master(file, "--change", stdout=file_of_output)
    wait_for(lambda: "changed from trial" in output.read_text(), "the change")
    master.kill()
    master.wait()
    said = output.read_text()
    told = [
        "x: 0–1 becomes -1–1",
        "kind: choice c added",
        "epochs: fixed at 3 until now, becomes 3, 9",
        "decay: new, 0–0.5; earlier trials have 0",
    ]
    first = max(before) + 1
    assert all(f"{bench.logs}: {line}\n" in said for line in told) and f"changed from trial {first} on" in said
    written(bench, NEW.replace("[before]\ndecay = 0.0\n", ""), head=HEAD.replace("quick", "brief"), trials=36)
    bench.search(file, "--workers", 1)  # goes on without the option, and without [before]
    bench.assert_complete(36)
    results = read_results(bench.logs)
    for trial in results.trials:
        number, settings = trial.name.number, trial.settings
        if number < first:
            assert settings == {"decay": 0.0, **before[number]} and results.study.contains(settings)
        else:
            assert settings["epochs"] in (3, 9) and settings["decay"] > 0
    new = [trial.settings for trial in results.trials[first:]]
    assert {"c"} < {each["kind"] for each in new} and min(each["x"] for each in new) < 0
    header, *rows = bench.folder.results.read_text().splitlines()
    assert "decay" in header and rows[0].split(",")[header.split(",").index("decay")] == "0.0"
    line = f"changed from trial {first} on ({results.study.changes[0].time[:10]} by {results.study.changes[0].by}): "
    for command in ("status", "results", "doctor"):
        said = bench.finish(bench.start("-m", "foldertune", command, "--logs", bench.logs))
        assert f"{line}{'; '.join(told)}" in " ".join(said.split()), said
    assert "changes" not in bench.search(file, "--change"), "nothing is different any more"
    assert len(open_study(bench.logs)[1].changes) == 1


def test_a_search_that_has_ended_is_opened_by_a_change(bench):
    """A grid gets its new combinations, an exhausted search new settings."""
    space = '[space]\nx = [0.1, 0.2]\nkind = ["a", "b"]\n'
    bench.search(written(bench, space, strategy="grid", trials=0), "--workers", 1)
    wider = f"[before]\ndecay = 1\n{space.replace('0.2]', '0.2, 0.3]')}decay = [0, 1]\n"
    bench.search(written(bench, wider, strategy="grid", trials=0), "--workers", 1, "--change")
    bench.assert_complete(12)
    names, rows = ("x", "kind", "decay"), bench.rows()
    assert len({tuple(row.settings[name] for name in names) for row in rows}) == 12
    assert all(row.settings["decay"] == 1 for row in rows[:4])
    file = written(bench, wider.replace("0.3]", "0.3, 0.4]"), trials=20)
    said = bench.search(file, "--workers", 1, "--change")
    assert "strategy: grid becomes random" in said and "the search is exhausted" in said
    bench.assert_complete(16)
    assert len({tuple(row.settings[name] for name in names) for row in bench.rows()}) == 16


def test_what_still_waits_at_the_end_is_trained_after_a_change(bench):
    """It is withdrawn and published again, with the new setting, and needs a worker for that."""
    bench.search(written(bench, OLD, trials=4), "--workers", 1)
    (bench.logs / "trial-90001-1.jsonl").write_text('{"settings": {"x": 0.5, "kind": "a", "epochs": 3}}\n')
    wider = (
        OLD.replace("[fixed]", "[before]\ndecay = 0.0\n[fixed]") + 'decay = { type = "float", low = 0.0, high = 0.5 }\n'
    )
    said = bench.search(written(bench, wider, trials=4), "--workers", 1, "--change")
    assert "decay: new" in said
    rows = bench.rows()
    assert [row.settings["decay"] for row in rows] == [0.0] * 5 and rows[-1].settings["x"] == 0.5


# ---------------------------------------------------------------- a crash


@pytest.mark.parametrize("complete", [False, True])
def test_a_crash_leaves_the_old_study_or_the_new_one(bench, monkeypatch, complete):
    """Killed at each call that changes the folder, and started again: in the end the change is there, once."""
    old = begun(bench, OLD, 4)
    bench.folder.publish(TrialName(4, 1), new_strategy(old).propose(4, History()), lease=60.0)
    if complete:
        bench.folder.complete_study(old.to_record())
    calls = Counter()

    class Killed(BaseException):
        pass

    def deadly(name):
        real = getattr(os, name)

        def call(*arguments, **options):
            calls["made"] += 1
            if calls["made"] == calls["fatal"]:
                raise Killed
            return real(*arguments, **options)

        return call

    for name in ("open", "write", "fsync", "rename", "replace", "unlink"):
        if hasattr(os, name):
            monkeypatch.setattr(os, name, deadly(name))
    study, kinds = load(written(bench, NEW, trials=20)), Counter()
    for fatal in range(1, 300):
        calls.update(made=-calls["made"], fatal=fatal - calls["fatal"])
        try:
            open_folder(bench.folder, study, say=kinds.update, change=True)
        except Killed:
            calls["fatal"] = 0
            there = open_study(bench.logs)[1]
            kinds["new" if there.changes else "old"] += 1
            assert there.space == (study if there.changes else old).space and len(there.changes) <= 1
            continue
        break
    assert kinds["old"] > 3 and kinds["new"] > 0 and fatal < 299
    after = continued(bench.folder, study)
    assert len(after.changes) == 1 and after.changes[0].trial == 5 and after.space == study.space
    assert [name.number for name in bench.folder.withdrawn()] == [4], "to be published again, with what it lacks"


# ---------------------------------------------------------------- which settings follow


@pytest.mark.parametrize("strategy", ["random", "sobol", "halton"])
def test_earlier_trials_come_out_as_they_were(bench, strategy):
    """Computed again, trial 3 has the settings of its time: after one change, and after two."""
    old = begun(bench, OLD, 5, strategy=strategy)
    asked = [new_strategy(old).propose(number, History()).settings for number in range(5)]
    once = changed(bench, NEW, strategy=strategy)
    for number in range(5, 9):
        count_by_x(bench, number, new_strategy(once).propose(number, History()))
    twice = changed(bench, NEW.replace("0.5", "0.9").replace('"c"', '"c", "d"'), strategy=strategy, trials=30)
    assert [each.trial for each in twice.changes] == [5, 9]
    again = [new_strategy(twice).propose(number, History()).settings for number in range(30)]
    assert again[:5] == [{**settings, "decay": 0.0} for settings in asked]
    assert again[5:9] == [new_strategy(once).propose(number, History()).settings for number in range(5, 9)]
    plain = new_strategy(replace(twice, changes=()))
    assert again[9:] == [plain.propose(number, History()).settings for number in range(9, 30)], "the same numbers"
    assert new_strategy(twice).is_reproducible


@pytest.mark.parametrize("strategy", ["tpe", "nsga-ii"])
def test_a_model_tries_what_a_change_has_added(bench, strategy):
    """Left to itself it stays where its results lie: 30 of them know one choice less and half of the range."""
    begun(bench, OLD, 30, strategy=strategy, trials=60)
    wider = changed(bench, NEW, strategy=strategy, trials=60)
    for number in range(30, 50):
        count_by_x(bench, number, new_strategy(wider).propose(number, read_history(bench)))
    later = [settings for number, settings in settings_in(bench.folder).items() if number >= 30]
    assert {settings["kind"] for settings in later[:SCOUTS]} == {"a", "b", "c"}
    assert any(settings["x"] < 0 for settings in later[:SCOUTS]) and {s["epochs"] for s in later} == {3, 9}
    assert all(settings["decay"] > 0 for settings in later[:SCOUTS])
    reasons = [trial.why for trial in read_results(bench.logs).trials if trial.name.number >= 30]
    assert all(why == {"strategy": strategy, "random": True} for why in reasons[:SCOUTS])
    assert any("random" not in why for why in reasons[SCOUTS:]), "then the model chooses"
    again = replace(wider.changes[0], trial=50, was=parts_of(wider))
    narrow = replace(wider, changes=(*wider.changes, again))
    still = new_strategy(narrow)
    assert still.first == 50 and still.until == 30 + SCOUTS, "nothing is new there, and the scouts of before have been"


WIDER = [
    ({}, None),
    ({"x": {"type": "float", "low": 0.0, "high": 2.0}}, 5),
    ({"x": {"type": "float", "low": 0.2, "high": 0.8}}, None),
    ({"x": {"type": "float", "low": 0.0, "high": 1.0, "step": 0.5}}, None),
    ({"steps": {"type": "float", "low": 0.0, "high": 1.0}}, 5),
    ({"steps": {"type": "float", "low": 0.0, "high": 1.0, "step": 0.125}}, 5),
    ({"kind": ["a"]}, None),
    ({"kind": ["a", "b", "c"]}, 5),
    ({"only_a": ["p", "q"]}, 5),
    ({"new": [1, 2]}, 5),
]


@pytest.mark.parametrize(("change", "first"), WIDER)
def test_what_makes_a_space_wider(change, first):
    space = {
        "x": {"type": "float", "low": 0.0, "high": 1.0},
        "steps": {"type": "float", "low": 0.0, "high": 1.0, "step": 0.25},
        "kind": ["a", "b"],
        "only_a": {"type": "categorical", "choices": ["p", "q"], "when": {"kind": "a"}},
    }
    record = {
        "name": "toy",
        "strategy": "tpe",
        "trials": 40,
        "metric": "loss",
        "space": space,
        "constraints": ["x < 1"],
    }
    old = study_from_record(record, "test")
    new = study_from_record({**record, "space": {**space, **change}}, "test")
    new = replace(new, changes=(Change(5, (), parts_of(old)),))
    assert widened(new) == first
    narrower = replace(new, changes=(*new.changes, Change(8, (), parts_of(new))))
    assert widened(narrower) == first, "a later change that adds nothing"
    freer = replace(new, constraints=(), changes=new.changes)
    assert widened(freer) == 5


def test_what_is_to_be_tried_first_comes_before_what_is_drawn_in_a_wider_space(bench):
    begun(bench, OLD, 12, strategy="tpe", trials=40)
    guess = NEW.replace("high = 1.0 }", "high = 1.0, guess = -0.5 }")
    study = changed(bench, guess, strategy="tpe", trials=40)
    counted = read_history(bench).counted
    first = new_strategy(study).propose(12, History(counted))
    assert first.settings["x"] == -0.5 and "random" not in first.why


def test_a_lost_trial_of_before_is_tried_again_as_it_was(bench):
    """Its file is torn, so the master asks the strategy of that time once more."""
    old = begun(bench, OLD, 5)
    name = TrialName(5, 1)
    (bench.logs / str(name)).write_text('{"settings')
    wanted = new_strategy(old).propose(5, History()).settings
    file = written(bench, NEW, trials=9)
    bench.search(file, "--change", "--workers", 1, "--lease", 2)
    bench.assert_complete(9)
    assert bench.rows()[5].settings == {**wanted, "decay": 0.0} and bench.rows()[5].attempt == 2
    assert bench.rows()[6].settings["decay"] > 0


@pytest.mark.parametrize("repeats", [1, 2])
@pytest.mark.parametrize("tried", [0, 3, 7, 8])
def test_a_grid_gets_what_is_new_and_misses_nothing(bench, tried, repeats):
    space = '[fixed]\nx = 0.5\n[space]\nkind = ["a", "b"]\nsize = [1, 2]\n'
    wider = (
        '[before]\ndecay = 0.0\n[fixed]\nx = 0.5\n[space]\nsize = [2, 3, 1]\nkind = ["c", "a"]\n'
        'decay = { type = "categorical", choices = [0.1, 0.0], when = { kind = "a" } }\n'
    )
    head = f"{HEAD}repeats = {repeats}\n"
    begun(bench, space, min(tried, 4 * repeats), head=head, strategy="grid", trials=0)
    before = [
        identity({k: v for k, v in each.settings.items() if k != "seed"})
        for each in read_history(bench).counted.values()
    ]
    study = changed(bench, wider, head=head, strategy="grid", trials=0)
    wanted = {
        identity({"x": 0.5, "kind": kind, "size": size} | ({} if decay is None else {"decay": decay}))
        for size in (1, 2, 3)
        for kind, decay in (("c", None), ("a", 0.0), ("a", 0.1))
    }
    strategy, asked = new_strategy(study), Counter()
    assert strategy.propose(study.trials, History()).name == "EXHAUSTED"
    for number in range(study.trials):
        settings = strategy.propose(number, History()).settings
        asked[identity({k: v for k, v in settings.items() if k != "seed"})] += 1
    assert {key for key in asked if key in wanted} == wanted and all(asked[key] == repeats for key in wanted)
    assert sum(asked[key] for key in asked if key not in wanted) == sum("b" in repr(key) for key in before)
    assert load(written(bench, wider, head=head, strategy="grid", trials=0)).trials == 9 * repeats
    assert study.trials == sum(asked.values()) == continued(bench.folder, study).trials


def test_no_settings_come_twice_in_a_discrete_space(bench):
    space = '[fixed]\nx = 0.5\n[space]\nkind = ["a", "b", "c"]\nsize = { type = "int", low = 1, high = 3 }\n'
    begun(bench, space, 7)
    study = changed(bench, space.replace("high = 3", "high = 5"), trials=40)
    strategy = new_strategy(study)
    asked = [strategy.propose(number, History()) for number in range(16)]
    assert len({identity([each.settings["kind"], each.settings["size"]]) for each in asked[:15]}) == 15
    assert asked[15].name == "EXHAUSTED"
    other = changed(bench, space.replace("high = 3", "high = 5").replace("x = 0.5", "x = 0.75"), trials=40)
    strategy = new_strategy(other)
    asked = [strategy.propose(number, History()).settings for number in range(22)]
    assert len({identity([each["kind"], each["size"]]) for each in asked[7:]}) == 15, (
        "with what is fixed now, all are new"
    )


def test_a_strategy_that_learns_sees_what_lies_in_the_space(bench):
    """Trials outside are left out; those that lack a hyperparameter count with their value of before."""
    begun(bench, OLD, 12, strategy="tpe", trials=40)
    said = []
    narrow = NEW.replace("low = -1.0, high = 1.0", "low = 0.0, high = 0.5").replace("[3, 9]", "[3]")
    study = changed(bench, narrow, said, strategy="tpe", trials=40)
    counted = read_history(bench).counted
    inside = [number for number, trial in counted.items() if trial.settings["x"] <= 0.5]
    assert 0 < len(inside) < 12
    assert (
        f"{12 - len(inside)} of 12 trials lie outside of it now: they count, but no strategy looks at them"
        in "\n".join(said)
    )
    strategy = new_strategy(study)
    seen = []
    strategy.now.propose = lambda number, history: seen.append(history)
    strategy.propose(12 + SCOUTS, History(counted, {12: Proposal({"x": 0.9, "kind": "a", "epochs": 3})}))
    assert [*seen[0].counted] == inside and not seen[0].open and len(seen[0].whole.counted) == 12
    assert len(new_strategy(study).now._shown(seen[0])) == len(inside)
    assert all(trial.settings["decay"] == 0.0 for trial in seen[0].counted.values())
    master = Master(Folder(bench.logs), study, lease=60, max_attempts=2)
    master.take_stock()
    assert all(trial.settings["decay"] == 0.0 for trial in master.ledger.counted.values())


def test_what_is_fixed_otherwise_is_tried_anew(bench):
    """A strategy that learns leaves out what trials have, but not what they had with another fixed value."""
    space = '[fixed]\nx = 0.5\n[space]\nkind = ["a", "b", "c"]\n'
    begun(bench, space, 3, strategy="tpe")
    study, counted = changed(bench, space.replace("0.5", "0.25"), strategy="tpe"), read_history(bench).counted
    kinds = []
    for number in range(3, 6):
        settings = new_strategy(study).propose(number, History(counted)).settings
        counted[number] = Trial(TrialName(number, 1, "seen"), settings, result={"validation_error": 1.0})
        kinds.append(settings["kind"])
    assert sorted(kinds) == ["a", "b", "c"]
    assert new_strategy(study).propose(6, History(counted)).name == "EXHAUSTED"


def test_the_generations_of_an_evolution_begin_anew(bench):
    """What was drawn in another space would shrink the distribution to where it was."""
    space = '[space]\nx = { type = "float", low = 0.0, high = 1.0 }\n'
    begun(bench, space, 9, strategy="cma-es", trials=40)
    study = changed(bench, space.replace("0.0, high", "-1.0, high"), strategy="cma-es", trials=40)
    assert max(trial.why["generation"] for trial in read_history(bench).counted.values()) > 0
    for number in range(9, 18):
        proposal = new_strategy(study).propose(number, read_history(bench))
        count_by_x(bench, number, proposal)
        assert number > 9 or proposal.why["generation"] == 0
    assert max(trial.why["generation"] for number, trial in read_history(bench).counted.items() if number > 8) > 0


def test_what_was_to_be_tried_first_is_not_tried_again_and_again_after_a_change(bench):
    """It lies outside of the space. With a schedule the strategy is shown one rung alone."""
    rest = '[budget]\nepochs = 100\n[fidelity]\nsetting = "epochs"\nhighest = 9\nlowest = 1\n[space]\nx = {{ type = "float", low = 0.0, high = {} }}\n'
    how = {"head": f"{HEAD}first = [{{ x = 5.0 }}]\n", "trials": 0}
    begun(bench, rest.format(1.0), 2, **how)
    assert settings_in(bench.folder)[0]["x"] == 5.0
    strategy = new_strategy(changed(bench, rest.format(2.0), **how))
    for number in (2, 3):
        proposal = strategy.propose(number, read_history(bench))
        assert proposal.settings["x"] <= 2.0
        count_by_x(bench, number, proposal)


def test_a_guess_that_is_new_is_tried_next(bench):
    guess = OLD.replace("high = 1.0", "high = 1.0, guess = 0.25")
    listed = f"{HEAD}first = [{{ x = 0.5 }}, {{ x = 0.75 }}]\n"
    begun(bench, OLD, 2, head=listed)
    study = changed(bench, guess, head=listed)
    strategy, history = new_strategy(study), read_history(bench)
    assert [trial.settings["x"] for trial in history.counted.values()] == [0.5, 0.75]
    proposal = strategy.propose(2, history)
    assert proposal.settings["x"] == 0.25
    count_by_x(bench, 2, proposal)
    assert "first" not in new_strategy(study).propose(3, read_history(bench)).why


# ---------------------------------------------------------------- pending trials, checkpoints


def test_pending_trials_get_what_they_lack(bench):
    """Training code that asks for the new setting finds it, and a checkpoint from before is still taken."""
    old = begun(bench, OLD, 2)
    for number in (2, 3):
        bench.folder.publish(TrialName(number, 1), new_strategy(old).propose(number, History()), lease=60.0)
    claim = bench.folder.claim("w-1-abcd", iter([TrialName(3, 1)]))
    settings = new_strategy(old).propose(3, History()).settings
    claim.append({"claimed": "w-1-abcd"})
    bench.folder.checkpoints.mkdir(exist_ok=True)
    earlier = bench.folder.read_study()
    claim.save_checkpoint(settings, b"learnt", earlier)
    claim.give_back("told to stop")
    file = written(bench, NEW, trials=5)
    master = bench.master(file, "--change")
    wait_for(lambda: {name.number for name in bench.folder.names()} >= {2, 3, 4}, "trials")
    master.kill()
    master.wait()
    told = settings_in(bench.folder)
    assert told[2]["decay"] == told[3]["decay"] == 0.0 and told[4]["decay"] > 0
    assert told[3] == {**settings, "decay": 0.0}
    name = next(name for name in bench.folder.names() if name.number == 3)
    claim = bench.folder.claim("w-1-abce", iter([name]))
    assert [data for _, data in claim.load_checkpoints(told[3], bench.folder.read_study())] == [b"learnt"]
    assert not [*claim.load_checkpoints({**told[3], "decay": 0.5}, bench.folder.read_study())]
    claim.save_checkpoint(told[3], b"more", earlier)  # by a worker that has read study.json before the change
    found = claim.load_checkpoints(told[3], bench.folder.read_study())
    assert [data for _, data in found] == [b"more", b"learnt"]
    bench.folder.publish(TrialName(9, 1), {"x": 0.5}, lease=60.0)
    promoted, parent = {**told[3], "epochs": 9}, Parent(3, 1, {"epochs": 3}, 3)
    claim = bench.folder.claim("w-1-abcf", iter([TrialName(9, 1)]))
    loaded = claim.load_checkpoints(promoted, bench.folder.read_study(), parent)
    assert [data for _, data in loaded] == [b"learnt"], "also a trial that goes on with one of before takes it"


def test_a_value_of_before_that_is_no_choice_is_told(bench):
    """It may be misspelt, or what was never to be tried again."""
    begun(bench, OLD, 3)
    said = []
    study = changed(bench, f'[before]\nway = "upp"\n{OLD}way = ["up", "down"]\n', said)
    assert any(line.endswith("before.way: 'upp' is none of its choices (did you mean 'up'?)") for line in said)
    assert any("3 of 3 trials lie outside of it now" in line for line in said) and study.before == {"way": "upp"}


# ---------------------------------------------------------------- what can't be


@pytest.mark.parametrize(
    "new, said",
    [
        (OLD.replace('["a", "b"]', "[1, 2]").replace("[1, 2]", '{ type = "int", low = 1, high = 2 }'), 'space.kind: can\'t become a range of type "int", it is a list of values'),
        (OLD.replace('kind = ["a", "b"]\n', ""), "space.kind: can't go; write the value that it has from now on into [fixed]"),
        (OLD.replace("epochs = 3\n", ""), "fixed.epochs: can't go; keep epochs = 3"),
        (f"{OLD}decay = [0.0, 0.1]\n", "space.decay: trial 0 does not have it; say what such trials have instead, in a table [before]"),
        (f"seed = 3\n{OLD}", "seed: can't become 3, because trial 7 is a function of it"),
        (f'direction = "maximize"\n{OLD}', "direction: can't become maximize, because results are compared by it"),
    ],
)  # fmt: skip
def test_what_can_not_change_is_refused_in_a_line(bench, new, said):
    begun(bench, OLD, 3)
    record = bench.folder.study.read_bytes()
    answer = bench.search(written(bench, new), "--change", code=2)
    assert said in answer and len(answer.splitlines()) == 1
    assert bench.folder.study.read_bytes() == record
    with pytest.raises(StudyError, match="metric: can't become loss"):
        changed(bench, OLD, head=HEAD.replace("validation_error", "loss"))


def test_before_names_a_setting_and_fits_it(bench):
    for text, said in (
        ("y = 1", "before.y: is no setting of this study"),
        ('x = "a"', "before.x: 'x' must be a number"),
    ):
        with pytest.raises(StudyError, match=said):
            load(written(bench, f"[before]\n{text}\n{OLD}"))
    nested = '[before]\nmodel.width = 3\nkind = { null = true }\n[space]\nkind = ["a", { null = true }]\nmodel.width = [3, 4]\n'
    study = load(written(bench, nested))
    assert study.before == {"model.width": 3, "kind": None} and study.filled({"x": 1}) == {
        "x": 1,
        "model.width": 3,
        "kind": None,
    }
    assert json.loads(json.dumps(study.to_record()))["before"] == {"model": {"width": 3}, "kind": None}


def test_numbers_that_persons_use_do_not_move_the_change():
    assert first_free([0, 1, 2, 3, 90001]) == 4
    assert first_free([0, 1, 2, 4, 5, 6]) == 7
    assert first_free([90001]) == 0 == first_free([])


def test_a_condition_of_a_new_choice_needs_no_value_of_before(bench):
    """No earlier trial could have the hyperparameter, so nothing is to be said of them."""
    begun(bench, OLD, 3)
    new = (
        OLD.replace('"b"]', '"b", "c"]') + 'decay = { type = "float", low = 0.0, high = 1.0, when = { kind = "c" } }\n'
    )
    study = changed(bench, new)
    assert len(study.changes) == 1 and change.successor(study, study) == study
    trial = Trial(TrialName(9, 1), {"x": 0.5, "kind": "a", "epochs": 3})
    assert study.contains(trial.settings)


def test_what_was_confirmed_may_lie_outside_later(bench):
    """Neither confirmations nor the front come from outside of the study; and nobody waits for what will not come."""
    confirm = "[confirm]\nbest = 1\nrepeats = 2\n"
    begun(bench, confirm + OLD, 4)
    best = min(read_results(bench.logs).trials, key=lambda trial: trial.settings["x"])
    wanted = confirmed_line(read_results(bench.logs))
    assert wanted == "Not confirmed yet: 0 of 2 confirmations have ended."
    for repeat in (1, 2):
        why = {"confirms": best.name.number, "repeat": repeat}
        count_by_x(bench, number_of(best.name.number, repeat), Proposal({**best.settings, "seed": repeat}, why=why))
    assert confirmed_line(read_results(bench.logs)).startswith("Confirmed: ")
    head = HEAD.replace('"validation_error"', '["validation_error", "seconds"]')
    plain = load(written(bench, OLD))
    bench.folder.write_study(plain.to_record())  # as a master does that is started without [confirm]
    assert confirmed_line(read_results(bench.logs)) == "", "none are to come"
    bench.folder.write_study(load(written(bench, confirm + OLD)).to_record())
    study = changed(bench, confirm + OLD.replace("epochs = 3", "epochs = 9"))
    trials = read_results(bench.logs).trials
    assert len(trials) == 6 and finalists(study, trials) == []
    assert confirmed_line(replace(read_results(bench.logs), complete=True)) == ""
    count_by_x(bench, 4, Proposal({**best.settings, "epochs": 9}))
    assert [trial.name.number for trial in finalists(study, read_results(bench.logs).trials)] == [4]
    several = load(written(bench, OLD, head=head))
    results = replace(read_results(bench.logs), study=replace(several, fixed=study.fixed, changes=study.changes))
    for trial in results.trials:
        trial.result["seconds"] = 1.0
    assert results.on_front == {4}


def test_with_repeats_earlier_trials_may_be_the_best(bench):
    """Trials with another fixed value count, too, and are no repeats of the later ones."""
    space = "[fixed]\nepochs = 3\n[space]\nx = [0.1, 0.2]\n"
    begun(bench, f"repeats = 2\n{space}", 4, strategy="grid", trials=0)
    changed(bench, f"repeats = 2\n{space.replace('3', '9')}", strategy="grid", trials=0)
    assert best(bench.logs)["x"] == 0.1
    count_by_x(bench, 4, Proposal({"x": 0.1, "epochs": 9, "seed": 1}))
    assert sorted(len(trials) for trials in read_results(bench.logs).alike) == [1, 2, 2]


def test_what_a_study_says_sends_no_commands_to_a_terminal(bench):
    begun(bench, '[space]\nkind = ["a\\u001b[31m", "b"]\n', 2)
    said = []
    changed(bench, '[space]\nkind = ["b", "c"]\n', said)
    assert any("a\\x1b[31m" in line for line in said) and "\x1b" not in "".join(said)


def test_a_trial_from_before_names_the_strategy_of_that_time(bench):
    begun(bench, OLD, 3, strategy="tpe")
    changed(bench, OLD, strategy="random")
    count_by_x(bench, 3, new_strategy(read_results(bench.logs).study).propose(3, read_history(bench)))
    changed(bench, OLD, strategy="sobol")
    results = read_results(bench.logs)
    assert [how(results.study, trial) for trial in results.trials][2:] == [
        "drawn at random, before there was enough to learn from",
        "random search",
    ]
    assert why(results.study, results.trials[-1]) == "random search", "the study says another one"
    count_by_x(bench, 4, new_strategy(results.study).propose(4, read_history(bench)))
    count_by_x(bench, 5, Proposal({"x": 0.5, "kind": "a", "epochs": 3}))
    *_, ours, older = read_results(bench.logs).trials
    assert how(results.study, ours) == how(results.study, older) == "sobol search", "also if its file does not say so"
    assert why(results.study, ours) == "", "the study says so"
