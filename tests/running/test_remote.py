"""A person pauses, drains and stops a search, by commands and by mere files. Real workers and masters obey."""

from __future__ import annotations

import errno
import json
import os
import signal
from dataclasses import replace

import pytest

from foldertune.launch.search import STOPPED, run
from foldertune.protocol import TrialName, make_request, read_request, requests, undo_drop
from foldertune.running.master import Master
from foldertune.running.remote import Remote
from foldertune.running.signals import StopSignals
from foldertune.study_file import load_study, study_from_record
from tests.conftest import wait_for
from tests.reading.test_status import STUDY


@pytest.fixture
def hold(bench, monkeypatch):
    """While this file is there, trials of `patient` don't end."""
    file = bench.path / "hold"
    file.touch()
    monkeypatch.setenv("HOLD", str(file))
    return file


def foldertune(bench, *words, code=0):
    """What a command says of the folder."""
    return bench.finish(bench.start("-m", "foldertune", *words, "--logs", bench.logs), code)


def spoken(bench, name):
    """A file for the output of a process, and a wait for words in it."""
    path = bench.path / f"{name}.txt"

    def wait_for_words(words):
        wait_for(lambda: words in path.read_text(), f"{name} to say {words!r}")

    return path.open("w"), wait_for_words


def beats(bench, number):
    """Wait until the master has given so many signs of life: so long it has gone on looking at the folder."""
    [file] = bench.logs.glob(".master-*.jsonl")
    for _ in range(number):
        before = file.stat().st_mtime_ns
        wait_for(lambda before=before: file.stat().st_mtime_ns != before, "a sign of life")


def on_one_core():
    os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])


def test_while_a_search_is_paused_no_worker_claims_and_nobody_takes_that_for_idleness(bench):
    study = bench.study(trials=3)
    output, says = spoken(bench, "master")
    master = bench.master(study, stdout=output)
    wait_for(lambda: bench.names("pending"), "trials")
    said = foldertune(bench, "pause")
    assert f"{bench.logs}: no worker takes a trial any more" in said
    request = read_request(bench.logs, "pause")
    worker = bench.worker("quick", "--idle-timeout", 0.01)
    lines = [worker.stdout.readline()]
    assert f"{request}: no worker takes a trial; go on with: " in lines[0]
    assert request.by.partition(" on ")[2] and "resume --logs" in lines[0]
    says("paused by ")
    wait_for(lambda: foldertune(bench, "status").count(str(request)) == 1)  # three looks and more for the worker
    assert f"{request}" in foldertune(bench, "doctor")
    assert worker.poll() is None and not bench.names("taken") + bench.names("done") + bench.names("seen")
    (bench.logs / "pause").unlink()
    bench.finish(master)
    assert "resumed" in bench.finish(worker) and "no worker is left" not in (bench.path / "master.txt").read_text()
    bench.assert_complete(3)


def test_drained_workers_end_after_the_trial_in_hand_and_nobody_starts_them_again(bench, hold):
    study = bench.study(trials=6, objective="patient")
    outputs = {name: spoken(bench, name) for name in ("master", "supervisor", "worker")}
    master = bench.master(study, "--workers", 1, stdout=outputs["master"][0])
    supervisor = bench.worker("patient", "--device", "all", stdout=outputs["supervisor"][0], preexec_fn=on_one_core)
    worker = bench.worker("patient", stdout=outputs["worker"][0])
    wait_for(lambda: len(bench.names("taken")) == 3, "all to train")
    (bench.logs / "drain").mkdir()  # anything of that name will do
    outputs["master"][1]("drained by ")
    newcomer = bench.finish(bench.worker("quick"))  # not even the objective is looked at
    assert newcomer.count("\n") == 1 and "drained by " in newcomer and "; 0 trials trained" in newcomer
    assert "is searching here" in bench.search(study, code=2)
    beats(bench, 4)  # by then, workers don't claim from their last listing any more
    hold.unlink()
    for name, process in (("supervisor", supervisor), ("worker", worker)):
        bench.finish(process)
        outputs[name][1]("drained by ")
    wait_for(lambda: len(bench.names("seen")) == 3, "their trials")
    assert len(bench.names("pending")) == 3 and not bench.names("taken")
    beats(bench, 5)
    assert master.poll() is None, "it waits, whatever becomes of its own workers"
    said = foldertune(bench, "resume")
    assert "removed drain: it was drained by " in said and "must be started again" in said
    assert "there is no request" in foldertune(bench, "resume")
    outputs["master"][1]("resumed; workers that have ended must be started again")
    beats(bench, 5)
    assert master.poll() is None
    foldertune(bench, "pause")
    (bench.logs / "pause").touch()
    foldertune(bench, "resume")
    bench.finish(bench.worker("patient"))
    bench.finish(master)
    bench.assert_complete(6)
    assert not bench.names("lost")


