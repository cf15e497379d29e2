"""A fault of a GPU that trials share costs none of them an attempt, but the one that causes it. MPS is pretended."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from foldertune.running.devices import show
from foldertune.running.shared_gpu import FAULT, SharedGPU
from foldertune.running.trainer import Trainer
from tests.launch.test_machine import pretend

TRIALS, SEED = 24, 25  # with these, no worker meets two faults in a row, or a third would count


@pytest.fixture
def sharing(tmp_path):
    """The environment of a worker that shares its GPU."""
    (tmp_path / "mps").mkdir()
    (tmp_path / "mps" / "control").touch()
    return {**os.environ, "CUDA_MPS_PIPE_DIRECTORY": str(tmp_path / "mps")}


def search(bench, *arguments, objective="on_shared_gpu", **environment):
    """Search with one worker. Returns the settings of all trials, and what the worker said."""
    master = bench.master(bench.study(trials=TRIALS, objective=objective, seed=SEED), "--max-attempts", 2)
    worker = bench.worker(objective, "--device", "cuda:0", *arguments, env=environment)
    said = bench.finish(worker)
    bench.finish(master)
    bench.assert_complete(TRIALS)
    return {row.trial: row for row in bench.rows()}, said


def test_a_trial_that_fails_by_the_fault_of_a_shared_gpu_goes_on_apart_and_loses_no_attempt(bench, sharing):
    rows, said = search(bench, **sharing)
    values = {number: row.settings["x"] for number, row in rows.items()}
    assert {min(int(10 * x), 9) for x in values.values()} >= {0, 1, 7, 9}, "each kind occurs"
    for number, x in values.items():
        lost = [name for name in bench.names("lost") if name.number == number]
        fails = x < 0.1 or x > 0.9
        assert (rows[number].error is not None) == fails and len(lost) == 2 * fails, (number, x)
        if not fails:
            assert rows[number].metrics["shared"] == (x >= 0.2)
        elif x < 0.1:
            assert "illegal memory access" in rows[number].error
    met = sum(x < 0.2 for x in values.values())
    assert said.count(f"given back: {FAULT}; next time it trains apart") == met
    (name,) = (
        name for name in bench.names("seen") if values[name.number] == max(x for x in values.values() if x < 0.2)
    )
    assert name.attempt == 2, "given back once"


def test_where_nothing_is_shared_a_fault_is_ones_own(bench, sharing, tmp_path):
    """Without MPS; and where the GPU is MPS's alone, so that no trial could train apart from it."""
    path = f"{pretend(tmp_path, 'nvidia-smi', 'echo Exclusive_Process')}:{os.environ['PATH']}"
    rows, said = search(bench, **{**sharing, "PATH": path})
    assert FAULT not in said
    assert all((row.error is not None) == (not 0.2 <= row.settings["x"] <= 0.9) for row in rows.values())
    Path(sharing["CUDA_MPS_PIPE_DIRECTORY"], "control").unlink()
    assert not SharedGPU(Trainer(None, "cuda:0", None)).has_failed({"error": "CUDA error: misaligned address"})


def test_a_worker_that_meets_one_fault_after_another_is_to_blame(sharing, monkeypatch):
    """Then its trials fail, and others see whether they succeed elsewhere: see `Doubts`."""
    monkeypatch.setenv("CUDA_MPS_PIPE_DIRECTORY", sharing["CUDA_MPS_PIPE_DIRECTORY"])
    gpu, fault = SharedGPU(Trainer(None, "cuda:0", None)), {"error": "cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"}
    assert [gpu.has_failed(fault) for _ in range(4)] == [True, True, False, False]
    assert not gpu.has_failed({"result": {}}) and gpu.has_failed(fault)
    assert not gpu.has_failed({"error": "CUDA error: out of memory"}) and not gpu.has_failed({"error": "no such layer"})


def test_a_command_trains_apart_too(bench, sharing, tmp_path):
    program = tmp_path / "train.py"
    program.write_text(
        "import os, sys\n"
        "if os.path.exists(os.environ['CUDA_MPS_PIPE_DIRECTORY'] + '/control'):\n"
        "    sys.exit('RuntimeError: CUDA error: unspecified launch failure\\nCompile with TORCH_USE_CUDA_DSA')\n"
        "print('{\"validation_error\": 0.5}')\n"
    )
    file = Path(bench.study(trials=2))
    file.write_text('objective = "command"\n' + file.read_text().partition("\n")[2])
    master = bench.master(file, "--max-attempts", 1)
    command = ("worker.py", "--logs", bench.logs, "--command", f"{sys.executable} {program}", "--device", "cuda:0")
    said = bench.finish(bench.start(*command, env=sharing))
    bench.finish(master)
    bench.assert_complete(2)
    assert said.count(FAULT) == 2 and not bench.names("lost") and all(row.error is None for row in bench.rows())


def test_what_hides_mps_changes_nothing_else(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert show("cuda:1") == ("cuda:1", 1, None)
    for device, alone in (("cuda:1", False), ("cuda:1", True), ("cuda:0,1", False)):
        plain, apart = show(device, alone=alone), show(device, alone=alone, apart=True)
        assert apart[:2] == plain[:2]
        changed = dict(set(apart.environment.items()) - set((plain.environment or os.environ).items()))
        assert changed == {"CUDA_MPS_PIPE_DIRECTORY": "/nonexistent"}
