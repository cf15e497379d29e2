"""A search that begins with settings from a list, and with results of another folder; killed, and started again."""

from __future__ import annotations

import json
import statistics
from argparse import Namespace
from dataclasses import replace

import pytest

from foldertune.commands.first import with_first
from foldertune.confirm import number_of
from foldertune.errors import StudyError, UserError
from foldertune.fidelity import Fidelity
from foldertune.metrics import Known
from foldertune.protocol import Parent, Proposal, Trial, TrialName
from foldertune.reading.archive import open_study
from foldertune.reading.reader import read_results
from foldertune.running.mastership import open_folder
from foldertune.running.results_file import ResultsFile
from foldertune.space import Categorical, Float, Int
from foldertune.strategies import History, load, new_strategy
from foldertune.study import Study
from foldertune.study_file import study_from_record
from tests.conftest import count, wait_for

SPACE = {
    "model.rate": Float(0.001, 1.0, log=True),
    "model.width": Int(4, 99),
    "kind": Categorical((None, [1, 2], "1", 1, "a")),
    "momentum": Float(0.0, 1.0, when={"kind": ("a",)}),
}
LIST = [{"x": 0.5}, {"x": 7}, {"x": 0.25, "seed": 5}]


def new_study(strategy="random", **changes):
    study = Study("toy", strategy, 20, "loss", objective="mine:train", space=SPACE, fixed={"epochs": 3})
    return replace(study, **changes)


def begun(study=None, first=None, best=None, known=None, said=None):
    """The study with these options."""
    said = [] if said is None else said
    return with_first(Namespace(first=first, first_best=best, known=known), study or new_study(), said.append)


def written(path, text):
    path.write_text(text)
    return path


def test_a_master_that_is_killed_goes_on_with_its_list(bench):
    """With the option or without it, no trial of the list is lost or doubled."""
    ideas = written(bench.path / "ideas.json", json.dumps(LIST))
    study = bench.study(trials=12, objective="brief")
    master = bench.master(study, "--first", ideas)
    wait_for(lambda: bench.names("pending"), "trials")
    master.kill()
    said = master.communicate()[0]
    assert "3 trials to begin with; 1 lies outside of the search space, and is tried all the same" in said
    master = bench.master(study)
    worker = bench.worker("brief")
    wait_for(lambda: len(bench.names("seen")) >= 2, "results")
    master.kill()
    master.wait()
    said = bench.search(study, "--first", ideas)
    assert "has begun with other" not in said
    bench.finish(worker)
    bench.assert_complete(12)
    rows = bench.rows()
    assert [row.settings["x"] for row in rows[:3]] == [0.5, 7, 0.25] and rows[2].settings["seed"] == 5
    assert len({row.settings["x"] for row in rows}) == 12
    assert bench.folder.read(TrialName(1, 1, "seen")).why == {"first": 2}
    plain = new_strategy(load(study))
    assert rows[3].settings == plain.propose(0, History()).settings, "then the search as it is without a list"
    said = bench.search(study, "--first", written(bench.path / "more.json", '{"x": 0.1}'))
    assert "has begun with other settings to try first, so those of now are left out" in said


def test_a_list_comes_too_late_for_a_study_that_has_begun(bench):
    study = bench.study(trials=1)
    bench.search(study, "--workers", 1)
    ideas = written(bench.path / "ideas.json", '{"x": 0.1}')
    assert "has begun without settings to try first" in bench.search(study, "--trials", 2, "--first", ideas, code=2)


def test_results_of_another_folder(bench, tmp_path):
    """The best are tried first; or all are shown to a strategy that learns, and nothing is trained twice."""
    bench.search(bench.study(trials=12), "--workers", 1)
    values = sorted(row.metrics["validation_error"] for row in bench.rows())
    study, said = load(bench.study(trials=30), strategy="tpe"), []
    for source in (bench.logs, bench.folder.results):
        first = begun(study, source, best=3, said=said).first
        assert [each["x"] for each in first] == values[:3] and all(each.keys() == {"x"} for each in first)
    mailed = written(tmp_path / "mailed.csv", bench.folder.results.read_text())
    assert [each["x"] for each in begun(study, mailed).first] == values[:5]
    narrow = replace(study, space={"x": Float(0.0, values[8])})
    known = begun(narrow, known=bench.logs, said=said)
    assert [each.values[0] for each in known.known] == values[:9]
    assert said[-1].endswith("9 results known; 3 lie outside of the search space, and are left out")
    both = replace(known, first=({"x": 0.5}, {"x": 7.0, "seed": 3}))
    assert study_from_record(json.loads(json.dumps(both.to_record())), "study.json") == both
    logs = bench.path / "other"
    command = ("master.py", bench.study(trials=5), "--strategy", "tpe", "--logs", logs, "--workers", 1)
    bench.finish(bench.start(*command, "--from", bench.logs))
    assert len(open_study(logs)[1].known) == 12
    bench.finish(bench.start(*command, "--trials", 6))
    assert len(open_study(logs)[1].known) == 12
    auto = ("master.py", bench.study(trials=2), "--strategy", "auto", "--logs", bench.path / "auto", "--workers", 1)
    assert "tpe search (auto: it learns from" in bench.finish(bench.start(*auto, "--from", bench.logs))


