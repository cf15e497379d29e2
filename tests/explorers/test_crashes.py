"""Processes die, stop, or come back late: a part of the sweep that `python -m tests.explorers.crashes` makes in full."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys

import pytest

from foldertune.protocol import TrialName, files, new_owner, owner_has_died
from tests.conftest import ROOT, Bench, token_of, wait_for
from tests.explorers.crashes import KINDS, PROGRAMS, TRIALS, Kind, check, kill_points, survive, survive_at_random

SWEPT = [(program, kind, seed) for program in PROGRAMS for kind in ("plain", "rungs") for seed in range(2)]
MANY = [("plain", 0), ("plain", 1), ("rungs", 0), ("rungs", 1), ("confirm", 0), ("stopping", 0)]
needs_strace = pytest.mark.skipif(
    not shutil.which("strace"), reason="strace is missing: apt-get install strace (it kills at a chosen system call)"
)


@needs_strace
@pytest.mark.parametrize(("program", "kind", "seed"), [*SWEPT, ("master", "confirm", 0)])
def test_kill_9_at_a_system_call(tmp_path, program, seed, kind):
    points = kill_points(program, KINDS[kind])
    assert len(points) > 50 and {"rename", "write", "fsync"} <= {point.call for point in points}
    killed = 0
    for number, point in enumerate(random.Random(seed).sample(points, 10)):
        print(point)
        (tmp_path / str(number)).mkdir()
        bench = Bench(tmp_path / str(number))
        killed += bool(survive(bench, point, KINDS[kind]))
        bench.close()
    assert killed >= 5, "the kill points were hardly ever reached"


@needs_strace
@pytest.mark.parametrize("program", PROGRAMS)
def test_kill_9_around_a_request_to_stop(tmp_path, program):
    points = kill_points(program, KINDS["stopping"], about=".jsonl.stop")
    assert {"openat", "rename" if program == "master" else "read"} <= {point.call for point in points}
    killed = 0
    for number, point in enumerate(random.Random(0).sample(points, 3)):
        print(point)
        (tmp_path / str(number)).mkdir()
        bench = Bench(tmp_path / str(number))
        killed += bool(survive(bench, point, KINDS["stopping"]))
        bench.close()
    assert killed, "no kill point was reached"


@pytest.mark.parametrize(("kind", "seed"), MANY)
def test_kill_9_at_random_moments_among_eight_workers(bench, seed, kind):
    print("seed", seed)
    survive_at_random(bench, seed, kind=KINDS[kind])


def test_a_claim_without_a_word_is_known_dead_by_its_name(bench):
    """The worker is killed between the rename and its first line. The name says which process it was."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    gone = token_of(process.pid)
    assert owner_has_died(gone) and not owner_has_died(new_owner())
    assert not owner_has_died(f"another-{process.pid}-abcd") and not owner_has_died("trial") and not owner_has_died("")
    master = bench.master(bench.study(trials=3), "--lease", 600)
    wait_for(lambda: bench.names("pending"), "the trials")
    os.rename(bench.logs / "trial-00001-1.jsonl", bench.logs / f"trial-00001-1.jsonl.{gone}.taken")
    worker = bench.worker()
    bench.finish(master)
    bench.finish(worker)
    check(bench, 3)


# ---- slow is not dead


