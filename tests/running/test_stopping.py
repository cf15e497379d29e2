"""Running trials are stopped early, by a rule or by hand: each that must be, no other, and never a later attempt."""

from __future__ import annotations

import itertools
import math
import os
import signal
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest

from foldertune.budget import Budget
from foldertune.errors import StudyError
from foldertune.protocol import Claim, Folder, Trial, TrialName, new_owner, utc_now
from foldertune.reading.best import best
from foldertune.reading.reader import read_results
from foldertune.reading.results import Results
from foldertune.running.attempt import Attempt
from foldertune.running.command import CommandTrainer
from foldertune.running.master import Master
from foldertune.running.signals import StopSignals
from foldertune.spending import why_over
from foldertune.stopping import RULES, Curve, Stopping, is_cut_short, why_stop
from foldertune.strategies import load
from foldertune.study import Study
from foldertune.study_file import study_from_record
from tests.conftest import wait_for

HEAD = 'strategy = "grid"\nmetric = "validation_error"\n'


def write_study(bench, values, rest="", objective="lingering"):
    file = bench.path / "stopping.toml"
    file.write_text(f'objective = "tests.objectives:{objective}"\n{HEAD}[space]\nx = {values}\n{rest}')
    return str(file)


def requests(bench):
    return sorted(path.name for path in bench.logs.glob("*.stop"))


# ---------------------------------------------------------------- what a person writes


def test_the_rule_is_read_written_and_named_on_the_command_line(bench):
    assert load(write_study(bench, [0.1])).stopping is None
    assert "stopping" not in load(write_study(bench, [0.1])).to_record()
    study = load(write_study(bench, [0.1], '[stopping]\nrule = "plateau"\npatience = 9\n'))
    assert study.stopping == Stopping("plateau", patience=9) and study_from_record(study.to_record(), "x") == study
    assert study.to_record()["stopping"] == {"rule": "plateau", "warmup": 1, "patience": 9}
    assert load(study_file := str(bench.path / "stopping.toml"), stopping="plateau").stopping == study.stopping
    assert load(study_file, stopping="median").stopping == Stopping("median")
    assert load(study_file, stopping="none").stopping is None


@pytest.mark.parametrize(
    "table, said",
    [
        ('rule = "medain"', "stopping.rule: must be"),
        ("warmup = 3", "stopping.rule: is missing"),
        ('rule = ["median"]', "stopping.rule: must be"),
        ('rule = "median"\nstartpu = 3', "stopping.startpu: unknown key of the rule median (did you mean 'startup'?)"),
        ('rule = "median"\npatience = 3', "stopping.patience: unknown key of the rule median"),
        ('rule = "halving"\nfactor = 1', "stopping.factor: must be at least 2"),
        ('rule = "plateau"\npatience = 2.5', "stopping.patience: must be a whole number"),
    ],
)
def test_a_rule_that_does_not_exist_is_an_error_in_words(bench, table, said):
    with pytest.raises(StudyError, match=r"stopping\.toml: ") as error:
        load(write_study(bench, [0.1], f"[stopping]\n{table}\n"))
    assert said in str(error.value) and "\n" not in str(error.value)
    if 'rule = "plateau"' in table:
        schedule = '[fidelity]\nsetting = "epochs"\nlowest = 1\nhighest = 9\n'
        with pytest.raises(StudyError, match="stopping: the schedule in"):
            load(write_study(bench, [0.1], f"{schedule}[budget]\ntrials = 3\n"), stopping="plateau", strategy="random")
    with pytest.raises(StudyError, match=r"--stopping: must be median, halving, plateau or none, not 'medain'"):
        load(write_study(bench, [0.1]), stopping="medain")


# ---------------------------------------------------------------- the rules


def curve(*values, sign=1):
    return Curve(list(enumerate(values, start=1)), sign)


def why(rule, own, ended=(), running=()):
    return why_stop(rule, own, ended, running, lambda loss: f"{loss:g}")