def test_with_a_schedule_whole_trainings_of_another_folder_are_learnt_from_at_once(bench):
    """Its shorter ones can't be compared with them."""
    text = 'objective = "tests.objectives:climbing"\nstrategy = "tpe"\nmetric = "loss"\n[budget]\nepochs = {}\n'
    text += '[fidelity]\nsetting = "epochs"\nlowest = 1\nhighest = {}\n[space]\nx = {{ type = "float", low = 0.0, high = 1.0 }}\n'
    file = bench.path / "old.toml"
    file.write_text(text.format(400, 9))
    bench.search(file, "--workers", 2)
    whole = [row for row in bench.rows() if row.settings["epochs"] == 9]
    said, study = [], load(str(file))
    known = begun(study, known=bench.logs, said=said)
    values, behind = [each.values[0] for each in known.known if each.values], 2 * len(whole)
    assert sorted(values) == sorted(row.metrics["loss"] for row in whole) and len(whole) > 9
    assert said[-1].endswith(f"{len(whole)} results known, and {behind} that its schedule left behind")
    assert study_from_record(json.loads(json.dumps(known.to_record())), "study.json") == known
    proposals = [new_strategy(known).propose(number, History()) for number in range(40)]
    learnt = [each.settings["x"] for each in proposals if each.why.get("learnt") == 9]
    assert len(learnt) > 10 and not any("learnt" in new_strategy(study).propose(k, History()).why for k in range(40))
    drawn = [each.settings["x"] for each in proposals if each.why.get("random")]
    assert len(learnt) + len(drawn) == 40 and statistics.median(learnt) < 0.2 < statistics.median(drawn)
    file.write_text(text.format(400, 3))
    shorter = begun(load(str(file)), known=bench.logs).known
    there = [row for row in bench.rows() if row.settings["epochs"] == 3]
    assert sum(bool(each.values) for each in shorter) == len(there) >= len(whole), "also those that went on"
    outside = replace(known, space={"x": Float(2.0, 3.0)})
    assert not any("learnt" in new_strategy(outside).propose(k, History()).why for k in range(20))
    file.write_text(text.format(400, 27))
    with pytest.raises(UserError, match=r"no trial there has epochs = 27, as whole trainings have here"):
        begun(load(str(file)), known=bench.logs)


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_a_strategy_that_learns_begins_where_others_found_the_best(direction):
    sign = 1 if direction == "minimize" else -1
    study = new_study("tpe", space={"x": Float(0.0, 1.0)}, direction=direction)
    known = tuple(Known({"x": k / 40}, (sign * abs(k / 40 - 0.8),)) for k in range(41))

    def proposed(study, history):
        strategy = new_strategy(study)
        return [strategy.propose(k, history).settings["x"] for k in range(20)]

    near = sum(abs(x - 0.8) < 0.15 for x in proposed(replace(study, known=known), History()))
    assert near > 10 > sum(abs(x - 0.8) < 0.15 for x in proposed(study, History()))
    by_hand = {
        90000 + k: Trial(
            TrialName(90000 + k, 1, "seen"), {**each.settings, "epochs": 3}, result={"loss": each.values[0]}
        )
        for k, each in enumerate(known)
    }
    assert sum(abs(x - 0.8) < 0.15 for x in proposed(study, History(by_hand))) > 10, "so do trials queued by hand"
    behind = tuple(Known(each.settings, ()) for each in known)
    few = [proposed(replace(study, known=(*known[:4], *more)), History()) for more in ((), behind)]
    assert few[0] == few[1], "what was left behind says nothing alone"
    many = [proposed(replace(study, known=(*known[:12], *more)), History()) for more in ((), behind)]
    assert many[0] != many[1]
    discrete = replace(study, space={"x": Int(1, 3)}, known=(Known({"x": 2}, (0.0,)),))
    assert {new_strategy(discrete).propose(k, History()).settings["x"] for k in range(9)} == {1, 3}


