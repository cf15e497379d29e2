"""The benchmarks run, and count what they claim to count."""

from __future__ import annotations

import functools
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from bench import gpu, replay
from bench.coordination import time_journal, time_ours
from bench.crowd import Case, simulate_apart
from bench.operations import MASTER, WORKER, Search, of_a_trial
from bench.training import flops
from foldertune.fidelity import Fidelity
from foldertune.strategies import STRATEGIES
from foldertune.strategies.plain import RandomSearch
from tests.conftest import ROOT


@pytest.mark.parametrize("side", ["stock", "float32", "auto"])
def test_both_sides_train(side):
    command = [sys.executable, "-m", "bench.training", "--child", side, "3", "250", "0.1", str(time.time() - 60)]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=120).stdout
    measured = json.loads(said.splitlines()[-1])
    epoch = 5000 / measured["images per second"]
    assert 0 < epoch < measured["epoch seconds"] and measured["start seconds"] > 0


def test_what_a_gpu_will_check_and_measure_runs(tmp_path):
    """In small, on the CPU, where all checks hold. Without a GPU and without these options, it says so in one line."""
    command, out = [sys.executable, "-m", "bench.gpu"], tmp_path / "gpu.json"
    done = subprocess.run(
        [*command, "--device", "cpu", "--tiny", "--out", out], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    figures = json.loads(out.read_text())["figures"]
    assert list(figures) == list(gpu.ALL) and done.stdout.count(": holds") == 3
    assert figures["curves as on the CPU"]["largest relative difference"] == 0
    assert figures["graphs against steps"]["bfloat16"]["relative difference"] == 0
    assert all(rate > 0 for rate in figures["several at once"]["as it is"].values())
    without = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=without)
    assert done.returncode == 2 and done.stderr.startswith("error: bench.gpu: PyTorch sees no GPU here")


def test_a_check_that_fails_is_said_and_the_others_go_on(monkeypatch):
    def broken(size, device):
        raise RuntimeError("no kernel image\nis available")

    monkeypatch.setattr(gpu, "ALL", {"one": broken, "two": lambda size, device: {"ok": False}, "three": lambda *_: {}})
    said = []
    figures = gpu.measure_all(gpu.TINY, "cpu", said.append)
    assert figures["one"]["error"] == "RuntimeError: no kernel image is available" and figures["three"] == {}
    assert "one: DOES NOT HOLD" in said[0] and "two: DOES NOT HOLD" in said[2] and "three: measured" in said[4]


def test_arithmetic_of_an_image():
    assert round(flops(32) / 1e6, 1) == 13.4


@pytest.mark.parametrize("library", ["optuna", "rustuna"])
def test_the_coordination_benchmark_runs(tmp_path, library):
    if importlib.util.find_spec(library) is None:
        pytest.skip(f"{library} is not installed: pip install -r requirements-dev.txt")
    for name, measure in (("ours", time_ours), (library, functools.partial(time_journal, library))):
        (tmp_path / name).mkdir()
        assert measure(tmp_path / name, 2, 40) > 0


def test_the_headline_is_measured_once_for_each_kind_and_seed(tmp_path):
    if importlib.util.find_spec("optuna") is None:
        pytest.skip("optuna is not installed: pip install -r requirements-dev.txt")
    kept = tmp_path / "headline.json"
    told = ["--seeds", "0", "--trainings", "1", "--epochs", "3", "--workers", "1", "--results", str(kept)]
    command = [sys.executable, "-m", "bench.headline", *told]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=300).stdout
    before = kept.read_text()
    searches = {each["kind"]: each for each in json.loads(before)["searches"]}
    assert list(searches) == ["random", "hyperband", "auto"] and all(
        each["course"][-1][1] > 0 for each in searches.values()
    )
    assert (
        searches["auto"]["target"] == searches["random"]["course"][-1][1]
        and f"until a validation loss of {searches['auto']['target']:.5g}" in said
    )
    subprocess.run(command, cwd=ROOT, check=True, timeout=300)
    assert kept.read_text() == before, "what is there is not measured again"