def test_median():
    rule = Stopping("median", warmup=2, startup=3)
    ended = [curve(9, 5), curve(9, 6), curve(9, 1, 1, 1)]
    assert why(rule, curve(9, 7), ended) == "7 until epoch 2; the median of 3 other trials is 5"
    assert not why(rule, curve(9, 5), ended), "as good as the median is good enough"
    assert not why(rule, curve(4, 7), ended), "its best value counts, not its last"
    assert not why(rule, curve(99), ended), "it is in its warm-up"
    assert not why(rule, curve(9, 7), ended[:2]) and not why(rule, curve(9, 7), ended[:2], [curve(1)])
    assert why(rule, curve(9, 7), ended[:2], [curve(9, 1)]), "a running trial that has come as far"
    assert not why(rule, curve(), ended) and not why(rule, curve(None, math.nan, "7"), ended)
    whole = [curve(1, 1, 1)] * 3
    assert why(rule, curve(5, 5, 5), whole) and not why(rule, curve(5, 5, 5), [*whole, *[curve(9)] * 4]), (
        "all trials count"
    )
    up = [curve(1, 5, sign=-1), curve(1, 6, sign=-1), curve(1, 7, sign=-1)]
    assert why(rule, curve(1, 4, sign=-1), up) and not why(rule, curve(1, 8, sign=-1), up)
    assert not why(rule, Curve([(True, 9), ("2", 9), (math.inf, 9)]), ended), "these are no epochs"


def test_halving():
    rule = Stopping("halving", warmup=1, factor=3)
    reached = [curve(3, 3, 3), curve(4, 4, 4), curve(5, 5), curve(9, 9)]
    assert not why(rule, curve(5, 5, 3), reached), "among three and itself, one goes on; this one is as good"
    assert why(rule, curve(5, 5, 4), reached) == "4 until epoch 3 is place 2 of 3; the best 1 go on"
    assert not why(rule, curve(5, 5, 9, 1, 1, 1, 1, 1, 1), reached), "nobody else has come to epoch 9"
    assert why(rule, curve(8, 0), reached), "at rung 1, what comes later does not count"
    assert not why(rule, curve(8), reached[:1]), "two are too few"
    assert why(rule, curve(8), reached[:1], [curve(2)]) and not why(rule, curve(1), reached[:1], [curve(2)])


def test_plateau():
    rule = Stopping("plateau", warmup=1, patience=2)
    assert why(rule, curve(5, 3, 3, 4)) == "3 at epoch 2 was not bettered until epoch 4"
    assert not why(rule, curve(5, 3, 4)) and not why(rule, curve(5, 4, 3, 2)) and not why(rule, curve())
    assert not why(Stopping("plateau", warmup=5, patience=2), curve(5, 3, 3, 4))


def test_the_rules_have_the_same_names_everywhere():
    for rule in RULES:
        Stopping(rule)
        assert why_stop(Stopping(rule), curve(9), [curve(1)] * 9, [], str) or rule == "plateau"
    assert is_cut_short("median: …") and is_cut_short("by hand") and not is_cut_short("plateau: …")
    assert not is_cut_short(None)


# ---------------------------------------------------------------- at work


@pytest.mark.parametrize(
    "table",
    ['rule = "median"\nstartup = 4', 'rule = "halving"', 'rule = "plateau"\npatience = 3'],
    ids=lambda table: table.split('"')[1],
)
def test_a_rule_stops_what_would_never_end(bench, table):
    values = [0.1, 0.2, 0.3, 0.8, 0.9]
    file = write_study(bench, values, f"[stopping]\n{table}\n")
    said = bench.search(file, "--workers", 3)
    bench.assert_complete(5)
    assert requests(bench) == []
    rows = bench.rows()
    assert [row.status for row in rows[3:]] == ["stopped"] * 2 and rows[0].status == "succeeded"
    assert "halving" in table or [row.status for row in rows[1:3]] == ["succeeded"] * 2
    assert [row.metrics["validation_error"] for row in rows[3:]] == values[3:] and "epoch" not in rows[4].metrics
    results = read_results(bench.logs)
    rule = load(file).stopping.rule
    assert all(trial.stopped.startswith(f"{rule}: validation_error 0.") for trial in results.trials[3:])
    assert [trial.name.attempt for trial in results.trials] == [1] * 5, "nothing was lost"
    assert f"of 5 trials: {len(results.ended)} succeeded" not in said and "of them stopped early" in said
    assert best(bench.logs)["x"] == 0.1
    kept = bench.path / "kept"
    bench.finish(bench.start("-m", "foldertune", "results", "--logs", bench.logs, "--keep", kept))
    assert [t.stopped for t in read_results(kept).trials] == [t.stopped for t in results.trials]
    assert "stopped" in bench.finish(bench.start("-m", "foldertune", "results", "--logs", kept, "--where", "x>0.5"))


