"""The training code and the worker are two processes: what the code does to its own is no harm to the other."""

from __future__ import annotations

import json
import os
import signal
import sys
import time

import pytest

from foldertune.rows import FAILED, SUCCEEDED
from foldertune.running.process import Process
from foldertune.running.signals import StopSignals
from tests import wild
from tests.conftest import ROOT, wait_for

HARMLESS = (
    "uses_a_pool", "ends_a_child", "replaces_signal_handlers", "changes_directory", "finds_its_directory_and_output",
    "closes_its_output", "finds_its_directory_and_output", "redirects_its_output", "finds_its_directory_and_output",
    "leaves_a_thread", "leaves_a_process",
)  # fmt: skip
FATAL = {
    "calls_exit": "SystemExit: no data here",
    "calls_os_exit": "the training process ended with exit code 7; it last said: I leave",
    "interrupts": "KeyboardInterrupt",
    "is_cancelled": "CancelledError",
    "raises_what_cannot_be_shown": "Unspeakable",
    "breaks_memory": "the training process was killed by SIGSEGV",
    "is_killed": "the training process was killed by SIGKILL, perhaps because memory ran out; it last said: epoch 1 is",
    "gets_a_nameless_signal": "the training process was killed by signal 35",
    "opens_everything": "OSError: [Errno 24] Too many open files",
    "closes_everything": "the training process closed its line to the worker",
    "talks_nonsense": "the training process broke its line to the worker",
}


def study_of(bench, whats):
    file = bench.path / "wild.toml"
    choices = [f"{number} {what}" for number, what in enumerate(whats)]
    file.write_text(
        f'objective = "tests.running.test_trainer:train"\nstrategy = "grid"\nmetric = "loss"\n'
        f"[space]\nwhat = {json.dumps(choices)}\n"
    )
    return file


def train(settings, report):
    """The objective of the studies above."""
    return wild.train({**settings, "what": settings["what"].partition(" ")[2]}, report)


def is_gone(pid):
    return not os.path.exists(f"/proc/{pid}") or open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[0] == "Z"


def test_what_training_code_does_to_its_process_concerns_nobody_else(bench):
    """One worker trains all of it in one trainer, with a relative path to the folder."""
    master = bench.master(study_of(bench, HARMLESS), "--max-attempts", 1)
    worker = bench.start(
        "-P", ROOT / "worker.py", "--logs", "logs", "--objective", "tests.running.test_trainer:train",
        cwd=bench.path, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    said = bench.finish(worker)
    bench.finish(master)
    rows = bench.rows()
    assert [(row.status, row.error) for row in rows] == [(SUCCEEDED, None)] * len(HARMLESS), said
    assert len({row.metrics["pid"] for row in rows}) == 1 and rows[0].metrics["pid"] != worker.pid
    assert {row.metrics["directory"] for row in rows if "directory" in row.metrics} == {str(bench.path)}
    assert said.count("still heard") == said.count("here, too") == 3
    [left] = [row.metrics["left"] for row in rows if "left" in row.metrics]
    assert is_gone(left), "the process that it left behind lives on"
    printed = [bench.folder.output_of(name).read_text() for name in sorted(bench.names("seen"), key=str)]
    assert printed[0] == "epoch 1 is over\n"
    assert [text.count("epoch 1 is over") for text in printed] == [1] * len(HARMLESS), "each has its own output"


def test_whatever_ends_a_training_is_told_and_ends_nothing_else(bench):
    """Also without a limit of time: nobody waits for a dead or silent trainer."""
    whats = [*FATAL, "finds_its_directory_and_output"]
    master = bench.master(study_of(bench, whats), "--max-attempts", 1)
    worker = bench.start(
        "worker.py", "--logs", bench.logs, "--objective", "tests.running.test_trainer:train", preexec_fn=few_descriptors
    )
    said, _ = worker.communicate(timeout=60)
    bench.finish(master)
    assert worker.returncode == 0 and f"{len(whats) - len(FATAL)} trial trained" in said, said
    *rows, last = bench.rows()
    assert last.status == SUCCEEDED and "trouble" not in said
    for row, (what, reason) in zip(rows, FATAL.items(), strict=True):
        assert row.status == FAILED and row.error.startswith(reason), (what, row.error, said)
    trials = [bench.folder.read(name) for name in bench.names("lost")]
    assert {trial.claim["pid"] for trial in trials} == {worker.pid}
    segfault = bench.folder.output_of(next(n for n in bench.names("lost") if n.number == 5)).read_text()
    assert "Segmentation fault" in segfault and "wild.py" in segfault


def few_descriptors():
    import resource

    resource.setrlimit(resource.RLIMIT_NOFILE, (128, 128))


def start_endless(bench, *options, **how):
    """A worker that trains for ever, and the processes of its trainer and the trainer's helper."""
    file, pids = bench.path / "endless.toml", bench.path / "pids"
    file.write_text(
        'objective = "tests.wild:endless"\nstrategy = "random"\nmetric = "loss"\ntrials = 1\n'
        f'[fixed]\npids = "{pids}"\n[space]\nx = [1]\n'
    )
    bench.master(file, "--lease", 600)
    worker = bench.start("worker.py", "--logs", bench.logs, "--objective", "tests.wild:endless", *options, **how)
    trainer, helper = wait_for(lambda: pids.exists() and pids.read_text().split(), "the training")
    return worker, int(trainer), int(helper)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2])
