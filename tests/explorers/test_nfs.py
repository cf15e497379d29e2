"""Searches on the kernel's own NFS 4.2 and 3 between three guests: see guests.py. Each test runs one search on each."""

from __future__ import annotations

import time

import pytest

from tests.explorers.guests import Network, lack
from tests.explorers.nfs import LEASE, MOUNTS, Host, check, watch

VERSIONS = ("4.2", "3")
TRIALS = 12


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


@pytest.fixture
def hold(network):
    """While this file is there, half of the trials go on: whatever happens to their workers happens in the middle."""
    hold = network.shared / "hold"
    hold.touch()
    yield hold
    hold.unlink(missing_ok=True)


def begin(searches, leases=(LEASE, LEASE), workers=2):
    """A master on the first client; one worker on the second, the other on the first. Returns when all train."""
    for search, lease in zip(searches, leases, strict=True):
        search.study = search.first.study(trials=TRIALS, objective="held")
        search.master = search.first.master(search.study, "--lease", lease)
        hosts = [search.second, search.first][:workers]
        search.workers = [(host, host.worker("held")) for host in hosts]
    wait_until_they_train(searches)


def wait_until_they_train(searches):
    for search in searches:
        for host, _ in search.workers:
            watch(lambda search=search, host=host: search.disk.training(host), "all workers to train")


def wait_for_lost(searches, count):
    for search in searches:
        watch(lambda search=search: len(search.disk.names("lost")) >= count, "the lease to end")


def finish_all(searches, hold):
    """Let the trials end, wait until the programs do, and check that each trial is counted once."""
    hold.unlink()
    for search in searches:
        for host in search.first, search.second:
            for program in host.processes:
                host.finish(program)
    check(searches[0].disk.guest, TRIALS, *(search.disk.there for search in searches))


def test_workers_and_masters_are_killed_while_people_look_on(searches, hold):
    begin(searches)
    refused = [search.second.master(search.study) for search in searches]
    for search, program in zip(searches, refused, strict=True):
        assert "on client1 (since " in search.second.finish(program, 2)
        search.second.processes.remove(program)
    for search in searches:
        search.second.reader(TRIALS)
        for host, program in search.workers:
            host.kill(program)
        search.first.kill(search.master)
        search.second.worker("held")
        search.second.master(search.study, "--lease", LEASE)
    wait_for_lost(searches, 2)
    finish_all(searches, hold)


def test_a_client_is_cut_off_and_later_crashes(searches, hold, network):
    begin(searches, workers=1)
    client = network.clients[1]
    client.cut()
    wait_for_lost(searches, 1)
    client.join()
    for search in searches:
        watch(lambda search=search: "no longer ours" in search.workers[0][1].so_far(), "the worker to come back late")
    wait_until_they_train(searches)
    client.crash()
    client.boot()
    client.ready()
    for search in searches:
        search.second.processes.clear()
        search.second.worker("held")
        search.first.worker("held")
    wait_for_lost(searches, 2)
    finish_all(searches, hold)


def test_the_server_crashes(searches, hold, network):
    """It is away for longer than the lease of one search, and not for as long as that of the other."""
    begin(searches, leases=(LEASE, 100))
    network.server.crash()
    time.sleep(0.5 * LEASE)  # and it takes as long again to be back
    network.server.boot()
    network.server.ready()
    finish_all(searches, hold)
    assert not [name for search in searches for name in search.disk.names("lost")]


def test_the_doctor_finds_it_fit(searches, network):
    host = searches[0].first
    doctor = host.start("-m", "foldertune", "doctor", "--logs", host.there)
    doctor.wait()
    ticks = network.server.shell("date +%T.%N; grep SIGALRM /proc/interrupts; sleep 1; grep SIGALRM /proc/interrupts")
    assert "This folder can be used" in doctor.output, f"{doctor.output}\nthe server's clock and ticks:\n{ticks}"