COMMAND = """
trap 'echo loss=99; exit 1' TERM
epoch=0
while [ $epoch -lt 3 ] || [ $1 != 0.1 ]; do
    epoch=$((epoch + 1)); echo "epoch=$epoch loss=$1 more=$epoch"; sleep 0.1
done
"""


def test_a_command_is_stopped_and_what_it_has_printed_counts(bench):
    script = bench.path / "train.sh"
    script.write_text(COMMAND)
    file = bench.path / "command.toml"
    file.write_text('objective = "command"\nstrategy = "grid"\nmetric = "loss"\n[space]\nlr = [0.1, 0.5]\n')
    own = ["--command", f"sh {script} {{lr}}", "--pattern", "name=value"]
    master = bench.start("master.py", file, "--logs", bench.logs, "--workers", 1, "--stopping", "plateau", *own)
    bench.finish(master)
    whole, stopped = bench.rows()
    assert (whole.status, whole.metrics["loss"], whole.metrics["more"]) == ("succeeded", 0.1, 3)
    assert (stopped.status, stopped.metrics["loss"]) == ("stopped", 0.5) and stopped.metrics["more"] > 5
    assert stopped.attempt == 1 and requests(bench) == []


def test_a_command_that_has_just_ended_by_itself_has_its_own_result(tmp_path):
    trainer = CommandTrainer(StopSignals(), "echo loss=0.5", "cpu", "name=value")
    trainer.begin(TrialName(1, 1), {}, 0.0, str(tmp_path))
    wait_for(trainer._process.has_ended)
    trainer.stop("report", 5.0)
    message = {}
    while "result" not in message and "stopped" not in message:
        message = trainer.next(math.inf) or message
    assert message["result"] == {"loss": 0.5}


def test_without_a_rule_nobody_looks_and_requests_are_removed(bench, monkeypatch):
    bench.master(write_study(bench, [0.9]))
    worker = bench.worker("lingering")
    [name] = wait_for(lambda: bench.names("taken"))
    (bench.logs / str(name.to("stop"))).touch()
    wait_for(lambda: not requests(bench), "the master to remove what nobody has asked for")
    assert worker.poll() is None and bench.names("taken") == [name]


def test_what_becomes_of_a_training_that_is_asked_to_stop_and_of_its_trainer(bench):
    """At its next report it ends, and its trainer trains on; one that hangs is interrupted; its own result counts."""
    file = write_study(bench, [0.25, 1.0, 2.0, 0.5], '[stopping]\nrule = "median"\nstartup = 999\n', objective="asked")
    master = bench.master(file)
    worker = bench.worker("asked", env={**os.environ, "LOGS": str(bench.logs)})
    for count in range(4):
        [name] = wait_for(lambda count=count: len(bench.names("seen")) >= count and bench.names("taken"))
        wait_for(lambda name=name: bench.folder.read(name).epochs and not requests(bench), "a report")
        x = bench.folder.read(name).settings["x"]
        (bench.logs / f"wait-{x}").touch()
        if x >= 1:  # it reports no more; a worker that is behind would find the request at a report from before
            waits = bench.logs / f"waits-{x}"
            wait_for(waits.exists, "it to wait")
            last = int(waits.read_text())
            wait_for(lambda name=name, last=last: bench.folder.read(name).epochs[-1]["epoch"] == last, "all reports")
            time.sleep(0.3)  # it looks for requests after it has written a report
        (bench.logs / str(name.to("stop"))).touch()
        wait_for(lambda name=name: name not in bench.names("taken"), "its end")
    bench.finish(master)
    bench.finish(worker)
    rows = {row.settings["x"]: row for row in bench.rows()}
    assert [rows[x].status for x in (0.25, 1.0, 2.0, 0.5)] == ["stopped", "stopped", "succeeded", "stopped"]
    in_order = sorted(rows.values(), key=lambda row: row.finished)
    for before, after in itertools.pairwise(in_order):
        is_same = before.metrics["pid"] == after.metrics["pid"]
        assert is_same == (before.settings["x"] != 1.0), "only one that had to be interrupted is replaced"
    assert {row.attempt for row in rows.values()} == {1} and requests(bench) == []
    assert {trial.stopped for trial in read_results(bench.logs).trials} == {"by hand", None}
    assert best(bench.logs)["x"] == 2.0, "a whole training, although others have lower values"


