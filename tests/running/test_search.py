"""Masters and workers, as real processes in real folders."""

from __future__ import annotations

import json
import os
import pty
import random
import re
import signal
import subprocess
import sys

import pytest

from foldertune.protocol import TrialName, read_records
from tests.conftest import ROOT, wait_for


def taken_by(bench, process):
    """The trials that this worker holds."""
    return [name for name in bench.names("taken") if f"-{process.pid}-" in name.owner]


def running(bench, process):
    """The trial that this worker holds and has begun to train."""
    return next((trial.name for trial in bench.running(epochs=1) if f"-{process.pid}-" in trial.name.owner), None)


# ---- the way it is meant to go


@pytest.mark.parametrize("seed", range(10))
def test_two_workers_share_forty_trials(bench, seed):
    print(f"seed {seed}")
    workers = [bench.worker("brief"), bench.worker("brief")]
    said = bench.search(bench.study(trials=40, objective="brief", seed=seed))
    owners = [bench.finish(worker) and worker.pid for worker in workers]
    bench.assert_complete(40)
    claims = [[r for r in read_records(bench.folder.locate(n)) if "claimed" in r] for n in bench.names("seen")]
    assert all(len(claim) == 1 for claim in claims), "a trial was claimed twice"
    assert {claim[0]["pid"] for claim in claims} == set(owners), "one of the workers got nothing"
    assert all(row.attempt == 1 and row.status == "succeeded" for row in bench.rows())
    assert "40 of 40 trials" in said and "results.csv" in said


def test_workers_that_the_master_starts(bench):
    said = bench.search(bench.study(trials=12, objective="slow"), "--workers", 3)
    bench.assert_complete(12)
    assert len({row.worker for row in bench.rows()}) == 3
    assert all(len(bench.folder.read(name).epochs) == 10 for name in bench.names("seen"))
    assert sorted(path.name for path in bench.logs.glob("worker-*.log")) == [f"worker-{k}.log" for k in (1, 2, 3)]
    best = min(row.metrics["validation_error"] for row in bench.rows())
    assert f"{best:.4g}" in said


def test_workers_that_their_master_ends_when_all_is_done_say_so(bench):
    """Those that wait for work get a signal then."""
    bench.search(bench.study(trials=6, objective="brief"), "--workers", 4)
    ends = [json.loads(path.read_text())["ended"] for path in bench.folder.workers.iterdir()]
    assert ends and set(ends) == {"nothing more to do"}


def test_the_same_seed_gives_the_same_trials_whatever_the_workers(bench, tmp_path):
    from tests.conftest import Bench

    bench.search(bench.study(trials=20, seed=3), "--workers", 1)
    (tmp_path / "other").mkdir()
    other = Bench(tmp_path / "other")
    other.search(other.study(trials=20, seed=3), "--workers", 4)
    assert [row.settings for row in bench.rows()] == [row.settings for row in other.rows()]


def test_the_number_of_pending_trials_is_bounded(bench):
    bench.master(bench.study(trials=5000))
    wait_for(lambda: len(bench.names("pending")) >= 8, "trials to be published")
    worker = bench.worker()
    wait_for(lambda: len(bench.names("seen")) > 50, "trials to be collected")
    assert len(bench.names("pending")) <= 1000
    worker.kill()


def test_an_idle_worker_ends_when_told(bench):
    assert "0 trials trained" in bench.finish(bench.worker("quick", "--idle-timeout", 0.2))
    bench.logs.mkdir()
    assert "0 trials trained" in bench.finish(bench.worker("quick", "--idle-timeout", 0.2))


def test_a_trial_queued_by_hand_is_one_more(bench):
    bench.logs.mkdir()
    (bench.logs / "trial-90000-1.jsonl").write_text('{"settings": {"x": 0.25}}\n')
    (bench.logs / "trial-00002-1.jsonl").write_text('{"settings": {"x": 0.125}}\n')
    bench.search(bench.study(trials=5), "--workers", 1)
    rows = {row.trial: row for row in bench.rows()}
    assert sorted(rows) == [0, 1, 2, 3, 4, 90000]
    assert rows[90000].settings == {"x": 0.25} and rows[90000].metrics["validation_error"] == 0.25
    assert rows[2].settings == {"x": 0.125}


