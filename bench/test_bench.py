"""The benchmarks run, and count what they claim to count."""

from __future__ import annotations

import functools
import importlib.util
import json
import subprocess
import sys
import time

import pytest

from bench.coordination import time_journal, time_ours
from bench.training import flops
from tests.conftest import ROOT


@pytest.mark.parametrize("side", ["stock", "float32", "auto"])
def test_both_sides_train(side):
    command = [sys.executable, "-m", "bench.training", "--child", side, "3", "250", "0.1", str(time.time() - 60)]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=120).stdout
    measured = json.loads(said.splitlines()[-1])
    epoch = 5000 / measured["images per second"]
    assert 0 < epoch < measured["epoch seconds"] and measured["start seconds"] > 0


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
