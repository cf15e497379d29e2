"""Masters and workers on several hosts, over a real network filesystem: see cluster.sh."""

from __future__ import annotations

import signal
import subprocess
import time
from pathlib import Path

import pytest

from foldertune.protocol import TrialName
from tests.conftest import wait_for
from tests.explorers.cluster import Cluster, Host, cluster_of
from tests.running.test_search import running

# As on NFS, what a host knows of a file, and whether a name is there, may be two seconds old.
CACHES = "mfsattrcacheto=2,mfsentrycacheto=2,mfsnegentrycacheto=2"
LEASE = 8  # seconds: the caches' two, one for MooseFS's file times in whole seconds, and time for a machine to stall


@pytest.fixture(scope="module")
def cluster():
    if lack := Cluster(Path()).lack():
        pytest.skip(lack)
    with cluster_of("moosefs", 3, CLUSTER_MOUNT=CACHES) as cluster:
        yield cluster


@pytest.fixture
def hosts(cluster, request):
    """The three hosts, each with its view of a folder for this test."""
    hosts = [Host(cluster, number, request.node.name) for number in (1, 2, 3)]
    yield hosts
    for number in (1, 2, 3):
        cluster("join", number)  # a program that waits for a server out of reach can't even be killed
    cluster("start")
    for host in hosts:
        host.close()


def finish_all(hosts, trials):
    """Wait until the programs end and return their output. Every host must see all trials counted once."""
    said = [host.finish(process) for host in hosts for process in host.processes]
    for host in hosts:
        wait_for(lambda host=host: not (host.logs / "study.json").exists(), "the caches to forget")
        host.assert_complete(trials)
    return said


def test_a_view_that_is_some_seconds_old(hosts):
    """Shows the delay that the tests below must bear. Without the mount options for it, this test fails."""
    first, second, _ = hosts
    old, new = first.path / "old", first.path / "new"
    seen_old, seen_new = second.path / "old", second.path / "new"

    def looks_back():
        new.unlink(missing_ok=True)
        old.touch()
        wait_for(lambda: seen_old.exists() and not seen_new.exists())
        old.rename(new)
        return seen_old.exists() and not seen_new.exists()

    wait_for(looks_back)
    wait_for(lambda: seen_new.exists() and not seen_old.exists())


def test_a_search_over_three_hosts(hosts):
    first, second, third = hosts
    first.master(first.study(trials=20, objective="brief"))
    second.worker("brief")
    third.worker("brief")
    finish_all(hosts, 20)
    assert {row.worker.partition("-")[0] for row in first.rows()} == {"host2", "host3"}
    assert not first.names("lost")


def test_a_worker_is_cut_off_in_the_middle_of_training(hosts, cluster):
    first, second, third = hosts
    first.master(first.study(trials=12, objective="slow"), "--lease", LEASE)
    cut_off = second.worker("slow")
    name = wait_for(lambda: running(first, cut_off), "the worker to train")
    cluster("cut", 2)
    third.worker("slow")
    wait_for(lambda: first.names("lost"), "its lease to end")
    cluster("join", 2)
    master, worker, _ = finish_all(hosts, 12)
    assert f"trial {name.number}: no sign of life from {name.owner}" in master
    assert f"trial {name.number}: " in worker and "no longer ours" in worker
    assert [(row.trial, row.attempt) for row in first.rows() if row.attempt > 1] == [(name.number, 2)]


def test_the_master_is_cut_off_for_longer_than_the_lease(hosts, cluster):
    first, second, third = hosts
    first.master(first.study(trials=12, objective="slow"), "--lease", LEASE)
    second.worker("slow")
    third.worker("slow")
    wait_for(lambda: first.names("seen"), "the search to be on its way")
    cluster("cut", 1)
    time.sleep(1.5 * LEASE)
    cluster("join", 1)
    finish_all(hosts, 12)
    assert not first.names("lost"), "the silence was the master's own"


def test_the_file_server_restarts(hosts, cluster):
    """Then a line may wait for longer than the lease, until the server takes it. Its worker still gives signs of life."""
    first, second, third = hosts
    first.master(first.study(trials=8, objective="slow"), "--lease", LEASE)
    for worker in second.worker("slow"), third.worker("slow"):
        wait_for(lambda worker=worker: running(first, worker), "both workers to train")
    cluster("restart")
    finish_all(hosts, 8)
    assert not first.names("lost")


def test_the_file_server_is_away_for_longer_than_the_lease(hosts, cluster):
    """Nobody can give a sign of life, and half of the twelve workers come back later than the master."""
    first, second, third = hosts
    first.master(first.study(trials=60, objective="slow"), "--lease", LEASE)
    met = set()
    for number in range(12):
        (second, third)[number % 2].worker("slow")
    wait_for(lambda: met.update(n.owner for n in first.names("taken")) or len(met) == 12, "all workers to train")
    counted = wait_for(lambda: first.names("seen"), "a result")[0]
    for late in third.processes:
        late.send_signal(signal.SIGSTOP)
    cluster("stop")
    time.sleep(2 * LEASE)
    cluster("start")
    surplus = Path(first.folder.locate(TrialName(counted.number, 99, "done")))
    surplus.touch()
    wait_for(lambda: not surplus.exists(), "the master to look again")
    time.sleep(1)  # also for signs of life
    for late in third.processes:
        late.send_signal(signal.SIGCONT)
    said = finish_all(hosts, 60)
    assert [name.attempt for name in first.names("lost")] == [99]
    assert [line for text in said for line in text.splitlines() if "no longer ours" in line] == []


def test_nothing_is_left_when_its_owner_is_killed(tmp_path, cluster):
    owner = subprocess.Popen(["sleep", "60"])
    other = Cluster(tmp_path / "other")
    other("up", 1, owner.pid)
    assert str(other.path) in Path("/proc/mounts").read_text()
    owner.kill()
    owner.wait()
    wait_for(lambda: not other.path.exists(), "the other cluster to be gone")
    assert str(other.path) not in Path("/proc/mounts").read_text()
