"""Hosts that share a folder over a network, on this one machine: see cluster.sh."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.conftest import ROOT, Bench

CLUSTER = ROOT / "tests" / "explorers" / "cluster.sh"


class Cluster:
    """File servers and the hosts that share their files. To call it is to give cluster.sh a command."""

    def __init__(self, path: Path, filesystem: str = "moosefs") -> None:
        self.path = path
        self._environment = os.environ | {"CLUSTER": filesystem}

    def __call__(self, command: str, *arguments: object, **environment: str) -> None:
        words = [CLUSTER, command, self.path, *map(str, arguments)]
        subprocess.run(words, check=True, env=self._environment | environment)

    def lack(self) -> str:
        """What this machine lacks for all that, in words; nothing if it lacks nothing."""
        words = [CLUSTER, "check"]
        return subprocess.run(words, capture_output=True, text=True, env=self._environment).stderr.strip()


@contextlib.contextmanager
def cluster_of(filesystem: str, hosts: int, **environment: str) -> Iterator[Cluster]:
    """A cluster in a directory of its own. Nothing of it is left, however the block ends."""
    with tempfile.TemporaryDirectory(prefix="cluster-") as path:
        cluster = Cluster(Path(path), filesystem)
        try:
            cluster("up", hosts, os.getpid(), **environment)
            yield cluster
        finally:
            cluster("down")


class Host(Bench):
    """One folder as one host sees it, and the programs that run there."""

    def __init__(self, cluster: Cluster, number: int, folder: str) -> None:
        self.mount, self.folder_name = cluster.path / f"host{number}", folder
        super().__init__(self.mount / folder)
        self.path.mkdir(exist_ok=True)
        self.on = [CLUSTER, "on", cluster.path, str(number)]

    def start(self, *command, **options):
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "cwd": ROOT} | options
        process = subprocess.Popen([*self.on, sys.executable, *map(str, command)], **options)
        self.processes.append(process)
        return process