def test_a_signal_for_the_whole_control_group_gives_the_trial_back(bench, number):
    """The helper gets it first, then the trainer, then the worker, as from Slurm. So the training raises an error."""
    worker, trainer, helper = start_endless(bench)
    os.kill(helper, number)
    time.sleep(0.05)
    for process in (trainer, worker.pid):
        os.kill(process, number)
    said = bench.finish(worker, 128 + number)
    assert "given back" in said
    assert [str(name) for name in bench.names("pending")] == ["trial-00000-2.jsonl"] and not bench.names("lost")
    assert is_gone(trainer) and is_gone(helper)


def test_a_killed_worker_takes_trainer_and_helpers_along(bench):
    worker, trainer, helper = start_endless(bench)
    worker.kill()
    wait_for(lambda: is_gone(trainer) and is_gone(helper), "their end")


def test_a_second_signal_within_a_moment_is_no_impatience(bench):
    """A supervisor passes on the signal that the system has sent to the whole group. A later one is impatient."""
    worker, epoch = start_careful(bench)
    os.kill(worker.pid, signal.SIGTERM)
    time.sleep(0.1)
    os.kill(worker.pid, signal.SIGTERM)
    assert "given back" in bench.finish(worker, 143)
    [checkpoint] = bench.folder.checkpoints.iterdir()
    assert int(checkpoint.read_bytes().rpartition(b"\n")[2]) >= epoch


def start_careful(bench):
    file = bench.path / "careful.toml"
    file.write_text(
        'objective = "tests.wild:careful"\nstrategy = "random"\nmetric = "loss"\ntrials = 1\n'
        "[fixed]\nepochs = 1000\n[space]\nx = [1]\n"
    )
    bench.master(file, "--lease", 600)
    worker = bench.start("worker.py", "--logs", bench.logs, "--objective", "tests.wild:careful")
    [name] = wait_for(lambda: bench.names("taken"), "the claim")
    wait_for(lambda: bench.folder.read(name).epochs, "an epoch")
    return worker, len(bench.folder.read(name).epochs)


def test_a_second_signal_later_stops_at_once(bench):
    """The training ignores the first one. Its trial is given back all the same."""
    bench.master(bench.study(trials=1, objective="heedless"), "--lease", 600)
    worker = bench.worker("heedless", "--grace", 600)
    [name] = wait_for(lambda: bench.names("taken"), "the claim")
    wait_for(lambda: bench.folder.read(name).epochs, "an epoch")
    worker.send_signal(signal.SIGTERM)
    time.sleep(2.5)
    assert worker.poll() is None
    worker.send_signal(signal.SIGTERM)
    assert "given back" in bench.finish(worker, 143)
    assert [str(name) for name in bench.names("pending")] == ["trial-00000-2.jsonl"]


@pytest.mark.parametrize("program", ["master", "worker"])
def test_a_signal_for_the_group_of_a_supervisor_saves_every_training(bench, program):
    """Each worker gets SIGTERM twice: from the system, and from its supervisor."""
    file = bench.path / "careful.toml"
    file.write_text(
        'objective = "tests.wild:careful"\nstrategy = "random"\nmetric = "loss"\ntrials = 3\n'
        "[fixed]\nepochs = 1000\n[space]\nx = { type = 'float', low = 0, high = 1 }\n"
    )
    if program == "master":
        first = bench.start("master.py", file, "--logs", bench.logs, "--workers", 3)
    else:
        bench.master(file)
        gpus = bench.path / "nvidia-smi"
        gpus.write_text("#!/bin/sh\nprintf '40000\\n40000\\n40000\\n'\n")
        gpus.chmod(0o755)
        first = bench.start(
            "worker.py", "--logs", bench.logs, "--objective", "tests.wild:careful", "--device", "all",
            env={**os.environ, "PATH": f"{bench.path}:{os.environ['PATH']}"},
        )  # fmt: skip
    running = wait_for(lambda: len(names := bench.names("taken")) == 3 and names, "three trainings")
    wait_for(lambda: all(bench.folder.read(name).epochs for name in running), "their first epochs")
    workers = [bench.folder.read(name).claim["pid"] for name in running]
    for pid in (*workers, first.pid):
        os.kill(pid, signal.SIGTERM)
    bench.finish(first, 143)
    assert sorted(str(name) for name in bench.names("pending")) == [f"trial-{n:05d}-2.jsonl" for n in range(3)]
    assert len(list(bench.folder.checkpoints.iterdir())) == 3 and not bench.names("lost")


def test_a_process_that_a_signal_has_found_dead_has_ended():
    process = Process([sys.executable, "-c", "pass"], StopSignals(), lambda data: None)
    wait_for(process.has_ended)
    process.signal(signal.SIGTERM)  # before that, Python looks whether it lives, and reaps it
    assert process.has_ended()
    process.end(1.0)
    assert process.how == "ended with exit code 0"


def test_what_a_training_prints_is_kept_up_to_a_limit(bench):
    file = bench.path / "loud.toml"
    file.write_text(
        'objective = "tests.wild:loud"\nstrategy = "random"\nmetric = "loss"\ntrials = 1\n[space]\nx = [1]\n'
    )
    bench.search(file, "--workers", 1, "--max-attempts", 1, code=3)
    [name] = bench.names("lost")
    kept = bench.folder.output_of(name).read_text()
    assert len(kept) < 1.1 * 2**20 and kept.startswith("the beginning\n") and kept.endswith(f"{49_999:099d}\n")
    assert "bytes are left out" in kept
    log = (bench.logs / "worker-1.log").read_text()  # it lies in the folder, too
    assert len(log) < 1.1 * 2**20 and "prints more than 1,048,576 bytes; of the rest, the end is kept in output/" in log
