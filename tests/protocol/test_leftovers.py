"""Temporary files stay as long as their writer may rename them, and are removed if it is dead."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from foldertune.protocol import Leftovers, own_host, temporary_name, write_whole, writer_of
from tests.conftest import ROOT, token_of, wait_for
from tests.protocol.test_leases import Clock

LEASE = 180.0

# In a program that imports this at its start, the rename that replaces results.csv waits for SIGCONT.
STOP_BEFORE_RENAME = """
import os, signal
rename = os.rename
def stop_and_rename(source, target, **options):
    if str(target).endswith("results.csv"):
        os.kill(os.getpid(), signal.SIGSTOP)
    rename(source, target, **options)
os.rename = stop_and_rename
"""


@pytest.fixture
def process():
    """A process of this host. Only its number matters."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    yield process
    process.kill()
    process.wait()


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def leftovers(folder, clock):
    return Leftovers(folder, LEASE, clock)


def put(directory, writer):
    """A temporary file that `writer` is writing, or was writing when it died."""
    path = directory / f".trial-00007-1.jsonl.{writer}.tmp"
    path.write_text('{"settings": {')
    return path


def test_the_draft_of_a_dead_newcomer_is_removed(folder, leftovers, clock, process):
    """It has died before its file had its name; a living one's stays."""
    mine = folder.path / f".master-00003.{token_of(process.pid)}-tmp"
    theirs = folder.path / ".master-00004.far-1-0badcafe-tmp"
    for path in (mine, theirs):
        path.write_text('{"claimed"')
    watch(leftovers, clock, 2 * LEASE)
    assert mine.exists() and not theirs.exists()


def watch(leftovers, clock, seconds):
    for _ in range(int(seconds / 10)):
        clock.now += 10
        leftovers.look()


def is_stopped(process):
    with open(f"/proc/{process.pid}/stat") as file:
        return file.read().rpartition(")")[2].split()[0] == "T"


def start_reader(bench):
    """Start `results`, and stop it when results.csv is written but not yet renamed."""
    (bench.path / "sitecustomize.py").write_text(STOP_BEFORE_RENAME)
    environment = os.environ | {"PYTHONPATH": f"{bench.path}{os.pathsep}{ROOT}"}
    reader = bench.start("-m", "foldertune", "results", "--logs", bench.logs, env=environment)
    wait_for(lambda: is_stopped(reader), "the reader to write")
    [path] = bench.logs.glob(".results.csv.*.tmp")
    assert path.stat().st_size > 0
    return reader, path


def test_a_temporary_name_says_who_writes():
    host, pid, _ = writer_of(temporary_name("results.csv")).rsplit("-", 2)
    assert (host, pid) == (own_host(), str(os.getpid()))
    assert temporary_name("results.csv") != temporary_name("results.csv")
    for text in ("results.csv", ".tmp", "x.a-1-b.tmp", ".x.a.b-1.c.temp", "trial-00007-1.jsonl.a-1-b.taken"):
        assert writer_of(text) is None


def test_a_long_name_has_a_temporary_name_too(tmp_path):
    for name in ("x" * 255, "ü" * 127, os.fsdecode(b"\xff" * 255)):
        write_whole(tmp_path / name, b"whole")
        assert (tmp_path / name).read_bytes() == b"whole"
    assert len(list(tmp_path.iterdir())) == 3


def test_a_reader_in_mid_write_succeeds_whatever_a_master_does(bench):
    """SIGSTOP stops the reader between its write and its rename, while a master starts, works past a lease, and ends."""
    bench.search(bench.study(trials=3), "--workers", 1)
    bench.folder.results.unlink()
    reader, path = start_reader(bench)
    master = bench.master(bench.study(trials=6), "--lease", 0.4)
    wait_for(lambda: bench.names("pending"), "the master to be at work")
    assert path.exists()
    time.sleep(1)
    assert path.exists()
    bench.finish(bench.worker())
    bench.finish(master)
    assert path.exists()
    reader.send_signal(signal.SIGCONT)
    bench.finish(reader)
    assert not path.exists()


def test_what_a_dead_reader_left_goes_when_the_study_is_complete(bench):
    study = bench.study(trials=3)
    bench.search(study, "--workers", 1)
    bench.folder.results.unlink()
    reader, path = start_reader(bench)
    reader.kill()
    reader.wait()
    assert path.exists()
    bench.search(study)
    bench.assert_complete(3)


def test_a_writer_that_lives_on_this_host_is_left_alone(folder, leftovers, clock, process):
    path = put(folder.path, token_of(process.pid))
    watch(leftovers, clock, 10 * LEASE)
    assert path.exists()
    process.kill()
    process.wait()
    leftovers.remove()
    assert not path.exists()


@pytest.mark.parametrize("place", ["path", "seen"])
def test_what_the_dead_and_we_ourselves_left_goes_at_once(folder, leftovers, process, place):
    process.kill()
    process.wait()
    dead = put(getattr(folder, place), token_of(process.pid))
    ours = put(getattr(folder, place), token_of(os.getpid()))
    leftovers.remove()
    assert not dead.exists() and not ours.exists()


@pytest.mark.parametrize("place", ["path", "seen"])
def test_a_writer_elsewhere_has_a_lease_to_show_a_sign_of_life(folder, leftovers, clock, place):
    path = put(getattr(folder, place), "another-1-0badcafe")
    os.utime(path, (1, 1))  # what its time says does not matter
    leftovers.remove()
    watch(leftovers, clock, LEASE - 50)
    path.write_text("it goes on writing")
    watch(leftovers, clock, LEASE)
    assert path.exists()
    watch(leftovers, clock, LEASE)
    assert not path.exists()


def test_a_master_that_was_stopped_has_not_watched(folder, leftovers, clock):
    path = put(folder.path, "another-1-0badcafe")
    watch(leftovers, clock, LEASE - 50)
    clock.now += 3600
    leftovers.look()
    assert path.exists()
    watch(leftovers, clock, 2 * LEASE)
    assert not path.exists()


def test_nothing_else_is_removed(folder, leftovers, clock, pending):
    (folder.path / ".notes.tmp").write_text("mine")
    (folder.path / ".directory.another-1-0badcafe.tmp").mkdir()
    before = sorted(folder.path.rglob("*"))
    leftovers.remove()
    watch(leftovers, clock, 3 * LEASE)
    assert sorted(folder.path.rglob("*")) == before
