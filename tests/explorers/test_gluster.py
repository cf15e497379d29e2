"""Masters and workers of two hosts on GlusterFS with its default caches: see glusterfs.sh, and gluster.py for long runs."""

from __future__ import annotations

import itertools
import os
import re
import shutil
import time
from pathlib import Path

import pytest

from foldertune.protocol import TrialName
from tests.conftest import wait_for
from tests.explorers.cluster import Cluster, Host, cluster_of
from tests.explorers.gluster import counted_twice, finished_but_lost, wrong_or_missing
from tests.running.test_search import running

LEASE = 20  # seconds: the caches' one, and time for a machine to stall; the dead are known by their processes
RACES = 60
AWAY = 4  # seconds: long enough for a master to start and to publish trials


@pytest.fixture(scope="module")
def cluster():
    if lack := Cluster(Path(), "glusterfs").lack():
        pytest.skip(lack)
    with cluster_of("glusterfs", 2) as cluster:
        yield cluster


@pytest.fixture
def hosts(cluster, request):
    """Two hosts, each with its view of a folder for this test, on the volume that the test names."""
    hosts = [Host(cluster, number, f"{request.param}/{request.node.originalname}") for number in (1, 2)]
    yield hosts
    cluster("start", 2)
    for host in hosts:
        host.close()


def on(volume):
    return pytest.mark.parametrize("hosts", [volume], indirect=True)


@on("copied")
def test_an_old_name_answers_for_a_while(hosts):
    """Shows what the tests below must bear. With mounts that have no caches, this test fails."""
    first, second = hosts
    first.folder.prepare()
    numbers = itertools.count()

    def looks_back():
        name = TrialName(next(numbers), 1)
        first.folder.publish(name, {"x": 0.5}, lease=LEASE)
        wait_for(lambda: str(name) in os.listdir(second.logs), "host 2 to see it")
        first.folder.claim("host1-1-aaaa", iter([name]))
        return Path(second.folder.locate(name)).exists() and str(name) not in os.listdir(second.logs)

    wait_for(looks_back, "a name that is gone, and answers")


@on("copied")
def test_a_search_over_two_hosts_in_which_everybody_is_killed(cluster, hosts):
    first, second = hosts
    study = first.study(trials=40, objective="slow")
    master = first.master(study, "--lease", LEASE)
    workers = [first.worker("slow"), *(second.worker("slow") for _ in range(4))]
    for host, victim in zip((first, second), workers, strict=False):
        wait_for(lambda host=host, victim=victim: running(host, victim), "it to train")
        victim.kill()
        workers.append(host.worker("slow"))
    master.kill()
    master.wait()
    master = first.master(study, "--lease", LEASE)
    first.finish(master)
    assert wrong_or_missing(first, 40) == [] and counted_twice(cluster, "copied", first.folder_name) == []
    assert finished_but_lost(first) == []
    deadline = time.monotonic() + LEASE
    wait_for(lambda: all(worker.poll() is not None for worker in workers) or time.monotonic() > deadline)
    assert sum(worker.poll() is None for worker in workers) == 0, "workers that have not ended"
    assert [worker.poll() for worker in workers] == [-9, -9, 0, 0, 0, 0, 0]


def table_length(bench):
    return len(bench.folder.results.read_text().splitlines()) - 1 if bench.folder.results.exists() else 0


@pytest.fixture
def half_done(bench):
    """A search that was killed after some of its 30 trials were in its table; and their numbers."""
    master = bench.master(bench.study(trials=30, objective="brief"), "--workers", 1)
    wait_for(lambda: table_length(bench) >= 10, "some results")
    master.kill()
    master.wait()
    wait_for(lambda: not bench.names("taken"), "its worker to end, too")
    return bench, {name.number for name in bench.names("seen")}


def make_while_away(cluster, host, path):
    """Make a directory while server 2 is away. Later, its files will all be on server 1, too."""
    cluster("stop", 2)
    wait_for(lambda: not fails(path.mkdir), "a directory without server 2")
    cluster("start", 2)
    on_server = cluster.path / "server2" / path.relative_to(host.mount)
    wait_for(lambda: path.exists() and on_server.exists(), "server 2 to know it")


def fails(action):
    try:
        action()
    except OSError:
        return True


@on("spread")
def test_a_master_that_starts_while_a_server_is_away(cluster, hosts, half_done):
    """`seen/` lacks the names of that server's files, without any error; all the other names are there."""
    first, second = hosts
    before, counted = half_done
    make_while_away(cluster, first, first.logs)
    shutil.copytree(before.logs, first.logs, dirs_exist_ok=True)
    cluster("stop", 2)
    wait_for(lambda: len(first.names("seen")) < len(counted), "names to be missing")
    master = first.master(before.path / "toy.toml", "--lease", LEASE)
    worker = second.worker("brief")
    time.sleep(AWAY)
    cluster("start", 2)
    first.finish(master)
    worker.kill()  # whether workers end is asked above
    trained = {int(number) for number in re.findall(r"trial (\d+)", worker.communicate()[0])}
    assert trained & counted == set(), "trained a second time"
    assert wrong_or_missing(first, 30) == [] and counted_twice(cluster, "spread", first.folder_name) == []


@on("spread")
def test_a_master_that_starts_waits_for_a_server_that_is_away(cluster, hosts):
    """Here the folder's own files are on both servers, and the first that is away gives an error."""
    first = hosts[0]
    study = first.study(trials=12, objective="brief")
    copy = cluster.path / "server" / "toy.toml"
    shutil.copy(study, copy)
    first.search(study, "--workers", 1, "--trials", 8)
    cluster("stop", 2)
    wait_for(lambda: fails(first.folder.read_study) or len(first.names("seen")) < 8, "it to be away")
    master = first.master(copy, "--workers", 1, "--lease", LEASE)
    time.sleep(2)  # it has begun
    cluster("start", 2)
    first.finish(master)
    first.assert_complete(12)


RACE = """
import sys, time
from foldertune.protocol import Folder, Masters, new_owner
path, begin = sys.argv[1], float(sys.argv[2])
for number in range(int(sys.argv[3])):
    masters = Masters(Folder(f"{path}/{number}"))
    time.sleep(max(begin + number / 10 - time.time(), 0))
    if masters.follow(0, new_owner(), 1.0):
        print("leads", number)
"""


@on("spread")
def test_of_masters_that_start_at_once_on_two_hosts_one_leads(hosts):
    """The server of a name decides, although what is written there may be on another one."""
    for number in range(RACES):
        (hosts[0].logs / str(number)).mkdir(parents=True)
    begin = time.time() + 2  # all have begun by then
    racers = [(host, host.start("-c", RACE, host.logs, begin, RACES)) for host in hosts for _ in range(2)]
    leading = [int(number) for host, racer in racers for number in re.findall(r"leads (\d+)", host.finish(racer))]
    assert sorted(leading) == list(range(RACES))


def test_the_doctor_says_that_the_folders_can_be_used(cluster):
    hosts = [[Host(cluster, number, f"{volume}/doctor") for number in (1, 2)] for volume in ("spread", "copied")]
    for here, there in hosts:
        here.start("-m", "foldertune", "doctor", "--logs", here.path, "--second-mount", there.path)
    for here, _ in hosts:
        assert "can NOT be used" not in here.finish(here.processes[0])