def test_numbers_that_json_does_not_have(bench):
    bench.search(bench.study(trials=1, objective="diverging"), "--workers", 1)
    (row,) = bench.rows()
    assert row.status == "succeeded" and row.metrics.pop("seconds") >= 0
    assert row.metrics == {"validation_error": None, "steps": 7, "diverged": True}
    assert bench.folder.read(bench.names("seen")[0]).epochs == [
        {"epoch": 1, "training_loss": None, "validation_error": 0.5}
    ]


# ---- whatever dies


def test_kill_9_of_a_worker(bench):
    master = bench.master(bench.study(trials=6, objective="slow"))
    victim, other = bench.worker("slow"), bench.worker("slow")
    name = wait_for(lambda: running(bench, victim), "the victim to train")
    victim.kill()
    victim.wait()
    said = bench.finish(master)
    bench.finish(other)
    bench.assert_complete(6)
    assert {row.trial: row.attempt for row in bench.rows() if row.attempt != 1} == {name.number: 2}
    assert [(n.number, n.attempt) for n in bench.names("lost")] == [(name.number, 1)]
    assert f"trial {name.number}: its worker {name.owner} died" in said
    assert "died" in bench.folder.read(TrialName(name.number, 2, "seen")).lost[0]


@pytest.mark.parametrize("seed", range(3))
def test_kill_9_of_the_master_again_and_again(bench, seed):
    print(f"seed {seed}")
    rng, study = random.Random(seed), bench.study(trials=60, objective="quick", seed=seed)
    workers = [bench.worker(), bench.worker()]
    for _ in range(4):
        count = len(bench.names("seen"))
        master = bench.master(study)
        goal = count + rng.randrange(1, 8)
        wait_for(lambda goal=goal, master=master: len(bench.names("seen")) >= goal or master.poll() is not None)
        master.kill()
        master.wait()
    bench.search(study)
    for worker in workers:
        bench.finish(worker)
    bench.assert_complete(60)
    assert [row.settings["x"] for row in bench.rows()] == [row.metrics["validation_error"] for row in bench.rows()]


@pytest.mark.parametrize("seed", range(3))
def test_workers_killed_at_random_moments(bench, seed):
    print(f"seed {seed}")
    rng = random.Random(seed)
    master = bench.master(bench.study(trials=80, objective="quick", seed=seed), "--lease", 1, "--max-attempts", 100)
    workers = [bench.worker() for _ in range(4)]
    for _ in range(12):
        goal = len(bench.names("seen")) + rng.randrange(4)
        wait_for(lambda goal=goal: len(bench.names("seen")) >= goal or master.poll() is not None)
        victim = workers.pop(rng.randrange(len(workers)))
        victim.kill()
        victim.wait()
        workers.append(bench.worker())
    bench.finish(master)
    for worker in workers:
        bench.finish(worker)
    bench.assert_complete(80)


def test_a_result_whose_worker_died_before_the_hand_in_is_adopted(bench):
    bench.folder.seen.mkdir(parents=True)
    bench.folder.publish(TrialName(0, 1), {"x": 0.5}, lease=180)
    claim = bench.folder.claim("gone-1-abcd", iter([TrialName(0, 1)]))
    dead = subprocess.Popen(["true"])
    dead.wait()
    from foldertune.protocol import identify_process

    identity = {"pid": dead.pid, "process": {**identify_process(), "start": 1}}
    claim.append({"claimed": "gone-1-abcd", **identity})
    claim.append({"result": {"validation_error": 0.5}, "time": "2026-01-01T00:00:00Z"})
    bench.folder.write_study({"strategy": "random", "trials": 1, "metric": "validation_error", "objective": "tests.objectives:quick",
                              "space": {"x": {"type": "float", "low": 0.0, "high": 1.0}}})  # fmt: skip
    bench.search(bench.study(trials=1))
    bench.assert_complete(1)
    assert bench.rows()[0].attempt == 1 and bench.names("lost") == []