def test_stopped_workers_save_their_trials_and_give_them_back(bench, hold):
    study = bench.study(trials=3, objective="patient")
    output, says = spoken(bench, "master")
    master = bench.master(study, "--workers", 1, stdout=output)
    worker = bench.worker("patient")
    bench.wait_for_training(2)
    foldertune(bench, "stop")
    said = bench.finish(worker)
    assert "given back" in said and "stopped by " in said.splitlines()[-1] and "go on with: " in said
    bench.finish(master, 4)
    says("Not complete: go on with: ")
    given_back = [name for name in bench.names("pending") if name.attempt == 2]
    assert len(given_back) == 2 and not bench.names("taken") + bench.names("lost")
    assert len([*bench.folder.checkpoints.iterdir()]) == 2
    assert any('{"given_back": "stopped by ' in (bench.logs / str(name)).read_text() for name in given_back)
    said = bench.search(study, code=4)
    assert said.startswith(f"{bench.logs}: stopped by ") and said.count("\n") == 1
    hold.unlink()
    assert "So must the master" in foldertune(bench, "resume")
    bench.search(study, "--workers", 1)
    bench.assert_complete(3)
    assert sorted(row.metrics["began_at"] for row in bench.rows()) == [0, 1, 1]


def test_a_request_says_who_made_it_and_is_no_danger(bench):
    bench.logs.mkdir()
    for data in (b"", b"[]", b'{"by": 7}', b"\xff\n", b"0" * 2**15):
        (bench.logs / "pause").write_bytes(data)
        assert read_request(bench.logs, "pause").by and read_request(bench.logs, "pause").since
    (bench.logs / "pause").write_text(json.dumps({"by": "an\x1bna", "host": "far", "time": "2026-11-26T12:30:00Z"}))
    assert str(read_request(bench.logs, "pause")).startswith("paused by an\\x1bna on far since ")
    (bench.logs / "pause").unlink()
    os.mkfifo(bench.logs / "pause")
    assert read_request(bench.logs, "pause").by
    assert "no study there" in foldertune(bench, "drain", code=2)
    (bench.logs / "pause").unlink()
    bench.search(bench.study(trials=1), "--workers", 1)
    assert "the study is complete" in foldertune(bench, "stop", code=2)


def test_a_study_is_ended_without_a_master_and_extended_later(bench, hold):
    study = bench.study(trials=6, objective="patient")
    master = bench.master(study)
    worker = bench.worker("patient")
    wait_for(lambda: bench.names("taken") and len(bench.names("pending")) == 5, "one to train")
    master.kill()
    master.wait()
    end = bench.start("-m", "foldertune", "end", "--logs", bench.logs)
    wait_for(lambda: not bench.names("pending"), "the others to be withdrawn")
    assert len(bench.folder.withdrawn()) == 5 and "ended by " in foldertune(bench, "status")
    hold.unlink()
    said = bench.finish(end)
    assert "no more trials begin: ended by " in said and "complete, with 1 trial\n" in said
    bench.finish(worker)
    assert len(bench.names("seen")) == 1 and not bench.folder.names() and bench.folder.is_complete
    assert "1 of 1 trials" in (said := foldertune(bench, "status")) and "complete: ended by " in said
    foldertune(bench, "results", "--keep", bench.path / "kept")
    kept = bench.finish(bench.start("-m", "foldertune", "status", "--logs", bench.path / "kept"))
    assert "1 of 1 trials" in kept and "complete: ended by " in kept
    assert "the study is complete" in foldertune(bench, "end", code=2)
    assert "no more trials begin: ended by " in bench.search(study)  # the same command does not undo it
    assert len(bench.names("seen")) == 1 and bench.folder.study_done.exists()
    assert "it goes on" in bench.search(study, "--trials", 7, "--workers", 1)
    bench.assert_complete(7)


def test_a_master_ends_its_study_now_when_it_is_asked_to(bench, hold):
    study = bench.study(trials=6, objective="patient")
    output, says = spoken(bench, "master")
    master = bench.master(study, "--workers", 1, stdout=output)
    worker = bench.worker("patient")
    bench.wait_for_training(2)
    said = foldertune(bench, "end", "--now")
    assert "its master ends the study" in said or "complete, with 0 trials" in said  # it may have done so already
    bench.finish(master)
    bench.finish(worker)
    says("no more trials begin: ended by ")
    bench.assert_complete(0)
    assert (bench.logs / "end").exists() and not (bench.logs / "stop").exists()
    hold.unlink()
    said = foldertune(bench, "resume")
    assert "removed end: it was ended by " in said and "To go on, start its master again" in said
    bench.search(study, "--workers", 1)
    bench.assert_complete(6)
    assert [row.metrics["began_at"] for row in bench.rows()].count(1) == 2 and not bench.names("lost")


