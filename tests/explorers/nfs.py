"""Searches on the kernel's own NFS, while workers, masters, clients and the server die and networks are cut.

    python -m tests.explorers.nfs                      one storm with each kind of mount
    python -m tests.explorers.nfs --seeds 5 --mounts 3 '3 nolock'
    python -m tests.explorers.nfs --bench FILE         the cost of coordination there, the raw figures in FILE

A storm is one search by workers of two clients. Each time every trial must be counted once, with the result of its own
settings, as the server's own disk shows it; readers on both clients must never lose what they have shown.
"""

from __future__ import annotations

import argparse
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from foldertune.protocol import TrialName
from tests.conftest import Bench, wait_for
from tests.explorers.guests import Guest, Network, Program, lack

# Every kind of mount that FILESYSTEMS names: what a person may find on a machine that is not their own.
MOUNTS = {
    "4.2": "vers=4.2,hard",
    "4.2 noac": "vers=4.2,hard,noac",
    "4.2 actimeo=60": "vers=4.2,hard,actimeo=60",
    "4.1 lookupcache=none": "vers=4.1,hard,lookupcache=none",
    "3": "vers=3,hard",
    "3 nolock": "vers=3,hard,nolock",
}
MOUNT = "/run/mnt"
TRIALS, BENCH_TRIALS = 40, 100
ENDING = 300  # seconds that a search may go on after the last disturbance
KILLED = (137, -9)  # exit codes of what was killed, alone or with its guest
PAUSE = 0.3  # seconds between two looks
T = TypeVar("T")
LEASE = 15  # seconds: what an NFS client knows of a file that changes may be three old; the rest is for a slow machine
CHECK = (
    "import sys; from pathlib import Path; from tests.conftest import Bench; from tests.explorers.crashes import check; "
    "[check(Bench(Path(place)), int(sys.argv[1])) for place in sys.argv[2:]]"
)


def watch(condition: Callable[[], T], what: str) -> T:
    """`wait_for`, with pauses: each look is a program in a guest."""

    def look() -> T:
        time.sleep(PAUSE)
        return condition()

    return wait_for(look, what)


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
        program = self.guest.start("env", f"HOLD={self.guest.network.shared / 'hold'}", sys.executable, *command)
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


def check(server: Guest, trials: int, *places: Path) -> None:
    """Each trial is counted once, with the right result, and nothing is left over: see crashes.py."""
    server.python("-c", CHECK, trials, *places)