def test_a_silent_worker_loses_its_trial_and_drops_it_when_it_comes_back(bench):
    master = bench.master(bench.study(trials=3, objective="slow"), "--lease", 3)
    victim = bench.worker("slow")
    name = wait_for(lambda: running(bench, victim), "the victim to train")
    victim.send_signal(signal.SIGSTOP)
    other = bench.worker("slow")
    wait_for(lambda: bench.names("lost"), "the lease to expire")
    lost = bench.folder.locate(bench.names("lost")[0])
    before = open(lost, "rb").read()
    victim.send_signal(signal.SIGCONT)
    said = bench.finish(master)
    assert f"no sign of life from {name.owner} for 3 s" in said
    assert "is no longer ours" in bench.finish(victim)
    bench.finish(other)
    bench.assert_complete(3)
    assert open(lost, "rb").read() == before
    assert {row.trial: row.attempt for row in bench.rows()}[name.number] == 2


def test_a_long_epoch_keeps_its_lease(bench):
    master = bench.master(bench.study(trials=1, objective="stuck"), "--lease", 3)
    worker = bench.worker("stuck")
    name = wait_for(lambda: running(bench, worker), "training")
    signatures = set()
    wait_for(lambda: signatures.add(bench.folder.signature(name)) or len(signatures) > 24, "heartbeats for two leases")
    assert taken_by(bench, worker) == [name] and master.poll() is None


def test_a_trial_that_kills_its_worker_fails_for_good_and_holds_up_nobody(bench):
    said = bench.search(bench.study(trials=6, objective="murderous", seed=2), "--workers", 2, "--max-attempts", 1)
    bench.assert_complete(6)
    rows = bench.rows()
    assert {row.trial: row.status for row in rows} == {
        row.trial: "failed" if row.settings["x"] > 0.5 else "succeeded" for row in rows
    }
    assert {row.status for row in rows} == {"failed", "succeeded"}, "another seed is needed"
    assert "starting it again" in said and "was killed by SIGKILL" in said


def test_exceptions_and_results_that_are_none(bench):
    said = bench.search(bench.study(trials=24, objective="moody"), "--workers", 2, "--max-attempts", 2)
    bench.assert_complete(24)
    lost = {name.number: bench.folder.read(name).lost for name in bench.names("seen")}
    reasons = [(row.settings["x"], row.status, row.error or "", len(lost[row.trial])) for row in bench.rows()]
    for x, status, error, lost in reasons:
        assert (status, lost) == (("failed", 2) if x > 0.5 else ("succeeded", 0))
        wanted = (
            "lacks 'validation_error', the study's metric"
            if x > 0.9
            else "is not a number"
            if x > 0.8
            else "which I don't like"
        )
        assert wanted in error if x > 0.5 else error == ""
    assert max(x for x, *_ in reasons) > 0.9, "another seed is needed"
    assert "Traceback" not in said and "failed for good after 2 attempts" in said
    one = next(row for row in bench.rows() if 0.5 < row.settings["x"] < 0.8)
    last = read_records(bench.folder.locate(TrialName(one.trial, 1, "lost")))[-1]
    assert "\n" not in last["error"] and "in moody" in last["traceback"]


def test_a_file_that_vanished_is_run_again(bench):
    master = bench.master(bench.study(trials=3), "--lease", 0.5)
    wait_for(lambda: len(bench.names("pending")) == 3, "trials to be published")
    os.unlink(bench.folder.locate(TrialName(1, 1)))
    wait_for(lambda: TrialName(1, 2) in bench.names("pending"), "the next attempt")
    bench.worker()
    assert "trial 1: its file has vanished" in bench.finish(master)
    bench.assert_complete(3)


