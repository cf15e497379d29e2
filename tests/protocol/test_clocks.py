"""Clocks that are wrong or jump end no lease and prolong none. libfaketime changes the clocks of real programs."""

from __future__ import annotations

import glob
import os
import signal
import time

import pytest

from tests.conftest import wait_for

LIBRARY = next(iter(glob.glob("/usr/lib/*/faketime/libfaketime.so.1")), None)
pytestmark = pytest.mark.skipif(
    not LIBRARY, reason="libfaketime is missing: apt-get install faketime (it shows programs another time)"
)
TRIALS = 8


class Clock:
    """A clock that programs believe in. It can be set while they run, and advances like the real one."""

    def __init__(self, path, offset):
        self.path = path
        self.set(offset)
        # libfaketime 0.9.10 makes Python's sleep fail (clock_nanosleep) where it leaves the monotonic clock alone.
        sleep = "import select, time\ntime.sleep = lambda seconds: select.select([], [], [], seconds)\n"
        (path.parent / "sitecustomize.py").write_text(sleep)

    def set(self, offset):
        """`offset` from the real time, such as "-1h"."""
        whole = self.path.with_suffix(".tmp")
        whole.write_text(offset + "\n")
        whole.rename(self.path)

    @property
    def environment(self):
        return {
            **os.environ,
            "LD_PRELOAD": LIBRARY,
            "FAKETIME_TIMESTAMP_FILE": str(self.path),
            "FAKETIME_NO_CACHE": "1",  # look at the file every time
            "DONT_FAKE_MONOTONIC": "1",  # setting a clock does not touch the monotonic one
            "PYTHONPATH": str(self.path.parent),
        }


@pytest.fixture
def clocks(bench):
    return [Clock(bench.path / f"clock-{number}", "+0") for number in range(3)]


def start(bench, clocks, objective="slow", lease=3):
    master, first, second = clocks
    study = bench.study(trials=TRIALS, objective=objective)
    return [
        bench.master(study, "--lease", lease, env=master.environment),
        bench.worker(objective, env=first.environment),
        bench.worker(objective, env=second.environment),
    ]


def times(bench):
    """The hours that the workers wrote into the files."""
    return {row.claimed[:13] for row in bench.rows()}


def test_hosts_hours_apart(bench, clocks):
    for clock, offset in zip(clocks, ("+0", "+3h", "-3h"), strict=True):
        clock.set(offset)
    for process in start(bench, clocks):
        bench.finish(process)
    bench.assert_complete(TRIALS)
    assert bench.names("lost") == []
    assert len(times(bench)) >= 2, "the clocks were not wrong"


@pytest.mark.parametrize("who", range(3))
def test_a_clock_that_jumps(bench, clocks, who):
    """The clock of the master or of a worker jumps forward and back by days, with trials in hand."""
    processes = start(bench, clocks)
    for step, offset in enumerate(("+2d", "-2d", "+0", "+30d"), start=1):
        wait_for(lambda step=step: len(bench.names("seen")) >= step, "trials to end")
        clocks[who].set(offset)
    for process in processes:
        bench.finish(process)
    bench.assert_complete(TRIALS)
    assert bench.names("lost") == []
    bench.finish(bench.start("-m", "foldertune", "status", "--logs", bench.logs))


@pytest.mark.parametrize("offset", ["+2d", "-2d"])
def test_a_silent_worker_loses_its_lease_whatever_the_clocks_say(bench, clocks, offset):
    lease = 3
    master, victim, other = start(bench, clocks, lease=lease)
    held = wait_for(lambda: [n for n in bench.names("taken") if f"-{victim.pid}-" in n.owner], "the victim to train")
    victim.send_signal(signal.SIGSTOP)
    time.sleep(lease / 3)  # the master has seen the last heartbeat when the clock is set
    for clock in clocks:
        clock.set(offset)
    bench.finish(master)
    bench.finish(other)
    victim.send_signal(signal.SIGCONT)
    assert "no longer ours" in bench.finish(victim)
    bench.assert_complete(TRIALS)
    assert [(name.number, name.attempt) for name in bench.names("lost")] == [(held[0].number, 1)]