def test_every_form_of_a_list(tmp_path):
    expected = (
        {"model.rate": 0.5, "model.width": 8, "kind": None},
        {"model.rate": 2.0, "kind": [1, 2]},
        {"kind": "1"},
        {"kind": 1, "seed": 3},
    )
    lines = [
        {"model": {"rate": 0.5, "width": 8}, "kind": None, "epochs": 3},
        {"settings": {"model.rate": 2, "kind": [1, 2]}},
        {"kind": "1"},
        {"kind": 1, "seed": 3},
    ]
    said = []
    assert begun(first=written(tmp_path / "a.json", json.dumps(lines)), said=said).first == expected
    assert begun(first=written(tmp_path / "a.jsonl", "\n".join(map(json.dumps, lines)))).first == expected
    table = 'model.rate,model.width,kind,seed\n0.5,8.0,null,\n2,,"[1, 2]",\n,,"""1""",\n,,1,3\n'
    assert begun(first=written(tmp_path / "a.csv", table)).first[:2] == expected[:2]
    assert begun(first=written(tmp_path / "b.csv", "kind\na\n")).first == ({"kind": "a"},)
    assert "1 lies outside" in said[0]


def test_true_and_false_come_back_from_a_table(bench, tmp_path):
    space = {"on": Categorical((True, False)), "word": Categorical(("True", "x"))}
    table = written(tmp_path / "best.csv", "on,word\nTrue,True\nFalse,x\n")
    first = begun(new_study(space=space), first=table).first
    assert first == ({"on": True, "word": "True"}, {"on": False, "word": "x"})


def test_what_a_list_lacks_is_drawn_and_conditions_hold():
    study = new_study(
        first=({"kind": "a"}, {"kind": 1, "momentum": 0.5}, {"model.rate": 5.0}), constraints=("model.width > 90",)
    )
    strategy, history = new_strategy(study), {}
    for number in range(4):
        history[number] = strategy.propose(number, History(open=history))
    first, second, third, fourth = (proposal.settings for proposal in history.values())
    assert study.contains(first) and first["kind"] == "a" and "momentum" in first
    assert study.contains(second) and "momentum" not in second
    assert third["model.rate"] == 5.0 and third["model.width"] > 90 and third["epochs"] == 3
    assert study.contains(fourth) and fourth == new_strategy(replace(study, first=())).propose(0, History()).settings


def test_a_schedule_promotes_what_was_tried_first():
    study = new_study(
        fixed={}, fidelity=Fidelity("epochs", 1, 9, 3), first=tuple({"model.rate": k / 10} for k in range(1, 7))
    )
    strategy, history = new_strategy(study), {}
    for number in range(10):
        proposal = strategy.propose(number, History(history))
        result = {"loss": abs(proposal.settings["model.rate"] - 0.2)}
        history[number] = Trial(
            TrialName(number, 1, "seen"), proposal.settings, result=result, why=proposal.why, parent=proposal.parent
        )
    rates = [trial.settings["model.rate"] for trial in history.values() if not trial.parent]
    assert rates[:6] == [0.1, 0.2, 0.3, 0.4, 0.5, 0.6] and len(set(rates)) == len(rates)
    assert any(trial.settings == {**history[1].settings, "epochs": 3} for trial in history.values())


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        (
            "a.csv",
            "model.rat\n1\n",
            r"first, number 1: names 'model.rat', which is no .* \(did you mean 'model.rate'\?\)",
        ),
        ("a.csv", "kind,model.rate\na\n", "row 2 has not as many cells as the header"),
        ("a.csv", "model.rate\nfast\n", "'model.rate' must be a number, not 'fast'"),
        ("a.json", '{"model.width": 1.5}', "'model.width' must be a whole number, not 1.5"),
        ("a.json", '{"model.rate": NaN}', "must be finite, not nan"),
        ("a.json", '{"epochs": 4}', "'epochs' is fixed at 3 in this study"),
        ("a.json", "[1]", "number 1: must be settings, such as { rate = 0.1 }, not 1"),
        ("a.json", '{"kind": 1', "is no JSON"),
        ("a.json", "", "holds no settings"),
        ("a.csv", "trial,status,model.rate\n1,succeeded,0.1\n", "has no trial with 'loss', the metric of this study"),
    ],
)
def test_what_is_wrong_with_a_list_is_said_in_a_line(tmp_path, name, text, says):
    file = written(tmp_path / name, text)
    with pytest.raises(UserError, match=says) as caught:
        begun(first=file)
    assert str(caught.value).startswith(f"--first {file}: ") and "\n" not in str(caught.value)


