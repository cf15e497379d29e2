"""A person's first hour with code of their own: a first try, a bug, its repair, a wrong path, a closed terminal."""

from __future__ import annotations

import os
import pty
import signal
import sys

import pytest

from foldertune.protocol import Folder, Trial, TrialName
from foldertune.running.fault import Fault
from foldertune.running.ledger import Ledger
from tests.conftest import ROOT, wait_for

BROKEN = {**os.environ, "BROKEN": "1"}
FIDELITY = '[fidelity]\nsetting = "epochs"\n[fixed]\nepochs = 50\n'


# ---- before the search


def test_a_first_try_needs_no_folder_and_few_epochs(bench):
    study = bench.study(trials=5, objective="lengthy", extra=FIDELITY)
    said = bench.finish(bench.start("master.py", study, "--try", "--device", "cpu", "--logs", bench.logs))
    assert "trial 0 of toy: x " in said and "epochs 2" in said
    assert "epoch 2, validation_error" in said and "epoch 3" not in said and "device cpu" in said
    assert "this trial succeeds: validation_error is 0." in said
    assert not bench.logs.exists()
    assert "has trials 0 to 4" in bench.finish(bench.start("master.py", study, "--try", 5), 2)
    assert "name the study before --try" in bench.finish(bench.start("master.py", "--try", study), 2)


@pytest.mark.parametrize(
    ("objective", "code", "wanted"),
    [
        ("broken", 1, ["in broken\n", "this trial fails: ValueError: no such layer: "]),
        ("placed", 1, ["in placed\n", "KeyError: 'TRIALS_PER_GPU'"]),
        ("missing", 2, ["tests.objectives has no function 'missing'"]),
    ],
)
def test_a_first_try_shows_where_the_code_fails(bench, objective, code, wanted):
    study = bench.study(objective=objective)
    environment = {key: value for key, value in BROKEN.items() if key != "TRIALS_PER_GPU"}
    process = bench.start("master.py", study, "--try", 3, env=environment)
    said = process.communicate(timeout=60)[0]
    assert process.returncode == code and all(text in said for text in wanted), said


def test_a_first_try_shows_where_an_import_fails(bench):
    (bench.path / "mine.py").write_text("import nothing_of_that_name\n")
    file = bench.path / "mine.toml"
    file.write_text('objective = "mine:train"\nstrategy = "random"\ntrials = 3\nmetric = "loss"\n[space]\nx = [1, 2]\n')
    process = bench.start(ROOT / "master.py", file, "--try", cwd=bench.path)
    said = process.communicate(timeout=60)[0]
    assert process.returncode == 2 and f'{bench.path}/mine.py", line 1' in said, said
    assert said.endswith("can't import mine: ModuleNotFoundError: No module named 'nothing_of_that_name'\n")


def test_what_is_wrong_with_a_fidelity_is_one_line(bench):
    for table, wanted in {
        '[fidelity]\nsettings = "epochs"\n': "fidelity: unknown key 'settings' (did you mean 'setting'?)",
        "[fidelity]\nlowest = 1\n": "fidelity.setting: must be the name of a setting in quotes",
        '[fidelity]\nsetting = "epochs"\nlowest = 0\n': "fidelity.lowest: must be a whole number of at least 1",
    }.items():
        assert wanted in bench.finish(bench.start("master.py", bench.study(extra=table), "--try"), 2)


# ---- a bug


def test_a_search_whose_trials_all_fail_stops_and_goes_on_after_the_repair(bench):
    study = bench.study(trials=30, objective="broken")
    options = (study, "--workers", 1, "--device", "cpu", "--max-attempts", 1)
    said = bench.search(*options, env=BROKEN, code=3)
    failed = bench.names("seen")
    assert 3 <= len(failed) < 30 and bench.names("pending") and not bench.names("taken")
    assert "in broken\n" in said and "ValueError: no such layer: " in said
    assert f"The whole story of this attempt: {bench.folder.seen}/trial-" in said
    assert "--try" in said and "Continue after the repair with: " in said and "--retry-failed" in said
    assert "Not complete" not in said

    # A master that gives trials their attempts back is killed after the first rename. That trial goes on by itself.
    first, *others = sorted(failed, key=lambda name: name.number)
    assert str(bench.folder.retry(first)) == f"trial-{first.number:05d}-2.jsonl.lost"
    bench.search(*options)
    bench.assert_complete(30)
    assert [row.trial for row in bench.rows() if row.status == "failed"] == [name.number for name in others]

    said = bench.search(*options, "--retry-failed")  # the study was complete, and is open again
    assert f"{len(others)} failed trials get new attempts" in said
    bench.assert_complete(30)
    assert {row.status for row in bench.rows()} == {"succeeded"}
    assert len(bench.names("lost")) == 2 * len(failed)  # what was tried, and that it had failed: nothing is deleted
    state = bench.finish(bench.start("-m", "foldertune", "status", "--logs", bench.logs))
    assert f"30 succeeded, {len(failed)} lost attempts" in state and "failed" not in state


