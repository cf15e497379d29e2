"""Trials fail in every possible way. They are tried again, then recorded as failed, and don't delay other trials."""

from __future__ import annotations

import signal

import pytest

from foldertune.rows import FAILED


def good_and_bad(bench, bad=lambda x: x > 0.5):
    """The rows of succeeded and of failed trials. Exactly those that should fail must have failed."""
    rows = bench.rows()
    for row in rows:
        assert (row.status == FAILED) == bad(row.settings["x"]), row
    failed = [row for row in rows if row.status == FAILED]
    assert failed and len(failed) < len(rows), "choose another seed"
    return rows, failed


@pytest.mark.parametrize(
    ("objective", "reason"),
    [("moody", "which I don't like"), ("greedy", "MemoryError"), ("no_gpu_memory", "CUDA out of memory")],
)
def test_a_trial_that_raises_is_tried_again_and_then_failed(bench, objective, reason):
    master = bench.master(bench.study(trials=8, objective=objective), "--max-attempts", 2)
    worker = bench.worker(objective)
    bench.finish(master)
    said = bench.finish(worker)
    bench.assert_complete(8)
    _, failed = good_and_bad(bench)
    assert len(bench.names("lost")) == 2 * len(failed)
    assert any(reason in row.error for row in failed) and reason in said
    assert reason in bench.folder.results.read_text()
    assert f"{len(failed)} failed" in bench.finish(bench.start("-m", "foldertune", "results", "--logs", bench.logs))
    assert f"{len(failed)} failed" in bench.finish(bench.start("-m", "foldertune", "status", "--logs", bench.logs))


def test_an_objective_that_calls_exit_ends_its_attempt_not_the_worker(bench):
    master = bench.master(bench.study(trials=2, objective="quitting"), "--max-attempts", 2)
    worker = bench.worker("quitting")
    assert "All trials have failed" in bench.finish(master, 3)
    bench.finish(worker)
    bench.assert_complete(2)
    assert {row.error for row in bench.rows()} == {"SystemExit: 0", "SystemExit: no data here"}


def test_a_trial_that_hangs_is_ended_in_python_and_outside_of_it(bench):
    """In a call outside of Python no exception can be raised: the worker hands in the trial and starts anew."""
    study = bench.study(trials=8, objective="hanging", seed=1)
    master = bench.master(study, "--max-attempts", 2, "--trial-timeout", 1)
    worker = bench.worker("hanging", "--grace", 0.5)
    bench.finish(master)
    said = bench.finish(worker)
    bench.assert_complete(8)
    rows, failed = good_and_bad(bench)
    assert any(row.settings["x"] > 0.75 for row in failed) and any(row.settings["x"] <= 0.75 for row in failed)
    assert all("took longer than --trial-timeout 1 s" in row.error for row in failed)
    assert len(bench.names("lost")) == 2 * len(failed)
    pids = {bench.folder.read(name).claim.get("pid") for name in bench.names("seen") if name.number < len(rows)}
    assert pids <= {worker.pid, None} and "failed after" in said


def test_a_worker_that_hangs_outside_of_python_still_stops_when_told(bench):
    bench.master(bench.study(trials=1, objective="hung"), "--lease", 60)
    worker = bench.worker("hung", "--grace", 0.5)
    bench.wait_for_training()
    worker.send_signal(signal.SIGTERM)
    bench.finish(worker, 143)
    assert [str(name) for name in bench.names("pending")] == ["trial-00000-2.jsonl"]


def test_workers_that_the_master_starts_outlive_many_deadly_trials(bench):
    """Each deadly trial kills its worker twice. Other trials end meanwhile, so it is worth starting the worker again."""
    bench.search(bench.study(trials=8, objective="murderous", seed=2), "--workers", 1, "--max-attempts", 2)
    bench.assert_complete(8)
    _, failed = good_and_bad(bench)
    assert 2 * len(failed) > 3 + 1 and all("died" in row.error for row in failed)