def test_a_dropped_trial_is_kept_and_has_no_rank(bench):
    study = bench.study(trials=4)
    bench.search(study, "--workers", 1)
    order = [row["trial"] for row in table(bench)]
    file = next(bench.folder.seen.glob(f"trial-{order[0]:05d}-*"))
    before = file.read_bytes()
    said = foldertune(bench, "drop", order[0], "--because", "gpu07 computes\nnonsense")
    assert "counts as one of the trials" in said
    rows = table(bench)
    assert [row["trial"] for row in rows] == [*order[1:], order[0]]
    assert rows[-1]["status"] == "dropped" and rows[-1]["error"].startswith("dropped by ")
    assert "gpu07 computes\\nnonsense" in foldertune(bench, "results") and file.read_bytes() == before
    assert f"{json.loads(foldertune(bench, 'best'))['x']:.6g}" == f"{rows[0]['x']:.6g}"
    assert f"in trial {order[1]} " in (said := foldertune(bench, "status")) and "1 dropped" in said
    assert f"{order[0]},dropped," in bench.folder.results.read_text()
    foldertune(bench, "results", "--keep", bench.path / "kept")
    assert "dropped by " in bench.finish(bench.start("-m", "foldertune", "results", "--logs", bench.path / "kept"))
    bench.search(study, "--trials", 6, "--workers", 1)
    bench.assert_complete(6)
    assert f"{order[0]},dropped," in bench.folder.results.read_text()
    assert "has its rank again" in foldertune(bench, "drop", order[0], "--undo")
    assert "was not dropped" in foldertune(bench, "drop", order[0], "--undo")
    assert "nobody has begun such a trial" in foldertune(bench, "drop", 77, code=2)
    assert next(row for row in table(bench) if row["trial"] == order[0])["status"] == "succeeded"


def table(bench):
    return json.loads(foldertune(bench, "results", "--format", "json", "--all"))


def test_a_running_master_and_its_strategy_leave_dropped_trials_out(bench):
    bench.folder.prepare()
    study = load_study(bench.study(trials=3, extra="[budget]\ntarget = 1.0\n"))
    master = Master(bench.folder, study, 60.0, max_attempts=3, say=lambda message: None)
    master.take_stock()
    master.step()
    number, spending = train(bench.folder), master.supply.spending
    step(master)
    assert "the target is reached" in spending.why_over() and not bench.names("pending")
    bench.folder.dropped.mkdir()
    (bench.folder.dropped / f"trial-{number:05d}.json").touch()
    step(master)
    step(master)
    assert spending.why_over() == "" and len(bench.names("pending")) == 2
    trial = master.ledger.counted[number]
    assert trial.dropped.startswith("dropped by ") and trial.result and not master.ledger.history.counted[number].result
    again = Master(bench.folder, study, 60.0, max_attempts=3, say=lambda message: None)
    again.take_stock()
    assert again.ledger.counted[number].dropped and not again.is_done()
    undo_drop(bench.folder.dropped, number)
    step(master)
    assert "the target is reached" in spending.why_over() and not bench.names("pending")


def test_a_study_that_is_ended_confirms_nothing(bench):
    bench.folder.prepare()
    study = load_study(bench.study(trials=2, extra="[confirm]\nbest = 1\nrepeats = 2\n"))
    master = Master(bench.folder, study, 60.0, max_attempts=3, say=lambda message: None)
    master.take_stock()
    step(master)
    train(bench.folder)
    train(bench.folder)
    step(master)
    assert len(bench.names("pending")) == 2, "the confirmations"
    master.folder.write_study(study.to_record())
    (bench.logs / "end").touch()
    step(master)
    step(master)
    assert master.is_done() and not bench.folder.names() and len(bench.folder.withdrawn()) == 2
    master.conclude()
    assert "complete: ended by " in foldertune(bench, "status")
    (bench.logs / "end").unlink()
    again = Master(bench.folder, study, 60.0, max_attempts=3, say=lambda message: None)
    again.take_stock()
    step(again)
    step(again)
    assert [name.attempt for name in bench.names("pending")] == [3, 3]


def train(folder):
    """A trial is trained on another machine."""
    claim = folder.claim("far-1-abcd", folder.candidates("far-1-abcd"))
    claim.append({"claimed": "far-1-abcd"})
    claim.finish({"result": {"validation_error": 0.5}})
    return claim.name.number


def step(master):
    """One step that looks at everything."""
    master._next_check = 0.0
    master.step()