@pytest.mark.parametrize("content", [b"", b"nonsense\n", b'{"settings": 1}\n', b"\xff\x00\n", None])
def test_a_broken_file_costs_its_own_attempt_only(bench, content):
    master = bench.master(bench.study(trials=3))
    wait_for(lambda: len(bench.names("pending")) == 3, "trials to be published")
    path = bench.folder.locate(TrialName(1, 1))
    os.unlink(path)
    if content is None:
        os.mkdir(path)
    else:
        with open(path, "wb") as file:
            file.write(content)
    worker = bench.worker()
    said = bench.finish(master)
    bench.finish(worker)
    bench.assert_complete(3)
    assert [row.attempt for row in bench.rows()] == [1, 2, 1]
    assert re.search(r"trial 1: \S+trial-00001-1.jsonl.done: ", said)


def test_a_surplus_result_is_set_aside(bench):
    study = bench.study(trials=4)
    bench.search(study, "--workers", 1)
    seen = bench.folder.locate(TrialName(2, 1, "seen"))
    row = bench.rows()[2]
    (bench.logs / "trial-00002-5.jsonl.done").write_bytes(open(seen, "rb").read().replace(b"0.", b"9."))
    (bench.logs / "trial-00004-1.jsonl").write_text('{"settings": {"x": 0.5}}\n')  # so that there is something to do
    said = bench.search(study, "--workers", 1)
    assert "trial 2 (attempt 5): surplus" in said
    assert bench.rows()[2] == row and len(bench.rows()) == 5


# ---- stopping


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_worker_that_is_stopped_gives_its_trial_back_at_once(bench, number):
    master = bench.master(bench.study(trials=2, objective="slow"))
    first = bench.worker("slow")
    name = wait_for(lambda: running(bench, first), "training")
    first.send_signal(number)
    said = bench.finish(first, code=128 + number)
    assert f"trial {name.number}: given back" in said and signal.Signals(number).name in said
    assert name.next_attempt() in bench.names("pending")
    bench.worker("slow")
    bench.finish(master)
    bench.assert_complete(2)
    assert bench.names("lost") == [] and {row.trial: row.attempt for row in bench.rows()}[name.number] == 2
    assert len(bench.folder.read(TrialName(name.number, 2, "seen")).epochs) == 10


def test_an_idle_worker_is_stopped_at_once(bench):
    worker = bench.worker()
    worker.stdout.readline()
    worker.terminate()
    bench.finish(worker, code=143)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_master_that_is_stopped_stops_its_workers_and_says_how_to_go_on(bench, number, code):
    study = bench.study(trials=20, objective="slow")
    master = bench.master(study, "--workers", 2)
    wait_for(lambda: len(bench.names("taken")) == 2 and bench.names("seen"), "the search to be under way")
    pids = [read_records(bench.folder.locate(name))[1]["pid"] for name in bench.names("taken")]
    master.send_signal(number)
    said = bench.finish(master, code=code)
    assert f"Continue with: python master.py {study} --workers 2 --logs {bench.logs}" in said
    assert bench.names("taken") == [] and len(bench.names("seen")) < 20
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    bench.search(study, "--workers", 8)
    bench.assert_complete(20)


def test_local_workers_end_with_a_master_that_was_killed(bench):
    master = bench.master(bench.study(trials=4, objective="stuck"), "--workers", 2)
    pids = [trial.claim["pid"] for trial in bench.wait_for_training(2)]
    master.kill()
    wait_for(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in pids), "the workers to end")
    assert bench.names("taken") == []


def test_without_any_worker_left_the_master_says_so(bench):
    study = bench.study(trials=4, objective="nothing_of_that_name")
    said = bench.search(study, "--workers", 2, code=1)
    assert "has no function 'nothing_of_that_name'" in said and "no worker is left" in said


# ---- folders


