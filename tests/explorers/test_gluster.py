"""Masters and workers of two hosts on GlusterFS, with its default caches: see glusterfs.sh. `gluster.py` is the long form."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from tests.conftest import wait_for
from tests.explorers.cluster import Cluster, Host, cluster_of
from tests.explorers.gluster import counted_twice, lost_results, wrong_results
from foldertune.protocol import Folder, TrialName

LEASE = 10


@pytest.fixture(scope="module")
def cluster():
    if lack := Cluster(Path(), "glusterfs").lack():
        pytest.skip(lack)
    with cluster_of("glusterfs", 2) as cluster:
        yield cluster


def test_direct(cluster):
    a, b = Host(cluster, 1, "spread/direct"), Host(cluster, 2, "spread/direct")
    a.folder.prepare()
    wait_for(lambda: b.folder.seen.is_dir())
    short = stale = 0
    for n in range(30):
        a.folder.publish(TrialName(n, 1), {"x": 1}, lease=5)
        claim = wait_for(lambda: b.folder.claim("host2-1-aaaa", iter([TrialName(n, 1)])))
        claim.append({"epoch": 1})
        path = a.folder.locate(claim.name)
        wait_for(lambda: os.path.exists(path))
        os.lstat(path)
        claim.finish({"result": {"v": 1}})
        done = claim.name.to("done")
        wait_for(lambda: done in a.folder.names())
        t0=time.monotonic()
        s = a.folder.read(done)
        short += s.result is None
        stale += os.path.exists(path)
        dt=0
        while a.folder.read(done).result is None:
            dt=time.monotonic()-t0
            time.sleep(.05)
        d2=0
        while os.path.exists(path) and d2<5:
            d2=time.monotonic()-t0
            time.sleep(.05)
        print(n, s.result, dt, d2)
    print(short, stale)
    assert 0
