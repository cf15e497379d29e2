"""Cores and GPUs of a machine, and several workers on it. A program that answers like nvidia-smi pretends the GPUs."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys

import pytest

from foldertune.errors import UserError
from foldertune.launch import local, machine
from foldertune.launch.gpus import AMD_HIDES, list_gpus, parts_are_seen
from foldertune.running.time_left import TimeLeft
from tests.conftest import ROOT, children_of, wait_for


def pretend(path, name, script):
    """Put a program on the path that answers like a driver's tool."""
    program = path / "bin" / name
    program.parent.mkdir(exist_ok=True)
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return program.parent


@pytest.fixture
def gpus(tmp_path, monkeypatch):
    """Pretend that the machine has GPUs with these numbers of MiB, which nvidia-smi may also list with their parts."""
    for name in (*AMD_HIDES, "CUDA_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)

    def have(*memories, parts=""):
        numbers = " ".join(f"'{memory}'" for memory in memories)
        script = f"""[ "$1" = -L ] && echo '{parts}' && exit\nprintf '%s\\n' {numbers}"""
        monkeypatch.setenv("PATH", f"{pretend(tmp_path, 'nvidia-smi', script)}:{os.environ['PATH']}")

    return have


def test_cores_are_those_that_we_may_use():
    code = "from foldertune.launch.machine import count_cores; print(count_cores())"
    command = ["taskset", "--cpu-list", str(min(os.sched_getaffinity(0))), sys.executable, "-c", code]
    assert subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout == "1\n"


def group(root, controllers, path, **files):
    """A control group, and the line of /proc/self/cgroup that says we are in it."""
    place = root / ("cpu" if controllers else ".") / path.lstrip("/")
    place.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (place / name.replace("__", ".")).write_text(f"{content}\n")
    return f"3:{controllers}:{path}" if controllers else f"0::{path}"


@pytest.mark.parametrize(
    ("groups", "cores"),
    [
        ([], 16),
        ([("", "/", {"cpu__max": "max 100000"})], 16),
        ([("", "/", {"cpu__max": "150000 100000"})], 2),
        ([("", "/job/step", {}), ("", "/job", {"cpu__max": "300000 100000"})], 3),
        ([("", "/job/step", {"cpu__max": "800000 100000"}), ("", "/job", {"cpu__max": "300000 100000"})], 3),
        ([("", "/", {"cpu__max": "5000 100000"})], 1),
        ([("", "/", {"cpu__max": "nonsense"})], 16),
        ([("cpu,cpuacct", "/", {"cpu.cfs_quota_us": 400000, "cpu.cfs_period_us": 100000})], 4),
        ([("cpu,cpuacct", "/", {"cpu.cfs_quota_us": -1, "cpu.cfs_period_us": 100000})], 16),
        ([("cpu", "/docker/abc", {}), ("cpu", "/", {"cpu.cfs_quota_us": 200000, "cpu.cfs_period_us": 100000})], 2),
        ([("memory", "/", {"cpu.cfs_quota_us": 100000, "cpu.cfs_period_us": 100000})], 16),
        ([("", "/", {"cpu__max": "6400000 100000"})], 16),
    ],
)
def test_cores_are_those_that_a_quota_allows(tmp_path, monkeypatch, groups, cores):
    """Quotas of both versions of control groups count, of our group and its parents. A container sees its own as root."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(16)))
    lines = [group(tmp_path, controllers, path, **files) for controllers, path, files in groups]
    (tmp_path / "own").write_text("\n".join(["7:pids:/", *lines[:1]]) + "\n")
    assert machine.count_cores(tmp_path, tmp_path / "own") == cores
    assert machine.count_cores(tmp_path, tmp_path / "nothing") == 16


def test_local_workers_run_the_checkout_or_the_installed_package(monkeypatch, tmp_path):
    assert local.worker_command() == [sys.executable, str(ROOT / "worker.py")]
    monkeypatch.setattr(local, "HOME", tmp_path)
    assert local.worker_command() == [sys.executable, "-P", "-m", "foldertune", "worker"]


def test_gpus_are_those_that_cuda_sees(gpus, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    assert list_gpus() == []
    monkeypatch.undo()
    gpus(81920, 40960, "[N/A]")
    assert list_gpus() == [81920, 40960, 0]
    for visible, seen in {"": [], "1": [40960], "1,0": [40960, 81920], "0,-1,1": [81920], "7": []}.items():
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        assert list_gpus() == seen, visible
    gpus(81920, 40960)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-5c89852c,GPU-8932f937")
    assert list_gpus() == [40960, 40960]  # not more than any has


def test_a_part_of_a_gpu_has_a_memory_of_its_own(gpus, monkeypatch):
    parts = """GPU 0: NVIDIA A100-SXM4-80GB (UUID: GPU-aaaa1111)
  MIG 1g.10gb     Device  0: (UUID: MIG-bbbb2222)
  MIG 3g.40gb     Device  1: (UUID: MIG-cccc3333)
GPU 1: NVIDIA A100-SXM4-80GB (UUID: GPU-dddd4444)
  MIG 1g.10gb+me  Device  0: (UUID: MIG-GPU-dddd4444/7/0)
GPU 2: NVIDIA L4 (UUID: GPU-eeee5555)"""
    gpus(81920, 81920, 23034, parts=parts)
    assert list_gpus() == [10240, 10240, 23034]  # of a divided GPU, a process sees the first part
    for visible, seen in {
        "MIG-cccc3333": [40960],
        "MIG-bbbb": [10240],
        "MIG-GPU-dddd4444/7/0": [10240],
        "GPU-eeee5555,0": [23034, 10240],
        "GPU-eeee": [23034],
        "MIG-unknown": [10240],  # not more than any has
    }.items():
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        assert list_gpus() == seen, visible
    monkeypatch.setattr(machine, "count_cores", lambda: 16)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-cccc3333")
    assert machine.choose_devices("auto", None) == ["cuda:0"] * 8


def test_gpus_of_other_makers(gpus, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", f"{pretend(tmp_path, 'nvidia-smi', 'exit 9')}:{os.environ['PATH']}")
    monkeypatch.setattr("platform.system", lambda: "Darwin")
    monkeypatch.setattr("platform.machine", lambda: "arm64")
    assert machine.choose_devices("auto", workers=1) == machine.choose_devices("all") == ["mps"]
    monkeypatch.undo()
    answer = "device,VRAM Total Memory (B),VRAM Total Used Memory (B)\ncard0,68702699520,9\ncard1,17163091968,9\n"
    directory = pretend(tmp_path, "rocm-smi", f"printf '{answer}'")
    monkeypatch.setenv("PATH", f"{directory}:{os.environ['PATH']}")
    assert machine.choose_devices("all") == ["cuda:0", "cuda:1"]
    monkeypatch.setenv("HIP_VISIBLE_DEVICES", "1")
    assert machine.find_gpus() == {"cuda:0": 16368}


def test_a_training_is_always_given_a_real_device(bench, gpus, monkeypatch):
    """Also by a worker that is told nothing."""
    monkeypatch.setenv("TRIALS_PER_GPU", "1")
    master = bench.master(bench.study(trials=1, objective="placed"))
    gpus(81920)
    bench.finish(bench.worker("placed"))
    bench.finish(master)
    assert [row.metrics["device"] for row in bench.rows()] == ["cuda:0"]


def test_a_driver_without_gpus_is_no_gpu(gpus, tmp_path):
    gpus()
    (tmp_path / "bin" / "nvidia-smi").write_text("#!/bin/sh\necho 'No devices were found'; exit 6\n")
    assert list_gpus() == []
    assert machine.choose_devices("auto", workers=2) == ["cpu", "cpu"]


def test_devices_of_workers(gpus, monkeypatch):
    monkeypatch.setattr(machine, "count_cores", lambda: 6)
    gpus(81920, 81920)
    assert machine.choose_devices("all") == ["cuda:0", "cuda:1"]
    assert machine.choose_devices("all", 2) == ["cuda:0", "cuda:1", "cuda:0", "cuda:1"]
    assert machine.choose_devices("all", workers=3) == ["cuda:0", "cuda:1", "cuda:0"]
    assert machine.choose_devices("auto", 3) == ["cuda:0"] * 3
    assert machine.choose_devices("cuda:1", 2) == ["cuda:1"] * 2
    assert machine.choose_devices("cpu") == ["cpu"] * 6
    assert machine.choose_devices("all", None) == ["cuda:0", "cuda:1"] * 3  # by its cores
    assert machine.choose_devices("auto", None) == ["cuda:0"] * 6
    gpus(10000, 81920)
    assert machine.choose_devices("all", None) == ["cuda:0", "cuda:1"] * 2  # by the smallest GPU's memory
    monkeypatch.setattr(machine, "count_cores", lambda: 128)
    gpus(81920)
    assert machine.choose_devices("all", None) == ["cuda:0"] * 8
    gpus(1000)
    assert machine.choose_devices("all", None) == ["cuda:0"]


def test_groups_of_gpus(gpus, monkeypatch):
    """Each trial has several. What does not fit is said, with what would."""
    gpus(81920, 81920, 81920, 81920)
    assert machine.choose_devices("all", gpus_per_trial=2) == ["cuda:0,1", "cuda:2,3"]
    assert machine.choose_devices("all", gpus_per_trial=4, trials_per_gpu=2) == ["cuda:0,1,2,3"] * 2
    assert machine.choose_devices("all", gpus_per_trial=2, workers=3) == ["cuda:0,1", "cuda:2,3", "cuda:0,1"]
    assert machine.choose_devices("auto", gpus_per_trial=3) == ["cuda:0,1,2"]
    assert machine.choose_devices("cuda:1,3", gpus_per_trial=2) == machine.choose_devices("cuda:1,3") == ["cuda:1,3"]

    def complaint(wish, gpus_per_trial):
        with pytest.raises(UserError) as caught:
            machine.choose_devices(wish, gpus_per_trial=gpus_per_trial)
        return str(caught.value)

    assert "there are 4 GPUs here, and 1 would be idle; give a number that divides 4, or say which to use: " in (
        said := complaint("all", 3)
    )
    assert said.endswith("CUDA_VISIBLE_DEVICES=0,1,2")
    assert "--gpus-per-trial 5: there are 4 GPUs here" in complaint("all", 5)
    assert "--device cuda is another number; leave --device out, or name all: cuda:0,1" in complaint("cuda", 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-a,3,1")
    assert machine.choose_devices("auto", gpus_per_trial=3) == ["cuda:0,1,2"]  # as PyTorch numbers what it sees
    assert complaint("all", 2).endswith("CUDA_VISIBLE_DEVICES=GPU-a,3")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-a,MIG-b")
    assert "divided into parts (MIG), of which a process uses one only" in complaint("all", 2)
    parts = "GPU 0: A (UUID: GPU-a)\n  MIG 1g.10gb     Device  0: (UUID: MIG-b)\nGPU 1: A (UUID: GPU-c)\nGPU 2: A (UUID: GPU-d)"
    gpus(81920, 81920, 81920, parts=parts)
    for visible, is_divided in (("0,1", True), ("GPU-a,1", True), ("2,1", False), ("GPU-c,2", False)):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        assert parts_are_seen() == is_divided, visible
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert "there is no GPU here" in complaint("all", 2)


def test_cores_of_each_worker(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {1, 3, 5, 7, 9})
    monkeypatch.setattr(machine, "count_cores", lambda: 5)
    assert machine.split_cores(2, 2) == [{1, 3}, {5, 7}]
    assert machine.choose_devices("cpu", cores=2) == ["cpu"] * 2
    with pytest.raises(UserError, match="--cores 2: 3 workers would have 6 cores, there are 5 here; start fewer"):
        machine.split_cores(3, 2)


def test_workers_of_one_gpu(bench, gpus, monkeypatch):
    """Three processes share a GPU. Each has its own trial, and all know their number."""
    gpus(81920, 81920)
    monkeypatch.setenv("CUDA_MPS_PIPE_DIRECTORY", str(bench.path))  # MPS is not running
    master = bench.master(bench.study(trials=30, objective="placed"))
    worker = bench.worker("placed", "--device", "all", "--trials-per-gpu", 3)
    bench.finish(master)
    said = bench.finish(worker)
    assert "workers here: 3 on cuda:0, 3 on cuda:1" in said and "nvidia-cuda-mps-control -d" in said
    bench.assert_complete(30)
    rows = bench.rows()
    assert {row.metrics["device"] for row in rows} == {"cuda:0", "cuda:1"}
    assert {row.metrics["sharers"] for row in rows} == {3}
    assert len({row.worker for row in rows}) == 6


def test_equal_results_one_at_a_time_and_several_at_once(bench, tmp_path):
    tables = []
    for number, workers in enumerate((1, 2)):
        logs = tmp_path / str(number)
        study = tmp_path / f"{number}.toml"
        study.write_text(
            'strategy = "random"\ntrials = 6\nmetric = "validation_error"\n[fixed]\nepochs = 1\ndata = "small"\n'
            "[space]\nlearning_rate = { type = 'float', low = 0.01, high = 0.3 }\n"
            "filters = { type = 'int', low = 1, high = 9 }\nbatch_size = { type = 'int', low = 50, high = 500 }\n"
        )
        bench.finish(bench.start("master.py", study, "--logs", logs, "--workers", workers, "--device", "cpu"))
        lines = (logs / "results.csv").read_text().splitlines()
        header = lines[0].split(",")
        same = [header.index(name) for name in ("validation_error", "test_loss", "training_loss", "parameters")]
        tables.append([[line.split(",")[column] for column in same] for line in lines[1:]])
        assert {line.split(",")[header.index("trials_on_device")] for line in lines[1:]} == {"1"}
    assert tables[0] == tables[1] and len(tables[0]) == 6


def test_one_that_dies_does_not_take_the_others_along(bench, gpus):
    """Some trials kill their worker. The other workers continue, and the dead ones are started again."""
    gpus(81920)
    master = bench.master(bench.study(trials=12, objective="murderous", seed=2), "--max-attempts", 1)
    worker = bench.worker("murderous", "--trials-per-gpu", 2)
    bench.finish(master)
    said = bench.finish(worker)
    rows = bench.rows()
    assert len(rows) == 12 and {row.status for row in rows} == {"succeeded", "failed"}
    assert "was killed by SIGKILL, perhaps because memory ran out; starting it again (1 of 3 times)" in said


def test_a_worker_that_is_started_again_has_the_time_that_is_left(monkeypatch):
    """And none is started where none is left."""
    now, told, said = [1000.0], [], []

    class Process:
        pid, returncode = 1, -9

        def __init__(self, command, **options):
            told.append(command[command.index("--time-left", command.index("--parent")) + 1])

        def poll(self):
            return self.returncode

    monkeypatch.setattr(local.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(local.subprocess, "Popen", Process)
    monkeypatch.setattr(local, "reap_orphans", lambda known: None)
    monkeypatch.setattr(local, "let_others_finish", lambda process: None)
    options, left = ["--time-left", "45"], TimeLeft(45.0, grace=5.0)
    workers = local.LocalWorkers(["cpu"], options, None, said.append, time_left=left)
    workers.start()
    now[0] += 20.0
    for _ in range(2):  # it is buried, and started again
        workers.look_after(lambda: 0)
    assert told == ["45.000", "25.000"]
    now[0] += 11.0
    for _ in range(2):
        workers.look_after(lambda: 0)
    assert len(told) == 2 and workers.all_gone and "too little time is left to start it again" in said[-1]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_all_give_their_trials_back(bench, gpus, number):
    gpus(81920)
    bench.master(bench.study(trials=4, objective="stuck"))
    worker = bench.worker("stuck", "--trials-per-gpu", 2)
    wait_for(lambda: len(bench.names("taken")) == 2, "two trials to be claimed")
    worker.send_signal(number)
    said = bench.finish(worker, 128 + number)
    assert said.count("given back") == 2
    wait_for(lambda: not bench.names("taken"), "both trials to be pending again")


def test_all_end_with_their_supervisor(bench, gpus):
    gpus(81920)
    bench.master(bench.study(trials=4, objective="stuck"))
    worker = bench.worker("stuck", "--trials-per-gpu", 2)
    wait_for(lambda: len(bench.names("taken")) == 2, "two trials to be claimed")
    worker.kill()
    wait_for(lambda: not bench.names("taken"), "both workers to give their trials back")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--trials-per-gpu", "0"], "--trials-per-gpu: must be at least 1"),
        (["--device", "cpu", "--trials-per-gpu", "2"], "--trials-per-gpu: 'cpu' is not a GPU"),
        (["--device", "cpu", "--trials-per-gpu", "auto"], "--trials-per-gpu: 'cpu' is not a GPU"),
        (["--trials-per-gpu", "two"], "--trials-per-gpu"),
        (["--device", "all", "--objective", "nothing:here"], "can't import nothing"),
        (["--memory", "8"], "--memory: must be a size such as 8G or 500M, at least 16M, not '8'"),
        (["--memory", "8X"], "--memory: must be a size"),
        (["--cores", "9999"], "--cores 9999: 1 worker would have 9999 cores"),
        (["--device", "cpu", "--gpus-per-trial", "2"], "--gpus-per-trial 2: --device cpu is another number"),
    ],
)
def test_bad_options(bench, options, said):
    complaint = bench.finish(bench.start("worker.py", "--logs", bench.logs, *options), 2)
    assert said in complaint


def test_by_default_a_worker_on_each_core(bench):
    """There are no more workers, whatever the environment says about threads."""
    study, one = bench.study(trials=3, objective="placed"), str(min(os.sched_getaffinity(0)))
    command = ["taskset", "--cpu-list", one, sys.executable, "master.py", study, "--logs", str(bench.logs)]
    environment = {**os.environ, "OMP_NUM_THREADS": "64", "PATH": os.path.dirname(str(shutil.which("taskset")))}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, env=environment)
    assert done.returncode == 0 and "workers here: 1 on cpu; more workers" in done.stdout
    bench.assert_complete(3)
    assert {row.metrics["threads"] for row in bench.rows()} == {1}


@pytest.mark.skipif(not hasattr(os, "SCHED_BATCH"), reason="scheduling policies are Linux's own")
@pytest.mark.parametrize(
    ("cores", "given", "then"),
    [(1, "SCHED_OTHER", "SCHED_BATCH"), (2, "SCHED_OTHER", "SCHED_OTHER"), (1, "SCHED_IDLE", "SCHED_IDLE")],
)
def test_more_workers_than_cores_let_each_other_finish(bench, cores, given, then):
    """Workers and their trainers. A policy that a person gave them stays."""
    program = f"import os, sys; os.sched_setscheduler(0, os.{given}, os.sched_param(0)); "
    program += "import foldertune.launch.local as local; from foldertune.cli import run; "
    program += f"local.count_cores = lambda: {cores}; run('master')"
    bench.start("-c", program, bench.study(trials=2, objective="stuck"), "--logs", bench.logs, "--workers", 2)
    workers = [trial.claim["pid"] for trial in bench.wait_for_training(2)]
    trainers = [trainer for pid in workers for trainer in children_of(pid)]
    assert {os.sched_getscheduler(pid) for pid in (*workers, *trainers)} == {getattr(os, then)} and len(trainers) > 1
