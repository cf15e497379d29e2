"""`foldertune launch local`, and what a trial gets of the machine: GPUs, memory, cores."""

from __future__ import annotations

import importlib.util
import os
import re
import signal
import sys

import pytest

from foldertune.protocol import TrialName
from foldertune.rows import FAILED, SUCCEEDED
from foldertune.running.memory import in_words
from tests.conftest import PATIENCE, wait_for
from tests.launch.test_machine import gpus  # noqa: F401 (a fixture)
from tests.running.test_trainer import is_gone

ONE = 'objective = "command"\nstrategy = "grid"\nmetric = "loss"\n[space]\nlr = [0.1]\n'


def launch(bench, *arguments, objective="placed", **options):
    words = ("-m", "foldertune", "launch", "local", "--logs", bench.logs)
    own = ("--objective", f"tests.objectives:{objective}") if objective else ()
    return bench.start(*words, *own, *arguments, **options)


def test_workers_with_two_gpus_a_trial(bench, gpus):  # noqa: F811
    """Each trial sees its own GPUs alone, with the names that the workers' environment has for them."""
    gpus(*[81920] * 6)
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "5,4,1,0"}
    said = search(bench, "--gpus-per-trial", 2, env=environment)
    assert "workers here: 1 on cuda:0,1, 1 on cuda:2,3" in said
    metrics = [row.metrics for row in bench.rows()]
    assert {each["visible"] for each in metrics} == {"5,4", "1,0"}
    assert {(each["device"], each["gpus"], each["sharers"]) for each in metrics} == {("cuda", 2, 1)}
    assert {each["launcher"] for each in metrics} == {"local 1", "local 2"}


def test_a_command_is_told_how_many_gpus_it_has(bench, gpus):  # noqa: F811
    """By a worker that is started alone, which takes the first ones. Its options are said to be wrong before it begins."""
    gpus(*[81920] * 4)
    (bench.path / "one.toml").write_text(ONE)
    (bench.path / "train.sh").write_text('echo loss=1 gpus=$1\necho "{\\"on\\": \\"$2 $CUDA_VISIBLE_DEVICES\\"}"\n')
    master = bench.master(bench.path / "one.toml")
    words = ("--command", f"sh {bench.path}/train.sh {{gpus}} {{device}}", "--pattern", "name=value")
    said = bench.finish(launch(bench, *words, "--gpus-per-trial", 3, objective=None), 2)
    assert said.startswith("error: --gpus-per-trial 3: there are 4 GPUs here") and said.count("\n") == 1
    bench.finish(bench.start("worker.py", "--logs", bench.logs, *words, "--gpus-per-trial", 3))
    bench.finish(master)
    [row] = bench.rows()
    assert (row.metrics["gpus"], row.metrics["on"]) == (3, "cuda 0,1,2")


def search(bench, *arguments, **options):
    """Two workers train thirty trials, which are published when both wait for them. Returns what they said."""
    with open(bench.path / "said", "w") as said:
        workers = launch(bench, *arguments, stdout=said, **options)
    wait_for(lambda: (bench.path / "said").read_text().count("waiting for work") == 2, "two workers")
    bench.search(bench.study(trials=30, objective="placed"))
    assert workers.wait(PATIENCE) == 0
    return (bench.path / "said").read_text()


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two cores")
def test_workers_with_cores_of_their_own(bench):
    """As many workers as there are cores for. Another launcher has started this one. The master's workers do the same."""
    search(bench, "--cores", 1, "--workers", 2, env={**os.environ, "FOLDERTUNE_LAUNCHER": "ssh 3"})
    metrics = [row.metrics for row in bench.rows()]
    cores = {each["launcher"]: each["cores"] for each in metrics}
    assert sorted(cores) == ["ssh 3.1", "ssh 3.2"]
    assert sorted(cores.values()) == [[core] for core in sorted(os.sched_getaffinity(0))[:2]]
    assert {(each["gpus"], each["threads"]) for each in metrics} == {(0, 1)}
    bench.search(bench.study(trials=32, objective="placed"), "--workers", 1, "--cores", 2)
    assert [(row.metrics["launcher"], row.metrics["threads"]) for row in bench.rows()[30:]] == [("master 1", 2)] * 2