class Storm:
    """One search that is disturbed at random, on folders of its own."""

    def __init__(self, network: Network, kind: str, seed: int, kills: int) -> None:
        self.network, self.kills, self.chance = network, kills, random.Random(f"{kind} {seed}")
        folder = f"storm-{seed}"
        self.hosts = [Host(client, f"{MOUNT}/{folder}") for client in network.clients]
        self.disk = Path(f"/run/disk/share/{folder}")
        self.study = self.hosts[0].study(TRIALS, "slow", seed)
        self.done = Counter[str]()
        self.master = self.start_master()
        self.workers = [(host, host.worker("slow")) for host in (*self.hosts, *self.hosts, self.hosts[1])]
        self.readers: list[tuple[Host, Program]] = []

    def start_master(self) -> tuple[Host, Program]:
        host = self.chance.choice(self.hosts)
        return host, host.master(self.study, "--lease", LEASE, "--max-attempts", 1000)

    def blow(self) -> None:
        """Disturb the search, let it end, and check it."""
        once = [self.crash_client, self.cut_client, self.crash_server]
        steps = dict(zip(self.chance.sample(range(self.kills), len(once)), once, strict=True))
        for step in range(self.kills):
            time.sleep(self.chance.uniform(0.2, 1.5))
            steps.get(step, self.kill)()
            self.follow()
        deadline = time.monotonic() + ENDING
        while self.master[1].poll() != 0:
            assert time.monotonic() < deadline, f"no end after {ENDING} s: {self.master[1].so_far()}"
            time.sleep(PAUSE)
            self.follow()
        for host, program in (*self.workers, *self.readers):
            host.finish(program)
        check(self.network.server, TRIALS, self.disk)

    def kill(self) -> None:
        """kill -9 of a worker or the master."""
        if self.chance.random() < 0.2:
            what, (_, program) = "master", self.master
        else:
            what, (_, program) = "worker", self.chance.choice(self.workers)
        if program.poll() is None:
            program.kill()
            program.wait()
            self.done[f"{what} killed"] += 1

    def crash_client(self) -> None:
        """Kill a client with all its programs, and boot it again."""
        client = self.chance.choice(self.network.clients)
        client.crash()
        client.boot()
        client.ready()
        self.done["client crashed"] += 1

    def cut_client(self) -> None:
        """Cut a client off for up to two leases."""
        client = self.chance.choice(self.network.clients)
        client.cut()
        time.sleep(self.chance.uniform(1, 2 * LEASE))
        client.join()
        self.done["client cut off"] += 1

    def crash_server(self) -> None:
        """Kill the server, and boot it again after a while."""
        self.network.server.crash()
        time.sleep(self.chance.uniform(0, LEASE))
        self.network.server.boot()
        self.network.server.ready()
        self.done["server crashed"] += 1

    def follow(self) -> None:
        """Start anew what has been killed, and readers when there is something to read."""
        if self.master[1].returncode:
            self.done["master refused"] += self.master[1].returncode not in KILLED
            self.master = self.start_master()
        self.workers = [
            (host, host.worker("slow")) if program.returncode else (host, program) for host, program in self.workers
        ]
        if not self.readers and self.network.server.shell(f"ls {self.disk}/logs/seen || true").count(".seen"):
            self.readers = [(host, host.reader(TRIALS)) for host in self.hosts]
        self.readers = [
            (host, host.reader(TRIALS)) if program.returncode in KILLED else (host, program)
            for host, program in self.readers
        ]

    def story(self) -> str:
        """What was done, and what it cost."""
        lost = self.network.server.shell(f"ls {self.disk}/logs/seen").count(".lost")
        done = ", ".join(f"{count} × {what}" for what, count in sorted(self.done.items()) if count)
        return f"{done}; {lost} attempts lost"


def bench(network: Network, out: Path) -> None:
    """Measure the cost of coordination by programs of one client: see bench/coordination.py."""
    raw = network.shared / "figures.json"
    options = ("--dir", MOUNT, "--trials", BENCH_TRIALS, "--results", raw)
    print(network.clients[0].python("-m", "bench.coordination", *options, timeout=3600))
    out.write_bytes(raw.read_bytes())


def doctor_says(network: Network) -> str:
    """The doctor's verdict, and what it finds bad."""
    said = network.clients[0].python("-m", "foldertune", "doctor", "--logs", MOUNT, code=None).splitlines()
    return "; ".join([line.strip() for line in said if line.startswith(("bad", "This folder"))])


def main() -> int:
    """Let storms blow. Returns 1 if any went wrong."""
    if why := lack():
        print(why, file=sys.stderr)
        return 2
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=1, metavar="N", help="storms with each kind of mount (default: 1)")
    parser.add_argument("--first", type=int, default=0, metavar="SEED", help="the first seed (default: 0)")
    parser.add_argument("--kills", type=int, default=30, metavar="N", help="disturbances in each (default: 30)")
    parser.add_argument(
        "--mounts", nargs="+", choices=MOUNTS, default=[*MOUNTS], metavar="KIND", help=", ".join(MOUNTS)
    )
    parser.add_argument("--bench", type=Path, metavar="FILE", help="no storms: measure the cost of coordination")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that no guest and no file is left
    wrong = 0
    for kind in arguments.mounts:
        with tempfile.TemporaryDirectory(prefix="nfs-") as path, Network(Path(path) / "guests") as network:
            for client in network.clients:
                client.mount(MOUNT, MOUNTS[kind])
            if arguments.bench:
                bench(network, arguments.bench)
                return 0
            print(f"{kind}: doctor: {doctor_says(network)}", flush=True)
            for seed in range(arguments.first, arguments.first + arguments.seeds):
                start, verdict = time.monotonic(), "right"
                storm = Storm(network, kind, seed, arguments.kills)
                try:
                    storm.blow()
                except AssertionError as error:
                    wrong, verdict = wrong + 1, f"WRONG: {error}"
                for host in storm.hosts:
                    host.close()
                took = time.monotonic() - start
                print(f"{kind}, seed {seed}: {storm.story()}; {took:.0f} s; {verdict}", flush=True)
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