def test_the_same_command_does_not_undo_the_end_of_a_study(bench, hold):
    """Neither a master that stands by, as in a job of Slurm's, nor one that is started again; a larger budget does."""
    study = bench.study(trials=4, objective="patient")
    words = (study, "--trials", 4)
    master = bench.master(*words)
    wait_for(lambda: bench.names("pending"), "the first master to lead")
    second = bench.master(*words, "--standby")
    bench.worker("patient")
    wait_for(lambda: bench.names("taken"), "a claim")
    foldertune(bench, "end")
    wait_for(lambda: not bench.names("pending"), "the others to be withdrawn")
    hold.unlink()
    assert bench.finish(master) and "goes on" not in bench.finish(second)
    assert "goes on" not in bench.search(*words)
    before = len(bench.names("seen"))
    assert before < 4 and (bench.logs / "end").exists()
    master = bench.master(study, "--trials", 5)
    wait_for(lambda: bench.names("pending"), "trials again")
    bench.worker("patient")
    assert "it goes on" in bench.finish(master) and not (bench.logs / "end").exists()
    bench.assert_complete(5)


def test_the_end_of_a_study_runs_no_code_that_its_folder_names(bench):
    marker, code = bench.path / "was run", bench.path / "own.py"
    code.write_text(f"open({str(marker)!r}, 'w').close()\n\n\ndef propose(study, number, history):\n    return None\n")
    bench.folder.prepare()
    study = load_study(bench.study(trials=3))
    bench.folder.write_study(replace(study, strategy=f"{code}:propose").to_record())
    bench.folder.publish(TrialName(0, 1), {"x": 0.5}, lease=60.0)
    assert "complete, with 0 trials" in foldertune(bench, "end") and not marker.exists()


def test_the_end_of_a_changed_grid_is_not_undone_by_the_same_command(bench):
    file = bench.path / "grid.toml"
    text = 'objective = "tests.objectives:quick"\nstrategy = "grid"\nmetric = "validation_error"\n[space]\nx = [0.1, 0.2]\n'
    file.write_text(f"{text}[fixed]\nbatch = 1\n")
    bench.search(file, "--workers", 1)
    file.write_text(f"{text}[fixed]\nbatch = 2\n")
    master = bench.master(file, "--change")
    wait_for(lambda: len(bench.names("pending")) == 2, "the changed grid")
    foldertune(bench, "end")
    bench.finish(master)
    assert "goes on" not in bench.search(file) and len(bench.names("seen")) == 2 and (bench.logs / "end").exists()


def test_a_master_in_trouble_obeys(folder, monkeypatch):
    """A full disk: what it sees in the folder it can still see."""

    def full(*arguments, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    study, said = study_from_record({**STUDY, "trials": 3}, "toy"), []
    folder.prepare()
    master = Master(folder, study, 60.0, max_attempts=3, say=said.append)
    master.take_stock()
    monkeypatch.setattr(folder, "publish", full)
    monkeypatch.setattr(requests, "write_whole", full)
    make_request(folder.path, "stop")
    assert (folder.path / "stop").read_bytes() == b"" and folder.names() == []
    assert run(master, None, None, StopSignals(), lambda: None) == STOPPED
    assert "stopped by " in said[-1] and "the folder is in trouble" in said[0]


def test_a_signal_from_a_master_that_has_seen_the_request_first_is_told_as_the_request(folder):
    folder.prepare()
    signals = StopSignals()
    remote = Remote(folder, signals, print)
    folder.names()  # a listing from before
    signals.note(signal.SIGTERM)
    assert (remote.why, remote.last_word, remote.exit_code) == ("SIGTERM", "stopped by SIGTERM", 143)
    (folder.path / "stop").touch()
    assert remote.why.startswith("stopped by ") and "SIGTERM" not in remote.last_word and remote.exit_code == 0


def test_a_request_in_a_complete_folder_is_no_dead_end(bench):
    study = bench.study(trials=1)
    bench.search(study, "--workers", 1)
    (bench.logs / "stop").touch()
    os.utime(bench.logs / "stop", ns=(0, 2**62))
    assert "stopped by" in bench.search(study, "--trials", 2, "--workers", 1, code=4)
    assert "removed stop" in foldertune(bench, "resume")
    (bench.logs / "pause").mkdir()
    master = bench.master(study, "--trials", 2)
    wait_for(lambda: bench.names("pending"), "a trial")
    foldertune(bench, "resume")
    bench.worker()
    bench.finish(master)
    assert "the study is complete; extend it with" in foldertune(bench, "resume", code=2)


def test_a_master_that_is_started_while_workers_are_drained_waits_for_others(bench):
    study = bench.study(trials=2)
    bench.logs.mkdir()
    (bench.logs / "drain").touch()
    output, says = spoken(bench, "master")
    master = bench.master(study, stdout=output)
    says("drained")
    assert "drained" in bench.finish(bench.worker())
    foldertune(bench, "resume")
    bench.worker()
    bench.finish(master)
    bench.assert_complete(2)
