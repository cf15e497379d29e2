"""Searches on the kernel's own NFS, while workers, masters, clients and the server die and networks are cut.

    python -m tests.explorers.nfs                      one storm with each kind of mount
    python -m tests.explorers.nfs --seeds 5 --mounts 3 nolock

A storm is one search by workers of two clients. Each time every trial must be counted once, with the result of its own
settings, as the server's own disk shows it; readers on both clients must never lose what they have shown.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from foldertune.protocol import TrialName
from tests.conftest import ROOT, Bench, wait_for
from tests.explorers.guests import PATIENCE, Guest, Network, Program, lack

# Every kind of mount that FILESYSTEMS names: what a person may find on a machine that is not their own.
MOUNTS = {
    "4.2": "vers=4.2,hard",
    "4.2 noac": "vers=4.2,hard,noac",
    "4.2 actimeo=60": "vers=4.2,hard,actimeo=60",
    "4.1 lookupcache=none": "vers=4.1,hard,lookupcache=none",
    "3": "vers=3,hard",
    "3 nolock": "vers=3,hard,nolock",
}
LEASE = 10  # seconds: an NFS client knows a file that changes for three to six
CHECK = (
    "import sys; from pathlib import Path; from tests.conftest import Bench; from tests.explorers.crashes import check; "
    "check(Bench(Path(sys.argv[1])), int(sys.argv[2]))"
)


class Host(Bench):
    """One search's folder as a guest sees it, and the programs that run there."""

    def __init__(self, guest: Guest, place: str) -> None:
        self.guest, self.there = guest, Path(place)
        here = guest.network.shared / place.strip("/").replace("/", "-")
        here.mkdir(exist_ok=True)
        super().__init__(here)
        self.logs = self.there / "logs"
        guest.call("mkdir", "-p", place)

    def start(self, *command: object, **_: object) -> Program:
        program = self.guest.start(sys.executable, *command)
        self.processes.append(program)
        return program

    def reader(self, trials: int) -> Program:
        """Start a reader that ends when all trials have been shown."""
        return self.start("-m", "tests.explorers.reader", self.logs, trials)

    def kill(self, program: Program) -> None:
        """kill -9, and forget it."""
        program.kill()
        program.wait()
        self.processes.remove(program)

    def names(self, state: str) -> list[TrialName]:
        listed = self.guest.shell(f"ls -U {self.logs} {self.logs}/seen 2>/dev/null || true").split()
        return [name for text in listed if (name := TrialName.parse(text)) is not None and name.state == state]

    def training(self, host: Host) -> list[TrialName]:
        """The trials in which workers of that host have reported an epoch."""
        pattern = f"{self.logs}/*.{host.guest.name}-*.taken"
        files = self.guest.shell(f"grep -sl '^{{\"epoch\"' {pattern} || true").split()
        return [name for file in files if (name := TrialName.parse(Path(file).name)) is not None]

    def check(self, trials: int) -> None:
        """Each trial is counted once, with the right result, and nothing is left over: see crashes.py."""
        self.guest.python("-c", CHECK, self.there, trials)
