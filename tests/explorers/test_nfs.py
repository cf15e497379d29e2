"""Searches on the kernel's own NFS 4.2 and 3 between three guests: see guests.py. Each test runs one search on each."""

from __future__ import annotations

import time

import pytest

from tests.conftest import wait_for
from tests.explorers.guests import Network, lack
from tests.explorers.nfs import LEASE, MOUNTS, Host

VERSIONS = ("4.2", "3")


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    if why := lack():
        pytest.skip(why)
    with Network(tmp_path_factory.mktemp("nfs")) as network:
        for client in network.clients:
            for version in VERSIONS:
                client.mount(f"/run/{version}", MOUNTS[version])
        yield network


class Search:
    """One folder as two clients see it, and as it lies on the server's disk."""

    def __init__(self, network, version, folder):
        self.first, self.second = (Host(client, f"/run/{version}/{version}-{folder}") for client in network.clients)
        self.disk = Host(network.server, f"/run/disk/share/{version}-{folder}")

    def close(self):
        for host in (self.first, self.second):
            host.close()


@pytest.fixture
def searches(network, request):
    """A folder on each version of NFS, for one test."""
    searches = [Search(network, version, request.node.name) for version in VERSIONS]
    yield searches
    for search in searches:
        search.close()


def finish_all(searches, trials):
    """Wait until the programs end, and check that each trial is counted once. Returns what they said, by search."""
    hosts = [(search.first, search.second) for search in searches]
    said = [[host.finish(program) for host in both for program in host.processes] for both in hosts]
    for search in searches:
        search.disk.check(trials)
    return said


def begin(search, trials, lease=LEASE):
    """A master and a worker on the first client, a worker on the second. Returns when both train."""
    study = search.first.study(trials=trials, objective="slow")
    search.master = search.first.master(study, "--lease", lease)
    search.workers = [host.worker("slow") for host in (search.first, search.second)]
    return study


def wait_until_both_train(searches):
    for search in searches:
        for host in search.first, search.second:
            wait_for(lambda search=search, host=host: search.disk.training(host), "both workers to train")


def wait_for_lost(searches, count):
    for search in searches:
        wait_for(lambda search=search: len(search.disk.names("lost")) == count, "the lease to end")


def test_workers_and_masters_are_killed_while_people_look_on(searches):
    studies = [begin(search, 20) for search in searches]
    wait_until_both_train(searches)
    refused = [search.second.master(study) for search, study in zip(searches, studies, strict=True)]
    for search, program in zip(searches, refused, strict=True):
        assert "on client1 has been searching here since" in search.second.finish(program, 2)
        search.second.processes.remove(program)
    for search, study in zip(searches, studies, strict=True):
        for host in search.first, search.second:
            host.reader(20)
        for host, program in zip((search.first, search.second), search.workers, strict=True):
            host.kill(program)
        search.first.kill(search.master)
        search.second.worker("slow")
        search.second.master(study, "--lease", LEASE)
    finish_all(searches, 20)


def test_a_client_is_cut_off_and_comes_back_late(searches, network):
    for search in searches:
        begin(search, 12)
    wait_until_both_train(searches)
    network.clients[1].cut()
    wait_for_lost(searches, 1)
    network.clients[1].join()
    for _, _, worker in finish_all(searches, 12):
        assert "no longer ours" in worker


def test_a_client_crashes(searches, network):
    for search in searches:
        begin(search, 12)
    wait_until_both_train(searches)
    network.clients[1].crash()
    wait_for_lost(searches, 1)
    network.clients[1].boot()
    network.clients[1].ready()
    for search in searches:
        search.second.processes.clear()
        search.second.worker("slow")
    finish_all(searches, 12)


def test_the_server_crashes(searches, network):
    """It is away for longer than the lease of one search, and not for as long as that of the other."""
    for search, lease in zip(searches, (LEASE, 60), strict=True):
        begin(search, 8, lease)
    wait_until_both_train(searches)
    network.server.crash()
    time.sleep(0.5 * LEASE)
    network.server.boot()
    network.server.ready()
    finish_all(searches, 8)
    assert not [name for search in searches for name in search.disk.names("lost")]


def test_the_doctor_finds_it_fit(searches):
    doctors = [
        host.start("-m", "foldertune", "doctor", "--logs", host.there)
        for search, host in ((searches[0], searches[0].first), (searches[1], searches[1].second))
    ]
    for doctor in doctors:
        assert "This folder can be used" in doctor.communicate()[0], doctor.output
