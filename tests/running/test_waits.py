"""A worker without work waits longer in a crowd, and sees all the same what a person asks. With a clock that is pretended."""

from __future__ import annotations

import os
import random
import time

import pytest

from foldertune.protocol import TrialName, WorkerRecords
from foldertune.running.waiting import LONGEST_WAIT, PART, Waits


@pytest.fixture
def clock(monkeypatch):
    """Time that passes when it is told to."""
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def wait(waits, clock, parts=None):
    """The seconds of one wait. `parts`: what happens after each part of it."""
    before = clock[0]

    def pause(seconds):
        assert seconds <= PART
        clock[0] += seconds
        if parts:
            parts(clock[0] - before)

    waits.wait(pause)
    return clock[0] - before


def test_waits_grow_to_a_second_for_each_hundred_names_or_living_workers(folder, clock):
    waits = Waits(folder)
    folder.names()
    first = [wait(waits, clock) for _ in range(9)]
    assert first[0] <= 0.03 and 0.5 <= first[-1] <= 1.5, "nobody else is there"
    known = WorkerRecords(folder)
    for number in range(600):
        known.write({"worker": f"gpu-{number + 1}-abcdefgh"})
        if number % 2:  # long dead
            os.utime(folder.workers / f"gpu-{number + 1}-abcdefgh.json", (1e9, 1e9))
    random.seed(1)
    assert 100 <= known.count_living() <= 500, "about 300, by a sample"
    clock[0] += 1000
    longest = [wait(waits, clock) for _ in range(8)]
    assert 0.5 * 1 <= longest[-1] <= 1.5 * 5
    for number in range(900):
        folder.publish(TrialName(number, 1), {"x": 0.5}, lease=5.0)
    folder.names()
    longest = [wait(waits, clock) for _ in range(8)]
    assert 0.5 * 9 <= longest[-1] <= 1.5 * 9 <= 1.5 * LONGEST_WAIT


def test_a_long_wait_ends_when_a_person_asks_workers_to_end_and_when_the_study_is_complete(folder, clock):
    for number in range(3000):
        (folder.path / f"other-{number}.txt").touch()
    folder.names()
    for mark in ("drain", "stop", "study.json.done"):
        waits = Waits(folder)
        for _ in range(8):
            wait(waits, clock)

        def ask(seconds, mark=mark):
            (folder.path / mark).touch()

        (folder.path / "study.json").unlink(missing_ok=True)
        assert wait(waits, clock, ask) == PART, mark
        assert folder.halt == mark or folder.is_complete
        (folder.path / mark).unlink()
        folder.names()