@needs_strace
@pytest.mark.parametrize(
    ("call", "which", "outcome"),
    [
        ("rename", 0, "dropped"),  # it has claimed a trial
        ("write", 0, "dropped"),  # and said who it is
        ("write", 1, "dropped"),  # and reported an epoch
        ("write", 2, "counted"),  # and written its result, which is not yet certain to stay
        ("rename", 1, "counted, dropped"),  # and claimed the next trial
        ("write", 3, "counted, dropped"),  # and said so
        ("fsync", 0, "counted, dropped"),  # but before, its result was certain to stay
        ("rename", 2, "counted, dropped"),  # and was handed in
    ],
)
def test_a_worker_stopped_past_its_lease_is_counted_or_dropped(bench, call, which, outcome):
    """SIGSTOP stops the worker in a system call, which is still done. It wakes up when everything is over."""
    number = [point.number for point in kill_points("worker", Kind("thoughtful")) if point.call == call][which]
    study, log = bench.study(trials=TRIALS, objective="thoughtful"), bench.path / "strace.txt"
    master = bench.master(study, "--lease", 1)
    wait_for(lambda: len(bench.names("pending")) == TRIALS, "the trials")
    strace = f"strace -qq -o {log} -e trace={call} -e inject={call}:signal=STOP:when={number}".split()
    command = [sys.executable, "worker.py", "--logs", bench.logs, "--objective", "tests.objectives:thoughtful"]
    sleeper = subprocess.Popen(
        [*strace, *map(str, command)], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    bench.processes.append(sleeper)
    wait_for(lambda: log.exists() and "--- stopped by SIGSTOP ---" in log.read_text(), "the worker to stop")
    [pid] = open(f"/proc/{sleeper.pid}/task/{sleeper.pid}/children").read().split()
    worker = bench.worker("thoughtful")
    bench.finish(master)
    bench.finish(worker)
    os.kill(int(pid), signal.SIGCONT)
    said, _ = sleeper.communicate(timeout=60)
    assert sleeper.returncode == 0 and "Traceback" not in said, said
    check(bench, TRIALS)
    owners = {row.worker for row in bench.rows()}
    assert len(owners) == (2 if "counted" in outcome else 1)
    assert said.count("no longer ours") == ("dropped" in outcome)
    assert [name.attempt for name in bench.names("lost")] == [1] * ("dropped" in outcome)


# ---- many at once


def test_64_workers_before_the_master_in_an_empty_folder(bench):
    workers = [bench.worker("brief") for _ in range(64)]
    wait_for(lambda: all(worker.poll() is None for worker in workers), "the workers to start")
    # So many trials that most workers find one: on two cores sixty-four trainers need long to start.
    master = bench.master(bench.study(trials=400, objective="brief"))
    bench.finish(master)
    said = [bench.finish(worker) for worker in workers]
    check(bench, 400)
    assert sum("0 trials trained" in text for text in said) < 32, "most were idle"
    assert all("trouble" not in text for text in said)


def test_a_zombie_does_not_write_into_what_is_counted(bench):
    """The .seen file of an attempt has only lines of its own worker."""
    bench.search(bench.study(trials=10), "--workers", 3)
    for name in bench.names("seen"):
        trial = bench.folder.read(TrialName(name.number, name.attempt, "seen"))
        assert f"-{trial.claim['pid']}-" in trial.claim["claimed"]


def test_a_collection_that_was_done_although_an_error_came_is_counted_once(folder, monkeypatch):
    """The file server did the rename but answered with an error, and for a moment nobody could look."""
    from foldertune.protocol import to_line
    from foldertune.running.master import Master
    from foldertune.study_file import study_from_record

    record = {"name": "toy", "objective": "mine:train", "strategy": "random", "trials": 1, "seed": 0}
    record |= {
        "metric": "loss",
        "direction": "minimize",
        "fixed": {},
        "space": {"x": {"type": "float", "low": 0, "high": 1}},
    }
    study = study_from_record(record, "study.json")
    folder.prepare()
    master = Master(folder, study, lease=5, max_attempts=3)
    master.step()
    with open(folder.locate(TrialName(0, 1)), "ab") as file:
        file.write(to_line({"result": {"loss": 1.0}}))
    os.rename(folder.locate(TrialName(0, 1)), folder.locate(TrialName(0, 1, "done")))
    rename, is_there = os.rename, files.is_there

    def rename_and_fail(source, target, **options):
        rename(source, target, **options)
        monkeypatch.setattr(files, "is_there", lambda path, inside=None: False)
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "rename", rename_and_fail)
    master.step()
    assert not master.ledger.counted
    monkeypatch.setattr(os, "rename", rename)
    monkeypatch.setattr(files, "is_there", is_there)
    master._next_check = 0.0
    master.step()
    assert master.is_done() and list(master.ledger.counted) == [0] and folder.names() == []
    assert [str(name) for name in folder.settled()] == ["trial-00000-1.jsonl.seen"]
