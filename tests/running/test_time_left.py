"""A worker whose machine is taken away at a known time: see foldertune/running/time_left.py."""

from __future__ import annotations

import math
import os

import pytest

from foldertune.errors import UserError
from foldertune.protocol import Folder
from foldertune.running import time_left
from foldertune.running.signals import StopSignals
from foldertune.running.time_left import RESERVE, TimeLeft
from foldertune.running.trainer import Trainer
from foldertune.running.worker import Worker
from tests.conftest import wait_for


def test_a_trial_that_saves_its_state_can_be_begun_until_the_alarm():
    left = TimeLeft(100.0, grace=5.0)
    left.learn(90.0, saves_state=True, is_over=True)
    assert not left.is_short()
    left.check()


def test_a_trial_that_saves_nothing_needs_as_long_as_the_longest_so_far(monkeypatch):
    now = 1000.0
    monkeypatch.setattr(time_left.time, "monotonic", lambda: now)
    left = TimeLeft(100.0, grace=5.0)
    left.learn(30.0, saves_state=False, is_over=True)
    left.learn(2.0, saves_state=False, is_over=True)
    now += 100.0 - 5.0 - RESERVE - 30.5
    assert not left.is_short()
    now += 1.0
    assert left.is_short()
    left.check()
    left.learn(43.0, saves_state=False, is_over=True)
    left.check()  # it has come to an end, so another one would, too
    left.learn(43.0, saves_state=False, is_over=False)
    with pytest.raises(UserError, match="saves no state"):
        left.check()


def test_without_an_end_nothing_is_too_long():
    left = TimeLeft(None, grace=5.0)
    left.learn(1e9, saves_state=False, is_over=False)
    assert not left.is_short()
    left.check()


def test_a_time_too_short_to_save_anything_is_an_error():
    with pytest.raises(UserError, match=r"--time-left: 25 s are too short"):
        TimeLeft(25.0, grace=20.0)


def test_a_worker_leaves_a_trial_that_it_could_not_finish_to_others(folder, pending):
    folder.write_study({"metric": "loss"})
    signals = StopSignals()
    worker = Worker(Folder(folder.path), "mine:train", Trainer(signals, "cpu", None), signals, time_left=1000.0)
    worker.time_left.learn(1000.0, saves_state=False, is_over=True)
    assert worker.wait_for_claim() is None and worker.is_out_of_time
    assert folder.names() == [pending]
    worker.time_left = TimeLeft(math.inf, 20.0)
    assert worker.wait_for_claim().name.number == pending.number


def test_a_worker_saves_its_trial_before_the_end_and_another_goes_on(bench):
    hold = bench.path / "hold"
    hold.touch()
    environment = os.environ | {"HOLD": str(hold)}
    master = bench.master(bench.study(trials=1, objective="enduring"))
    said = bench.finish(bench.worker("enduring", "--time-left", 13, "--grace", 1, env=environment))
    assert "its time is nearly up; 0 trials trained" in said and "given back" in said
    hold.unlink()
    assert "resumes from" in bench.finish(bench.worker("enduring", env=environment))
    bench.finish(master)
    bench.assert_complete(1)


def test_a_command_that_has_a_directory_can_be_stopped_and_goes_on(bench):
    """It finds in `{out}` what it has saved, so its worker's end is in good order, and its job comes back."""
    script = bench.path / "train.sh"
    script.write_text("trap 'echo saved; exit 0' TERM\nwhile true; do sleep 0.1; done\n")
    file = bench.path / "command.toml"
    file.write_text('strategy = "grid"\nmetric = "loss"\n[space]\nlr = [0.1]\n')
    bench.start("master.py", file, "--logs", bench.logs, "--workers", 0, "--command", f"sh {script} {{out}}")
    wait_for(bench.folder.read_study, "the study")
    own = ["--command", f"sh {script} {{out}}", "--time-left", 17, "--grace", 1]
    said = bench.finish(bench.start("worker.py", "--logs", bench.logs, *own))
    assert "given back" in said and "its time is nearly up" in said and "saved" in said


def test_a_trial_that_neither_ends_nor_saves_is_an_error_in_one_line(bench):
    bench.master(bench.study(objective="stuck"))
    wait_for(bench.folder.read_study, "the study")
    said = bench.finish(bench.worker("stuck", "--time-left", 17, "--grace", 1), 2)
    assert "error: no trial ends within the 6 s" in said
    wait_for(lambda: bench.names("pending") and not bench.names("taken"))