def test_a_search_goes_on_where_it_was_and_a_longer_one_further(bench):
    study = bench.study(trials=5)
    bench.search(study, "--workers", 1)
    files = {name: open(bench.folder.locate(name), "rb").read() for name in bench.names("seen")}
    table = bench.folder.results.read_bytes()
    bench.folder.results.unlink()
    assert "5 of 5" in bench.search(study)  # complete: nothing to do, no worker needed
    assert bench.folder.results.read_bytes() == table
    bench.search(study, "--trials", 9, "--workers", 1)
    bench.assert_complete(9)
    assert all(open(bench.folder.locate(name), "rb").read() == content for name, content in files.items())
    said = bench.search(study, "--trials", 4, code=2)
    assert "continue with --trials 9" in said and said.count("\n") == 1


def test_another_definition_in_a_used_folder_is_refused(bench):
    bench.search(bench.study(trials=3), "--workers", 1)
    before = {path: path.read_bytes() for path in bench.logs.rglob("*.*") if path.is_file() and path.suffix != ".lock"}
    said = bench.search(bench.study(trials=3, seed=4, extra="[fixed]\ny = 3"), code=2)
    assert "seed (0 in the folder, now 4)" in said and "fixed.y (not there in the folder, now 3)" in said
    assert said.count("\n") == 1 and "use another --logs" in said
    assert all(path.read_bytes() == content for path, content in before.items())


def test_a_second_master_is_refused_and_told_who_holds_the_folder(bench):
    study = bench.study(trials=3)
    first = bench.master(study)
    wait_for(lambda: bench.names("pending"), "the first master")
    said = bench.search(study, code=2)
    assert f"process {first.pid} on" in said and said.count("\n") == 1


def test_trials_without_a_study_are_not_touched(bench):
    bench.folder.seen.mkdir(parents=True)
    (bench.folder.seen / "trial-00000-1.jsonl.seen").write_text("{}\n")
    waiting, error = bench.search(bench.study(), "--lease", 2, code=2).splitlines()
    assert "no study.json; waiting 2 s" in waiting
    assert error.startswith(f"error: {bench.logs}: holds trials but no study.json; put it back")
    assert (bench.folder.seen / "trial-00000-1.jsonl.seen").read_text() == "{}\n"


@pytest.mark.parametrize("text", ["", "[]", '{"strategy": 3}', "\x00"])
def test_a_broken_study_json_is_named(bench, text):
    bench.folder.seen.mkdir(parents=True)
    bench.folder.study.write_text(text)
    said = bench.search(bench.study(), code=2)
    assert said.startswith(f"error: {bench.folder.study}: ") and said.count("\n") == 1
    assert bench.folder.study.read_text() == text
    for program in ("results", "status"):
        process = bench.start("-m", "foldertune", program, "--logs", bench.logs)
        said = bench.finish(process, code=2)
        assert said.startswith(f"error: {bench.folder.study}: ") and said.count("\n") == 1


def test_logs_that_are_no_directory(bench):
    bench.logs.write_text("")
    for process in (bench.master(bench.study()), bench.worker()):
        said = bench.finish(process, code=2)
        assert f"{bench.logs}: is not a directory" in said and said.count("\n") == 1


def test_a_broken_seen_file_is_set_aside_and_run_again(bench):
    study = bench.study(trials=4)
    bench.search(study, "--workers", 1)
    with open(bench.folder.locate(TrialName(2, 1, "seen")), "r+b") as file:
        file.truncate(10)
    said = bench.search(study, "--workers", 1)
    assert "set aside" in said and "trial-00002-1.jsonl.seen" in said
    bench.assert_complete(4)
    assert bench.rows()[2].attempt == 2


# ---- what code runs


def test_a_worker_runs_no_code_that_the_folder_chooses(bench):
    master = bench.master(bench.study(trials=2, objective="slow"))
    wait_for(lambda: bench.names("pending"), "the study")
    said = bench.finish(bench.worker("quick"), code=2)
    assert "--objective tests.objectives:slow" in said and said.count("\n") == 1
    assert bench.names("taken") == [] and master.poll() is None