@pytest.mark.skipif(not shutil.which("strace"), reason="strace is missing: apt-get install strace (it counts calls)")
def test_what_a_trial_asks_of_the_folder(tmp_path):
    """These numbers times a thousand workers reach one file server: a call more for each trial is to be decided."""
    new_search = functools.partial(Search, tmp_path)
    of_worker = {"rename": 2.4, "sync": 1, "write": 1.8, "open": 4.5, "read": 4, "list": 1.5, "look": 1}
    worker = asked(lambda: of_a_trial(WORKER, MASTER, new_search), of_worker)
    of_master = {"rename": 2.4, "sync": 0, "write": 1.8, "open": 7, "read": 5, "list": 5, "look": 7}
    master = asked(lambda: of_a_trial(MASTER, WORKER, new_search), of_master)
    assert round(worker["rename"]) == round(master["rename"]) == 2, "claim and hand-in, publish and collect"
    assert worker["sync"] == 1


def asked(measure, most):
    """What was counted, at most `most` of each kind. A busy machine adds to it: one of three counts has to hold."""
    for _ in range(3):
        counted = measure()
        print(counted)
        if not (over := [kind for kind in most if counted[kind] > most[kind]]):
            return counted
    raise AssertionError((over, counted))


def test_two_hundred_workers_in_virtual_time():
    """Nobody waits for work, claims seldom collide, and the file server has little to do."""
    found = simulate_apart(Case(workers=200, lasts=10.0))
    print(found)
    assert found["gap of the slowest of a hundred"] < 0.5 and found["lost claims"] < 0.1
    assert found["calls a second"] < 80 * 200 / 10


def test_a_replayed_search_spends_its_budget_and_has_one_trial_ready(monkeypatch):
    """With one worker, a proposal knows all results but that of the trial before, which runs; with two, of both."""
    known = []

    class Counting(RandomSearch):
        is_adaptive = True

        def propose(self, number, history):
            known.append((number, len(history.counted)))
            return super().propose(number, history)

    monkeypatch.setitem(STRATEGIES, "counting", Counting)
    table = replay.Table.read("wide")
    study = replace(table.study, strategy="counting", fixed={"epochs": 27}, fidelity=Fidelity("epochs", 1))
    for workers in (1, 2):
        known.clear()
        ends = list(replay.replay(study, table.loss, 6 * 27, workers))
        assert [ended.time for ended in ends] == [27 * (1 + k // workers) for k in range(6)]
        assert ends[-1].spent == 6 * 27
        assert known[: workers + 2] == [(number, max(0, number - workers)) for number in range(workers + 2)]


def test_replays_are_kept_and_only_what_is_missing_is_replayed(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(replay, "RESULTS", tmp_path)
    monkeypatch.setattr(replay, "METHODS", {name: replay.METHODS[name] for name in ("random", "asha", "hyperband")})
    replay.measure_tables(["wide"], 2, [2], [1])
    path, first = tmp_path / "replay-tables.json", capsys.readouterr().out
    before = json.loads(path.read_text())
    assert [each["method"] for each in before["searches"]] == ["random", "asha", "hyperband", "optuna"]
    assert all(0 < share <= 1 or share == float("inf") for each in before["searches"] for share in each["shares"])
    changed = path.stat().st_mtime_ns
    replay.measure_tables(["wide"], 2, [2], [1])
    assert path.stat().st_mtime_ns == changed and capsys.readouterr().out == first
    replay.measure_tables(["wide"], 2, [2], [1, 8])
    assert json.loads(path.read_text())["searches"][:4] == before["searches"]
    text = path.read_text().replace(f'"version": {replay.VERSION}', '"version": 1')
    path.write_text(text)
    replay.measure_tables(["wide"], 2, [2], [1, 8])
    assert json.loads(path.read_text())["searches"][:4] == before["searches"], "measured again"
    replay.measure_tables(["wide"], 2, [2], [1], 100)
    assert {each["rows"] for each in json.loads(path.read_text())["searches"][:4]} == {100}
    replay.measure_tables(["wide"], 3, [2], [1])
    assert [len(each["shares"]) for each in json.loads(path.read_text())["searches"]] == [3] * 4 + [2] * 4