def test_options_that_can_not_be(tmp_path):
    file = written(tmp_path / "a.json", '{"kind": 1}')
    for options, says in (
        ({"first": tmp_path / "none"}, "there is no such file or folder"),
        ({"first": tmp_path}, "no study there"),
        ({"best": 3}, "--first-best: of what?"),
        ({"first": file, "best": 3}, "a.json is no table of results"),
        ({"study": new_study("grid"), "first": file}, "a grid tries all of its own"),
        ({"known": tmp_path}, 'random search does not learn from results; take strategy "tpe" or "gp"'),
    ):
        with pytest.raises(UserError, match=says):
            begun(**options)


def test_with_two_metrics_known_results_have_both(bench):
    bench.search(
        bench.study(trials=12, objective="trading", extra='metric = ["validation_error", "cost"]\n'), "--workers", 1
    )
    study = load(str(bench.path / "toy.toml"), strategy="tpe")
    known = begun(study, known=bench.logs)
    there = [trial.result for trial in read_results(bench.logs).trials if study.losses(trial.result)]
    assert (
        {each.values for each in known.known} == {(each["validation_error"], each["cost"]) for each in there} != set()
    )
    record = json.loads(json.dumps(known.to_record()))
    assert study_from_record(record, "study.json") == known
    assert study.contains(new_strategy(known).propose(0, History()).settings)
    record["known"][0]["values"].pop()
    with pytest.raises(StudyError, match=r"known, number 1: must be .* for several metrics"):
        study_from_record({**record, "known": [{"settings": {}, "values": []}]}, "study.json")
    with pytest.raises(StudyError, match=r"known, number 1: must be .* for several metrics"):
        study_from_record(record, "study.json")


def test_of_a_search_with_a_schedule_the_longest_trainings_count_and_no_settings_twice(bench, tmp_path):
    head = 'objective = "tests.objectives:quick"\nmetric = "loss"\nstrategy = "random"\n[budget]\nepochs = 99\n'
    rungs = '[fidelity]\nsetting = "epochs"\nlowest = 1\nhighest = 9\n[space]\nx = { type = "float", low = 0.0, high = 1.0 }\n'
    study = load(str(written(bench.path / "mine.toml", head + rungs)))
    open_folder(bench.folder, study)
    bench.folder.write_study(study.to_record())
    trials = [(0.1, 1, None, 0.1), (0.1, 9, 0, 0.3), (0.2, 1, None, 0.05), (0.3, 1, None, 0.2), (0.3, 9, 3, 0.25)]
    for number, (x, epochs, parent, loss) in enumerate(trials):
        above = None if parent is None else Parent(parent, 1, {"epochs": 1}, parent)
        count(bench.folder, number, Proposal({"x": x, "epochs": epochs, "seed": 1}, above), {"loss": loss})
    plain = replace(study, strategy="tpe", fidelity=None, trials=9)
    assert [each["x"] for each in begun(plain, bench.logs).first] == [0.3, 0.1, 0.2]
    *best, behind = begun(plain, known=bench.logs).known
    assert sorted(each.values for each in best) == [(0.25,), (0.3,)] and behind == Known({"x": 0.2}, ())
    ResultsFile(bench.folder).write(read_results(bench.logs).trials)
    mailed = written(tmp_path / "mailed.csv", bench.folder.results.read_text())
    assert [each["x"] for each in begun(plain, mailed).first] == [0.2, 0.3, 0.1], "a table does not tell the rungs"


def test_confirmations_are_no_other_settings(bench, tmp_path):
    """The three best of a confirmed search are three settings, from its folder and from its table."""
    text = '[confirm]\nbest = 2\nrepeats = 2\n[space]\nx = { type = "float", low = 0.0, high = 1.0 }\n'
    head = 'objective = "tests.objectives:quick"\nmetric = "loss"\nstrategy = "random"\ntrials = 3\n'
    study = load(str(written(bench.path / "mine.toml", head + text)))
    open_folder(bench.folder, study)
    bench.folder.write_study(study.to_record())
    again = [(number_of(k, r), k, {"confirms": k, "repeat": r}) for k in (0, 1) for r in (1, 2)]
    for number, k, why in [(0, 0, {}), (1, 1, {}), (2, 2, {}), *again]:
        count(bench.folder, number, Proposal({"x": k / 10, "seed": number}, why=why), {"loss": k / 10})
    ResultsFile(bench.folder).write(read_results(bench.logs).trials)
    mailed = written(tmp_path / "mailed.csv", bench.folder.results.read_text())
    assert ",confirms" in mailed.read_text()
    plain = replace(study, strategy="tpe", confirm=None)
    for source in (bench.logs, mailed):
        assert [each["x"] for each in begun(plain, source).first] == [0.0, 0.1, 0.2], source
    assert len(begun(plain, known=bench.logs).known) == 3