# ---------------------------------------------------------------- whoever dies


def test_a_request_is_answered_whoever_dies_and_never_by_a_later_attempt(bench):
    rule = '[stopping]\nrule = "median"\nstartup = 999\n'  # so only we ask
    file = write_study(bench, [0.9], rule)
    master, worker = bench.master(file), bench.worker("lingering")
    [name] = wait_for(lambda: bench.names("taken"))
    wait_for(lambda: bench.folder.read(name).epochs)
    master.kill()
    master.wait()
    worker.send_signal(signal.SIGSTOP)
    bench.folder.ask_to_stop(name.to("stop"), "median: so it says")
    worker.kill()
    worker.wait()
    master, worker = bench.master(file), bench.worker("lingering")
    [second] = wait_for(lambda: bench.names("taken") if bench.names("taken") != [name] else None)
    assert second.attempt > 1
    wait_for(lambda: not requests(bench), "the master to remove the request to an attempt that has ended")
    reports = len(bench.folder.read(second).epochs)
    wait_for(lambda: len(bench.folder.read(second).epochs) > reports + 50, "it goes on")
    bench.folder.ask_to_stop(second.to("stop"), "median: so it says")
    master.kill()  # nobody but the worker need be there
    master.wait()
    wait_for(lambda: bench.names("done"), "its result")
    bench.search(file)
    [row] = bench.rows()
    assert (row.status, row.attempt) == ("stopped", second.attempt) and requests(bench) == []
    [trial] = read_results(bench.logs).trials
    assert trial.stopped == "median: so it says"


def by_hand(folder, table, **settings):
    """A master in this process."""
    rule = Stopping(**table) if table else None
    fields = {"objective": "o:o", "stopping": rule, "space": load("quickstart").space}
    master = Master(
        folder, Study("s", "random", 3, "loss", **fields), lease=60.0, max_attempts=3, say=lambda text: None
    )
    master.take_stock()
    return master


def look(master):
    master._next_check = 0.0
    master.stopper._next_look = 0.0
    master.step()


def test_a_master_reads_only_what_has_grown_and_asks_once(tmp_path, monkeypatch):
    folder = Folder(tmp_path)
    folder.prepare()
    master = by_hand(folder, {"rule": "plateau", "patience": 2})
    look(master)
    claim = folder.claim(owner := new_owner(), iter([TrialName(1, 1)]))
    request = tmp_path / "trial-00001-1.jsonl.stop"
    claim.append({"claimed": owner, "time": utc_now()})
    read, asked = [], []
    monkeypatch.setattr(Folder, "read", lambda *a, f=Folder.read, **k: (read.append(k), f(*a, **k))[1])
    monkeypatch.setattr(type(folder), "ask_to_stop", lambda *a, f=Folder.ask_to_stop: (asked.append(a[1]), f(*a))[1])
    for epoch in (1, 2, 3):
        claim.append({"epoch": epoch, "loss": None if epoch == 2 else 0.5})
        look(master)
        read.clear()
        claim.beat()
        look(master)
        assert [each for each in read if each != {"epochs": False}] == [], "a heartbeat is no report"
        assert request.exists() == (epoch == 3)
    assert claim.why_stop() == "plateau: loss 0.5 at epoch 1 was not bettered until epoch 3"
    look(master)
    look(by_hand(folder, {"rule": "plateau", "patience": 2}))
    assert len(asked) == 1, "neither the same master nor the next one asks again"
    request.unlink()
    request.mkdir()  # a person's: it is no request, and keeps nobody from working
    look(master)
    assert claim.why_stop() is None
    request.rmdir()
    request.write_text("[1]")
    assert claim.why_stop() == "by hand"
    claim.finish({"result": {"loss": 0.5}, "stopped": "by hand", "time": utc_now()})
    look(master)
    look(master)
    assert not request.exists() and master.ledger.counted[1].stopped == "by hand"


