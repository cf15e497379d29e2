"""Hosts and containers with equal names: nobody takes another's process for a dead one of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest

from foldertune.protocol import own_host
from tests.conftest import ROOT, token_of, wait_for

# In a program that imports this at its start, a worker's first line finds no room for three seconds.
LATE_FIRST_LINE = """
import errno, os, time
write, until = os.write, time.monotonic() + 3
def write_later(descriptor, data):
    if bytes(data).startswith(b'{"claimed"') and time.monotonic() < until:
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))
    return write(descriptor, data)
os.write = write_later
"""
CONTAINER = ["unshare", "--pid", "--uts", "--fork", "--kill-child", "--mount-proc"]  # of this host's name

needs_containers = pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("unshare"), reason="needs root and unshare (util-linux): sudo make test"
)


@needs_containers
def test_a_worker_in_another_container_of_the_same_name_is_not_taken_for_dead(bench):
    """Its number means nothing where the master runs. It has its lease, also before its first line; so has its file."""
    (bench.path / "sitecustomize.py").write_text(LATE_FIRST_LINE)
    late = os.environ | {"PYTHONPATH": f"{bench.path}{os.pathsep}{ROOT}"}
    study = bench.study(trials=2)
    master = subprocess.Popen(
        [*CONTAINER, sys.executable, "master.py", study, "--workers", "0", "--lease", "600", "--logs", bench.logs],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    bench.processes.append(master)
    wait_for(lambda: bench.names("pending"), "the trials")
    worker = bench.worker("quick", env=late)
    half_written = bench.logs / f".trial-00007-1.jsonl.{token_of(worker.pid)}.tmp"
    half_written.write_text("{")
    says = bench.finish(worker)
    assert "quota" in says.lower() and "no longer ours" not in says
    assert "died" not in bench.finish(master)
    assert not bench.names("lost") and half_written.exists()
    assert all(row.worker.startswith(f"{own_host()}-{worker.pid}-") for row in bench.rows())


@needs_containers
def test_a_container_that_sees_the_folder_elsewhere_shares_the_work_and_may_be_killed(bench):
    """Its worker is process 1, and 1 is alive outside, too: the host's name is the same, the process is another."""
    hold = bench.path / "hold"
    hold.touch()
    environment = os.environ | {"HOLD": str(hold)}
    master = bench.master(bench.study(trials=12, objective="held"), "--lease", 5)
    wait_for(lambda: len(bench.names("pending")) > 3, "the trials")
    worker = f"{sys.executable} worker.py --logs /mnt --objective tests.objectives:held"
    container = subprocess.Popen(
        [*CONTAINER, "sh", "-c", f'mount --bind "$0" /mnt && exec {worker}', bench.logs],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment,
    )  # fmt: skip
    bench.processes.append(container)
    inside = f"{own_host()}-1-"

    def held_inside():
        running = [trial for trial in bench.running() if trial.name.owner.startswith(inside)]
        return [trial.name for trial in running if trial.settings["x"] > 0.5]

    (theirs,) = wait_for(held_inside, "a trial that waits in the container")
    outside = bench.worker("held", env=environment)
    wait_for(lambda: len(bench.names("taken")) == 2 and len(held_inside()) == 1, "a trial of each")
    assert not bench.names("lost")
    container.kill()
    wait_for(lambda: bench.names("lost"), "the end of the container's lease")
    hold.unlink()
    bench.finish(outside)
    assert "died" not in bench.finish(master)
    bench.assert_complete(12)
    assert [(name.number, name.attempt) for name in bench.names("lost")] == [(theirs.number, theirs.attempt)]