@pytest.mark.skipif(not os.path.exists("/proc/self/smaps_rollup"), reason="needs Linux's /proc")
def test_a_trial_that_takes_too_much_memory_fails_alone(bench):
    """Itself, or a child that has left its group, which ends with it. Pages that processes share count once."""
    study = bench.path / "hungry.toml"
    head = 'objective = "tests.objectives:hungry"\nstrategy = "grid"\nmetric = "validation_error"\n'
    study.write_text(f"{head}[space]\ntrial = [0, 1, 2, 3]\n")
    environment = {**os.environ, "HUNGER": "icsn"}
    said = bench.search(study, "--workers", 1, "--memory", "400M", "--max-attempts", 1, env=environment)
    rows = bench.rows()
    assert [row.status for row in rows] == [FAILED] * 2 + [SUCCEEDED] * 2, said
    assert [row.error for row in rows[:2]] == ["the training process took more than 400 MiB of memory"] * 2
    [report] = bench.folder.read(TrialName(1, 1, "lost")).epochs
    assert is_gone(report["child"])
    assert "starting it again" not in said
    assert (in_words(2**33), in_words(3 * 2**29), in_words(2**24)) == ("8 GiB", "1.5 GiB", "16 MiB")


def test_workers_in_the_background(bench):
    """They outlive the command, and end with the study. What is wrong is said before."""
    said = bench.finish(launch(bench, "--detach", "--cores", "9999"), 2)
    assert "--cores 9999" in said and not bench.logs.exists()
    assert "there is no such directory" in bench.finish(launch(bench, "--detach"), 2)
    bench.logs.mkdir()
    said = bench.finish(launch(bench, "--workers", 1, "--detach"))
    log, process = re.search(r"print to (.*); to end them: kill (\d+)", said).groups()
    assert os.path.dirname(log) == str(bench.logs / "launch")
    wait_for(lambda: "waiting for work" in open(log).read(), "its worker")
    bench.search(bench.study(trials=2, objective="placed"))
    wait_for(lambda: is_gone(int(process)), "its end")
    assert "2 trials trained" in open(log).read() and bench.rows()[0].metrics["launcher"] == "local 1"


def test_workers_hear_that_the_time_is_up(bench):
    """They can say then whether a next one would fare better: Slurm warns the one that has started them."""
    bench.master(bench.study(trials=2, objective="stuck"))
    wait_for(bench.folder.read_study, "the study")
    own = launch(bench, "--workers", 1, "--objective", "tests.objectives:stuck")
    bench.wait_for_training()
    own.send_signal(signal.SIGUSR1)
    assert "stopped by SIGUSR1" in bench.finish(own, 128 + signal.SIGUSR1)


def test_what_has_left_the_group_ends_with_its_worker_too(bench):
    """Though the worker is killed, and can't see to it."""
    (bench.path / "one.toml").write_text(ONE)
    bench.master(bench.path / "one.toml")
    words = "sh -c 'setsid sleep 600 & echo $! > {out}/child; wait'"
    worker = bench.start("worker.py", "--logs", bench.logs, "--command", words)
    child = bench.logs / "out" / "trial-00000" / "child"
    process = int(wait_for(lambda: child.exists() and child.read_text(), "the child"))
    worker.kill()
    wait_for(lambda: is_gone(process), "its end")


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed: pip install torch")
def test_torchrun_trains_a_trial_with_two_processes(bench):
    """On CPUs, with the backend gloo. The example of the documentation does the same on GPUs."""
    from tests.test_docs import OBJECTIVES

    script = OBJECTIVES.split("# ddp.py\n")[1].split("```")[0]
    (bench.path / "ddp.py").write_text(script)
    (bench.path / "ddp.toml").write_text(ONE)
    master = bench.master(bench.path / "ddp.toml")
    words = f"{sys.executable} -m torch.distributed.run --standalone --nproc-per-node 2 {bench.path}/ddp.py --lr {{lr}}"
    workers = launch(bench, "--workers", 1, "--command", words, objective=None)
    said = workers.communicate(timeout=PATIENCE)[
        0
    ]  # on a busy machine, gloo sometimes aborts at its end (PyTorch 2.15)
    assert workers.returncode == 0, said
    bench.finish(master)
    rows = bench.rows()
    assert [row.status for row in rows] == [SUCCEEDED], said
    (seen,) = bench.names("seen")
    assert rows[0].metrics["processes"] == 2 and len(bench.folder.read(seen).epochs) == 5