def test_a_study_with_no_result_at_all_is_no_success(bench):
    study = bench.study(trials=2, objective="broken")
    options = (study, "--workers", 1, "--device", "cpu", "--max-attempts", 1)
    assert "All trials have failed" in bench.search(*options, env=BROKEN, code=3)
    bench.assert_complete(2)
    bench.search(*options, "--retry-failed", env=BROKEN, code=3)  # its new attempts fail, too
    assert [name.attempt for name in bench.names("seen")] == [3, 3]
    bench.finish(bench.start("-m", "foldertune", "drop", 0, "--logs", bench.logs))
    assert "1 failed trial gets new attempts" in bench.search(*options, "--retry-failed", env=BROKEN, code=3)
    assert sorted(name.attempt for name in bench.names("seen")) == [3, 5], "a dropped trial is not tried again"


def fail(ledger, number, error):
    ledger.count(Trial(TrialName(number, 1, "seen"), {}, error=error))


def test_trials_that_fail_do_not_speak_for_those_that_get_further(folder: Folder):
    ledger = Ledger()
    fail(ledger, 0, "ValueError: with other code")
    fault = Fault(folder, ledger)
    for number in (1, 2, 3):
        assert not fault.is_there([])
        fail(ledger, number, f"ValueError: {number - 2}.5e{number} at 0x7f{number}a")
    assert fault.is_there([]) and fault.example().name.number in (1, 2, 3)
    running = [TrialName(number, 1, "taken", "host-1-abcd") for number in (4, 5)]
    for name in running:
        with open(folder.locate(name), "w") as file:
            file.write('{"settings": {}}\n{"claimed": "host-1-abcd"}\n')
    assert fault.is_there(running)
    assert not fault.is_there([*running, TrialName(6, 1, "taken", "host-1-abce")])  # as many run as have failed
    with open(folder.locate(running[0]), "a") as file:
        file.write('{"epoch": 1}\n')
    assert not fault.is_there(running)
    fail(ledger, 7, "KeyError: 'another error'")
    assert not fault.is_there([])


# ---- a wrong path, a closed terminal


def test_a_worker_without_a_study_says_so_and_ends(bench):
    options = ("--start-timeout", 0.6)
    lost = [bench.worker("quick", *options)]
    other = bench.path / "empty"
    other.mkdir()
    lost.append(bench.start("worker.py", "--logs", other, "--objective", "tests.objectives:quick", *options))
    for process, lack in zip(lost, ("NO SUCH DIRECTORY", "NO STUDY"), strict=True):
        said = bench.finish(process, 2)
        assert said.count(f"THERE IS {lack} YET") == 2 and said.endswith("is the path right?\n")
    bench.folder.prepare()  # a folder with a study, but without work: the worker waits
    bench.folder.write_study({"metric": "loss"})
    assert "0 trials trained" in bench.finish(bench.worker("quick", *options, "--idle-timeout", 1))


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2])
def test_a_master_ends_in_good_order_at_every_signal(bench, number):
    master = bench.master(bench.study(trials=3, objective="stuck"), "--workers", 1, "--device", "cpu")
    wait_for(lambda: bench.names("taken"), "a trial to be claimed")
    master.send_signal(number)
    master.send_signal(number)  # from a supervisor that got it, too
    assert "local workers give their trials back" in bench.finish(master, 128 + number)
    assert not bench.names("taken") and "given back" in (bench.logs / "worker-1.log").read_text()


def test_a_master_ends_when_it_is_told_to_though_its_folder_is_away(bench):
    master = bench.master(bench.study(trials=3))
    wait_for(lambda: bench.names("pending"), "trials")
    bench.logs.rename(bench.path / "away")
    master.send_signal(signal.SIGTERM)
    bench.finish(master, 143)


def test_a_master_ends_in_good_order_when_its_terminal_is_closed(bench):
    study = bench.study(trials=3, objective="stuck")
    command = [sys.executable, str(ROOT / "master.py"), study, "--logs", str(bench.logs), "--workers", "1"]
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(ROOT)
        os.execv(sys.executable, command)
    try:
        wait_for(lambda: bench.names("taken"), "a trial to be claimed")
        os.close(terminal)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 128 + signal.SIGHUP
        pid = 0
    finally:
        if pid:
            os.kill(pid, signal.SIGKILL)
    assert not bench.names("taken")
