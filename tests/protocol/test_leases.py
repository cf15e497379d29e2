"""Leases and heartbeats, by the observer's own clock."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

from foldertune.protocol import Heartbeat, Leases, TrialName, describe_owner, has_died, read_records
from tests.conftest import ROOT, wait_for

NAME = TrialName(1, 1, "taken", "a-1-b")


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


def watch(leases, clock, seconds, signature, step=1.0):
    for _ in range(int(seconds / step)):
        clock.now += step
        leases.look({NAME})
        silence = leases.silence(NAME, signature)
    return silence


def test_silence_is_measured_from_when_we_first_looked_not_by_file_times():
    clock = Clock()
    leases = Leases(180, clock)
    assert leases.is_new(NAME) and leases.silence(NAME, (1, 2, 0)) == 0  # a file time of 1970: no matter
    assert watch(leases, clock, 100, (1, 2, 0)) == 100
    assert watch(leases, clock, 1, (1, 2, 3)) == 0  # any change, even back in time, is a heartbeat
    assert watch(leases, clock, 1, (1, 2, -5)) == 0
    assert watch(leases, clock, 200, (1, 2, -5)) == 200


def test_an_observer_that_was_stopped_itself_believes_nobody_dead():
    clock = Clock()
    leases = Leases(180, clock)
    leases.silence(NAME, (1,))
    assert watch(leases, clock, 100, (1,)) == 100
    clock.now += 3600  # SIGSTOP, a suspended laptop
    leases.look({NAME})
    assert leases.silence(NAME, (1,)) == 0


def test_a_call_that_hangs_is_no_silence_of_the_worker():
    """An answer that comes a minute late shows what was true at any time since the question."""
    clock, other = Clock(), TrialName(2, 1, "taken", "c-1-d")
    leases = Leases(180, clock)
    assert watch(leases, clock, 171, (1,)) == 170  # all but ten seconds of its lease
    leases.look({NAME})
    clock.now += 20
    assert leases.silence(NAME, (1,)) == 170  # too short to be trouble; but not counted either
    leases.look({NAME, other})
    clock.now += 60
    leases.silence(other, (1,))
    assert leases.silence(NAME, (1,)) == 0
    assert watch(leases, clock, 180, (1,)) == 180  # after trouble it has a whole lease to touch its file
    assert watch(leases, clock, 1, (1,)) == 181


def test_a_folder_that_is_away_says_nothing_about_anybody():
    """Each question fails at once: the master goes on asking, and nobody answers."""
    clock = Clock()
    leases = Leases(180, clock)
    assert watch(leases, clock, 171, (1,)) == 170
    for _ in range(300):
        clock.now += 1
        leases.look({NAME})
    assert leases.silence(NAME, (1,)) == 0


def test_a_file_that_can_not_be_asked_while_others_can_begins_anew():
    """A part of the filesystem is away."""
    clock, other = Clock(), TrialName(2, 1, "taken", "c-1-d")
    leases = Leases(180, clock)
    leases.silence(other, (1,))
    leases.look({NAME, other})
    leases.forget(other)
    assert watch(leases, clock, 100, (1,)) == 99
    leases.look({NAME, other})
    assert leases.silence(other, (1,)) == 0


def test_who_is_gone_from_the_listing_is_forgotten():
    clock = Clock()
    leases = Leases(180, clock)
    leases.silence(NAME, (1,))
    leases.look(set())
    assert leases.is_new(NAME)


def start_sleeper():
    code = "import json, sys, time; from foldertune.protocol import describe_owner; " \
        "print(json.dumps(describe_owner('x')), flush=True); time.sleep(600)"  # fmt: skip
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    import json

    return process, json.loads(process.stdout.readline())


def test_a_dead_process_is_known_by_pid_start_and_boot():
    process, claim = start_sleeper()
    try:
        assert not has_died(claim)
        assert has_died(
            {**claim, "process": {**claim["process"], "start": claim["process"]["start"] - 1}}
        )  # pid reused
        elsewhere = [{"boot": "another"}, {"namespace": 1}]
        process.send_signal(signal.SIGSTOP)
        assert not has_died(claim)
    finally:
        process.kill()
    wait_for(lambda: has_died(claim), "a zombie to count as dead")
    process.wait()
    assert has_died(claim)
    for change in elsewhere:  # another machine, another container: we can't look there
        assert not has_died({**claim, "process": {**claim["process"], **change}})


def test_a_claim_that_says_nothing_of_its_process_is_never_judged_dead():
    for claim in ({}, {"pid": 1}, {"pid": "1", "process": {}}, {"pid": -1, "process": describe_owner("x")["process"]}):
        assert not has_died(claim)


def test_the_heartbeat_touches_the_file_and_notices_that_it_is_gone(folder, pending):
    claim = folder.claim("a-1-b", iter([pending]))
    heartbeat = Heartbeat()
    heartbeat.hold(claim, lease=0.6)
    heartbeat.start()
    before = folder.signature(claim.name)
    wait_for(lambda: folder.signature(claim.name) != before, "a heartbeat")
    lost = folder.lose(claim.name)
    wait_for(heartbeat.lost.is_set, "the loss to be noticed")
    heartbeat.release()
    quiet = os.stat(folder.locate(lost)).st_mtime_ns
    time.sleep(0.3)
    assert os.stat(folder.locate(lost)).st_mtime_ns == quiet
    assert len(read_records(folder.locate(lost))) == 1