def attempt_of(reports, study, monkeypatch, answer="median: …", metrics=("loss",), timeout=None, hangs=0.0):
    """An attempt whose training says this. Returns its last line, and how often it looked for a request.

    To write a report down takes `hangs` seconds.
    """
    now, looks, said = [0.0], [], [*({"report": report} for report in reports), {"result": {"loss": 7.0}}]
    monkeypatch.setattr("foldertune.running.attempt.time", SimpleNamespace(monotonic=lambda: now[0]))

    def next_message(until):
        now[0] += 0.01
        return said.pop(0) if now[0] < until else None

    def append(record):
        now[0] += hangs

    def stop(how, seconds):
        said[:] = [{"stopped": True}]

    def why_stop():
        looks.append(now[0])
        return answer

    claim = SimpleNamespace(
        written=SimpleNamespace(size=0), why_stop=why_stop, path="", load_checkpoints=lambda *a: iter(()),
        append=append, append_with_next=append,
    )  # fmt: skip
    trainer = SimpleNamespace(
        next=next_message,
        stop=stop,
        has_more_lines=lambda: False,
        end=lambda seconds: None,
        advice="",
        saves_state=False,
    )
    trial = Trial(TrialName(1, 1), {}, timeout=timeout)
    attempt = Attempt(claim, trial, metrics, study, trainer, lambda action: action(), lambda text: None)
    signals = SimpleNamespace(number=0, impatient=False)
    heartbeat = SimpleNamespace(lost=SimpleNamespace(is_set=lambda: False))
    return attempt.follow(signals, heartbeat, 20.0), len(looks)


def test_a_worker_looks_once_a_second_at_most_and_never_without_a_rule_or_a_value(monkeypatch):
    reports = [{"epoch": epoch, "loss": float(epoch)} for epoch in range(1, 1001)]
    last_word, looks = attempt_of(reports, {}, monkeypatch)
    assert last_word["result"] == {"loss": 7.0} and looks == 0
    rule = {"stopping": {"rule": "median"}}
    last_word, looks = attempt_of(reports, rule, monkeypatch)
    assert last_word["stopped"] == "median: …" and looks == 1 and last_word["result"]["loss"] >= 99.0
    last_word, looks = attempt_of(reports, rule, monkeypatch, answer=None)
    assert last_word["result"] == {"loss": 7.0} and 8 <= looks <= 10, "in ten seconds"
    for lack in ({"other": 1.0}, {"loss": "low"}, {"loss": None}):
        last_word, looks = attempt_of([{"epoch": n, **lack} for n in range(1000)], rule, monkeypatch)
        assert last_word["result"] == {"loss": 7.0} and looks == 0, lack
    last_word, looks = attempt_of(reports, rule, monkeypatch, metrics=["loss", "cost"])
    assert (
        last_word["error"].startswith("the result lacks 'cost', one of the study's metrics; it has loss") and looks == 0
    )
    last_word, looks = attempt_of(reports, rule, monkeypatch, metrics=["loss", "seconds"])
    assert last_word["stopped"] == "median: …", "the time is known in any case"
    monkeypatch.setattr(Claim, "why_stop", lambda claim: None)
    rest = [{"epoch": n, "loss": None, "more": n} for n in range(500)]
    last_word, _ = attempt_of([*reports[:3], *rest], rule, monkeypatch)
    assert last_word["result"]["loss"] == 3.0 and last_word["result"]["more"] > 90, "the last value of each"


# ---------------------------------------------------------------- what counts


def test_what_was_cut_short_is_no_best_value():
    study = Study("s", "random", 0, "loss", budget=Budget(patience=9))
    trials = [Trial(TrialName(n, 1, "seen"), {}, result={"loss": value}) for n, value in enumerate((0.5, 0.1, 0.3))]
    trials[1].stopped, trials[2].stopped = "median: …", "plateau: …"
    results = Results.of(study, trials)
    assert [trial.name.number for trial in results.ranking] == [2, 0, 1]
    assert results.best[0][0].name.number == 2 and results.course.best[-1] == 0.3
    target = replace(study, budget=Budget(target=0.2))
    assert not why_over(target, trials) and why_over(replace(target, budget=Budget(target=0.3)), trials)


def test_time_in_which_the_folder_was_in_trouble_is_not_the_training_s(monkeypatch):
    """A result that came meanwhile counts. One that reports without end must end all the same."""
    reports = [{"epoch": epoch, "loss": 1.0} for epoch in range(1, 40)]
    last_word, _ = attempt_of(reports[:3], {}, monkeypatch, timeout=5.0, hangs=60.0)
    assert last_word["result"] == {"loss": 7.0}
    last_word, _ = attempt_of(reports, {}, monkeypatch, timeout=5.0, hangs=0.5)
    assert last_word["error"] == "took longer than --trial-timeout 5 s"