@pytest.mark.parametrize(
    ("objective", "complaint"),
    [
        ("tests.objectives", "write MODULE:FUNCTION"),
        ("no_such_module:train", "can't import no_such_module"),
        ("tests.objectives:no_such", "has no function 'no_such'"),
        ("tests.objectives:os", "has no function 'os'"),
    ],
)
def test_an_objective_that_is_none(bench, objective, complaint):
    said = bench.finish(bench.start("worker.py", "--logs", bench.logs, "--objective", objective), code=2)
    assert complaint in said and said.count("\n") == 1


def test_an_objective_of_ones_own_in_the_working_directory(bench):
    (bench.path / "mine.py").write_text(
        "def train(settings, report):\n    report(epoch=1, loss=settings['x'])\n    return {'validation_error': 1.0}\n"
    )
    study = bench.path / "mine.toml"
    study.write_text(open(bench.study(trials=3)).read().replace("tests.objectives:quick", "mine:train"))
    said = bench.finish(bench.start(ROOT / "master.py", study, "--logs", bench.logs, "--workers", 1, cwd=bench.path))
    assert "--objective mine:train" in said
    bench.assert_complete(3)


@pytest.mark.parametrize(
    ("command", "complaint"),
    [
        (["master.py", "--trials", "0"], "--trials"),
        (["master.py", "--lease", "0"], "--lease"),
        (["master.py", "--workers", "-1"], "--workers"),
        (["master.py", "scenario1", "--trials", "25"], "raise 'repeats'"),
        (["worker.py", "--threads", "0"], "--threads"),
        (["worker.py", "--idle-timeout", "-1"], "--idle-timeout"),
        (["exercise3.py", "--threads", "0"], "--threads"),
        (["exercise3.py", "--learning-rate", "-1"], "learning_rate: must be at least 0"),
    ],
)
def test_bad_options_are_refused(tmp_path, command, complaint):
    done = subprocess.run(
        [sys.executable, ROOT / command[0], *command[1:]], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2 and complaint in done.stderr and "Traceback" not in done.stderr


# ---- what a person sees


def test_the_live_view_in_a_terminal(bench):
    """At 80 columns no line is broken or left over, and the counts, the best trial and the running trials are there."""
    primary, secondary = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "80", "LINES": "24"}
    master = bench.master(
        bench.study(trials=6, objective="slow"), "--workers", 2, stdout=secondary, stderr=secondary, env=environment
    )
    os.close(secondary)
    seen = b""
    while True:
        try:
            seen += os.read(primary, 65536)
        except OSError:
            break
    master.wait()
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", seen.decode())
    for wanted in ("6 of 6 trials", "2 running", "to go", "best: validation_error", "complete", "results.csv"):
        assert wanted in text, wanted
    assert re.search(r"\d/?\d*\s+validation_error 0\.\d+", text), "a running trial's epoch and last value"
    lines = re.split(r"[\r\n]+", text)
    assert max(len(line) for line in lines if str(bench.logs) not in line) <= 80


def test_plain_lines_when_the_output_is_no_terminal(bench):
    said = bench.search(bench.study(trials=3), "--workers", 1)
    assert "\x1b" not in said and re.search(
        r"^\d\d:\d\d:\d\d 3 of 3 trials; 0 pending, 0 running, 3 succeeded", said, re.M
    )
    log = (bench.logs / "worker-1.log").read_text()
    assert re.search(r"trial 0: x 0\.\d+", log) and re.search(r"trial 0: validation_error 0\.\d+", log)


def test_study_json_says_what_is_searched(bench):
    bench.search(bench.study(trials=3, seed=5, extra='description = "A toy"'), "--workers", 1)
    record = json.loads(bench.folder.study_done.read_text())
    assert record["name"] == "toy" and record["seed"] == 5 and record["description"] == "A toy"
    assert record["space"] == {"x": {"type": "float", "low": 0.0, "high": 1.0, "log": False}}
